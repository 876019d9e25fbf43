// The library against every golden file: the whole model, and each layer by itself.
#include <gtest/gtest.h>
#include <mpi.h>

#include <set>

#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "local_rows.hpp"
#include "support/golden.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {
namespace {

/// tests/golden/README.md, "Tolerances".
template <class Real>
double hidden_states_tolerance() {
  return sizeof(Real) == sizeof(double) ? 1e-10 : 2e-5;
}

template <class Real>
double layers_tolerance(const std::vector<double>& layers) {
  return sizeof(Real) == sizeof(double) ? 1e-10 : 5e-6 * largest_magnitude(layers);
}

std::optional<Array<const std::uint8_t**>> local_mask(const Sequence& sequence, const std::vector<std::uint8_t>& mask) {
  if (mask.empty()) return std::nullopt;
  return local_part<std::uint8_t>(sequence, mask);
}

/// Stops when a few golden files have failed on some rank: what breaks one of them often breaks all, and the log of
/// three says what.
class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    int failed = static_cast<int>(failed_files().size());
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    if (failed >= 3) GTEST_SKIP() << failed << " golden files have failed already";
  }
  void TearDown() override {
    if (HasFailure()) failed_files().insert(GetParam());
  }

 private:
  static std::set<std::string>& failed_files() {
    static std::set<std::string> files;
    return files;
  }
};

template <class Real>
void expect_hidden_states(const std::string& name) {
  const auto golden = read_golden(name);
  const Sequence sequence(MPI_COMM_WORLD, golden.batch, golden.length, golden.config.chunk_size);
  const auto ids = local_part<std::int32_t>(sequence, golden.ids);
  for (const auto& expected : golden.outputs) {
    SCOPED_TRACE(to_string(expected.config.causality));
    auto model = read_model<Real>(golden_path(name), MPI_COMM_WORLD);
    if (expected.config.causality != model.config().causality) {
      auto weights = model.weights();
      weights.set_config(expected.config);
      model = Model<Real>(weights);
    }
    const auto actual = model.forward(Execution(), sequence, ids, local_mask(sequence, golden.mask));
    EXPECT_TRUE(all_close(numbers_of(actual), local_rows(sequence, expected.hidden_states, golden.config.hidden_dim),
                          hidden_states_tolerance<Real>()));
  }
}

TEST_P(GoldenModel, gives_the_expected_hidden_states_in_double) { expect_hidden_states<double>(GetParam()); }
TEST_P(GoldenModel, gives_the_expected_hidden_states_in_float) { expect_hidden_states<float>(GetParam()); }

/// What the layer `index` is given and what it gives, [batch, length, hidden_dim].
struct LayerNumbers {
  std::vector<double> before, after;
};

LayerNumbers numbers_of_layer(const GoldenCase& golden, const GoldenOutput& expected, std::int64_t index) {
  const auto size = static_cast<std::ptrdiff_t>(golden.batch * golden.length * golden.config.hidden_dim);
  const auto layer = [&](std::int64_t i) {
    return std::vector<double>(expected.layers.begin() + i * size, expected.layers.begin() + (i + 1) * size);
  };
  if (index > 0) return {layer(index - 1), layer(index)};
  LayerNumbers numbers{{}, layer(0)};
  for (std::int64_t row = 0; row < golden.batch; ++row) {
    const auto x = reference::embed(golden.row_ids(row), golden.weights.at("embedding.weight")).values;
    numbers.before.insert(numbers.before.end(), x.begin(), x.end());
  }
  return numbers;
}

template <class Real>
void expect_layers(const std::string& name) {
  const auto golden = read_golden(name);
  const Execution execution;
  const Sequence sequence(MPI_COMM_WORLD, golden.batch, golden.length, golden.config.chunk_size);
  const auto mask = local_mask(sequence, golden.mask);
  const PaddingMask padding = mask ? PaddingMask(execution, sequence, *mask) : PaddingMask(execution, sequence);
  auto weights = read_weights<Real>(golden_path(name), MPI_COMM_WORLD);
  for (const auto& expected : golden.outputs) {
    if (expected.layers.empty()) GTEST_SKIP() << "no layers in this file";
    SCOPED_TRACE(to_string(expected.config.causality));
    weights.set_config(expected.config);
    Workspace<Real> workspace(expected.config, sequence);
    for (std::int64_t index = 0; index < expected.config.num_layers; ++index) {
      const auto [before, after] = numbers_of_layer(golden, expected, index);
      const std::int64_t width = golden.config.hidden_dim;
      const auto x =
          to_device<Real***>(local_rows(sequence, before, width).values, golden.batch, sequence.local_tokens(), width);
      Layer<Real>(weights, index).forward(execution, padding, workspace, x);
      execution.fence();
      EXPECT_TRUE(all_close(numbers_of(x), local_rows(sequence, after, width), layers_tolerance<Real>(after)))
          << "layer " << index;
    }
  }
}

TEST_P(GoldenModel, each_layer_gives_what_is_expected_in_double) { expect_layers<double>(GetParam()); }
TEST_P(GoldenModel, each_layer_gives_what_is_expected_in_float) { expect_layers<float>(GetParam()); }

