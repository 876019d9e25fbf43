// One pre-norm transformer layer as two chains of panels around the attention:
//
//     project   y = norm(x);  q k v = y·Wqkvᵀ + b;  and of the chunks' last tokens  r h = y·Wrhᵀ + b
//     finish    x += o·Woᵀ + b;  y = norm(x);  x += gelu(y·W1ᵀ + b1)·W2ᵀ + b2
#include <optional>

#include "architectures/traits.hpp"
#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "config/weight_table.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/poison.hpp"
#include "kernels/rows.hpp"
#include "parallel/agree.hpp"

namespace bsbr {
namespace {

using kernels::Rows;
using kernels::Stage;
using kernels::Team;

/// A layer norm of the model: norm(team, x, y).
template <class Real>
struct Norm {
  Array<const Real*> weight, bias;

  Norm(const Weights<Real>& weights, const std::string& name)
      : weight(weights.vector(name + ".weight")), bias(weights.vector(name + ".bias")) {}

  KOKKOS_FUNCTION void operator()(const Team& team, const Real* x, Real* y) const {
    kernels::layer_norm(team, static_cast<int>(weight.extent(0)), x, weight.data(), bias.data(), y);
  }
};

/// A linear layer, or several whose weights are adjacent as one.
template <class Real>
struct Linear {
  kernels::ProductWeight<Real> weight;  // [out, in]
  Array<const Real*> bias;              // [out]

  Linear(const Weights<Real>& weights, const std::string& name, int count = 1)
      : weight(weights.matrix(name + ".weight", count)), bias(weights.vector(name + ".bias", count)) {}
};

/// target(:, batch, row, :) = linear(row that `prologue` makes), for all rows: the result of each of these layers.
template <class Real, class Prologue>
void project_rows(const Execution& execution, const std::string& label, const Rows& rows,
                  const kernels::PanelBuffers<Real>& panels, const Prologue& prologue, const Linear<Real>& linear,
                  const Array<Real****>& target) {
  const Array<const Real*> bias = linear.bias;
  const auto store = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t row, const Real* data) {
    const auto width = static_cast<int>(target.extent(3));
    for (int i = 0; i < static_cast<int>(target.extent(0)); ++i) {
      kernels::copy_with_bias(team, width, data + i * width, bias.data() + i * width, &target(i, batch, row, 0));
    }
  };
  kernels::panel_chain(execution, label, rows, panels, prologue, Stage{linear.weight, store});
}

/// A layer writes all of its workspace before it reads it: a build for finding errors sees to that.
template <class Real>
void poison_workspace(const Execution& execution, const Workspace<Real>& workspace) {
  kernels::poison(execution, workspace.projections);
  kernels::poison(execution, workspace.heads);
  kernels::poison(execution, workspace.retrieval);
  workspace.panels->poison(execution);
}

/// Queries, keys, values (and gates) of all local tokens.
template <class Real>
void project_tokens(const Execution& execution, const Norm<Real>& norm, const Linear<Real>& linear,
                    Workspace<Real>& workspace, const Array<Real***>& x) {
  const Sequence& sequence = workspace.sequence();
  const auto token = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    norm(team, &x(batch, t, 0), data);
  };
  project_rows(execution, "bsbr::layer::project", {sequence.batch(), sequence.local_tokens()}, *workspace.panels, token,
               linear, workspace.projections);
}

/// r and h of all local chunks, at their last real tokens. Rows of chunks without a real token are computed from zeros
/// and never read.
template <class Real>
void project_chunk_ends(const Execution& execution, const Norm<Real>& norm, const Linear<Real>& linear,
                        const PaddingMask& mask, Workspace<Real>& workspace, const Array<Real***>& x) {
  const Sequence& sequence = workspace.sequence();
  const auto last_real = mask.last_real();
  const auto chunk_end = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t chunk, Real* data) {
    const std::int64_t t = last_real(batch, chunk);
    if (t >= 0) {
      norm(team, &x(batch, t, 0), data);
    } else {
      kernels::for_each(team, static_cast<int>(x.extent(2)), [&](const int i) { data[i] = 0; });
    }
  };
  project_rows(execution, "bsbr::layer::project_chunk_ends", {sequence.batch(), sequence.local_chunks()},
               *workspace.panels, chunk_end, linear, workspace.retrieval);
}

