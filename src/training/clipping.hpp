// Clipping: the norm of the whole gradient, one number over all weights, and what gradients are multiplied with.
#pragma once

#include <cstdint>

#include "bsbr/parallel.hpp"
#include "bsbr/partition.hpp"
#include "bsbr/types.hpp"

namespace bsbr::training {

/// Which weights each rank owns, of so many. No rank parts a block of the gradient's norm: blocks are cut at multiples
/// of kernels::norm_block elements of all weights, whatever the ranks.
Partition weight_parts(std::int64_t weights, int ranks);

/// √Σ g² over the gradients of all weights. Squares are summed in double precision, block by block, and blocks joined
/// by a binary tree that is a function of their number alone, so that all ranks get the same bits on any number of
/// them. Not finite if a gradient is not, or if Σ g² overflows. Collective.
/// \param execution where the kernel runs; it has been fenced when this returns
/// \param comm whose ranks own parts
/// \param weights how many the model has
/// \param begin where this rank's part begins among them: at a block
/// \param part the gradients of this rank's part; it ends where a block does, or with the last weight
/// \throws ShapeError on all ranks if a part does not begin and end so
/// \throws std::runtime_error on all ranks if the parts are not all weights
template <class Real>
double gradient_norm(const Execution& execution, MPI_Comm comm, std::int64_t weights, std::int64_t begin,
                     const Array<const Real*>& part);

/// What gradients are multiplied with: clip / norm if the norm exceeds `clip`, else 1. clip = 0: they are not clipped.
/// Throws Error if the norm is not finite: no factor makes a step of such a gradient.
double clip_scale(double norm, double clip);

/// Throws ConfigError unless `clip` is 0 or more.
void validate_clip(double clip);

}  // namespace bsbr::training
