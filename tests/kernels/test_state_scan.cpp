// Running states, carried through segments in steps: against plain loops, cut anywhere, and put together.
#include "kernels/state_scan.hpp"

#include <gtest/gtest.h>

#include "architectures/delta_net/rule.hpp"
#include "architectures/linear/rule.hpp"
#include "kernels/segment_sums.hpp"
#include "support/attention.hpp"
#include "support/naive_states.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t tile = kernels::tuning::state_tile;
constexpr int heads = 2;

/// What gau makes of its states, without the rest of gau: o_t = q_t S.
template <class Real>
struct StepRule {
  static constexpr bool sees_own_step = false, corrects_state = false;
  KOKKOS_FUNCTION int extra_columns() const { return 0; }
  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team&, std::int64_t, const kernels::TileRows<Real>&, const Wanted&) const {}
  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int, const Real* row, Real* output) const {
    return [=](const int i) { output[i] = row[i]; };
  }
};

/// A state that decays, in each head in its own way.
template <class Real>
struct DecayRule {
  static constexpr bool sees_own_step = true, corrects_state = false;
  KOKKOS_FUNCTION int extra_columns() const { return 0; }
  KOKKOS_FUNCTION Real decay(std::int64_t head) const { return head == 0 ? Real(0.75) : Real(0.96875); }
  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team&, std::int64_t, const kernels::TileRows<Real>&, const Wanted&) const {}
  template <class Tile>
  KOKKOS_FUNCTION void prepare(const kernels::Team&, const Tile&, int) const {}
  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int, const Real* row, Real* output) const {
    return [=](const int i) { output[i] = row[i]; };
  }
};

/// What a scan of some tokens leaves, and begins with.
template <class Real>
struct Scanned {
  std::vector<Real> output;  // [tokens, heads · width]
  std::vector<Real> before;  // ScanMemory::after: the state, or that before the segment
  std::vector<Real> sums;    // T, and A, of the segment so far
};

/// The tokens [first, last), of one segment of one sequence, that goes on from what an earlier scan has left. results
/// or sums, or both in one pass; they end with the last whole step.
template <kernels::ScanPass pass, class Real, class Rule>
Scanned<Real> scan_once(const AttentionNumbers& numbers, const reference::Mask& mask, const Rule& rule,
                        std::int64_t step, std::int64_t first, std::int64_t last, std::int64_t end,
                        const Scanned<Real>& from) {
  const std::int64_t columns = numbers.query.columns, width = columns / heads, origin = first / step * step;
  const auto rows = [&](const reference::Matrix& matrix, std::int64_t begin) {
    return Strided<const Real***>(
        to_device<Real***>(rows_of(matrix.values, columns, begin, last - begin), 1, last - begin, columns));
  };
  kernels::KeysAndValues<Real> keys{rows(numbers.key, origin), rows(numbers.value, origin), {}, origin};
  if (!mask.empty()) keys.real = to_device<std::uint8_t**>(rows_of(mask, 1, origin, last - origin), 1, last - origin);
  const kernels::ScanTokens<Real> tokens{.query = rows(numbers.query, first),
                                         .keys = keys,
                                         .output = Array<Real***>("test::output", 1, last - first, columns),
                                         .batch = 1,
                                         .heads = heads,
                                         .width = static_cast<int>(width),
                                         .first = first,
                                         .last = last,
                                         .step = step};
  const auto array = [](const std::vector<Real>& content) {
    return content.empty() ? Array<Real*>() : to_device<Real*>(content, content.size());
  };
  const Array<Real*> before = array(from.before), sum = array(from.sums);
  const kernels::ScanParts parts{1, heads, static_cast<int>(width), rule.extra_columns()};
  const Array<Real*> after("test::after", parts.total()), sums("test::sums", kernels::segment_elements<Rule>(parts));
  const std::int64_t segment = kernels::segment_tokens(step);
  kernels::scan_segments<pass>(Execution(), "test::scan", tokens, rule,
                               {.first = first / segment, .count = 1, .begin = origin, .end = end, .tokens = segment},
                               {.first_before = before.data(),
                                .first_sum = sum.data(),
                                .sums = sums.data(),
                                .after = pass == kernels::ScanPass::sums ? nullptr : after.data()});
  Execution().fence();
  return {to_host(tokens.output), to_host(after), to_host(sums)};
}

