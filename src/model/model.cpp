// The whole model: embedding, the layers one after the other, the final norm.
#include "bsbr/model.hpp"

#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "kernels/embedding.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/poison.hpp"
#include "model/allocate.hpp"
#include "model/progress.hpp"
#include "model/stages.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"
#include "parallel/mpi.hpp"

namespace bsbr {

template <class Real>
Model<Real>::Model(Weights<Real> weights) : m_weights(std::move(weights)) {
  require_kokkos();
  for (std::int64_t index = 0; index < config().num_layers; ++index) m_layers.emplace_back(m_weights, index);
}

template <class Real>
void Model<Real>::prepare(const Execution& execution, const Sequence& sequence, const Array<const std::int32_t**>& ids,
                          bool has_mask, std::vector<AttentionState<Real>>* states) {
  const int with_mask = parallel::all_reduce(has_mask ? 1 : 0, MPI_SUM, sequence.comm());
  const bool kept = m_workspace != nullptr && same_part(m_workspace->sequence(), sequence);
  const bool moves = !kept && m_workspace != nullptr && same_shape(m_workspace->sequence(), sequence);
  parallel::agree(sequence.comm(), [&] {
    if (sequence.chunk_size() != config().chunk_size) {
      throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                       ", the model has chunk_size = " + std::to_string(config().chunk_size));
    }
    if (with_mask != 0 && with_mask != sequence.ranks()) {
      throw ShapeError(std::to_string(with_mask) + " of " + std::to_string(sequence.ranks()) +
                       " ranks have a mask: all must, or none");
    }
    validate_ids(execution, sequence, ids, config().vocab_size);
    if (states != nullptr && sequence.origin() == 0 && states->empty()) states->resize(m_layers.size());
    if (states != nullptr && states->size() != m_layers.size()) {
      throw ShapeError("there are states of " + std::to_string(states->size()) + " layers, the model has " +
                       std::to_string(m_layers.size()));
    }
  });
  // The old ones' memory first; on all ranks at once, since a communicator may go with it.
  if (!kept && !moves) release_memory();
  parallel::agree(sequence.comm(), [&] {
    if (moves) {
      auto workspace = std::move(m_workspace);  // of no use if this fails
      workspace->move_to(sequence);
      m_workspace = std::move(workspace);
      if (m_no_padding) m_no_padding->move_to(execution, sequence);
    }
    if (!m_workspace) m_workspace = std::make_unique<Workspace<Real>>(config(), sequence, m_weights.rounding());
    if (!has_mask && !m_no_padding) m_no_padding.emplace(execution, sequence);
    const bool only_ours = m_states.use_count() == 1;  // otherwise the caller has a copy, or there are none yet
    if (!only_ours) {
      m_states =
          allocate<Real***>("model::hidden_states", sequence.batch(), sequence.local_tokens(), config().hidden_dim);
    }
  });
}

template <class Real>
void Model<Real>::release_memory() {
  m_no_padding.reset();
  m_workspace.reset();
  m_states = {};
}

template <class Real>
Array<Real***> Model<Real>::forward(const Execution& execution, const Sequence& sequence,
                                    const Array<const std::int32_t**>& ids,
                                    const std::optional<Array<const std::uint8_t**>>& mask, Profile* profile,
                                    std::vector<AttentionState<Real>>* states) {
  prepare(execution, sequence, ids, mask.has_value(), states);
  ProgressReports progress(config(), sequence, profile);
  const PaddingMask padding = mask ? PaddingMask(execution, sequence, *mask) : *m_no_padding;
  const Array<Real***> x = m_states;
  kernels::poison(execution, x);
  {
    const Phase phase(execution, profile, "embedding");
    kernels::embed(execution, ids, m_weights.matrix("embedding.weight"), sequence.first_token(), x);
  }
  for (std::size_t index = 0; index < m_layers.size(); ++index) {
    progress.start_layer(static_cast<std::int64_t>(index));
    AttentionState<Real>* state = states == nullptr ? nullptr : &(*states)[index];
    m_layers[index].forward(execution, padding, *m_workspace, x, profile, state);
  }
  {
    const Phase phase(execution, profile, "final_norm");
    final_norm(execution, m_weights, x);
  }
  execution.fence();
  progress.finish();
  return x;
}

template class Model<float>;
template class Model<double>;

}  // namespace bsbr
