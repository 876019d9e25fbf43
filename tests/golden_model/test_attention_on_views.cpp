// One attention on Views, as in a model of somebody else's: queries, keys and values are columns of a bigger buffer.
#include <gtest/gtest.h>
#include <mpi.h>

#include <ostream>

#include "bsbr/attention.hpp"
#include "bsbr/error.hpp"
#include "kernels/tuning.hpp"
#include "local_rows.hpp"
#include "support/random_model.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {
namespace {

using reference::Matrix;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// What the attention is given and what it must give, for a batch of sequences, on all ranks; numbers that float holds.
struct Batches {
  ModelConfig config;
  std::int64_t length = 0;
  std::vector<reference::AttentionInput> inputs;  // one for each sequence; the projections of states are the same in all
  std::vector<reference::Mask> masks;             // one for each sequence, or none

  std::int64_t batch() const { return static_cast<std::int64_t>(inputs.size()); }

  /// [batch, rows, columns] of one of the inputs.
  std::vector<double> all(Matrix reference::AttentionInput::*member) const {
    std::vector<double> rows;
    for (const auto& input : inputs) rows.insert(rows.end(), (input.*member).values.begin(), (input.*member).values.end());
    return rows;
  }

  std::vector<double> expected() const {
    std::vector<double> rows;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto result = reference::attention(config, inputs[i], masks.empty() ? reference::Mask() : masks[i]);
      rows.insert(rows.end(), result.values.begin(), result.values.end());
    }
    return rows;
  }
};

Matrix numbers(std::int64_t rows, std::int64_t columns, std::uint64_t seed, double deviation = 1) {
  auto matrix = random_matrix(rows, columns, seed, deviation);
  matrix.values = in_float(matrix.values);
  return matrix;
}

std::int64_t count_chunks(const ModelConfig& config, std::int64_t length) { return (length + config.chunk_size - 1) / config.chunk_size; }

Batches make_batches(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  Batches batches{config, length, {}, {}};
  const std::int64_t width = config.hidden_dim, chunks = count_chunks(config, length);
  const std::int64_t whole = config.head_dim() * config.head_dim(), state = config.state_size();
  for (std::int64_t row = 0; row < batch; ++row) {
    const auto seed = static_cast<std::uint64_t>(10 * row);
    reference::AttentionInput input;
    input.query = numbers(length, width, seed + 1);
    input.key = numbers(length, width, seed + 2);
    input.value = numbers(length, width, seed + 3);
    input.retrieval_query = numbers(chunks, width, seed + 4);
    input.retrieval_key = numbers(chunks, width, seed + 5);
    if (config.compression_factor > 0) {
      input.compress_weight = numbers(state, whole, 101, 1 / std::sqrt(static_cast<double>(whole)));
      input.compress_bias = numbers(1, state, 102);
      input.decompress_weight = numbers(whole, state, 103, 1 / std::sqrt(static_cast<double>(state)));
      input.decompress_bias = numbers(1, whole, 104);
    }
    batches.inputs.push_back(std::move(input));
  }
  return batches;
}

void fill_row(Matrix& matrix, std::int64_t row, double value) {
  for (std::int64_t column = 0; column < matrix.columns; ++column) matrix(row, column) = value;
}

/// The first sequence has holes, the second whole chunks of padding, the first chunk among them. What no one may use is NaN.
Batches with_padding(Batches batches) {
  const std::int64_t chunk = batches.config.chunk_size;
  for (std::int64_t row = 0; row < batches.batch(); ++row) {
    auto mask = random_mask(batches.length, 0.4, static_cast<std::uint64_t>(row));
    for (std::int64_t t = 0; row == 1 && t < batches.length; ++t) mask[static_cast<std::size_t>(t)] = t / chunk % 2 == 1;
    auto& input = batches.inputs[static_cast<std::size_t>(row)];
    const bool counts = batches.config.causality != Causality::reference;  // else the padding takes part like all else
    for (std::int64_t i = 0; counts && i < input.retrieval_query.rows; ++i) {
      const std::int64_t begin = i * chunk, end = std::min(begin + chunk, batches.length);
      bool some = false;
      for (std::int64_t t = begin; t < end; ++t) {
        if (mask[static_cast<std::size_t>(t)] != 0) {
          some = true;
        } else {
          fill_row(input.key, t, nan);
          fill_row(input.value, t, nan);
        }
      }
      if (some) continue;
      fill_row(input.retrieval_query, i, nan);
      fill_row(input.retrieval_key, i, nan);
    }
    batches.masks.push_back(std::move(mask));
  }
  return batches;
}

