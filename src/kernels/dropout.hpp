// Dropout (Srivastava et al. 2014): y = x / (1 − p) with probability 1 − p, else 0.
//
// Whether an element is dropped is a function of (seed, step, layer, place, sequence of the batch, global token,
// column), by a counter-based generator: whoever asks, forward or backward, on whichever rank or thread, gets the same
// answer. So the gradient is the same function of dy, and nothing is kept.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "config/splitmix64.hpp"
#include "kernels/compat.hpp"
#include "kernels/philox.hpp"
#include "kernels/rows.hpp"
#include "kernels/scratch.hpp"

namespace bsbr::kernels {

/// What is dropped out of: each before it is added to the residual stream.
enum class DropoutPlace : std::uint8_t {
  embedding,     // the sum of embedding and positions; its layer is 0
  attention,     // what out_proj gives
  feed_forward,  // what ff.3 gives
};

/// The dropout at one place of one layer in one step. A number of 32 bits for each element says whether it is dropped:
/// below p·2³².
class Dropout {
 public:
  /// Drops nothing.
  Dropout() = default;

  /// With probability p, 0 to 1, in a step of the optimiser; layers are counted from 0.
  Dropout(double p, std::uint64_t seed, std::int64_t step, std::int64_t layer, DropoutPlace place)
      : m_key(splitmix64(
            splitmix64(splitmix64(seed, static_cast<std::uint64_t>(step)), static_cast<std::uint64_t>(layer)),
            static_cast<std::uint64_t>(place))),
        m_threshold(static_cast<std::uint64_t>(std::llround(p * 0x1p32))),
        m_scale(p < 1 ? 1 / (1 - p) : 0) {}

  /// Whether any element is dropped at all.
  KOKKOS_INLINE_FUNCTION bool drops() const { return m_threshold > 0; }

  /// function(column, is_kept) for every column in [0, width) of a row: that of a token, by its place in the whole
  /// sequence, of a sequence of the batch.
  template <class Member, class Function>
  KOKKOS_INLINE_FUNCTION void for_each_column(const Member& team, std::int64_t sequence, std::int64_t token, int width,
                                              const Function& function) const {
    constexpr int together = 4;  // columns share a counter
    for_each(team, (width + together - 1) / together, [&](const int group) {
      const PhiloxWords bits = philox({{static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(sequence),
                                        static_cast<std::uint32_t>(token), static_cast<std::uint32_t>(token >> 32)}},
                                      m_key);
      const int first = group * together, columns = width - first < together ? width - first : together;
      for (int i = 0; i < columns; ++i) function(first + i, bits.word[i] >= m_threshold);
    });
  }

  /// x [width], the row of a token, becomes what dropout leaves of it: 0, whatever was there, or x / (1 − p).
  template <class Member, class Real>
  KOKKOS_INLINE_FUNCTION void apply(const Member& team, std::int64_t sequence, std::int64_t token, int width,
                                    Real* x) const {
    if (!drops()) return;
    const auto scale = static_cast<Real>(m_scale);
    for_each_column(team, sequence, token, width,
                    [=](const int i, const bool is_kept) { x[i] = is_kept ? x[i] * scale : Real(0); });
  }

 private:
  std::uint64_t m_key = 0, m_threshold = 0;
  double m_scale = 1;
};

/// The dropout of the rows that a rank has, [batch, rows, width]: row t of sequence b is that of the global token
/// `first_token` + t of sequence `first_sequence` + b of the batch.
class DropoutOfRows {
 public:
  /// Drops nothing.
  DropoutOfRows() = default;
  DropoutOfRows(const Dropout& dropout, std::int64_t first_sequence, std::int64_t first_token)
      : m_dropout(dropout), m_first_sequence(first_sequence), m_first_token(first_token) {}

  KOKKOS_INLINE_FUNCTION bool drops() const { return m_dropout.drops(); }

  /// That of the rows from `first` on of one of the sequences, as those of a batch of one sequence.
  DropoutOfRows from(std::int64_t sequence, std::int64_t first) const {
    return {m_dropout, m_first_sequence + sequence, m_first_token + first};
  }

  /// x [width], row t of sequence b, becomes what dropout leaves of it.
  template <class Member, class Real>
  KOKKOS_INLINE_FUNCTION void apply(const Member& team, std::int64_t b, std::int64_t t, int width, Real* x) const {
    m_dropout.apply(team, m_first_sequence + b, m_first_token + t, width, x);
  }

  /// y += what dropout leaves of x + bias; x is lost. In loops of their own, so that no compiler contracts the
  /// multiplication with the addition in one place and not in another.
  template <class Member, class Real>
  KOKKOS_INLINE_FUNCTION void add_with_bias(const Member& team, std::int64_t b, std::int64_t t, int width, Real* x,
                                            const Real* bias, Real* y) const {
    if (!drops()) return kernels::add_with_bias(team, width, x, bias, y);
    copy_with_bias(team, width, x, bias, x);
    apply(team, b, t, width, x);
    for_each(team, width, [&](const int i) { y[i] += x[i]; });
  }

 private:
  Dropout m_dropout;
  std::int64_t m_first_sequence = 0, m_first_token = 0;
};

/// y = what dropout leaves of x, which is the gradient of x where x is that of y; [batch, rows, width] both, and they
/// may be the same.
template <class Real>
void drop_rows(const Execution& execution, const DropoutOfRows& dropout,
               const std::type_identity_t<Array<const Real***>>& x, const Array<Real***>& y) {
  const auto batch = static_cast<std::int64_t>(x.extent(0)), rows = static_cast<std::int64_t>(x.extent(1));
  const auto width = static_cast<int>(x.extent(2));
  Kokkos::parallel_for(
      "bsbr::dropout::rows", team_policy(execution, batch * rows, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        const std::int64_t b = member.league_rank() / rows, t = member.league_rank() % rows;
        copy(team, width, &x(b, t, 0), &y(b, t, 0));
        dropout.apply(team, b, t, width, &y(b, t, 0));
      });
}

}  // namespace bsbr::kernels
