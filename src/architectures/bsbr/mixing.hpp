// The mixing of states as softmax attention, forward and gradient: chunks for tokens, r for queries, h for keys, and
// one block of all states for values (docs/mathematics.md, "BSBR").
//
//     G_i = Σ_j w_ij F_j,  w_ij = softmax_j(r_i·h_j / √d)
//
// With a null chunk there is one more score in the softmax, ν of the head, and its value is 0.
//
//     dw_ij = ⟨dG_i, F_j⟩,  dz_ij = w_ij (dw_ij − δ_i),  δ_i = Σ_j w_ij dw_ij = ⟨dG_i, G_i⟩
//     dr_i = Σ_j dz_ij h_j / √d,  dh_j = Σ_i dz_ij r_i / √d,  dF_j = Σ_i w_ij dG_i
//
// A block has some columns of the states, and dw is a sum over columns: each block forms its own part of dr and dh,
// from its own δ. The problems below are what softmax_tiles and softmax_gradient solve; groups are (batch, block), and
// the blocks are those of one round, `first_block` and the next ones of this rank's.
#pragma once

#include <limits>

#include "architectures/bsbr/earlier_chunks.hpp"
#include "config/causality.hpp"
#include "kernels/state_layout.hpp"
#include "parallel/dealing.hpp"

namespace bsbr::attention {

/// The chunk at whose last real token r_i is taken; −1 if there is none. nearest_real: that of PaddingMask.
KOKKOS_INLINE_FUNCTION std::int64_t retrieval_source(Causality causality,
                                                     const Array<const std::int64_t**>& nearest_real, std::int64_t row,
                                                     std::int64_t i) {
  const std::int64_t latest = latest_retrieval_source(causality, i);
  return latest < 0 ? -1 : nearest_real(row, latest);
}

/// What all three have in common. Chunks are counted from the first one of all, the earlier ones of a sequence that
/// goes on first.
template <class Real>
struct Mixing {
  Real scale;
  int key_width, value_width;
  std::int64_t groups;
  static constexpr std::int64_t neighbours = 1, unit = 1;
  EarlierChunks<Real> earlier;
  Array<const Real*> retrieval;  // [chunk of the sequence][batch][r, h]
  Array<const Real*> states;     // F of this rank's blocks, all chunks
  kernels::GatheredStates gathered;
  parallel::DealtRows dealt;  // the chunks of the sequence for which this rank forms results, numbered without gaps
  std::int64_t first_block, round_blocks;
  ChunkMarks marks;
  Causality causality;
  std::int64_t hidden;

  KOKKOS_FUNCTION std::int64_t chunks() const { return earlier.count + gathered.chunks.items; }
  KOKKOS_FUNCTION std::int64_t dealt_chunk(std::int64_t number) const { return earlier.count + dealt.row(number); }
  KOKKOS_FUNCTION std::int64_t row(std::int64_t group) const { return group / round_blocks; }
  KOKKOS_FUNCTION std::int64_t block_of_round(std::int64_t group) const { return group % round_blocks; }
  KOKKOS_FUNCTION std::int64_t block(std::int64_t group) const {  // among this rank's
    return first_block + block_of_round(group);
  }
  KOKKOS_FUNCTION std::int64_t source(std::int64_t group, std::int64_t i) const {
    return retrieval_source(causality, marks.nearest_real, row(group), i);
  }
  KOKKOS_FUNCTION std::int64_t head(std::int64_t group) const {
    return (gathered.first_block + block(group)) / gathered.blocks.per_head;
  }
  KOKKOS_FUNCTION bool chunk_is_real(std::int64_t group, std::int64_t j) const {
    return marks.real(row(group), j) != 0;
  }
  KOKKOS_FUNCTION const Real* r(std::int64_t group, std::int64_t chunk) const { return vector(group, chunk, 0); }
  KOKKOS_FUNCTION const Real* h(std::int64_t group, std::int64_t chunk) const { return vector(group, chunk, hidden); }
  KOKKOS_FUNCTION const Real* state(std::int64_t group, std::int64_t j) const {
    return j < earlier.count ? &earlier.states(gathered.blocks.offset(block(group), j, row(group), earlier.room))
                             : &states(gathered.offset(block(group), j - earlier.count, row(group)));
  }

 private:
  KOKKOS_FUNCTION const Real* vector(std::int64_t group, std::int64_t chunk, std::int64_t offset) const {
    const std::int64_t element = row(group) * 2 * hidden + offset + head(group) * key_width;
    const std::int64_t chunk_row = gathered.blocks.batch * 2 * hidden;
    return chunk < earlier.count ? &earlier.retrieval(chunk * chunk_row + element)
                                 : &retrieval((chunk - earlier.count) * chunk_row + element);
  }
};

/// G of the chunks dealt to this rank, the queries; keys are all chunks.
template <class Real>
struct Retrieval : Mixing<Real> {
  std::int64_t first, last;
  Array<Real*> mixed;              // [block of the round][query][batch][width]
  Array<const Real*> null_logits;  // [heads]: ν; empty: there is no null chunk

  KOKKOS_FUNCTION Range range(std::int64_t i) const {
    return chunks_seen(this->causality, this->dealt_chunk(i), this->chunks());
  }
  KOKKOS_FUNCTION int null_keys(std::int64_t) const { return null_logits.data() == nullptr ? 0 : 1; }
  KOKKOS_FUNCTION Real null_score(std::int64_t group) const { return null_logits(this->head(group)); }
  KOKKOS_FUNCTION bool has_query(std::int64_t group, std::int64_t i) const {
    return this->source(group, this->dealt_chunk(i)) >= 0;
  }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t i) const {
    return this->r(group, this->source(group, this->dealt_chunk(i)));
  }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t j) const { return this->chunk_is_real(group, j); }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t j) const { return this->h(group, j); }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t j) const { return this->state(group, j); }
  KOKKOS_FUNCTION Real* output(std::int64_t group, std::int64_t i) const {
    return &mixed(this->gathered.blocks.offset(this->block_of_round(group), i, this->row(group), last));
  }
};

