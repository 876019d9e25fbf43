// Steps of training: gradients over all micro-batches, each part with its owner, and an update of what a rank owns.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/training.hpp"
#include "config/require_number.hpp"
#include "model/gradient_pass.hpp"
#include "model/stages.hpp"
#include "model/targets.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"
#include "training/adamw.hpp"
#include "training/clipping.hpp"
#include "training/owned_gradients.hpp"

namespace bsbr {
namespace training {

/// Of what a rank owns of a part of the model: a range of all weights, and what the optimiser keeps of it.
template <class Real>
struct OwnedRange {
  AdamW<Real> optimizer;
  std::int64_t first;  // in the owned elements of the part

  std::int64_t size() const { return optimizer.end() - optimizer.begin(); }
};

template <class Real>
struct OwnedPart {
  PartOfModel part;
  GradientPart weights;
  Partition owners;
  std::int64_t first_block;  // of the gradient's norm: blocks of all parts, one part after the other
  std::vector<OwnedRange<Real>> ranges;
};

}  // namespace training

using training::OwnedPart;
using training::OwnedRange;

namespace {

parallel::Batches batches_of(const TrainingGrid& grid) {
  return {.count = grid.shape().accumulate, .rows = grid.shape().batch, .groups = grid.groups(), .group = grid.group()};
}

template <class Real>
Array<Real*> some_of(const Array<Real*>& array, std::int64_t first, std::int64_t count) {
  return Array<Real*>(array.data() + first, static_cast<std::size_t>(count));
}

/// Of what is in range as a double. Throws ConfigError if Real makes it 0 or infinite, and a weight NaN.
template <class Real>
void require_in_precision(const TrainingOptions& options) {
  options.validate();
  const std::string in = sizeof(Real) == sizeof(float) ? " in float" : " in double";
  const auto require_in = [&](std::string_view name, double value, double least, const std::string& hint) {
    const auto rounded = static_cast<double>(static_cast<Real>(value));
    require_number(std::isfinite(rounded) && rounded >= least, name, value,
                   (std::isfinite(rounded) ? "0" : "infinite") + in, hint);
  };
  require_in("epsilon", options.optimizer.epsilon, std::numeric_limits<double>::denorm_min(),
             "it keeps a weight in place whose gradients are 0: 1e-8 is usual");
  require_in("weight_decay", options.optimizer.weight_decay, 0, "0.1 is usual, 0 is without decay");
  require_in("learning_rate", options.learning_rate.learning_rate, 0, "1e-3 is usual for small models");
}

/// Whether the optimiser can square gradients of this norm.
template <class Real>
bool has_squares(double norm) {
  const auto rounded = static_cast<Real>(norm);
  return std::isfinite(rounded * rounded);
}

/// Of the weights a copy, which changes with every step.
template <class Real>
Weights<Real> copy_of(const Weights<Real>& weights) {
  if (weights.rounding() != Rounding::none) throw ConfigError("weights with rounded products cannot be trained");
  Weights<Real> copy(weights.config());
  Kokkos::deep_copy(copy.data(), weights.data());
  return copy;
}

}  // namespace

template <class Real>
struct Trainer<Real>::State {
  TrainingGrid grid;
  TrainingOptions options;
  Weights<Real> weights;
  GradientModules<Real> modules;
  parallel::Leaves leaves;
  PassBuffers<Real> buffers;
  training::OwnedGradients<Real> gradients;
  std::vector<OwnedPart<Real>> parts;
  std::int64_t blocks = 0;                    // of the gradient's norm
  Array<Real*> own, all;                      // of one part: what this rank sends of it, and what all have
  std::vector<Array<double**>> token_losses;  // of each micro-batch
  std::int64_t steps = 0;

  State(const Weights<Real>& of_model, const TrainingGrid& of_ranks, const TrainingOptions& given);