INSTANTIATE_TEST_SUITE_P(Files, GoldenModel, ::testing::ValuesIn(golden_names()),
                         [](const auto& test) { return test.param; });

TEST(GoldenFiles, are_there_for_every_architecture) {
  std::set<Architecture> found;
  for (const auto& name : golden_names()) found.insert(read_golden(name).config.architecture);
  EXPECT_EQ(found.size(), architectures.size());
}

// ---- Arguments that do not fit --------------------------------------------------------------------------------------

/// A model and a sequence that fit each other.
struct Fitting {
  static constexpr std::int64_t batch = 2, length = 23;
  ModelConfig config = small_config(Architecture::bsbr);
  Weights<float> weights = random_weights<float>(config, 1);
  Model<float> model{weights};
  Sequence sequence{MPI_COMM_WORLD, batch, length, config.chunk_size};
  std::int64_t tokens = sequence.local_tokens();
  Execution execution;

  Array<const std::int32_t**> ids(std::int64_t rows, std::int64_t columns, std::int32_t value = 0) const {
    return to_device<std::int32_t**>(std::vector<std::int32_t>(static_cast<std::size_t>(rows * columns), value), rows,
                                     columns);
  }
  Array<const std::uint8_t**> mask(std::int64_t rows, std::int64_t columns, std::uint8_t value = 1) const {
    return to_device<std::uint8_t**>(std::vector<std::uint8_t>(static_cast<std::size_t>(rows * columns), value), rows,
                                     columns);
  }
};

TEST(ModelArguments, that_fit_are_taken) {
  Fitting fit;
  EXPECT_NO_THROW(
      fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch, fit.tokens), fit.mask(fit.batch, fit.tokens)));
}

TEST(ModelArguments, ids_of_other_extents_are_refused) {
  Fitting fit;
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch, fit.tokens + 1)), ShapeError);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch + 1, fit.tokens)), ShapeError);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch, fit.tokens - 1)), ShapeError);
}

TEST(ModelArguments, ids_outside_the_vocabulary_are_refused) {
  Fitting fit;
  for (const std::int64_t id : {std::int64_t{-1}, fit.config.vocab_size, std::int64_t{1} << 30}) {
    EXPECT_THROW(
        fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch, fit.tokens, static_cast<std::int32_t>(id))),
        ShapeError)
        << id;
  }
}

TEST(ModelArguments, masks_of_other_extents_or_values_are_refused) {
  Fitting fit;
  const auto ids = fit.ids(fit.batch, fit.tokens);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, ids, fit.mask(fit.batch, fit.tokens + 1)), ShapeError);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, ids, fit.mask(fit.batch - 1, fit.tokens)), ShapeError);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, ids, fit.mask(fit.batch, fit.tokens, 2)), ShapeError);
}

TEST(ModelArguments, sequence_with_another_chunk_size_is_refused) {
  Fitting fit;
  const Sequence other(MPI_COMM_WORLD, fit.batch, fit.length, fit.config.chunk_size + 1);
  EXPECT_THROW(fit.model.forward(fit.execution, other, fit.ids(fit.batch, other.local_tokens())), ShapeError);
}

TEST(ModelArguments, rows_of_a_layer_of_other_extents_are_refused) {
  Fitting fit;
  const PaddingMask padding(fit.execution, fit.sequence);
  Workspace<float> workspace(fit.config, fit.sequence);
  const Layer<float> layer(fit.weights, 1);
  const auto forward = [&](std::int64_t batch, std::int64_t tokens, std::int64_t width) {
    layer.forward(fit.execution, padding, workspace, Array<float***>("test::x", batch, tokens, width));
  };
  EXPECT_NO_THROW(forward(fit.batch, fit.tokens, fit.config.hidden_dim));
  EXPECT_THROW(forward(fit.batch + 1, fit.tokens, fit.config.hidden_dim), ShapeError);
  EXPECT_THROW(forward(fit.batch, fit.tokens + 1, fit.config.hidden_dim), ShapeError);
  EXPECT_THROW(forward(fit.batch, fit.tokens, fit.config.hidden_dim + 1), ShapeError);
}

TEST(ModelArguments, layers_that_the_model_has_not_are_refused) {
  const Fitting fit;
  EXPECT_THROW(Layer<float>(fit.weights, fit.config.num_layers), ConfigError);
  EXPECT_THROW(Layer<float>(fit.weights, -1), ConfigError);
}

TEST(ModelArguments, what_one_rank_gets_wrong_is_refused_by_all) {
  Fitting fit;
  const bool last = fit.sequence.rank() == fit.sequence.ranks() - 1;
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, fit.ids(fit.batch, fit.tokens + (last ? 1 : 0))),
               ShapeError);
  const auto ids = fit.ids(fit.batch, fit.tokens);
  EXPECT_THROW(fit.model.forward(fit.execution, fit.sequence, ids, fit.mask(fit.batch, fit.tokens, last ? 2 : 1)),
               ShapeError);
  EXPECT_NO_THROW(fit.model.forward(fit.execution, fit.sequence, ids));
}

}  // namespace
}  // namespace bsbr::testing
