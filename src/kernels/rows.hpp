// Functions of one row: norms, bias, GELU, length 1; gradients of the first three. Most of them ride on the
// products of panel_chain.hpp.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/bfloat16.hpp"
#include "kernels/compat.hpp"
#include "kernels/math.hpp"
#include "kernels/scratch.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

namespace detail {

template <class Real>
inline constexpr Real largest_number = std::numeric_limits<Real>::max();

/// A factor of elements whose squares overflow, or would without it be lost beside those: squares of the products are
/// small, and a sum of them is within range. A power of 2, so that it rounds nothing.
template <class Real>
inline constexpr Real square_scale = sizeof(Real) == 4 ? Real(0x1p-80) : Real(0x1p-600);

}  // namespace detail

/// What a layer norm makes of a row before weight and bias: x̂ = (x − mean) / σ, σ = √(variance + 1e-5), with the biased
/// variance.
template <class Real>
struct NormStatistics {
  Real mean;
  Real scale;   // of the elements, before they are squared
  Real factor;  // 1/σ of the scaled row; NaN if the row is not finite

  KOKKOS_INLINE_FUNCTION bool is_finite() const { return factor > 0; }
  KOKKOS_INLINE_FUNCTION Real normalised(Real x) const { return (x * scale - mean * scale) * factor; }
  KOKKOS_INLINE_FUNCTION Real inverse_deviation() const { return scale * factor; }
};

/// Those of a row of `width` elements. Where the variance overflows, the row is scaled, and 1e-5 is nothing beside it.
/// A row is not finite where an element or the mean is not.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION NormStatistics<Real> norm_statistics(const Member& team, int width, const Real* x) {
  const Real mean = sum<Real>(team, width, [&](const int i) { return x[i]; }) / static_cast<Real>(width);
  const Real variance =
      sum<Real>(team, width, [&](const int i) { return (x[i] - mean) * (x[i] - mean); }) / static_cast<Real>(width);
  if (variance <= detail::largest_number<Real>) return {mean, 1, Real(1) / std::sqrt(variance + Real(1e-5))};
  constexpr Real scale = detail::square_scale<Real>;
  const auto scaled = [&](const int i) { return x[i] * scale - mean * scale; };
  const Real large =
      sum<Real>(team, width, [&](const int i) { return scaled(i) * scaled(i); }) / static_cast<Real>(width);
  return {mean, scale, large <= detail::largest_number<Real> ? Real(1) / std::sqrt(large) : detail::not_a_number<Real>};
}

/// y = (x − mean) / √(variance + 1e-5) · weight + bias over `width` elements; all the same NaN if the row is not
/// finite. x and y may be the same.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void layer_norm(const Member& team, int width, const Real* x, const Real* weight,
                                       const Real* bias, Real* y) {
  const NormStatistics<Real> statistics = norm_statistics(team, width, x);
  if (!statistics.is_finite()) return for_each(team, width, [&](const int i) { y[i] = detail::not_a_number<Real>; });
  for_each(team, width, [&](const int i) { y[i] = statistics.normalised(x[i]) * weight[i] + bias[i]; });
}

/// sum += layer_norm(x)
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void add_layer_norm(const Member& team, int width, const Real* x, const Real* weight,
                                           const Real* bias, Real* sum) {
  const NormStatistics<Real> statistics = norm_statistics(team, width, x);
  if (!statistics.is_finite()) return for_each(team, width, [&](const int i) { sum[i] = detail::not_a_number<Real>; });
  for_each(team, width, [&](const int i) {
    const Real normed = statistics.normalised(x[i]) * weight[i] + bias[i];
    sum[i] += normed;
  });
}

/// What divides a row by its root mean square, √(mean(x²) + 1e-5): statistics without a mean. Where the squares
/// overflow, the row is scaled, and 1e-5 is nothing beside it.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION NormStatistics<Real> rms_statistics(const Member& team, int width, const Real* x) {
  const auto mean_square = [&](Real scale) {
    return sum<Real>(team, width, [&](const int i) { return x[i] * scale * (x[i] * scale); }) /
           static_cast<Real>(width);
  };
  const Real square = mean_square(1);
  if (square <= detail::largest_number<Real>) return {0, 1, Real(1) / std::sqrt(square + Real(1e-5))};
  constexpr Real scale = detail::square_scale<Real>;
  const Real large = mean_square(scale);
  return {0, scale, large <= detail::largest_number<Real> ? Real(1) / std::sqrt(large) : detail::not_a_number<Real>};
}

/// y = x / √(mean(x²) + 1e-5) over `width` elements; all the same NaN if the row is not finite. x and y may be the
/// same.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void rms_norm(const Member& team, int width, const Real* x, Real* y) {
  const NormStatistics<Real> statistics = rms_statistics(team, width, x);
  if (!statistics.is_finite()) return for_each(team, width, [&](const int i) { y[i] = detail::not_a_number<Real>; });
  for_each(team, width, [&](const int i) { y[i] = statistics.normalised(x[i]); });
}

