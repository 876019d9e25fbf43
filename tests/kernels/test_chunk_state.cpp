// States of chunks, formed and applied, against plain loops.
#include "kernels/chunk_state.hpp"

#include <gtest/gtest.h>

#include <optional>

#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::TokenRows;
constexpr int state_tile = kernels::tuning::state_tile;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// Rows of `width` numbers, `stride` numbers apart, with NaN between them.
struct TestRows {
  std::int64_t count;
  int width;
  std::int64_t stride;
  std::vector<double> numbers;

  TestRows(std::int64_t rows, int columns, std::uint64_t seed, int surplus = 3)
      : count(rows),
        width(columns),
        stride(columns + surplus),
        numbers(in_float(random_matrix(rows, stride, seed).values)) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      if (static_cast<std::int64_t>(i) % stride >= width) numbers[i] = nan;
    }
  }
  double* row(std::int64_t t) { return &numbers[static_cast<std::size_t>(t * stride)]; }
  double operator()(std::int64_t t, int column) const { return numbers[static_cast<std::size_t>(t * stride + column)]; }

  template <class Real>
  Array<const Real*> on_device() const {
    return to_device<Real*>(numbers, numbers.size());
  }
};

using Mask = std::optional<reference::Mask>;

/// F of the tokens [begin, end), [key width, value width].
template <class Real>
std::vector<Real> form(const TestRows& keys, const TestRows& values, const Mask& mask, std::int64_t begin,
                       std::int64_t end) {
  const auto key_elements = keys.on_device<Real>(), value_numbers = values.on_device<Real>();
  const TokenRows<Real> key_rows{key_elements.data(), keys.stride, keys.width},
      value_rows{value_numbers.data(), values.stride, values.width};
  const Array<const std::uint8_t*> real =
      mask ? to_device<std::uint8_t*>(*mask, mask->size()) : Array<const std::uint8_t*>();
  const Array<Real**> state("test::state", keys.width, values.width);
  const int width = keys.width, columns = values.width;
  const std::int64_t bytes = kernels::StateTile<Real>::bytes(width, columns);
  Kokkos::parallel_for(
      "test::form_state", kernels::team_policy(Execution(), 1, bytes),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        kernels::Scratch scratch(member, bytes);
        const kernels::StateTile<Real> tile(scratch, width, columns);
        kernels::form_state(team, key_rows, value_rows, real.data(), begin, end, tile);
        kernels::for_each(team, width * columns, [&](const int i) {
          state(i / columns, i % columns) = tile.state[i / columns * kernels::padded<Real>(columns) + i % columns];
        });
      });
  Execution().fence();
  return to_host(state);
}

/// `output` after rows [begin, end) of queries · state were added to it; its rows lie value_width + 2 numbers apart.
template <class Real>
std::vector<Real> apply(const TestRows& queries, const std::vector<double>& state, int value_width, std::int64_t begin,
                        std::int64_t end, const std::vector<double>& output) {
  const auto numbers = queries.on_device<Real>();
  const TokenRows<Real> rows{numbers.data(), queries.stride, queries.width};
  const auto factors = to_device<Real*>(state, state.size());
  const auto results = to_device<Real*>(output, output.size());
  const int width = queries.width, stride = kernels::padded<Real>(value_width);
  const std::int64_t bytes = kernels::AppliedState<Real>::bytes(width, value_width);
  Kokkos::parallel_for(
      "test::apply_state", kernels::team_policy(Execution(), 1, bytes),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        kernels::Scratch scratch(member, bytes);
        const kernels::AppliedState<Real> tile(scratch, width, value_width);
        kernels::for_each(team, width * stride, [&](const int i) {
          tile.state[i] = i % stride < value_width ? factors(i / stride * value_width + i % stride) : Real(0);
        });
        kernels::apply_state(team, rows, nullptr, begin, end, value_width, results.data(), value_width + 2, tile);
      });
  Execution().fence();
  return to_host(results);
}

