// Queries, keys and values that are stored in bfloat16: an attention has the same bits as of the same numbers in float.
// Runs on three ranks, of which the first 1, 2 and 3 work together.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bsbr/attention.hpp"
#include "bsbr/error.hpp"
#include "kernels/backend.hpp"
#include "kernels/bfloat16.hpp"
#include "support/attention.hpp"
#include "support/bits.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

/// Random input of an attention whose queries, keys and values are numbers of bfloat16.
AttentionNumbers rounded_attention(const ModelConfig& config, std::int64_t length) {
  AttentionNumbers numbers = random_attention(config, length, 91);
  for (reference::Matrix* matrix : {&numbers.query, &numbers.key, &numbers.value}) {
    for (double& value : matrix->values) value = kernels::as_bfloat16(static_cast<float>(value));
  }
  return numbers;
}

/// Appends columns [first, first + count) of a row to packed numbers.
void append(std::vector<std::uint16_t>& packed, const reference::Matrix& matrix, std::int64_t row, std::int64_t first,
            std::int64_t count) {
  for (std::int64_t i = first; i < first + count; ++i) {
    const auto number = static_cast<float>(matrix.values[static_cast<std::size_t>(row * matrix.columns + i)]);
    packed.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(number) >> 16));
  }
}

/// Packed rows of `width` floats.
Array<float***> on_device(const std::vector<std::uint16_t>& packed, std::int64_t rows, std::int64_t width) {
  std::vector<float> words(packed.size() / 2);
  std::memcpy(words.data(), packed.data(), packed.size() * sizeof(std::uint16_t));
  const Array<float***> array("test::packed", 1, rows, width);
  Kokkos::deep_copy(array, Kokkos::View<const float***, Kokkos::LayoutRight, Kokkos::HostSpace>(
                               words.data(), array.extent(0), array.extent(1), array.extent(2)));
  return array;
}

/// run_attention() of packed rows.
std::vector<float> run_packed(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask,
                              MPI_Comm comm, Output where) {
  const Sequence sequence(comm, 1, numbers.query.rows, config.chunk_size);
  LocalAttention<float> local(config, numbers, mask, sequence);
  const std::int64_t width = config.attention_dim(), head = config.head_dim();
  std::vector<std::uint16_t> queries, keys;
  for (std::int64_t t = sequence.first_token(); t < sequence.first_token() + sequence.local_tokens(); ++t) {
    append(queries, numbers.query, t, 0, width);
    for (std::int64_t first = 0; first < width; first += head) {
      append(keys, numbers.key, t, first, head);
      append(keys, numbers.value, t, first, head);
    }
  }
  const Array<float***> key = on_device(keys, sequence.local_tokens(), width);
  local.input.packed = true;
  local.input.query = on_device(queries, sequence.local_tokens(), width / 2);
  local.input.key = key;
  local.input.value = {};
  local.input.overwrite_key = where == Output::over_keys;
  const Array<float***> separate("test::output", 1, sequence.local_tokens(), width);
  const Array<float***>& output = local.input.overwrite_key ? key : separate;
  const Execution execution;
  Attention<float>::create(config, sequence, Rounding::bfloat16)
      ->forward(execution, local.padding, local.input, output);
  execution.fence();
  return gather_tokens(sequence, output);
}

/// Those whose rows are packed, of heads of whole vectors and of odd ends.
std::vector<ModelConfig> packed_variants() {
  std::vector<ModelConfig> all;
  for (const std::int64_t head_dim : {16, 22}) {
    ModelConfig sizes = small_config(Architecture::bsbr);
    sizes.num_heads = 2;
    sizes.hidden_dim = 2 * head_dim;
    sizes.chunk_size = 20;
    // With compression, rounding is more than that of queries, keys and values.
    for (const ModelConfig& config : variants(sizes, [](const ModelConfig& c) { return !compresses_states(c); }))
      if (packs_rows<float>(config, Rounding::bfloat16)) all.push_back(config);
  }
  return all;
}

/// A rank of three has no tokens of the short one.
TEST(PackedRows, give_the_bits_of_the_same_numbers_in_float) {
  for (const ModelConfig& config : packed_variants()) {
    const std::int64_t chunk = config.chunk_size, width = config.attention_dim();
    const bool may_overwrite =
        Attention<float>::create(config, Sequence(MPI_COMM_SELF, 1, 1, chunk))->output_may_be_key();
    for (const std::int64_t length : {7 * chunk + 3, chunk + 1}) {
      SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
      const AttentionNumbers numbers = rounded_attention(config, length);
      reference::Mask padding(static_cast<std::size_t>(length), 1);
      std::fill_n(padding.begin(), chunk + 1, std::uint8_t{0});
      for (const reference::Mask& mask : {reference::Mask(), padding}) {
        const auto expected = run_attention<float>(config, numbers, mask);
        for (int count = 1; count <= world_ranks(); ++count) {
          const FirstRanks ranks(count);
          if (!ranks.has_this()) continue;
          EXPECT_TRUE(same_bits(run_packed(config, numbers, mask, ranks.comm(), Output::separate), expected, width))
              << count << " ranks";
          if (!may_overwrite) continue;
          EXPECT_TRUE(same_bits(run_packed(config, numbers, mask, ranks.comm(), Output::over_keys), expected, width))
              << count << " ranks, over the keys";
        }
      }
    }
  }
}

TEST(PackedRows, are_refused_where_numbers_are_expected_and_the_other_way_round) {
  if (world_rank() != 0 || packed_variants().empty()) return;
  const ModelConfig config = packed_variants().front();
  const Sequence sequence(MPI_COMM_SELF, 1, 5, config.chunk_size);
  LocalAttention<float> local(config, rounded_attention(config, 5), {}, sequence);
  const Array<float***> output("test::output", 1, 5, config.attention_dim());
  EXPECT_THROW(Attention<float>::create(config, sequence, Rounding::bfloat16)
                   ->forward(Execution(), local.padding, local.input, output),
               ShapeError);
  local.input.packed = true;
  EXPECT_THROW(Attention<float>::create(config, sequence)->forward(Execution(), local.padding, local.input, output),
               ShapeError);
}

TEST(PackedRows, are_those_of_even_heads_in_float_on_a_host) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.hidden_dim = 12;
  config.num_heads = 2;
  EXPECT_EQ(packs_rows<float>(config, Rounding::bfloat16), kernels::on_host);
  EXPECT_FALSE(packs_rows<float>(config, Rounding::none));
  EXPECT_FALSE(packs_rows<double>(config, Rounding::bfloat16));
  config.num_heads = 4;
  EXPECT_FALSE(packs_rows<float>(config, Rounding::bfloat16));
}

}  // namespace
}  // namespace bsbr::testing
