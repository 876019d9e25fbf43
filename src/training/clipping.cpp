#include "training/clipping.hpp"

#include <cmath>
#include <string>

#include "config/require_number.hpp"
#include "kernels/square_sums.hpp"
#include "model/allocate.hpp"
#include "parallel/ordered_sum.hpp"

namespace bsbr::training {
template <class Real>
double gradient_norm(const Execution& execution, MPI_Comm comm, std::int64_t blocks,
                     const std::vector<NormPart<Real>>& mine) {
  parallel::OrderedSumOfDoubles squares{parallel::OrderedTree(blocks)};
  parallel::agree(comm, [&] {
    for (const auto& [first_block, elements] : mine) {
      const std::int64_t count = kernels::norm_blocks(static_cast<std::int64_t>(elements.extent(0)));
      const auto sums = allocate<double*>("gradient_norm::sums", count);
      kernels::square_sums<Real>(execution, elements, sums);
      const auto of_blocks = Kokkos::create_mirror_view(sums);
      Kokkos::deep_copy(execution, of_blocks, sums);
      execution.fence();
      for (std::int64_t i = 0; i < count; ++i) squares.add(first_block + i, of_blocks(i));
    }
  });
  return std::sqrt(parallel::sum_of_ranks(squares, comm));
}

void validate_clip(double clip) { require_number(clip >= 0, "clip", clip, "below 0", "0 is without clipping"); }

double clip_scale(double norm, double clip) {
  if (!std::isfinite(norm)) throw Error("a gradient with the norm " + show(norm) + " cannot be clipped");
  return clip > 0 && norm > clip ? clip / norm : 1;
}

template double gradient_norm(const Execution&, MPI_Comm, std::int64_t, const std::vector<NormPart<float>>&);
template double gradient_norm(const Execution&, MPI_Comm, std::int64_t, const std::vector<NormPart<double>>&);

}  // namespace bsbr::training
