// The states of a rank's chunks: formed of its tokens, and applied to them. Forward and gradient are the same two
// kernels, with other operands:
//
//     F_j = Σ_s k_sᵀ v_s         dG_i = Σ_t q_tᵀ do_t
//     o_t += q_t G_{c(t)}        dv_s += k_s dF_{c(s)}
//     dq_t += do_t G_{c(t)}ᵀ     dk_s += v_s dF_{c(s)}ᵀ
#pragma once

#include <string>

#include "bsbr/sequence.hpp"
#include "config/causality.hpp"
#include "kernels/chunk_state.hpp"
#include "kernels/state_layout.hpp"
#include "kernels/tokens.hpp"

namespace bsbr::attention {

/// The tokens of this rank's chunks.
struct LocalChunks {
  std::int64_t size, first, last;  // first chunk, counted from the first token of all; position behind the last token
  std::int64_t count;              // chunks
  explicit LocalChunks(const Sequence& sequence)
      : size(sequence.chunk_size()),
        first(sequence.earlier_chunks() + sequence.first_chunk()),
        last(sequence.first_token() + sequence.local_tokens()),
        count(sequence.local_chunks()) {}

  /// Of a local chunk, as far as they are in rows that begin with the token `origin`: which rows.
  KOKKOS_FUNCTION Range rows(std::int64_t chunk, std::int64_t origin) const {
    const std::int64_t begin = (first + chunk) * size, end = begin + size;
    return {(begin > origin ? begin : origin) - origin, (end < last ? end : last) - origin};
  }
};

/// body(team, scratch, row, chunk, head) for each head of each local chunk of each sequence, by a team with `bytes` of
/// scratch.
template <class Body>
void for_each_state(const Execution& execution, const std::string& label, const kernels::StateBlocks& blocks,
                    const LocalChunks& local, std::int64_t bytes, const Body& body) {
  const std::int64_t heads = blocks.heads, chunks = local.count, teams = blocks.batch * chunks * heads;
  if (teams == 0) return;
  const std::int64_t together = kernels::taken_together(execution, teams, heads, kernels::tuning::teams_per_thread);
  Kokkos::parallel_for(
      label, kernels::team_policy(execution, teams, bytes, together), KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t head = member.league_rank() % heads, chunk = member.league_rank() / heads % chunks;
        const std::int64_t row = member.league_rank() / heads / chunks;
        kernels::Scratch scratch(member, bytes);
        body(kernels::as_team(member), scratch, row, chunk, head);
      });
}

/// states = Σ key_sᵀ value_s over the real tokens s of each local chunk, for each head.
/// \param states [block][local chunk][batch][width]: kernels::StateBlocks
template <class Real>
void form_states(const Execution& execution, const std::string& label, const kernels::StateBlocks& blocks,
                 const LocalChunks& local, const kernels::KeysAndValues<Real>& tokens, const Array<Real*>& states) {
  const int width = static_cast<int>(tokens.key.extent(2)) / static_cast<int>(blocks.heads);
  const int columns = kernels::state_columns<kernels::StateTile<Real>>(width, width);
  const std::int64_t bytes = kernels::StateTile<Real>::bytes(width, columns);
  for_each_state(
      execution, label, blocks, local, bytes,
      KOKKOS_LAMBDA(const kernels::Team& team, kernels::Scratch& scratch, std::int64_t row, std::int64_t chunk,
                    std::int64_t head) {
        const kernels::StateTile<Real> tile(scratch, width, columns);
        const Range range = local.rows(chunk, tokens.origin);
        const auto target = kernels::state_ref(states.data(), blocks, chunk, row, head, local.count);
        for (int first = 0; first < width; first += columns) {
          const int count = width - first < columns ? width - first : columns;
          const auto values = tokens.values_of(row, head, width).columns(first, count);
          kernels::form_state(team, tokens.keys_of(row, head, width), values, tokens.mask(row), range.begin, range.end,
                              tile);
          target.store_columns(team, width, width, first, count, tile.state, kernels::padded<Real>(count));
        }
      });
}

/// Each state times factor(row, chunk, head), chunk among the local ones.
template <class Real, class Factor>
void scale_states(const Execution& execution, const std::string& label, const kernels::StateBlocks& blocks,
                  const LocalChunks& local, const Array<Real*>& states, const Factor& factor) {
  const std::int64_t batch = blocks.batch, chunks = local.count;
  Kokkos::parallel_for(
      label, kernels::team_policy(execution, blocks.blocks() * chunks * batch, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t index = member.league_rank(), row = index % batch, chunk = index / batch % chunks;
        const Real scale = factor(row, chunk, index / batch / chunks / blocks.per_head);
        Real* state = &states(index * blocks.width);
        kernels::for_each(kernels::as_team(member), static_cast<int>(blocks.width),
                          [&](const int i) { state[i] *= scale; });
      });
}

