// Softmax attention by a kernel that multiplies matrices of bfloat16, emulated and, on a CPU that has it, real, against
// softmax_tiles on the same packed rows.
#include "kernels/softmax_matrices.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/emulated_instructions.hpp"
#include "kernels/softmax_tiles.hpp"
#include "kernels/token_softmax.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

#if !defined(__CUDACC__) && !defined(__HIPCC__)  // softmax_matrices is a host's
namespace bsbr::testing {
namespace {

using kernels::ProductKernel;

constexpr std::int64_t batch = 2, heads = 3;
constexpr float untouched = 77;

/// Queries, and keys with their values, as numbers of bfloat16, which softmax_tiles and softmax_matrices read.
struct Rows {
  std::int64_t length;
  int width;                                 // of a head
  std::vector<float> queries, keys, values;  // [batch, length, heads, width]
  std::vector<std::uint8_t> real;            // [batch, length]

  Rows(std::int64_t of_length, int of_width) : length(of_length), width(of_width) {
    queries = numbers(1);
    keys = numbers(2);
    values = numbers(3);
    real.assign(static_cast<std::size_t>(batch * length), 1);
  }

  /// Row t of all sequences is padding: its numbers are not read.
  void make_padding(std::int64_t t) {
    real[static_cast<std::size_t>(t)] = 0;
    for (auto* numbers : {&keys, &values})
      std::fill_n(numbers->begin() + t * heads * width, heads * width, std::numeric_limits<float>::quiet_NaN());
  }

  float& key(std::int64_t sequence, std::int64_t t, std::int64_t head, std::int64_t i) {
    return keys[static_cast<std::size_t>(((sequence * length + t) * heads + head) * width + i)];
  }
  float& value(std::int64_t sequence, std::int64_t t, std::int64_t head, std::int64_t i) {
    return values[static_cast<std::size_t>(((sequence * length + t) * heads + head) * width + i)];
  }

 private:
  std::vector<float> numbers(std::uint64_t seed) const {
    const auto random = random_matrix(batch * length, heads * width, seed).values;
    std::vector<float> rounded(random.size());
    for (std::size_t i = 0; i < random.size(); ++i)
      rounded[i] = kernels::as_bfloat16(2 * static_cast<float>(random[i]));
    return rounded;
  }
};

/// Heads of rows, alternately from these arrays [batch, length, heads, width], as packed rows.
Array<float***> packed(const Rows& rows, const std::vector<const std::vector<float>*>& arrays) {
  std::vector<std::uint16_t> halves;
  const auto width = static_cast<std::size_t>(rows.width);
  for (std::size_t first = 0; first < arrays[0]->size(); first += width) {
    for (const auto* array : arrays) {
      for (std::size_t i = first; i < first + width; ++i)
        halves.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>((*array)[i]) >> 16));
    }
  }
  const std::int64_t floats = static_cast<std::int64_t>(arrays.size()) * heads * rows.width / 2;
  const Array<float***> array("test::packed", batch, rows.length, floats);
  std::memcpy(array.data(), halves.data(), halves.size() * sizeof(halves[0]));
  return array;
}

enum class Queries { packed, in_float };

/// Results [batch, length, heads · width] of the queries [first, last); `untouched` elsewhere. kernel: null: by
/// softmax_tiles.
template <class Visible>
std::vector<float> attend(const Rows& rows, const Visible& visible, const ProductKernel<float>* kernel,
                          std::int64_t first, std::int64_t last, Queries queries = Queries::packed) {
  const Array<float***> output("test::output", batch, rows.length, heads * rows.width);
  Kokkos::deep_copy(output, untouched);
  kernels::KeysAndValues<float> keys{};
  keys.key = packed(rows, {&rows.keys, &rows.values});
  keys.real = to_device<std::uint8_t**>(rows.real, batch, rows.length);
  keys.packed = true;
  const kernels::HeadRows<float> query_rows =
      queries == Queries::packed
          ? kernels::HeadRows<float>(packed(rows, {&rows.queries}), true)
          : kernels::HeadRows<float>(to_device<float***>(rows.queries, batch, rows.length, heads * rows.width));
  const auto problem = kernels::detail::token_problem<float>(heads, visible, kernels::score_scale<float>(rows.width),
                                                             query_rows, keys, output, 0, first, last, 1);
  if (kernel == nullptr) {
    kernels::softmax_tiles<float>(Execution(), "test::tiles", problem);
  } else if constexpr (kernels::on_host) {
    EXPECT_TRUE(kernels::fits_matrices(problem, *kernel));
    kernels::softmax_matrices(Execution(), "test::matrices", problem, *kernel);
  }
  Execution().fence();
  return to_host(output);
}

