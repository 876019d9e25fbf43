#include "model/layer_backward.hpp"

#include <algorithm>

#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "kernels/dropout.hpp"
#include "kernels/rows.hpp"
#include "kernels/tokens.hpp"
#include "model/allocate.hpp"
#include "model/chunk_means.hpp"

namespace bsbr {
namespace {

using kernels::ProductWeight;
using kernels::Rows;
using kernels::Stage;
using kernels::Team;
using kernels::Transpose;

std::size_t size(std::int64_t value) { return static_cast<std::size_t>(value); }

/// leaf_rows() of one of several arrays.
template <class Real>
Array<Real**> leaf_rows(const Array<Real****>& arrays, int index, const LeafRows& leaf) {
  const auto elements = arrays.extent(1) * arrays.extent(2) * arrays.extent(3);
  return leaf_rows(
      Array<Real***>(arrays.data() + size(index) * elements, arrays.extent(1), arrays.extent(2), arrays.extent(3)),
      leaf);
}

template <class Real>
Array<Real**> first_rows(const Array<Real**>& rows, std::int64_t count) {
  return Array<Real**>(rows.data(), size(count), rows.extent(1));
}

/// The chunks of a leaf, and its tokens, counted from its first ones.
struct ChunksOfLeaf {
  Array<const std::uint8_t**> real;            // [batch, local tokens]; empty: all are real
  std::int64_t row, first_token, count, size;  // count: tokens; size: of a chunk

  KOKKOS_FUNCTION std::int64_t begin(std::int64_t chunk) const { return chunk * size; }
  KOKKOS_FUNCTION std::int64_t end(std::int64_t chunk) const {
    return (chunk + 1) * size < count ? (chunk + 1) * size : count;
  }
  KOKKOS_FUNCTION bool is_real(std::int64_t t) const {
    return real.data() == nullptr || real(row, first_token + t) != 0;
  }
  template <class Real>
  KOKKOS_FUNCTION Real share(std::int64_t chunk) const {
    const std::uint8_t* mask = real.data() == nullptr ? nullptr : &real(row, first_token);
    return kernels::share_of_token<Real>(mask, begin(chunk), end(chunk));
  }
};

/// All of them as one sequence.
template <class Real>
Rows rows_of(const Array<Real**>& rows) {
  return {1, static_cast<std::int64_t>(rows.extent(0))};
}

}  // namespace

std::vector<LeafRows> local_leaves(const Sequence& sequence, const parallel::Leaves& leaves) {
  std::vector<LeafRows> rows;
  const std::vector<std::int64_t> rows_of_all = leaves.rows_of(leaves.rank());
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    for (std::int64_t leaf = leaves.local().begin; leaf < leaves.local().end; ++leaf) {
      const Range tokens = leaves.tokens(leaf);
      const std::int64_t first_chunk = tokens.begin / sequence.chunk_size(),
                         end_chunk = (tokens.end - 1) / sequence.chunk_size() + 1;
      rows.push_back({leaves.index(rows_of_all[size(row)], leaf), row, tokens.begin - sequence.first_token(),
                      tokens.end - tokens.begin, first_chunk - sequence.first_chunk(), end_chunk - first_chunk});
    }
  }
  return rows;
}

namespace {

/// Sizes of what a gradient needs: one list for allocation and prediction.
struct GradientSizes {
  std::int64_t batch, tokens, chunks, hidden, width, inner, projections, chunk_projections;
  std::int64_t leaves = 0, most_tokens = 0, most_chunks = 0;  // of a leaf
  std::int64_t state = 0, whole_state = 0;                    // elements, with compression
  std::int64_t null_logits = 0, gates = 0;                    // elements, where there are some
  std::int64_t panel_width, head_block = 0;                   // ids of a block of the head

  explicit GradientSizes(const ModelConfig& config, const Sequence& sequence, const std::vector<LeafRows>& of = {})
      : batch(sequence.batch()),
        tokens(sequence.local_tokens()),
        chunks(sequence.local_chunks()),
        hidden(config.hidden_dim),
        width(config.attention_dim()),
        inner(config.ff_dim),
        projections(projections_of(config.architecture)),
        chunk_projections(static_cast<std::int64_t>(traits(config.architecture).chunk_projections.size())),
        leaves(static_cast<std::int64_t>(of.size())),
        panel_width(std::max({projections * width, hidden, chunk_projections * hidden, inner})) {
    for (const LeafRows& leaf : of) {
      most_tokens = std::max(most_tokens, leaf.count);
      most_chunks = std::max(most_chunks, leaf.chunks);
    }
    if (compresses_states(config)) {
      state = config.state_size();
      whole_state = config.head_dim() * config.head_dim();
    }
    if (has_null_chunk(config)) null_logits = config.num_heads;
    if (gates_retrieval(config)) gates = config.num_heads;
    if (config.head == Head::none) return;
    head_block = std::min<std::int64_t>(config.vocab_size, kernels::tuning::vocabulary_block);
    panel_width = std::max(panel_width, kernels::token_loss_width(config.vocab_size, hidden));
  }