/// out_proj, residual, norm, feed-forward, residual.
template <class Real>
void finish_tokens(const Execution& execution, const Linear<Real>& out, const Norm<Real>& norm,
                   const Linear<Real>& expand, const Linear<Real>& contract, const Workspace<Real>& workspace,
                   const Array<Real***>& x) {
  const Sequence& sequence = workspace.sequence();
  const Array<const Real***> heads = workspace.heads;
  const Array<const Real*> out_bias = out.bias, expand_bias = expand.bias, contract_bias = contract.bias;
  const int hidden = static_cast<int>(x.extent(2)), inner = static_cast<int>(expand_bias.extent(0));
  const int width = static_cast<int>(heads.extent(2));
  const auto load = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    kernels::copy(team, width, &heads(batch, t, 0), data);
  };
  const auto add_and_norm = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    Real* row = &x(batch, t, 0);
    kernels::add_with_bias(team, hidden, data, out_bias.data(), row);
    norm(team, row, data);
  };
  const auto activate = KOKKOS_LAMBDA(const Team& team, std::int64_t, std::int64_t, Real* data) {
    kernels::gelu_with_bias(team, inner, expand_bias.data(), data);
  };
  const auto add = KOKKOS_LAMBDA(const Team& team, std::int64_t batch, std::int64_t t, const Real* data) {
    kernels::add_with_bias(team, hidden, data, contract_bias.data(), &x(batch, t, 0));
  };
  kernels::panel_chain(execution, "bsbr::layer::finish", Rows{sequence.batch(), sequence.local_tokens()},
                       *workspace.panels, load, Stage{out.weight, add_and_norm}, Stage{expand.weight, activate},
                       Stage{contract.weight, add});
}

/// One of several arrays [batch, rows, width].
template <class Real>
Strided<const Real***> array_of(const Array<Real****>& arrays, int index) {
  return Kokkos::subview(arrays, index, Kokkos::ALL(), Kokkos::ALL(), Kokkos::ALL());
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
  const std::size_t projections = input_projections(config.architecture).size();
  attention::require_rows<Real>("x", x, batch, tokens, config.hidden_dim);
  if (workspace.projections.extent(0) != projections) {
    throw ShapeError("the workspace has room for " + std::to_string(workspace.projections.extent(0)) +
                     " projections of the " + std::to_string(projections) + " that are needed");
  }
  attention::require_rows<Real>("workspace.projections", array_of(workspace.projections, 0), batch, tokens,
                                config.attention_dim());
  attention::require_rows<Real>("workspace.heads", workspace.heads, batch, tokens, config.attention_dim());
  require_own_states(workspace, x);
  attention::require_mask(mask, sequence);
}

/// How many of the matrices that are multiplied with tokens are one product.
int projections_of(Architecture architecture) { return static_cast<int>(input_projections(architecture).size()); }

}  // namespace

/// The modules of a layer: its norms and linear layers.
template <class Real>
struct Layer<Real>::Modules {
  Norm<Real> attention_norm, ff_norm;
  Linear<Real> project, out, expand, contract;
  std::optional<Linear<Real>> project_chunk_ends;  // bsbr

  Modules(const Weights<Real>& weights, const std::string& prefix)
      : attention_norm(weights, prefix + "layer_norm1"),
        ff_norm(weights, prefix + "layer_norm2"),
        project(weights, prefix + "attention." + input_projections(weights.config().architecture).front(),
                projections_of(weights.config().architecture)),
        out(weights, prefix + "attention.out_proj"),
        expand(weights, prefix + "ff.0"),
        contract(weights, prefix + "ff.3") {
    const auto& chunk_projections = traits(weights.config().architecture).chunk_projections;
    if (chunk_projections.empty()) return;
    project_chunk_ends.emplace(weights, prefix + "attention." + chunk_projections.front(),
                               static_cast<int>(chunk_projections.size()));
  }
};

