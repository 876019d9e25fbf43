// One pre-norm transformer layer as two chains of panels around the attention:
//
//     project   y = norm(x);  q k v = y·Wqkvᵀ + b;  and of the chunks' last tokens  r h = y·Wrhᵀ + b
//     finish    x += o·Woᵀ + b;  y = norm(x);  x += gelu(y·W1ᵀ + b1)·W2ᵀ + b2
#include "architectures/traits.hpp"
#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/poison.hpp"
#include "kernels/rows.hpp"
#include "model/chunk_means.hpp"
#include "model/modules.hpp"
#include "parallel/agree.hpp"

namespace bsbr {
namespace {

/// A layer writes all of its workspace before it reads it: a build for finding errors sees to that.
template <class Real>
void poison_workspace(const Execution& execution, const Workspace<Real>& workspace) {
  kernels::poison(execution, workspace.projections);
  kernels::poison(execution, workspace.packed_queries);
  kernels::poison(execution, workspace.heads);
  kernels::poison(execution, workspace.retrieval);
  workspace.panels->poison(execution);
}

/// Throws ShapeError if x has an element of an array of the workspace, which is written before x has been read for the
/// last time.
template <class Real>
void require_own_states(const Workspace<Real>& workspace, const Array<Real***>& x) {
  const auto require_apart = [&](const char* name, const auto& array) {
    if (attention::share_elements(x.data(), x.size(), array.data(), array.size()))
      throw ShapeError("x overlaps workspace." + std::string(name));
  };
  require_apart("projections", workspace.projections);
  require_apart("packed_queries", workspace.packed_queries);
  require_apart("heads", workspace.heads);
  require_apart("retrieval", workspace.retrieval);
}

/// Throws ShapeError unless x and the workspace fit the model and each other, and the mask its sequence.
template <class Real>
void validate(const Weights<Real>& weights, const Workspace<Real>& workspace, const PaddingMask& mask,
              const Array<Real***>& x) {
  const Sequence& sequence = workspace.sequence();
  const ModelConfig& config = weights.config();
  const std::int64_t batch = sequence.batch(), tokens = sequence.local_tokens();
  const bool packed = packs_rows<Real>(config, weights.rounding());
  const std::size_t projections = input_projections(config.architecture).size() - (packed ? 2 : 0);
  attention::require_rows<Real>("x", x, batch, tokens, config.hidden_dim);
  if (workspace.rounding() != weights.rounding()) {
    throw ShapeError("the workspace was made for weights whose factors are rounded differently",
                     "Workspace(config, sequence, weights.rounding())");
  }
  if (workspace.projections.extent(0) != projections) {
    throw ShapeError("the workspace has room for " + std::to_string(workspace.projections.extent(0)) +
                     " projections of the " + std::to_string(projections) + " that are needed");
  }
  attention::require_rows<Real>("workspace.projections", array_of(workspace.projections, 0), batch, tokens,
                                config.attention_dim());
  if (packed)
    attention::require_rows<Real>("workspace.packed_queries", workspace.packed_queries, batch, tokens,
                                  config.attention_dim() / 2);
  attention::require_rows<Real>("workspace.heads", workspace.heads, batch, tokens, config.attention_dim());
  require_own_states(workspace, x);
  attention::require_mask(mask, sequence);
}

}  // namespace

template <class Real>
Layer<Real>::Layer(const Weights<Real>& weights, std::int64_t index)
    : m_weights(weights), m_prefix(WeightLayout::layer_prefix(index)) {
  const std::int64_t layers = weights.config().num_layers;
  if (index < 0 || index >= layers) {
    throw ConfigError("layer " + std::to_string(index) + " is not among the model's, 0 to " +
                      std::to_string(layers - 1));
  }
  m_modules = std::make_shared<const LayerModules<Real>>(weights, m_prefix);
}

template <class Real>
std::int64_t packed_weight_bytes(const ModelConfig& config, Rounding rounding) {
  const auto bytes = [&](std::int64_t out, std::int64_t in) {
    return kernels::ProductWeight<Real>::bytes(out, in, rounding);
  };
  const std::int64_t width = config.attention_dim(), hidden = config.hidden_dim;
  const std::int64_t ends = ends_projected(config);
  const std::int64_t retrieval =
      (ends > 0 ? bytes(ends * hidden, hidden) : 0) + (averages_router_keys(config) ? bytes(hidden, hidden) : 0);
  const std::int64_t rounded =
      rounding != Rounding::none && compresses_states(config)
          ? 2 * config.state_size() * config.head_dim() * config.head_dim() * static_cast<std::int64_t>(sizeof(Real))
          : 0;
  return config.num_layers * (rounded + bytes(projections_of(config.architecture) * width, hidden) + retrieval +
                              bytes(hidden, width) + bytes(config.ff_dim, hidden) + bytes(hidden, config.ff_dim));
}

template <class Real>
AttentionInput<Real> Layer<Real>::attention_input(const Workspace<Real>& workspace) const {
  auto input = bsbr::attention_input(m_weights, m_prefix, *m_modules, workspace.projections, workspace.retrieval,
                                     workspace.packed_queries);
  input.overwrite_key = input.key.data() == workspace.heads.data() && workspace.heads.size() > 0;
  return input;
}

template <class Real>
void Layer<Real>::forward(const Execution& execution, const PaddingMask& mask, Workspace<Real>& workspace,
                          const Array<Real***>& x, Profile* profile, AttentionState<Real>* state) const {
  parallel::agree(execution, workspace.sequence(), profile, [&] {
    validate(m_weights, workspace, mask, x);
    require_router_sums(m_weights.config(), workspace.sequence(), state);
  });
  poison_workspace(execution, workspace);
  {
    const Phase phase(execution, profile, "project");
    project_tokens(execution, *m_modules, workspace.sequence(), *workspace.panels, x, workspace.projections,
                   workspace.packed_queries);
    if (m_modules->project_chunk_ends) {
      const PaddingMask& counted = workspace.attention->effective_mask(mask);
      project_chunk_ends(execution, *m_modules, workspace.sequence(), counted, *workspace.panels, x,
                         workspace.retrieval);
      if (m_modules->project_chunk_means)
        project_chunk_means(execution, *m_modules, workspace.sequence(), counted, *workspace.panels, x, state,
                            workspace.retrieval);
    }
  }
  workspace.attention->forward(execution, mask, attention_input(workspace), workspace.heads, profile, state);
  if (state != nullptr && m_modules->project_chunk_means)  // the attention has not refused it
    state->router_sums = next_router_sums(execution, *m_modules, workspace.sequence(), mask, x, *state);
  const Phase phase(execution, profile, "finish");
  finish_tokens<Real>(execution, *m_modules, *workspace.panels, workspace.heads, x);
}

template class Layer<float>;
template class Layer<double>;
template std::int64_t packed_weight_bytes<float>(const ModelConfig&, Rounding);
template std::int64_t packed_weight_bytes<double>(const ModelConfig&, Rounding);

}  // namespace bsbr
