// Forward and gradient of one layer by itself.
#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/gradient.hpp"
#include "bsbr/model.hpp"
#include "model/gradients_for_all.hpp"
#include "model/layer_backward.hpp"
#include "model/stages.hpp"
#include "parallel/agree.hpp"

namespace bsbr {

template <class Real>
struct LayerGradient<Real>::Parts {
  ModelConfig config;
  Layer<Real> layer;
  LayerBackward<Real> backward;
  GradientWorkspace<Real> workspace;
  LayerActivations<Real> activations;
  GradientsForAll<Real> sums;
  std::int64_t index;
  bool has_forward = false;

  Parts(const Weights<Real>& weights, std::int64_t of_model, const Sequence& sequence, Recompute which)
      : Parts(weights, of_model, sequence, which, parallel::Leaves(sequence)) {}

  /// Throws ShapeError unless these are rows of hidden_dim elements, and the mask fits.
  void require_rows(const PaddingMask& mask, const char* name, const Array<Real***>& x, const char* other_name,
                    const Array<Real***>& other) const {
    const Sequence& sequence = workspace.sequence();
    for (const auto& [what, rows] : {std::pair{name, x}, std::pair{other_name, other}})
      attention::require_rows<Real>(what, rows, sequence.batch(), sequence.local_tokens(), config.hidden_dim);
    if (attention::share_elements(x.data(), x.size(), other.data(), other.size()))
      throw ShapeError(std::string(name) + " overlaps " + other_name + ": each must be an array of its own");
    attention::require_mask(mask, sequence);
  }

 private:
  Parts(const Weights<Real>& weights, std::int64_t of_model, const Sequence& sequence, Recompute which,
        const parallel::Leaves& leaves)
      : config(weights.config()),
        layer(weights, of_model),
        backward(weights, layer, of_model),
        workspace(config, sequence, local_leaves(sequence, leaves)),
        activations(config, sequence, which),
        sums(Execution(), config, sequence, leaves, {PartKind::attention, PartKind::rest}),
        index(of_model) {}
};

template <class Real>
LayerGradient<Real>::LayerGradient(const Weights<Real>& weights, std::int64_t index, const Sequence& sequence,
                                   Recompute recompute)
    : m_parts(std::make_shared<Parts>(weights, index, sequence, recompute)) {
  require_no_rounding(weights);
}

template <class Real>
void LayerGradient<Real>::forward(const Execution& execution, const PaddingMask& mask, const Array<Real***>& x,
                                  const Array<Real***>& result, Profile* profile) {
  Parts& parts = *m_parts;
  parallel::agree(execution, parts.workspace.sequence(), profile,
                  [&] { parts.require_rows(mask, "x", x, "result", result); });
  parts.has_forward = false;
  parts.backward.attend(execution, mask, parts.workspace, x, parts.activations, profile);
  Kokkos::deep_copy(execution, result, x);
  parts.backward.finish(execution, parts.workspace, parts.activations, result, profile);
  parts.has_forward = true;
}

template <class Real>
void LayerGradient<Real>::backward(const Execution& execution, const PaddingMask& mask, const Array<Real***>& x,
                                   const Array<Real***>& gradient, const WeightArray<Real>& weights, Profile* profile) {
  Parts& parts = *m_parts;
  const GradientWorkspace<Real>& workspace = parts.workspace;
  if (!parts.has_forward) throw Error("the gradient of a layer is formed and no forward has come before it");
  parallel::agree(execution, workspace.sequence(), profile, [&] {
    parts.require_rows(mask, "x", x, "gradient", gradient);
    if (static_cast<std::int64_t>(weights.data().size()) != parameter_count(parts.config))
      throw ShapeError("the gradients of weights are those of another model");
  });
  parts.has_forward = false;  // what it has kept is lost
  const PartOfModel attention{PartKind::attention, parts.index}, rest{PartKind::rest, parts.index};
  parts.sums.begin(weights.data(), profile);
  parts.backward.finish_backward(execution, workspace, x, parts.activations, gradient, parts.sums.leaves(rest), 0,
                                 profile);
  parts.sums.formed(rest);
  parts.backward.attention_backward(execution, mask, workspace, parts.activations, profile);
  parts.sums.advance();
  parts.backward.project_backward(execution, mask, workspace, x, gradient, parts.sums.leaves(attention), 0, profile);
  parts.sums.formed(attention);
  parts.sums.finish();
}

template class LayerGradient<float>;
template class LayerGradient<double>;

}  // namespace bsbr
