// The head of a model for few rows at a time.
#include <string>

#include "bsbr/sampling.hpp"
#include "kernels/poison.hpp"
#include "kernels/product.hpp"
#include "model/allocate.hpp"
#include "model/stages.hpp"

namespace bsbr {

template <class Real>
struct LogitLayer<Real>::Modules {
  kernels::ProductWeight<Real> head;  // [vocab, D]
  kernels::ProductWorkspace workspace;
};

template <class Real>
LogitLayer<Real>::LogitLayer(const Weights<Real>& weights) : m_config(weights.config()) {
  require_kokkos();
  m_modules = std::make_shared<const Modules>(
      Modules{kernels::ProductWeight<Real>(head_matrix(weights)), kernels::make_product_workspace()});
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
  m_modules->head.multiply(execution, static_cast<std::int64_t>(rows), hidden_states.data(), m_logits.data(),
                           m_modules->workspace);
  const auto host = Kokkos::create_mirror_view(m_logits);
  Kokkos::deep_copy(execution, host, m_logits);  // nothing, where that is the host's memory already
  execution.fence();
  return Kokkos::subview(host, std::make_pair(std::size_t{0}, rows),
                         std::make_pair(std::int64_t{0}, m_config.vocab_size));
}

template <class Real>
std::int64_t logit_layer_bytes(const ModelConfig& config, std::int64_t rows) {
  return kernels::ProductWeight<Real>::bytes(config.vocab_size, config.hidden_dim) +
         kernels::tuning::product_workspace_bytes +
         rows * kernels::ProductWeight<Real>::row_stride(config.vocab_size) * static_cast<std::int64_t>(sizeof(Real));
}

template class LogitLayer<float>;
template class LogitLayer<double>;
template std::int64_t logit_layer_bytes<float>(const ModelConfig&, std::int64_t);
template std::int64_t logit_layer_bytes<double>(const ModelConfig&, std::int64_t);

}  // namespace bsbr
