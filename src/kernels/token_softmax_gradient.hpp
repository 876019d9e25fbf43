// Gradients of softmax attention on tokens, of each head over one range of earlier and later tokens.
//
// With the log-sums and outputs of token_softmax_with_log_sums:
//
//     token_deltas(…)             δ_t = do_t · output_t
//     token_query_gradients(…)    dq; or token_query_gradients_and_deltas(…), where outputs are not at hand
//     token_key_gradients(…)      dk, dv
//
// Queries and keys may be of different parts of the sequence, since both are numbered globally: a rank whose tokens see
// keys of earlier ranks forms dq from its own queries and those keys, and dk and dv from its own keys and the later
// queries that see them. How either is cut changes no bit.
#pragma once

#include <string>
#include <type_traits>

#include "kernels/row_products.hpp"
#include "kernels/softmax_gradient.hpp"
#include "kernels/token_softmax.hpp"
#include "kernels/tokens.hpp"

namespace bsbr::kernels {

/// What gradients are formed from. Queries and what belongs to them are of the tokens from `origin` on.
template <class Real>
struct SoftmaxTokens {
  Strided<const Real***> query;            // [batch, tokens, heads · head_dim]
  Strided<const Real***> output_gradient;  // [batch, tokens, heads · head_dim]
  Array<const Real***> log_sum, delta;     // [batch, heads, tokens]
  std::int64_t origin;
  KeysAndValues<Real> keys;
};

/// What the problems of both passes have in common. Groups are (batch, head); tokens are numbered in the whole
/// sequence.
template <class Real, class VisibleRange>
struct TokenSoftmaxGradient {
  VisibleRange visible;
  Real scale;
  int key_width, value_width;
  std::int64_t neighbours, groups, first, last;  // neighbours: heads
  SoftmaxTokens<Real> tokens;
  std::int64_t origin;  // of the gradients

  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t s) const {
    return tokens.keys.is_real(group / neighbours, s);
  }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t t) const {
    return row(tokens.query, group, t - tokens.origin);
  }
  KOKKOS_FUNCTION const Real* output_gradient(std::int64_t group, std::int64_t t) const {
    return row(tokens.output_gradient, group, t - tokens.origin);
  }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t s) const {
    return row(tokens.keys.key, group, s - tokens.keys.origin);
  }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t s) const {
    return row(tokens.keys.value, group, s - tokens.keys.origin);
  }
  KOKKOS_FUNCTION Real log_sum(std::int64_t group, std::int64_t t) const {
    return tokens.log_sum(group / neighbours, group % neighbours, t - tokens.origin);
  }
  KOKKOS_FUNCTION Real delta(std::int64_t group, std::int64_t t) const {
    return tokens.delta(group / neighbours, group % neighbours, t - tokens.origin);
  }

 protected:
  template <class Element>
  KOKKOS_FUNCTION Element* row(const Strided<Element***>& rows, std::int64_t group, std::int64_t t) const {
    return &rows(group / neighbours, t, group % neighbours * key_width);
  }
};

template <class Real, class VisibleRange>
struct TokenQueryGradient : TokenSoftmaxGradient<Real, VisibleRange> {
  Strided<Real***> query_gradients;

  // The columns of this pass, which may be some of the tokens, numbered without gaps.
  using Tokens = TokenSoftmaxGradient<Real, VisibleRange>;
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t t) const {
    return Tokens::query(group, this->visible.token(t));
  }
  KOKKOS_FUNCTION const Real* output_gradient(std::int64_t group, std::int64_t t) const {
    return Tokens::output_gradient(group, this->visible.token(t));
  }
  KOKKOS_FUNCTION Real log_sum(std::int64_t group, std::int64_t t) const {
    return Tokens::log_sum(group, this->visible.token(t));
  }
  KOKKOS_FUNCTION Real delta(std::int64_t group, std::int64_t t) const {
    return Tokens::delta(group, this->visible.token(t));
  }
  KOKKOS_FUNCTION Range range(std::int64_t t) const { return this->visible.range(t); }
  KOKKOS_FUNCTION Real* query_gradient(std::int64_t group, std::int64_t t) const {
    return this->row(query_gradients, group, t - this->origin);
  }
};

/// The same where δ is not known yet.
template <class Real, class VisibleRange>
struct TokenQueryGradientAndDelta : TokenQueryGradient<Real, VisibleRange> {
  Array<Real***> deltas;

  KOKKOS_FUNCTION Real& delta(std::int64_t group, std::int64_t t) const {
    return deltas(group / this->neighbours, group % this->neighbours, t - this->tokens.origin);
  }
};

template <class Real, class VisibleRange>
struct TokenKeyGradient : TokenSoftmaxGradient<Real, VisibleRange> {
  Strided<Real***> key_gradients, value_gradients;

  // The columns of this pass, as above.
  using Tokens = TokenSoftmaxGradient<Real, VisibleRange>;
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t s) const {
    return Tokens::has_key(group, this->visible.token(s));
  }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t s) const {
    return Tokens::key(group, this->visible.token(s));
  }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t s) const {
    return Tokens::value(group, this->visible.token(s));
  }

  /// The queries at hand that see a key.
  KOKKOS_FUNCTION Range range(std::int64_t s) const {
    const Range see = this->visible.queries(s);
    return {at_hand(see.begin), at_hand(see.end)};
  }
  KOKKOS_FUNCTION std::int64_t at_hand(std::int64_t t) const {
    const std::int64_t begin = this->tokens.origin,
                       end = begin + static_cast<std::int64_t>(this->tokens.query.extent(1));
    if (t < begin) return begin;
    return t < end ? t : end;
  }
  KOKKOS_FUNCTION Real* key_gradient(std::int64_t group, std::int64_t s) const {
    return this->row(key_gradients, group, s - this->origin);
  }
  KOKKOS_FUNCTION Real* value_gradient(std::int64_t group, std::int64_t s) const {
    return this->row(value_gradients, group, s - this->origin);
  }
};

