// Token files: a dataset of integers in an HDF5 file, or the bytes of any other file. Each rank opens the file and reads its part.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "bsbr/io.hpp"
#include "io/dataset.hpp"
#include "io/datatype.hpp"
#include "io/descriptor.hpp"
#include "io/text.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

using namespace io;

constexpr std::int64_t piece = 1 << 20;  // ids that are read at a time
constexpr std::int64_t nothing = std::numeric_limits<std::int64_t>::max();

/// A part of the rows of a token file: the same positions of each.
struct Block {
  std::int64_t row, rows, position, positions;
};

/// A source of ids that is open on this process.
class TokenReader {
 public:
  virtual ~TokenReader() = default;
  virtual TokenShape shape() const = 0;
  virtual void read_ids(const Block& block, std::int64_t* ids) const = 0;
  virtual void read_mask(const Block& block, std::int64_t* mask) const = 0;
  virtual std::string ids_name() const = 0;  ///< for messages: "/inputs/input_ids holds "
  virtual std::string mask_name() const = 0;
};

/// The bytes of a file, as one sequence.
class ByteReader : public TokenReader {
 public:
  explicit ByteReader(const std::string& path) : m_file(path, O_RDONLY, "cannot be read"), m_length(m_file.size()) {}
  TokenShape shape() const override { return {1, m_length, false}; }

  void read_ids(const Block& block, std::int64_t* ids) const override {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(block.positions));
    if (m_file.read(block.position, bytes.data(), block.positions) != block.positions) {
      throw ContentError("has become shorter while it was read");
    }
    std::copy(bytes.begin(), bytes.end(), ids);
  }

  void read_mask(const Block&, std::int64_t*) const override {}
  std::string ids_name() const override { return "holds the byte "; }
  std::string mask_name() const override { return {}; }

 private:
  Descriptor m_file;
  std::int64_t m_length;
};

/// Datasets of an HDF5 file.
class DatasetReader : public TokenReader {
 public:
  DatasetReader(const std::string& path, const std::string& dataset) : m_file(path), m_ids(find_ids(dataset)), m_mask(find_mask()) {}

  TokenShape shape() const override {
    const auto& extents = m_ids.shape();
    return {extents.size() == 1 ? 1 : extents[0], extents.back(), m_mask.has_value()};
  }
  void read_ids(const Block& block, std::int64_t* ids) const override { read(m_ids, block, ids); }
  void read_mask(const Block& block, std::int64_t* mask) const override { read(*m_mask, block, mask); }
  std::string ids_name() const override { return printable(m_ids.path()) + " holds "; }
  std::string mask_name() const override { return printable(m_mask->path()) + " holds "; }

 private:
  Dataset find_ids(const std::string& name) const;
  std::optional<Dataset> find_mask() const;
  static void read(const Dataset& dataset, const Block& block, std::int64_t* numbers);

  InputFile m_file;
  Dataset m_ids;
  std::optional<Dataset> m_mask;
};

void check_ids(const Dataset& ids, const InputFile& file) {
  const std::string name = printable(ids.path());
  if (!is_integer(ids.type())) throw ContentError(name + " holds " + describe(ids.type()) + ", ids are integers");
  if (ids.shape().empty() || ids.shape().size() > 2) {
    throw ContentError(name + " is " + bracketed(ids.shape()) + ", ids are [sequence] or [batch, sequence]");
  }
  if (ids.size() == 0) throw ContentError(name + " is " + bracketed(ids.shape()) + ", empty");
  ids.check_storage(file);
}

Dataset DatasetReader::find_ids(const std::string& name) const {
  const std::vector<std::string> places = name.empty() ? std::vector<std::string>{"/inputs/input_ids", "/input_ids"} : std::vector{name};
  for (const std::string& place : places) {
    auto ids = Dataset::find(m_file, place.starts_with('/') ? place : '/' + place);
    if (!ids) continue;
    check_ids(*ids, m_file);
    return std::move(*ids);
  }
  if (!name.empty()) throw ContentError("has no dataset " + printable(name));
  throw ContentError("has neither /inputs/input_ids nor /input_ids", "name the dataset of the ids after a colon: file.h5:/path");
}

