// Rows of a batch do not touch each other; padding touches nobody.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "architectures/traits.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/compare.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// Calls check(config) for every variant that `which` admits.
void for_each_config(
    const std::function<void(const ModelConfig&)>& check,
    const std::function<bool(const ModelConfig&)>& which = [](const ModelConfig&) { return true; }) {
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr), which)) {
    SCOPED_TRACE(describe(config));
    check(config);
  }
}

template <class Real>
bool all_finite(const std::vector<Real>& values) {
  return std::all_of(values.begin(), values.end(), [](Real value) { return std::isfinite(value); });
}

// ---- Batch ----------------------------------------------------------------------------------------------------------

template <class Real>
class BatchRows : public ::testing::Test {};
TYPED_TEST_SUITE(BatchRows, Reals, RealNames);

TYPED_TEST(BatchRows, have_the_bits_that_they_have_alone) {
  const auto check = [](const ModelConfig& config) {
    for (const auto& padding : paddings) {
      for (const std::int64_t length : {1, 33, 300}) {
        SCOPED_TRACE(std::string(padding.name) + ", " + std::to_string(length) + " tokens");
        auto model = random_model<TypeParam>(config);
        const Batch batch = random_batch(config, 3, length, 21, padding.value);
        const auto together = run_model(model, MPI_COMM_SELF, batch);
        for (std::int64_t row = 0; row < 3; ++row) {
          const auto alone = run_model(model, MPI_COMM_SELF, batch.row(row));
          EXPECT_TRUE(same_bits(rows_of(together, config.hidden_dim, row * length, length), alone, config.hidden_dim))
              << "row " << row;
        }
      }
    }
  };
  for_each_config(check, has_its_own_way);
}

TYPED_TEST(BatchRows, may_be_none) {
  for_each_config([](const ModelConfig& config) {
    EXPECT_TRUE(run_alone<TypeParam>(config, {0, 12, {}, {}}).empty());
    EXPECT_TRUE(run_alone<TypeParam>(config, {0, 0, {}, {}}).empty());
  });
}

// ---- Padding in a model ---------------------------------------------------------------------------------------------

template <class Real>
class PaddingOf : public ::testing::Test {};
TYPED_TEST_SUITE(PaddingOf, Reals, RealNames);

TYPED_TEST(PaddingOf, masked_tokens_touch_nobody_else) {
  const auto check = [](const ModelConfig& config) {
    for (const Padding padding : {Padding::holes, Padding::whole_chunks, Padding::left, Padding::right}) {
      SCOPED_TRACE(static_cast<int>(padding));
      auto model = random_model<TypeParam>(config);
      const Batch batch = random_batch(config, 3, 44, 22, padding);
      Batch other = batch;
      for (std::size_t i = 0; i < batch.ids.size(); ++i) {
        if (batch.mask[i] == 0) other.ids[i] = (batch.ids[i] + 1) % config.vocab_size;
      }
      const auto states = run_model(model, MPI_COMM_SELF, batch), changed = run_model(model, MPI_COMM_SELF, other);
      std::int64_t masked = 0;
      for (std::size_t i = 0; i < batch.ids.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i), width = config.hidden_dim;
        const bool same = bool(same_bits(rows_of(changed, width, row, 1), rows_of(states, width, row, 1), width));
        EXPECT_EQ(same, batch.mask[i] == 1) << "token " << i;  // its own output does change
        masked += batch.mask[i] == 0 ? 1 : 0;
      }
      EXPECT_GT(masked, 0);
    }
  };
  for_each_config(check, heeds_padding);
}

/// A token that sees itself only, or nothing, does not change.
bool sees_others(const ModelConfig& config) {
  return heeds_padding(config) && !(has_field(config.architecture, "beta") && config.beta == 0);
}

TYPED_TEST(PaddingOf, masks_change_what_real_tokens_see) {
  const auto check = [](const ModelConfig& config) {
    const Batch batch = random_batch(config, 1, 44, 23, Padding::holes);
    Batch without = batch;
    without.mask.clear();
    EXPECT_FALSE(
        same_bits(run_alone<TypeParam>(config, batch), run_alone<TypeParam>(config, without), config.hidden_dim));
  };
  for_each_config(check, sees_others);
}

