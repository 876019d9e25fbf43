// Loss and gradients of a whole model: forward, and then backward layer by layer.
#include "bsbr/gradient.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "attention/attention.hpp"
#include "attention/overlap.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "kernels/embedding.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "model/allocate.hpp"
#include "model/layer_gradient.hpp"
#include "model/stages.hpp"
#include "model/token_losses.hpp"
#include "parallel/agree.hpp"
#include "parallel/reduce_scatter.hpp"

namespace bsbr {
namespace {

/// A leaf's part of an array [batch, local tokens] or [batch, local tokens, width].
template <class Number>
Array<Number*> of_leaf(const Array<Number**>& rows, const LeafRows& leaf) {
  return Array<Number*>(rows.data() + leaf.batch * static_cast<std::int64_t>(rows.extent(1)) + leaf.first,
                        static_cast<std::size_t>(leaf.count));
}
template <class Number>
Array<Number**> of_leaf(const Array<Number***>& rows, const LeafRows& leaf) {
  const auto width = static_cast<std::int64_t>(rows.extent(2)), tokens = static_cast<std::int64_t>(rows.extent(1));
  return Array<Number**>(rows.data() + (leaf.batch * tokens + leaf.first) * width, static_cast<std::size_t>(leaf.count),
                         static_cast<std::size_t>(width));
}

}  // namespace

/// What the model is made of, forwards and backwards.
template <class Real>
struct ModelGradient<Real>::Modules {
  Weights<Real> weights;
  std::vector<Layer<Real>> layers;
  std::vector<LayerGradient<Real>> gradients;
  std::vector<kernels::ProductWeight<Real>> head, transposed_head;  // blocks of the vocabulary

  explicit Modules(const Weights<Real>& of_model)
      : weights(of_model),
        head(kernels::vocabulary_blocks<Real>(head_matrix(of_model))),
        transposed_head(kernels::vocabulary_blocks<Real>(head_matrix(of_model), kernels::Transpose::yes)) {
    for (std::int64_t index = 0; index < of_model.config().num_layers; ++index) {
      layers.emplace_back(weights, index);
      gradients.emplace_back(weights, layers.back(), index);
    }
  }

  // Public because CUDA's compiler wants functions that hold kernels to be.
  void head_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                     const Array<Real***>& x, const Array<const std::int32_t**>& targets,
                     const Array<double**>& log_sums, double scale, const Array<Real***>& gradient,
                     const Array<Real*>& sums, const Array<Real**>& head_sums) const;
};

template <class Real>
ModelGradient<Real>::ModelGradient(const Weights<Real>& weights) : m_modules(std::make_shared<Modules>(weights)) {}

Sequence gradient_sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size) {
  const bool valid = length >= 0 && chunk_size > 0;  // Sequence refuses the others
  return {comm, batch, length, chunk_size, 0, valid ? parallel::leaf_chunks(length, chunk_size) : 1};
}

/// From the loss of a leaf's tokens back to the input of the final norm: gradient = its gradient.
template <class Real>
void ModelGradient<Real>::Modules::head_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                                 const LeafRows& leaf, const Array<Real***>& x,
                                                 const Array<const std::int32_t**>& targets,
                                                 const Array<double**>& log_sums, double scale,
                                                 const Array<Real***>& gradient, const Array<Real*>& sums,
                                                 const Array<Real**>& head_sums) const {
  const Norm<Real> norm(weights, "layer_norm");
  const Array<Real**> given = of_leaf(x, leaf), target = of_leaf(gradient, leaf), normed = workspace.normed,
                      normed_gradient = workspace.normed_gradient;
  const int hidden = static_cast<int>(given.extent(1));
  Kokkos::parallel_for(
      "bsbr::gradient::final_norm", kernels::team_policy(execution, leaf.count, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const std::int64_t t = member.league_rank();
        norm(team, &given(t, 0), &normed(t, 0));
        kernels::for_each(team, hidden, [&](const int i) { normed_gradient(t, i) = target(t, i) = 0; });
      });
  const auto rows = [&](const Array<Real**>& array) {
    return Array<Real**>(array.data(), static_cast<std::size_t>(leaf.count), array.extent(1));
  };
  kernels::add_token_loss_gradient<Real>(
      execution, workspace.panels, workspace.outer, workspace.logits, head, transposed_head, rows(normed),
      {of_leaf(targets, leaf), of_leaf(log_sums, leaf)}, scale, rows(normed_gradient), head_sums);
  const auto vector = [&](std::int64_t offset) {
    return Array<Real*>(sums.data() + offset, static_cast<std::size_t>(hidden));
  };
  kernels::add_norm_gradients<Real>(execution, workspace.sums, given, norm.weight, rows(normed_gradient), target,
                                    vector(0), vector(hidden));
}

