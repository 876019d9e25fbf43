// Denormal numbers count as zeros in kernels, on all threads, and on none of them afterwards.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "bsbr/model.hpp"
#include "kernels/compat.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

#if defined(__x86_64__) || defined(__aarch64__)
constexpr bool can_flush = kernels::on_host;
#else
constexpr bool can_flush = false;
#endif

/// Whether this thread computes with denormal numbers, as operands and as results.
bool computes_with_denormals() {
  volatile double denormal = std::numeric_limits<double>::min() / 4, normal = std::numeric_limits<double>::min();
  const volatile double doubled = denormal * 4, halved = normal / 2;
  return doubled != 0 && halved != 0;
}

/// How many threads do.
int threads_that_compute_with_denormals() {
  int threads = 0;
  Kokkos::parallel_reduce(
      "test::threads",
      Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace>(0, Kokkos::DefaultHostExecutionSpace().concurrency()),
      [](const int, int& count) { count += computes_with_denormals() ? 1 : 0; }, threads);
  return threads;
}

TEST(FlushDenormals, holds_as_long_as_the_object_lives) {
  if (!can_flush) GTEST_SKIP() << "this processor has no such mode, or it is not known here";
  ASSERT_TRUE(computes_with_denormals());
  {
    const kernels::FlushDenormals flush;
    EXPECT_FALSE(computes_with_denormals());
    {
      const kernels::FlushDenormals again;
      EXPECT_FALSE(computes_with_denormals());
    }
    EXPECT_FALSE(computes_with_denormals());  // as before the inner one
  }
  EXPECT_TRUE(computes_with_denormals());
}

/// Random weights of which a share is replaced by value(sign).
template <class Real, class Value>
Weights<Real> some_replaced(const ModelConfig& config, double share, const Value& value) {
  auto weights = random_weight_map(config, 1);
  std::uint64_t seed = 10;
  for (auto& [name, matrix] : weights) {
    const auto kept = random_mask(static_cast<std::int64_t>(matrix.values.size()), share, ++seed);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      if (kept[i] == 0) matrix.values[i] = std::copysign(value, matrix.values[i]);
    }
  }
  return to_weights<Real>(config, weights);
}

template <class Real>
class Denormals : public ::testing::Test {
 protected:
  static constexpr double denormal = static_cast<double>(std::numeric_limits<Real>::min()) / 100;

  /// An architecture's attention takes several ways; a batch with padding.
  void expect_zeros(const ModelConfig& config, double share) {
    SCOPED_TRACE(describe(config) + ", share " + std::to_string(share));
    const Batch batch = random_batch(config, 2, 300, 3, Padding::holes);
    Model<Real> model(some_replaced<Real>(config, share, denormal)),
        with_zeros(some_replaced<Real>(config, share, 0.0));
    EXPECT_TRUE(same_bits(run_model(model, MPI_COMM_SELF, batch), run_model(with_zeros, MPI_COMM_SELF, batch),
                          config.hidden_dim));
    EXPECT_EQ(threads_that_compute_with_denormals(), Kokkos::DefaultHostExecutionSpace().concurrency());
  }
};
TYPED_TEST_SUITE(Denormals, Reals, RealNames);

TYPED_TEST(Denormals, among_the_weights_give_the_bits_of_zeros) {
  if (!can_flush) GTEST_SKIP() << "this processor has no such mode, or it is not known here";
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    for (const double share : {0.01, 0.3, 1.0}) this->expect_zeros(config, share);
  }
}

TYPED_TEST(Denormals, of_attention_inputs_give_the_bits_of_zeros) {
  if (!can_flush) GTEST_SKIP() << "this processor has no such mode, or it is not known here";
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    SCOPED_TRACE(describe(config));
    AttentionNumbers numbers = random_attention(config, 150, 1), with_zeros = numbers;
    const auto replace = [&](reference::Matrix AttentionNumbers::*rows, std::size_t step) {
      for (std::size_t i = 0; i < (numbers.*rows).values.size(); i += step) {
        double& number = (numbers.*rows).values[i];
        (with_zeros.*rows).values[i] = std::copysign(0.0, number);
        number = std::copysign(this->denormal, number);
      }
    };
    replace(&AttentionNumbers::query, 3);
    replace(&AttentionNumbers::key, 4);
    replace(&AttentionNumbers::value, 5);
    replace(&AttentionNumbers::retrieval_query, 2);
    EXPECT_TRUE(same_bits(run_attention<TypeParam>(config, numbers, {}),
                          run_attention<TypeParam>(config, with_zeros, {}), config.attention_dim()));
  }
}

}  // namespace
}  // namespace bsbr::testing
