// The gradient of BSBR, step by step: docs/mathematics.md, "Head, loss and gradients".
#include <algorithm>
#include <memory>
#include <optional>

#include "architectures/bsbr/attention.hpp"
#include "architectures/bsbr/chunk_states.hpp"
#include "architectures/bsbr/gradient_buffers.hpp"
#include "architectures/bsbr/mixing.hpp"
#include "attention/attention.hpp"
#include "attention/overlap.hpp"
#include "kernels/row_products.hpp"
#include "kernels/softmax_gradient.hpp"
#include "kernels/token_softmax_gradient.hpp"
#include "parallel/agree.hpp"

namespace bsbr::attention {

/// log-sums and δ within chunks. The results within the chunk are formed anew, since the output has those of the
/// retrieval in it; they take the place of dq until this is written.
template <class Real>
void Bsbr<Real>::prepare_within_chunk(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                      const AttentionInput<Real>& input, const Array<Real***>& output_gradient,
                                      const AttentionGradient<Real>& gradient) const {
  const std::int64_t first = m_sequence.first_token(), last = first + m_sequence.local_tokens();
  kernels::token_softmax_with_log_sums(execution, "bsbr::attention::within_chunk", m_config.num_heads, visible(),
                                       kernels::score_scale<Real>(m_config.head_dim()), input.query, keys,
                                       gradient.query, m_gradient->log_sums, first, first, last);
  kernels::token_deltas<Real>(execution, "bsbr::attention::deltas", gradient.query, output_gradient,
                              m_gradient->deltas);
}

/// dq, dk and dv within chunks, written, of one of `portions` portions of the local chunks.
template <class Real>
void Bsbr<Real>::within_chunk_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                       const AttentionInput<Real>& input, const Array<Real***>& output_gradient,
                                       const AttentionGradient<Real>& gradient, int portion, int portions) const {
  const Range rows = tokens_of(portion, portions);
  if (rows.begin >= rows.end) return;
  const std::int64_t origin = m_sequence.first_token(), heads = m_config.num_heads;
  const auto scale = kernels::score_scale<Real>(m_config.head_dim());
  const kernels::SoftmaxTokens<Real> tokens{input.query,        output_gradient, m_gradient->log_sums,
                                            m_gradient->deltas, origin,          keys};
  kernels::token_query_gradients(execution, "bsbr::attention::query_gradients", heads, visible(), scale, tokens,
                                 gradient.query, origin, rows.begin, rows.end);
  kernels::token_key_gradients(execution, "bsbr::attention::key_gradients", heads, visible(), scale, tokens,
                               gradient.key, gradient.value, origin, rows.begin, rows.end);
}

/// m_local = dG of the local chunks, with compression dM; their log-sums and δ = ⟨dG, G⟩ of each block. That is a chain
/// of multiply-adds as the products of the gradients are: where a chunk retrieves from one chunk, δ has the bits of dw,
/// and dz is exactly 0.
template <class Real>
void Bsbr<Real>::form_mixed_gradients(const Execution& execution, const ChunkMarks& marks,
                                      const AttentionInput<Real>& input, const AttentionRecord<Real>& record,
                                      const Array<Real***>& output_gradient,
                                      const AttentionGradient<Real>& gradient) const {
  if (m_config.compression_factor > 0) {
    decompression_gradient(execution, marks, input, record, output_gradient, gradient);
  } else {
    form_states<Real>(execution, "bsbr::attention::form_state_gradients", m_blocks, LocalChunks(m_sequence),
                      {input.query, output_gradient, {}, m_sequence.first_token()}, m_local);
  }
  clear_padding(execution, m_blocks, LocalChunks(m_sequence), m_local);
  constexpr std::int64_t together = kernels::tuning::state_tile;
  const std::int64_t rows = static_cast<std::int64_t>(m_log_sums.local_elements());
  const std::int64_t width = m_blocks.width;
  const Array<const Real*> gradients = m_local, mixed = record.mixed, log_sums = record.mixing_log_sums;
  const Array<Real*> kept = m_gradient->local_kept;
  Kokkos::parallel_for(
      "bsbr::attention::mixing_deltas", kernels::team_policy(execution, (rows + together - 1) / together, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t first = member.league_rank() * together;
        const int count = static_cast<int>(rows - first < together ? rows - first : together);
        kernels::for_row_products<Real>(
            kernels::as_team(member), count, static_cast<int>(width),
            [&](int i) { return &gradients((first + i) * width); }, [&](int i) { return &mixed((first + i) * width); },
            [&](int i, Real delta) {
              kept((first + i) * kept_width) = log_sums(first + i);
              kept((first + i) * kept_width + 1) = delta;
            });
      });
}

