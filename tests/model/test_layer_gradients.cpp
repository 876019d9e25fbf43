// The gradient of a layer by itself, as a model of one's own would use it.
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/gradient.hpp"
#include "config/weight_table.hpp"
#include "kernels/embedding.hpp"
#include "reference/reference.hpp"
#include "support/bits.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

template <class Real>
class LayerGradients : public ::testing::Test {};
TYPED_TEST_SUITE(LayerGradients, Reals, RealNames);

/// What layers that stand one behind the other make of the embedding of ids, and the gradients for a gradient of that.
template <class Real>
struct Computed {
  std::vector<Real> result, input_gradient;  // [batch, length, hidden_dim]
  std::vector<Real> gradients;               // in the places of the weights
};

template <class Real>
class Layers {
 public:
  Layers(const Weights<Real>& weights, MPI_Comm comm, const Batch& batch, Recompute recompute)
      : m_weights(weights),
        m_sequence(gradient_sequence(comm, batch.batch, batch.length, weights.config().chunk_size)) {
    for (std::int64_t index = 0; index < weights.config().num_layers; ++index)
      m_layers.emplace_back(weights, index, m_sequence, recompute);
    m_mask.emplace(Execution(), m_sequence, local_part<std::uint8_t>(m_sequence, batch.mask));
    m_rows.push_back(rows());
    kernels::embed(Execution(), local_part<std::int32_t>(m_sequence, batch.ids), weights.matrix("embedding.weight"),
                   m_sequence.first_token(), m_rows[0]);
  }

  const Sequence& sequence() const { return m_sequence; }
  const PaddingMask& mask() const { return *m_mask; }
  const Array<Real***>& input() const { return m_rows[0]; }
  LayerGradient<Real>& layer(std::size_t index) { return m_layers[index]; }
  Array<Real***> rows() const {
    return Array<Real***>("test::rows", m_sequence.batch(), m_sequence.local_tokens(), m_weights.config().hidden_dim);
  }

  /// output_gradient: [batch, length, hidden_dim]
  Computed<Real> compute(const std::vector<double>& output_gradient) {
    for (LayerGradient<Real>& layer : m_layers) {
      m_rows.push_back(rows());
      layer.forward(Execution(), *m_mask, m_rows[m_rows.size() - 2], m_rows.back());
    }
    const std::int64_t hidden = m_weights.config().hidden_dim;
    std::vector<double> mine;
    for (std::int64_t row = 0; row < m_sequence.batch(); ++row) {
      const auto first = output_gradient.begin() + (row * m_sequence.length() + m_sequence.offset()) * hidden;
      mine.insert(mine.end(), first, first + m_sequence.local_tokens() * hidden);
    }
    const auto gradient = to_device<Real***>(mine, m_sequence.batch(), m_sequence.local_tokens(), hidden);
    const WeightArray<Real> gradients(m_weights.config(), "gradients");
    for (std::size_t i = m_layers.size(); i-- > 0;)
      m_layers[i].backward(Execution(), *m_mask, m_rows[i], gradient, gradients);
    return {gather_tokens(m_sequence, m_rows.back()), gather_tokens(m_sequence, gradient), to_host(gradients.data())};
  }

 private:
  Weights<Real> m_weights;
  Sequence m_sequence;
  std::vector<LayerGradient<Real>> m_layers;
  std::optional<PaddingMask> m_mask;
  std::vector<Array<Real***>> m_rows;  // before each layer, and behind the last
};

/// The same by the reference, for a gradient of the hidden states behind the final norm: what it is before that norm,
/// [batch, length, hidden_dim], and the gradients of all weights.
struct Expected {
  std::vector<double> result, output_gradient;
  reference::WeightMap gradients;

  Expected(const ModelConfig& config, const reference::WeightMap& weights, const Batch& batch) {
    for (const auto& [name, matrix] : weights) gradients[name] = reference::Matrix(matrix.rows, matrix.columns);
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto after = reference::forward(config, weights, batch.row_ids(row), batch.row_mask(row)).layers.back();
      const reference::Matrix dhidden = random_matrix(after.rows, after.columns, 7 + static_cast<std::uint64_t>(row));
      const reference::Matrix& norm = weights.at("layer_norm.weight");
      reference::Matrix dweight(norm.rows, norm.columns), dbias = dweight;
      const auto before = reference::layer_norm_gradient(after, norm, dhidden, dweight, dbias);
      result.insert(result.end(), after.values.begin(), after.values.end());
      output_gradient.insert(output_gradient.end(), before.values.begin(), before.values.end());
      reference::add_gradients(config, weights, batch.row_ids(row), batch.row_mask(row), dhidden, gradients);
    }
  }
};

