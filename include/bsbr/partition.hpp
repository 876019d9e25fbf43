// How items are divided evenly: chunks among ranks, for example.
#pragma once

#include <cstdint>

#include "bsbr/function.hpp"

namespace bsbr {

/// Divides [0, items) into contiguous parts. Items are divided by whole units of `unit` items, counted from item 0, the
/// last of which may have fewer: of U units, part p of P has [p·U/P, (p+1)·U/P), rounded down. Sizes differ by at most
/// one unit; where there are more parts than units, some are empty.
struct Partition {
  std::int64_t items = 0;  ///< number of items, chunks for example
  int parts = 1;           ///< number of parts: of ranks, for example
  std::int64_t unit = 1;   ///< items that stay together

  /// Number of units, the last of which may have fewer items.
  BSBR_FUNCTION constexpr std::int64_t units() const { return items / unit + (items % unit != 0 ? 1 : 0); }

  /// The first item of a part. Quotient and remainder are apart since units · part may overflow.
  BSBR_FUNCTION constexpr std::int64_t begin(int part) const {
    const std::int64_t first = units() / parts * part + units() % parts * part / parts;
    return first < units() ? first * unit : items;
  }

  /// The first item after a part.
  BSBR_FUNCTION constexpr std::int64_t end(int part) const { return begin(part + 1); }

  /// Number of items in a part.
  BSBR_FUNCTION constexpr std::int64_t size(int part) const { return end(part) - begin(part); }

  /// The part that has an item, the inverse of begin(): the last p with p·U/P ≤ u, the item's unit, that is, with
  /// p·U < (u + 1)·P. That product must not overflow.
  BSBR_FUNCTION constexpr int part_of(std::int64_t item) const {
    return static_cast<int>(((item / unit + 1) * parts - 1) / units());
  }
};

}  // namespace bsbr
