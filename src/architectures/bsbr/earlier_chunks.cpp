#include "architectures/bsbr/earlier_chunks.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "attention/attention.hpp"
#include "attention/chunk_marks.hpp"
#include "attention/kept_keys.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {
namespace {

/// Of how many chunks an array has a place, `row` elements each.
template <class Real>
std::int64_t room_of(const Array<Real*>& chunks, std::int64_t row) {
  return row == 0 ? 0 : static_cast<std::int64_t>(chunks.size()) / row;
}

/// Chunks that have begun before the sequence.
std::int64_t begun(const Sequence& sequence) {
  return (sequence.origin() + sequence.chunk_size() - 1) / sequence.chunk_size();
}

/// Room for more chunks, twice as many as before: so each is copied about once, however short the pieces are.
std::int64_t grown(std::int64_t room, std::int64_t needed) {
  return needed <= room ? room : std::max(needed, 2 * room);
}

/// rows [0, count · row) of an array with room for `room` rows, from one that may have less.
template <class Real>
Array<Real*> with_room(const Execution& execution, const char* label, const Array<Real*>& rows, std::int64_t row,
                       std::int64_t room) {
  if (room == room_of(rows, row)) return rows;
  const Array<Real*> more = allocate<Real>(label, room * row);
  Kokkos::deep_copy(execution, Kokkos::subview(more, std::make_pair(std::size_t{0}, rows.size())), rows);
  return more;
}

/// target [block][room][batch][width] = F of `count` chunks from `first` on, which source(block, chunk, row) points to.
template <class Real, class Source>
void copy_states(const Execution& execution, const kernels::GatheredStates& gathered, std::int64_t first,
                 std::int64_t count, const Array<Real*>& target, std::int64_t room, const Source& source) {
  const kernels::StateBlocks blocks = gathered.blocks;
  kernels::copy_rows(
      execution, "bsbr::attention::copy_states", gathered.block_count * count * blocks.batch, blocks.width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i % blocks.batch, chunk = first + i / blocks.batch % count;
        const std::int64_t block = i / blocks.batch / count;
        return kernels::RowCopies<Real, 1>{{source(block, chunk, row)},
                                           {&target(blocks.offset(block, chunk, row, room))}};
      });
}

/// 0 in states [block][room][batch][width] of `count` chunks from `first` on, behind the last element of each state: of
/// the last of its blocks only a part may be needed.
template <class Real>
void clear_surplus(const Execution& execution, const kernels::GatheredStates& gathered, std::int64_t first,
                   std::int64_t count, const Array<Real*>& states, std::int64_t room) {
  const kernels::StateBlocks blocks = gathered.blocks;
  const std::int64_t first_block = gathered.first_block, batch = blocks.batch;
  const std::int64_t surplus = blocks.per_head * blocks.width - blocks.size;
  if (surplus == 0) return;
  Kokkos::parallel_for(
      "bsbr::attention::clear_surplus",
      Kokkos::RangePolicy<Execution>(execution, 0, gathered.block_count * count * batch * surplus),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / surplus % batch, chunk = first + i / surplus / batch % count;
        const std::int64_t block = i / surplus / batch / count;
        if ((first_block + block + 1) % blocks.per_head != 0) return;
        states(blocks.offset(block, chunk, row, room) + blocks.width - 1 - i % surplus) = 0;
      });
}

/// 0 as r and h [chunk][batch][row / batch] of the chunks from `first` on that have no real token.
template <class Real>
void clear_unreal(const Execution& execution, const ChunkMarks& marks, std::int64_t first, std::int64_t row,
                  const Array<Real*>& retrieval) {
  const auto real = marks.real;
  const auto batch = static_cast<std::int64_t>(real.extent(0)), chunks = static_cast<std::int64_t>(real.extent(1));
  const std::int64_t width = row / batch;
  Kokkos::parallel_for(
      "bsbr::attention::clear_unreal", Kokkos::RangePolicy<Execution>(execution, first * row, chunks * row),
      KOKKOS_LAMBDA(const std::int64_t i) {
        if (real(i / width % batch, i / row) == 0) retrieval(i) = 0;
      });
}

}  // namespace

template <class Real>
void require_chunks(const Sequence& sequence, const kernels::GatheredStates& gathered, std::int64_t row,
                    const AttentionState<Real>& state) {
  const std::int64_t whole = sequence.earlier_chunks();
  if (sequence.batch() == 0) return;
  if (room_of(state.chunk_states, gathered.blocks.elements(gathered.block_count, 1)) < whole ||
      room_of(state.retrieval, row) < begun(sequence) ||
      (begun(sequence) > 0 && (static_cast<std::int64_t>(state.real_chunks.extent(0)) != sequence.batch() ||
                               static_cast<std::int64_t>(state.real_chunks.extent(1)) != begun(sequence)))) {
    refuse_state("it has not these ranks' blocks of " + std::to_string(whole) + " chunks");
  }
}