  /// Of the projections of an attention, or of their gradients.
  std::int64_t projection_elements() const {
    return batch * (tokens * projections * width + chunks * chunk_projections * hidden);
  }
  /// Of the gradients of weights that attentions form for each leaf.
  std::int64_t own_weight_elements() const {
    return leaves * (2 * state * whole_state + state + whole_state + null_logits + gates);
  }
  std::int64_t leaf_elements() const {
    return most_tokens * (3 * hidden + 2 * inner) + (chunk_projections > 0 ? most_chunks * hidden : 0);
  }
  template <class Real>
  std::int64_t outer_elements() const {
    const auto elements = &kernels::OuterProductBuffers<Real>::elements;
    return std::max({elements(width, hidden), elements(hidden, width), elements(hidden, hidden),
                     elements(inner, hidden), elements(hidden, inner), elements(head_block, hidden)});
  }
  std::int64_t sum_rows() const { return std::max(most_tokens, most_chunks); }
  std::int64_t sum_width() const { return std::max({2 * hidden, inner, width}); }
};

}  // namespace

template <class Real>
LayerActivations<Real>::LayerActivations(const ModelConfig& config, const Sequence& sequence, Recompute recompute) {
  const GradientSizes sizes(config, sequence);
  projections = allocate<Real****>("gradient::projections", sizes.projections, sizes.batch, sizes.tokens, sizes.width);
  retrieval =
      allocate<Real****>("gradient::retrieval", sizes.chunk_projections, sizes.batch, sizes.chunks, sizes.hidden);
  heads = allocate<Real***>("gradient::heads", sizes.batch, sizes.tokens, sizes.width);
  if (recompute == Recompute::all) return;
  feed_forward.middle = allocate<Real***>("gradient::middle", sizes.batch, sizes.tokens, sizes.hidden);
  feed_forward.expanded = allocate<Real***>("gradient::expanded", sizes.batch, sizes.tokens, sizes.inner);
}

template <class Real>
std::int64_t LayerActivations<Real>::bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute) {
  const GradientSizes sizes(config, sequence);
  const std::int64_t rows = sizes.batch * sizes.tokens;
  const std::int64_t elements = sizes.projection_elements() + rows * sizes.width +
                                (recompute == Recompute::none ? rows * (sizes.hidden + sizes.inner) : 0);
  return elements * static_cast<std::int64_t>(sizeof(Real)) + bsbr::attention::record_bytes<Real>(config, sequence);
}