TYPED_TEST(LayerGradients, are_those_of_the_reference) {
  for (const ModelConfig& config : variants(gradient_config())) {
    SCOPED_TRACE(describe(config));
    const Batch batch = random_batch(config, 2, 83, 5, Padding::holes);
    const auto map = random_weight_map(config, 1);
    const Expected expected(config, map, batch);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
    const auto actual =
        Layers<TypeParam>(weights, MPI_COMM_WORLD, batch, Recompute::all).compute(expected.output_gradient);
    const double tolerance = sizeof(TypeParam) == 4 ? 2e-4 : 1e-10;
    EXPECT_LE(largest_difference(widen(actual.result), expected.result),
              tolerance * largest_magnitude(expected.result));
    double largest = 0;
    for (const auto& [name, matrix] : expected.gradients)
      if (name.starts_with("layers.")) largest = std::max(largest, largest_magnitude(matrix.values));
    for (const auto& [name, matrix] : expected.gradients) {
      if (!name.starts_with("layers.")) continue;
      const auto first = actual.gradients.begin() + static_cast<std::ptrdiff_t>(weights.offset(name));
      const std::vector<double> found(first, first + static_cast<std::ptrdiff_t>(matrix.values.size()));
      EXPECT_LE(largest_difference(found, matrix.values), tolerance * largest) << name;
    }
  }
}

TYPED_TEST(LayerGradients, have_the_same_bits_on_any_number_of_ranks_and_whatever_is_computed_again) {
  for (const ModelConfig& config : variants(gradient_config(), has_its_own_way)) {
    SCOPED_TRACE(describe(config));
    const Batch batch = random_batch(config, 2, 83, 5, Padding::holes);
    const auto map = random_weight_map(config, 1);
    const Expected expected(config, map, batch);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, map);
    const auto compute = [&](MPI_Comm comm, Recompute recompute) {
      return Layers<TypeParam>(weights, comm, batch, recompute).compute(expected.output_gradient);
    };
    const auto alone = compute(MPI_COMM_SELF, Recompute::all), together = compute(MPI_COMM_WORLD, Recompute::none);
    EXPECT_TRUE(same_bits(together.result, alone.result, 1));
    EXPECT_TRUE(same_bits(together.input_gradient, alone.input_gradient, 1));
    EXPECT_TRUE(same_bits(together.gradients, alone.gradients, 1));
  }
}

TYPED_TEST(LayerGradients, have_a_forward_with_the_bits_of_the_layer) {
  for (const ModelConfig& config : variants(gradient_config(), has_its_own_way)) {
    const Batch batch = random_batch(config, 2, 83, 5, Padding::holes);
    const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
    Layers<TypeParam> layers(weights, MPI_COMM_WORLD, batch, Recompute::none);
    const auto result = layers.rows(), x = layers.rows();
    layers.layer(0).forward(Execution(), layers.mask(), layers.input(), result);
    Kokkos::deep_copy(x, layers.input());
    Workspace<TypeParam> workspace(config, layers.sequence());
    Layer<TypeParam>(weights, 0).forward(Execution(), layers.mask(), workspace, x);
    EXPECT_TRUE(same_bits(to_host(result), to_host(x), 1)) << describe(config);
  }
}

TYPED_TEST(LayerGradients, are_not_formed_of_a_wrong_call) {
  const ModelConfig config = gradient_config();
  const Batch batch = random_batch(config, 1, 17, 5, Padding::holes);
  const Weights<TypeParam> weights = to_weights<TypeParam>(config, random_weight_map(config, 1));
  Layers<TypeParam> layers(weights, MPI_COMM_WORLD, batch, Recompute::all);
  LayerGradient<TypeParam>& layer = layers.layer(0);
  const auto gradient = layers.rows();
  const WeightArray<TypeParam> gradients(config, "gradients");
  EXPECT_THROW(layer.backward(Execution(), layers.mask(), layers.input(), gradient, gradients), Error);
  EXPECT_THROW(layer.forward(Execution(), layers.mask(), layers.input(), layers.input()), ShapeError);
  EXPECT_THROW(layer.forward(Execution(), layers.mask(), layers.input(), Array<TypeParam***>("test::rows", 1, 1, 21)),
               ShapeError);
  layer.forward(Execution(), layers.mask(), layers.input(), gradient);
  ModelConfig deeper = config;
  deeper.num_layers = 3;
  EXPECT_THROW(
      layer.backward(Execution(), layers.mask(), layers.input(), gradient, WeightArray<TypeParam>(deeper, "gradients")),
      ShapeError);
  layer.backward(Execution(), layers.mask(), layers.input(), gradient, gradients);
  EXPECT_THROW(layer.backward(Execution(), layers.mask(), layers.input(), gradient, gradients), Error);
}

}  // namespace
}  // namespace bsbr::testing