  std::int64_t count_targets(const Execution& execution, const std::vector<MicroBatch>& batches) const;
  MeanLoss run_passes(const Execution& execution, std::vector<PassInput>& inputs, std::int64_t counted,
                      Profile* profile);
  MeanLoss run_forward(const Execution& execution, const std::vector<PassInput>& inputs, Profile* profile);
  std::vector<PassInput> pass_inputs(const Execution& execution, const std::vector<MicroBatch>& batches) const;
  /// Of this rank's group in a micro-batch, among all of the step.
  std::int64_t first_sequence(std::size_t number) const {
    return static_cast<std::int64_t>(number) * grid.shape().batch + grid.first_row();
  }
  LossSum sum_of_losses() const;
  void add(const Execution& execution, LossSum& losses, const PassInput& input, std::size_t number) const;
  double norm(const Execution& execution) const;
  void update(const Execution& execution, double learning_rate, double gradient_scale);
  void share_weights(const Execution& execution, Profile* profile) const;
};

template <class Real>
Trainer<Real>::State::State(const Weights<Real>& of_model, const TrainingGrid& of_ranks, const TrainingOptions& given)
    : grid(of_ranks),
      options(given),
      weights(copy_of(of_model)),
      modules(weights),
      leaves(grid.sequence(), batches_of(grid)),
      buffers(weights.config(), grid.sequence(), leaves, given.recompute),
      gradients(Execution(), weights.config(), grid.comm(), leaves, grid.shape().accumulate) {
  const ModelConfig& config = weights.config();
  std::int64_t most = 0, most_own = 0;
  for (const PartOfModel part : training::parts_of_model(config)) {
    GradientPart of_part = gradient_part(config, part);
    const std::int64_t elements = of_part.elements();
    OwnedPart<Real> owned{part, of_part, training::owners_of(elements, leaves.ranks()), blocks, {}};
    const std::int64_t begin = owned.owners.begin(leaves.rank()), end = owned.owners.end(leaves.rank());
    std::int64_t first = 0;
    for (const auto& [offset, count] : of_part.ranges_of(begin, end)) {
      owned.ranges.push_back({training::AdamW<Real>(config, given.optimizer, offset, offset + count), first});
      first += count;
    }
    parts.push_back(std::move(owned));
    blocks += kernels::norm_blocks(elements);
    most = std::max(most, elements);
    most_own = std::max(most_own, end - begin);
  }
  own = allocate<Real*>("training::own", most_own);
  all = allocate<Real*>("training::all", most);
  for (std::int64_t i = 0; i < grid.shape().accumulate; ++i) {
    token_losses.push_back(
        allocate<double**>("training::token_losses", grid.sequence().batch(), grid.sequence().local_tokens()));
  }
}

/// On this rank. Throws ShapeError unless all fits.
template <class Real>
std::int64_t Trainer<Real>::State::count_targets(const Execution& execution,
                                                 const std::vector<MicroBatch>& batches) const {
  const std::int64_t vocabulary = weights.config().vocab_size;
  if (static_cast<std::int64_t>(batches.size()) != grid.shape().accumulate) {
    throw ShapeError("a step of " + std::to_string(grid.shape().accumulate) + " micro-batches is given " +
                     std::to_string(batches.size()));
  }
  std::int64_t counted = 0;
  for (const MicroBatch& batch : batches) {
    validate_ids(execution, grid.sequence(), batch.ids, vocabulary);
    counted += bsbr::count_targets(execution, grid.sequence(), batch.targets, vocabulary);
  }
  return counted;
}

/// Of all micro-batches. Collective over the ranks of the group, which agree on what is wrong with a mask.
template <class Real>
std::vector<PassInput> Trainer<Real>::State::pass_inputs(const Execution& execution,
                                                         const std::vector<MicroBatch>& batches) const {
  const Sequence& sequence = grid.sequence();
  std::vector<PassInput> inputs;
  for (const auto& [ids, targets, mask] : batches) {
    const std::size_t number = inputs.size();
    inputs.push_back({.ids = ids,
                      .targets = targets,
                      .mask = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence),
                      .scale = 0,
                      .token_losses = token_losses[number],
                      .first_leaf = static_cast<std::int64_t>(number) * leaves.per_batch()});
  }
  return inputs;
}

template <class Real>
LossSum Trainer<Real>::State::sum_of_losses() const {
  return {grid.shape().batch * grid.shape().accumulate, grid.shape().length};
}

/// The losses of a micro-batch, which are computed by then.
template <class Real>
void Trainer<Real>::State::add(const Execution& execution, LossSum& losses, const PassInput& input,
                               std::size_t number) const {
  execution.fence();
  losses.add(grid.sequence(), input.token_losses, input.targets, first_sequence(number));
}

