#include "parallel/leaf_sums.hpp"

#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "kernels/add.hpp"

namespace bsbr::parallel {

template <class Real>
void LeafSums<Real>::Join::operator()(const Array<Real*>& left, Array<Real*> right) const {
  kernels::add<Real>(execution, left, right);
  free->push_back(std::move(right));
}

template <class Real>
LeafSums<Real>::LeafSums(const Execution& execution, const Leaves& leaves, std::int64_t elements)
    : m_elements(elements), m_join{execution, &m_free}, m_sum(leaves.tree(), m_join) {
  const std::int64_t count = arrays(leaves);
  try {
    for (std::int64_t i = 0; i < count; ++i) {
      m_free.emplace_back(Kokkos::view_alloc(execution, "bsbr::leaf_sums::leaf", Kokkos::WithoutInitializing),
                          elements);
    }
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::to_string(count) + " sums of " + std::to_string(elements) +
                      " elements over leaves: " + error.what());
  }
}

template <class Real>
std::int64_t LeafSums<Real>::arrays(const Leaves& leaves) {
  NodesOfSum sum(leaves.tree());
  std::size_t most = 0;
  const Range local = leaves.local();
  for (const std::int64_t row : leaves.rows_of(leaves.rank())) {
    for (std::int64_t leaf = local.begin; leaf < local.end; ++leaf) {
      most = std::max(most, sum.nodes().size() + 1);
      sum.add(leaves.index(row, leaf), NoValue());
    }
  }
  return static_cast<std::int64_t>(most);
}

template <class Real>
const Array<Real*>& LeafSums<Real>::leaf() {
  if (m_free.empty()) throw Error("this rank has no leaf of a sum left");
  Kokkos::deep_copy(m_join.execution, m_free.back(), Real(0));
  m_is_formed = true;
  return m_free.back();
}

template <class Real>
void LeafSums<Real>::join(std::int64_t leaf) {
  if (!m_is_formed) throw Error("leaf " + std::to_string(leaf) + " of a sum is joined and has not been formed");
  if (leaf < m_next || leaf >= m_sum.tree().leaves()) {
    throw Error("leaf " + std::to_string(leaf) + " of a sum is not among the next ones, " + std::to_string(m_next) +
                " to " + std::to_string(m_sum.tree().leaves() - 1));
  }
  const Array<Real*> formed = m_free.back();
  m_free.pop_back();
  m_sum.add(leaf, formed);
  m_next = leaf + 1;
  m_is_formed = false;
}

template <class Real>
void LeafSums<Real>::clear() {
  for (const Node& node : nodes()) m_free.push_back(node.value);
  m_sum = Sum(m_sum.tree(), m_join);
  m_next = 0;
  m_is_formed = false;
}

template class LeafSums<float>;
template class LeafSums<double>;

}  // namespace bsbr::parallel
