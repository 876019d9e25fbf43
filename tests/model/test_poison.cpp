// Builds with BSBR_POISON: what a forward has to write is NaN before.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "kernels/poison.hpp"
#include "support/device_arrays.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// In an attention's place: notes what its output held, and writes zeros.
class Witness : public Attention<double> {
 public:
  void move_to(const Sequence&) override {}
  void forward(const Execution&, const PaddingMask&, const AttentionInput<double>&, const Array<double***>& output,
               Profile*, AttentionState<double>*, AttentionRecord<double>*) override {
    nan = finite = 0;
    for (const double x : to_host(output)) ++(std::isnan(x) ? nan : finite);
    Kokkos::deep_copy(output, 0);
  }
  void backward(const Execution&, const PaddingMask&, const AttentionInput<double>&, const AttentionRecord<double>&,
                const Array<double***>&, const Array<double***>&, const AttentionGradient<double>&, Profile*) override {
    FAIL() << "a forward has no gradient";
  }
  std::int64_t workspace_bytes() const override { return 0; }

  int nan = 0, finite = 0;
};

TEST(Poison, what_a_layer_has_written_is_nan_before_the_next_forward) {
  const ModelConfig config = small_config(Architecture::standard);
  const auto weights = to_weights<double>(config, random_weight_map(config, 1));
  const Sequence sequence(MPI_COMM_SELF, 2, 33, config.chunk_size);
  const PaddingMask mask(Execution(), sequence);
  const Layer<double> layer(weights, 0);
  Workspace<double> workspace(config, sequence);
  auto owned = std::make_unique<Witness>();
  Witness& witness = *owned;
  workspace.attention = std::move(owned);
  const Array<double***> x("test::x", 2, 33, config.hidden_dim);
  for (int forward = 0; forward < 2; ++forward) layer.forward(Execution(), mask, workspace, x);
  EXPECT_EQ(kernels::poisons ? witness.finite : witness.nan, 0);
  EXPECT_EQ(kernels::poisons ? witness.nan : witness.finite, 2 * 33 * config.attention_dim());
  for (const double y : to_host(x)) EXPECT_FALSE(std::isnan(y));
}

}  // namespace
}  // namespace bsbr::testing
