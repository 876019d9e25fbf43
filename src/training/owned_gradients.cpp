#include "training/owned_gradients.hpp"

namespace bsbr::training {
namespace {

/// Also of a tied head.
std::vector<PartOfModel> summed_parts(const ModelConfig& config) {
  std::vector<PartOfModel> parts{{PartKind::norm}, {PartKind::head}, {PartKind::embedding}};
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    parts.push_back({PartKind::attention, layer});
    parts.push_back({PartKind::rest, layer});
  }
  return parts;
}

}  // namespace

std::vector<PartOfModel> parts_of_model(const ModelConfig& config) {
  std::vector<PartOfModel> parts = summed_parts(config);
  if (config.head == Head::tied)
    std::erase_if(parts, [](const PartOfModel& part) { return part.kind == PartKind::head; });
  return parts;
}

template <class Real>
OwnedGradients<Real>::OwnedGradients(const Execution& execution, const ModelConfig& config, MPI_Comm comm,
                                     const parallel::Leaves& leaves, std::int64_t batches)
    : m_execution(execution), m_config(config), m_are_apart(batches > 1) {
  for (const PartOfModel part : summed_parts(config)) {
    const std::int64_t elements = gradient_part(config, part).elements();
    auto& ranks = m_ranks[part.kind];
    if (ranks == nullptr) {
      ranks = std::make_unique<parallel::OrderedReduceScatter<Real>>(execution, comm, leaves, elements,
                                                                     kernels::norm_block);
    }
    auto& sums = m_leaves[key_of_leaves(part)];
    if (sums == nullptr) sums = std::make_unique<parallel::LeafSums<Real>>(execution, leaves, elements);
    m_owned[key(part)] = allocate<Real*>("gradient::owned", ranks->parts().size(leaves.rank()));
  }
}

template <class Real>
std::int64_t OwnedGradients<Real>::bytes(const ModelConfig& config, const parallel::Leaves& leaves,
                                         std::int64_t batches) {
  std::int64_t all = 0;
  for (const PartOfModel part : summed_parts(config)) {
    const std::int64_t elements = gradient_part(config, part).elements();
    if (part.layer == 0) all += parallel::OrderedReduceScatter<Real>::bytes(leaves, elements, kernels::norm_block);
    if (part.layer == 0 || batches > 1) all += parallel::LeafSums<Real>::bytes(leaves, elements);
    all += owners_of(elements, leaves.ranks()).size(leaves.rank()) * static_cast<std::int64_t>(sizeof(Real));
  }
  return all;
}

template <class Real>
void OwnedGradients<Real>::formed(PartOfModel part) {
  if (!m_is_last) return;
  const Phase phase(m_execution, m_profile, "exchange");
  m_ranks.at(part.kind)->start(leaves(part));
  m_under_way.push_back(part);
}

template <class Real>
void OwnedGradients<Real>::advance() {
  if (m_under_way.empty()) return;
  const Phase phase(m_execution, m_profile, "exchange");
  for (const PartOfModel part : std::exchange(m_under_way, {})) {
    auto& ranks = *m_ranks.at(part.kind);
    Kokkos::deep_copy(m_execution, owned(part), ranks.wait());
    if (m_profile != nullptr) m_profile->sent("gradients", ranks.bytes_sent(), ranks.messages_sent());
    leaves(part).clear();
  }
}

/// A tied head's part joins at the end.
template <class Real>
void OwnedGradients<Real>::finish() {
  advance();
  if (m_config.head == Head::tied)
    kernels::add<Real>(m_execution, owned({PartKind::embedding}), owned({PartKind::head}));
}

template class OwnedGradients<float>;
template class OwnedGradients<double>;

}  // namespace bsbr::training
