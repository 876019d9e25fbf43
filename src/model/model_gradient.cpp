// Loss and gradients of a whole model: forward, and then backward layer by layer.
#include <optional>
#include <string>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/gradient.hpp"
#include "bsbr/model.hpp"
#include "kernels/embedding.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "model/allocate.hpp"
#include "model/gradient_buffers.hpp"
#include "model/layer_backward.hpp"
#include "model/stages.hpp"
#include "model/targets.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

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

/// The same as a batch of one sequence.
template <class Number>
Array<Number**> one_sequence(const Array<Number*>& rows) {
  return Array<Number**>(rows.data(), 1, rows.extent(0));
}
template <class Number>
Array<Number***> one_sequence(const Array<Number**>& rows) {
  return Array<Number***>(rows.data(), 1, rows.extent(0), rows.extent(1));
}

}  // namespace

/// What the model is made of, forwards and backwards.
template <class Real>
struct ModelGradient<Real>::Modules {
  Weights<Real> weights;
  std::vector<Layer<Real>> layers;
  std::vector<LayerBackward<Real>> backward;
  std::vector<kernels::ProductWeight<Real>> head, transposed_head;  // blocks of the vocabulary

  explicit Modules(const Weights<Real>& of_model)
      : weights(of_model),
        head(kernels::vocabulary_blocks<Real>(head_matrix(of_model))),
        transposed_head(kernels::vocabulary_blocks<Real>(head_matrix(of_model), kernels::Transpose::yes)) {
    for (std::int64_t index = 0; index < of_model.config().num_layers; ++index) {
      layers.emplace_back(weights, index);
      backward.emplace_back(weights, layers.back(), index);
    }
  }

  // Public because CUDA's compiler wants functions that hold kernels to be.
  void head_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace, const Array<Real**>& x,
                    const Array<const std::int32_t*>& targets, double scale, const Array<double*>& losses,
                    const Array<Real*>& sums, const Array<Real**>& head_sums) const;
};

/// The loss of a leaf's tokens, and the way back to the input of the final norm: x becomes its gradient.
/// \param sums of the final norm's weight and bias
template <class Real>
void ModelGradient<Real>::Modules::head_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                                const Array<Real**>& x, const Array<const std::int32_t*>& targets,
                                                double scale, const Array<double*>& losses, const Array<Real*>& sums,
                                                const Array<Real**>& head_sums) const {
  const Norm<Real> norm(weights, "layer_norm");
  const auto count = static_cast<std::int64_t>(x.extent(0));
  const int hidden = static_cast<int>(x.extent(1));
  const auto rows = [&](const Array<Real**>& array) {
    return Array<Real**>(array.data(), static_cast<std::size_t>(count), array.extent(1));
  };
  const Array<Real**> given = rows(workspace.middle), normed = rows(workspace.normed),
                      normed_gradient = rows(workspace.normed_gradient);
  const Array<double*> log_sums(workspace.log_sums.data(), static_cast<std::size_t>(count));
  Kokkos::parallel_for(
      "bsbr::gradient::final_norm", kernels::team_policy(execution, count, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const std::int64_t t = member.league_rank();
        norm(team, &x(t, 0), &normed(t, 0));
        kernels::for_each(team, hidden, [&](const int i) {
          given(t, i) = x(t, i);
          normed_gradient(t, i) = x(t, i) = 0;
        });
      });
  kernels::token_losses<Real>(execution, head, workspace.panels, one_sequence(normed), one_sequence(targets),
                              one_sequence(losses), one_sequence(log_sums));
  kernels::add_token_loss_gradient<Real>(execution, workspace.panels, workspace.outer, workspace.logits, head,
                                         transposed_head, normed, {targets, log_sums}, scale, normed_gradient,
                                         head_sums);
  const auto vector = [&](int offset) { return Array<Real*>(sums.data() + offset, static_cast<std::size_t>(hidden)); };
  kernels::add_norm_gradients<Real>(execution, workspace.sums, given, norm.weight, normed_gradient, x, vector(0),
                                    vector(hidden));
}

/// One loss with its gradients.
template <class Real>
class ModelGradient<Real>::Pass {
 public:
  /// Collective; checks the arguments, and allocates the result.
  Pass(const Modules& modules, ModelGradientBuffers<Real>& buffers, const Execution& execution,
       const Array<const std::int32_t**>& ids, const Array<const std::int32_t**>& targets, const PaddingMask& mask,
       Profile* profile)
      : m_modules(modules),
        m_config(modules.weights.config()),
        m_buffers(buffers),
        m_execution(execution),
        m_sequence(buffers.sequence),
        m_ids(ids),
        m_targets(targets),
        m_mask(mask),
        m_profile(profile) {
    parallel::agree(m_sequence.comm(), [&] {
      validate_ids(m_execution, m_sequence, m_ids, m_config.vocab_size);
      m_counted = count_targets(m_execution, m_sequence, m_targets, m_config.vocab_size);
      m_result.emplace(LossAndGradients<Real>{
          {},
          allocate<double**>("gradient::token_losses", m_sequence.batch(), m_sequence.local_tokens()),
          WeightArray<Real>(m_config, "gradients")});
    });
  }