/// m_states: dG → dF, some blocks at a time, as `mix` does it; and each block's parts of dr and dh.
template <class Real>
void Bsbr<Real>::mix_gradients(const Execution& execution, const ChunkMarks& marks,
                               const AttentionRecord<Real>& record) const {
  const GradientBuffers& buffers = *m_gradient;
  const std::int64_t blocks = m_transpose.gathered().block_count;
  for (std::int64_t first = 0; first < blocks; first += m_round_blocks) {
    const std::int64_t count = std::min(m_round_blocks, blocks - first);
    MixingGradient<Real> mixing{mixing_of(marks, {}, first, count), m_states, buffers.gathered_kept,
                                buffers.kept.gathered(), buffers.mixed_parts};
    mixing.states = record.states;
    const std::int64_t last = mixing.dealt.before(m_sequence.num_chunks());
    kernels::query_gradients<Real>(execution, "bsbr::attention::mixing_query_gradients",
                                   RetrievalQueryGradient<Real>{mixing, 0, last});
    kernels::key_gradients<Real>(execution, "bsbr::attention::mixing_key_gradients",
                                 RetrievalKeyGradient<Real>{mixing, 0, last, m_mixed});
    if (m_transpose.stores()) m_transpose.store(execution, m_mixed, first, count, m_states);
  }
  if (buffers.parts.stores()) buffers.parts.store(execution, buffers.mixed_parts, 0, blocks, buffers.gathered_parts);
}

/// dr and dh of the local chunks: the sums of their parts over the blocks of a head, in a fixed binary tree. dh are
/// written, dr go to where they are gathered.
template <class Real>
void Bsbr<Real>::add_parts(const Execution& execution, const AttentionGradient<Real>& gradient) const {
  const std::int64_t heads = m_config.num_heads, width = m_config.head_dim(), batch = m_blocks.batch,
                     per_head = m_blocks.per_head, chunks = m_sequence.local_chunks(),
                     first_chunk = m_sequence.first_chunk();
  const Array<Real*> parts = m_gradient->local_parts, retrieval_query = m_gradient->retrieval_query;
  const auto retrieval_key = gradient.retrieval_key;
  Kokkos::parallel_for(
      "bsbr::attention::add_parts", Kokkos::RangePolicy<Execution>(execution, 0, heads * chunks * batch * 2 * width),
      KOKKOS_LAMBDA(const std::int64_t index) {
        const std::int64_t head = index / (chunks * batch * 2 * width), element = index % (chunks * batch * 2 * width);
        const auto part = [&](std::int64_t block) -> Real& {
          return parts((head * per_head + block) * chunks * batch * 2 * width + element);
        };
        for (std::int64_t step = 1; step < per_head; step *= 2) {
          for (std::int64_t block = 0; block + step < per_head; block += 2 * step) part(block) += part(block + step);
        }
        const std::int64_t column = element % (2 * width), row = element / (2 * width) % batch,
                           chunk = element / (2 * width) / batch;
        if (column < width) {
          retrieval_query(((first_chunk + chunk) * batch + row) * heads * width + head * width + column) = part(0);
        } else {
          retrieval_key(row, chunk, head * width + column - width) = part(0);
        }
      });
}

