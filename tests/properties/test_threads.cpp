// The number of threads changes no bit. Threads are fixed when Kokkos starts, so ctest runs this program several times:
// once with one thread and BSBR_WRITE_RESULTS naming a folder, then with more and BSBR_COMPARE_RESULTS naming the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/token_softmax_gradient.hpp"
#include "kernels/tuning.hpp"
#include "support/device_arrays.hpp"
#include "support/kept_results.hpp"
#include "support/model_gradients.hpp"
#include "support/random_model.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/training.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t panel = kernels::tuning::panel_rows;

/// Sizes that leave several panels, chunks and heads for each thread.
ModelConfig sizes() {
  ModelConfig config = small_config(Architecture::bsbr);
  config.hidden_dim = 48;
  config.num_heads = 3;
  config.chunk_size = 20;
  config.compression_factor = 5;
  return config;
}

template <class Real>
class Threads : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!keeps_results()) GTEST_SKIP() << no_results_kept;
    this->RecordProperty("threads", Execution().concurrency());
  }
};
TYPED_TEST_SUITE(Threads, Reals, RealNames);

template <class Real>
void check_all(const std::string& name, std::int64_t batch, std::int64_t length, Padding padding) {
  for (const ModelConfig& config : variants(sizes(), has_its_own_way)) {
    auto model = random_model<Real>(config);
    const auto states = run_model(model, MPI_COMM_WORLD, random_batch(config, batch, length, 3, padding));
    compare_with_kept(name + "." + variant_name(config), states, config.hidden_dim);
  }
}

TYPED_TEST(Threads, change_no_bit) { check_all<TypeParam>("one", 1, 3 * panel + 31, Padding::none); }

TYPED_TEST(Threads, change_no_bit_of_a_batch_with_padding) {
  check_all<TypeParam>("batch", 3, panel + 33, Padding::holes);
}

/// Where threads have few parts of a running state each, they share out segments, too.
TYPED_TEST(Threads, change_no_bit_of_several_segments) {
  constexpr std::int64_t segment = kernels::tuning::scan_segment;
  for (ModelConfig config : variants(
           sizes(), [](const ModelConfig& each) { return traits(each.architecture).transfer == Transfer::state; })) {
    config.num_layers = 1;
    auto model = random_model<TypeParam>(config);
    const Batch batch = random_batch(config, 1, 9 * segment + 77, 3, Padding::holes);
    compare_with_kept("segments." + variant_name(config), run_model(model, MPI_COMM_WORLD, batch), config.hidden_dim);
  }
}

TYPED_TEST(Threads, change_no_bit_of_a_few_tokens) { check_all<TypeParam>("few", 2, 21, Padding::none); }

TYPED_TEST(Threads, change_no_bit_where_a_token_overflows) {
  for (const ModelConfig& config : variants(sizes(), has_its_own_way)) {
    auto weights = random_weight_map(config, 1);
    auto& embedding = weights.at("embedding.weight");
    for (std::int64_t column = 0; column < embedding.columns; ++column)
      embedding(0, column) = std::numeric_limits<TypeParam>::max();
    Model<TypeParam> model(to_weights<TypeParam>(config, weights));
    Batch batch = random_batch(config, 2, panel + 33, 3);
    for (auto& id : batch.ids) id = std::max<std::int64_t>(id, 1);
    batch.ids[static_cast<std::size_t>(panel - 5)] = 0;
    compare_with_kept("overflow." + variant_name(config), run_model(model, MPI_COMM_WORLD, batch), config.hidden_dim);
  }
}

TYPED_TEST(Threads, change_no_bit_of_the_gradients_of_a_model) {
  ModelConfig with_head = sizes();
  with_head.head = Head::tied;
  for (const ModelConfig& config : variants(with_head, has_its_own_way)) {
    const auto weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
    const Batch batch = random_batch(config, 2, panel + 33, 3, Padding::holes);
    const auto computed = compute_gradients(weights, MPI_COMM_WORLD, batch, targets_of(batch));
    const auto kept = "gradients." + variant_name(config);
    compare_with_kept(kept + ".losses",
                      std::vector<TypeParam>(computed.token_losses.begin(), computed.token_losses.end()), batch.length);
    compare_with_kept(kept, computed.gradients, 1);
  }
}

TYPED_TEST(Threads, change_no_bit_of_a_step_of_training_with_dropout) {
  ModelConfig config = sizes();
  config.head = Head::tied;
  const TrainingGrid grid(MPI_COMM_WORLD, {.length = panel + 33, .batch = 2}, config.chunk_size);
  TrainingOptions options;
  options.dropout = 0.2;
  Trainer<TypeParam> trainer(to_weights<TypeParam>(config, random_weight_map(config, 1)), grid, options);
  take_step(trainer, grid, random_batch(config, 2, panel + 33, 3, Padding::holes));
  compare_with_kept("step", to_host(trainer.weights().data()), 1);
}

/// Gradients of softmax attention, of some tiles of queries and keys.
TYPED_TEST(Threads, change_no_bit_of_the_gradients_of_softmax_attention) {
  constexpr std::int64_t length = 300, heads = 3, width = 20, row = heads * width;
  const auto rows = [&](std::uint64_t seed) {
    return to_device<TypeParam***>(random_matrix(length, row, seed).values, 1, length, row);
  };
  const auto output = rows(1), of_output = rows(2), of_query = rows(3), of_key = rows(4), of_value = rows(5);
  const Array<TypeParam***> log_sum("test::log_sum", 1, heads, length), delta("test::delta", 1, heads, length);
  const kernels::KeysAndValues<TypeParam> keys{rows(6), rows(7), {}, 0};
  const kernels::SoftmaxTokens<TypeParam> tokens{rows(8), of_output, log_sum, delta, 0, keys};
  const kernels::Window visible{210};
  const auto scale = kernels::score_scale<TypeParam>(width);
  const Execution execution;
  kernels::token_softmax_with_log_sums<TypeParam>(execution, "test::softmax", heads, visible, scale, tokens.query, keys,
                                                  output, log_sum, 0, 0, length);
  kernels::token_query_gradients_and_deltas<TypeParam>(execution, "test::queries", heads, visible, scale, tokens, delta,
                                                       of_query, 0, 0, length);
  kernels::token_key_gradients<TypeParam>(execution, "test::keys", heads, visible, scale, tokens, of_key, of_value, 0,
                                          0, length);
  execution.fence();
  compare_with_kept("log_sum", to_host(log_sum), length);
  compare_with_kept("delta", to_host(delta), length);
  compare_with_kept("query_gradient", to_host(of_query), row);
  compare_with_kept("key_gradient", to_host(of_key), row);
  compare_with_kept("value_gradient", to_host(of_value), row);
}

TYPED_TEST(Threads, can_be_told_apart) {  // the comparison would see other bits
  if (variable("BSBR_COMPARE_RESULTS").empty()) GTEST_SKIP() << "this run writes the results that others compare with";
  const ModelConfig config = variants(sizes()).front();
  auto states = run_alone<TypeParam>(config, random_batch(config, 2, 21, 3));
  const auto expected = read_results<TypeParam>(variable("BSBR_COMPARE_RESULTS") + "/few." + variant_name(config) +
                                                (sizeof(TypeParam) == 4 ? ".float" : ".double"));
  EXPECT_TRUE(same_bits(states, expected, config.hidden_dim));
  states[100] = std::nextafter(states[100], TypeParam(1000));
  EXPECT_FALSE(same_bits(states, expected, config.hidden_dim));
}

}  // namespace
}  // namespace bsbr::testing