/// Σ key_tᵀ value_t in one running sum.
template <class Real>
std::vector<Real> plain_state(const TestRows& keys, const TestRows& values, const Mask& mask, std::int64_t begin,
                              std::int64_t end) {
  std::vector<Real> state(static_cast<std::size_t>(keys.width * values.width));
  for (std::int64_t t = begin; t < end; ++t) {
    if (mask && (*mask)[static_cast<std::size_t>(t)] == 0) continue;
    for (int i = 0; i < keys.width * values.width; ++i) {
      state[static_cast<std::size_t>(i)] +=
          static_cast<Real>(keys(t, i / values.width)) * static_cast<Real>(values(t, i % values.width));
    }
  }
  return state;
}

template <class Real>
std::vector<Real> plain_applied(const TestRows& queries, const std::vector<double>& state, int value_width,
                                std::int64_t begin, std::int64_t end, const std::vector<double>& output) {
  std::vector<Real> results(output.begin(), output.end());
  for (std::int64_t t = begin; t < end; ++t) {
    for (int column = 0; column < value_width; ++column) {
      Real sum = 0;
      for (int k = 0; k < queries.width; ++k)
        sum += static_cast<Real>(queries(t, k)) *
               static_cast<Real>(state[static_cast<std::size_t>(k * value_width + column)]);
      results[static_cast<std::size_t>(t * (value_width + 2) + column)] += sum;
    }
  }
  return results;
}

template <class Real>
void expect_right_state(const TestRows& keys, const TestRows& values, const Mask& mask, std::int64_t begin,
                        std::int64_t end) {
  const auto exact = plain_state<double>(keys, values, mask, begin, end);
  const std::vector<std::int64_t> shape{keys.width, values.width};
  EXPECT_TRUE(all_close({form<Real>(keys, values, mask, begin, end), shape}, {exact, shape},
                        bound(exact, plain_state<Real>(keys, values, mask, begin, end))))
      << "widths " << keys.width << ", " << values.width << "; tokens " << begin << " to " << end;
}

const std::pair<int, int> widths[] = {{1, 1}, {5, 5}, {12, 12}, {64, 64}, {80, 80}, {128, 128}, {12, 33}, {80, 1}};
const std::int64_t counts[] = {
    0, 1, state_tile - 1, state_tile, state_tile + 1, 3 * state_tile - 1, 3 * state_tile + 1};

template <class Real>
class ChunkState : public ::testing::Test {};
TYPED_TEST_SUITE(ChunkState, Reals, RealNames);

TYPED_TEST(ChunkState, is_the_sum_of_keys_times_values) {
  for (const auto& [key_width, value_width] : widths) {
    const TestRows keys(4 * state_tile, key_width, 1), values(4 * state_tile, value_width, 2, 5);
    for (const std::int64_t count : counts) {
      for (const std::int64_t begin : {0, 1, 7}) expect_right_state<TypeParam>(keys, values, {}, begin, begin + count);
    }
  }
}

TYPED_TEST(ChunkState, masked_tokens_add_nothing_whatever_they_hold) {
  for (const auto& [key_width, value_width] : widths) {
    TestRows keys(4 * state_tile, key_width, 1), values(4 * state_tile, value_width, 2, 5);
    const auto mask = random_mask(keys.count, 0.4, 3);
    for (std::int64_t t = 0; t < keys.count; ++t) {
      if (mask[static_cast<std::size_t>(t)] != 0) continue;
      std::fill_n(keys.row(t), key_width, t % 2 == 0 ? nan : std::numeric_limits<double>::infinity());
      std::fill_n(values.row(t), value_width, t % 3 == 0 ? nan : 1e30);
    }
    for (const std::int64_t count : counts) expect_right_state<TypeParam>(keys, values, mask, 3, 3 + count);
  }
}

TYPED_TEST(ChunkState, of_padding_alone_is_exactly_zero) {
  TestRows keys(2 * state_tile, 12, 1), values(2 * state_tile, 12, 2);
  keys.numbers.assign(keys.numbers.size(), nan);
  values.numbers.assign(values.numbers.size(), nan);
  EXPECT_EQ(form<TypeParam>(keys, values, reference::Mask(static_cast<std::size_t>(keys.count), 0), 0, keys.count),
            std::vector<TypeParam>(12 * 12, 0));
}