/// Results of the tokens [first, last), and what the tokens behind them begin with.
template <class Real, class Rule>
Scanned<Real> scan(const AttentionNumbers& numbers, const reference::Mask& mask, const Rule& rule, std::int64_t step,
                   std::int64_t first, std::int64_t last, const Scanned<Real>& from = {}) {
  const std::int64_t end = std::max(first / step * step, last / step * step);
  auto result = scan_once<kernels::ScanPass::results>(numbers, mask, rule, step, first, last, last, from);
  result.sums = scan_once<kernels::ScanPass::sums>(numbers, mask, rule, step, first, last, end, from).sums;
  return result;
}

/// Tokens of a step that sees itself.
template <class Real, class Rule>
std::int64_t tile_of(const Rule& rule, std::int64_t width) {
  return kernels::tokens_of_scan_tile<Real>(rule, static_cast<int>(width));
}

ModelConfig config_of(Architecture architecture, std::int64_t width) {
  ModelConfig config = small_config(architecture);
  config.num_heads = heads;
  config.hidden_dim = heads * width;
  return config;
}

/// Calls check(config, rule) for linear and delta_net with their options: their rules are types, which nothing makes
/// from a name.
template <class Real, class Check>
void for_each_tile_rule(std::int64_t width, const Check& check) {
  for (const ModelConfig& config : variants_of(Architecture::linear, config_of(Architecture::linear, width))) {
    SCOPED_TRACE(describe(config));
    check(config, attention::LinearRule<Real>(config));
  }
  for (const ModelConfig& config : variants_of(Architecture::delta_net, config_of(Architecture::delta_net, width))) {
    SCOPED_TRACE(describe(config));
    check(config, attention::DeltaNetRule<Real>(config));
  }
}

/// o_t = q_t Σ_s k_sᵀ v_s over the tokens of earlier steps, in Real.
template <class Real>
std::vector<Real> plain_steps(const AttentionNumbers& numbers, const reference::Mask& mask, std::int64_t step) {
  const std::int64_t columns = numbers.query.columns, width = columns / heads;
  std::vector<Real> output(numbers.query.values.size());
  for (std::int64_t t = 0; t < numbers.query.rows; ++t) {
    for (std::int64_t s = 0; s < t / step * step; ++s) {
      if (!mask.empty() && mask[static_cast<std::size_t>(s)] == 0) continue;
      for (std::int64_t head = 0; head < heads; ++head) {
        Real score = 0;
        for (std::int64_t k = head * width; k < (head + 1) * width; ++k) {
          score += static_cast<Real>(numbers.query(t, k)) * static_cast<Real>(numbers.key(s, k));
        }
        for (std::int64_t i = head * width; i < (head + 1) * width; ++i) {
          output[static_cast<std::size_t>(t * columns + i)] += score * static_cast<Real>(numbers.value(s, i));
        }
      }
    }
  }
  return output;
}

/// o_t = q_t Σ_{s ≤ t} γ^(t−s) k_sᵀ v_s, in Real.
template <class Real>
std::vector<Real> plain_decay(const AttentionNumbers& numbers, const reference::Mask& mask) {
  const std::int64_t columns = numbers.query.columns, width = columns / heads;
  std::vector<Real> output(numbers.query.values.size());
  for (std::int64_t head = 0; head < heads; ++head) {
    const std::int64_t first = head * width;
    std::vector<Real> state(static_cast<std::size_t>(width * width));
    for (std::int64_t t = 0; t < numbers.query.rows; ++t) {
      for (Real& element : state) element *= DecayRule<Real>().decay(head);
      for (std::int64_t k = 0; k < width; ++k) {
        for (std::int64_t i = 0; i < width; ++i) {
          Real& element = state[static_cast<std::size_t>(k * width + i)];
          if (mask.empty() || mask[static_cast<std::size_t>(t)] != 0) {
            element += static_cast<Real>(numbers.key(t, first + k)) * static_cast<Real>(numbers.value(t, first + i));
          }
          output[static_cast<std::size_t>(t * columns + first + i)] +=
              static_cast<Real>(numbers.query(t, first + k)) * element;
        }
      }
    }
  }
  return output;
}

/// Around one, two and three blocks of columns.
const std::int64_t widths[] = {1, 5, 12, 64, 65, 80, 128, 130};
const std::int64_t lengths[] = {1, 2, tile - 1, tile, tile + 1, 3 * tile - 1, 3 * tile + 1};

