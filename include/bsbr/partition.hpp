// How items are divided evenly: chunks among ranks, for example.
#pragma once

#include <cstdint>

#include "bsbr/function.hpp"

namespace bsbr {

/// Divides [0, items) into contiguous parts: part p of P has [p·items/P, (p+1)·items/P), rounded down. Sizes differ by
/// at most one; where there are more parts than items, some are empty.
struct Partition {
  std::int64_t items = 0;  ///< number of items, chunks for example
  int parts = 1;           ///< number of parts: of ranks, for example

  /// The first item of a part. Quotient and remainder are apart since items · part may overflow.
  BSBR_FUNCTION constexpr std::int64_t begin(int part) const {
    return items / parts * part + items % parts * part / parts;
  }

  /// The first item after a part.
  BSBR_FUNCTION constexpr std::int64_t end(int part) const { return begin(part + 1); }

  /// Number of items in a part.
  BSBR_FUNCTION constexpr std::int64_t size(int part) const { return end(part) - begin(part); }

  /// The part that has an item, the inverse of begin(): the last p with p·items/P ≤ item, that is, with p·items < (item
  /// + 1)·P. That product must not overflow.
  BSBR_FUNCTION constexpr int part_of(std::int64_t item) const {
    return static_cast<int>(((item + 1) * parts - 1) / items);
  }
};

}  // namespace bsbr
