#include "training/clipping.hpp"

#include <cmath>
#include <string>

#include "kernels/square_sums.hpp"
#include "model/allocate.hpp"
#include "parallel/ordered_sum.hpp"
#include "training/options.hpp"

namespace bsbr::training {
namespace {

constexpr std::int64_t block = kernels::norm_block;

void check_part(std::int64_t weights, std::int64_t begin, std::int64_t end) {
  if (begin >= 0 && end <= weights && (begin == end || (begin % block == 0 && (end % block == 0 || end == weights))))
    return;
  throw ShapeError("the gradients [" + std::to_string(begin) + ", " + std::to_string(end) + ") of " +
                   std::to_string(weights) + " are not whole blocks of " + std::to_string(block));
}

}  // namespace

Partition weight_parts(std::int64_t weights, int ranks) { return {weights, ranks, block}; }

template <class Real>
double gradient_norm(const Execution& execution, MPI_Comm comm, std::int64_t weights, std::int64_t begin,
                     const Array<const Real*>& part) {
  parallel::OrderedSumOfDoubles squares{parallel::OrderedTree(kernels::norm_blocks(weights))};
  parallel::agree(comm, [&] {
    const auto elements = static_cast<std::int64_t>(part.extent(0));
    check_part(weights, begin, begin + elements);
    const auto sums = allocate<double*>("gradient_norm::sums", kernels::norm_blocks(elements));
    kernels::square_sums(execution, part, sums);
    const auto of_blocks = Kokkos::create_mirror_view(sums);
    Kokkos::deep_copy(execution, of_blocks, sums);
    execution.fence();
    for (std::int64_t i = 0; i < kernels::norm_blocks(elements); ++i) squares.add(begin / block + i, of_blocks(i));
  });
  return std::sqrt(parallel::sum_of_ranks(squares, comm));
}

void validate_clip(double clip) { require(clip >= 0, "clip", clip, "below 0", "0 is without clipping"); }

double clip_scale(double norm, double clip) {
  if (!std::isfinite(norm)) throw Error("a gradient with the norm " + show(norm) + " cannot be clipped");
  return clip > 0 && norm > clip ? clip / norm : 1;
}

template double gradient_norm(const Execution&, MPI_Comm, std::int64_t, std::int64_t, const Array<const float*>&);
template double gradient_norm(const Execution&, MPI_Comm, std::int64_t, std::int64_t, const Array<const double*>&);

}  // namespace bsbr::training