template <class Real>
GradientWorkspace<Real>::GradientWorkspace(const ModelConfig& config, const Sequence& sequence,
                                           const std::vector<LeafRows>& leaves)
    : m_sequence(sequence), m_leaves(leaves) {
  const GradientSizes sizes(config, sequence, leaves);
  const std::int64_t batch = sizes.batch, tokens = sizes.tokens, hidden = sizes.hidden, width = sizes.width;
  attention = Attention<Real>::create(config, sequence);
  projection_gradients = allocate<Real****>("gradient::projection_gradients", sizes.projections, batch, tokens, width);
  retrieval_gradients =
      allocate<Real****>("gradient::retrieval_gradients", sizes.chunk_projections, batch, sizes.chunks, hidden);
  if (attention->gradient_reads_output())
    m_heads_gradients = allocate<Real***>("gradient::heads_gradients", batch, tokens, width);
  const auto array = [](const Array<Real****>& arrays, int index) -> Strided<Real***> {
    return Kokkos::subview(arrays, index, Kokkos::ALL(), Kokkos::ALL(), Kokkos::ALL());
  };
  gradient.query = array(projection_gradients, 0);
  gradient.key = array(projection_gradients, 1);
  gradient.value = array(projection_gradients, 2);
  if (traits(config.architecture).has_gate()) gradient.gate = array(projection_gradients, 3);
  if (traits(config.architecture).has_retrieval()) {
    gradient.retrieval_query = array(retrieval_gradients, 0);
    gradient.retrieval_key = array(retrieval_gradients, 1);
  }
  if (compresses_states(config)) {
    const std::int64_t parts = sizes.leaves, state = sizes.state, whole = sizes.whole_state;
    gradient.compress_weight = allocate<Real***>("gradient::compress_weight_gradients", parts, state, whole);
    gradient.decompress_weight = allocate<Real***>("gradient::decompress_weight_gradients", parts, whole, state);
    gradient.compress_bias = allocate<Real**>("gradient::compress_bias_gradients", parts, state);
    gradient.decompress_bias = allocate<Real**>("gradient::decompress_bias_gradients", parts, whole);
  }
  if (sizes.null_logits > 0)
    gradient.null_logit = allocate<Real**>("gradient::null_logit_gradients", sizes.leaves, sizes.null_logits);
  if (sizes.gates > 0)
    gradient.retrieval_gate = allocate<Real**>("gradient::retrieval_gate_gradients", sizes.leaves, sizes.gates);
  gradient.leaf_chunks = parallel::leaf_chunks(sequence.length(), sequence.chunk_size());
  normed = allocate<Real**>("gradient::normed", sizes.most_tokens, hidden);
  normed_gradient = allocate<Real**>("gradient::normed_gradient", sizes.most_tokens, hidden);
  middle = allocate<Real**>("gradient::middle", sizes.most_tokens, hidden);
  expanded = allocate<Real**>("gradient::expanded", sizes.most_tokens, sizes.inner);
  activated = allocate<Real**>("gradient::activated", sizes.most_tokens, sizes.inner);
  chunk_ends = allocate<Real**>("gradient::chunk_ends", sizes.chunk_projections > 0 ? sizes.most_chunks : 0, hidden);
  panels = kernels::PanelBuffers<Real>(sizes.panel_width);
  outer = kernels::OuterProductBuffers<Real>(sizes.outer_elements<Real>());
  sums = kernels::RowSumBuffers<Real>(sizes.sum_rows(), sizes.sum_width());
  if (config.head == Head::none) return;
  logits = kernels::LogitGradientBuffer<Real>(sizes.most_tokens, config.vocab_size);
  log_sums = allocate<double*>("gradient::log_sums", sizes.most_tokens);
}

template <class Real>
std::int64_t GradientWorkspace<Real>::bytes(const ModelConfig& config, const Sequence& sequence,
                                            const std::vector<LeafRows>& leaves) {
  const GradientSizes sizes(config, sequence, leaves);
  const std::int64_t head = config.head == Head::none
                                ? 0
                                : kernels::LogitGradientBuffer<Real>::bytes(sizes.most_tokens, config.vocab_size) +
                                      sizes.most_tokens * static_cast<std::int64_t>(sizeof(double));
  const std::int64_t heads =
      bsbr::attention::gradient_reads_output<Real>(config) ? sizes.batch * sizes.tokens * sizes.width : 0;
  return bsbr::attention::workspace_bytes<Real>(config, sequence, Rounding::none) +
         bsbr::attention::gradient_bytes<Real>(config, sequence) +
         (sizes.projection_elements() + heads + sizes.own_weight_elements() + sizes.leaf_elements()) *
             static_cast<std::int64_t>(sizeof(Real)) +
         kernels::PanelBuffers<Real>::bytes(sizes.panel_width) +
         kernels::OuterProductBuffers<Real>::bytes(sizes.outer_elements<Real>()) +
         kernels::RowSumBuffers<Real>::bytes(sizes.sum_rows(), sizes.sum_width()) + head;
}

template <class Real>
LayerBackward<Real>::LayerBackward(const Weights<Real>& weights, const Layer<Real>& layer, std::int64_t index)
    : m_weights(weights),
      m_prefix(WeightLayout::layer_prefix(index)),
      m_attention(gradient_part(weights.config(), {PartKind::attention, index})),
      m_rest(gradient_part(weights.config(), {PartKind::rest, index})),
      m_modules(layer.modules()) {
  for_each_matrix([&](kernels::ProductWeight<Real>& weight, const Array<const Real**>& matrix) {
    weight = ProductWeight<Real>(matrix, Transpose::yes);
  });
}