namespace detail {

template <class Real, class VisibleRange>
TokenSoftmaxGradient<Real, VisibleRange> token_gradient(std::int64_t heads, const VisibleRange& visible, Real scale,
                                                        const SoftmaxTokens<Real>& tokens, std::int64_t origin,
                                                        std::int64_t first, std::int64_t last) {
  const auto width = static_cast<int>(static_cast<std::int64_t>(tokens.query.extent(2)) / heads);
  return {.visible = visible,
          .scale = scale,
          .key_width = width,
          .value_width = width,
          .neighbours = heads,
          .groups = static_cast<std::int64_t>(tokens.query.extent(0)) * heads,
          .first = first,
          .last = last,
          .tokens = tokens,
          .origin = origin};
}

}  // namespace detail

/// delta [batch, heads, tokens] = do_t · output_t of each head, of `heads` heads side by side in the rows of both
/// arrays. A chain of multiply-adds as the products of the passes are: where a query sees one key, δ has the bits of
/// do_t · value_s, and the gradient of the score is exactly 0.
template <class Real>
void token_deltas(const Execution& execution, const std::string& label, const Strided<const Real***>& output,
                  const std::type_identity_t<Strided<const Real***>>& output_gradient, const Array<Real***>& delta) {
  constexpr std::int64_t tile = tuning::key_tile;
  const auto batch = static_cast<std::int64_t>(delta.extent(0)), tokens = static_cast<std::int64_t>(delta.extent(2));
  const auto heads = static_cast<int>(delta.extent(1));
  if (batch * heads * tokens == 0) return;
  const int width = static_cast<int>(output.extent(2)) / heads;
  const std::int64_t tiles = (tokens + tile - 1) / tile;
  Kokkos::parallel_for(
      label, team_policy(execution, batch * tiles, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t row = member.league_rank() / tiles, first = member.league_rank() % tiles * tile;
        const int count = static_cast<int>(tokens - first < tile ? tokens - first : tile);
        const auto row_of = [&](const auto& rows, int i) {
          return &rows(row, first + i / heads, std::int64_t{i % heads} * width);
        };
        for_row_products<Real>(
            as_team(member), count * heads, width, [&](int i) { return row_of(output_gradient, i); },
            [&](int i) { return row_of(output, i); },
            [&](int i, Real sum) { delta(row, i % heads, first + i / heads) = sum; });
      });
}

/// query_gradient_t = scale Σ_s ds_ts key_s over s in visible of t, for the tokens [first, last) of all heads:
/// softmax_gradient.hpp. It holds the tokens from `origin` on, and is written, not added to. 0 where a query sees
/// nothing. All keys that the queries see must be at hand.
template <class Real, class VisibleRange>
void token_query_gradients(const Execution& execution, const std::string& label, std::int64_t heads,
                           const VisibleRange& visible, Real scale, const SoftmaxTokens<Real>& tokens,
                           const std::type_identity_t<Strided<Real***>>& query_gradient, std::int64_t origin,
                           std::int64_t first, std::int64_t last) {
  const TokenQueryGradient<Real, VisibleRange> problem{
      detail::token_gradient(heads, visible, scale, tokens, origin, first, last), query_gradient};
  query_gradients<Real>(execution, label, problem);
}

/// The same where outputs are not at hand by themselves, such as those within a chunk, which bsbr and gau add others
/// to: first forms δ_t = Σ_s w_ts (do_t · value_s), and puts it into `delta` [batch, heads, tokens], which is of the
/// tokens that the queries are of, for token_key_gradients. tokens.delta is not read. Where a tile of queries sees
/// several tiles of keys, these go by twice.
template <class Real, class VisibleRange>
void token_query_gradients_and_deltas(const Execution& execution, const std::string& label, std::int64_t heads,
                                      const VisibleRange& visible, Real scale, const SoftmaxTokens<Real>& tokens,
                                      const Array<Real***>& delta,
                                      const std::type_identity_t<Strided<Real***>>& query_gradient, std::int64_t origin,
                                      std::int64_t first, std::int64_t last) {
  const TokenQueryGradientAndDelta<Real, VisibleRange> problem{
      {detail::token_gradient(heads, visible, scale, tokens, origin, first, last), query_gradient}, delta};
  query_gradients<Real>(execution, label, problem);
}

/// key_gradient_s = scale Σ_t ds_ts query_t and value_gradient_s = Σ_t w_ts do_t over the queries t at hand that see s,
/// for the tokens [first, last) of all heads. They hold the tokens from `origin` on, and are written, not added to. 0
/// where a token is padding, or nobody sees it.
template <class Real, class VisibleRange>
void token_key_gradients(const Execution& execution, const std::string& label, std::int64_t heads,
                         const VisibleRange& visible, Real scale, const SoftmaxTokens<Real>& tokens,
                         const std::type_identity_t<Strided<Real***>>& key_gradient,
                         const std::type_identity_t<Strided<Real***>>& value_gradient, std::int64_t origin,
                         std::int64_t first, std::int64_t last) {
  const TokenKeyGradient<Real, VisibleRange> problem{
      detail::token_gradient(heads, visible, scale, tokens, origin, first, last), key_gradient, value_gradient};
  key_gradients<Real>(execution, label, problem);
}

}  // namespace bsbr::kernels
