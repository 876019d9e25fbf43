// What a layer is made of, and what is formed from its input, for forward and gradient.
#pragma once

#include <optional>
#include <string>

#include "architectures/traits.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "config/weight_table.hpp"
#include "kernels/dropout.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/rows.hpp"
#include "model/allocate.hpp"

namespace bsbr {

/// A layer norm of the model: norm(team, x, y).
template <class Real>
struct Norm {
  Array<const Real*> weight, bias;

  Norm(const Weights<Real>& weights, const std::string& name)
      : weight(weights.vector(name + ".weight")), bias(weights.vector(name + ".bias")) {}

  KOKKOS_FUNCTION void operator()(const kernels::Team& team, const Real* x, Real* y) const {
    kernels::layer_norm(team, static_cast<int>(weight.extent(0)), x, weight.data(), bias.data(), y);
  }
};

/// A linear layer, or several whose weights are adjacent as one.
template <class Real>
struct Linear {
  kernels::ProductWeight<Real> weight;  // [out, in]
  Array<const Real*> bias;              // [out]

  Linear(const Weights<Real>& weights, const std::string& name, int count = 1)
      : weight(weights.matrix(name + ".weight", count), kernels::Transpose::no, weights.rounding()),
        bias(weights.vector(name + ".bias", count)),
        m_name(name),
        m_count(count) {}

  /// The weights, which it was made from, have other values: takes them. All copies have them then.
  void repack(const Execution& execution, const Weights<Real>& weights) const {
    kernels::ProductWeight<Real>(weight).assign(execution, weights.matrix(m_name + ".weight", m_count));
  }

 private:
  std::string m_name;
  int m_count;
};

/// Throws ConfigError if factors are rounded.
template <class Real>
void require_no_rounding(const Weights<Real>& weights) {
  if (weights.rounding() != Rounding::none)
    throw ConfigError("there are no gradients of rounded products", "train in float, and run the model in bfloat16");
}

/// target(:, batch, row, :) = linear(row that `prologue` makes), for all rows: the result of each of these layers.
/// rounded: so many of the first ones are rounded as factors are.
template <class Real, class Prologue>
void project_rows(const Execution& execution, const std::string& label, const kernels::Rows& rows,
                  const kernels::PanelBuffers<Real>& panels, const Prologue& prologue, const Linear<Real>& linear,
                  const Array<Real****>& target, int rounded = 0) {
  const Array<const Real*> bias = linear.bias;
  const int as_factors = linear.weight.rounding() == Rounding::none ? 0 : rounded;
  const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t row, const Real* data) {
    const auto width = static_cast<int>(target.extent(3));
    for (int i = 0; i < static_cast<int>(target.extent(0)); ++i) {
      Real* result = &target(i, batch, row, 0);
      kernels::copy_with_bias(team, width, data + i * width, bias.data() + i * width, result);
      if (i < as_factors) kernels::round_to_bfloat16(team, width, result);
    }
  };
  kernels::panel_chain(execution, label, rows, panels, prologue, kernels::Stage{linear.weight, store});
}

/// How many of the matrices that are multiplied with tokens are one product.
inline int projections_of(Architecture architecture) {
  return static_cast<int>(input_projections(architecture).size());
}

/// How many of the matrices that are multiplied with rows of chunks are multiplied with their last tokens, as one
/// product; the others are with their means.
inline int ends_projected(const ModelConfig& config) {
  const auto all = static_cast<int>(traits(config.architecture).chunk_projections.size());
  return averages_router_keys(config) ? all - 1 : all;
}

/// The modules of a layer: its norms and linear layers.
template <class Real>
struct LayerModules {
  int heads;
  Norm<Real> attention_norm, ff_norm;
  Linear<Real> project, out, expand, contract;
  std::optional<Linear<Real>> project_chunk_ends;   // bsbr: r, and h if it is not of means
  std::optional<Linear<Real>> project_chunk_means;  // bsbr: h if it is
  Array<const Real**> compress, decompress;         // bsbr with compression: rounded, if factors are

  LayerModules(const Weights<Real>& weights, const std::string& prefix)
      : heads(static_cast<int>(weights.config().num_heads)),
        attention_norm(weights, prefix + "layer_norm1"),
        ff_norm(weights, prefix + "layer_norm2"),
        project(weights, prefix + "attention." + input_projections(weights.config().architecture).front(),
                projections_of(weights.config().architecture)),
        out(weights, prefix + "attention.out_proj"),
        expand(weights, prefix + "ff.0"),
        contract(weights, prefix + "ff.3") {
    if (compresses_states(weights.config())) {
      compress = factor(weights, prefix + "attention.compress_proj.weight");
      decompress = factor(weights, prefix + "attention.decompress_proj.weight");
    }
    const auto& chunk_projections = traits(weights.config().architecture).chunk_projections;
    if (chunk_projections.empty()) return;
    project_chunk_ends.emplace(weights, prefix + "attention." + chunk_projections.front(),
                               ends_projected(weights.config()));
    if (averages_router_keys(weights.config()))
      project_chunk_means.emplace(weights, prefix + "attention." + chunk_projections.back());
  }