/// visit(transposed weight, matrix) for all of them.
template <class Real>
template <class Visit>
void LayerBackward<Real>::for_each_matrix(const Visit& visit) {
  const Architecture architecture = m_weights.config().architecture;
  const std::string attention = m_prefix + "attention.";
  const auto& chunk_projections = traits(architecture).chunk_projections;
  const auto matrix = [&](const std::string& name, std::size_t count = 1) {
    return m_weights.matrix(name + ".weight", static_cast<int>(count));
  };
  visit(m_project, matrix(attention + input_projections(architecture).front(), input_projections(architecture).size()));
  visit(m_out, matrix(attention + "out_proj"));
  visit(m_expand, matrix(m_prefix + "ff.0"));
  visit(m_contract, matrix(m_prefix + "ff.3"));
  if (!chunk_projections.empty())
    visit(m_project_chunk_ends,
          matrix(attention + chunk_projections.front(), size(ends_projected(m_weights.config()))));
  if (averages_router_keys(m_weights.config()))
    visit(m_project_chunk_means, matrix(attention + chunk_projections.back()));
}

template <class Real>
void LayerBackward<Real>::repack(const Execution& execution) {
  for_each_matrix([&](kernels::ProductWeight<Real>& weight, const Array<const Real**>& matrix) {
    weight.assign(execution, matrix);
  });
}

template <class Real>
std::int64_t LayerBackward<Real>::bytes(const ModelConfig& config) {
  const auto bytes = [](std::int64_t out, std::int64_t in) { return ProductWeight<Real>::bytes(out, in); };
  const std::int64_t width = config.attention_dim(), hidden = config.hidden_dim, ends = ends_projected(config);
  return bytes(hidden, projections_of(config.architecture) * width) + bytes(width, hidden) +
         bytes(hidden, config.ff_dim) + bytes(config.ff_dim, hidden) + (ends > 0 ? bytes(hidden, ends * hidden) : 0) +
         (averages_router_keys(config) ? bytes(hidden, hidden) : 0);
}

template <class Real>
Array<Real**> LayerBackward<Real>::matrix(const GradientPart& part, const Array<Real*>& sums,
                                          const std::string& name) const {
  const auto of_weights = m_weights.matrix(m_prefix + name);
  return Array<Real**>(sums.data() + part.place(m_weights.offset(m_prefix + name)), of_weights.extent(0),
                       of_weights.extent(1));
}

template <class Real>
Array<Real*> LayerBackward<Real>::vector(const GradientPart& part, const Array<Real*>& sums,
                                         const std::string& name) const {
  return Array<Real*>(sums.data() + part.place(m_weights.offset(m_prefix + name)),
                      m_weights.vector(m_prefix + name).extent(0));
}

template <class Real>
void LayerBackward<Real>::attend(const Execution& execution, const PaddingMask& mask,
                                 const GradientWorkspace<Real>& workspace, const Array<Real***>& x,
                                 LayerActivations<Real>& activations, Profile* profile) const {
  const Sequence& sequence = workspace.sequence();
  {
    const Phase phase(execution, profile, "project");
    project_tokens(execution, *m_modules, sequence, workspace.panels, x, activations.projections);
    if (m_modules->project_chunk_ends) {
      const PaddingMask& counted = workspace.attention->effective_mask(mask);
      project_chunk_ends(execution, *m_modules, sequence, counted, workspace.panels, x, activations.retrieval);
      if (m_modules->project_chunk_means)
        project_chunk_means<Real>(execution, *m_modules, sequence, counted, workspace.panels, x, nullptr,
                                  activations.retrieval);
    }
  }
  workspace.attention->forward(
      execution, mask, attention_input(m_weights, m_prefix, *m_modules, activations.projections, activations.retrieval),
      activations.heads, profile, nullptr, &activations.record);
}

template <class Real>
void LayerBackward<Real>::finish(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                 const LayerActivations<Real>& activations, const Array<Real***>& x, Profile* profile,
                                 const LayerDropout& dropout) const {
  const Phase phase(execution, profile, "finish");
  finish_tokens<Real>(execution, *m_modules, workspace.panels, activations.heads, x, activations.feed_forward, dropout);
}