template <class Real>
class StateScan : public ::testing::Test {
 protected:
  /// Against the same in double, as far off as plain loops in Real allow. A mask leaves out keys and values that are
  /// not numbers.
  template <class Plain, class Scan>
  void expect_right(const AttentionNumbers& numbers, const Plain& exact, const std::vector<Real>& naive,
                    const Scan& actual) {
    const std::vector<std::int64_t> shape{numbers.query.rows, numbers.query.columns};
    EXPECT_TRUE(all_close({actual, shape}, {exact, shape}, bound(exact, naive))) << numbers.query.rows << " tokens";
  }
};
TYPED_TEST_SUITE(StateScan, Reals, RealNames);

AttentionNumbers with_spoilt_padding(AttentionNumbers numbers, const reference::Mask& mask) {
  for (std::int64_t t = 0; t < numbers.key.rows; ++t) {
    if (mask[static_cast<std::size_t>(t)] != 0) continue;
    for (std::int64_t i = 0; i < numbers.key.columns; ++i) numbers.key(t, i) = numbers.value(t, i) = std::nan("");
  }
  return numbers;
}

/// In float not with β = 2, where errors add up without end: properties/test_long_sequences.cpp.
bool is_tame(const ModelConfig& config, std::size_t size) {
  return size == sizeof(double) || !has_field(config.architecture, "beta") || config.beta <= 1;
}

TYPED_TEST(StateScan, of_tiles_is_the_recurrence_token_by_token) {
  for (const std::int64_t width : widths) {
    for_each_tile_rule<TypeParam>(width, [&](const ModelConfig& config, const auto& rule) {
      if (!is_tame(config, sizeof(TypeParam))) return;
      for (const std::int64_t length : lengths) {
        const auto numbers = random_attention(config, length, 11);
        this->expect_right(numbers, naive_states<double>(config, numbers, {}),
                           naive_states<TypeParam>(config, numbers, {}),
                           scan<TypeParam>(numbers, {}, rule, tile_of<TypeParam>(rule, width), 0, length).output);
      }
    });
  }
}

TYPED_TEST(StateScan, of_tiles_leaves_out_padding_whatever_it_holds) {
  for (const std::int64_t width : {5, 80}) {
    for_each_tile_rule<TypeParam>(width, [&](const ModelConfig& config, const auto& rule) {
      if (!is_tame(config, sizeof(TypeParam))) return;
      for (const std::int64_t length : lengths) {
        const auto mask = random_mask(length, 0.4, 12);
        const auto numbers = with_spoilt_padding(random_attention(config, length, 13), mask);
        this->expect_right(numbers, naive_states<double>(config, numbers, mask),
                           naive_states<TypeParam>(config, numbers, mask),
                           scan<TypeParam>(numbers, mask, rule, tile_of<TypeParam>(rule, width), 0, length).output);
      }
    });
  }
}

TYPED_TEST(StateScan, of_steps_shows_a_token_what_came_before_its_step) {
  for (const std::int64_t width : {1, 12, 80, 130}) {
    const ModelConfig config = config_of(Architecture::linear, width);
    for (const std::int64_t step : {std::int64_t{1}, std::int64_t{5}, tile, tile + 6, 3 * tile + 1}) {
      for (const std::int64_t length : {std::int64_t{1}, step, step + 1, 3 * step + 2}) {
        if (length > kernels::segment_tokens(step)) continue;  // a scan begins another segment with a state
        SCOPED_TRACE("steps of " + std::to_string(step));
        const auto mask = random_mask(length, 0.3, 14);
        const auto whole = random_attention(config, length, 15), masked = with_spoilt_padding(whole, mask);
        this->expect_right(whole, plain_steps<double>(whole, {}, step), plain_steps<TypeParam>(whole, {}, step),
                           scan<TypeParam>(whole, {}, StepRule<TypeParam>(), step, 0, length).output);
        this->expect_right(masked, plain_steps<double>(masked, mask, step), plain_steps<TypeParam>(masked, mask, step),
                           scan<TypeParam>(masked, mask, StepRule<TypeParam>(), step, 0, length).output);
      }
    }
  }
}

TYPED_TEST(StateScan, of_a_state_that_decays_is_the_recurrence_token_by_token) {
  for (const std::int64_t width : {1, 12, 80, 130}) {
    const ModelConfig config = config_of(Architecture::linear, width);
    for (const std::int64_t length : lengths) {
      const auto mask = random_mask(length, 0.3, 20);
      const auto whole = random_attention(config, length, 21), masked = with_spoilt_padding(whole, mask);
      const DecayRule<TypeParam> rule;
      const std::int64_t step = tile_of<TypeParam>(rule, width);
      this->expect_right(whole, plain_decay<double>(whole, {}), plain_decay<TypeParam>(whole, {}),
                         scan<TypeParam>(whole, {}, rule, step, 0, length).output);
      this->expect_right(masked, plain_decay<double>(masked, mask), plain_decay<TypeParam>(masked, mask),
                         scan<TypeParam>(masked, mask, rule, step, 0, length).output);
    }
  }
}