std::optional<Dataset> DatasetReader::find_mask() const {
  const std::string& ids = m_ids.path();
  auto mask = Dataset::find(m_file, ids.substr(0, ids.rfind('/') + 1) + "attention_mask");
  if (!mask) return std::nullopt;
  const std::string name = printable(mask->path());
  if (!is_integer_or_boolean(mask->type()))
    throw ContentError(name + " holds " + describe(mask->type()) + ", a mask has integers or booleans");
  if (mask->shape() != m_ids.shape()) {
    throw ContentError(name + " is " + bracketed(mask->shape()) + ", " + printable(ids) + " is " + bracketed(m_ids.shape()));
  }
  mask->check_storage(m_file);
  return mask;
}

void DatasetReader::read(const Dataset& dataset, const Block& block, std::int64_t* numbers) {
  if (dataset.shape().size() == 1)
    dataset.read(H5T_NATIVE_INT64, {block.position}, {block.positions}, numbers);
  else
    dataset.read(H5T_NATIVE_INT64, {block.row, block.position}, {block.rows, block.positions}, numbers);
}

std::unique_ptr<TokenReader> open_tokens(const TokenSource& source) {
  if (is_hdf5(source.path)) return std::make_unique<DatasetReader>(source.path, source.dataset);
  if (source.dataset.empty()) return std::make_unique<ByteReader>(source.path);
  throw ContentError("is not an HDF5 file, so it has no dataset " + printable(source.dataset));
}

std::string rank_name(int rank) { return "rank " + std::to_string(rank); }

constexpr const char* same_file_hint = "every rank reads the file by itself: it must be in a folder that all nodes share";

/// parallel::agree for a file that each rank opens by itself: an error that some of them have only says whose it is.
void agree_on_file(const std::string& path, MPI_Comm comm, const std::function<void()>& work) {
  std::optional<FileError> failure;
  parallel::agree(comm, [&] {
    try {
      reading(path, work);
    } catch (const FileError& error) {
      failure = error;
    }
  });
  const int failed = parallel::all_reduce(failure ? 1 : 0, MPI_SUM, comm);
  parallel::agree(comm, [&] {
    if (!failure) return;
    if (failed == parallel::ranks_of(comm)) throw FileError(*failure);
    throw FileError(failure->what() + (", as " + rank_name(parallel::rank_in(comm)) + " sees it"), same_file_hint);
  });
}

/// Throws on all ranks unless all see the same.
void require_same(const std::string& path, const TokenShape& mine, MPI_Comm comm) {
  using Row = std::array<std::int64_t, 3>;
  const auto all = parallel::all_gather(Row{mine.batch, mine.length, mine.has_mask ? 1 : 0}, comm);
  const auto other = std::find_if(all.begin(), all.end(), [&](const Row& one) { return one != all[0]; });
  if (other == all.end()) return;
  const auto sees = [&](std::vector<Row>::const_iterator one) {
    return rank_name(static_cast<int>(one - all.cbegin())) + " sees ids " + bracketed({(*one)[0], (*one)[1]}) +
           ((*one)[2] != 0 ? " with" : " without") + " a mask";
  };
  throw FileError(named(path, (sees(all.begin()) + ", " + sees(other)).c_str()), same_file_hint);
}

/// Calls function(block) for pieces of this rank's part, in the order of rows and positions.
template <class Function>
void for_each_block(const Sequence& sequence, Function&& function) {
  const std::int64_t local = sequence.local_tokens();
  if (local == 0) return;
  const std::int64_t rows = std::max<std::int64_t>(1, piece / local);
  for (std::int64_t row = 0; row < sequence.batch(); row += rows) {
    for (std::int64_t done = 0; done < local; done += piece) {
      function(Block{row, std::min(rows, sequence.batch() - row), sequence.first_token() + done, std::min(piece, local - done)});
    }
  }
}

/// A number that is out of its range, and where in the whole batch it stands.
struct BadNumber {
  std::int64_t index = nothing, value = 0;
};