  /// The weights, which it was made from, have other values: takes them.
  void repack(const Execution& execution, const Weights<Real>& weights) const {
    for (const Linear<Real>* linear : {&project, &out, &expand, &contract}) linear->repack(execution, weights);
    if (project_chunk_ends) project_chunk_ends->repack(execution, weights);
    if (project_chunk_means) project_chunk_means->repack(execution, weights);
  }

 private:
  /// The matrix itself, or one that is rounded. Without rounding it changes with the weights.
  static Array<const Real**> factor(const Weights<Real>& weights, const std::string& name) {
    const Array<const Real**> matrix = weights.matrix(name);
    if (weights.rounding() == Rounding::none) return matrix;
    const auto rounded = allocate<Real**>("rounded_weight", matrix.extent(0), matrix.extent(1));
    kernels::ProductWeight<Real>::round_matrix(Execution(), matrix, rounded);
    return rounded;
  }
};

/// The first of a layer's projections.
inline constexpr int queries_keys_and_values = 3;

/// Queries, keys, values (and gates) of all local tokens. packed_queries: if it is not empty, queries are packed, and
/// keys and values, which are the first of the projections then (Workspace).
template <class Real>
void project_tokens(const Execution& execution, const LayerModules<Real>& modules, const Sequence& sequence,
                    const kernels::PanelBuffers<Real>& panels, const Array<Real***>& x,
                    const Array<Real****>& projections, const Array<Real***>& packed_queries = {}) {
  const Norm<Real> norm = modules.attention_norm;
  const kernels::Rows rows{sequence.batch(), sequence.local_tokens()};
  const auto token = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    norm(team, &x(batch, t, 0), data);
  };
  if (packed_queries.extent(2) == 0) {
    project_rows(execution, "bsbr::layer::project", rows, panels, token, modules.project, projections,
                 queries_keys_and_values);
    return;
  }
  const Array<const Real*> all_biases = modules.project.bias;
  const int heads = modules.heads;
  const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, const Real* data) {
    const auto width = static_cast<int>(projections.extent(3)), head = width / heads;
    const Real* bias = all_biases.data();
    Real* keys_and_values = &projections(0, batch, t, 0);
    kernels::pack_with_bias(team, width, data, bias, &packed_queries(batch, t, 0));
    for (int first = 0; first < width; first += head) {  // the value of a head is behind its key
      const int key = width + first, value = key + width;
      kernels::pack_with_bias(team, head, data + key, bias + key, keys_and_values + first);
      kernels::pack_with_bias(team, head, data + value, bias + value, keys_and_values + first + head / 2);
    }
    for (int i = 1; i < static_cast<int>(projections.extent(0)); ++i) {
      const int gate = (queries_keys_and_values + i - 1) * width;
      kernels::copy_with_bias(team, width, data + gate, bias + gate, &projections(i, batch, t, 0));
    }
  };
  kernels::panel_chain(execution, "bsbr::layer::project", rows, panels, token,
                       kernels::Stage{modules.project.weight, store});
}

/// r and h of all local chunks, at their last real tokens; r only, if h is of means. Rows of chunks without a real
/// token are computed from zeros and never read.
template <class Real>
void project_chunk_ends(const Execution& execution, const LayerModules<Real>& modules, const Sequence& sequence,
                        const PaddingMask& mask, const kernels::PanelBuffers<Real>& panels, const Array<Real***>& x,
                        const Array<Real****>& retrieval) {
  const Norm<Real> norm = modules.attention_norm;
  const auto last_real = mask.last_real();
  const auto chunk_end = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t chunk, Real* data) {
    const std::int64_t t = last_real(batch, chunk);
    if (t >= 0) {
      norm(team, &x(batch, t, 0), data);
    } else {
      kernels::for_each(team, static_cast<int>(x.extent(2)), [&](const int i) { data[i] = 0; });
    }
  };
  const std::size_t count = modules.project_chunk_means ? 1 : retrieval.extent(0);
  const Array<Real****> of_ends(retrieval.data(), count, retrieval.extent(1), retrieval.extent(2), retrieval.extent(3));
  project_rows(execution, "bsbr::layer::project_chunk_ends", {sequence.batch(), sequence.local_chunks()}, panels,
               chunk_end, *modules.project_chunk_ends, of_ends);
}

