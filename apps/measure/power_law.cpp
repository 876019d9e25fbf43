// How one quantity grows with another.
#include "measure/power_law.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bsbr::apps {
namespace {

/// The logarithms' deviations from their mean. Relative to the first of them, so that equal values deviate by exactly
/// 0.
std::vector<double> deviations(std::vector<double> values) {
  const double first = std::log(values.front());
  for (double& value : values) value = std::log(value) - first;
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  for (double& value : values) value -= mean;
  return values;
}

double product(const std::vector<double>& a, const std::vector<double>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

/// Of the exponent, from three points on.
double standard_error(double uu, double uv, double vv, std::size_t points) {
  return std::sqrt(std::max(0.0, vv - uv * uv / uu) / (uu * static_cast<double>(points - 2)));
}

constexpr double most_uncertainty = 0.2;

}  // namespace

std::optional<PowerLaw> fit_power_law(const std::vector<double>& x, const std::vector<double>& y,
                                      const std::vector<Range>& ranges) {
  const auto positive = [](double value) { return value > 0 && std::isfinite(value); };
  if (x.size() < 2 || x.size() != y.size()) return std::nullopt;
  if (!std::all_of(x.begin(), x.end(), positive) || !std::all_of(y.begin(), y.end(), positive)) return std::nullopt;
  const std::vector<double> u = deviations(x), v = deviations(y);
  const double uu = product(u, u), uv = product(u, v), vv = product(v, v);
  if (uu == 0) return std::nullopt;
  PowerLaw law{uv / uu, vv == 0 ? 1 : uv * uv / (uu * vv), std::nullopt, true};
  if (x.size() < 3) return law;
  double shift = 0,
         widest = 0;  // of the exponent, if every point lies at the end of its range that moves it most; in logarithms
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const double width = std::log(ranges[i].high / ranges[i].low);
    shift += std::abs(u[i]) * width / 2 / uu;
    widest = std::max(widest, width);
  }
  law.uncertainty = std::max(shift, standard_error(uu, uv, vv, x.size()));
  const auto [least, largest] = std::minmax_element(u.begin(), u.end());
  law.uncertain = *law.uncertainty > most_uncertainty || widest > std::abs(law.exponent) * (*largest - *least);
  return law;
}

}  // namespace bsbr::apps
