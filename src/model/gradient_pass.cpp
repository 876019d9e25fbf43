#include "model/gradient_pass.hpp"

#include "kernels/dropout.hpp"
#include "kernels/embedding.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "model/stages.hpp"

namespace bsbr {
namespace {

template <class Real>
class Pass {
 public:
  /// `sums`: null for losses alone.
  Pass(const GradientModules<Real>& modules, PassBuffers<Real>& buffers, const Execution& execution,
       const PassInput& input, GradientSums<Real>* sums, Profile* profile)
      : m_modules(modules),
        m_config(modules.weights.config()),
        m_buffers(buffers),
        m_execution(execution),
        m_input(input),
        m_sums(sums),
        m_profile(profile) {}

  void losses() {
    forward();
    const Phase phase(m_execution, m_profile, "head");
    for (const LeafRows& leaf : m_buffers.workspace.leaves()) {
      m_modules.losses_of_leaf(m_execution, m_buffers.workspace, leaf_rows(m_buffers.gradient(), leaf),
                               leaf_rows(m_input.targets, leaf), leaf_rows(m_input.token_losses, leaf));
    }
  }

  void gradients() {
    forward();
    head();
    for (std::size_t index = layers(); index-- > 0;) layer_backward(index);
    embedding_backward();
  }

 private:
  using Place = kernels::DropoutPlace;

  std::size_t layers() const { return m_modules.backward.size(); }
  kernels::DropoutOfRows dropout(std::size_t layer, Place place) const {
    const auto& [p, seed, step, first_sequence] = m_input.dropout;
    return {{p, seed, step, static_cast<std::int64_t>(layer), place}, first_sequence, m_buffers.sequence.first_token()};
  }
  LayerDropout dropout_of(std::size_t layer) const {
    return {dropout(layer, Place::attention), dropout(layer, Place::feed_forward)};
  }
  Array<Real**> as_table(const Array<Real*>& sums) const {
    return Array<Real**>(sums.data(), static_cast<std::size_t>(m_config.vocab_size),
                         static_cast<std::size_t>(m_config.hidden_dim));
  }

  void forward() {
    embed();
    for (std::size_t index = 0; index < layers(); ++index) layer_forward(index);
  }
  void embed();
  void layer_forward(std::size_t index);
  void head();
  void layer_backward(std::size_t index);
  void embedding_backward();