/// What a feed-forward layer is given and forms: m, its input before the norm, and a, without its bias.
template <class Real>
struct FeedForwardRows {
  Array<Real***> middle;    // [batch, tokens, hidden_dim]
  Array<Real***> expanded;  // [batch, tokens, ff_dim]
};

/// What is dropped in a layer, of the rows of its input. By default nothing is.
struct LayerDropout {
  kernels::DropoutOfRows attention, feed_forward;  // what out_proj and ff.3 give

  /// That of the rows from `first` on of one of the sequences, as those of a batch of one sequence.
  LayerDropout from(std::int64_t sequence, std::int64_t first) const {
    return {attention.from(sequence, first), feed_forward.from(sequence, first)};
  }
};

/// out_proj, residual, norm, feed-forward, residual. heads: [batch, tokens, attention_dim], the attention's results.
/// kept: gets what it has room for.
template <class Real>
void finish_tokens(const Execution& execution, const LayerModules<Real>& modules,
                   const kernels::PanelBuffers<Real>& panels, const Array<const Real***>& heads,
                   const Array<Real***>& x, const FeedForwardRows<Real>& kept = {}, const LayerDropout& dropout = {}) {
  const Array<const Real*> out_bias = modules.out.bias, expand_bias = modules.expand.bias,
                           contract_bias = modules.contract.bias;
  const Norm<Real> norm = modules.ff_norm;
  const kernels::Rows rows{static_cast<std::int64_t>(x.extent(0)), static_cast<std::int64_t>(x.extent(1))};
  const int hidden = static_cast<int>(x.extent(2)), inner = static_cast<int>(expand_bias.extent(0));
  const int width = static_cast<int>(heads.extent(2));
  const bool keeps = kept.middle.is_allocated();
  const Array<Real***> middle = kept.middle, expanded = kept.expanded;
  const kernels::DropoutOfRows after_out = dropout.attention, after_contract = dropout.feed_forward;
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    kernels::copy(team, width, &heads(batch, t, 0), data);
  };
  const auto add_and_norm = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    Real* row = &x(batch, t, 0);
    after_out.add_with_bias(team, batch, t, hidden, data, out_bias.data(), row);
    if (keeps) kernels::copy(team, hidden, row, &middle(batch, t, 0));
    norm(team, row, data);
  };
  const auto activate = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    if (keeps) kernels::copy(team, inner, data, &expanded(batch, t, 0));
    kernels::gelu_with_bias(team, inner, expand_bias.data(), data);
  };
  const auto add = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t batch, std::int64_t t, Real* data) {
    after_contract.add_with_bias(team, batch, t, hidden, data, contract_bias.data(), &x(batch, t, 0));
  };
  kernels::panel_chain(execution, "bsbr::layer::finish", rows, panels, load,
                       kernels::Stage{modules.out.weight, add_and_norm},
                       kernels::Stage{modules.expand.weight, activate}, kernels::Stage{modules.contract.weight, add});
}

/// One of several arrays [batch, rows, width].
template <class Real>
Strided<const Real***> array_of(const Array<Real****>& arrays, int index) {
  return Kokkos::subview(arrays, index, Kokkos::ALL(), Kokkos::ALL(), Kokkos::ALL());
}

/// What the attention of a layer is given. projections, packed_queries: of project_tokens(); retrieval: [2, batch,
/// chunks, hidden_dim], where there is one.
template <class Real>
AttentionInput<Real> attention_input(const Weights<Real>& weights, const std::string& layer_prefix,
                                     const LayerModules<Real>& modules, const Array<Real****>& projections,
                                     const Array<Real****>& retrieval, const Array<Real***>& packed_queries = {}) {
  const ModelConfig& config = weights.config();
  AttentionInput<Real> input;
  input.packed = packed_queries.extent(2) > 0;
  if (input.packed) {
    input.query = packed_queries;
    input.key = array_of(projections, 0);
  } else {
    input.query = array_of(projections, 0);
    input.key = array_of(projections, 1);
    input.value = array_of(projections, 2);
  }
  if (traits(config.architecture).has_gate()) input.gate = array_of(projections, input.packed ? 1 : 3);
  if (traits(config.architecture).has_retrieval()) {
    input.retrieval_query = array_of(retrieval, 0);
    input.retrieval_key = array_of(retrieval, 1);
  }
  const std::string prefix = layer_prefix + "attention.";
  if (has_null_chunk(config)) input.null_logit = weights.vector(prefix + "null_logit");
  if (gates_retrieval(config)) input.retrieval_gate = weights.vector(prefix + "retrieval_gate");
  if (!compresses_states(config)) return input;
  input.compress_weight = modules.compress;
  input.compress_bias = weights.vector(prefix + "compress_proj.bias");
  input.decompress_weight = modules.decompress;
  input.decompress_bias = weights.vector(prefix + "decompress_proj.bias");
  return input;
}

}  // namespace bsbr