template <class Real>
EarlierChunks<Real> earlier_chunks(const Sequence& sequence, const kernels::GatheredStates& gathered,
                                   const AttentionState<Real>* state) {
  if (state == nullptr) return {};
  return {sequence.earlier_chunks(), room_of(state->chunk_states, gathered.blocks.elements(gathered.block_count, 1)),
          state->chunk_states, state->retrieval};
}

template <class Real>
ChunkMarks chunk_marks(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
                       const AttentionState<Real>* state) {
  if (state == nullptr || sequence.origin() == 0) return {mask.real_chunks(), mask.nearest_real()};
  const std::int64_t earlier = sequence.earlier_chunks(), known = begun(sequence);
  const std::int64_t batch = sequence.batch(), all = earlier + sequence.num_chunks();
  const Array<std::uint8_t**> real("bsbr::attention::real_chunks", batch, all);
  const auto before = state->real_chunks, these = mask.real_chunks();
  Kokkos::parallel_for(
      "bsbr::attention::chunk_marks", Kokkos::RangePolicy<Execution>(execution, 0, batch * all),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / all, chunk = i % all;
        const bool was_real = chunk < known && before(row, chunk) != 0;
        const bool is_real = chunk >= earlier && these(row, chunk - earlier) != 0;
        real(row, chunk) = was_real || is_real ? 1 : 0;
      });
  return {real, find_nearest_real(execution, real)};
}

template <class Real>
void keep_chunks(const Execution& execution, const Sequence& sequence, const kernels::GatheredStates& gathered,
                 const Array<const Real*>& states, const Array<const Real*>& retrieval, const ChunkMarks& marks,
                 AttentionState<Real>& state) {
  const std::int64_t earlier = sequence.earlier_chunks(), whole = sequence.end() / sequence.chunk_size();
  const EarlierChunks<Real> before = earlier_chunks(sequence, gathered, &state);
  const kernels::StateBlocks blocks = gathered.blocks;
  const std::int64_t room = grown(before.room, whole);
  if (room > before.room) {
    state.chunk_states = allocate<Real>("kept_states", blocks.elements(gathered.block_count, room));
    copy_states(
        execution, gathered, 0, earlier, state.chunk_states, room,
        KOKKOS_LAMBDA(std::int64_t block, std::int64_t chunk, std::int64_t row) {
          return &before.states(blocks.offset(block, chunk, row, before.room));
        });
  }
  copy_states(
      execution, gathered, earlier, whole - earlier, state.chunk_states, room,
      KOKKOS_LAMBDA(std::int64_t block, std::int64_t chunk, std::int64_t row) {
        return &states(gathered.offset(block, chunk - earlier, row));
      });
  clear_surplus(execution, gathered, earlier, whole - earlier, state.chunk_states, room);
  const std::int64_t chunks = sequence.num_chunks(), all = earlier + chunks;
  const std::int64_t row = chunks == 0 ? 0 : static_cast<std::int64_t>(retrieval.size()) / chunks;
  state.retrieval =
      with_room(execution, "kept_retrieval", state.retrieval, row, grown(room_of(state.retrieval, row), all));
  Kokkos::deep_copy(execution, Kokkos::subview(state.retrieval, std::make_pair(earlier * row, all * row)), retrieval);
  if (row > 0) clear_unreal(execution, marks, earlier, row, state.retrieval);
  state.real_chunks = marks.real;
  execution.fence();
}

template void require_chunks(const Sequence&, const kernels::GatheredStates&, std::int64_t,
                             const AttentionState<float>&);
template EarlierChunks<float> earlier_chunks(const Sequence&, const kernels::GatheredStates&,
                                             const AttentionState<float>*);
template ChunkMarks chunk_marks(const Execution&, const Sequence&, const PaddingMask&, const AttentionState<float>*);
template void keep_chunks(const Execution&, const Sequence&, const kernels::GatheredStates&, const Array<const float*>&,
                          const Array<const float*>&, const ChunkMarks&, AttentionState<float>&);
template void require_chunks(const Sequence&, const kernels::GatheredStates&, std::int64_t,
                             const AttentionState<double>&);
template EarlierChunks<double> earlier_chunks(const Sequence&, const kernels::GatheredStates&,
                                              const AttentionState<double>*);
template ChunkMarks chunk_marks(const Execution&, const Sequence&, const PaddingMask&, const AttentionState<double>*);
template void keep_chunks(const Execution&, const Sequence&, const kernels::GatheredStates&,
                          const Array<const double*>&, const Array<const double*>&, const ChunkMarks&,
                          AttentionState<double>&);

}  // namespace bsbr::attention