std::vector<ProductKernel<float>> kernels_of_matrices() {
  std::vector<ProductKernel<float>> all{kernels::MatrixTiles<EmulatedRegisters>::kernel("amx, emulated")};
  for (const auto& kernel : kernels::product_kernels<float>(Rounding::bfloat16)) {
    if (kernel.multiplies_matrices) all.push_back(kernel);
  }
  return all;
}

/// function(what a token sees): ranges that fit no tile.
template <class Function>
void for_all_ranges(std::int64_t length, const Function& function) {
  for (const Causality causality : {Causality::causal, Causality::bidirectional, Causality::reference}) {
    function(kernels::WithinChunk{causality, 73, length});
    function(kernels::WithinChunk{causality, length, length});
  }
  function(kernels::Window{39});
}

class SoftmaxMatrices : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::StoredRow<float>::may_be_packed) GTEST_SKIP() << "packed rows are a host's";
  }
};

/// Weights keep 16 of their digits: each result is an average of values, so it is off by 2^-17 of the largest, and by
/// what sums in float round.
TEST_F(SoftmaxMatrices, have_the_results_of_softmax_tiles) {
  for (const ProductKernel<float>& kernel : kernels_of_matrices()) {
    for (const auto& [length, width] : {std::pair{1, 32}, {64, 64}, {65, 32}, {190, 96}, {301, 64}}) {
      Rows rows(length, width);
      for (std::int64_t t = 3; t < batch * length; t += 7) rows.make_padding(t);
      for_all_ranges(length, [&](const auto& visible) {
        const auto expected = attend(rows, visible, nullptr, 0, length),
                   actual = attend(rows, visible, &kernel, 0, length);
        EXPECT_TRUE(same_bits(attend(rows, visible, &kernel, 0, length, Queries::in_float), actual, heads * width));
        float largest = 0;  // fmax ignores NaN
        for (const float value : rows.values) largest = std::fmax(largest, std::fabs(value));
        for (std::size_t i = 0; i < actual.size(); ++i)
          ASSERT_NEAR(actual[i], expected[i], 1e-5F * largest) << kernel.name << ", " << length << " tokens, at " << i;
      });
    }
  }
}

TEST_F(SoftmaxMatrices, have_the_same_bits_however_queries_are_cut) {
  constexpr std::int64_t length = 301;
  const Rows rows(length, 32);
  for (const ProductKernel<float>& kernel : kernels_of_matrices()) {
    for_all_ranges(length, [&](const auto& visible) {
      const auto whole = attend(rows, visible, &kernel, 0, length);
      for (const auto& [first, last] : {std::pair{0, 1}, {1, 70}, {70, 71}, {71, 300}, {300, 301}}) {
        const auto part = attend(rows, visible, &kernel, first, last);
        EXPECT_EQ(std::count(part.begin(), part.end(), untouched),
                  batch * (length - (last - first)) * heads * rows.width);
        for (std::int64_t sequence = 0; sequence < batch; ++sequence) {
          EXPECT_TRUE(same_bits(rows_of(part, heads * rows.width, sequence * length + first, last - first),
                                rows_of(whole, heads * rows.width, sequence * length + first, last - first),
                                heads * rows.width))
              << kernel.name << ", queries " << first << " to " << last;
        }
      }
    });
  }
}

/// A key or a value that has overflowed reaches the queries that see it, and leaves the bits of all others alone. What
/// they become is what softmax_tiles makes of it: finite or not.
TEST_F(SoftmaxMatrices, let_overflow_reach_no_query_that_does_not_see_it) {
  constexpr std::int64_t length = 150, at = 80, head = 1, column = 5;
  for (const ProductKernel<float>& kernel : kernels_of_matrices()) {
    for (const float overflow : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      for (const bool is_key : {false, true}) {
        for_all_ranges(length, [&](const auto& visible) {
          Rows rows(length, 64);
          const auto before = attend(rows, visible, &kernel, 0, length);
          (is_key ? rows.key(0, at, head, column) : rows.value(0, at, head, column)) = overflow;
          const auto after = attend(rows, visible, &kernel, 0, length),
                     of_tiles = attend(rows, visible, nullptr, 0, length);
          for (std::size_t i = 0; i < after.size(); ++i) {
            const std::int64_t width = heads * rows.width, row = static_cast<std::int64_t>(i) / width;
            const kernels::KeyRange range = visible.range(row % length);
            const bool sees = row < length && static_cast<std::int64_t>(i) % width / rows.width == head &&
                              range.begin <= at && at < range.end;
            ASSERT_EQ(std::isfinite(after[i]), std::isfinite(of_tiles[i])) << kernel.name << ", token " << row;
            if (sees) continue;
            ASSERT_EQ(std::bit_cast<std::uint32_t>(after[i]), std::bit_cast<std::uint32_t>(before[i]))
                << kernel.name << ", token " << row;
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace bsbr::testing
#endif