/// Reads this rank's part into `target`. `below`: what all numbers must be. Returns the first that is not.
template <class Number, class Read>
BadNumber read_part(const Sequence& sequence, std::int64_t below, const HostArray<Number**>& target, Read&& read) {
  BadNumber bad;
  std::vector<std::int64_t> numbers;
  for_each_block(sequence, [&](const Block& block) {
    numbers.resize(static_cast<std::size_t>(block.rows * block.positions));
    read(block, numbers.data());
    for (std::int64_t i = 0; i < block.rows * block.positions; ++i) {
      const std::int64_t row = block.row + i / block.positions, position = block.position + i % block.positions;
      const std::int64_t value = numbers[static_cast<std::size_t>(i)];
      if (value >= 0 && value < below)
        target(row, position - sequence.first_token()) = static_cast<Number>(value);
      else if (row * sequence.length() + position < bad.index)
        bad = {row * sequence.length() + position, value};
    }
  });
  return bad;
}

/// The first bad number of all ranks becomes an error on all ranks: "<what>-7 at [0, 3], <rule>".
void refuse_first(const std::string& path, const Sequence& sequence, const BadNumber& mine, const std::string& what,
                  const std::string& rule) {
  const std::int64_t first = parallel::all_reduce(mine.index, MPI_MIN, sequence.comm());
  parallel::agree(sequence.comm(), [&] {
    if (first == nothing || mine.index != first) return;
    // 64-bit ids without a sign arrive here cut to what a signed number holds.
    const std::string value = std::to_string(mine.value) + (mine.value == nothing ? " or more" : "");
    const std::string place = bracketed({first / sequence.length(), first % sequence.length()});
    throw FileError(named(path, (what + value + " at " + place + ", " + rule).c_str()));
  });
}

template <class Number>
HostArray<Number**> allocate(const char* label, const Sequence& sequence) {
  const auto batch = static_cast<std::size_t>(sequence.batch()), local = static_cast<std::size_t>(sequence.local_tokens());
  try {
    return HostArray<Number**>(Kokkos::view_alloc(std::string(label), Kokkos::WithoutInitializing), batch, local);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + bracketed({sequence.batch(), sequence.local_tokens()}) + " token ids: " + error.what());
  }
}

void require_enough(const TokenShape& shape, const Sequence& sequence) {
  if (shape.batch == sequence.batch() && shape.length >= sequence.length()) return;
  throw ContentError("holds ids " + bracketed({shape.batch, shape.length}) + ", " + bracketed({sequence.batch(), sequence.length()}) +
                     " are needed");
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

TokenSource TokenSource::parse(const std::string& text) {
  if (exists(text)) return {text, {}};
  for (std::size_t colon = text.rfind(':'); colon != std::string::npos && colon > 0; colon = text.rfind(':', colon - 1)) {
    if (colon + 1 < text.size() && exists(text.substr(0, colon))) return {text.substr(0, colon), text.substr(colon + 1)};
  }
  const std::size_t colon = text.rfind(":/");  // no such file; the message should be about what was meant
  if (colon == std::string::npos || colon == 0) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

TokenShape read_token_shape(const TokenSource& source, MPI_Comm comm) {
  parallel::require_mpi();
  TokenShape shape;
  agree_on_file(source.path, comm, [&] { shape = open_tokens(source)->shape(); });
  require_same(source.path, shape, comm);
  return shape;
}

Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size) {
  const MPI_Comm comm = sequence.comm();
  std::unique_ptr<TokenReader> reader;
  agree_on_file(source.path, comm, [&] {
    reader = open_tokens(source);
    require_enough(reader->shape(), sequence);
  });
  require_same(source.path, reader->shape(), comm);
  Tokens tokens;
  BadNumber bad;
  agree_on_file(source.path, comm, [&] {
    tokens.ids = allocate<std::int32_t>("bsbr::tokens::ids", sequence);
    bad = read_part(sequence, vocab_size, tokens.ids, [&](const Block& block, std::int64_t* ids) { reader->read_ids(block, ids); });
  });
  refuse_first(source.path, sequence, bad, reader->ids_name(), "ids are 0 to " + std::to_string(vocab_size - 1));
  if (!reader->shape().has_mask) return tokens;
  agree_on_file(source.path, comm, [&] {
    tokens.mask = allocate<std::uint8_t>("bsbr::tokens::mask", sequence);
    bad = read_part(sequence, 2, *tokens.mask, [&](const Block& block, std::int64_t* mask) { reader->read_mask(block, mask); });
  });
  refuse_first(source.path, sequence, bad, reader->mask_name(), "a mask has 1 for a token and 0 for padding");
  return tokens;
}

}  // namespace bsbr
