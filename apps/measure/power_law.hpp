// How one quantity grows with another: y = c·xᵃ, fitted to measurements.
#pragma once

#include <optional>
#include <vector>

namespace bsbr::apps {

struct PowerLaw {
  double exponent = 0;   ///< a
  double r_squared = 0;  ///< share of the variance of log y that the law explains; 1 where y does not vary

  /// How far the exponent may be off: by the scatter of the points about the line (its standard error), or by the
  /// ranges of y. Unknown for fewer than three points: two always lie on a line.
  std::optional<double> uncertainty;
  /// It says little: the uncertainty is unknown or exceeds 0.2, or a range of y is wider than what the law changes over
  /// all x.
  bool uncertain = false;
};

/// From the least to the largest value of repeated measurements.
struct Range {
  double low, high;
};

/// Least squares of log y against log x. Nothing for fewer than two points, for x that are all the same, and for
/// numbers that are not positive. `ranges`: of the repeats that each of y is the median of; none: y is exact.
std::optional<PowerLaw> fit_power_law(const std::vector<double>& x, const std::vector<double>& y,
                                      const std::vector<Range>& ranges = {});

}  // namespace bsbr::apps