/// m, z and a (without its bias) of a leaf, computed again.
template <class Real>
void LayerBackward<Real>::expand(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                 const LeafRows& leaf, const Array<Real***>& all_heads, const Array<Real***>& x,
                                 const LayerDropout& dropout) const {
  const kernels::DropoutOfRows after_out = dropout.from(leaf.batch, leaf.first).attention;
  const Array<Real**> heads = leaf_rows(all_heads, leaf), given = leaf_rows(x, leaf);
  const Array<Real**> middle = workspace.middle, normed = workspace.normed, expanded = workspace.expanded;
  const Array<const Real*> out_bias = m_modules->out.bias;
  const Norm<Real> norm = m_modules->ff_norm;
  const int width = static_cast<int>(heads.extent(1)), hidden = static_cast<int>(given.extent(1)),
            inner = static_cast<int>(expanded.extent(1));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    kernels::copy(team, width, &heads(t, 0), data);
  };
  const auto add_and_norm = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    kernels::copy(team, hidden, &given(t, 0), &middle(t, 0));
    after_out.add_with_bias(team, 0, t, hidden, data, out_bias.data(), &middle(t, 0));
    norm(team, &middle(t, 0), &normed(t, 0));
    kernels::copy(team, hidden, &normed(t, 0), data);
  };
  const auto store = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, const Real* data) {
    kernels::copy(team, inner, data, &expanded(t, 0));
  };
  kernels::panel_chain(execution, "bsbr::gradient::expand", rows_of(given), workspace.panels, load,
                       Stage{m_modules->out.weight, add_and_norm}, Stage{m_modules->expand.weight, store});
}

/// gelu(a) and dz of a leaf, from the gradient of its results; a (expanded) becomes da.
template <class Real>
void LayerBackward<Real>::contract_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                            const Array<Real**>& given, const Array<Real**>& expanded) const {
  const Array<Real**> activated = workspace.activated, normed_gradient = workspace.normed_gradient;
  const Array<const Real*> bias = m_modules->expand.bias;
  const int hidden = static_cast<int>(given.extent(1)), inner = static_cast<int>(expanded.extent(1));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    kernels::copy(team, hidden, &given(t, 0), data);
  };
  const auto differentiate = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    Real *a = &expanded(t, 0), *g = &activated(t, 0);
    kernels::copy(team, inner, a, g);
    kernels::gelu_with_bias(team, inner, bias.data(), g);
    kernels::gelu_gradient_with_bias(team, inner, a, bias.data(), data, data);
    kernels::copy(team, inner, data, a);
  };
  const auto store = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, const Real* data) {
    kernels::copy(team, hidden, data, &normed_gradient(t, 0));
  };
  kernels::panel_chain(execution, "bsbr::gradient::contract", rows_of(given), workspace.panels, load,
                       Stage{m_contract, differentiate}, Stage{m_expand, store});
}

/// do of a leaf from dm.
template <class Real>
void LayerBackward<Real>::heads_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                         const Array<Real**>& given, const Array<Real**>& target) const {
  const int hidden = static_cast<int>(given.extent(1)), width = static_cast<int>(target.extent(1));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    kernels::copy(team, hidden, &given(t, 0), data);
  };
  const auto store = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, const Real* data) {
    kernels::copy(team, width, data, &target(t, 0));
  };
  kernels::panel_chain(execution, "bsbr::gradient::heads", rows_of(given), workspace.panels, load, Stage{m_out, store});
}

