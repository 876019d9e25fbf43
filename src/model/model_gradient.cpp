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
#include "model/layer_gradient.hpp"
#include "model/stages.hpp"
#include "parallel/agree.hpp"
#include "parallel/reduce_scatter.hpp"

namespace bsbr {
namespace {

template <class Real>
Array<const Real**> head_matrix(const Weights<Real>& weights) {
  require_head(weights.config());
  return weights.matrix(weights.config().head == Head::tied ? "embedding.weight" : "lm_head.weight");
}

template <class Real>
Array<Real***> allocate(const char* label, const Sequence& sequence, std::int64_t width) {
  try {
    return Array<Real***>(Kokkos::view_alloc("bsbr::gradient::" + std::string(label), Kokkos::WithoutInitializing),
                          sequence.batch(), sequence.local_tokens(), width);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::string(label) + " [" + std::to_string(sequence.batch()) + ", " +
                      std::to_string(sequence.local_tokens()) + ", " + std::to_string(width) + "]: " + error.what());
  }
}

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
  OutputLayer<Real> output;
  std::vector<kernels::ProductWeight<Real>> head, transposed_head;  // blocks of the vocabulary

  explicit Modules(const Weights<Real>& of_model)
      : weights(of_model),
        output(of_model),
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

template <class Real>
LossAndGradients<Real> ModelGradient<Real>::compute(const Execution& execution, const Sequence& sequence,
                                                    const Array<const std::int32_t**>& ids,
                                                    const Array<const std::int32_t**>& targets,
                                                    const std::optional<Array<const std::uint8_t**>>& mask,
                                                    Profile* profile) {
  const Modules& modules = *m_modules;
  const Weights<Real>& weights = modules.weights;
  const ModelConfig& config = weights.config();
  const std::int64_t hidden = config.hidden_dim, vocabulary = config.vocab_size;
  std::vector<Array<Real***>> inputs;
  Array<Real***> gradient;
  std::optional<parallel::Leaves> all_leaves;
  std::optional<GradientWorkspace<Real>> workspace;
  std::optional<Workspace<Real>> forward_workspace;
  LossAndGradients<Real> result{{}, {}, WeightArray<Real>(config, "gradients")};
  parallel::agree(sequence.comm(), [&] {
    if (sequence.chunk_size() != config.chunk_size) {
      throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                       ", the model has chunk_size = " + std::to_string(config.chunk_size));
    }
    all_leaves.emplace(sequence);
    validate_ids(execution, sequence, ids, vocabulary);
    forward_workspace.emplace(config, sequence);
    for (std::size_t i = 0; i <= modules.layers.size(); ++i)
      inputs.push_back(allocate<Real>("inputs", sequence, hidden));
    gradient = allocate<Real>("hidden_states", sequence, hidden);
  });
  const parallel::Leaves& leaves = *all_leaves;
  const PaddingMask padding = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence);

  // Forward: what each layer is given is kept.
  {
    const Phase phase(execution, profile, "embedding");
    kernels::embed(execution, ids, weights.matrix("embedding.weight"), sequence.first_token(), inputs[0]);
  }
  for (std::size_t index = 0; index < modules.layers.size(); ++index) {
    Kokkos::deep_copy(execution, inputs[index + 1], inputs[index]);
    modules.layers[index].forward(execution, padding, *forward_workspace, inputs[index + 1], profile);
  }
  forward_workspace.reset();
  parallel::agree(sequence.comm(), [&] { workspace.emplace(config, sequence, local_leaves(sequence, *all_leaves)); });
  Kokkos::deep_copy(execution, gradient, inputs.back());
  final_norm(execution, weights, gradient);
  const TokenLosses losses = modules.output.losses(execution, sequence, gradient, targets, profile);
  result.token_losses = losses.loss;
  result.loss = mean_loss(sequence, losses.loss, targets);

  // Backward: layer by layer, and leaf by leaf.
  const Array<Real*> all = result.gradients.data();
  const auto within = [&](std::int64_t offset, std::int64_t elements) {
    return Array<Real*>(all.data() + offset, static_cast<std::size_t>(elements));
  };
  // The sum over all ranks' leaves, on each of them.
  const auto total = [&](const parallel::LeafSums<Real>& sums) {
    const Phase phase(execution, profile, "exchange");
    parallel::OrderedReduceScatter<Real> scatter(execution, sequence, sums.elements());
    scatter.start(sums);
    const Array<Real*> part = scatter.wait();
    if (profile != nullptr) profile->sent("gradients", scatter.bytes_sent(), scatter.messages_sent());
    const Array<Real*> whole("bsbr::gradient::total", sums.elements());
    const auto parts = parallel::all_parts(execution, sequence.comm(), part, whole);
    attention::finish(*parts, "gradients", profile);
    return whole;
  };
  const auto sum_over_leaves = [&](std::int64_t elements, const auto& add_leaf) {
    parallel::LeafSums<Real> sums(execution, leaves, elements);
    for (const LeafRows& leaf : workspace->leaves()) {
      add_leaf(leaf, sums.leaf());
      sums.join(leaf.index);
    }
    return total(sums);
  };
  const std::int64_t table = vocabulary * hidden;
  const bool tied = config.head == Head::tied;
  const double scale = result.loss.counted == 0 ? 0 : 1 / static_cast<double>(result.loss.counted);
  const auto part_of = [](const Array<Real*>& sums, std::int64_t offset, std::int64_t elements) {
    return Array<Real*>(sums.data() + offset, static_cast<std::size_t>(elements));
  };
  const auto as_table = [&](const Array<Real*>& sums, std::int64_t offset) {
    return Array<Real**>(sums.data() + offset, static_cast<std::size_t>(vocabulary), static_cast<std::size_t>(hidden));
  };
  Array<Real*> of_head;
  {
    const Phase phase(execution, profile, "head");
    of_head = sum_over_leaves(2 * hidden + table, [&](const LeafRows& leaf, const Array<Real*>& sums) {
      modules.head_gradient(execution, *workspace, leaf, inputs.back(), targets, losses.log_sum, scale, gradient, sums,
                            as_table(sums, 2 * hidden));
    });
    Kokkos::deep_copy(execution, within(weights.offset("layer_norm.weight"), 2 * hidden),
                      part_of(of_head, 0, 2 * hidden));
    if (!tied)
      Kokkos::deep_copy(execution, within(weights.offset("lm_head.weight"), table),
                        part_of(of_head, 2 * hidden, table));
  }
  for (std::size_t index = modules.layers.size(); index-- > 0;) {
    const LayerGradient<Real>& layer = modules.gradients[index];
    const auto &own = layer.attention(), &rest = layer.rest(), &norm1 = layer.norm1();
    parallel::LeafSums<Real> of_attention(execution, leaves, own.elements + norm1.elements),
        of_rest(execution, leaves, rest.elements);
    layer.backward(execution, padding, *workspace, inputs[index], gradient, of_attention, of_rest, profile);
    const Array<Real*> attention_total = total(of_attention);
    Kokkos::deep_copy(execution, within(rest.offset, rest.elements), total(of_rest));
    Kokkos::deep_copy(execution, within(own.offset, own.elements), part_of(attention_total, 0, own.elements));
    Kokkos::deep_copy(execution, within(norm1.offset, norm1.elements),
                      part_of(attention_total, own.elements, norm1.elements));
    execution.fence();
  }
  const Phase phase(execution, profile, "embedding");
  const Array<Real*> of_embedding = sum_over_leaves(table, [&](const LeafRows& leaf, const Array<Real*>& sums) {
    kernels::add_embedding_gradient<Real>(execution, of_leaf(ids, leaf), of_leaf(gradient, leaf), as_table(sums, 0));
  });
  const Array<Real*> embedding = within(weights.offset("embedding.weight"), table);
  Kokkos::parallel_for(
      "bsbr::gradient::embedding", Kokkos::RangePolicy<Execution>(execution, 0, table),
      KOKKOS_LAMBDA(const std::int64_t i) {
        embedding(i) = tied ? of_embedding(i) + of_head(2 * hidden + i) : of_embedding(i);
      });
  execution.fence();
  return result;
}

template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
  const std::int64_t tokens = sequence.batch() * sequence.local_tokens(), hidden = config.hidden_dim,
                     width = config.attention_dim(), count = projections_of(config.architecture);
  const std::int64_t leaf = parallel::leaf_chunks(sequence.length(), sequence.chunk_size()) * sequence.chunk_size();
  // Inputs of the layers and the gradient; projections, heads, and the gradients of both.
  const std::int64_t rows = tokens * ((config.num_layers + 2) * hidden + 2 * (count + 1) * width);
  const std::int64_t of_leaf = leaf * (3 * hidden + 2 * config.ff_dim);
  // The weights packed the other way round and the head's blocks twice; gradients, and sums of leaves.
  const std::int64_t head = 2 * config.vocab_size * hidden, sums = 4 * (parameter_count(config) / config.num_layers);
  return (rows + of_leaf + head + sums + parameter_count(config)) * static_cast<std::int64_t>(sizeof(Real)) +
         packed_weight_bytes<Real>(config) + attention::workspace_bytes<Real>(config, sequence);
}

template std::int64_t gradient_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t gradient_bytes<double>(const ModelConfig&, const Sequence&);
template class ModelGradient<float>;
template class ModelGradient<double>;

}  // namespace bsbr