/// How many weights are summed together.
struct SummedElements {
  std::int64_t head, attention, rest, embedding;  // with the final norm; with the layer's first norm

  explicit SummedElements(const ModelConfig& config) {
    const LayerParts layer(config, 0);
    embedding = config.vocab_size * config.hidden_dim;
    head = 2 * config.hidden_dim + embedding;
    attention = layer.attention.elements + layer.norm1.elements;
    rest = layer.rest.elements;
  }
};

/// Some of the model's weights, the sums of their gradients over this rank's leaves, and over all ranks.
template <class Real>
struct SummedPart {
  parallel::LeafSums<Real> leaves;
  parallel::OrderedReduceScatter<Real> ranks;
  Array<Real*> total;  // on all ranks

  SummedPart(const Execution& execution, const Sequence& sequence, const parallel::Leaves& all, std::int64_t elements)
      : leaves(execution, all, elements),
        ranks(execution, sequence, elements),
        total("bsbr::gradient::total", static_cast<std::size_t>(elements)) {}

  static std::int64_t bytes(const Sequence& sequence, const parallel::Leaves& all, std::int64_t elements) {
    return parallel::LeafSums<Real>::bytes(all, elements) +
           parallel::OrderedReduceScatter<Real>::bytes(sequence, elements) +
           elements * static_cast<std::int64_t>(sizeof(Real));
  }

  /// total = the sum over the leaves of all ranks. Collective.
  void reduce(const Execution& execution, const Sequence& sequence, Profile* profile) {
    const Phase phase(execution, profile, "exchange");
    ranks.start(leaves);
    const Array<Real*> part = ranks.wait();
    if (profile != nullptr) profile->sent("gradients", ranks.bytes_sent(), ranks.messages_sent());
    const auto parts = parallel::all_parts(execution, sequence.comm(), part, total);
    attention::finish(*parts, "gradients", profile);
    leaves.clear();
  }
};

/// One loss with its gradients: what is kept between forward and backward, and the buffers of both.
template <class Real>
class ModelGradient<Real>::Pass {
 public:
  /// Collective; checks the arguments, and allocates all memory but the attentions' own.
  Pass(const Modules& modules, const Execution& execution, const Sequence& sequence,
       const Array<const std::int32_t**>& ids, const Array<const std::int32_t**>& targets, const PaddingMask& mask,
       Recompute recompute, Profile* profile)
      : m_modules(modules),
        m_config(modules.weights.config()),
        m_execution(execution),
        m_sequence(sequence),
        m_ids(ids),
        m_targets(targets),
        m_mask(mask),
        m_profile(profile),
        m_recompute(recompute) {
    parallel::agree(sequence.comm(), [&] { allocate_all(); });
  }

  LossAndGradients<Real> run() {
    forward();
    const double scale = form_losses();
    head_backward(scale);
    for (std::size_t index = layers(); index-- > 0;) layer_backward(index);
    embedding_backward();
    m_execution.fence();
    return *m_result;
  }

  // Public because CUDA's compiler wants functions that hold kernels to be.
  void embedding_backward();

 private:
  std::size_t layers() const { return m_modules.gradients.size(); }
  std::int64_t table() const { return m_config.vocab_size * m_config.hidden_dim; }
  bool tied() const { return m_config.head == Head::tied; }
  /// Of a layer, or of all layers one after the other.
  LayerActivations<Real>& activations(std::size_t index) {
    return m_activations[m_recompute == Recompute::none ? index : 0];
  }
  /// The gradients of some weights.
  Array<Real*> gradients(std::int64_t offset, std::int64_t elements) const {
    return Array<Real*>(m_result->gradients.data().data() + offset, static_cast<std::size_t>(elements));
  }
  /// Of a total, the elements that belong to these weights.
  void take(std::int64_t offset, std::int64_t elements, const Array<Real*>& total, std::int64_t first) const {
    Kokkos::deep_copy(m_execution, gradients(offset, elements),
                      Array<Real*>(total.data() + first, static_cast<std::size_t>(elements)));
  }
  Array<Real**> as_table(const Array<Real*>& sums, std::int64_t first) const {
    return Array<Real**>(sums.data() + first, static_cast<std::size_t>(m_config.vocab_size),
                         static_cast<std::size_t>(m_config.hidden_dim));
  }

  void allocate_all();
  void forward();
  double form_losses();
  void head_backward(double scale);
  void layer_backward(std::size_t index);

