// The sums of gradients over the leaves of all ranks, for all of them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "attention/overlap.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "kernels/add.hpp"
#include "model/gradient_sums.hpp"
#include "parallel/reduce_scatter.hpp"

namespace bsbr {

/// Sums are on their way while others are formed, in two steps: the nodes of a part go to the ranks that own it, who
/// join them, and then what they have goes to all others. Layers share the buffers.
template <class Real>
class GradientsForAll : public GradientSums<Real> {
 public:
  /// Of these kinds of parts. Throws MemoryError.
  GradientsForAll(const Execution& execution, const ModelConfig& config, const Sequence& sequence,
                  const parallel::Leaves& leaves, const std::vector<PartKind>& kinds)
      : m_execution(execution), m_config(config), m_comm(sequence.comm()) {
    for (const PartKind kind : kinds)
      sum(kind) = std::make_unique<Sum>(execution, sequence.comm(), leaves, gradient_part(config, {kind}).elements());
  }

  static std::int64_t bytes(const ModelConfig& config, const parallel::Leaves& leaves,
                            const std::vector<PartKind>& kinds) {
    std::int64_t all = 0;
    for (const PartKind kind : kinds) {
      const std::int64_t elements = gradient_part(config, {kind}).elements();
      all += parallel::LeafSums<Real>::bytes(leaves, elements) +
             parallel::OrderedReduceScatter<Real>::bytes(leaves, elements) +
             elements * static_cast<std::int64_t>(sizeof(Real));
    }
    return all;
  }

  /// Results go to `gradients`, an array of all weights, from now on until finish().
  void begin(const Array<Real*>& gradients, Profile* profile) {
    m_gradients = gradients;
    m_profile = profile;
  }

  parallel::LeafSums<Real>& leaves(PartOfModel part) override { return sum(part.kind)->leaves; }

  void formed(PartOfModel part) override {
    const Phase phase(m_execution, m_profile, "exchange");
    sum(part.kind)->ranks.start(leaves(part));
    m_under_way.push_back(part);
  }

  void advance() override {
    if (m_under_way.empty()) return;
    const Phase phase(m_execution, m_profile, "exchange");
    std::vector<PartOfModel> left;
    for (const PartOfModel part : m_under_way) {
      if (sum(part.kind)->parts == nullptr) {
        share(*sum(part.kind));
        left.push_back(part);
      } else {
        take(part);
      }
    }
    m_under_way = left;
  }

  /// All results are there, in the order of the execution.
  void finish() {
    while (!m_under_way.empty()) advance();
  }

 private:
  struct Sum {
    parallel::LeafSums<Real> leaves;
    parallel::OrderedReduceScatter<Real> ranks;
    Array<Real*> total;                               // on all ranks
    std::unique_ptr<parallel::Exchange<Real>> parts;  // on their way to all ranks

    Sum(const Execution& execution, MPI_Comm comm, const parallel::Leaves& all, std::int64_t elements)
        : leaves(execution, all, elements),
          ranks(execution, comm, all, elements),
          total("bsbr::gradient::total", static_cast<std::size_t>(elements)) {}
  };

  std::unique_ptr<Sum>& sum(PartKind kind) { return m_sums[static_cast<std::size_t>(kind)]; }

  void share(Sum& sum) {
    const Array<Real*> part = sum.ranks.wait();
    if (m_profile != nullptr) m_profile->sent("gradients", sum.ranks.bytes_sent(), sum.ranks.messages_sent());
    sum.parts = parallel::all_parts(m_execution, m_comm, part, sum.total, sum.ranks.parts());
  }

  /// Into its place among all. A tied head's part is there before that of the tokens.
  void take(PartOfModel part) {
    Sum& sum = *this->sum(part.kind);
    attention::finish(*sum.parts, "gradients", m_profile);
    sum.parts.reset();
    const bool joins = part.kind == PartKind::embedding && m_config.head == Head::tied;
    const GradientPart weights = gradient_part(m_config, part);
    std::int64_t first = 0;
    for (const auto& [offset, elements] : weights.ranges()) {
      const auto count = static_cast<std::size_t>(elements);
      const Array<Real*> from(sum.total.data() + first, count), to(m_gradients.data() + offset, count);
      joins ? kernels::add<Real>(m_execution, to, from) : Kokkos::deep_copy(m_execution, to, from);
      first += elements;
    }
    sum.leaves.clear();
  }

  Execution m_execution;
  ModelConfig m_config;
  MPI_Comm m_comm;
  std::array<std::unique_ptr<Sum>, part_kinds> m_sums;
  Array<Real*> m_gradients;
  Profile* m_profile = nullptr;
  std::vector<PartOfModel> m_under_way;  // in the order in which they were formed
};

}  // namespace bsbr
