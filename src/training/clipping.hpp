// Clipping: the norm of the whole gradient, one number over all weights, and what gradients are multiplied with.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/parallel.hpp"
#include "bsbr/types.hpp"

namespace bsbr::training {

/// A run of whole blocks, of kernels::norm_block elements each, which one rank has; only the last block of a part of
/// the model may have fewer elements.
template <class Real>
struct NormPart {
  std::int64_t first_block;  // among those of all parts
  Array<Real*> elements;
};

/// √Σ g² over the gradients of all weights. Squares are summed in double precision, block by block, and blocks joined
/// by a binary tree that is a function of their number alone, so that all ranks get the same bits on any number of
/// them. Not finite if a gradient is not, or if Σ g² overflows. Collective.
/// \param execution where the kernel runs; it has been fenced when this returns
/// \param comm whose ranks have the blocks
/// \param blocks how many there are
/// \param mine those that this rank has, in their order
/// \throws std::runtime_error on all ranks if the parts are not all blocks
template <class Real>
double gradient_norm(const Execution& execution, MPI_Comm comm, std::int64_t blocks,
                     const std::vector<NormPart<Real>>& mine);

/// What gradients are multiplied with: clip / norm if the norm exceeds `clip`, else 1. clip = 0: they are not clipped.
/// Throws Error if the norm is not finite: no factor makes a step of such a gradient.
double clip_scale(double norm, double clip);

/// Throws ConfigError unless `clip` is 0 or more.
void validate_clip(double clip);

}  // namespace bsbr::training