TYPED_TEST(PaddingOf, reference_ignores_the_mask) {
  for_each_config(
      [](const ModelConfig& config) {
        for (const auto& padding : paddings) {
          SCOPED_TRACE(padding.name);
          const Batch batch = random_batch(config, 3, 44, 24, padding.value);
          Batch without = batch;
          without.mask.clear();
          EXPECT_TRUE(
              same_bits(run_alone<TypeParam>(config, batch), run_alone<TypeParam>(config, without), config.hidden_dim));
        }
      },
      std::not_fn(heeds_padding));
}

TYPED_TEST(PaddingOf, a_mask_of_ones_gives_the_bits_of_no_mask) {
  for_each_config([](const ModelConfig& config) {
    for (const std::int64_t length : {1, 33, 300}) {
      const Batch batch = random_batch(config, 2, length, 25),
                  ones = random_batch(config, 2, length, 25, Padding::nothing_padded);
      EXPECT_TRUE(same_bits(run_alone<TypeParam>(config, ones), run_alone<TypeParam>(config, batch), config.hidden_dim))
          << length;
    }
  });
}

TYPED_TEST(PaddingOf, rows_without_real_tokens_are_finite) {
  for_each_config([](const ModelConfig& config) {
    for (const std::int64_t length : {1, 5, 33}) {
      Batch batch = random_batch(config, 2, length, 26);
      batch.mask.assign(batch.ids.size(), 0);
      EXPECT_TRUE(all_finite(run_alone<TypeParam>(config, batch))) << length;
    }
  });
}

// ---- Padding in the attention alone ---------------------------------------------------------------------------------

template <class Real>
class AttentionPadding : public ::testing::Test {
 protected:
  static constexpr double tolerance = sizeof(Real) == 4 ? 2e-5 : 1e-12;
};
TYPED_TEST_SUITE(AttentionPadding, Reals, RealNames);

/// The rows of a matrix for which keep(row) holds.
reference::Matrix filter(const reference::Matrix& matrix, const std::function<bool(std::int64_t)>& keep) {
  reference::Matrix kept(0, matrix.columns);
  for (std::int64_t row = 0; row < matrix.rows; ++row) {
    if (!keep(row)) continue;
    for (std::int64_t i = 0; i < matrix.columns; ++i) kept.values.push_back(matrix(row, i));
    ++kept.rows;
  }
  return kept;
}

double largest(const std::vector<double>& values) {
  double most = 0;
  for (const double value : values) most = std::max(most, std::abs(value));
  return most;
}

/// Distances count padding, too; who asks for none knows nothing of tokens that are left out.
bool knows_no_distance(const ModelConfig& config) {
  return heeds_padding(config) && !traits(config.architecture).depends_on_distance;
}

TYPED_TEST(AttentionPadding, masking_chunks_is_leaving_them_out) {
  constexpr std::int64_t length = 83 * 5 + 3;  // more chunks than a tile has
  const std::vector<std::function<bool(std::int64_t)>> left_out{
      [](std::int64_t chunk) { return chunk == 0; },
      [](std::int64_t chunk) { return chunk == 83; },
      [](std::int64_t chunk) { return chunk < 70; },
      [](std::int64_t chunk) { return chunk > 3; },
      [](std::int64_t chunk) { return chunk % 3 == 1; },
      [](std::int64_t chunk) { return chunk % 2 == 0; },
      [](std::int64_t chunk) { return chunk > 60 && chunk < 75; }};
  const auto check = [&](const ModelConfig& config) {
    for (std::size_t which = 0; which < left_out.size(); ++which) {
      SCOPED_TRACE("choice " + std::to_string(which));
      const auto real_chunk = [&](std::int64_t chunk) { return !left_out[which](chunk); };
      const auto real_token = [&](std::int64_t t) { return real_chunk(t / config.chunk_size); };
      AttentionNumbers all = random_attention(config, length, 31), some = all;
      for (auto* tokens : {&some.query, &some.key, &some.value, &some.gate}) *tokens = filter(*tokens, real_token);
      for (auto* chunks : {&some.retrieval_query, &some.retrieval_key}) *chunks = filter(*chunks, real_chunk);
      reference::Mask mask;
      for (std::int64_t t = 0; t < length; ++t) mask.push_back(real_token(t) ? 1 : 0);

      reference::Matrix masked(length, config.attention_dim());
      const auto with_mask = run_attention<TypeParam>(config, all, mask),
                 left = run_attention<TypeParam>(config, some, {});
      masked.values.assign(with_mask.begin(), with_mask.end());
      const Numbers expected(left, {some.query.rows, config.attention_dim()});
      EXPECT_TRUE(all_close(filter(masked, real_token), expected, this->tolerance * largest(expected.values)));
    }
  };
  for_each_config(check, knows_no_distance);
}