/// From the result back to o, for one leaf: its gradient becomes that of m, and heads_gradients get do. That may take
/// the place of o, so it comes last.
template <class Real>
void LayerBackward<Real>::finish_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                          const LeafRows& leaf, const LayerActivations<Real>& activations,
                                          const Array<Real***>& x, const Array<Real***>& gradient,
                                          const Array<Real*>& sums, const LayerDropout& dropout) const {
  const auto of_leaf = [&](const Array<Real**>& rows) { return first_rows(rows, leaf.count); };
  const auto& [kept_middle, kept_expanded] = activations.feed_forward;
  const bool kept = kept_middle.is_allocated();
  const Array<Real**> given = leaf_rows(gradient, leaf), heads = leaf_rows(activations.heads, leaf);
  const Array<Real**> middle = kept ? leaf_rows(kept_middle, leaf) : of_leaf(workspace.middle),
                      expanded = kept ? leaf_rows(kept_expanded, leaf) : of_leaf(workspace.expanded);
  const auto add_linear = [&](const std::string& name, const Array<Real**>& dy, const Array<Real**>& input) {
    kernels::add_outer_product<Real>(execution, workspace.outer, dy, input, matrix(m_rest, sums, name + ".weight"));
    kernels::add_bias_gradient<Real>(execution, workspace.sums, dy, vector(m_rest, sums, name + ".bias"));
  };
  const auto through = [&](const kernels::DropoutOfRows& dropped) {
    if (!dropped.drops()) return given;
    const Array<Real**> left = workspace.spare_rows(leaf.count);
    kernels::drop_rows<Real>(execution, dropped, one_sequence(given), one_sequence(left));
    return left;
  };
  const auto [after_out, after_contract] = dropout.from(leaf.batch, leaf.first);
  kept ? norm_rows(execution, m_modules->ff_norm, middle, workspace.normed)
       : expand(execution, workspace, leaf, activations.heads, x, dropout);
  const Array<Real**> contracted = through(after_contract);
  contract_gradient(execution, workspace, contracted, expanded);
  add_linear("ff.3", contracted, of_leaf(workspace.activated));
  add_linear("ff.0", expanded, of_leaf(workspace.normed));
  kernels::add_norm_gradients<Real>(
      execution, workspace.sums, middle, m_modules->ff_norm.weight, of_leaf(workspace.normed_gradient), given,
      vector(m_rest, sums, "layer_norm2.weight"), vector(m_rest, sums, "layer_norm2.bias"));
  const Array<Real**> out = through(after_out);
  add_linear("attention.out_proj", out, heads);
  heads_gradient(execution, workspace, out, leaf_rows(workspace.heads_gradients(activations), leaf));
}

/// normed = norm(rows)
template <class Real>
void LayerBackward<Real>::norm_rows(const Execution& execution, const Norm<Real>& norm, const Array<Real**>& rows,
                                    const Array<Real**>& normed) const {
  const Norm<Real> function = norm;
  const Array<Real**> given = rows, target = normed;
  Kokkos::parallel_for(
      "bsbr::gradient::norm", kernels::team_policy(execution, static_cast<std::int64_t>(rows.extent(0)), 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t t = member.league_rank();
        function(kernels::as_team(member), &given(t, 0), &target(t, 0));
      });
}

/// Of r and h, as far as they are formed of them: their weights, and dy at the last real tokens of the leaf's chunks.
/// Gradients of chunks without one are 0.
template <class Real>
void LayerBackward<Real>::chunk_ends_gradient(const Execution& execution, const PaddingMask& mask,
                                              const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                                              const Array<Real*>& sums) const {
  const LeafRows chunks{leaf.index, leaf.batch, leaf.first_chunk, leaf.chunks, 0, 0};
  const Array<Real**> normed = workspace.normed, ends = workspace.chunk_ends,
                      normed_gradient = workspace.normed_gradient;
  const auto& names = traits(m_weights.config().architecture).chunk_projections;
  const int hidden = static_cast<int>(normed.extent(1)), count = ends_projected(m_weights.config());
  const auto last_real = workspace.attention->effective_mask(mask).last_real();
  const std::int64_t row = leaf.batch, first_chunk = leaf.first_chunk, first = leaf.first;
  const Array<Real****> gradients = workspace.retrieval_gradients;
  Kokkos::parallel_for(
      "bsbr::gradient::chunk_ends", kernels::team_policy(execution, leaf.chunks, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t chunk = member.league_rank(), t = last_real(row, first_chunk + chunk);
        kernels::for_each(kernels::as_team(member), hidden,
                          [&](const int i) { ends(chunk, i) = t < 0 ? Real(0) : normed(t - first, i); });
      });
  for (int i = 0; i < count; ++i) {
    const Array<Real**> of_chunks = leaf_rows(gradients, i, chunks);
    const std::string name = "attention." + names[size(i)];
    kernels::add_outer_product<Real>(execution, workspace.outer, of_chunks, first_rows(ends, leaf.chunks),
                                     matrix(m_attention, sums, name + ".weight"));
    kernels::add_bias_gradient<Real>(execution, workspace.sums, of_chunks, vector(m_attention, sums, name + ".bias"));
  }
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t chunk, Real* data) {
    for (int i = 0; i < count; ++i)
      kernels::copy(team, hidden, &gradients(i, row, first_chunk + chunk, 0), data + i * hidden);
  };
  const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t chunk, const Real* data) {
    const std::int64_t t = last_real(row, first_chunk + chunk);
    if (t < 0) return;
    Real* target = &normed_gradient(t - first, 0);
    kernels::for_each(team, hidden, [&](const int i) { target[i] += data[i]; });
  };
  kernels::panel_chain(execution, "bsbr::gradient::chunk_ends", Rows{1, leaf.chunks}, workspace.panels, load,
                       Stage{m_project_chunk_ends, add});
}

