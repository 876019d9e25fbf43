// How a part of a source is read: in blocks of about a million ids.
#pragma once

#include <algorithm>
#include <cstdint>

#include "io/token_reader.hpp"

namespace bsbr::io {

inline constexpr std::int64_t ids_of_block = 1 << 20;

/// Calls function(block) for the blocks that `part` is cut into, which are long in the direction in which the source
/// stores its ids.
template <class Function>
void for_each_block(const Block& part, bool column_major, const Function& function) {
  if (part.positions == 0) return;
  const std::int64_t rows =
      column_major ? std::min(ids_of_block, part.rows) : std::max<std::int64_t>(1, ids_of_block / part.positions);
  const std::int64_t positions = std::max<std::int64_t>(1, ids_of_block / rows);
  for (std::int64_t row = 0; row < part.rows; row += rows) {
    for (std::int64_t done = 0; done < part.positions; done += positions) {
      function(Block{part.row + row, std::min(rows, part.rows - row), part.position + done,
                     std::min(positions, part.positions - done)});
    }
  }
}

}  // namespace bsbr::io
