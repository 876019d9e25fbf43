// The gradient of BSBR's projections of states, and through them: of F̃ = Wc F + bc, which is mixed, and of
// G = Wd M + bd, which is retrieved; a row is the state of one (chunk, head), flattened.
//
//     dM = dG Wd     dWd = Σ dGᵀ M      dbd = Σ dG      over the chunks that retrieve something
//     dF = dF̃ Wc     dWc = Σ dF̃ᵀ F      dbc = Σ dF̃      over all chunks
//
// The sums are those of leaves of some chunks (AttentionGradient). The states d² wide of one leaf at a time are formed
// from its tokens anew; those of all chunks are never kept.
#include <string>

#include "architectures/bsbr/attention.hpp"
#include "architectures/bsbr/chunk_leaves.hpp"
#include "architectures/bsbr/chunk_states.hpp"
#include "architectures/bsbr/gradient_buffers.hpp"
#include "bsbr/error.hpp"

namespace bsbr::attention {
namespace {

/// dW = Σ dyᵀ x and db = Σ dy over the rows of a leaf: dy [rows, out], x [rows, in]. They are written to the leaf's
/// part of the arrays [leaves, out, in] and [leaves, out].
template <class Real>
void form_leaf(const Execution& execution, const ProjectionBuffers<Real>& buffers, std::int64_t leaf, std::int64_t rows,
               const Array<Real*>& dy, const Array<Real*>& x, const Array<Real***>& weight_gradient,
               const Array<Real**>& bias_gradient) {
  const auto out = static_cast<std::int64_t>(weight_gradient.extent(1)),
             in = static_cast<std::int64_t>(weight_gradient.extent(2));
  const Array<Real**> dweight(weight_gradient.data() + leaf * out * in, out, in);
  const Array<Real*> dbias(bias_gradient.data() + leaf * out, out);
  Kokkos::deep_copy(execution, dweight, Real(0));
  Kokkos::deep_copy(execution, dbias, Real(0));
  const Array<const Real**> of_results(dy.data(), rows, out), inputs(x.data(), rows, in);
  kernels::add_outer_product(execution, buffers.outer_product, of_results, inputs, dweight);
  kernels::add_bias_gradient(execution, buffers.row_sums, of_results, dbias);
}

}  // namespace

/// Throws unless the gradients of the projections are those of this rank's leaves.
template <class Real>
void Bsbr<Real>::require_projection_leaves(const AttentionGradient<Real>& gradient, std::int64_t leaf_count) const {
  const auto leaves = static_cast<std::size_t>(leaf_count), state = static_cast<std::size_t>(m_config.state_size()),
             full = static_cast<std::size_t>(m_config.head_dim() * m_config.head_dim());
  const auto fits = [&](const Array<Real***>& weight, const Array<Real**>& bias, std::size_t out, std::size_t in) {
    return weight.extent(0) == leaves && weight.extent(1) == out && weight.extent(2) == in &&
           bias.extent(0) == leaves && bias.extent(1) == out;
  };
  if (!fits(gradient.compress_weight, gradient.compress_bias, state, full) ||
      !fits(gradient.decompress_weight, gradient.decompress_bias, full, state)) {
    throw ShapeError("gradients of compress_weight and decompress_weight must be [" + std::to_string(leaves) + ", " +
                     std::to_string(state) + ", " + std::to_string(full) + "] and [" + std::to_string(leaves) + ", " +
                     std::to_string(full) + ", " + std::to_string(state) + "], those of the biases [" +
                     std::to_string(leaves) + ", rows]");
  }
}

/// dM of the local chunks, in m_local, and the gradients of decompress_proj. A chunk that retrieves nothing has a dG of
/// 0.
template <class Real>
void Bsbr<Real>::decompression_gradient(const Execution& execution, const ChunkMarks& marks,
                                        const AttentionInput<Real>& input, const AttentionRecord<Real>& record,
                                        const Array<Real***>& output_gradient,
                                        const AttentionGradient<Real>& gradient) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const std::int64_t origin = m_sequence.first_token();
  const LocalChunks local(m_sequence);
  const int width = static_cast<int>(m_config.head_dim()), compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const ProjectionBuffers<Real>& buffers = m_gradient->projections;
  const Array<Real*> state_gradients = m_local, leaf_gradients = buffers.full, leaf_states = buffers.compressed;
  const Array<const Real*> mixed = record.mixed;
  const kernels::HeadRows<Real> query = input.query, of_output = output_gradient;
  const Causality causality = m_config.causality;
  const auto nearest = marks.nearest_real;
  const ChunkLeaves leaves(m_sequence, gradient.leaf_chunks);
  for (std::int64_t number = 0; number < leaves.count(); ++number) {
    const ChunkLeaf leaf = leaves[number];
    const auto form = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t index, Real* state) {
      const std::int64_t chunk = leaf.first + index / heads, head = index % heads;
      const bool retrieves = retrieval_source(causality, nearest, leaf.row, local.first + chunk) >= 0;
      const Range tokens = local.rows(chunk, origin);
      kernels::form_flat_state(team, query.of_head(leaf.row, head, width), of_output.of_head(leaf.row, head, width),
                               nullptr, tokens.begin, retrieves ? tokens.end : tokens.begin, state);
      Real* kept = &leaf_gradients(index * width * width);
      kernels::for_each(team, width * width, [&](const int i) { kept[i] = state[i]; });
      const auto source = kernels::state_ref(mixed.data(), blocks, chunk, leaf.row, head, chunks);
      source.load(team, 0, compressed, &leaf_states(index * compressed));
    };
    const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t index, Real* state) {
      const auto target = kernels::state_ref(state_gradients.data(), blocks, leaf.first + index / heads, leaf.row,
                                             index % heads, chunks);
      target.store(team, 0, compressed, state);
    };
    kernels::panel_chain(execution, "bsbr::attention::decompression_gradient", {1, leaf.chunks * heads}, m_panels, form,
                         kernels::Stage{buffers.decompress, store});
    form_leaf<Real>(execution, buffers, leaf.index, leaf.chunks * heads, buffers.full, buffers.compressed,
                    gradient.decompress_weight, gradient.decompress_bias);
  }
}

