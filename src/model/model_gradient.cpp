// Loss and gradients of a whole model, for all ranks.
#include <optional>
#include <string>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/gradient.hpp"
#include "model/gradient_pass.hpp"
#include "model/gradients_for_all.hpp"
#include "model/stages.hpp"
#include "model/targets.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

const std::vector<PartKind> all_kinds{PartKind::norm, PartKind::head, PartKind::embedding, PartKind::attention,
                                      PartKind::rest};

}  // namespace

/// Of one shape of sequence.
template <class Real>
struct ModelGradient<Real>::Buffers {
  PassBuffers<Real> pass;
  GradientsForAll<Real> sums;

  /// Not collective. Throws ConfigError if a rank's part ends within a leaf, MemoryError.
  Buffers(const Execution& execution, const ModelConfig& config, const Sequence& sequence, Recompute recompute)
      : Buffers(execution, config, sequence, recompute, parallel::Leaves(sequence)) {}

 private:
  Buffers(const Execution& execution, const ModelConfig& config, const Sequence& sequence, Recompute recompute,
          const parallel::Leaves& leaves)
      : pass(config, sequence, leaves, recompute), sums(execution, config, sequence, leaves, all_kinds) {}
};

template <class Real>
ModelGradient<Real>::ModelGradient(const Weights<Real>& weights)
    : m_modules(std::make_shared<GradientModules<Real>>(weights)) {
  require_no_rounding(weights);
}

/// On all ranks the buffers of this sequence and way to compute, new ones unless they are there.
template <class Real>
void ModelGradient<Real>::prepare(const Execution& execution, const Sequence& sequence, Recompute recompute) {
  const ModelConfig& config = m_modules->weights.config();
  const bool kept =
      m_buffers != nullptr && m_buffers->pass.recompute == recompute && same_part(m_buffers->pass.sequence, sequence);
  if (!kept)
    m_buffers.reset();  // the old ones' memory first; on all ranks at once, since a communicator may go with it
  parallel::agree(sequence.comm(), [&] {
    if (sequence.chunk_size() != config.chunk_size) {
      throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                       ", the model has chunk_size = " + std::to_string(config.chunk_size));
    }
    if (!kept) m_buffers = std::make_shared<Buffers>(execution, config, sequence, recompute);
  });
}

template <class Real>
LossAndGradients<Real> ModelGradient<Real>::compute(const Execution& execution, const Sequence& sequence,
                                                    const Array<const std::int32_t**>& ids,
                                                    const Array<const std::int32_t**>& targets,
                                                    const std::optional<Array<const std::uint8_t**>>& mask,
                                                    Profile* profile, Recompute recompute) {
  prepare(execution, sequence, recompute);
  const ModelConfig& config = m_modules->weights.config();
  std::int64_t mine = 0;
  std::optional<LossAndGradients<Real>> result;
  parallel::agree(sequence.comm(), [&] {
    validate_ids(execution, sequence, ids, config.vocab_size);
    mine = count_targets(execution, sequence, targets, config.vocab_size);
    result.emplace(
        LossAndGradients<Real>{{},
                               allocate<double**>("gradient::token_losses", sequence.batch(), sequence.local_tokens()),
                               WeightArray<Real>(config, "gradients")});
  });
  const std::int64_t counted = parallel::all_reduce(mine, MPI_SUM, sequence.comm());
  const PassInput input{.ids = ids,
                        .targets = targets,
                        .mask = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence),
                        .scale = counted == 0 ? 0 : 1 / static_cast<double>(counted),
                        .token_losses = result->token_losses};
  try {
    m_buffers->sums.begin(result->gradients.data(), profile);
    run_pass(*m_modules, m_buffers->pass, execution, input, m_buffers->sums, profile);
    m_buffers->sums.finish();
  } catch (...) {
    m_buffers.reset();  // sums may have been left half-way
    throw;
  }
  execution.fence();
  result->loss = mean_loss(sequence, result->token_losses, targets);
  return *result;
}

Sequence gradient_sequence(MPI_Comm comm, std::int64_t batch, std::int64_t length, std::int64_t chunk_size) {
  const bool valid = length >= 0 && chunk_size > 0;  // Sequence refuses the others
  return {comm, batch, length, chunk_size, 0, valid ? parallel::leaf_chunks(length, chunk_size) : 1};
}

template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute) {
  const parallel::Leaves leaves(sequence);
  return GradientModules<Real>::bytes(config) + PassBuffers<Real>::bytes(config, sequence, leaves, recompute) +
         GradientsForAll<Real>::bytes(config, leaves, all_kinds) +
         sequence.batch() * sequence.local_tokens() * static_cast<std::int64_t>(sizeof(double)) +
         parameter_count(config) * static_cast<std::int64_t>(sizeof(Real));
}

template std::int64_t gradient_bytes<float>(const ModelConfig&, const Sequence&, Recompute);
template std::int64_t gradient_bytes<double>(const ModelConfig&, const Sequence&, Recompute);
template class ModelGradient<float>;
template class ModelGradient<double>;

}  // namespace bsbr