/// Cut into three parts, of which the later ones begin with what the earlier ones left, within a step or between two.
template <class Real, class Rule>
void expect_the_same_in_parts(const ModelConfig& config, const Rule& rule, std::int64_t step) {
  const std::int64_t length = 2 * step + step / 2 + 3;
  const auto numbers = random_attention(config, length, 16);
  const auto mask = random_mask(length, 0.2, 17);
  const auto whole = scan<Real>(numbers, mask, rule, step, 0, length);
  for (std::int64_t cut = 1; cut<length; cut += step> 20 ? 7 : 1) {
    for (const std::int64_t second : {cut + 1, cut + step, length - 1}) {
      if (second <= cut || second >= length) continue;
      SCOPED_TRACE("cut at " + std::to_string(cut) + " and " + std::to_string(second) + ", steps of " +
                   std::to_string(step));
      auto part = scan<Real>(numbers, mask, rule, step, 0, cut);
      std::vector<Real> output = part.output;
      for (const auto& [first, last] : {std::pair{cut, second}, {second, length}}) {
        part = scan<Real>(numbers, mask, rule, step, first, last, part);
        output.insert(output.end(), part.output.begin(), part.output.end());
      }
      EXPECT_TRUE(same_bits(output, whole.output, numbers.query.columns));
      EXPECT_TRUE(same_bits(part.before, whole.before, static_cast<std::int64_t>(whole.before.size())));
      EXPECT_TRUE(same_bits(part.sums, whole.sums, static_cast<std::int64_t>(whole.sums.size())));
    }
  }
}

TYPED_TEST(StateScan, has_the_same_bits_wherever_it_is_cut_and_goes_on_with_the_state) {
  for (const std::int64_t width : {5, 80}) {
    for_each_tile_rule<TypeParam>(width, [&](const ModelConfig& config, const auto& rule) {
      expect_the_same_in_parts<TypeParam>(config, rule, tile_of<TypeParam>(rule, width));
    });
    const DecayRule<TypeParam> decay;
    expect_the_same_in_parts<TypeParam>(config_of(Architecture::linear, width), decay,
                                        tile_of<TypeParam>(decay, width));
    for (const std::int64_t step : {std::int64_t{1}, std::int64_t{7}, tile + 6}) {
      expect_the_same_in_parts<TypeParam>(config_of(Architecture::linear, width), StepRule<TypeParam>(), step);
    }
  }
}

/// The sum of kᵀv of the whole steps, part after part: [head][block][key width][columns of the block, then one of the
/// sums of k]. A test of the implementation: that layout is the kernel's own, which only ranks of the same build send
/// each other.
TYPED_TEST(StateScan, leaves_the_sum_of_what_comes_before_the_step_that_it_ends_in) {
  for (const std::int64_t width : {3, 96}) {
    ModelConfig config = config_of(Architecture::linear, width);
    config.feature_map = FeatureMap::elu;
    const attention::LinearRule<TypeParam> rule(config);
    const std::int64_t step = tile_of<TypeParam>(rule, width), length = step + 5;
    const auto numbers = random_attention(config, length, 18);
    const auto after = scan<TypeParam>(numbers, {}, rule, step, 0, length).sums;
    const kernels::ScanParts parts{1, heads, static_cast<int>(width), 1};
    ASSERT_EQ(static_cast<std::int64_t>(after.size()), parts.count() * parts.elements());
    ASSERT_EQ(width % parts.blocks(), 0) << "choose a width whose blocks are equally wide";
    std::vector<double> expected;
    for (std::int64_t i = 0; i < parts.count() * parts.elements(); ++i) {
      const std::int64_t stored = parts.columns() + 1, column = i % stored, row = i / stored % width;
      const std::int64_t head = i / parts.elements() / parts.blocks(),
                         first = i / parts.elements() % parts.blocks() * parts.columns();
      double sum = 0;
      for (std::int64_t t = 0; t < step; ++t) {
        const double z = numbers.key(t, head * width + row), key = z > 0 ? z + 1 : std::exp(z);
        sum += key * (column < parts.columns() ? numbers.value(t, head * width + first + column) : 1);
      }
      expected.push_back(sum);
    }
    EXPECT_LT(largest_difference(widen(after), expected),
              (sizeof(TypeParam) == 4 ? 1e-5 : 1e-13) * largest_magnitude(expected));
  }
}