/// Gradients of all micro-batches, and their loss.
template <class Real>
MeanLoss Trainer<Real>::State::run_passes(const Execution& execution, std::vector<PassInput>& inputs,
                                          std::int64_t counted, Profile* profile) {
  LossSum losses = sum_of_losses();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    PassInput& input = inputs[i];
    input.scale = counted == 0 ? 0 : 1 / static_cast<double>(counted);
    input.dropout = {options.dropout, options.seed, steps, first_sequence(i)};
    gradients.begin_batch(i + 1 == inputs.size(), profile);
    run_pass<Real>(modules, buffers, execution, input, gradients, profile);
    add(execution, losses, input, i);
  }
  gradients.finish();
  return losses.mean(grid.comm());
}

/// The loss of all micro-batches.
template <class Real>
MeanLoss Trainer<Real>::State::run_forward(const Execution& execution, const std::vector<PassInput>& inputs,
                                           Profile* profile) {
  LossSum losses = sum_of_losses();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    run_losses<Real>(modules, buffers, execution, inputs[i], profile);
    add(execution, losses, inputs[i], i);
  }
  return losses.mean(grid.comm());
}

template <class Real>
double Trainer<Real>::State::norm(const Execution& execution) const {
  std::vector<training::NormPart<Real>> of_parts;
  for (const OwnedPart<Real>& part : parts) {
    const std::int64_t begin = part.owners.begin(leaves.rank());
    of_parts.push_back({part.first_block + begin / kernels::norm_block, gradients.owned(part.part)});
  }
  return training::gradient_norm<Real>(execution, grid.comm(), blocks, of_parts);
}

/// What each rank owns of the weights → the weights of all ranks.
template <class Real>
void Trainer<Real>::State::share_weights(const Execution& execution, Profile* profile) const {
  const Phase phase(execution, profile, "exchange");
  for (const OwnedPart<Real>& part : parts) {
    for (const OwnedRange<Real>& owned : part.ranges) {
      Kokkos::deep_copy(execution, some_of(own, owned.first, owned.size()),
                        some_of(weights.data(), owned.optimizer.begin(), owned.size()));
    }
    const Array<Real*> whole = some_of(all, 0, part.weights.elements());
    const auto parts_of_all = parallel::all_parts(execution, grid.comm(),
                                                  some_of(own, 0, part.owners.size(leaves.rank())), whole, part.owners);
    parts_of_all->wait();
    if (profile != nullptr) profile->sent("weights", parts_of_all->bytes_sent(), parts_of_all->messages_sent());
    std::int64_t first = 0;
    for (const auto& [offset, count] : part.weights.ranges()) {
      Kokkos::deep_copy(execution, some_of(weights.data(), offset, count), some_of(whole, first, count));
      first += count;
    }
  }
}

/// Of what this rank owns.
template <class Real>
void Trainer<Real>::State::update(const Execution& execution, double learning_rate, double gradient_scale) {
  for (const OwnedPart<Real>& part : parts) {
    for (const OwnedRange<Real>& owned : part.ranges) {
      owned.optimizer.update(execution, steps, learning_rate, gradient_scale,
                             some_of(gradients.owned(part.part), owned.first, owned.size()),
                             some_of(weights.data(), owned.optimizer.begin(), owned.size()));
    }
  }
}

template <class Real>
Trainer<Real>::Trainer(const Weights<Real>& weights, const TrainingGrid& grid, const TrainingOptions& options) {
  parallel::agree(grid.comm(), [&] {
    require_in_precision<Real>(options);
    require_head(weights.config());
    if (grid.sequence().chunk_size() != weights.config().chunk_size) {
      throw ConfigError("the grid is for chunk_size = " + std::to_string(grid.sequence().chunk_size()) +
                        ", the model has chunk_size = " + std::to_string(weights.config().chunk_size));
    }
    m_state = std::make_shared<State>(weights, grid, options);
  });
}

