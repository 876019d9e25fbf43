// The first family on tokens: softmax attention of each head over one range of earlier and later tokens.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>

#include "config/causality.hpp"
#include "kernels/softmax.hpp"
#include "kernels/tokens.hpp"

namespace bsbr::kernels {

/// Which keys a token sees: some of its chunk.
struct WithinChunk {
  Causality causality;
  std::int64_t chunk_size, length;

  KOKKOS_FUNCTION KeyRange range(std::int64_t t) const {
    return tokens_seen(causality, t, chunk_of_token(t, chunk_size, length));
  }
  /// The queries that see a key.
  KOKKOS_FUNCTION Range queries(std::int64_t s) const {
    return tokens_that_see(causality, s, chunk_of_token(s, chunk_size, length));
  }
  /// What queries and keys are numbered by.
  KOKKOS_FUNCTION std::int64_t token(std::int64_t t) const { return t; }
  KOKKOS_FUNCTION int null_keys(std::int64_t t) const {
    return static_cast<int>(absent_tokens(causality, chunk_size, chunk_of_token(t, chunk_size, length)));
  }
};

/// Which keys a token sees: those of up to `window` tokens before it, and its own.
struct Window {
  std::int64_t window;
  KOKKOS_FUNCTION KeyRange range(std::int64_t t) const { return {t > window ? t - window : 0, t + 1}; }
  /// The queries that see a key, also those that the sequence is too short for.
  KOKKOS_FUNCTION Range queries(std::int64_t s) const {
    constexpr std::int64_t most = INT64_MAX;  // nvcc wants no function of the host here
    return {s, window < most - s ? s + window + 1 : most};
  }
  KOKKOS_FUNCTION std::int64_t token(std::int64_t t) const { return t; }
  KOKKOS_FUNCTION int null_keys(std::int64_t) const { return 0; }
};

/// The problem that softmax_tiles solves. Groups are (batch, head); tokens are numbered in the whole sequence.
template <class Real, class VisibleRange>
struct TokenSoftmax {
  VisibleRange visible;
  Real scale;
  int key_width, value_width;
  std::int64_t neighbours, groups, unit, first, last;  // neighbours: heads
  HeadRows<Real> query_rows;
  KeysAndValues<Real> keys;
  Strided<Real***> output_rows;
  std::int64_t origin;  // of queries and outputs

  KOKKOS_FUNCTION KeyRange range(std::int64_t t) const { return visible.range(t); }
  KOKKOS_FUNCTION int null_keys(std::int64_t t) const { return visible.null_keys(t); }
  KOKKOS_FUNCTION bool has_query(std::int64_t, std::int64_t) const { return true; }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t s) const { return keys.is_real(group / neighbours, s); }
  KOKKOS_FUNCTION StoredRow<Real> query(std::int64_t group, std::int64_t t) const {
    return query_rows.row(group / neighbours, t - origin, group % neighbours, key_width);
  }
  KOKKOS_FUNCTION StoredRow<Real> key(std::int64_t group, std::int64_t s) const {
    return keys.key_row(group / neighbours, s - keys.origin, group % neighbours, key_width);
  }
  KOKKOS_FUNCTION StoredRow<Real> value(std::int64_t group, std::int64_t s) const {
    return keys.value_row(group / neighbours, s - keys.origin, group % neighbours, key_width);
  }
  KOKKOS_FUNCTION Real* output(std::int64_t group, std::int64_t t) const {
    return &output_rows(group / neighbours, t - origin, group % neighbours * value_width);
  }
};

/// 1/(τ√d): what scores are multiplied by. Formed in double precision wherever it is needed, so that the same formula
/// has the same bits.
template <class Real>
Real score_scale(std::int64_t head_dim, double temperature = 1) {
  return static_cast<Real>(1 / (temperature * std::sqrt(static_cast<double>(head_dim))));
}

/// The same, which also keeps the log-sums of the queries: the gradients are formed from them.
template <class Real, class VisibleRange>
struct TokenSoftmaxWithLogSums : TokenSoftmax<Real, VisibleRange> {
  Array<Real***> log_sums;  // [batch, heads, tokens]

  KOKKOS_FUNCTION Real& log_sum(std::int64_t group, std::int64_t t) const {
    return log_sums(group / this->neighbours, group % this->neighbours, t - this->origin);
  }
};

namespace detail {

template <class Real, class VisibleRange>
TokenSoftmax<Real, VisibleRange> token_problem(std::int64_t heads, const VisibleRange& visible, Real scale,
                                               const HeadRows<Real>& query, const KeysAndValues<Real>& keys,
                                               const Strided<Real***>& output, std::int64_t origin, std::int64_t first,
                                               std::int64_t last, std::int64_t unit) {
  const auto width = static_cast<int>(static_cast<std::int64_t>(output.extent(2)) / heads);
  return {.visible = visible,
          .scale = scale,
          .key_width = width,
          .value_width = width,
          .neighbours = heads,
          .groups = static_cast<std::int64_t>(output.extent(0)) * heads,
          .unit = unit,
          .first = first,
          .last = last,
          .query_rows = query,
          .keys = keys,
          .output_rows = output,
          .origin = origin};
}

}  // namespace detail

/// output_t = Σ_s softmax_s(query_t·key_s·scale  over s in visible of t) value_s for the tokens [first, last) of all
/// heads; query and output hold the tokens from `origin` on. `unit`: where tokens see keys of their own unit of so many
/// only, output may be the keys' array.
template <class Real, class VisibleRange>
void token_softmax(const Execution& execution, const std::string& label, std::int64_t heads,
                   const VisibleRange& visible, Real scale, const std::type_identity_t<HeadRows<Real>>& query,
                   const KeysAndValues<Real>& keys, const std::type_identity_t<Strided<Real***>>& output,
                   std::int64_t origin, std::int64_t first, std::int64_t last, std::int64_t unit = 1) {
  softmax<Real>(execution, label,
                detail::token_problem(heads, visible, scale, query, keys, output, origin, first, last, unit));
}

/// The same bits, and log_sum [batch, heads, tokens from `origin` on] = log₂ Σ_s exp(query_t·key_s·scale), the missing
/// tokens of a ragged chunk among the keys where they are in the softmax: −∞ where there is nothing to see, NaN where
/// all scores are −∞.
template <class Real, class VisibleRange>
void token_softmax_with_log_sums(const Execution& execution, const std::string& label, std::int64_t heads,
                                 const VisibleRange& visible, Real scale,
                                 const std::type_identity_t<HeadRows<Real>>& query, const KeysAndValues<Real>& keys,
                                 const std::type_identity_t<Strided<Real***>>& output, const Array<Real***>& log_sum,
                                 std::int64_t origin, std::int64_t first, std::int64_t last, std::int64_t unit = 1) {
  const TokenSoftmaxWithLogSums<Real, VisibleRange> problem{
      detail::token_problem(heads, visible, scale, query, keys, output, origin, first, last, unit), log_sum};
  softmax<Real>(execution, label, problem);
}

}  // namespace bsbr::kernels
