// How the states of chunks lie in memory while they travel between ranks and are mixed.
#pragma once

#include <cstdint>
#include <type_traits>

#include "bsbr/sequence.hpp"
#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// The numbers of a state are cut into `blocks` of `width` (the last may be shorter), the same everywhere: blocks are what ranks deal out
/// among themselves. A buffer of states is
///
///     [block][chunk][batch][width]
///
/// so that what goes to one rank (its blocks, all local chunks) is contiguous, and so is what comes from one.
struct StateBlocks {
  std::int64_t size;      // numbers in the state of one (chunk, batch, head)
  std::int64_t per_head;  // blocks of one state
  std::int64_t width;     // numbers in a block
  std::int64_t heads, batch;

  StateBlocks(std::int64_t state_size, std::int64_t num_heads, std::int64_t batch_size)
      : size(state_size),
        per_head((state_size + tuning::state_block - 1) / tuning::state_block),
        width((state_size + per_head - 1) / per_head),
        heads(num_heads),
        batch(batch_size) {}

  KOKKOS_FUNCTION std::int64_t blocks() const { return per_head * heads; }

  /// Numbers in a buffer of that many blocks and chunks.
  KOKKOS_FUNCTION std::int64_t numbers(std::int64_t block_count, std::int64_t chunks) const { return block_count * chunks * batch * width; }

  /// Where a block of (chunk, batch row) begins in a buffer that holds `chunks` chunks.
  KOKKOS_FUNCTION std::int64_t offset(std::int64_t block, std::int64_t chunk, std::int64_t row, std::int64_t chunks) const {
    return ((block * chunks + chunk) * batch + row) * width;
  }
};

/// A state of one (chunk, batch row, head) in such a buffer.
template <class Real>
struct StateRef {
  Real* data;  // block 0 of the head
  std::int64_t block_stride, width;

  /// function(i, numbers, count): `count` numbers of the flattened state that lie together, of which the first is number first + i, for all
  /// of the numbers [first, first + count).
  template <class Function>
  KOKKOS_INLINE_FUNCTION void for_pieces(std::int64_t first, int count, Function&& function) const {
    for (int i = 0; i < count;) {
      const std::int64_t block = (first + i) / width, offset = (first + i) % width;
      const int piece = width - offset < count - i ? static_cast<int>(width - offset) : count - i;
      function(i, data + block * block_stride + offset, piece);
      i += piece;
    }
  }

  /// Number i of the flattened state.
  KOKKOS_INLINE_FUNCTION Real& at(std::int64_t i) const { return data[i / width * block_stride + i % width]; }

  /// Columns [first, first + count) of the state [rows, columns] from a tile whose rows are `stride` apart, and the other way round.
  template <class Member>
  KOKKOS_INLINE_FUNCTION void store_columns(const Member& team, int rows, int columns, int first, int count, const Real* tile,
                                            int stride) const {
    if constexpr (on_host) {
      for (int row = 0; row < rows; ++row) store(team, std::int64_t{row} * columns + first, count, tile + row * stride);
    } else {
      for_each(team, rows * count,
               [&](const int i) { at(std::int64_t{i / count} * columns + first + i % count) = tile[i / count * stride + i % count]; });
    }
  }
  template <class Member>
  KOKKOS_INLINE_FUNCTION void load_columns(const Member& team, int rows, int columns, int first, int count, std::remove_const_t<Real>* tile,
                                           int stride) const {
    if constexpr (on_host) {
      for (int row = 0; row < rows; ++row) load(team, std::int64_t{row} * columns + first, count, tile + row * stride);
    } else {
      for_each(team, rows * count,
               [&](const int i) { tile[i / count * stride + i % count] = at(std::int64_t{i / count} * columns + first + i % count); });
    }
  }

  /// Numbers [first, first + count) = row[0, count), and the other way round.
  template <class Member>
  KOKKOS_INLINE_FUNCTION void store(const Member& team, std::int64_t first, int count, const Real* row) const {
    for_pieces(first, count,
               [&](int i, Real* numbers, int piece) { for_each(team, piece, [&](const int k) { numbers[k] = row[i + k]; }); });
  }
  template <class Member>
  KOKKOS_INLINE_FUNCTION void load(const Member& team, std::int64_t first, int count, std::remove_const_t<Real>* row) const {
    for_pieces(first, count,
               [&](int i, Real* numbers, int piece) { for_each(team, piece, [&](const int k) { row[i + k] = numbers[k]; }); });
  }
};

template <class Real>
KOKKOS_INLINE_FUNCTION StateRef<Real> state_ref(Real* buffer, const StateBlocks& blocks, std::int64_t chunk, std::int64_t row,
                                                std::int64_t head, std::int64_t chunks) {
  return {buffer + blocks.offset(head * blocks.per_head, chunk, row, chunks), chunks * blocks.batch * blocks.width, blocks.width};
}

/// Where the states of all chunks are found after they have been sent by block: one segment for each rank that they came from, each
/// laid out as above with that rank's chunks.
struct GatheredStates {
  StateBlocks blocks;
  Partition chunks;
  std::int64_t first_block, block_count;  // the blocks of this rank

  std::int64_t segment_offset(int rank) const { return blocks.numbers(block_count, chunks.begin(rank)); }
  std::int64_t segment_size(int rank) const { return blocks.numbers(block_count, chunks.size(rank)); }

  /// Where block `first_block + local` of (chunk, row) begins.
  KOKKOS_INLINE_FUNCTION std::int64_t offset(std::int64_t local, std::int64_t chunk, std::int64_t row) const {
    const std::int64_t owner = ((chunk + 1) * chunks.ranks - 1) / chunks.items;
    const std::int64_t begin = owner * chunks.items / chunks.ranks, end = (owner + 1) * chunks.items / chunks.ranks;
    return blocks.numbers(block_count, begin) + blocks.offset(local, chunk - begin, row, end - begin);
  }
};

}  // namespace bsbr::kernels