TYPED_TEST(AttentionPadding, what_masked_tokens_hold_does_not_matter_even_if_it_is_not_finite) {
  const auto check = [](const ModelConfig& config) {
    constexpr std::int64_t length = 203;
    for (const Padding padding : {Padding::holes, Padding::whole_chunks, Padding::left, Padding::right}) {
      SCOPED_TRACE(static_cast<int>(padding));
      const reference::Mask mask = make_mask(padding, 1, length, config.chunk_size);
      const AttentionNumbers numbers = random_attention(config, length, 32);
      const auto expected = run_attention<TypeParam>(config, numbers, mask);
      for (const double poison :
           {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1e30}) {
        AttentionNumbers poisoned = numbers;
        for (std::int64_t t = 0; t < length; ++t) {
          if (mask[static_cast<std::size_t>(t)] == 1) continue;
          for (std::int64_t i = 0; i < config.attention_dim(); ++i) poisoned.key(t, i) = poisoned.value(t, i) = poison;
        }
        for (std::int64_t chunk = 0; chunk < numbers.retrieval_key.rows; ++chunk) {
          const auto begin = mask.begin() + chunk * config.chunk_size;
          const auto end = mask.begin() + std::min((chunk + 1) * config.chunk_size, length);
          if (std::find(begin, end, 1) != end) continue;
          for (std::int64_t i = 0; i < config.hidden_dim; ++i) {
            poisoned.retrieval_query(chunk, i) = poisoned.retrieval_key(chunk, i) = poison;
          }
        }
        EXPECT_TRUE(same_bits(run_attention<TypeParam>(config, poisoned, mask), expected, config.attention_dim()))
            << poison;
      }
    }
  };
  for_each_config(check, heeds_padding);
}

TYPED_TEST(AttentionPadding, a_sequence_without_real_tokens_gives_zeros) {
  const auto check = [](const ModelConfig& config) {
    const auto output = run_attention<TypeParam>(config, random_attention(config, 33, 33), reference::Mask(33, 0));
    EXPECT_TRUE(same_bits(output, std::vector<TypeParam>(output.size(), 0), config.attention_dim()));
  };
  for_each_config(check, heeds_padding);
}

/// They see nothing: what is left is exactly 0, also where a quotient of two sums is formed. Of bsbr those before its
/// first real chunk.
TYPED_TEST(AttentionPadding, rows_before_the_first_real_token_are_exactly_zero) {
  const auto check = [](const ModelConfig& config) {
    const AttentionNumbers numbers = random_attention(config, 203, 34);
    for (const std::int64_t first_real : {1, 5, 70, 202}) {
      reference::Mask mask(203, 1);
      std::fill_n(mask.begin(), first_real, std::uint8_t{0});
      const auto output = run_attention<TypeParam>(config, numbers, mask);
      const auto before = rows_of(output, config.attention_dim(), 0, first_real);
      EXPECT_TRUE(same_bits(before, std::vector<TypeParam>(before.size(), 0), config.attention_dim())) << first_real;
    }
  };
  for_each_config(check, is_causal);
}

}  // namespace
}  // namespace bsbr::testing
