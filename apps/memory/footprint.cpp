// What a run of a model will take of memory: what is allocated by name, and what comes with it.
#include "memory/footprint.hpp"

#include <malloc.h>

#include <algorithm>

#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/gradient.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "config/weight_table.hpp"
#include "harness/format.hpp"
#include "harness/memory.hpp"
#include "kernels/backend.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// Code that is paged in when it first runs, thread stacks, BLAS' and MPI's own buffers: measured, not known.
constexpr std::int64_t unnamed_bytes = 8 << 20;
constexpr std::int64_t unnamed_bytes_per_thread = 1 << 20;

/// The views of a layer's weights, and what their allocations take besides the elements.
constexpr std::int64_t unnamed_bytes_per_layer = 3 << 10;

/// HDF5's metadata of each weight while a model is read, which it holds in a cache of limited size.
constexpr std::int64_t metadata_bytes_per_weight = 2 << 10, largest_metadata_bytes = 24 << 20;

/// A weight of the reference besides its numbers: its name, and its place in the map.
constexpr std::int64_t unnamed_bytes_per_reference_weight = 256;

/// Buffers of HDF5 and MPI's file layer while a result is written.
constexpr std::int64_t writing_bytes = 4 << 20;

/// More than any machine has, and far from what 64 bits hold.
constexpr double absurd_bytes = 0x1p55;

/// Rows of the model's width that a token takes at most, in all buffers of a forward together.
constexpr double rows_per_token = 8;

/// Rows that the reference keeps beside those of the layers: embedding, last norm, what it works on.
constexpr std::int64_t reference_rows = 4;

/// Sizes of files and command lines may be absurd: far beyond any machine they are refused here, before products of
/// them overflow.
void refuse_absurd(const ModelConfig& config, const Sequence& sequence, bool verify) {
  const auto tokens = static_cast<double>(sequence.batch()) * static_cast<double>(sequence.local_tokens());
  const auto chunks = static_cast<double>(sequence.batch()) * static_cast<double>(sequence.local_chunks());
  const auto width = static_cast<double>(config.attention_dim());
  // --verify keeps all layers of the whole sequence.
  const double kept = static_cast<double>(config.hidden_dim) * static_cast<double>(config.num_layers + reference_rows) +
                      static_cast<double>(config.ff_dim);
  const double numbers = 2 * static_cast<double>(parameter_count(config)) + tokens * rows_per_token * width +
                         (verify ? static_cast<double>(sequence.length()) * kept : 0) +
                         chunks * width * static_cast<double>(config.head_dim());
  const double bytes = numbers * sizeof(double);
  if (bytes < absurd_bytes) return;
  const auto shown = static_cast<std::int64_t>(std::min(bytes, 0x1p62));
  throw MemoryError(
      "not enough memory: more than " + show_bytes(shown) + " needed on rank " + std::to_string(sequence.rank()),
      "fewer tokens, or larger chunks");
}

/// The reference's weights, what it keeps of each layer, and the widest matrices that it works with: in double
/// precision. With gradients it has these, too, and their like for what it computes.
std::int64_t reference_bytes(const ModelConfig& config, const Sequence& sequence, bool gradients) {
  const std::int64_t copies = gradients ? 2 : 1;
  const std::int64_t kept =
      config.hidden_dim * (config.num_layers + reference_rows) + std::max(config.ff_dim, 4 * config.attention_dim());
  return copies * ((parameter_count(config) + sequence.length() * kept) * static_cast<std::int64_t>(sizeof(double)) +
                   WeightLayout(config).count() * unnamed_bytes_per_reference_weight);
}

std::int64_t threads() { return static_cast<std::int64_t>(Kokkos::DefaultHostExecutionSpace().concurrency()); }

/// Of a thread, in kernels of the attention.
template <class Real>
std::int64_t largest_scratch(const ModelConfig& config, bool gradients) {
  const std::int64_t backward = gradients ? attention::gradient_scratch_bytes<Real>(config) : 0;
  return std::max(attention::scratch_bytes<Real>(config), backward);
}