/// The gradient of y = rms_norm(x), given dy: dx = (dy − y mean(dy·y)) / √(mean(x²) + 1e-5). dx and dy may be the same.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void rms_norm_gradient(const Member& team, int width, const Real* x, const Real* dy, Real* dx) {
  const NormStatistics<Real> statistics = rms_statistics(team, width, x);
  const Real mean = sum<Real>(team, width, [&](const int i) { return dy[i] * statistics.normalised(x[i]); }) /
                    static_cast<Real>(width);
  const Real inverse_deviation = statistics.inverse_deviation();
  for_each(team, width, [&](const int i) { dx[i] = (dy[i] - statistics.normalised(x[i]) * mean) * inverse_deviation; });
}

/// The gradient of a layer norm, given dy, that of its result; x is what was normed, x̂ what the norm makes of it before
/// weight and bias:
///
///     dx_i += (g_i − mean(g) − x̂_i·mean(g·x̂)) / σ,  g = dy·weight;  weight_sums_i += dy_i·x̂_i;  bias_sums_i += dy_i
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void add_layer_norm_gradient(const Member& team, int width, const Real* x, const Real* weight,
                                                    const Real* dy, Real* dx, Real* weight_sums, Real* bias_sums) {
  const NormStatistics<Real> statistics = norm_statistics(team, width, x);
  const auto mean = [&](const auto& term) { return sum<Real>(team, width, term) / static_cast<Real>(width); };
  const Real mean_g = mean([&](const int i) { return dy[i] * weight[i]; });
  const Real mean_gx = mean([&](const int i) { return dy[i] * weight[i] * statistics.normalised(x[i]); });
  for_each(team, width, [&](const int i) {
    weight_sums[i] += dy[i] * statistics.normalised(x[i]);
    bias_sums[i] += dy[i];
  });
  const Real inverse_deviation = statistics.inverse_deviation();
  for_each(team, width, [&](const int i) {
    dx[i] += (dy[i] * weight[i] - mean_g - statistics.normalised(x[i]) * mean_gx) * inverse_deviation;
  });
}

/// y = x
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void copy(const Member& team, int width, const Real* x, Real* y) {
  for_each(team, width, [&](const int i) { y[i] = x[i]; });
}

/// Each number of x becomes the nearest one that bfloat16 has. Of floats only.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void round_to_bfloat16(const Member& team, int width, Real* x) {
  for_each(team, width, [&](const int i) { x[i] = static_cast<Real>(as_bfloat16(static_cast<float>(x[i]))); });
}

/// y = x + bias
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void copy_with_bias(const Member& team, int width, const Real* x, const Real* bias, Real* y) {
  for_each(team, width, [&](const int i) { y[i] = x[i] + bias[i]; });
}

/// y = x + bias, rounded to bfloat16: a packed row.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void pack_with_bias(const Member& team, int width, const Real* x, const Real* bias, Real* y) {
  auto* packed = reinterpret_cast<Bfloat16*>(y);
  for_each(team, width, [&](const int i) { packed[i] = Bfloat16(static_cast<float>(x[i] + bias[i])); });
}

/// y += x + bias
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void add_with_bias(const Member& team, int width, const Real* x, const Real* bias, Real* y) {
  for_each(team, width, [&](const int i) { y[i] += x[i] + bias[i]; });
}

/// x = GELU(x + bias)
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void gelu_with_bias(const Member& team, int width, const Real* bias, Real* x) {
  for_each(team, width, [&](const int i) { x[i] = gelu(x[i] + bias[i]); });
}

/// dx = dy · GELU′(x + bias); dx and dy may be the same.
template <class Member, class Real>
KOKKOS_INLINE_FUNCTION void gelu_gradient_with_bias(const Member& team, int width, const Real* x, const Real* bias,
                                                    const Real* dy, Real* dx) {
  for_each(team, width, [&](const int i) { dx[i] = dy[i] * gelu_derivative(x[i] + bias[i]); });
}