/// Some rows of numbers side by side in a bigger buffer, with a row and some columns of NaN around each.
template <class Real>
class Buffer {
 public:
  Buffer(std::int64_t batch, std::int64_t rows, std::int64_t columns)
      : m_data("test::buffer", batch, rows + 2, columns), m_host(Kokkos::create_mirror_view(m_data)) {
    Kokkos::deep_copy(m_host, static_cast<Real>(nan));
  }

  /// Puts `rows` [batch, rows, width] at this column.
  Strided<const Real***> put(const Numbers& rows, std::int64_t column) {
    const std::int64_t width = rows.shape[2];
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(rows.values.size()); ++i) {
      m_host(i / width / rows.shape[1], i / width % rows.shape[1] + 1, column + i % width) =
          static_cast<Real>(rows.values[static_cast<std::size_t>(i)]);
    }
    Kokkos::deep_copy(m_data, m_host);
    return Kokkos::subview(m_data, Kokkos::ALL(), std::make_pair(std::int64_t{1}, rows.shape[1] + 1),
                           std::make_pair(column, column + width));
  }

 private:
  Array<Real***> m_data;
  typename Array<Real***>::HostMirror m_host;
};

/// This rank's part of the input.
template <class Real>
AttentionInput<Real> input_on_device(const Sequence& sequence, const Batches& batches) {
  const std::int64_t batch = batches.batch(), width = batches.config.hidden_dim;
  const auto tokens = [&](Matrix reference::AttentionInput::*member) { return local_rows(sequence, batches.all(member), width); };
  const auto chunks = [&](Matrix reference::AttentionInput::*member) {
    return part_of(batches.all(member), batch, width, sequence.first_chunk(), sequence.local_chunks());
  };
  Buffer<Real> buffer(batch, sequence.local_tokens(), 3 * width + 7), chunk_buffer(batch, sequence.local_chunks(), 2 * width + 3);
  AttentionInput<Real> input;
  input.value = buffer.put(tokens(&reference::AttentionInput::value), 1);
  input.query = buffer.put(tokens(&reference::AttentionInput::query), width + 3);
  input.key = buffer.put(tokens(&reference::AttentionInput::key), 2 * width + 6);
  input.retrieval_key = chunk_buffer.put(chunks(&reference::AttentionInput::retrieval_key), 0);
  input.retrieval_query = chunk_buffer.put(chunks(&reference::AttentionInput::retrieval_query), width + 2);
  if (batches.config.compression_factor == 0) return input;
  const auto& [q, k, v, g, r, h, compress, compress_bias, decompress, decompress_bias] = batches.inputs.front();
  input.compress_weight = to_device<Real**>(compress.values, compress.rows, compress.columns);
  input.compress_bias = to_device<Real*>(compress_bias.values, compress_bias.columns);
  input.decompress_weight = to_device<Real**>(decompress.values, decompress.rows, decompress.columns);
  input.decompress_bias = to_device<Real*>(decompress_bias.values, decompress_bias.columns);
  return input;
}

PaddingMask padding_of(const Sequence& sequence, const Batches& batches) {
  if (batches.masks.empty()) return PaddingMask(Execution(), sequence);
  reference::Mask all;
  for (const auto& mask : batches.masks) all.insert(all.end(), mask.begin(), mask.end());
  return PaddingMask(Execution(), sequence, local_part<std::uint8_t>(sequence, all));
}

template <class Real>
Array<Real***> output_for(const Sequence& sequence, std::int64_t width) {
  const Array<Real***> output("test::output", sequence.batch(), sequence.local_tokens(), width);
  Kokkos::deep_copy(output, static_cast<Real>(nan));
  return output;
}

template <class Real>
void expect_right(Attention<Real>& attention, const Sequence& sequence, const Batches& batches, const std::vector<double>& expected) {
  const auto output = output_for<Real>(sequence, batches.config.hidden_dim);
  attention.forward(Execution(), padding_of(sequence, batches), input_on_device<Real>(sequence, batches), output);
  Execution().fence();
  const double unit = std::max(1.0, largest_magnitude(expected));
  EXPECT_TRUE(all_close(numbers_of(output), local_rows(sequence, expected, batches.config.hidden_dim),
                        (sizeof(Real) == sizeof(double) ? 1e-12 : 5e-6) * unit))
      << (sizeof(Real) == sizeof(double) ? "double" : "float") << ", length " << batches.length << ", chunks of "
      << batches.config.chunk_size << (batches.masks.empty() ? "" : ", masked");
}

/// Both precisions, each with one attention that serves with padding and then without.
void expect_right(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  const Sequence sequence(MPI_COMM_WORLD, batch, length, config.chunk_size);
  const auto in_float = Attention<float>::create(config, sequence);
  const auto in_double = Attention<double>::create(config, sequence);
  const auto batches = make_batches(config, batch, length);
  for (const auto& each : {with_padding(batches), batches}) {
    const auto expected = each.expected();
    expect_right<float>(*in_float, sequence, each, expected);
    expect_right<double>(*in_double, sequence, each, expected);
  }
}

