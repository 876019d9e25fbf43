// How one quantity grows with another: y = c·xᵃ, fitted to measurements.
#pragma once

#include <optional>
#include <vector>

namespace bsbr::apps {

struct PowerLaw {
  double exponent = 0;   ///< a
  double r_squared = 0;  ///< share of the variance of log y that the law explains; 1 where y does not vary
};

/// Least squares of log y against log x. Nothing for fewer than two points, for x that are all the same, and for numbers that are not
/// positive.
std::optional<PowerLaw> fit_power_law(const std::vector<double>& x, const std::vector<double>& y);

}  // namespace bsbr::apps