template <class Real>
Layer<Real>::Layer(const Weights<Real>& weights, std::int64_t index)
    : m_weights(weights), m_prefix(WeightLayout::layer_prefix(index)) {
  const std::int64_t layers = weights.config().num_layers;
  if (index < 0 || index >= layers) {
    throw ConfigError("layer " + std::to_string(index) + " is not among the model's, 0 to " +
                      std::to_string(layers - 1));
  }
  m_modules = std::make_shared<const Modules>(weights, m_prefix);
}

template <class Real>
std::int64_t packed_weight_bytes(const ModelConfig& config) {
  const auto bytes = &kernels::ProductWeight<Real>::bytes;
  const std::int64_t width = config.attention_dim(), hidden = config.hidden_dim;
  const auto chunk_projections = static_cast<std::int64_t>(traits(config.architecture).chunk_projections.size());
  const std::int64_t retrieval = chunk_projections > 0 ? bytes(chunk_projections * hidden, hidden) : 0;
  return config.num_layers * (bytes(projections_of(config.architecture) * width, hidden) + retrieval +
                              bytes(hidden, width) + bytes(config.ff_dim, hidden) + bytes(hidden, config.ff_dim));
}

template <class Real>
AttentionInput<Real> Layer<Real>::attention_input(const Workspace<Real>& workspace) const {
  const ModelConfig& config = m_weights.config();
  AttentionInput<Real> input;
  input.query = array_of(workspace.projections, 0);
  input.key = array_of(workspace.projections, 1);
  input.value = array_of(workspace.projections, 2);
  input.overwrite_key = input.key.data() == workspace.heads.data() && workspace.heads.size() > 0;
  if (traits(config.architecture).has_gate()) input.gate = array_of(workspace.projections, 3);
  if (traits(config.architecture).has_retrieval()) {
    input.retrieval_query = array_of(workspace.retrieval, 0);
    input.retrieval_key = array_of(workspace.retrieval, 1);
  }
  if (!compresses_states(config)) return input;
  const std::string prefix = m_prefix + "attention.";
  input.compress_weight = m_weights.matrix(prefix + "compress_proj.weight");
  input.compress_bias = m_weights.vector(prefix + "compress_proj.bias");
  input.decompress_weight = m_weights.matrix(prefix + "decompress_proj.weight");
  input.decompress_bias = m_weights.vector(prefix + "decompress_proj.bias");
  return input;
}

template <class Real>
void Layer<Real>::forward(const Execution& execution, const PaddingMask& mask, Workspace<Real>& workspace,
                          const Array<Real***>& x, Profile* profile, AttentionState<Real>* state) const {
  parallel::agree(execution, workspace.sequence(), profile, [&] { validate(m_weights, workspace, mask, x); });
  poison_workspace(execution, workspace);
  {
    const Phase phase(execution, profile, "project");
    project_tokens(execution, m_modules->attention_norm, m_modules->project, workspace, x);
    if (m_modules->project_chunk_ends) {
      const PaddingMask& counted = workspace.attention->effective_mask(mask);
      project_chunk_ends(execution, m_modules->attention_norm, *m_modules->project_chunk_ends, counted, workspace, x);
    }
  }
  workspace.attention->forward(execution, mask, attention_input(workspace), workspace.heads, profile, state);
  const Phase phase(execution, profile, "finish");
  finish_tokens(execution, m_modules->out, m_modules->ff_norm, m_modules->expand, m_modules->contract, workspace, x);
}

template class Layer<float>;
template class Layer<double>;
template std::int64_t packed_weight_bytes<float>(const ModelConfig&);
template std::int64_t packed_weight_bytes<double>(const ModelConfig&);

}  // namespace bsbr
