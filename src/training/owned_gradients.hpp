// The sums of gradients of a step of training: each rank gets the parts of them that it owns.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "bsbr/profile.hpp"
#include "kernels/add.hpp"
#include "kernels/square_sums.hpp"
#include "model/allocate.hpp"
#include "model/gradient_sums.hpp"
#include "parallel/reduce_scatter.hpp"

namespace bsbr::training {

/// All parts of a model whose gradients are summed, in an order of their own. A tied head has none of its own here: it
/// is part of the embedding's.
std::vector<PartOfModel> parts_of_model(const ModelConfig& config);

/// How a part is divided among ranks. No rank parts a block of the gradient's norm.
inline Partition owners_of(std::int64_t elements, int ranks) { return {elements, ranks, kernels::norm_block}; }

/// Batch after batch is summed over; behind the last one the sums of a part go to their owners, while other parts are
/// formed. With several batches each part has arrays of its own for what has been summed up; with one, layers share
/// them.
template <class Real>
class OwnedGradients : public GradientSums<Real> {
 public:
  /// Over these leaves, those of `batches` batches; `comm` has the ranks that they are numbered for. Throws
  /// MemoryError.
  OwnedGradients(const Execution& execution, const ModelConfig& config, MPI_Comm comm, const parallel::Leaves& leaves,
                 std::int64_t batches);
  static std::int64_t bytes(const ModelConfig& config, const parallel::Leaves& leaves, std::int64_t batches);

  /// A batch follows. is_last: the last one of the step. The profile may be null.
  void begin_batch(bool is_last, Profile* profile) {
    m_is_last = is_last;
    m_profile = profile;
  }

  parallel::LeafSums<Real>& leaves(PartOfModel part) override { return *leaves_of(part); }
  void formed(PartOfModel part) override;
  void advance() override;

  /// Behind the last batch: all sums are with their owners, in the order of the execution.
  void finish();

  /// What this rank owns of a part's sum: elements parts().begin(rank) and following. It lasts until the next step.
  const Array<Real*>& owned(PartOfModel part) const { return m_owned.at(key(part)); }

 private:
  using Key = std::pair<PartKind, std::int64_t>;
  static Key key(PartOfModel part) { return {part.kind, part.layer}; }

  /// Those of a kind, or with several batches of each part.
  Key key_of_leaves(PartOfModel part) const { return {part.kind, m_are_apart ? part.layer : 0}; }
  std::unique_ptr<parallel::LeafSums<Real>>& leaves_of(PartOfModel part) { return m_leaves.at(key_of_leaves(part)); }

  Execution m_execution;
  ModelConfig m_config;
  bool m_are_apart, m_is_last = true;
  std::map<Key, std::unique_ptr<parallel::LeafSums<Real>>> m_leaves;
  std::map<PartKind, std::unique_ptr<parallel::OrderedReduceScatter<Real>>> m_ranks;
  std::map<Key, Array<Real*>> m_owned;
  std::vector<PartOfModel> m_under_way;  // in the order in which they were formed
  Profile* m_profile = nullptr;
};

}  // namespace bsbr::training