struct Shape {
  Causality causality;
  std::int64_t head_dim;
  bool compressed;

  std::string name() const {
    return std::string(to_string(causality)) + "_width_" + std::to_string(head_dim) + (compressed ? "_compressed" : "");
  }
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name(); }

ModelConfig config_of(const Shape& shape, std::int64_t chunk_size) {
  ModelConfig config;
  config.num_heads = 2;
  config.hidden_dim = 2 * shape.head_dim;
  config.chunk_size = chunk_size;
  config.causality = shape.causality;
  if (shape.compressed) config.compression_factor = shape.head_dim == 1 ? 1 : shape.head_dim < 64 ? 2 : 8;  // 1: it expands
  return config;
}

class AttentionOnViews : public ::testing::TestWithParam<Shape> {};

/// Wide heads take the reference and, where states are compressed, whole panels of d² numbers: fewer sizes do.
std::vector<std::int64_t> lengths_for(const Shape& shape, std::int64_t B) {
  if (shape.head_dim < 64) return {0, 1, B - 1, B, B + 1, 3 * B - 1, 3 * B + 1};
  if (!shape.compressed) return {B - 1, 3 * B + 1};
  return {B == 5 ? 3 * B + 1 : B + 1};
}

TEST_P(AttentionOnViews, is_that_of_the_reference) {
  for (const std::int64_t B : {std::int64_t{5}, std::int64_t{kernels::tuning::query_tile + 6}}) {
    if (B > 5 && GetParam().compressed && GetParam().head_dim > 64) continue;
    for (const std::int64_t length : lengths_for(GetParam(), B)) expect_right(config_of(GetParam(), B), 2, length);
  }
}