/// Of h, if it is formed of them: its weight, and dy at all real tokens of the leaf's chunks.
template <class Real>
void LayerBackward<Real>::chunk_means_gradient(const Execution& execution, const PaddingMask& mask,
                                               const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                                               const Array<Real*>& sums) const {
  const LeafRows chunks{leaf.index, leaf.batch, leaf.first_chunk, leaf.chunks, 0, 0};
  const Array<Real**> normed = workspace.normed, means = workspace.chunk_ends,
                      normed_gradient = workspace.normed_gradient;
  const int hidden = static_cast<int>(normed.extent(1));
  const ChunksOfLeaf all{workspace.attention->effective_mask(mask).tokens(), leaf.batch, leaf.first, leaf.count,
                         workspace.sequence().chunk_size()};
  Kokkos::parallel_for(
      "bsbr::gradient::chunk_means", kernels::team_policy(execution, leaf.chunks, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const std::int64_t chunk = member.league_rank();
        Real* mean = &means(chunk, 0);
        kernels::for_each(team, hidden, [&](const int i) { mean[i] = 0; });
        for (std::int64_t t = all.begin(chunk); t < all.end(chunk); ++t) {
          const Real* y = &normed(t, 0);
          if (all.is_real(t)) kernels::for_each(team, hidden, [&](const int i) { mean[i] += y[i]; });
        }
        const Real share = all.template share<Real>(chunk);
        kernels::for_each(team, hidden, [&](const int i) { mean[i] *= share; });
      });
  const int last = static_cast<int>(workspace.retrieval_gradients.extent(0)) - 1;
  const std::string name = "attention." + traits(m_weights.config().architecture).chunk_projections.back();
  const Array<Real**> of_chunks = leaf_rows(workspace.retrieval_gradients, last, chunks);
  kernels::add_outer_product<Real>(execution, workspace.outer, of_chunks, first_rows(means, leaf.chunks),
                                   matrix(m_attention, sums, name + ".weight"));
  kernels::add_bias_gradient<Real>(execution, workspace.sums, of_chunks, vector(m_attention, sums, name + ".bias"));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t chunk, Real* data) {
    kernels::copy(team, hidden, &of_chunks(chunk, 0), data);
  };
  const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t chunk, const Real* data) {
    const Real share = all.template share<Real>(chunk);
    for (std::int64_t t = all.begin(chunk); t < all.end(chunk); ++t) {
      Real* target = &normed_gradient(t, 0);
      if (all.is_real(t)) kernels::for_each(team, hidden, [&](const int i) { target[i] += share * data[i]; });
    }
  };
  kernels::panel_chain(execution, "bsbr::gradient::chunk_means", Rows{1, leaf.chunks}, workspace.panels, load,
                       Stage{m_project_chunk_means, add});
}

/// From q, k, v, r and h back to x, for one leaf: the gradient of m becomes that of x.
template <class Real>
void LayerBackward<Real>::project_gradient(const Execution& execution, const PaddingMask& mask,
                                           const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                                           const Array<Real***>& x, const Array<Real***>& gradient,
                                           const Array<Real*>& sums) const {
  const Array<Real**> normed = workspace.normed, normed_gradient = workspace.normed_gradient;
  const Array<Real****> gradients = workspace.projection_gradients;
  const auto& names = input_projections(m_weights.config().architecture);
  const int count = static_cast<int>(names.size()), width = static_cast<int>(gradients.extent(3)),
            hidden = static_cast<int>(normed.extent(1));
  norm_rows(execution, m_modules->attention_norm, leaf_rows(x, leaf), normed);
  for (int i = 0; i < count; ++i) {
    const Array<Real**> of_rows = leaf_rows(gradients, i, leaf);
    const std::string name = "attention." + names[size(i)];
    kernels::add_outer_product<Real>(execution, workspace.outer, of_rows, first_rows(normed, leaf.count),
                                     matrix(m_attention, sums, name + ".weight"));
    kernels::add_bias_gradient<Real>(execution, workspace.sums, of_rows, vector(m_attention, sums, name + ".bias"));
  }
  const std::int64_t row = leaf.batch, first = leaf.first;
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, Real* data) {
    for (int i = 0; i < count; ++i) kernels::copy(team, width, &gradients(i, row, first + t, 0), data + i * width);
  };
  const auto store = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t t, const Real* data) {
    kernels::copy(team, hidden, data, &normed_gradient(t, 0));
  };
  kernels::panel_chain(execution, "bsbr::gradient::project", Rows{1, leaf.count}, workspace.panels, load,
                       Stage{m_project, store});
  if (m_modules->project_chunk_ends) chunk_ends_gradient(execution, mask, workspace, leaf, sums);
  if (m_modules->project_chunk_means) chunk_means_gradient(execution, mask, workspace, leaf, sums);
  kernels::add_norm_gradients<Real>(execution, workspace.sums, leaf_rows(x, leaf), m_modules->attention_norm.weight,
                                    first_rows(normed_gradient, leaf.count), leaf_rows(gradient, leaf),
                                    vector(m_attention, sums, "layer_norm1.weight"),
                                    vector(m_attention, sums, "layer_norm1.bias"));
}

