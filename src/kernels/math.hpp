// The functions inside kernels: exp for a softmax, GELU, sigmoid, elu. Branch-free, so that loops over them vectorise.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "kernels/compat.hpp"

namespace bsbr::kernels {

namespace detail {

// Constants rather than calls: a GPU's code may not call functions of the standard library.
template <class Real>
inline constexpr Real minus_infinity = -std::numeric_limits<Real>::infinity();
template <class Real>
inline constexpr Real not_a_number = std::numeric_limits<Real>::quiet_NaN();

}  // namespace detail

/// exp(x) for x ≤ 0 (−∞ included), within 2 units in the last place; exactly 1 at 0, exactly 0 from −87 down; NaN stays
/// NaN.
///
/// Exactly 0 rather than the smallest normal number: what a mask leaves must not become denormal in the next product.
/// Cody-Waite reduction by two parts of ln 2 (Cephes, expf), polynomial of degree 7 in the remainder.
KOKKOS_INLINE_FUNCTION float exp_nonpositive(float x) {
  const float bounded = x <= -87.f ? -87.f : x,
              number = x > -87.f ? x : -87.f;  // the same, but of NaN: no integer can be made of that
  const auto power =
      static_cast<std::int32_t>(number * 1.44269504088896341f - 0.5f);  // truncation rounds to nearest below 0
  const auto n = static_cast<float>(power);
  const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const float value = p * __builtin_bit_cast(float, (power + 127) << 23);
  // A select by bits: of `x <= −87 ? 0 : value` the compiler makes a branch around the whole computation, and the loop
  // stays scalar.
  return __builtin_bit_cast(float, __builtin_bit_cast(std::int32_t, value) & -static_cast<std::int32_t>(!(x <= -87.f)));
}

KOKKOS_INLINE_FUNCTION double exp_nonpositive(double x) { return std::exp(x); }

/// 2^x for x ≤ 0 (−∞ included), within 3 units in the last place; exactly 1 at 0, exactly 0 below −126; NaN stays NaN.
/// One number, or a vector of them: the softmax takes this one, since it is two thirds of the work of exp (its scores
/// are scaled by log₂ e beforehand).
///
/// Adding 1.5·2²³ rounds to an integer, which is then found in the lowest bits. Polynomial of degree 5 on [−½, ½],
/// fitted by iteratively reweighted least squares to a relative error of 9.2e-8.
template <class Float, class Unsigned>
KOKKOS_INLINE_FUNCTION Float exp2_nonpositive(Float x) {
  const Float shifted = x + 12582912.f;
  const Float r = x - (shifted - 12582912.f);
  Float p = r * 1.326472731307149e-3f + 9.671512991189957e-3f;
  p = p * r + 5.550733581185341e-2f;
  p = p * r + 2.402224242687225e-1f;
  p = p * r + 6.931470036506653e-1f;
  p = p * r + 1.f;
  const Float power = __builtin_bit_cast(Float, (__builtin_bit_cast(Unsigned, shifted) << 23) + 0x3f800000u);
  return x < -126.f ? Float{} : p * power;
}

KOKKOS_INLINE_FUNCTION float exp2_nonpositive(float x) { return exp2_nonpositive<float, std::uint32_t>(x); }

KOKKOS_INLINE_FUNCTION double exp2_nonpositive(double x) { return std::exp2(x); }

namespace detail {

/// Φ(−a) of the standard normal distribution, a ≥ 0, given exp(−a²/2); relative error below 1.5e-7 on a ≤ 14.
///
/// Φ(−a) = exp(−a²/2)·Q(a), and Q, which is ½·erfcx(a/√2), is a polynomial of degree 8 in t = 1/(1 + 0.3a), fitted by
/// iteratively reweighted least squares.
KOKKOS_INLINE_FUNCTION float normal_tail(float a, float exponential) {
  const float t = 1.f / (1.f + 0.3f * a);
  float q = 3.5673982839e-02f;
  q = q * t - 1.5720024752e-01f;
  q = q * t + 2.0634932264e-01f;
  q = q * t - 5.3680348096e-02f;
  q = q * t + 1.2856012656e-01f;
  q = q * t + 9.9913887864e-02f;
  q = q * t + 1.2075389972e-01f;
  q = q * t + 1.1962930218e-01f;
  return q * t * exponential;
}

}  // namespace detail

/// GELU(z) = z·Φ(z), exact form, absolute error below 3e-7·|z|.
///
/// With a = |z| it is max(z, 0) − a·Φ(−a), and the maximum is (z + a)/2 exactly: a select would keep loops from
/// vectorising.
KOKKOS_INLINE_FUNCTION float gelu(float z) {
  const float a = std::fabs(z);
  return (0.5f * z + 0.5f * a) - a * detail::normal_tail(a, exp_nonpositive(-0.5f * a * a));
}

KOKKOS_INLINE_FUNCTION double gelu(double z) { return 0.5 * z * (1.0 + std::erf(z * 0.70710678118654752440)); }

/// GELU′(z) = Φ(z) + z·φ(z), with φ(z) = exp(−z²/2)/√(2π); absolute error below 4e-7 in float. Φ(z) = ½ ± (½ −
/// Φ(−|z|)).
KOKKOS_INLINE_FUNCTION float gelu_derivative(float z) {
  const float a = std::fabs(z), exponential = exp_nonpositive(-0.5f * a * a);
  const float half = 0.5f - detail::normal_tail(a, exponential);
  return 0.5f + std::copysign(half, z) + z * (exponential * 0.39894228040143267794f);
}

KOKKOS_INLINE_FUNCTION double gelu_derivative(double z) {
  return 0.5 * (1.0 + std::erf(z * 0.70710678118654752440)) + z * (std::exp(-0.5 * z * z) * 0.39894228040143267794);
}

/// σ(z) = 1 / (1 + exp(−z)), within 4 units in the last place where it is above 1e-37; NaN stays NaN.
template <class Real>
KOKKOS_INLINE_FUNCTION Real sigmoid(Real z) {
  const Real e = exp_nonpositive(-std::fabs(z));
  return (z < 0 ? e : Real(1)) / (1 + e);
}

/// elu(z) + 1: z + 1 for z > 0, exp(z) for the others; NaN stays NaN.
template <class Real>
KOKKOS_INLINE_FUNCTION Real elu_plus_one(Real z) {
  const Real above = z > 0 ? z : Real(0), below = z > 0 ? Real(0) : z;
  return above + exp_nonpositive(below);
}

}  // namespace bsbr::kernels
