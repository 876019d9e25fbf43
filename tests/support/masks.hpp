// The kinds of padding that tests go through.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "bsbr/config.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {

enum class Padding { none, nothing_padded, holes, whole_chunks, left, right, whole_row };

inline constexpr auto paddings = std::to_array<Named<Padding>>({{Padding::none, "no mask"},
                                                                {Padding::nothing_padded, "a mask of ones"},
                                                                {Padding::holes, "holes"},
                                                                {Padding::whole_chunks, "whole chunks"},
                                                                {Padding::left, "padding left"},
                                                                {Padding::right, "padding right"},
                                                                {Padding::whole_row, "a padded row"}});

/// A mask [batch, length], 1 = real; the rows of a batch differ. Empty for Padding::none.
inline std::vector<std::uint8_t> make_mask(Padding padding, std::int64_t batch, std::int64_t length,
                                           std::int64_t chunk_size) {
  std::vector<std::uint8_t> mask;
  if (padding == Padding::none) return mask;
  for (std::int64_t row = 0; row < batch; ++row) {
    std::vector<std::uint8_t> real(static_cast<std::size_t>(length), 1);
    const auto pad = [&](std::int64_t begin, std::int64_t end) {
      begin = std::clamp<std::int64_t>(begin, 0, length), end = std::clamp<std::int64_t>(end, begin, length);
      std::fill(real.begin() + begin, real.begin() + end, std::uint8_t{0});
    };
    const std::int64_t some = length * (row + 1) / (batch + 2);
    switch (padding) {
      case Padding::none:
      case Padding::nothing_padded:
        break;
      case Padding::holes:
        real = random_mask(length, 0.2 + 0.3 * static_cast<double>(row % 3), 90 + static_cast<std::uint64_t>(row));
        break;
      case Padding::whole_chunks:  // row 0: the second and third; row 1: the first; row 2: the last; and so on
        if (row % 3 == 0) pad(chunk_size, 3 * chunk_size);
        if (row % 3 == 1) pad(0, chunk_size);
        if (row % 3 == 2) pad((length - 1) / chunk_size * chunk_size, length);
        break;
      case Padding::left:
        pad(0, some);
        break;
      case Padding::right:
        pad(length - some, length);
        break;
      case Padding::whole_row:
        if (row == batch / 2) pad(0, length);
        break;
    }
    mask.insert(mask.end(), real.begin(), real.end());
  }
  return mask;
}

}  // namespace bsbr::testing