/// States that are mixed in several rounds, on one rank and on three: many sequences of many chunks, three different ones.
TEST(AttentionOnViewsInRounds, is_that_of_the_reference) {
  constexpr std::int64_t length = 34, blocks = 16, blocks_a_round = 4;
  ModelConfig config;
  config.num_heads = 8;
  config.hidden_dim = 8 * 32;
  config.chunk_size = 1;
  ASSERT_EQ(config.num_heads * config.state_size(), blocks * kernels::tuning::state_block) << "choose another width";
  constexpr std::int64_t room = kernels::tuning::mixed_bytes / std::int64_t{sizeof(double)};
  constexpr std::int64_t batch = room / (kernels::tuning::state_block * length * blocks_a_round);
  static_assert(batch < 300, "too many sequences for a test: choose other sizes");
  const auto three = with_padding(make_batches(config, 3, length));
  Batches all{config, length, {}, {}};
  std::vector<double> expected;
  const auto expected_three = three.expected();
  for (std::int64_t row = 0; row < batch; ++row) {
    const auto one = static_cast<std::size_t>(row % 3);
    all.inputs.push_back(three.inputs[one]);
    all.masks.push_back(three.masks[one]);
    const auto begin = expected_three.begin() + row % 3 * length * config.hidden_dim;
    expected.insert(expected.end(), begin, begin + length * config.hidden_dim);
  }
  const Sequence sequence(MPI_COMM_WORLD, batch, length, config.chunk_size);
  expect_right<float>(*Attention<float>::create(config, sequence), sequence, all, expected);
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const auto& causality : causalities) {
    for (const std::int64_t head_dim : {1, 5, 12, 64, 80, 128}) {
      for (const bool compressed : {false, true}) all.push_back({causality.value, head_dim, compressed});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionOnViews, ::testing::ValuesIn(shapes()), [](const auto& test) { return test.param.name(); });

// ---- Arguments that do not fit -----------------------------------------------------------------------------------------

template <class Real>
class AttentionArguments : public ::testing::Test {
 protected:
  static constexpr std::int64_t batch = 2, length = 23;
  ModelConfig config = config_of({Causality::causal, 5, true}, 5);
  Sequence sequence{MPI_COMM_WORLD, batch, length, 5};
  std::unique_ptr<Attention<Real>> attention = Attention<Real>::create(config, sequence);
  PaddingMask padding{Execution(), sequence};
  AttentionInput<Real> input = input_on_device<Real>(sequence, make_batches(config, batch, length));
  Array<Real***> output = output_for<Real>(sequence, config.hidden_dim);

  void forward() { attention->forward(Execution(), padding, input, output); }

  /// An array with that many more batches, rows and columns instead of what fits.
  Array<Real***> other(const Strided<const Real***>& rows, std::int64_t more_batches, std::int64_t more_rows,
                       std::int64_t more_columns) const {
    return Array<Real***>("test::other", rows.extent(0) + more_batches, rows.extent(1) + more_rows, rows.extent(2) + more_columns);
  }
};
TYPED_TEST_SUITE(AttentionArguments, Reals, RealNames);

TYPED_TEST(AttentionArguments, that_fit_are_taken) { EXPECT_NO_THROW(this->forward()); }

TYPED_TEST(AttentionArguments, rows_of_other_extents_are_refused) {
  using Input = AttentionInput<TypeParam>;
  for (const auto member : {&Input::query, &Input::key, &Input::value, &Input::retrieval_query, &Input::retrieval_key}) {
    const auto right = this->input.*member;
    for (const auto& [more_batches, more_rows, more_columns] : {std::array{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-1, 0, 0}, {0, 0, -1}}) {
      this->input.*member = this->other(right, more_batches, more_rows, more_columns);
      EXPECT_THROW(this->forward(), ShapeError) << more_batches << ", " << more_rows << ", " << more_columns << " more";
    }
    this->input.*member = {};
    EXPECT_THROW(this->forward(), ShapeError);
    this->input.*member = right;
  }
  EXPECT_NO_THROW(this->forward());
}

TYPED_TEST(AttentionArguments, output_of_other_extents_is_refused) {
  const auto right = this->output;
  for (const auto& [more_batches, more_rows, more_columns] : {std::array{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-1, 0, 0}, {0, 0, -1}}) {
    this->output = this->other(right, more_batches, more_rows, more_columns);
    EXPECT_THROW(this->forward(), ShapeError) << more_batches << ", " << more_rows << ", " << more_columns << " more";
  }
}

TYPED_TEST(AttentionArguments, rows_whose_numbers_lie_apart_are_refused) {
  const auto rows = this->input.query;
  const Kokkos::View<TypeParam***, Kokkos::LayoutLeft, Device> apart("test::apart", rows.extent(0) + 1, rows.extent(1) + 1, rows.extent(2));
  this->input.query =
      Kokkos::subview(apart, std::make_pair(std::size_t{0}, rows.extent(0)), std::make_pair(std::size_t{0}, rows.extent(1)), Kokkos::ALL());
  EXPECT_THROW(this->forward(), ShapeError);
}

TYPED_TEST(AttentionArguments, projections_of_states_of_other_extents_are_refused) {
  using Input = AttentionInput<TypeParam>;
  for (const auto member : {&Input::compress_weight, &Input::decompress_weight}) {
    const auto right = this->input.*member;
    this->input.*member = Array<TypeParam**>("test::other", right.extent(0) + 1, right.extent(1));
    EXPECT_THROW(this->forward(), ShapeError);
    this->input.*member = Array<TypeParam**>("test::other", right.extent(0), right.extent(1) - 1);
    EXPECT_THROW(this->forward(), ShapeError);
    this->input.*member = {};
    EXPECT_THROW(this->forward(), ShapeError);
    this->input.*member = right;
  }
  for (const auto member : {&Input::compress_bias, &Input::decompress_bias}) {
    const auto right = this->input.*member;
    this->input.*member = Array<TypeParam*>("test::other", right.extent(0) + 1);
    EXPECT_THROW(this->forward(), ShapeError);
    this->input.*member = right;
  }
}

TYPED_TEST(AttentionArguments, what_one_rank_gets_wrong_is_refused_by_all) {
  if (this->sequence.rank() == this->sequence.ranks() - 1) this->input.key = this->other(this->input.key, 0, 1, 0);
  EXPECT_THROW(this->forward(), ShapeError);
}

template <class Real>
class AttentionOfArchitecture : public ::testing::Test {};
TYPED_TEST_SUITE(AttentionOfArchitecture, Reals, RealNames);

TYPED_TEST(AttentionOfArchitecture, that_is_not_built_is_refused_by_name) {
  for (const auto& [architecture, name] : architectures) {
    const auto config = small_config(architecture);
    const Sequence sequence(MPI_COMM_WORLD, 1, 7, config.chunk_size);
    if (is_built(architecture)) {
      EXPECT_NO_THROW(Attention<TypeParam>::create(config, sequence)) << name;
      continue;
    }
    try {
      Attention<TypeParam>::create(config, sequence);
      ADD_FAILURE() << name << " is built: say so in is_built";
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    }
  }
}

TYPED_TEST(AttentionOfArchitecture, with_a_configuration_that_no_model_can_have_is_refused) {
  auto config = small_config(Architecture::bsbr);
  config.num_heads = 5;  // of 12 columns
  const Sequence sequence(MPI_COMM_WORLD, 1, 7, config.chunk_size);
  EXPECT_THROW(Attention<TypeParam>::create(config, sequence), ConfigError);
}

}  // namespace
}  // namespace bsbr::testing