  LossAndGradients<Real> run() {
    embed();
    for (std::size_t index = 0; index < layers(); ++index) layer_forward(index);
    head();
    for (std::size_t index = layers(); index-- > 0;) layer_backward(index);
    if (layers() > 0) {
      m_buffers.attention.share(m_profile);
      take_attention(0);
    }
    embedding_backward();
    m_execution.fence();
    return *m_result;
  }

  // Public because CUDA's compiler wants functions that hold kernels to be.
  void embedding_backward();

 private:
  std::size_t layers() const { return m_modules.backward.size(); }
  std::int64_t table() const { return m_config.vocab_size * m_config.hidden_dim; }
  bool tied() const { return m_config.head == Head::tied; }
  const Array<Real*>& gradients() const { return m_result->gradients.data(); }
  Array<Real**> as_table(const Array<Real*>& sums, std::int64_t first) const {
    return Array<Real**>(sums.data() + first, static_cast<std::size_t>(m_config.vocab_size),
                         static_cast<std::size_t>(m_config.hidden_dim));
  }

  void embed();
  void layer_forward(std::size_t index);
  void head();
  void layer_backward(std::size_t index);
  void take_attention(std::size_t index);

  const Modules& m_modules;
  const ModelConfig& m_config;
  ModelGradientBuffers<Real>& m_buffers;
  Execution m_execution;
  Sequence m_sequence;
  Array<const std::int32_t**> m_ids, m_targets;
  PaddingMask m_mask;
  Profile* m_profile;
  std::int64_t m_counted = 0;  // targets of this rank
  std::optional<LossAndGradients<Real>> m_result;
};

/// The first layer's input.
template <class Real>
void ModelGradient<Real>::Pass::embed() {
  const Phase phase(m_execution, m_profile, "embedding");
  kernels::embed(m_execution, m_ids, m_modules.weights.matrix("embedding.weight"), m_sequence.first_token(),
                 m_buffers.input(0));
}

template <class Real>
void ModelGradient<Real>::Pass::layer_forward(std::size_t index) {
  const LayerBackward<Real>& layer = m_modules.backward[index];
  LayerActivations<Real>& activations = m_buffers.activations_of(index);
  const Array<Real***>&x = m_buffers.input(index), result = m_buffers.input(index + 1);
  layer.attend(m_execution, m_mask, m_buffers.workspace, x, activations, m_profile);
  if (result.data() != x.data()) Kokkos::deep_copy(m_execution, result, x);
  layer.finish(m_execution, m_buffers.workspace, activations, result, m_profile);
}

/// The loss, and the gradients of the final norm and of the head's matrix behind it.
template <class Real>
void ModelGradient<Real>::Pass::head() {
  const std::int64_t norm = 2 * m_config.hidden_dim,
                     counted = parallel::all_reduce(m_counted, MPI_SUM, m_sequence.comm());
  const double scale = counted == 0 ? 0 : 1 / static_cast<double>(counted);
  parallel::LeafSums<Real>& leaves = m_buffers.head.leaves();
  {
    const Phase phase(m_execution, m_profile, "head");
    for (const LeafRows& leaf : m_buffers.workspace.leaves()) {
      const Array<Real*>& sums = leaves.leaf();
      m_modules.head_of_leaf(m_execution, m_buffers.workspace, of_leaf(m_buffers.gradient(), leaf),
                             of_leaf(m_targets, leaf), scale, of_leaf(m_result->token_losses, leaf), sums,
                             as_table(sums, norm));
      leaves.join(leaf.index);
    }
    m_execution.fence();
  }
  m_buffers.head.start(m_profile);
  m_result->loss = mean_loss(m_sequence, m_result->token_losses, m_targets);
  m_buffers.head.share(m_profile);
  const Array<Real*>& total = m_buffers.head.finish(m_profile);
  const auto offset = [&](const char* name) { return m_modules.weights.offset(name); };
  take(m_execution, total, 0, {offset("layer_norm.weight"), norm}, gradients());
  take(m_execution, total, norm, {offset(tied() ? "embedding.weight" : "lm_head.weight"), table()}, gradients());
}

/// Sums of gradients are on their way while others are formed: those of `rest` during the attention, those of
/// `attention` during the layer before.
template <class Real>
void ModelGradient<Real>::Pass::layer_backward(std::size_t index) {
  const LayerBackward<Real>& layer = m_modules.backward[index];
  const GradientWorkspace<Real>& workspace = m_buffers.workspace;
  const Array<Real***>&x = m_buffers.input(index), gradient = m_buffers.gradient();
  LayerActivations<Real>& activations = m_buffers.activations_of(index);
  const bool is_last = index + 1 == layers();
  if (index == 0) embed();
  // What the last layer's forward has left is still there.
  if (m_buffers.recompute == Recompute::all && !is_last)
    layer.attend(m_execution, m_mask, workspace, x, activations, m_profile);
  if (!is_last) m_buffers.attention.share(m_profile);
  layer.finish_backward(m_execution, workspace, x, activations, gradient, m_buffers.rest.leaves(), m_profile);
  m_buffers.rest.start(m_profile);
  layer.attention_backward(m_execution, m_mask, workspace, activations, m_profile);
  m_buffers.rest.share(m_profile);
  if (!is_last) take_attention(index + 1);
  layer.project_backward(m_execution, m_mask, workspace, x, gradient, m_buffers.attention.leaves(), m_profile);
  m_buffers.attention.start(m_profile);
  layer.take_rest(m_execution, m_buffers.rest.finish(m_profile), gradients());
}

