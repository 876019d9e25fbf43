#include "parallel/reduce_scatter.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "kernels/add.hpp"
#include "parallel/mpi.hpp"

namespace bsbr::parallel {
namespace {

/// Of parts that have been received: the right one is of no more use.
template <class Real>
struct AddParts {
  Execution execution;

  void operator()(const Array<Real*>& left, const Array<Real*>& right) const {
    kernels::add<Real>(execution, left, right);
  }
};

template <class Real>
Array<Real*> allocate(const Execution& execution, const char* label, std::int64_t elements) {
  try {
    return Array<Real*>(Kokkos::view_alloc(execution, std::string("bsbr::reduce_scatter::") + label), elements);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::to_string(elements) + " elements of a sum over ranks, " + label + ": " +
                      error.what());
  }
}

}  // namespace

template <class Real>
OrderedReduceScatter<Real>::OrderedReduceScatter(const Execution& execution, MPI_Comm comm, const Leaves& leaves,
                                                 std::int64_t elements, std::int64_t unit)
    : m_execution(execution), m_comm(comm), m_tree(leaves.tree()), m_parts{elements, leaves.ranks(), unit} {
  m_nodes = leaves.nodes_of(leaves.rank());
  const auto own = m_parts.size(leaves.rank()), nodes = static_cast<std::int64_t>(m_nodes.size());
  std::int64_t incoming = 0;
  for (int rank = 0; rank < leaves.ranks(); ++rank) {
    m_to.push_back({nodes * m_parts.begin(rank), nodes * m_parts.size(rank)});
    const std::int64_t first = incoming;
    for (const TreeNode node : leaves.nodes_of(rank)) {
      m_received.push_back({node, {incoming, own}});
      incoming += own;
    }
    m_from.push_back({first, incoming - first});
  }
  std::sort(m_received.begin(), m_received.end(),
            [](const Received& a, const Received& b) { return a.place.first < b.place.first; });
  if (nodes != 1) m_outgoing = allocate<Real>(execution, "outgoing", nodes * elements);
  m_incoming = allocate<Real>(execution, "incoming", std::max(incoming, own));
}

template <class Real>
std::int64_t OrderedReduceScatter<Real>::bytes(const Leaves& leaves, std::int64_t elements, std::int64_t unit) {
  const auto nodes = static_cast<std::int64_t>(leaves.nodes_of(leaves.rank()).size());
  std::int64_t received = 0;
  for (int rank = 0; rank < leaves.ranks(); ++rank) received += static_cast<std::int64_t>(leaves.nodes_of(rank).size());
  const std::int64_t own = Partition{elements, leaves.ranks(), unit}.size(leaves.rank());
  return ((nodes == 1 ? 0 : nodes * elements) + std::max<std::int64_t>(received, 1) * own) *
         static_cast<std::int64_t>(sizeof(Real));
}

/// What start() sends: [rank][node][part]. That is how a single node lies there already.
template <class Real>
Array<Real*> OrderedReduceScatter<Real>::outgoing(const std::vector<typename LeafSums<Real>::Node>& nodes) const {
  if (nodes.size() == 1) return nodes.front().value;
  for (int rank = 0; rank < m_parts.parts; ++rank) {
    Slice place{m_to[static_cast<std::size_t>(rank)].offset, m_parts.size(rank)};
    for (const auto& node : nodes) {
      const Slice part{m_parts.begin(rank), m_parts.size(rank)};
      Kokkos::deep_copy(m_execution, range_of(m_outgoing, place), range_of(node.value, part));
      place.offset += place.count;
    }
  }
  return m_outgoing;
}

template <class Real>
void OrderedReduceScatter<Real>::start(const LeafSums<Real>& sums) {
  if (m_is_under_way) throw Error("a sum over ranks is started and another one is under way");
  const auto& nodes = sums.nodes();
  const bool fits = std::equal(nodes.begin(), nodes.end(), m_nodes.begin(), m_nodes.end(),
                               [](const auto& node, TreeNode place) { return node.place == place; });
  if (!fits || sums.elements() != m_parts.items)
    throw Error("a sum over ranks is started and lacks leaves of this rank, or has other elements");
  m_exchange = std::make_unique<Exchange<Real>>(m_execution, m_comm, outgoing(nodes), m_to, m_incoming, m_from);
  m_is_under_way = true;
  m_exchange->send();
}

template <class Real>
void OrderedReduceScatter<Real>::progress() {
  if (m_is_under_way) m_exchange->progress();
}

template <class Real>
Array<Real*> OrderedReduceScatter<Real>::wait() {
  if (!m_is_under_way) throw Error("a sum over ranks is waited for and has not been started");
  m_exchange->wait();
  m_is_under_way = false;
  if (m_received.empty()) return m_incoming;  // zeros since it was allocated
  OrderedSum<Array<Real*>, AddParts<Real>> sum(m_tree, {m_execution});
  for (const Received& node : m_received) sum.add(node.place, range_of(m_incoming, node.part));
  return sum.total();
}

template <class Real>
std::unique_ptr<Exchange<Real>> all_parts(const Execution& execution, MPI_Comm comm, const Array<Real*>& part,
                                          const Array<Real*>& whole, const Partition& parts) {
  std::vector<Slice> to(static_cast<std::size_t>(parts.parts), {0, static_cast<std::int64_t>(part.extent(0))});
  auto exchange = std::make_unique<Exchange<Real>>(execution, comm, part, std::move(to), whole, slices_of(parts));
  exchange->send();
  return exchange;
}

template class OrderedReduceScatter<float>;
template class OrderedReduceScatter<double>;
template std::unique_ptr<Exchange<float>> all_parts(const Execution&, MPI_Comm, const Array<float*>&,
                                                    const Array<float*>&, const Partition&);
template std::unique_ptr<Exchange<double>> all_parts(const Execution&, MPI_Comm, const Array<double*>&,
                                                     const Array<double*>&, const Partition&);

}  // namespace bsbr::parallel