/// The states of sums over chunks, or their gradients, divided by the number of real tokens of each chunk.
template <class Real>
void average_states(const Execution& execution, const kernels::StateBlocks& blocks, const LocalChunks& local,
                    const kernels::KeysAndValues<Real>& tokens, const Array<Real*>& states) {
  scale_states(
      execution, "bsbr::attention::average_states", blocks, local, states,
      KOKKOS_LAMBDA(std::int64_t row, std::int64_t chunk, std::int64_t) {
        const Range range = local.rows(chunk, tokens.origin);
        return kernels::share_of_token<Real>(tokens.mask(row), range.begin, range.end);
      });
}

/// The same of one state that is a row of a panel, or of its gradient. tokens: rows of the chunk.
template <class Real>
KOKKOS_INLINE_FUNCTION void average_flat_state(const kernels::Team& team, const kernels::KeysAndValues<Real>& keys,
                                               std::int64_t row, Range tokens, int width, Real* state) {
  const Real share = kernels::share_of_token<Real>(keys.mask(row), tokens.begin, tokens.end);
  kernels::for_each(team, width * width, [&](const int i) { state[i] *= share; });
}

/// The last block of a state may be longer than what is left of the state: 0 there, where sums over elements of blocks
/// are formed.
template <class Real>
void clear_padding(const Execution& execution, const kernels::StateBlocks& blocks, const LocalChunks& local,
                   const Array<Real*>& states) {
  const std::int64_t surplus = blocks.per_head * blocks.width - blocks.size, rows = local.count * blocks.batch;
  if (surplus == 0) return;
  Kokkos::parallel_for(
      "bsbr::attention::clear_padding", Kokkos::RangePolicy<Execution>(execution, 0, blocks.heads * rows * surplus),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t head = i / surplus / rows, row = i / surplus % rows, end = (head + 1) * blocks.per_head;
        states(((end - 1) * rows + row + 1) * blocks.width - 1 - i % surplus) = 0;
      });
}

/// Whether a state S is applied as it is, or Sᵀ.
enum class StateForm { plain, transposed };

/// results_t += tokens_t S, or tokens_t Sᵀ, with the state S of t's chunk, for each head of all tokens of the local
/// chunks, or of those that are real.
/// \param tokens [batch, local tokens, heads · head_dim], packed or not
/// \param results [batch, local tokens, heads · head_dim]
/// \param real [batch, local tokens]: 0 where a result stays as it is; empty: nowhere
/// \param states [block][local chunk][batch][width]: kernels::StateBlocks
template <StateForm form, class Real>
void apply_states(const Execution& execution, const std::string& label, const kernels::StateBlocks& blocks,
                  const LocalChunks& local, std::int64_t first_token, const kernels::HeadRows<Real>& tokens,
                  const Array<const std::uint8_t**>& real, const Array<const Real*>& states,
                  const Strided<Real***>& results) {
  const int width = static_cast<int>(results.extent(2)) / static_cast<int>(blocks.heads);
  const int columns = kernels::state_columns<kernels::AppliedState<Real>>(width, width);
  const std::int64_t bytes = kernels::AppliedState<Real>::bytes(width, columns);
  for_each_state(
      execution, label, blocks, local, bytes,
      KOKKOS_LAMBDA(const kernels::Team& team, kernels::Scratch& scratch, std::int64_t row, std::int64_t chunk,
                    std::int64_t head) {
        const kernels::AppliedState<Real> tile(scratch, width, columns);
        const auto source = kernels::state_ref(states.data(), blocks, chunk, row, head, local.count);
        const Range range = local.rows(chunk, first_token);
        const std::uint8_t* mask = real.data() == nullptr ? nullptr : &real(row, 0);
        for (int first = 0; first < width; first += columns) {
          const int count = width - first < columns ? width - first : columns;
          if constexpr (form == StateForm::plain) {
            kernels::load_state(team, source, width, first, count, tile);
          } else {
            kernels::load_transposed_state(team, source, width, first, count, tile);
          }
          kernels::apply_state(team, tokens.of_head(row, head, width), mask, range.begin, range.end, count,
                               &results(row, 0, head * width + first), static_cast<std::int64_t>(results.stride(1)),
                               tile);
        }
      });
}

}  // namespace bsbr::attention