/// check(config, rule, step) for all kinds of rules.
template <class Real, class Check>
void for_each_rule(std::int64_t width, const Check& check) {
  for_each_tile_rule<Real>(
      width, [&](const ModelConfig& config, const auto& rule) { check(config, rule, tile_of<Real>(rule, width)); });
  const ModelConfig config = config_of(Architecture::linear, width);
  check(config, DecayRule<Real>(), tile_of<Real>(DecayRule<Real>(), width));
  check(config, StepRule<Real>(), tile + 6);
}

TYPED_TEST(StateScan, in_one_pass_has_the_bits_of_results_and_sums_in_two) {
  for (const std::int64_t width : {5, 80}) {
    for_each_rule<TypeParam>(width, [&](const ModelConfig& config, const auto& rule, std::int64_t step) {
      const std::int64_t length = 3 * step;
      const auto numbers = random_attention(config, length, 22);
      const auto mask = random_mask(length, 0.2, 23);
      const auto earlier = scan<TypeParam>(numbers, mask, rule, step, 0, step);
      const auto two = scan<TypeParam>(numbers, mask, rule, step, step, length, earlier);
      const auto one = scan_once<kernels::ScanPass::both>(numbers, mask, rule, step, step, length, length, earlier);
      EXPECT_TRUE(same_bits(one.output, two.output, numbers.query.columns));
      EXPECT_TRUE(same_bits(one.before, two.before, static_cast<std::int64_t>(two.before.size())));
      EXPECT_TRUE(same_bits(one.sums, two.sums, static_cast<std::int64_t>(two.sums.size())));
    });
  }
}

/// The state behind tokens [0, b) is what [a, b) make of that behind [0, a): composed, and in one go.
TYPED_TEST(StateScan, of_two_segments_is_the_composition_of_their_maps) {
  for (const std::int64_t width : {1, 12, 80, 130}) {
    for_each_rule<TypeParam>(width, [&](const ModelConfig& config, const auto& rule, std::int64_t step) {
      if (!is_tame(config, sizeof(TypeParam))) return;
      using Rule = std::decay_t<decltype(rule)>;
      SCOPED_TRACE(describe(config) + ", heads of " + std::to_string(width));
      const auto numbers = random_attention(config, 3 * step, 24);
      const auto whole = scan<TypeParam>(numbers, {}, rule, step, 0, 3 * step).sums;
      const auto left = scan<TypeParam>(numbers, {}, rule, step, 0, step).sums;
      const auto right = scan<TypeParam>(numbers, {}, rule, step, step, 3 * step).sums;
      const Array<TypeParam*> from = to_device<TypeParam*>(left, left.size());
      const kernels::ScanParts parts{1, heads, static_cast<int>(width), rule.extra_columns()};
      const auto composed = [&](auto operand) {
        const Array<TypeParam*> to = to_device<TypeParam*>(right, right.size());
        kernels::compose<operand.value>(Execution(), "test::compose", parts, rule,
                                        kernels::Compositions<TypeParam>{.left = from.data(),
                                                                         .left_stride = 0,
                                                                         .right = to.data(),
                                                                         .right_stride = 0,
                                                                         .count = 1,
                                                                         .tokens = 2 * step});
        Execution().fence();
        return to_host(to);
      };
      const double bound = (sizeof(TypeParam) == 4 ? 1e-4 : 1e-12) * largest_magnitude(widen(whole));
      const auto segment = composed(std::integral_constant<kernels::LeftOperand, kernels::LeftOperand::segment>());
      EXPECT_LT(largest_difference(widen(segment), widen(whole)), bound);
      const auto state = composed(std::integral_constant<kernels::LeftOperand, kernels::LeftOperand::state>());
      const auto total = static_cast<std::ptrdiff_t>(parts.total());
      EXPECT_TRUE(std::equal(state.begin(), state.begin() + total, segment.begin()));
      EXPECT_TRUE(std::equal(state.begin() + total, state.end(), right.begin() + total));
      EXPECT_EQ(static_cast<std::int64_t>(whole.size()), kernels::segment_elements<Rule>(parts));
    });
  }
}

TYPED_TEST(StateScan, of_no_segments_writes_nothing) {
  const ModelConfig config = config_of(Architecture::linear, 5);
  const auto result = scan<TypeParam>(random_attention(config, 9, 19), {}, StepRule<TypeParam>(), 4, 6, 6);
  EXPECT_TRUE(result.output.empty());
}

}  // namespace
}  // namespace bsbr::testing