  const GradientModules<Real>& m_modules;
  const ModelConfig& m_config;
  PassBuffers<Real>& m_buffers;
  Execution m_execution;
  const PassInput& m_input;
  GradientSums<Real>* m_sums;
  Profile* m_profile;
};

/// The first layer's input.
template <class Real>
void Pass<Real>::embed() {
  const Phase phase(m_execution, m_profile, "embedding");
  kernels::embed(m_execution, m_input.ids, m_modules.weights.matrix("embedding.weight"),
                 m_buffers.sequence.first_token(), m_buffers.input(0), dropout(0, Place::embedding));
  if (m_input.mask.has_padding() && m_config.causality != Causality::reference)  // which sees padding
    m_modules.clear_padding(m_execution, m_input.mask, m_input.targets, m_buffers.input(0));
}

template <class Real>
void Pass<Real>::layer_forward(std::size_t index) {
  const LayerBackward<Real>& layer = m_modules.backward[index];
  LayerActivations<Real>& activations = m_buffers.activations_of(index);
  const Array<Real***>&x = m_buffers.input(index), result = m_buffers.input(index + 1);
  layer.attend(m_execution, m_input.mask, m_buffers.workspace, x, activations, m_profile);
  if (result.data() != x.data()) Kokkos::deep_copy(m_execution, result, x);
  layer.finish(m_execution, m_buffers.workspace, activations, result, m_profile, dropout_of(index));
}

/// Losses, and the gradients of the final norm and of the head's matrix behind it.
template <class Real>
void Pass<Real>::head() {
  constexpr PartOfModel norm{PartKind::norm}, matrix{PartKind::head};
  {
    const Phase phase(m_execution, m_profile, "head");
    for (const LeafRows& leaf : m_buffers.workspace.leaves()) {
      m_modules.head_of_leaf(m_execution, m_buffers.workspace, leaf_rows(m_buffers.gradient(), leaf),
                             leaf_rows(m_input.targets, leaf), m_input.scale, leaf_rows(m_input.token_losses, leaf),
                             m_sums->leaves(norm).leaf(), as_table(m_sums->leaves(matrix).leaf()));
      m_sums->leaves(norm).join(m_input.first_leaf + leaf.index);
      m_sums->leaves(matrix).join(m_input.first_leaf + leaf.index);
    }
  }
  m_sums->formed(norm);
  m_sums->formed(matrix);
}

template <class Real>
void Pass<Real>::layer_backward(std::size_t index) {
  const auto number = static_cast<std::int64_t>(index);
  const PartOfModel attention{PartKind::attention, number}, rest{PartKind::rest, number};
  const LayerBackward<Real>& layer = m_modules.backward[index];
  const GradientWorkspace<Real>& workspace = m_buffers.workspace;
  const Array<Real***>&x = m_buffers.input(index), gradient = m_buffers.gradient();
  LayerActivations<Real>& activations = m_buffers.activations_of(index);
  if (index == 0) embed();
  // What the last layer's forward has left is still there.
  if (m_buffers.recompute == Recompute::all && index + 1 < layers())
    layer.attend(m_execution, m_input.mask, workspace, x, activations, m_profile);
  m_sums->advance();
  layer.finish_backward(m_execution, workspace, x, activations, gradient, m_sums->leaves(rest), m_input.first_leaf,
                        m_profile, dropout_of(index));
  m_sums->formed(rest);
  layer.attention_backward(m_execution, m_input.mask, workspace, activations, m_profile);
  m_sums->advance();
  layer.project_backward(m_execution, m_input.mask, workspace, x, gradient, m_sums->leaves(attention),
                         m_input.first_leaf, m_profile);
  m_sums->advance();
  m_sums->formed(attention);
}

template <class Real>
void Pass<Real>::embedding_backward() {
  constexpr PartOfModel table{PartKind::embedding};
  {
    const Phase phase(m_execution, m_profile, "embedding");
    if (const auto dropped = dropout(0, Place::embedding); dropped.drops())
      kernels::drop_rows<Real>(m_execution, dropped, m_buffers.gradient(), m_buffers.gradient());
    for (const LeafRows& leaf : m_buffers.workspace.leaves()) {
      kernels::add_embedding_gradient<Real>(m_execution, leaf_rows(m_input.ids, leaf),
                                            leaf_rows(m_buffers.gradient(), leaf),
                                            as_table(m_sums->leaves(table).leaf()));
      m_sums->leaves(table).join(m_input.first_leaf + leaf.index);
    }
  }
  m_sums->formed(table);
}

}  // namespace

template <class Real>
GradientModules<Real>::GradientModules(const Weights<Real>& of_model)
    : weights(of_model),
      head(kernels::vocabulary_blocks<Real>(head_matrix(of_model))),
      transposed_head(kernels::vocabulary_blocks<Real>(head_matrix(of_model), kernels::Transpose::yes)) {
  for (std::int64_t index = 0; index < of_model.config().num_layers; ++index) {
    layers.emplace_back(weights, index);
    backward.emplace_back(weights, layers.back(), index);
  }
}

template <class Real>
std::int64_t GradientModules<Real>::bytes(const ModelConfig& config) {
  const auto blocks = [&](kernels::Transpose transpose) {
    return kernels::vocabulary_bytes<Real>(config.vocab_size, config.hidden_dim, transpose);
  };
  return packed_weight_bytes<Real>(config) + config.num_layers * LayerBackward<Real>::bytes(config) +
         blocks(kernels::Transpose::no) + blocks(kernels::Transpose::yes);
}

template <class Real>
void GradientModules<Real>::repack(const Execution& execution) {
  kernels::repack_blocks<Real>(execution, head_matrix(weights), head);
  kernels::repack_blocks<Real>(execution, head_matrix(weights), transposed_head);
  for (std::size_t i = 0; i < layers.size(); ++i) {
    layers[i].modules()->repack(execution, weights);
    backward[i].repack(execution);
  }
}

/// What is padding and has no target matters to no loss. Were it NaN or infinite, its products with gradients of 0
/// would not be 0, and sums over all tokens have them.
template <class Real>
void GradientModules<Real>::clear_padding(const Execution& execution, const PaddingMask& mask,
                                          const Array<const std::int32_t**>& targets,
                                          const Array<Real***>& rows) const {
  const auto real = mask.tokens();
  const auto tokens = static_cast<std::int64_t>(rows.extent(1)), hidden = static_cast<std::int64_t>(rows.extent(2));
  Kokkos::parallel_for(
      "bsbr::gradient::clear_padding",
      Kokkos::RangePolicy<Execution>(execution, 0, static_cast<std::int64_t>(rows.size())),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / hidden / tokens, t = i / hidden % tokens;
        if (real(row, t) == 0 && targets(row, t) == no_target) rows(row, t, i % hidden) = 0;
      });
}

