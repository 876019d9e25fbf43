// The mean of a layer's normed input over the real tokens of each chunk: what h is formed of with router_key = mean.
//
//     m_j = 1/n_j Σ_{s in chunk j} norm(x_s)        [hidden_dim], n_j real tokens
//
// A sum is one chain over the chunk's tokens in their order. Of a chunk that has begun before the sequence it goes on
// from the sum that the state has kept, so that pieces of a sequence give the bits of the whole.
#pragma once

#include "attention/attention.hpp"
#include "attention/kept_keys.hpp"
#include "model/modules.hpp"
#include "parallel/messages.hpp"

namespace bsbr {

/// Sums over the real tokens of this rank's chunks.
template <class Real>
class ChunkSums {
 public:
  /// state: of the tokens before the sequence; null: there are none.
  ChunkSums(const Norm<Real>& norm, const Sequence& sequence, const PaddingMask& mask, const Array<Real***>& x,
            const AttentionState<Real>* state)
      : m_norm(norm),
        m_x(x),
        m_real(mask.tokens()),
        m_size(sequence.chunk_size()),
        m_skipped(sequence.first_token() % sequence.chunk_size()),
        m_tokens(sequence.local_tokens()) {
    if (m_skipped == 0 || state == nullptr) return;
    m_earlier = state->router_sums;
    m_earlier_real = state->real;
  }

  KOKKOS_FUNCTION int width() const { return static_cast<int>(m_x.extent(2)); }

  /// sum = Σ_s norm(x_s) of a local chunk of a sequence of the batch, [hidden_dim].
  KOKKOS_FUNCTION void form(const kernels::Team& team, std::int64_t row, std::int64_t chunk, Real* sum) const {
    const bool goes_on = chunk == 0 && m_earlier.data() != nullptr;
    const int columns = width();
    kernels::for_each(team, columns, [&](const int i) { sum[i] = goes_on ? m_earlier(row * columns + i) : Real(0); });
    for (std::int64_t t = begin(chunk); t < end(chunk); ++t) {
      if (is_real(row, t))
        kernels::add_layer_norm(team, columns, &m_x(row, t, 0), m_norm.weight.data(), m_norm.bias.data(), sum);
    }
  }

  /// 1/n of n real tokens; 0 if there is none.
  KOKKOS_FUNCTION Real share(std::int64_t row, std::int64_t chunk) const {
    std::int64_t count = 0;
    for (std::int64_t t = begin(chunk); t < end(chunk); ++t) count += is_real(row, t) ? 1 : 0;
    if (chunk == 0) count += earlier_tokens(row);
    return count > 0 ? Real(1) / static_cast<Real>(count) : Real(0);
  }

 private:
  KOKKOS_FUNCTION std::int64_t begin(std::int64_t chunk) const { return chunk == 0 ? 0 : chunk * m_size - m_skipped; }
  KOKKOS_FUNCTION std::int64_t end(std::int64_t chunk) const {
    const std::int64_t whole = (chunk + 1) * m_size - m_skipped;
    return whole < m_tokens ? whole : m_tokens;
  }
  KOKKOS_FUNCTION bool is_real(std::int64_t row, std::int64_t t) const {
    return m_real.data() == nullptr || m_real(row, t) != 0;
  }
  /// Real ones of the chunk's tokens before the sequence: those that the state has the keys of.
  KOKKOS_FUNCTION std::int64_t earlier_tokens(std::int64_t row) const {
    if (m_earlier_real.data() == nullptr) return m_skipped;
    const std::int64_t batch = static_cast<std::int64_t>(m_x.extent(0));
    std::int64_t count = 0;
    for (std::int64_t t = 0; t < m_skipped; ++t) count += m_earlier_real(t * batch + row) != 0 ? 1 : 0;
    return count;
  }