/// The gradients of the attention's own weights, of which it has formed the sums of each leaf.
template <class Real>
void LayerBackward<Real>::take_own_weights(const Execution& execution, const AttentionGradient<Real>& gradient,
                                           std::size_t leaf, const Array<Real*>& sums) const {
  const auto take_matrix = [&](const std::string& name, const Array<Real***>& of_leaves) {
    Kokkos::deep_copy(execution, matrix(m_attention, sums, name),
                      Kokkos::subview(of_leaves, leaf, Kokkos::ALL(), Kokkos::ALL()));
  };
  const auto take_vector = [&](const std::string& name, const Array<Real**>& of_leaves) {
    Kokkos::deep_copy(execution, vector(m_attention, sums, name), Kokkos::subview(of_leaves, leaf, Kokkos::ALL()));
  };
  const ModelConfig& config = m_weights.config();
  if (has_null_chunk(config)) take_vector("attention.null_logit", gradient.null_logit);
  if (gates_retrieval(config)) take_vector("attention.retrieval_gate", gradient.retrieval_gate);
  if (!compresses_states(config)) return;
  take_matrix("attention.compress_proj.weight", gradient.compress_weight);
  take_matrix("attention.decompress_proj.weight", gradient.decompress_weight);
  take_vector("attention.compress_proj.bias", gradient.compress_bias);
  take_vector("attention.decompress_proj.bias", gradient.decompress_bias);
}

template <class Real>
void LayerBackward<Real>::finish_backward(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                          const Array<Real***>& x, const LayerActivations<Real>& activations,
                                          const Array<Real***>& gradient, parallel::LeafSums<Real>& sums,
                                          std::int64_t first_leaf, Profile* profile,
                                          const LayerDropout& dropout) const {
  const Phase phase(execution, profile, "finish");
  for (const LeafRows& leaf : workspace.leaves()) {
    finish_gradient(execution, workspace, leaf, activations, x, gradient, sums.leaf(), dropout);
    sums.join(first_leaf + leaf.index);
  }
}

template <class Real>
void LayerBackward<Real>::attention_backward(const Execution& execution, const PaddingMask& mask,
                                             const GradientWorkspace<Real>& workspace,
                                             const LayerActivations<Real>& activations, Profile* profile) const {
  workspace.attention->backward(
      execution, mask, attention_input(m_weights, m_prefix, *m_modules, activations.projections, activations.retrieval),
      activations.record, activations.heads, workspace.heads_gradients(activations), workspace.gradient, profile);
}

template <class Real>
void LayerBackward<Real>::project_backward(const Execution& execution, const PaddingMask& mask,
                                           const GradientWorkspace<Real>& workspace, const Array<Real***>& x,
                                           const Array<Real***>& gradient, parallel::LeafSums<Real>& sums,
                                           std::int64_t first_leaf, Profile* profile) const {
  const Phase phase(execution, profile, "project");
  for (std::size_t i = 0; i < workspace.leaves().size(); ++i) {
    const LeafRows& leaf = workspace.leaves()[i];
    const Array<Real*>& of_leaf = sums.leaf();
    project_gradient(execution, mask, workspace, leaf, x, gradient, of_leaf);
    take_own_weights(execution, workspace.gradient, i, of_leaf);
    sums.join(first_leaf + leaf.index);
  }
}

template struct LayerActivations<float>;
template struct LayerActivations<double>;
template class GradientWorkspace<float>;
template class GradientWorkspace<double>;
template class LayerBackward<float>;
template class LayerBackward<double>;

}  // namespace bsbr
