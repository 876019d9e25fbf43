// What the attentions share: checks of their input, and their workspace's size.
#pragma once

#include <string>

#include "bsbr/attention.hpp"

namespace bsbr::attention {

/// What Attention<Real>::create(config, sequence) will allocate on this rank, without doing it: bytes. Throws ConfigError for
/// an architecture that is not built.
template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence);

/// Throws ShapeError unless rows is [batch, count, width] with contiguous rows.
template <class Real>
void require_rows(const std::string& name, const Strided<const Real***>& rows, std::int64_t batch, std::int64_t count, std::int64_t width);

}  // namespace bsbr::attention
