// Sums over thousands of tokens: states that grow, and keys that are nearly the same. Against the reference, in float
// with a bound that is derived from what plain loops in float lose.
#include <gtest/gtest.h>

#include "support/attention.hpp"
#include "support/naive_states.hpp"
#include "support/reals.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t length = 4096;

/// The attention of one sequence, on all ranks, in both precisions. In float it may be `times` as far off as
/// float_bound says.
void expect_right(const ModelConfig& config, const AttentionNumbers& numbers, double times = 1) {
  SCOPED_TRACE(describe(config));
  const auto exact = reference::attention(config, numbers, {});
  const double scale = std::max(1.0, largest_magnitude(exact.values));
  const std::vector<std::int64_t> shape{exact.rows, exact.columns};
  EXPECT_TRUE(all_close({run_attention<double>(config, numbers, {}, MPI_COMM_WORLD), shape}, exact, 1e-10 * scale));
  const double naive_loss = largest_difference(widen(naive_states<float>(config, numbers, {})), exact.values);
  const auto in_float = run_attention<float>(config, numbers, {}, MPI_COMM_WORLD);
  EXPECT_TRUE(all_close({in_float, shape}, exact, times * float_bound(config, naive_loss, scale)));
}

ModelConfig sizes_of(std::int64_t heads, std::int64_t width, std::int64_t chunk_size) {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_heads = heads;
  sizes.hidden_dim = heads * width;
  sizes.chunk_size = chunk_size;
  return sizes;
}

/// One direction and a thousandth of noise.
reference::Matrix nearly_parallel(std::int64_t rows, std::int64_t columns, std::uint64_t seed) {
  const auto direction = random_matrix(1, columns, seed);
  auto matrix = random_matrix(rows, columns, seed + 1, 1e-3);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) matrix(row, column) += direction(0, column);
  }
  matrix.values = in_float(matrix.values);
  return matrix;
}

/// Variants of delta_net whose states fade (a step is less than twice what would be right), or that do not.
std::vector<ModelConfig> delta_nets(const ModelConfig& sizes, bool fading) {
  auto configs = variants_of(Architecture::delta_net, sizes);
  std::erase_if(configs, [&](const ModelConfig& config) { return (config.beta < 2) != fading; });
  return configs;
}

AttentionNumbers with_nearly_parallel_keys(const ModelConfig& config) {
  auto numbers = random_attention(config, length, 61);
  numbers.key = nearly_parallel(length, config.hidden_dim, 62);
  return numbers;
}

TEST(DeltaNet, holds_over_thousands_of_nearly_parallel_keys) {
  for (const ModelConfig& config : delta_nets(sizes_of(2, 64, 128), true))
    expect_right(config, with_nearly_parallel_keys(config));
}

// With β = 2 what is stored for such keys changes its sign with each token and no error ever fades: the corrections of
// a tile are large, of changing sign, and their sum loses several times what the recurrence loses token by token
// (docs/mathematics.md, "Sums").
TEST(DeltaNet, holds_over_thousands_of_nearly_parallel_keys_where_no_state_fades) {
  for (const ModelConfig& config : delta_nets(sizes_of(2, 64, 128), false))
    expect_right(config, with_nearly_parallel_keys(config), 8);
}

TEST(DeltaNet, holds_over_thousands_of_random_keys_and_of_equal_ones) {
  for (const ModelConfig& config : variants_of(Architecture::delta_net, sizes_of(2, 16, 128))) {
    auto numbers = random_attention(config, length, 63);
    expect_right(config, numbers);
    for (std::int64_t t = 1; t < length; ++t) {
      for (std::int64_t i = 0; i < config.hidden_dim; ++i) numbers.key(t, i) = numbers.key(0, i);
    }
    expect_right(config, numbers);
  }
}

/// Keys and values of one sign: every sum grows with each token, and what is added is ever smaller beside it.
TEST(GrowingStates, are_those_of_the_reference) {
  for (const Architecture architecture :
       {Architecture::linear, Architecture::gau}) {  // whose sums nothing is taken from
    for (const ModelConfig& config : variants_of(architecture, sizes_of(2, 16, 100))) {
      auto numbers = random_attention(config, length, 64);
      for (auto* rows : {&numbers.key, &numbers.value}) {
        for (double& number : rows->values) number = std::abs(number);
      }
      expect_right(config, numbers);
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
