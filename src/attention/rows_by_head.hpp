// What the transposes between tokens and heads share: which rank has which heads and rows, and how these lie.
#pragma once

#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"
#include "kernels/tuning.hpp"
#include "parallel/dealing.hpp"
#include "parallel/message_buffer.hpp"

namespace bsbr::attention {

inline parallel::Dealing heads_over_ranks(const ModelConfig& config, const Sequence& sequence) {
  return {config.num_heads, sequence.ranks(), kernels::tuning::query_tile};
}

/// How many of a rank's tokens are dealt to another.
inline std::int64_t dealt_tokens(const parallel::Dealing& dealing, const Sequence& sequence, int owner, int worker) {
  const parallel::DealtRows rows = dealing.rows(worker);
  return rows.before(sequence.first_token_of(owner + 1)) - rows.before(sequence.first_token_of(owner));
}

inline std::vector<parallel::Slice> one_after_another(const std::vector<std::int64_t>& counts) {
  std::vector<parallel::Slice> slices;
  std::int64_t offset = 0;
  for (const std::int64_t count : counts) {
    slices.push_back({offset, count});
    offset += count;
  }
  return slices;
}

inline std::int64_t total(const std::vector<parallel::Slice>& slices) {
  return slices.empty() ? 0 : slices.back().offset + slices.back().count;
}

/// Rows of `row` elements, [token][batch][row], as [batch, token, width] from `first` in each row on.
template <class Real>
Strided<Real***> rows_by_head(const Array<Real*>& data, std::int64_t batch, std::int64_t tokens, std::int64_t row,
                              std::int64_t first, std::int64_t width) {
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  return Strided<Real***>(data.data() + first, Kokkos::LayoutStride(size(batch), size(row), size(tokens),
                                                                    size(batch * row), size(width), 1));
}

}  // namespace bsbr::attention
