#include "attention/query_halo.hpp"

#include "attention/overlap.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {
namespace {

/// Elements of one token of one sequence.
std::int64_t row_width(const ModelConfig& config) { return 2 * (config.attention_dim() + config.num_heads); }

parallel::HaloPlan plan_of(const Sequence& sequence, const parallel::EndNeeded& end_needed) {
  return {sequence, [&](int rank) { return sequence.first_token_of(rank); }, end_needed};
}

}  // namespace

template <class Real>
QueryHalo<Real>::QueryHalo(const ModelConfig& config, const Sequence& sequence, const parallel::EndNeeded& end_needed)
    : m_sequence(sequence),
      m_heads(config.num_heads),
      m_width(config.attention_dim()),
      m_plan(plan_of(sequence, end_needed)) {
  if (!m_plan.moves_anything()) return;
  m_rows.emplace(m_plan, sequence.batch() * row_width(config));
  m_log_sums = Array<Real***>("bsbr::attention::halo_log_sums", sequence.batch(), m_heads, m_plan.rows());
  m_deltas = Array<Real***>("bsbr::attention::halo_deltas", sequence.batch(), m_heads, m_plan.rows());
}

template <class Real>
std::int64_t QueryHalo<Real>::bytes(const ModelConfig& config, const Sequence& sequence,
                                    const parallel::EndNeeded& end_needed) {
  const parallel::HaloPlan plan = plan_of(sequence, end_needed);
  if (!plan.moves_anything()) return 0;
  return parallel::Halo<Real>::bytes(plan, sequence.batch() * row_width(config)) +
         2 * sequence.batch() * config.num_heads * plan.rows() * static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
kernels::SoftmaxTokens<Real> QueryHalo<Real>::start(const Execution& execution,
                                                    const kernels::SoftmaxTokens<Real>& own) {
  if (!m_rows) return own;
  m_messages.reset();  // a gradient that failed may have left some
  pack(execution, own);
  m_messages = m_rows->start(execution, m_sequence.comm());
  unpack(execution);  // what is there
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  const std::int64_t batch = m_sequence.batch(), row = 2 * (m_width + m_heads);
  const auto columns = [&](std::int64_t first) {
    return Strided<const Real***>(
        m_rows->data().data() + first,
        Kokkos::LayoutStride(size(batch), size(row), size(m_plan.rows()), size(batch * row), size(m_width), 1));
  };
  return {columns(0), columns(m_width), m_log_sums, m_deltas, m_plan.first_token(), own.keys};
}

template <class Real>
void QueryHalo<Real>::progress() {
  if (m_messages) m_messages->progress();
}

template <class Real>
void QueryHalo<Real>::finish(const Execution& execution, Profile* profile) {
  if (!m_rows) return;
  const Phase phase(execution, profile, "exchange");
  attention::finish(*m_messages, "halo", profile);
  m_messages.reset();
  unpack(execution);
}

/// This rank's own rows.
template <class Real>
void QueryHalo<Real>::pack(const Execution& execution, const kernels::SoftmaxTokens<Real>& own) const {
  const std::int64_t batch = m_sequence.batch(), heads = m_heads, width = m_width, row = 2 * (m_width + m_heads),
                     offset = m_rows->own_offset();
  const Array<Real*> rows = m_rows->data();
  kernels::copy_rows(
      execution, "bsbr::attention::pack_queries", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        Real* target = rows.data() + offset + i * row;
        return kernels::RowCopies<Real, 2>{
            {&own.query(i % batch, i / batch, 0), &own.output_gradient(i % batch, i / batch, 0)},
            {target, target + width}};
      });
  Kokkos::parallel_for(
      "bsbr::attention::pack_log_sums",
      Kokkos::RangePolicy<Execution>(execution, 0, m_sequence.local_tokens() * batch * heads),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t head = i % heads, sequence = i / heads % batch, token = i / heads / batch;
        Real* target = rows.data() + offset + (token * batch + sequence) * row + 2 * width + head;
        target[0] = own.log_sum(sequence, head, token);
        target[heads] = own.delta(sequence, head, token);
      });
}

/// Log-sums and δ of all rows, as kernels want them.
template <class Real>
void QueryHalo<Real>::unpack(const Execution& execution) const {
  const std::int64_t batch = m_sequence.batch(), heads = m_heads, width = m_width, row = 2 * (m_width + m_heads);
  const Array<const Real*> rows = m_rows->data();
  const Array<Real***> log_sums = m_log_sums, deltas = m_deltas;
  Kokkos::parallel_for(
      "bsbr::attention::unpack_log_sums", Kokkos::RangePolicy<Execution>(execution, 0, m_plan.rows() * batch * heads),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t head = i % heads, sequence = i / heads % batch, token = i / heads / batch;
        const Real* source = rows.data() + (token * batch + sequence) * row + 2 * width + head;
        log_sums(sequence, head, token) = source[0];
        deltas(sequence, head, token) = source[heads];
      });
}

template class QueryHalo<float>;
template class QueryHalo<double>;

}  // namespace bsbr::attention