/// What the process has, and what every run adds.
Footprint common_footprint(const ModelConfig& config, int rank) {
  malloc_trim(0);  // what reading the configuration has left
  const std::int64_t metadata =
      rank == 0 ? std::min(WeightLayout(config).count() * metadata_bytes_per_weight, largest_metadata_bytes) : 0;
  return {resident_bytes(), unnamed_bytes + threads() * unnamed_bytes_per_thread +
                                config.num_layers * unnamed_bytes_per_layer + metadata};
}

}  // namespace

template <class Real>
Footprint predict_footprint(const ModelConfig& config, const Sequence& sequence, const Extras& extras) {
  refuse_absurd(config, sequence, extras.verify);
  const std::int64_t tokens = sequence.batch() * sequence.local_tokens(),
                     chunks = sequence.batch() * sequence.num_chunks();
  const auto real = static_cast<std::int64_t>(sizeof(Real));
  Footprint footprint = common_footprint(config, sequence.rank());
  const std::int64_t ids = tokens * static_cast<std::int64_t>(sizeof(std::int32_t) + (extras.mask ? 1 : 0));
  const std::int64_t mask = 2 * chunks * static_cast<std::int64_t>(sizeof(std::int64_t));  // PaddingMask
  const std::int64_t targets = tokens * static_cast<std::int64_t>(sizeof(std::int32_t));
  const auto passes = [&] {
    if (extras.gradients) return targets + gradient_bytes<Real>(config, sequence, extras.recompute);
    return packed_weight_bytes<Real>(config, extras.rounding) +
           workspace_bytes<Real>(config, sequence, extras.rounding) +
           (extras.loss ? output_layer_bytes<Real>(config, sequence, extras.rounding) : 0);
  };
  footprint.added += ids;
  if (kernels::host_memory) footprint.added += mask + parameter_count(config) * real + passes();
  if (kernels::on_host_threads) footprint.added += threads() * largest_scratch<Real>(config, extras.gradients);
  if (extras.result) footprint.added += writing_bytes + (kernels::host_memory ? 0 : tokens * config.hidden_dim * real);
  if (kernels::host_memory) footprint.added += extras.kept_losses * static_cast<std::int64_t>(sizeof(double));
  if (extras.verify && sequence.rank() == 0) footprint.added += reference_bytes(config, sequence, extras.gradients);
  return footprint;
}

template <class Real>
Footprint predict_training_footprint(const ModelConfig& config, const TrainingGrid& grid,
                                     const TrainingOptions& options, bool has_mask) {
  const Sequence& sequence = grid.sequence();
  refuse_absurd(config, sequence, false);
  const std::int64_t tokens = sequence.batch() * sequence.local_tokens() * grid.shape().accumulate,
                     chunks = sequence.batch() * sequence.num_chunks();
  constexpr std::int64_t steps = 2;  // the one that is computed, and the one that is read ahead
  const auto of_token = static_cast<std::int64_t>(2 * sizeof(std::int32_t) + (has_mask ? 1 : 0));  // ids, targets, mask
  Footprint footprint = common_footprint(config, sequence.rank());
  footprint.added += steps * tokens * of_token + writing_bytes;
  if (kernels::host_memory) {
    const std::int64_t mask = 2 * chunks * static_cast<std::int64_t>(sizeof(std::int64_t));  // PaddingMask
    footprint.added += mask + training_bytes<Real>(config, grid, options);
  }
  if (kernels::on_host_threads) footprint.added += threads() * largest_scratch<Real>(config, true);
  return footprint;
}

template Footprint predict_training_footprint<float>(const ModelConfig&, const TrainingGrid&, const TrainingOptions&,
                                                     bool);
template Footprint predict_training_footprint<double>(const ModelConfig&, const TrainingGrid&, const TrainingOptions&,
                                                      bool);
template Footprint predict_footprint<float>(const ModelConfig&, const Sequence&, const Extras&);
template Footprint predict_footprint<double>(const ModelConfig&, const Sequence&, const Extras&);

}  // namespace bsbr::apps