template <class Real>
void ModelGradient<Real>::Pass::take_attention(std::size_t index) {
  m_modules.backward[index].take_attention(m_execution, m_buffers.attention.finish(m_profile), gradients());
}

/// A tied head's part, which is there, joins at the end.
template <class Real>
void ModelGradient<Real>::Pass::embedding_backward() {
  {
    const Phase phase(m_execution, m_profile, "embedding");
    for (const LeafRows& leaf : m_buffers.workspace.leaves()) {
      kernels::add_embedding_gradient<Real>(m_execution, of_leaf(m_ids, leaf), of_leaf(m_buffers.gradient(), leaf),
                                            as_table(m_buffers.embedding.leaves().leaf(), 0));
      m_buffers.embedding.leaves().join(leaf.index);
    }
  }
  m_buffers.embedding.start(m_profile);
  m_buffers.embedding.share(m_profile);
  const Array<const Real*> of_tokens = m_buffers.embedding.finish(m_profile);
  const Array<Real*> target(gradients().data() + m_modules.weights.offset("embedding.weight"),
                            static_cast<std::size_t>(table()));
  const bool joins = tied();
  Kokkos::parallel_for(
      "bsbr::gradient::embedding", Kokkos::RangePolicy<Execution>(m_execution, 0, table()),
      KOKKOS_LAMBDA(const std::int64_t i) { target(i) = joins ? of_tokens(i) + target(i) : of_tokens(i); });
}

template <class Real>
ModelGradient<Real>::ModelGradient(const Weights<Real>& weights) : m_modules(std::make_shared<Modules>(weights)) {}

/// On all ranks the buffers of this sequence and way to compute, new ones unless they are there.
template <class Real>
void ModelGradient<Real>::prepare(const Execution& execution, const Sequence& sequence, Recompute recompute) {
  const ModelConfig& config = m_modules->weights.config();
  const bool kept =
      m_buffers != nullptr && m_buffers->recompute == recompute && same_part(m_buffers->sequence, sequence);
  if (!kept)
    m_buffers.reset();  // the old ones' memory first; on all ranks at once, since a communicator may go with it
  parallel::agree(sequence.comm(), [&] {
    if (sequence.chunk_size() != config.chunk_size) {
      throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                       ", the model has chunk_size = " + std::to_string(config.chunk_size));
    }
    if (!kept) m_buffers = std::make_shared<ModelGradientBuffers<Real>>(execution, config, sequence, recompute);
  });
}

template <class Real>
LossAndGradients<Real> ModelGradient<Real>::compute(const Execution& execution, const Sequence& sequence,
                                                    const Array<const std::int32_t**>& ids,
                                                    const Array<const std::int32_t**>& targets,
                                                    const std::optional<Array<const std::uint8_t**>>& mask,
                                                    Profile* profile, Recompute recompute) {
  prepare(execution, sequence, recompute);
  const PaddingMask padding = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence);
  try {
    return Pass(*m_modules, *m_buffers, execution, ids, targets, padding, profile).run();
  } catch (...) {
    m_buffers.reset();  // sums may have been left half-way
    throw;
  }
}

Sequence gradient_sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size) {
  const bool valid = length >= 0 && chunk_size > 0;  // Sequence refuses the others
  return {comm, batch, length, chunk_size, 0, valid ? parallel::leaf_chunks(length, chunk_size) : 1};
}

template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute) {
  const std::int64_t layers = config.num_layers, hidden = config.hidden_dim;
  const auto head = &kernels::vocabulary_bytes<Real>;
  return packed_weight_bytes<Real>(config) + layers * LayerBackward<Real>::bytes(config) +
         head(config.vocab_size, hidden, kernels::Transpose::no) +
         head(config.vocab_size, hidden, kernels::Transpose::yes) +
         ModelGradientBuffers<Real>::bytes(config, sequence, recompute) +
         sequence.batch() * sequence.local_tokens() * static_cast<std::int64_t>(sizeof(double)) +
         parameter_count(config) * static_cast<std::int64_t>(sizeof(Real));
}

template std::int64_t gradient_bytes<float>(const ModelConfig&, const Sequence&, Recompute);
template std::int64_t gradient_bytes<double>(const ModelConfig&, const Sequence&, Recompute);
template class ModelGradient<float>;
template class ModelGradient<double>;

}  // namespace bsbr