  Norm<Real> m_norm;
  Array<Real***> m_x;                         // [batch, local tokens, hidden_dim]
  Array<const std::uint8_t**> m_real;         // [batch, local tokens]; empty: all are real
  std::int64_t m_size, m_skipped, m_tokens;   // of a chunk; of the first one before these; local ones
  Array<const Real*> m_earlier;               // [batch][hidden_dim]: of the skipped tokens; empty: there are none
  Array<const std::uint8_t*> m_earlier_real;  // [token][batch]: of these; empty: all are real
};

/// Throws ShapeError unless the state has the sum of a chunk that has begun before the sequence.
template <class Real>
void require_router_sums(const ModelConfig& config, const Sequence& sequence, const AttentionState<Real>* state) {
  if (state == nullptr || !averages_router_keys(config) || sequence.origin() % sequence.chunk_size() == 0) return;
  const std::int64_t skipped = sequence.batch() * (sequence.origin() % sequence.chunk_size()),
                     marks = static_cast<std::int64_t>(state->real.size());
  if (static_cast<std::int64_t>(state->router_sums.size()) != sequence.batch() * config.hidden_dim ||
      (marks != 0 && marks < skipped))
    attention::refuse_state("it has no sums of the chunk that has begun");
}

/// h of all local chunks, of the means of their real tokens. Rows of chunks without a real token are never read.
/// retrieval: [2, batch, local chunks, hidden_dim]: r and h. state: as in Attention::forward.
template <class Real>
void project_chunk_means(const Execution& execution, const LayerModules<Real>& modules, const Sequence& sequence,
                         const PaddingMask& mask, const kernels::PanelBuffers<Real>& panels, const Array<Real***>& x,
                         const AttentionState<Real>* state, const Array<Real****>& retrieval) {
  const ChunkSums<Real> sums(modules.attention_norm, sequence, mask, x, state);
  const std::int64_t batch = sequence.batch(), chunks = sequence.local_chunks();
  const Array<Real****> h(retrieval.data() + retrieval.extent(1) * retrieval.extent(2) * retrieval.extent(3), 1,
                          retrieval.extent(1), retrieval.extent(2), retrieval.extent(3));
  Kokkos::parallel_for(
      "bsbr::layer::chunk_means", kernels::team_policy(execution, batch * chunks, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const std::int64_t row = member.league_rank() / chunks, chunk = member.league_rank() % chunks;
        Real* mean = &h(0, row, chunk, 0);
        sums.form(team, row, chunk, mean);
        const Real share = sums.share(row, chunk);
        kernels::for_each(team, sums.width(), [&](const int i) { mean[i] *= share; });
      });
  const auto mean = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t chunk, Real* data) {
    kernels::copy(team, sums.width(), &h(0, row, chunk, 0), data);
  };
  project_rows(execution, "bsbr::layer::project_chunk_means", {batch, chunks}, panels, mean,
               *modules.project_chunk_means, h);
}

/// The sums that a sequence going on from here needs, of the chunk that has begun at the end of this one. Collective.
/// state: of the tokens before the sequence, whose array they may take.
template <class Real>
Array<Real*> next_router_sums(const Execution& execution, const LayerModules<Real>& modules, const Sequence& sequence,
                              const PaddingMask& mask, const Array<Real***>& x, const AttentionState<Real>& state) {
  if (sequence.length() == 0) return state.router_sums;
  const bool begun = sequence.end() % sequence.chunk_size() != 0;
  const std::int64_t batch = sequence.batch(), width = static_cast<std::int64_t>(x.extent(2));
  Array<Real*> kept = state.router_sums;
  attention::reserve(kept, "router_sums", begun ? batch * width : 0);
  if (begun) {
    const int owner = sequence.chunks().part_of(sequence.num_chunks() - 1);
    if (owner == sequence.rank()) {
      const ChunkSums<Real> sums(modules.attention_norm, sequence, mask, x, &state);
      const std::int64_t last = sequence.local_chunks() - 1;
      Kokkos::parallel_for(
          "bsbr::layer::router_sums", kernels::team_policy(execution, batch, 0),
          KOKKOS_LAMBDA(const kernels::TeamMember& member) {
            const std::int64_t row = member.league_rank();
            sums.form(kernels::as_team(member), row, last, &kept(row * width));
          });
    }
    parallel::broadcast(execution, sequence.comm(), owner, kept);
  }
  return kept;
}

}  // namespace bsbr
