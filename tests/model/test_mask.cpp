// What a padding mask says of the chunks: against plain loops.
#include <gtest/gtest.h>

#include "bsbr/mask.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t batch = 3, chunk_size = 2;

/// Tokens [batch, length] of which in the first row all are real, in the second none, and in the third those of chunks
/// 1, 62, 64, 65 and 200.
std::vector<std::uint8_t> mask_of(std::int64_t length) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(batch * length));
  for (std::int64_t t = 0; t < length; ++t) {
    const std::int64_t chunk = t / chunk_size;
    mask[static_cast<std::size_t>(t)] = 1;
    mask[static_cast<std::size_t>(2 * length + t)] =
        chunk == 1 || chunk == 62 || chunk == 64 || chunk == 65 || chunk == 200 ? 1 : 0;
  }
  return mask;
}

/// Threads look through blocks of chunks, and what is before a block may be far away.
TEST(PaddingMaskOfChunks, names_the_nearest_chunk_before_with_a_real_token) {
  for (const std::int64_t length : {0, 1, 2, 125, 128, 129, 131, 391, 407}) {
    SCOPED_TRACE(std::to_string(length) + " tokens");
    const Sequence sequence(MPI_COMM_WORLD, batch, length, chunk_size);
    const std::int64_t chunks = sequence.num_chunks();
    const auto tokens = mask_of(length);
    const PaddingMask mask(Execution(), sequence, local_part<std::uint8_t>(sequence, tokens));
    std::vector<std::uint8_t> real;
    std::vector<std::int64_t> nearest;
    for (std::int64_t row = 0; row < batch; ++row) {
      std::int64_t last = -1;
      for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
        real.push_back(tokens[static_cast<std::size_t>(row * length + chunk * chunk_size)]);
        last = real.back() != 0 ? chunk : last;
        nearest.push_back(last);
      }
    }
    EXPECT_EQ(to_host(mask.real_chunks()), real);
    EXPECT_EQ(to_host(mask.nearest_real()), nearest);
  }
}

}  // namespace
}  // namespace bsbr::testing
