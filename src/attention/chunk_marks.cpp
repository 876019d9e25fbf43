#include "attention/chunk_marks.hpp"

namespace bsbr::attention {
namespace {

constexpr std::int64_t chunks_of_block = 64;

}  // namespace

/// Each thread has a block of chunks, and looks for the last one before it.
Array<const std::int64_t**> find_nearest_real(const Execution& execution, const Array<const std::uint8_t**>& real) {
  const auto batch = static_cast<std::int64_t>(real.extent(0)), chunks = static_cast<std::int64_t>(real.extent(1));
  const Array<std::int64_t**> nearest("bsbr::mask::nearest_real", batch, chunks);
  const std::int64_t blocks = (chunks + chunks_of_block - 1) / chunks_of_block;
  Kokkos::parallel_for(
      "bsbr::mask::nearest_real", Kokkos::RangePolicy<Execution>(execution, 0, batch * blocks),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / blocks, begin = i % blocks * chunks_of_block;
        const std::int64_t end = begin + chunks_of_block < chunks ? begin + chunks_of_block : chunks;
        std::int64_t last = begin - 1;
        while (last >= 0 && real(row, last) == 0) --last;
        for (std::int64_t chunk = begin; chunk < end; ++chunk) {
          if (real(row, chunk) != 0) last = chunk;
          nearest(row, chunk) = last;
        }
      });
  execution.fence();
  return nearest;
}

}  // namespace bsbr::attention