  const Modules& m_modules;
  const ModelConfig& m_config;
  Execution m_execution;
  Sequence m_sequence;
  Array<const std::int32_t**> m_ids, m_targets;
  PaddingMask m_mask;
  Profile* m_profile;
  Recompute m_recompute;

  std::vector<Array<Real***>> m_inputs;  // of each layer, and of the final norm
  std::vector<LayerActivations<Real>> m_activations;
  Array<Real***> m_gradient;  // of what has been an input, or is one; before that the hidden states
  Array<double**> m_log_sums;
  std::optional<GradientWorkspace<Real>> m_workspace;
  std::optional<SummedPart<Real>> m_head, m_attention, m_rest, m_embedding;
  std::optional<LossAndGradients<Real>> m_result;
};

template <class Real>
void ModelGradient<Real>::Pass::allocate_all() {
  if (m_sequence.chunk_size() != m_config.chunk_size) {
    throw ShapeError("the sequence has chunk_size = " + std::to_string(m_sequence.chunk_size()) +
                     ", the model has chunk_size = " + std::to_string(m_config.chunk_size));
  }
  const std::int64_t batch = m_sequence.batch(), tokens = m_sequence.local_tokens();
  const parallel::Leaves leaves(m_sequence);
  validate_ids(m_execution, m_sequence, m_ids, m_config.vocab_size);
  for (std::size_t i = 0; i <= layers(); ++i)
    m_inputs.push_back(allocate<Real***>("gradient::inputs", batch, tokens, m_config.hidden_dim));
  for (std::size_t i = 0; i < (m_recompute == Recompute::none ? layers() : 1); ++i)
    m_activations.emplace_back(m_config, m_sequence);
  m_gradient = allocate<Real***>("gradient::rows", batch, tokens, m_config.hidden_dim);
  m_workspace.emplace(m_config, m_sequence, local_leaves(m_sequence, leaves));
  const SummedElements elements(m_config);
  m_head.emplace(m_execution, m_sequence, leaves, elements.head);
  m_attention.emplace(m_execution, m_sequence, leaves, elements.attention);
  m_rest.emplace(m_execution, m_sequence, leaves, elements.rest);
  m_embedding.emplace(m_execution, m_sequence, leaves, elements.embedding);
  m_result.emplace(LossAndGradients<Real>{{}, {}, WeightArray<Real>(m_config, "gradients")});
}

template <class Real>
void ModelGradient<Real>::Pass::forward() {
  {
    const Phase phase(m_execution, m_profile, "embedding");
    kernels::embed(m_execution, m_ids, m_modules.weights.matrix("embedding.weight"), m_sequence.first_token(),
                   m_inputs[0]);
  }
  for (std::size_t index = 0; index < layers(); ++index) {
    const LayerGradient<Real>& layer = m_modules.gradients[index];
    layer.attend(m_execution, m_mask, *m_workspace, m_inputs[index], activations(index), m_profile);
    Kokkos::deep_copy(m_execution, m_inputs[index + 1], m_inputs[index]);
    layer.finish(m_execution, *m_workspace, activations(index), m_inputs[index + 1], m_profile);
  }
}

/// Returns what the losses of tokens are multiplied by in their mean.
template <class Real>
double ModelGradient<Real>::Pass::form_losses() {
  {
    const Phase phase(m_execution, m_profile, "final_norm");
    Kokkos::deep_copy(m_execution, m_gradient, m_inputs.back());
    final_norm(m_execution, m_modules.weights, m_gradient);
  }
  const TokenLosses losses = form_token_losses<Real>(m_execution, m_sequence, m_config, m_modules.head,
                                                     m_workspace->panels, m_gradient, m_targets, m_profile);
  m_log_sums = losses.log_sum;
  m_result->token_losses = losses.loss;
  m_result->loss = mean_loss(m_sequence, losses.loss, m_targets);
  return m_result->loss.counted == 0 ? 0 : 1 / static_cast<double>(m_result->loss.counted);
}

/// Of the final norm and of the head's matrix, which stands behind it.
template <class Real>
void ModelGradient<Real>::Pass::head_backward(double scale) {
  const std::int64_t norm = 2 * m_config.hidden_dim;
  {
    const Phase phase(m_execution, m_profile, "head");
    for (const LeafRows& leaf : m_workspace->leaves()) {
      const Array<Real*>& sums = m_head->leaves.leaf();
      m_modules.head_gradient(m_execution, *m_workspace, leaf, m_inputs.back(), m_targets, m_log_sums, scale,
                              m_gradient, sums, as_table(sums, norm));
      m_head->leaves.join(leaf.index);
    }
  }
  m_head->reduce(m_execution, m_sequence, m_profile);
  take(m_modules.weights.offset("layer_norm.weight"), norm, m_head->total, 0);
  if (!tied()) take(m_modules.weights.offset("lm_head.weight"), table(), m_head->total, norm);
}

