// A rank's part of rows that all ranks know.
#pragma once

#include <vector>

#include "bsbr/sequence.hpp"
#include "support/compare.hpp"
#include "support/device_arrays.hpp"

namespace bsbr::testing {

/// The rows [first, first + count) of each sequence, of rows [batch, length, width].
inline Numbers part_of(const std::vector<double>& rows, std::int64_t batch, std::int64_t width, std::int64_t first,
                       std::int64_t count) {
  const auto length = static_cast<std::int64_t>(rows.size()) / (batch * width);
  std::vector<double> part;
  for (std::int64_t row = 0; row < batch; ++row) {
    const auto begin = rows.begin() + (row * length + first) * width;
    part.insert(part.end(), begin, begin + count * width);
  }
  return {part, {batch, count, width}};
}

/// This rank's tokens of rows [batch, length, width].
inline Numbers local_rows(const Sequence& sequence, const std::vector<double>& rows, std::int64_t width) {
  return part_of(rows, sequence.batch(), width, sequence.first_token(), sequence.local_tokens());
}

/// The numbers of a device array [batch, rows, width].
template <class Real>
Numbers numbers_of(const Array<Real***>& array) {
  const auto extent = [&](unsigned i) { return static_cast<std::int64_t>(array.extent(i)); };
  return {to_host(array), {extent(0), extent(1), extent(2)}};
}

}  // namespace bsbr::testing
