#include "measure/product_rate.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>

#include "bsbr/types.hpp"
#include "kernels/backend.hpp"
#include "kernels/product.hpp"

namespace bsbr::apps {
namespace {

constexpr std::int64_t width = 512, rows = 256;  // of one product
constexpr double least_seconds = 0.2;

/// Every thread multiplies rows of its own with the same weight; the seconds that it takes.
template <class Real>
double seconds_of_products(const kernels::ProductWeight<Real>& weight, const HostArray<Real***>& input,
                           const HostArray<Real***>& product) {
  const auto begin = std::chrono::steady_clock::now();
  Kokkos::parallel_for("bsbr::product_rate",
                       Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, static_cast<int>(input.extent(0))),
                       [=](const int thread) {
                         weight.multiply(rows, &input(thread, 0, 0), width, &product(thread, 0, 0),
                                         static_cast<std::int64_t>(product.extent(2)));
                       });
  Kokkos::fence();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

template <class Real>
std::optional<double> product_rate() {
  if constexpr (!kernels::on_host) {
    return std::nullopt;
  } else {
    const auto threads = static_cast<std::int64_t>(Kokkos::DefaultHostExecutionSpace().concurrency());
    const kernels::ProductWeight<Real> weight(Array<Real**>("bsbr::product_rate::weight", width, width));
    const HostArray<Real***> input("bsbr::product_rate::input", threads, rows, width),
        product("bsbr::product_rate::product", threads, rows, kernels::ProductWeight<Real>::row_stride(width));
    double seconds = 0, best = seconds_of_products(weight, input, product);
    while (seconds < least_seconds) {
      const double now = seconds_of_products(weight, input, product);
      seconds += now;
      best = std::min(best, now);
    }
    return 2.0 * static_cast<double>(threads * rows * width * width) / best;
  }
}

template std::optional<double> product_rate<float>();
template std::optional<double> product_rate<double>();

}  // namespace bsbr::apps