/// dF̃ of the local chunks, in m_local, through compress_proj to their tokens; and its gradients.
template <class Real>
void Bsbr<Real>::compression_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                      const AttentionGradient<Real>& gradient) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const LocalChunks local(m_sequence);
  const int width = static_cast<int>(m_config.head_dim()), compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const ProjectionBuffers<Real>& buffers = m_gradient->projections;
  const Array<const Real*> state_gradients = m_local;
  const Array<Real*> leaf_states = buffers.full, leaf_gradients = buffers.compressed;
  const auto key_gradient = gradient.key, value_gradient = gradient.value;
  const bool averages = averages_states(m_config);
  const ChunkLeaves leaves(m_sequence, gradient.leaf_chunks);
  for (std::int64_t number = 0; number < leaves.count(); ++number) {
    const ChunkLeaf leaf = leaves[number];
    const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t index, Real* state) {
      const std::int64_t chunk = leaf.first + index / heads, head = index % heads;
      const auto source = kernels::state_ref(state_gradients.data(), blocks, chunk, leaf.row, head, chunks);
      source.load(team, 0, compressed, state);
      Real* kept = &leaf_gradients(index * compressed);
      kernels::for_each(team, compressed, [&](const int i) { kept[i] = state[i]; });
      const Range tokens = local.rows(chunk, keys.origin);
      kernels::form_flat_state(team, keys.keys_of(leaf.row, head, width), keys.values_of(leaf.row, head, width),
                               keys.mask(leaf.row), tokens.begin, tokens.end, &leaf_states(index * width * width));
      if (averages) average_flat_state(team, keys, leaf.row, tokens, width, &leaf_states(index * width * width));
    };
    // dv_s += k_s dF, dk_s += v_s dFᵀ
    const auto apply = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t index, Real* state) {
      const std::int64_t head = index % heads;
      const Range tokens = local.rows(leaf.first + index / heads, keys.origin);
      if (averages) average_flat_state(team, keys, leaf.row, tokens, width, state);
      const auto add = [&](const kernels::TokenRows<Real>& rows, const Strided<Real***>& results) {
        kernels::apply_flat_state(team, rows, keys.mask(leaf.row), tokens.begin, tokens.end, width, state,
                                  &results(leaf.row, 0, head * width), static_cast<std::int64_t>(results.stride(1)));
      };
      add(keys.keys_of(leaf.row, head, width), value_gradient);
      kernels::transpose_flat_state(team, width, state);
      add(keys.values_of(leaf.row, head, width), key_gradient);
    };
    kernels::panel_chain(execution, "bsbr::attention::compression_gradient", {1, leaf.chunks * heads}, m_panels, load,
                         kernels::Stage{buffers.compress, apply});
    form_leaf<Real>(execution, buffers, leaf.index, leaf.chunks * heads, buffers.compressed, buffers.full,
                    gradient.compress_weight, gradient.compress_bias);
  }
}

template void Bsbr<float>::require_projection_leaves(const AttentionGradient<float>&, std::int64_t) const;
template void Bsbr<float>::decompression_gradient(const Execution&, const ChunkMarks&, const AttentionInput<float>&,
                                                  const AttentionRecord<float>&, const Array<float***>&,
                                                  const AttentionGradient<float>&) const;
template void Bsbr<float>::compression_gradient(const Execution&, const kernels::KeysAndValues<float>&,
                                                const AttentionGradient<float>&) const;
template void Bsbr<double>::require_projection_leaves(const AttentionGradient<double>&, std::int64_t) const;
template void Bsbr<double>::decompression_gradient(const Execution&, const ChunkMarks&, const AttentionInput<double>&,
                                                   const AttentionRecord<double>&, const Array<double***>&,
                                                   const AttentionGradient<double>&) const;
template void Bsbr<double>::compression_gradient(const Execution&, const kernels::KeysAndValues<double>&,
                                                 const AttentionGradient<double>&) const;

}  // namespace bsbr::attention