TYPED_TEST(ChunkState, mask_without_padding_changes_no_bit) {
  const TestRows keys(2 * state_tile + 3, 12, 1), values(2 * state_tile + 3, 12, 2);
  EXPECT_TRUE(
      same_bits(form<TypeParam>(keys, values, reference::Mask(static_cast<std::size_t>(keys.count), 1), 0, keys.count),
                form<TypeParam>(keys, values, {}, 0, keys.count), values.width));
}

TEST(ChunkStateInFloat, long_sums_lose_less_than_a_running_sum_does) {
  TestRows keys(1 << 17, 5, 1), values(1 << 17, 5, 2);
  for (auto* rows : {&keys, &values}) {
    for (double& number : rows->numbers) number = std::abs(number);
  }
  const auto exact = plain_state<double>(keys, values, {}, 0, keys.count);
  const double naive = largest_difference(widen(plain_state<float>(keys, values, {}, 0, keys.count)), exact);
  EXPECT_LT(largest_difference(widen(form<float>(keys, values, {}, 0, keys.count)), exact), naive / 3);
}

TYPED_TEST(ChunkState, is_added_to_the_output_of_its_tokens_and_of_no_other) {
  for (const auto& [key_width, value_width] : widths) {
    const TestRows queries(4 * state_tile, key_width, 1);
    const auto state = in_float(random_matrix(key_width, value_width, 2).values);
    const auto output = in_float(random_matrix(queries.count, value_width + 2, 3).values);
    for (const std::int64_t count : counts) {
      const std::int64_t begin = 7, end = begin + count;
      const auto exact = plain_applied<double>(queries, state, value_width, begin, end, output);
      const std::vector<std::int64_t> shape{queries.count, value_width + 2};
      EXPECT_TRUE(all_close({apply<TypeParam>(queries, state, value_width, begin, end, output), shape}, {exact, shape},
                            bound(exact, plain_applied<TypeParam>(queries, state, value_width, begin, end, output))))
          << "widths " << key_width << ", " << value_width << "; " << count << " tokens";
    }
  }
}

/// Rows [begin, end) of queries · S, or · Sᵀ, of a state [width, width] that lies in blocks, added to zeros where
/// `mask` says that a token is real: [queries, width].
template <class Real>
std::vector<Real> apply_from_blocks(const TestRows& queries, const std::vector<double>& state, bool transposed,
                                    const reference::Mask& mask) {
  const int width = queries.width;
  const kernels::StateBlocks blocks(std::int64_t{width} * width, 1, 1);
  const auto numbers = queries.on_device<Real>();
  const TokenRows<Real> rows{numbers.data(), queries.stride, width};
  std::vector<double> in_blocks(state);
  in_blocks.resize(static_cast<std::size_t>(blocks.elements(blocks.blocks(), 1)), nan);
  const auto states = to_device<Real*>(in_blocks, in_blocks.size());
  const auto real = to_device<std::uint8_t*>(mask, mask.size());
  const Array<Real*> results("test::results", queries.count * width);
  const std::int64_t bytes = kernels::AppliedState<Real>::bytes(width, width), count = queries.count;
  Kokkos::parallel_for(
      "test::apply_from_blocks", kernels::team_policy(Execution(), 1, bytes),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        kernels::Scratch scratch(member, bytes);
        const auto source = kernels::state_ref(static_cast<const Real*>(states.data()), blocks, 0, 0, 0, 1);
        const kernels::AppliedState<Real> tile(scratch, width, width);
        if (transposed) {
          kernels::load_transposed_state(team, source, width, 0, width, tile);
        } else {
          kernels::load_state(team, source, width, 0, width, tile);
        }
        kernels::apply_state(team, rows, real.data(), 0, count, width, results.data(), width, tile);
      });
  Execution().fence();
  return to_host(results);
}

