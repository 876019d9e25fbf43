// The head of a model for few rows at a time.
#include <string>

#include "bsbr/sampling.hpp"
#include "kernels/poison.hpp"
#include "kernels/product.hpp"
#include "kernels/rows.hpp"
#include "kernels/scratch.hpp"
#include "model/allocate.hpp"
#include "model/stages.hpp"

namespace bsbr {

template <class Real>
struct LogitLayer<Real>::Modules {
  kernels::ProductWeight<Real> head;  // [vocab, D]
  kernels::ProductWorkspace workspace;
};

namespace {

/// rounded [row] = what the head is multiplied with for a row.
template <class Real>
void round_rows(const Execution& execution, const kernels::ProductWeight<Real>& head, const Array<const Real**>& rows,
                const Array<Real**>& rounded) {
  const kernels::ProductWeight<Real> weight = head;
  const auto width = static_cast<int>(rows.extent(1));
  Kokkos::parallel_for(
      "bsbr::logits::round_rows", kernels::team_policy(execution, static_cast<std::int64_t>(rows.extent(0)), 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const std::int64_t row = member.league_rank();
        Real* target = &rounded(row, 0);
        kernels::copy(kernels::as_team(member), width, &rows(row, 0), target);
        weight.round_row(kernels::as_team(member), target);
      });
}

}  // namespace

template <class Real>
LogitLayer<Real>::LogitLayer(const Weights<Real>& weights) : m_config(weights.config()) {
  require_kokkos();
  m_modules = std::make_shared<const Modules>(
      Modules{kernels::ProductWeight<Real>(head_matrix(weights), kernels::Transpose::no, weights.rounding()),
              kernels::make_product_workspace()});
}

template <class Real>
typename LogitLayer<Real>::Logits LogitLayer<Real>::logits(const Execution& execution,
                                                           const Array<const Real**>& hidden_states) {
  const std::size_t rows = hidden_states.extent(0);
  if (static_cast<std::int64_t>(hidden_states.extent(1)) != m_config.hidden_dim) {
    throw ShapeError("hidden states have " + std::to_string(hidden_states.extent(1)) + " elements each, the model " +
                     std::to_string(m_config.hidden_dim));
  }
  if (rows > m_logits.extent(0)) {
    m_logits = {};  // its memory first
    m_logits = allocate<Real**>("logits", rows, kernels::ProductWeight<Real>::row_stride(m_config.vocab_size));
  }
  kernels::poison(execution, m_logits);
  const kernels::ProductWeight<Real>& head = m_modules->head;
  const Real* factors = hidden_states.data();
  if (head.rounding() != Rounding::none) {
    if (m_rounded.extent(0) < rows) m_rounded = {};
    if (m_rounded.size() == 0) m_rounded = allocate<Real**>("rounded_states", rows, head.row_stride(head.in()));
    round_rows(execution, head, hidden_states, m_rounded);
    factors = m_rounded.data();
  }
  head.multiply(execution, static_cast<std::int64_t>(rows), factors, m_logits.data(), m_modules->workspace);
  const auto host = Kokkos::create_mirror_view(m_logits);
  Kokkos::deep_copy(execution, host, m_logits);  // nothing, where that is the host's memory already
  execution.fence();
  return Kokkos::subview(host, std::make_pair(std::size_t{0}, rows),
                         std::make_pair(std::int64_t{0}, m_config.vocab_size));
}

template <class Real>
std::int64_t logit_layer_bytes(const ModelConfig& config, std::int64_t rows, Rounding rounding) {
  const auto row = [](std::int64_t width) { return kernels::ProductWeight<Real>::row_stride(width); };
  const std::int64_t elements = row(config.vocab_size) + (rounding == Rounding::none ? 0 : row(config.hidden_dim));
  return kernels::ProductWeight<Real>::bytes(config.vocab_size, config.hidden_dim, rounding) +
         kernels::tuning::product_workspace_bytes + rows * elements * static_cast<std::int64_t>(sizeof(Real));
}

template class LogitLayer<float>;
template class LogitLayer<double>;
template std::int64_t logit_layer_bytes<float>(const ModelConfig&, std::int64_t, Rounding);
template std::int64_t logit_layer_bytes<double>(const ModelConfig&, std::int64_t, Rounding);

}  // namespace bsbr
