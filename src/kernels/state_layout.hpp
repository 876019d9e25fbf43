// How the states of chunks lie in memory while they travel between ranks and are mixed.
#pragma once

#include <cstdint>
#include <type_traits>

#include "bsbr/partition.hpp"
#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// The elements of a state are cut into `blocks` of `width` (the last may be shorter), the same everywhere: blocks are
/// what ranks deal out among themselves. A buffer of states is
///
///     [block][chunk][batch][width]
///
/// so that what goes to one rank (its blocks, all local chunks) is contiguous, and so is what comes from one.
struct StateBlocks {
  std::int64_t size;      // elements of the state of one (chunk, batch, head)
  std::int64_t per_head;  // blocks of one state
  std::int64_t width;     // elements of a block
  std::int64_t heads, batch;

  StateBlocks(std::int64_t state_size, std::int64_t num_heads, std::int64_t batch_size)
      : size(state_size),
        per_head((state_size + tuning::state_block - 1) / tuning::state_block),
        width((state_size + per_head - 1) / per_head),
        heads(num_heads),
        batch(batch_size) {}

  KOKKOS_FUNCTION std::int64_t blocks() const { return per_head * heads; }

  /// The same blocks with other elements in each: of what belongs to a block.
  StateBlocks with_width(std::int64_t elements_of_block) const {
    StateBlocks others = *this;
    others.width = elements_of_block;
    return others;
  }

  /// Elements in a buffer of that many blocks and chunks.
  KOKKOS_FUNCTION std::int64_t elements(std::int64_t block_count, std::int64_t chunks) const {
    return block_count * chunks * batch * width;
  }

  /// Where a block of (chunk, batch row) begins in a buffer that holds `chunks` chunks.
  KOKKOS_FUNCTION std::int64_t offset(std::int64_t block, std::int64_t chunk, std::int64_t row,
                                      std::int64_t chunks) const {
    return ((block * chunks + chunk) * batch + row) * width;
  }
};

/// A state of one (chunk, batch row, head) in such a buffer.
template <class Real>
struct StateRef {
  Real* data;  // block 0 of the head
  std::int64_t block_stride, width;

  /// function(i, run, length) for each run of elements that lie together, those of one block, within [first, first +
  /// count) of the flattened state: run[0, length) are its elements from first + i on.
  template <class Function>
  KOKKOS_INLINE_FUNCTION void for_runs(std::int64_t first, int count, Function&& function) const {
    for (int i = 0; i < count;) {
      const std::int64_t block = (first + i) / width, offset = (first + i) % width;
      const int length = width - offset < count - i ? static_cast<int>(width - offset) : count - i;
      function(i, data + block * block_stride + offset, length);
      i += length;
    }
  }

  /// Element i of the flattened state.
  KOKKOS_INLINE_FUNCTION Real& at(std::int64_t i) const { return data[i / width * block_stride + i % width]; }

  /// Columns [first, first + count) of the state [rows, columns] from a tile whose rows are `stride` apart, and the
  /// other way round.
  template <class Member>
  KOKKOS_INLINE_FUNCTION void store_columns(const Member& team, int rows, int columns, int first, int count,
                                            const Real* tile, int stride) const {
    if constexpr (on_host) {
      for (int row = 0; row < rows; ++row) store(team, std::int64_t{row} * columns + first, count, tile + row * stride);
    } else {
      for_each(team, rows * count, [&](const int i) {
        at(std::int64_t{i / count} * columns + first + i % count) = tile[i / count * stride + i % count];
      });
    }
  }
  template <class Member>
  KOKKOS_INLINE_FUNCTION void load_columns(const Member& team, int rows, int columns, int first, int count,
                                           std::remove_const_t<Real>* tile, int stride) const {
    if constexpr (on_host) {
      for (int row = 0; row < rows; ++row) load(team, std::int64_t{row} * columns + first, count, tile + row * stride);
    } else {
      for_each(team, rows * count, [&](const int i) {
        tile[i / count * stride + i % count] = at(std::int64_t{i / count} * columns + first + i % count);
      });
    }
  }

  /// Elements [first, first + count) = row[0, count), and the other way round.
  template <class Member>
  KOKKOS_INLINE_FUNCTION void store(const Member& team, std::int64_t first, int count, const Real* row) const {
    for_runs(first, count,
             [&](int i, Real* run, int length) { for_each(team, length, [&](const int k) { run[k] = row[i + k]; }); });
  }
  template <class Member>
  KOKKOS_INLINE_FUNCTION void load(const Member& team, std::int64_t first, int count,
                                   std::remove_const_t<Real>* row) const {
    for_runs(first, count,
             [&](int i, Real* run, int length) { for_each(team, length, [&](const int k) { row[i + k] = run[k]; }); });
  }
};

template <class Real>
KOKKOS_INLINE_FUNCTION StateRef<Real> state_ref(Real* buffer, const StateBlocks& blocks, std::int64_t chunk,
                                                std::int64_t row, std::int64_t head, std::int64_t chunks) {
  return {buffer + blocks.offset(head * blocks.per_head, chunk, row, chunks), chunks * blocks.batch * blocks.width,
          blocks.width};
}

/// Where the states of all chunks are, for the blocks of one rank, after they have been sent by block. What came from
/// each rank is a slice, laid out as above with the chunks of that rank:
///
///     [rank][block of this rank][chunk of that rank][batch][width]
struct GatheredStates {
  StateBlocks blocks;
  Partition chunks;                       // over ranks
  std::int64_t first_block, block_count;  // the blocks of this rank

  /// Elements before the slice of a rank.
  KOKKOS_INLINE_FUNCTION std::int64_t slice_offset(int rank) const {
    return blocks.elements(block_count, chunks.begin(rank));
  }

  /// Where block `first_block + local` of (chunk, row) begins: in the slice of the rank that the chunk came from.
  KOKKOS_INLINE_FUNCTION std::int64_t offset(std::int64_t local, std::int64_t chunk, std::int64_t row) const {
    const int rank = chunks.part_of(chunk);
    return slice_offset(rank) + blocks.offset(local, chunk - chunks.begin(rank), row, chunks.size(rank));
  }
};

}  // namespace bsbr::kernels