template <class Real>
void ModelGradient<Real>::Pass::layer_backward(std::size_t index) {
  const LayerGradient<Real>& layer = m_modules.gradients[index];
  // What the last layer's forward has left is still there.
  if (m_recompute == Recompute::all && index + 1 < layers())
    layer.attend(m_execution, m_mask, *m_workspace, m_inputs[index], activations(index), m_profile);
  layer.backward(m_execution, m_mask, *m_workspace, m_inputs[index], activations(index), m_gradient,
                 m_attention->leaves, m_rest->leaves, m_profile);
  m_attention->reduce(m_execution, m_sequence, m_profile);
  m_rest->reduce(m_execution, m_sequence, m_profile);
  const auto& [own, rest, norm1] = layer.parts();
  take(rest.offset, rest.elements, m_rest->total, 0);  // with 0 for norm1, which is taken after it
  take(own.offset, own.elements, m_attention->total, 0);
  take(norm1.offset, norm1.elements, m_attention->total, own.elements);
}

/// A tied head's part joins at the end.
template <class Real>
void ModelGradient<Real>::Pass::embedding_backward() {
  {
    const Phase phase(m_execution, m_profile, "embedding");
    for (const LeafRows& leaf : m_workspace->leaves()) {
      kernels::add_embedding_gradient<Real>(m_execution, of_leaf(m_ids, leaf), of_leaf(m_gradient, leaf),
                                            as_table(m_embedding->leaves.leaf(), 0));
      m_embedding->leaves.join(leaf.index);
    }
  }
  m_embedding->reduce(m_execution, m_sequence, m_profile);
  const std::int64_t norm = 2 * m_config.hidden_dim;
  const Array<Real*> target = gradients(m_modules.weights.offset("embedding.weight"), table());
  const Array<const Real*> of_tokens = m_embedding->total, of_head = m_head->total;
  const bool joins = tied();
  Kokkos::parallel_for(
      "bsbr::gradient::embedding", Kokkos::RangePolicy<Execution>(m_execution, 0, table()),
      KOKKOS_LAMBDA(const std::int64_t i) { target(i) = joins ? of_tokens(i) + of_head(norm + i) : of_tokens(i); });
}

template <class Real>
LossAndGradients<Real> ModelGradient<Real>::compute(const Execution& execution, const Sequence& sequence,
                                                    const Array<const std::int32_t**>& ids,
                                                    const Array<const std::int32_t**>& targets,
                                                    const std::optional<Array<const std::uint8_t**>>& mask,
                                                    Profile* profile, Recompute recompute) const {
  const PaddingMask padding = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence);
  return Pass(*m_modules, execution, sequence, ids, targets, padding, recompute, profile).run();
}

template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute) {
  const parallel::Leaves leaves(sequence);
  const SummedElements elements(config);
  const auto real = static_cast<std::int64_t>(sizeof(Real)), layers = std::int64_t{config.num_layers};
  const std::int64_t tokens = sequence.batch() * sequence.local_tokens(), hidden = config.hidden_dim,
                     kept_layers = recompute == Recompute::none ? layers : 1;
  const auto head = &kernels::vocabulary_bytes<Real>;
  const std::int64_t weights = packed_weight_bytes<Real>(config) + layers * LayerGradient<Real>::bytes(config) +
                               head(config.vocab_size, hidden, kernels::Transpose::no) +
                               head(config.vocab_size, hidden, kernels::Transpose::yes);
  const std::int64_t rows = tokens * ((layers + 2) * hidden * real + 2 * static_cast<std::int64_t>(sizeof(double)));
  std::int64_t sums = 0;
  for (const std::int64_t count : {elements.head, elements.attention, elements.rest, elements.embedding})
    sums += SummedPart<Real>::bytes(sequence, leaves, count);
  return weights + rows + kept_layers * LayerActivations<Real>::bytes(config, sequence) +
         GradientWorkspace<Real>::bytes(config, sequence, local_leaves(sequence, leaves)) + sums +
         parameter_count(config) * real;
}

template std::int64_t gradient_bytes<float>(const ModelConfig&, const Sequence&, Recompute);
template std::int64_t gradient_bytes<double>(const ModelConfig&, const Sequence&, Recompute);
template class ModelGradient<float>;
template class ModelGradient<double>;

}  // namespace bsbr
