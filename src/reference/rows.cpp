// What the transformer does to rows of x, and the gradients: embedding, layer norm, linear layers, GELU.
#include <cmath>

#include "reference/parts.hpp"

namespace bsbr::reference {
namespace {

/// P[t, 2m] = sin(t·ω_m), P[t, 2m+1] = cos(t·ω_m), ω_m = 10000^(−2m/D)
double position(std::int64_t token, std::int64_t column, std::int64_t hidden_dim) {
  const std::int64_t m = column / 2;
  const double angle =
      static_cast<double>(token) * std::pow(10000.0, -2.0 * static_cast<double>(m) / static_cast<double>(hidden_dim));
  return column % 2 == 0 ? std::sin(angle) : std::cos(angle);
}

/// (x − mean)/√(variance + 1e-5) of a row, and that root.
struct Normalised {
  Matrix row;  // [1, D]
  double deviation = 0;
};

Normalised normalise(const Matrix& x, std::int64_t token) {
  const auto width = static_cast<double>(x.columns);
  double mean = 0;
  long double variance = 0;  // which has room for the squares of all doubles
  for (std::int64_t column = 0; column < x.columns; ++column) mean += x(token, column) / width;
  for (std::int64_t column = 0; column < x.columns; ++column) variance += squared(x(token, column) - mean) / width;
  Normalised result{Matrix(1, x.columns), static_cast<double>(std::sqrt(variance + 1e-5))};
  for (std::int64_t column = 0; column < x.columns; ++column) {
    result.row(0, column) = (x(token, column) - mean) / result.deviation;
  }
  return result;
}

}  // namespace

Matrix embed(const std::vector<std::int64_t>& ids, const Matrix& embedding) {
  Matrix x(static_cast<std::int64_t>(ids.size()), embedding.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const std::int64_t id = ids[static_cast<std::size_t>(t)];
    require(id >= 0 && id < embedding.rows, "id " + std::to_string(id) + " is outside the vocabulary");
    for (std::int64_t column = 0; column < x.columns; ++column)
      x(t, column) = embedding(id, column) + position(t, column, x.columns);
  }
  return x;
}

void add_embed_gradient(const std::vector<std::int64_t>& ids, const Matrix& dx, Matrix& dembedding) {
  for (std::int64_t t = 0; t < dx.rows; ++t) add_row(dembedding, ids[static_cast<std::size_t>(t)], 1, dx, t);
}

Matrix layer_norm(const Matrix& x, const Matrix& weight, const Matrix& bias) {
  require(weight.rows == 1 && bias.rows == 1 && weight.columns == x.columns && bias.columns == x.columns,
          "weight and bias of a layer norm are [1, columns of x]");
  Matrix y(x.rows, x.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const Matrix normalised = normalise(x, t).row;
    for (std::int64_t column = 0; column < x.columns; ++column) {
      y(t, column) = normalised(0, column) * weight(0, column) + bias(0, column);
    }
  }
  return y;
}

Matrix layer_norm_gradient(const Matrix& x, const Matrix& weight, const Matrix& dy, Matrix& dweight, Matrix& dbias) {
  const auto width = static_cast<double>(x.columns);
  Matrix dx(x.rows, x.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    const auto [n, deviation] = normalise(x, t);
    double mean = 0, product = 0;  // of dn = dy ⊙ w, and of dn ⊙ n
    for (std::int64_t column = 0; column < x.columns; ++column) {
      dweight(0, column) += dy(t, column) * n(0, column);
      dbias(0, column) += dy(t, column);
      mean += dy(t, column) * weight(0, column) / width;
      product += dy(t, column) * weight(0, column) * n(0, column) / width;
    }
    for (std::int64_t column = 0; column < x.columns; ++column) {
      dx(t, column) = (dy(t, column) * weight(0, column) - mean - n(0, column) * product) / deviation;
    }
  }
  return dx;
}

Matrix factor(Matrix x, Rounding rounding) {
  if (rounding == Rounding::none) return x;
  constexpr int digits = 8;  // of the significand; std::nearbyint rounds ties to even
  for (double& number : x.values) {
    int exponent = 0;
    const double significand = std::frexp(number, &exponent);
    number = std::ldexp(std::nearbyint(std::ldexp(significand, digits)), exponent - digits);
  }
  return x;
}

Matrix linear(const Matrix& x, const Matrix& weight, const Matrix& bias) {
  require(weight.columns == x.columns, "the weight of a linear layer is [out, columns of x]");
  require(bias.rows == 1 && bias.columns == weight.rows, "the bias of a linear layer is [1, out]");
  Matrix y(x.rows, weight.rows);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t out = 0; out < weight.rows; ++out) y(t, out) = dot(x, t, weight, out) + bias(0, out);
  }
  return y;
}

Matrix linear_gradient(const Matrix& x, const Matrix& weight, const Matrix& dy, Matrix& dweight, Matrix& dbias) {
  Matrix dx(x.rows, x.columns);
  for (std::int64_t t = 0; t < x.rows; ++t) {
    for (std::int64_t out = 0; out < weight.rows; ++out) {
      add_row(dx, t, dy(t, out), weight, out);
      add_row(dweight, out, dy(t, out), x, t);
      dbias(0, out) += dy(t, out);
    }
  }
  return dx;
}

double gelu(double z) { return 0.5 * z * (1 + std::erf(z / std::sqrt(2.0))); }

double gelu_gradient(double z) {
  const double pi = 3.14159265358979323846;
  return 0.5 * (1 + std::erf(z / std::sqrt(2.0))) + z * std::exp(-z * z / 2) / std::sqrt(2 * pi);
}

}  // namespace bsbr::reference
