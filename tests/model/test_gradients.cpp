// The array of gradients.
#include "model/gradients.hpp"

#include <gtest/gtest.h>

#include "bsbr/error.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

ModelConfig tiny_config() {
  ModelConfig config = small_config(Architecture::standard);
  config.num_layers = 1;
  return config;
}

template <class Real>
class GradientArray : public ::testing::Test {};
TYPED_TEST_SUITE(GradientArray, Reals, RealNames);

TYPED_TEST(GradientArray, has_the_places_of_the_weights) {
  for (const auto& architecture : architectures) {
    const ModelConfig config = small_config(architecture.value);
    const Weights<TypeParam> weights(config);
    const Gradients<TypeParam> gradients(config);
    ASSERT_EQ(gradients.data().extent(0), weights.data().extent(0));
    for (const WeightInfo& info : weight_table(config)) {
      EXPECT_EQ(gradients.offset(info.name), weights.offset(info.name));
      if (info.shape.size() == 2) {
        EXPECT_EQ(gradients.matrix(info.name).data() - gradients.data().data(), weights.offset(info.name));
        EXPECT_EQ(gradients.matrix(info.name).extent(0), weights.matrix(info.name).extent(0));
        EXPECT_EQ(gradients.matrix(info.name).extent(1), weights.matrix(info.name).extent(1));
      } else {
        EXPECT_EQ(gradients.vector(info.name).data() - gradients.data().data(), weights.offset(info.name));
        EXPECT_EQ(gradients.vector(info.name).extent(0), weights.vector(info.name).extent(0));
      }
    }
    EXPECT_THROW(gradients.matrix("layers.9.ff.0.weight"), Error);
  }
}

TYPED_TEST(GradientArray, starts_as_zeros_and_can_be_made_zeros_again) {
  const Gradients<TypeParam> gradients(tiny_config());
  const auto zeros = std::vector<TypeParam>(gradients.data().size(), 0);
  EXPECT_TRUE(same_bits(to_host(gradients.data()), zeros, 1));
  Kokkos::deep_copy(gradients.matrix("embedding.weight"), TypeParam(3));
  EXPECT_FALSE(same_bits(to_host(gradients.data()), zeros, 1));
  gradients.set_to_zero(Execution());
  Execution().fence();
  EXPECT_TRUE(same_bits(to_host(gradients.data()), zeros, 1));
}

}  // namespace
}  // namespace bsbr::testing