TYPED_TEST(ChunkState, transposed_has_the_bits_of_the_transposed_array_and_leaves_padding_out) {
  for (const int width : {1, 5, 12, 33, 64, 80, 129}) {  // from 33 on, rows cross the borders of blocks
    const TestRows queries(state_tile + 3, width, 1);
    const auto mask = random_mask(queries.count, 0.3, 2);
    const auto state = in_float(random_matrix(width, width, 3).values);
    std::vector<double> turned(state.size());
    for (std::size_t i = 0; i < state.size(); ++i)
      turned[i % static_cast<std::size_t>(width) * static_cast<std::size_t>(width) +
             i / static_cast<std::size_t>(width)] = state[i];
    const auto result = apply_from_blocks<TypeParam>(queries, state, true, mask);
    EXPECT_TRUE(same_bits(result, apply_from_blocks<TypeParam>(queries, turned, false, mask), width)) << width;

    std::vector<double> exact(result.size());
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const auto token = static_cast<std::int64_t>(i) / width, column = static_cast<std::int64_t>(i) % width;
      if (mask[static_cast<std::size_t>(token)] == 0) continue;
      for (int k = 0; k < width; ++k)
        exact[i] += queries(token, k) * state[static_cast<std::size_t>(column * width + k)];
    }
    const double unit = std::is_same_v<TypeParam, float> ? 1e-5 : 1e-13;
    EXPECT_LT(largest_difference(widen(result), exact), unit * width) << width;
  }
}

/// rows · state, or · stateᵀ, added to `output` where a token of [begin, end) is real, by what takes states without
/// scratch: [tokens, width].
template <class Real>
std::vector<Real> apply_flat(const TestRows& rows, const std::vector<double>& state, bool transposed, const Mask& mask,
                             std::int64_t begin, std::int64_t end, const std::vector<double>& output) {
  const int width = rows.width;
  const auto numbers = rows.on_device<Real>();
  const TokenRows<Real> tokens{numbers.data(), rows.stride, width};
  const Array<const std::uint8_t*> real =
      mask ? to_device<std::uint8_t*>(*mask, mask->size()) : Array<const std::uint8_t*>();
  const auto factors = to_device<Real*>(state, state.size()), results = to_device<Real*>(output, output.size());
  Kokkos::parallel_for(
      "test::apply_flat", kernels::team_policy(Execution(), 1, 0), KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        if (transposed) kernels::transpose_flat_state(team, width, factors.data());
        kernels::apply_flat_state(team, tokens, real.data(), begin, end, width, factors.data(), results.data(), width);
      });
  Execution().fence();
  return to_host(results);
}

TYPED_TEST(ChunkState, without_scratch_is_applied_to_real_tokens_as_it_is_and_transposed) {
  for (const int width : {1, 5, 12, 33, 64}) {
    TestRows rows(state_tile + 3, width, 1);
    const auto mask = random_mask(rows.count, 0.3, 2);
    for (std::int64_t t = 0; t < rows.count; ++t) {
      if (mask[static_cast<std::size_t>(t)] == 0) std::fill_n(rows.row(t), width, nan);
    }
    const auto state = in_float(random_matrix(width, width, 3).values);
    const auto output = in_float(random_matrix(rows.count, width, 4).values);
    for (const bool transposed : {false, true}) {
      const std::int64_t begin = 2, end = rows.count - 1;
      auto exact = output;
      for (std::int64_t t = begin; t < end; ++t) {
        if (mask[static_cast<std::size_t>(t)] == 0) continue;
        for (int column = 0; column < width; ++column) {
          for (int k = 0; k < width; ++k) {
            const int element = transposed ? column * width + k : k * width + column;
            exact[static_cast<std::size_t>(t * width + column)] +=
                rows(t, k) * state[static_cast<std::size_t>(element)];
          }
        }
      }
      const double unit = std::is_same_v<TypeParam, float> ? 1e-5 : 1e-13;
      const auto result = apply_flat<TypeParam>(rows, state, transposed, mask, begin, end, output);
      EXPECT_LT(largest_difference(widen(result), exact), unit * width) << width << (transposed ? ", transposed" : "");
    }
  }
}

TYPED_TEST(ChunkState, without_scratch_a_mask_without_padding_changes_no_bit) {
  const TestRows rows(state_tile + 3, 12, 1);
  const auto state = in_float(random_matrix(12, 12, 2).values);
  const std::vector<double> zeros(static_cast<std::size_t>(rows.count * 12));
  const reference::Mask all(static_cast<std::size_t>(rows.count), 1);
  EXPECT_TRUE(same_bits(apply_flat<TypeParam>(rows, state, false, all, 0, rows.count, zeros),
                        apply_flat<TypeParam>(rows, state, false, {}, 0, rows.count, zeros), 12));
}

}  // namespace
}  // namespace bsbr::testing