/// The gradient of the row that r of several chunks may come from: their sum, in the order of the chunks. 0 of a row
/// that none comes from.
template <class Real>
void Bsbr<Real>::add_sources(const Execution& execution, const ChunkMarks& marks,
                             const AttentionGradient<Real>& gradient) const {
  const std::int64_t batch = m_blocks.batch, chunks = m_sequence.local_chunks(), all = m_sequence.num_chunks(),
                     first_chunk = m_sequence.first_chunk(), hidden = m_config.hidden_dim;
  const Array<const Real*> of_chunks = m_gradient->retrieval_query;
  const auto target = gradient.retrieval_query;
  const Causality causality = m_config.causality;
  Kokkos::parallel_for(
      "bsbr::attention::add_sources", Kokkos::RangePolicy<Execution>(execution, 0, chunks * batch * hidden),
      KOKKOS_LAMBDA(const std::int64_t index) {
        const std::int64_t column = index % hidden, row = index / hidden % batch, chunk = index / hidden / batch;
        Real sum = 0;
        if (marks.real(row, first_chunk + chunk) != 0) {
          for (std::int64_t i = first_chunk + chunk; i < all; ++i) {
            const std::int64_t source = retrieval_source(causality, marks.nearest_real, row, i);
            if (source > first_chunk + chunk) break;
            if (source == first_chunk + chunk) sum += of_chunks((i * batch + row) * hidden + column);
          }
        }
        target(row, chunk, column) = sum;
      });
}

/// dF of the local chunks, in m_local, and G, to their tokens.
template <class Real>
void Bsbr<Real>::retrieval_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                    const ChunkMarks& marks, const AttentionInput<Real>& input,
                                    const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                                    const AttentionGradient<Real>& gradient) const {
  if (m_config.compression_factor > 0) {
    retrieve_compressed(execution, StateForm::transposed, marks, input, {}, output_gradient, record.mixed,
                        gradient.query);
    return compression_gradient(execution, keys, gradient);
  }
  const LocalChunks local(m_sequence);
  const std::int64_t first = m_sequence.first_token();
  if (averages_states(m_config)) average_states(execution, m_blocks, local, keys, m_local);
  apply_states<StateForm::transposed, Real>(execution, "bsbr::attention::query_gradients_of_states", m_blocks, local,
                                            first, output_gradient, {}, record.mixed, gradient.query);
  apply_states<StateForm::transposed, Real>(execution, "bsbr::attention::key_gradients_of_states", m_blocks, local,
                                            first, keys.value, keys.real, m_local, gradient.key);
  apply_states<StateForm::plain, Real>(execution, "bsbr::attention::value_gradients_of_states", m_blocks, local, first,
                                       keys.key, keys.real, m_local, gradient.value);
}

/// As in the forward (mix_across_ranks), with other operands:
///
///            my chunks, all blocks                   all chunks, my blocks
///     r, h           m_retrieval  ─ to all ranks ─▶  m_retrieval         ╲ hidden by the first half of
///     dG, log-sum, δ m_local      ───────────────▶   m_states            ╱ the gradients within chunks
///                                                    mix_gradients: dG → dF
///     dF, dr, dh     m_local      ◀──────────────    m_states              hidden by their second half
template <class Real>
void Bsbr<Real>::backward(const Execution& execution, const PaddingMask& given_mask, const AttentionInput<Real>& input,
                          const AttentionRecord<Real>& record, const Array<Real***>& output,
                          const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                          Profile* profile) {
  const PaddingMask& mask = effective_mask(given_mask);
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, false, mask, input, output, static_cast<AttentionState<Real>*>(nullptr));
    require_retrieval(input);
    if (!m_gradient) m_gradient = std::make_shared<GradientBuffers>(m_config, m_sequence, m_blocks, m_dealing);
    if (m_config.compression_factor > 0 || has_null_chunk(m_config) || gates_retrieval(m_config))
      require_leaves(gradient);
    if (m_config.compression_factor == 0) return;
    m_gradient->projections.reserve(m_config, m_sequence, gradient.leaf_chunks);
  });
  if (m_sequence.length() == 0) return;
  const ChunkMarks marks = chunk_marks<Real>(execution, m_sequence, mask, nullptr);
  const kernels::KeysAndValues<Real> keys{input.key, input.value, mask.tokens(), m_sequence.first_token()};
  // What the retrieval's term q_t G is given.
  const Array<Real***> of_term = gates_retrieval(m_config) ? m_gradient->term : output_gradient;
  {
    const Phase phase(execution, profile, "states");
    if (m_config.compression_factor > 0) {
      m_decompress.assign(execution, input.decompress_weight);
      m_gradient->projections.compress.assign(execution, input.compress_weight);
      m_gradient->projections.decompress.assign(execution, input.decompress_weight);
    }
    pack_retrieval(execution, mask, input, nullptr);
    if (gates_retrieval(m_config)) gate_gradient(execution, marks, input, record, output_gradient, gradient);
    form_mixed_gradients(execution, marks, input, record, of_term, gradient);
    if (has_null_chunk(m_config)) null_chunk_gradient(execution, marks, input, gradient);
  }
  {
    const Phase phase(execution, profile, "within_chunk");
    prepare_within_chunk(execution, keys, input, output_gradient, gradient);
  }
  if (m_sequence.ranks() == 1) {
    {
      const Phase phase(execution, profile, "within_chunk");
      within_chunk_gradient(execution, keys, input, output_gradient, gradient, 0, 1);
    }
    const Phase phase(execution, profile, "mixing");
    mix_gradients(execution, marks, record);
    add_parts(execution, gradient);
  } else {
    mix_gradients_across_ranks(execution, keys, marks, input, record, output_gradient, gradient, profile);
  }
  const Phase phase(execution, profile, "retrieval");
  add_sources(execution, marks, gradient);
  retrieval_gradient(execution, keys, marks, input, record, of_term, gradient);
}