template <class Real>
TrainingStep Trainer<Real>::step(const Execution& execution, const std::vector<MicroBatch>& batches, Profile* profile) {
  State& state = *m_state;
  const MPI_Comm comm = state.grid.comm();
  std::int64_t mine = 0;
  std::vector<PassInput> inputs;
  parallel::agree(comm, [&] { mine = state.count_targets(execution, batches); });
  parallel::agree(comm, [&] { inputs = state.pass_inputs(execution, batches); });
  TrainingStep result;
  result.step = ++state.steps;
  result.learning_rate = state.options.learning_rate.at(result.step);
  result.loss = state.run_passes(execution, inputs, parallel::all_reduce(mine, MPI_SUM, comm), profile);
  result.gradient_norm = state.norm(execution);
  if (!std::isfinite(result.loss.loss) || !std::isfinite(result.gradient_norm)) return result;
  const double scale = training::clip_scale(result.gradient_norm, state.options.clip);
  result.is_taken = has_squares<Real>(scale * result.gradient_norm);
  if (!result.is_taken) return result;
  {
    const Phase phase(execution, profile, "optimizer");
    state.update(execution, result.learning_rate, scale);
  }
  state.share_weights(execution, profile);
  {
    const Phase phase(execution, profile, "optimizer");
    state.modules.repack(execution);
  }
  execution.fence();
  return result;
}

template <class Real>
MeanLoss Trainer<Real>::evaluate(const Execution& execution, const std::vector<MicroBatch>& batches, Profile* profile) {
  State& state = *m_state;
  std::vector<PassInput> inputs;
  parallel::agree(state.grid.comm(), [&] { state.count_targets(execution, batches); });
  parallel::agree(state.grid.comm(), [&] { inputs = state.pass_inputs(execution, batches); });
  return state.run_forward(execution, inputs, profile);
}

template <class Real>
std::int64_t Trainer<Real>::steps() const {
  return m_state->steps;
}

template <class Real>
const Weights<Real>& Trainer<Real>::weights() const {
  return m_state->weights;
}

template <class Real>
const TrainingGrid& Trainer<Real>::grid() const {
  return m_state->grid;
}

template <class Real>
std::vector<OwnedWeights<Real>> Trainer<Real>::owned() const {
  std::vector<OwnedWeights<Real>> ranges;
  for (const OwnedPart<Real>& part : m_state->parts) {
    for (const OwnedRange<Real>& range : part.ranges) {
      const training::AdamW<Real>& optimizer = range.optimizer;
      ranges.push_back({optimizer.begin(), some_of(m_state->weights.data(), optimizer.begin(), range.size()),
                        optimizer.first_moments(), optimizer.second_moments()});
    }
  }
  std::sort(ranges.begin(), ranges.end(), [](const auto& one, const auto& other) { return one.offset < other.offset; });
  return ranges;
}

template <class Real>
void Trainer<Real>::resume(std::int64_t steps) {
  if (steps < 0) throw ConfigError("steps = " + std::to_string(steps) + " is negative");
  m_state->steps = steps;
}

template <class Real>
std::int64_t training_bytes(const ModelConfig& config, const TrainingGrid& grid, const TrainingOptions& options) {
  require_in_precision<Real>(options);
  const parallel::Leaves leaves(grid.sequence(), batches_of(grid));
  const StepShape& shape = grid.shape();
  std::int64_t most = 0, most_own = 0, owned = 0;
  for (const PartOfModel part : training::parts_of_model(config)) {
    const std::int64_t elements = gradient_part(config, part).elements(),
                       own = training::owners_of(elements, leaves.ranks()).size(leaves.rank());
    most = std::max(most, elements);
    most_own = std::max(most_own, own);
    owned += own;
  }
  const std::int64_t elements = parameter_count(config) + 2 * owned + most + most_own;
  return GradientModules<Real>::bytes(config) +
         PassBuffers<Real>::bytes(config, grid.sequence(), leaves, options.recompute) +
         training::OwnedGradients<Real>::bytes(config, leaves, shape.accumulate) +
         elements * static_cast<std::int64_t>(sizeof(Real)) +
         shape.accumulate * grid.sequence().batch() * grid.sequence().local_tokens() *
             static_cast<std::int64_t>(sizeof(double));
}

template std::int64_t training_bytes<float>(const ModelConfig&, const TrainingGrid&, const TrainingOptions&);
template std::int64_t training_bytes<double>(const ModelConfig&, const TrainingGrid&, const TrainingOptions&);
template class Trainer<float>;
template class Trainer<double>;

}  // namespace bsbr