/// x = x / max(‖x‖, 1e-12). In double precision until the end, so that each element is rounded by itself: a factor that
/// was rounded before would make all of a vector too long or too short, and similar vectors all alike; delta_net's
/// state multiplies such errors from token to token. Squares of floats do not overflow in double; where those of
/// doubles do, the vector is scaled first. An element that is not finite gives NaN. Row: a pointer, or what has
/// elements of type Real as a pointer does.
template <class Real, class Member, class Row>
KOKKOS_INLINE_FUNCTION void normalise(const Member& team, int width, const Row& x) {
  const auto square = [&] {
    return sum<double>(team, width, [&](const int i) { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
  };
  double squares = square();
  if (!(squares <= detail::largest_number<double>)) {
    for_each(team, width,
             [&](const int i) { x[i] = static_cast<Real>(static_cast<double>(x[i]) * detail::square_scale<double>); });
    squares = square();
  }
  const double norm = std::sqrt(squares);
  const double factor = 1 / (norm < 1e-12 ? 1e-12 : norm);
  for_each(team, width, [&](const int i) { x[i] = static_cast<Real>(static_cast<double>(x[i]) * factor); });
}

/// The gradient of y = normalise(x), which becomes that of x: (dy − y (y·dy)) / ‖x‖. Where the norm was below 1e-12, a
/// constant took its place: dy / 1e-12. In double precision, as normalise().
template <class Real, class Member>
KOKKOS_INLINE_FUNCTION void normalise_gradient(const Member& team, int width, const Real* x, Real* gradient) {
  const auto at = [=](const int i) { return static_cast<double>(x[i]); };
  double scale = 1, squares = sum<double>(team, width, [=](const int i) { return at(i) * at(i); });
  if (!(squares <= detail::largest_number<double>)) {
    scale = detail::square_scale<double>;
    squares = sum<double>(team, width, [=](const int i) { return at(i) * scale * (at(i) * scale); });
  }
  const double norm = std::sqrt(squares), factor = norm < 1e-12 ? 1e12 : scale / norm;
  const double along = norm < 1e-12 ? 0 : sum<double>(team, width, [=](const int i) {
    return at(i) * factor * static_cast<double>(gradient[i]);
  });
  for_each(team, width, [=](const int i) {
    gradient[i] = static_cast<Real>((static_cast<double>(gradient[i]) - at(i) * factor * along) * factor);
  });
}

/// normalise() of the rows of a tile for which wanted(row) holds: on a GPU by one thread each.
template <class Real, class Wanted>
inline void normalise_rows(const SerialTeam& team, const TileRows<Real>& rows, const Wanted& wanted) {
  for (int row = 0; row < rows.count; ++row) {
    if (wanted(row)) normalise<Real>(team, rows.width, &rows(row, 0));
  }
}

template <class Real, class Wanted>
KOKKOS_INLINE_FUNCTION void normalise_rows(const TeamMember& team, const TileRows<Real>& rows, const Wanted& wanted) {
  struct Row {
    Real* data;
    std::int64_t stride;
    KOKKOS_INLINE_FUNCTION Real& operator[](int i) const { return data[i * stride]; }
  };
  for_each(team, rows.count, [&](const int row) {
    if (wanted(row)) normalise<Real>(LoneThread{}, rows.width, Row{&rows(row, 0), rows.element_stride});
  });
}

/// Rows to copy, each where `to` is not null.
template <class Real, int count>
struct RowCopies {
  static constexpr int size = count;
  const Real* from[count];
  Real* to[count];
};

/// Copies `width` elements of the rows that copies(row), a RowCopies, names, for every row in [0, rows): a host's
/// thread takes whole rows, a GPU's threads side by side take elements side by side.
template <class Copies>
void copy_rows(const Execution& execution, const std::string& label, std::int64_t rows, std::int64_t width,
               const Copies& copies) {
  using Policy = Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>>;
  if (width == 0) return;  // rows without elements may lie beyond an array's end
  if constexpr (on_host) {
    const auto copy = [=](const std::int64_t row) {
      const auto copied = copies(row);
      for (int n = 0; n < copied.size; ++n) {
        if (copied.to[n] != nullptr) std::copy_n(copied.from[n], width, copied.to[n]);
      }
    };
    if (rows * width > HostSizes::elements_of_one_thread) {
      Kokkos::parallel_for(label, Policy(execution, 0, rows), copy);
    } else {
      for (std::int64_t row = 0; row < rows; ++row) copy(row);  // as a host's launch does, before it returns
    }
  } else {
    Kokkos::parallel_for(
        label, Policy(execution, 0, rows * width), KOKKOS_LAMBDA(const std::int64_t i) {
          const auto copied = copies(i / width);
          for (int n = 0; n < copied.size; ++n) {
            if (copied.to[n] != nullptr) copied.to[n][i % width] = copied.from[n][i % width];
          }
        });
  }
}

/// function(team, row) for every row [width] of an array [batch, rows, width].
template <class Real, class Function>
void for_each_row(const Execution& execution, const std::string& label, const Array<Real***>& array,
                  const Function& function) {
  const auto batch = static_cast<std::int64_t>(array.extent(0)), rows = static_cast<std::int64_t>(array.extent(1));
  Kokkos::parallel_for(
      label, team_policy(execution, batch * rows, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        function(as_team(member), &array(member.league_rank() / rows, member.league_rank() % rows, 0));
      });
}

}  // namespace bsbr::kernels