/// The losses of a leaf's tokens, of which x are the rows before the final norm. workspace.normed gets those behind it,
/// workspace.log_sums what the gradient needs.
template <class Real>
void GradientModules<Real>::losses_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                           const Array<Real**>& x, const Array<const std::int32_t*>& targets,
                                           const Array<double*>& losses) const {
  const Norm<Real> norm(weights, "layer_norm");
  const auto count = static_cast<std::int64_t>(x.extent(0));
  const Array<Real**> normed(workspace.normed.data(), static_cast<std::size_t>(count), x.extent(1));
  Kokkos::parallel_for(
      "bsbr::gradient::final_norm", kernels::team_policy(execution, count, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t t = member.league_rank();
        norm(kernels::as_team(member), &x(t, 0), &normed(t, 0));
      });
  const Array<double*> log_sums(workspace.log_sums.data(), static_cast<std::size_t>(count));
  kernels::token_losses<Real>(execution, head, workspace.panels, one_sequence(normed), one_sequence(targets),
                              one_sequence(losses), one_sequence(log_sums));
}

/// The same, and the way back to the input of the final norm: x becomes its gradient.
/// \param norm_sums of the final norm's weight and bias
template <class Real>
void GradientModules<Real>::head_of_leaf(const Execution& execution, const GradientWorkspace<Real>& workspace,
                                         const Array<Real**>& x, const Array<const std::int32_t*>& targets,
                                         double scale, const Array<double*>& losses, const Array<Real*>& norm_sums,
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
  losses_of_leaf(execution, workspace, x, targets, losses);
  Kokkos::parallel_for(
      "bsbr::gradient::before_head", kernels::team_policy(execution, count, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t t = member.league_rank();
        kernels::for_each(kernels::as_team(member), hidden, [&](const int i) {
          given(t, i) = x(t, i);
          normed_gradient(t, i) = x(t, i) = 0;
        });
      });
  kernels::add_token_loss_gradient<Real>(execution, workspace.panels, workspace.outer, workspace.logits, head,
                                         transposed_head, normed, {targets, log_sums}, scale, normed_gradient,
                                         head_sums);
  const auto vector = [&](int offset) {
    return Array<Real*>(norm_sums.data() + offset, static_cast<std::size_t>(hidden));
  };
  kernels::add_norm_gradients<Real>(execution, workspace.sums, given, norm.weight, normed_gradient, x, vector(0),
                                    vector(hidden));
}

template <class Real>
void run_pass(const GradientModules<Real>& modules, PassBuffers<Real>& buffers, const Execution& execution,
              const PassInput& input, GradientSums<Real>& sums, Profile* profile) {
  Pass<Real>(modules, buffers, execution, input, &sums, profile).gradients();
}

template <class Real>
void run_losses(const GradientModules<Real>& modules, PassBuffers<Real>& buffers, const Execution& execution,
                const PassInput& input, Profile* profile) {
  Pass<Real>(modules, buffers, execution, input, nullptr, profile).losses();
}

template struct GradientModules<float>;
template struct GradientModules<double>;
template void run_pass(const GradientModules<float>&, PassBuffers<float>&, const Execution&, const PassInput&,
                       GradientSums<float>&, Profile*);
template void run_pass(const GradientModules<double>&, PassBuffers<double>&, const Execution&, const PassInput&,
                       GradientSums<double>&, Profile*);
template void run_losses(const GradientModules<float>&, PassBuffers<float>&, const Execution&, const PassInput&,
                         Profile*);
template void run_losses(const GradientModules<double>&, PassBuffers<double>&, const Execution&, const PassInput&,
                         Profile*);

}  // namespace bsbr
