#include "model/gradients.hpp"

#include <string>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"

namespace bsbr {

template <class Real>
void Gradients<Real>::set_to_zero(const Execution& execution) const {
  Kokkos::deep_copy(execution, this->data(), Real(0));
}

template <class Real>
void Gradients<Real>::add(const Execution& execution, const Gradients& right) const {
  const Array<Real*> left = this->data();
  const Array<const Real*> other = right.data();
  const auto elements = static_cast<std::int64_t>(left.extent(0));
  constexpr std::int64_t piece = kernels::tuning::thread_elements;
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> policy(execution, 0,
                                                                               (elements + piece - 1) / piece);
  Kokkos::parallel_for(
      "bsbr::gradients::add", policy, KOKKOS_LAMBDA(const std::int64_t index) {
        [[maybe_unused]] const auto team = kernels::as_team(kernels::LoneThread{});
        const std::int64_t first = index * piece, end = first + piece < elements ? first + piece : elements;
        for (std::int64_t i = first; i < end; ++i) left(i) += other(i);
      });
}

template <class Real>
const Gradients<Real>& GradientTree<Real>::leaf() {
  const std::int64_t leaves = m_sum.tree().leaves();
  if (m_next >= leaves) throw Error("there are no more than " + std::to_string(leaves) + " leaves of a gradient");
  if (m_free->empty()) m_free->emplace_back(m_config);
  m_free->back().set_to_zero(m_execution);
  return m_free->back();
}

template <class Real>
void GradientTree<Real>::join_leaf() {
  if (m_free->empty()) throw Error("a leaf of a gradient is joined that has not been formed");
  const Gradients<Real> sum = m_free->back();
  m_free->pop_back();
  m_sum.add(m_next++, sum);
}

template class Gradients<float>;
template class Gradients<double>;
template class GradientTree<float>;
template class GradientTree<double>;

}  // namespace bsbr