template <class Real>
void Bsbr<Real>::mix_gradients_across_ranks(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                            const ChunkMarks& marks, const AttentionInput<Real>& input,
                                            const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                                            const AttentionGradient<Real>& gradient, Profile* profile) const {
  constexpr int half = overlap_portions / 2;
  GradientBuffers& buffers = *m_gradient;
  const auto within_chunks = [&](int begin, int end, auto&... messages) {
    const Phase phase(execution, profile, "within_chunk");
    overlap(
        execution, begin, end,
        [&](int portion) {
          within_chunk_gradient(execution, keys, input, output_gradient, gradient, portion, overlap_portions);
        },
        messages...);
  };
  const auto gather = [&](const Array<Real*>& rows, std::int64_t width) {
    return std::make_unique<parallel::Gather<Real>>(execution, m_sequence.comm(), rows, m_blocks.batch * width,
                                                    parallel::slices_of(m_sequence.chunks()));
  };
  std::unique_ptr<parallel::Gather<Real>> vectors;
  std::unique_ptr<parallel::Exchange<Real>> states, others;
  {
    const Phase phase(execution, profile, "exchange");
    vectors = gather(m_retrieval, 2 * m_config.hidden_dim);
    states = m_transpose.send(execution, m_local, m_states);
    others = buffers.kept.send(execution, buffers.local_kept, buffers.gathered_kept);
  }
  within_chunks(0, half, *vectors, *states, *others);
  {
    const Phase phase(execution, profile, "exchange");
    finish(*vectors, "retrieval_vectors", profile);
    finish(*states, "states", profile);
    finish(*others, "mixing_weights", profile);
  }
  {
    const Phase phase(execution, profile, "mixing");
    mix_gradients(execution, marks, record);
  }
  {
    const Phase phase(execution, profile, "exchange");
    states = m_transpose.send_back(execution, m_states, m_mixed, m_local);
    others = buffers.parts.send_back(execution, buffers.gathered_parts, buffers.mixed_parts, buffers.local_parts);
  }
  within_chunks(half, overlap_portions, *states, *others);
  const Phase phase(execution, profile, "exchange");
  finish(*states, "states", profile);
  finish(*others, "retrieval_gradients", profile);
  if (!m_transpose.stores()) {
    m_transpose.unpack(execution, m_states, m_local);
    buffers.parts.unpack(execution, buffers.gathered_parts, buffers.local_parts);
  }
  add_parts(execution, gradient);
  vectors = gather(buffers.retrieval_query, m_config.hidden_dim);
  finish(*vectors, "retrieval_vectors", profile);
}

template void Bsbr<float>::backward(const Execution&, const PaddingMask&, const AttentionInput<float>&,
                                    const AttentionRecord<float>&, const Array<float***>&, const Array<float***>&,
                                    const AttentionGradient<float>&, Profile*);
template void Bsbr<double>::backward(const Execution&, const PaddingMask&, const AttentionInput<double>&,
                                     const AttentionRecord<double>&, const Array<double***>&, const Array<double***>&,
                                     const AttentionGradient<double>&, Profile*);

}  // namespace bsbr::attention
