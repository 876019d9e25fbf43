// Dropout (Srivastava et al. 2014): y = x / (1 − p) with probability 1 − p, else 0.
//
// Whether an element is dropped is a function of (seed, step, layer, place, sequence of the batch, global token,
// column), by a counter-based generator: whoever asks, forward or backward, on whichever rank or thread, gets the same
// answer. So the gradient is the same function of dy, and nothing is kept.
#pragma once

#include <cmath>
#include <cstdint>

#include "config/splitmix64.hpp"
#include "kernels/compat.hpp"
#include "kernels/philox.hpp"

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

}  // namespace bsbr::kernels
