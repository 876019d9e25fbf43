#include "io/token_agreement.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "io/hdf5.hpp"
#include "io/same_file.hpp"
#include "io/text.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr::io {
namespace {

std::string rank_name(int rank) { return "rank " + std::to_string(rank); }

/// The first bad element of all ranks becomes an error on all ranks: "<what>-7 at [0, 3], <rule>".
void refuse_first(const std::string& path, MPI_Comm comm, std::int64_t length, const BadElement& mine,
                  const std::string& what, const std::string& rule) {
  const std::int64_t first = parallel::all_reduce(mine.index, MPI_MIN, comm);
  parallel::agree(comm, [&] {
    if (first == BadElement::none || mine.index != first) return;
    // 64-bit ids without a sign arrive here cut to what a signed number holds.
    const bool is_cut = mine.value == std::numeric_limits<std::int64_t>::max();
    const std::string value = std::to_string(mine.value) + (is_cut ? " or more" : "");
    const std::string place = bracketed({first / length, first % length});
    throw FileError(named(path, (what + value + " at " + place + ", " + rule).c_str()));
  });
}

}  // namespace

void require_same(const std::string& path, const TokenShape& mine, MPI_Comm comm) {
  using Row = std::array<std::int64_t, 4>;
  const auto all = parallel::all_gather(
      Row{mine.batch, mine.length, mine.has_mask ? 1 : 0, static_cast<std::int64_t>(mine.format)}, comm);
  const auto other = std::find_if(all.begin(), all.end(), [&](const Row& one) { return one != all[0]; });
  if (other == all.end()) return;
  const auto sees = [&](std::vector<Row>::const_iterator one) {
    return rank_name(static_cast<int>(one - all.cbegin())) + " sees ids " + bracketed({(*one)[0], (*one)[1]}) +
           ((*one)[2] != 0 ? " with" : " without") + " a mask" +
           ((*other)[3] == all[0][3] ? ""
                                     : " in the format " + std::string(to_string(static_cast<TokenFormat>((*one)[3]))));
  };
  throw FileError(named(path, (sees(all.begin()) + ", " + sees(other)).c_str()), same_file_hint);
}

void refuse_bad_ids(const std::string& path, MPI_Comm comm, const TokenReader& reader, std::int64_t length,
                    std::int64_t vocab_size, const BadElement& mine) {
  refuse_first(path, comm, length, mine, reader.ids_name(), "ids are 0 to " + std::to_string(vocab_size - 1));
}

void refuse_bad_mask(const std::string& path, MPI_Comm comm, const TokenReader& reader, std::int64_t length,
                     const BadElement& mine) {
  refuse_first(path, comm, length, mine, reader.mask_name(), "a mask has 1 for a token and 0 for padding");
}

}  // namespace bsbr::io
