// Queries of later tokens, which may be on other ranks: what the gradients of keys and values are formed from.
#pragma once

#include <memory>
#include <optional>

#include "bsbr/attention.hpp"
#include "kernels/token_softmax_gradient.hpp"
#include "parallel/halo.hpp"

namespace bsbr::attention {

/// Fetches from later ranks the queries that see keys of this rank, with the gradients of their results, their log-sums
/// and δ. If none are needed, uses what is given in place and allocates nothing.
template <class Real>
class QueryHalo {
 public:
  QueryHalo(const ModelConfig& config, const Sequence& sequence, const parallel::EndNeeded& end_needed);
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, const parallel::EndNeeded& end_needed);

  /// Whether any rank needs queries of another.
  bool moves_anything() const { return m_rows.has_value(); }

  /// The tokens from this rank's first one to the last that is needed; own: of this rank. Until finish() only its own
  /// are there. Collective.
  kernels::SoftmaxTokens<Real> start(const Execution& execution, const kernels::SoftmaxTokens<Real>& own);
  void progress();
  void finish(const Execution& execution, Profile* profile);

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void pack(const Execution& execution, const kernels::SoftmaxTokens<Real>& own) const;
  void unpack(const Execution& execution) const;

 private:
  Sequence m_sequence;
  std::int64_t m_heads, m_width;
  parallel::HaloPlan m_plan;
  std::optional<parallel::Halo<Real>>
      m_rows;                           // [token][batch][query, gradient of the result, log-sums, δ of all heads]
  Array<Real***> m_log_sums, m_deltas;  // [batch, heads, token]
  std::unique_ptr<parallel::Exchange<Real>> m_messages;  // under way between start() and finish()
};

}  // namespace bsbr::attention