/// The same, which also keeps the log-sums of the queries: the gradients are formed from them.
template <class Real>
struct RetrievalWithLogSums : Retrieval<Real> {
  Array<Real*> log_sums;  // [block of this rank][query][batch]

  KOKKOS_FUNCTION Real& log_sum(std::int64_t group, std::int64_t i) const {
    return log_sums((this->block(group) * this->last + i) * this->gathered.blocks.batch + this->row(group));
  }
};

/// What the gradients of the mixing are formed from, besides what it was formed from. Sequences do not go on.
template <class Real>
struct MixingGradient : Mixing<Real> {
  Array<const Real*> mixed_gradients;   // dG, as the states lie
  Array<const Real*> kept;              // of each chunk and block: log₂ Σ_j exp(r_i·h_j / √d), δ_i
  kernels::GatheredStates kept_places;  // where they lie
  Array<Real*> parts;                   // [block of this rank][dealt chunk][batch][dr, dh]: a block's parts of them

  KOKKOS_FUNCTION const Real* mixed_gradient(std::int64_t group, std::int64_t i) const {
    return &mixed_gradients(this->gathered.offset(this->block(group), i, this->row(group)));
  }
  /// A chunk that retrieves nothing gives every state a weight of 2^−∞ = 0.
  KOKKOS_FUNCTION Real log_sum_of(std::int64_t group, std::int64_t i) const {
    return this->source(group, i) < 0 ? std::numeric_limits<Real>::infinity() : kept(place(group, i));
  }
  KOKKOS_FUNCTION Real delta_of(std::int64_t group, std::int64_t i) const { return kept(place(group, i) + 1); }
  KOKKOS_FUNCTION const Real* r_of(std::int64_t group, std::int64_t i) const {
    const std::int64_t source = this->source(group, i);
    return this->r(group, source < 0 ? 0 : source);
  }
  /// dr of a dealt chunk, and dh behind it.
  KOKKOS_FUNCTION Real* part(std::int64_t group, std::int64_t number, std::int64_t dealt_chunks) const {
    const std::int64_t chunk = this->block(group) * dealt_chunks + number;
    return &parts((chunk * this->gathered.blocks.batch + this->row(group)) * 2 * this->key_width);
  }

 private:
  KOKKOS_FUNCTION std::int64_t place(std::int64_t group, std::int64_t i) const {
    return kept_places.offset(this->block(group), i, this->row(group));
  }
};

/// Each block's part of dr of the chunks dealt to this rank.
template <class Real>
struct RetrievalQueryGradient : MixingGradient<Real> {
  std::int64_t first, last;

  KOKKOS_FUNCTION Range range(std::int64_t i) const {
    return chunks_seen(this->causality, this->dealt_chunk(i), this->chunks());
  }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t j) const { return this->chunk_is_real(group, j); }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t i) const {
    return this->r_of(group, this->dealt_chunk(i));
  }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t j) const { return this->h(group, j); }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t j) const { return this->state(group, j); }
  KOKKOS_FUNCTION const Real* output_gradient(std::int64_t group, std::int64_t i) const {
    return this->mixed_gradient(group, this->dealt_chunk(i));
  }
  KOKKOS_FUNCTION Real log_sum(std::int64_t group, std::int64_t i) const {
    return this->log_sum_of(group, this->dealt_chunk(i));
  }
  KOKKOS_FUNCTION Real delta(std::int64_t group, std::int64_t i) const {
    return this->delta_of(group, this->dealt_chunk(i));
  }
  KOKKOS_FUNCTION Real* query_gradient(std::int64_t group, std::int64_t i) const { return this->part(group, i, last); }
};

/// Each block's part of dh of the chunks dealt to this rank, and dF of these chunks.
template <class Real>
struct RetrievalKeyGradient : MixingGradient<Real> {
  std::int64_t first, last;
  Array<Real*> state_gradients;  // [block of the round][dealt chunk][batch][width]

  /// The chunks that retrieve from a dealt chunk.
  KOKKOS_FUNCTION Range range(std::int64_t j) const {
    return chunks_that_see(this->causality, this->dealt_chunk(j), this->chunks());
  }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t j) const {
    return this->chunk_is_real(group, this->dealt_chunk(j));
  }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t i) const { return this->r_of(group, i); }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t j) const {
    return this->h(group, this->dealt_chunk(j));
  }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t j) const {
    return this->state(group, this->dealt_chunk(j));
  }
  KOKKOS_FUNCTION const Real* output_gradient(std::int64_t group, std::int64_t i) const {
    return this->mixed_gradient(group, i);
  }
  KOKKOS_FUNCTION Real log_sum(std::int64_t group, std::int64_t i) const { return this->log_sum_of(group, i); }
  KOKKOS_FUNCTION Real delta(std::int64_t group, std::int64_t i) const { return this->delta_of(group, i); }
  KOKKOS_FUNCTION Real* key_gradient(std::int64_t group, std::int64_t j) const {
    return this->part(group, j, last) + this->key_width;
  }
  KOKKOS_FUNCTION Real* value_gradient(std::int64_t group, std::int64_t j) const {
    return &state_gradients(this->gathered.blocks.offset(this->block_of_round(group), j, this->row(group), last));
  }
};

}  // namespace bsbr::attention
