// One attention on Views, as in a model of somebody else's: queries, keys and values are columns of a bigger buffer.
#include <gtest/gtest.h>
#include <mpi.h>

#include <algorithm>

#include "architectures/traits.hpp"
#include "bsbr/attention.hpp"
#include "bsbr/error.hpp"
#include "kernels/tuning.hpp"
#include "local_rows.hpp"
#include "support/attention.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

using reference::Matrix;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

/// What the attention is given and what it must give, for a batch of sequences, on all ranks; numbers that float holds.
struct Batches {
  ModelConfig config;
  std::int64_t length = 0;
  std::vector<reference::AttentionInput> inputs;  // one for each sequence; weights are the same in all
  std::vector<reference::Mask> masks;             // one for each sequence, or none

  std::int64_t batch() const { return static_cast<std::int64_t>(inputs.size()); }

  /// [batch, rows, columns] of one of the inputs.
  std::vector<double> all(Matrix reference::AttentionInput::*member) const {
    std::vector<double> rows;
    for (const auto& input : inputs)
      rows.insert(rows.end(), (input.*member).values.begin(), (input.*member).values.end());
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

Batches make_batches(const ModelConfig& config, std::int64_t batch, std::int64_t length) {
  Batches batches{config, length, {}, {}};
  for (std::int64_t row = 0; row < batch; ++row) {
    auto input = random_attention(config, length, static_cast<std::uint64_t>(10 * row));
    for (const auto weight : shared_weights) {  // those of the first sequence
      if (row > 0) input.*weight = batches.inputs.front().*weight;
    }
    batches.inputs.push_back(std::move(input));
  }
  return batches;
}

void fill_row(Matrix& matrix, std::int64_t row, double value) {
  for (std::int64_t column = 0; column < matrix.columns; ++column) matrix(row, column) = value;
}

/// Keys and values of padding, and r and h of chunks that are nothing else, become NaN.
void spoil_padding(reference::AttentionInput& input, const reference::Mask& mask, std::int64_t chunk) {
  for (std::int64_t t = 0; t < input.key.rows; ++t) {
    if (mask[static_cast<std::size_t>(t)] != 0) continue;
    fill_row(input.key, t, nan);
    fill_row(input.value, t, nan);
  }
  for (std::int64_t i = 0; i < input.retrieval_query.rows; ++i) {
    const auto begin = mask.begin() + i * chunk, end = mask.begin() + std::min((i + 1) * chunk, input.key.rows);
    if (std::find(begin, end, 1) != end) continue;
    fill_row(input.retrieval_query, i, nan);
    fill_row(input.retrieval_key, i, nan);
  }
}

/// The first sequence has holes, the second whole chunks of padding, the first chunk among them. What no one may use is
/// NaN.
Batches with_padding(Batches batches) {
  const std::int64_t chunk = batches.config.chunk_size;
  for (std::int64_t row = 0; row < batches.batch(); ++row) {
    auto mask = random_mask(batches.length, 0.4, static_cast<std::uint64_t>(row));
    for (std::int64_t t = 0; row == 1 && t < batches.length; ++t)
      mask[static_cast<std::size_t>(t)] = t / chunk % 2 == 1;
    if (heeds_padding(batches.config)) spoil_padding(batches.inputs[static_cast<std::size_t>(row)], mask, chunk);
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
  const std::int64_t batch = batches.batch(), width = batches.config.attention_dim();
  const auto tokens = [&](Matrix reference::AttentionInput::*member) {
    return local_rows(sequence, batches.all(member), width);
  };
  const auto chunks = [&](Matrix reference::AttentionInput::*member) {
    return part_of(batches.all(member), batch, width, sequence.first_chunk(), sequence.local_chunks());
  };
  Buffer<Real> buffer(batch, sequence.local_tokens(), 4 * width + 9);
  AttentionInput<Real> input;
  input.value = buffer.put(tokens(&reference::AttentionInput::value), 1);
  input.query = buffer.put(tokens(&reference::AttentionInput::query), width + 3);
  input.key = buffer.put(tokens(&reference::AttentionInput::key), 2 * width + 6);
  if (traits(batches.config.architecture).has_gate()) {
    input.gate = buffer.put(tokens(&reference::AttentionInput::gate), 3 * width + 7);
  }
  if (!traits(batches.config.architecture).has_retrieval()) return input;
  Buffer<Real> chunk_buffer(batch, sequence.local_chunks(), 2 * width + 3);
  input.retrieval_key = chunk_buffer.put(chunks(&reference::AttentionInput::retrieval_key), 0);
  input.retrieval_query = chunk_buffer.put(chunks(&reference::AttentionInput::retrieval_query), width + 2);
  put_weights(batches.inputs.front(), input);
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

/// How far a result whose largest element is `scale` may be off: in float, where a running state is a sum over all
/// tokens, by a rounding of each (Higham, Accuracy and Stability of Numerical Algorithms, 3.1). output_norm divides a
/// head's result by √(its mean square + 1e-5), by as little as 0.003 where a head of one element is near 0.
template <class Real>
double tolerance_of(const ModelConfig& config, std::int64_t length, double scale) {
  constexpr double near_zero = 10;  // times as far, for elements that are as small as in these tests
  if (config.output_norm != 0 && config.head_dim() == 1) scale *= near_zero;
  if constexpr (sizeof(Real) == sizeof(double)) return 1e-12 * scale;
  if (traits(config.architecture).transfer != Transfer::state) return 5e-6 * scale;
  return std::max(5e-6, static_cast<double>(length) * std::numeric_limits<float>::epsilon() / 2) * scale;
}

template <class Real>
void expect_right(Attention<Real>& attention, const Sequence& sequence, const Batches& batches,
                  const std::vector<double>& expected) {
  const std::int64_t width = batches.config.attention_dim();
  const auto output = output_for<Real>(sequence, width);
  attention.forward(Execution(), padding_of(sequence, batches), input_on_device<Real>(sequence, batches), output);
  Execution().fence();
  const auto actual = numbers_of(output), part = local_rows(sequence, expected, width);
  const double scale = std::max(1.0, largest_magnitude(expected));
  EXPECT_TRUE(all_close(actual, part, tolerance_of<Real>(batches.config, batches.length, scale)))
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

std::string name_of(const ModelConfig& config) {
  return variant_name(config) + "_width_" + std::to_string(config.head_dim());
}

class AttentionOnViews : public ::testing::TestWithParam<ModelConfig> {};

bool is_compressed(const ModelConfig& config) { return compresses_states(config); }

/// Wide heads take the reference and, where states are compressed, whole panels of d² numbers: fewer sizes do.
std::vector<std::int64_t> lengths_for(const ModelConfig& config, std::int64_t B) {
  const bool wide = config.head_dim() >= 64;
  if (wide && is_compressed(config)) return {B == 5 ? 3 * B + 1 : B + 1};
  if (wide) return {B - 1, 3 * B + 1};
  return {0, 1, B - 1, B, B + 1, 3 * B - 1, 3 * B + 1};
}

void expect_right_with_chunks_of(std::int64_t B, ModelConfig config, const std::vector<std::int64_t>& lengths) {
  config.chunk_size = B;
  for (const std::int64_t length : lengths) expect_right(config, 2, length);
}

TEST_P(AttentionOnViews, is_that_of_the_reference) {
  constexpr std::int64_t long_chunk = kernels::tuning::query_tile + 6;
  expect_right_with_chunks_of(5, GetParam(), lengths_for(GetParam(), 5));
  if (is_compressed(GetParam()) && GetParam().head_dim() > 64) return;
  expect_right_with_chunks_of(long_chunk, GetParam(), lengths_for(GetParam(), long_chunk));
}

/// Running states that are carried from one tile to the next.
class RunningStateOnViews : public AttentionOnViews {};

TEST_P(RunningStateOnViews, is_that_of_the_reference_around_the_borders_of_tiles) {
  constexpr std::int64_t tile = kernels::tuning::state_tile;
  expect_right_with_chunks_of(5, GetParam(), {tile - 1, tile, tile + 1, 2 * tile + 1});
}

/// States that are mixed in several rounds, on one rank and on three: many sequences of many chunks, three different
/// ones.
TEST(AttentionOnViewsInRounds, is_that_of_the_reference) {
  constexpr std::int64_t length = 34, heads = 8, head_dim = 32;
  constexpr std::int64_t blocks = heads * head_dim * head_dim / kernels::tuning::state_block,
                         blocks_a_round = blocks / 4;
  ModelConfig config;
  config.num_heads = heads;
  config.hidden_dim = heads * head_dim;
  config.chunk_size = 1;
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

/// All variants with heads of these widths, of wide ones those that go their own way; gau's have twice the narrow ones
/// too. Compression by 1 makes states of width 1 larger.
std::vector<ModelConfig> variants_of_all_widths() {
  std::vector<ModelConfig> all;
  for (const std::int64_t head_dim : {1, 5, 12, 64, 80, 128}) {
    for (const auto& architecture : architectures) {
      ModelConfig sizes;
      sizes.num_heads = traits(architecture.value).has_one_head ? 1 : 2;
      sizes.hidden_dim = sizes.num_heads * head_dim;
      sizes.compression_factor = head_dim == 1 ? 1 : head_dim < 64 ? 2 : 8;
      for (const ModelConfig& config : variants_of(architecture.value, sizes)) {
        if (head_dim < 64 || has_its_own_way(config)) all.push_back(config);
      }
    }
  }
  return all;
}

std::vector<ModelConfig> variants_with_state_tiles() {
  std::vector<ModelConfig> all = variants_of_all_widths();
  std::erase_if(all, [](const ModelConfig& config) {
    return traits(config.architecture).transfer != Transfer::state || depends_on_chunks(config);
  });
  return all;
}

std::string parameter_name(const ::testing::TestParamInfo<ModelConfig>& test) {
  return name_of(test.param) + "_of_" + std::to_string(test.param.hidden_dim);
}

INSTANTIATE_TEST_SUITE_P(Variants, AttentionOnViews, ::testing::ValuesIn(variants_of_all_widths()), parameter_name);
INSTANTIATE_TEST_SUITE_P(Variants, RunningStateOnViews, ::testing::ValuesIn(variants_with_state_tiles()),
                         parameter_name);

// ---- Arguments that do not fit --------------------------------------------------------------------------------------

/// An attention, and arguments that fit it.
template <class Real>
struct Call {
  static constexpr std::int64_t batch = 2, length = 23;
  ModelConfig config;
  Sequence sequence{MPI_COMM_WORLD, batch, length, config.chunk_size};
  std::unique_ptr<Attention<Real>> attention = Attention<Real>::create(config, sequence);
  PaddingMask padding{Execution(), sequence};
  AttentionInput<Real> input = input_on_device<Real>(sequence, make_batches(config, batch, length));
  Array<Real***> output = output_for<Real>(sequence, config.attention_dim());

  explicit Call(const ModelConfig& configuration) : config(configuration) {}

  void forward() { attention->forward(Execution(), padding, input, output); }

  /// The rows that this architecture is given.
  std::vector<Strided<const Real***> AttentionInput<Real>::*> rows() const {
    using Input = AttentionInput<Real>;
    std::vector<Strided<const Real***> Input::*> members{&Input::query, &Input::key, &Input::value};
    if (traits(config.architecture).has_gate()) members.push_back(&Input::gate);
    if (traits(config.architecture).has_retrieval())
      members.insert(members.end(), {&Input::retrieval_query, &Input::retrieval_key});
    return members;
  }
};

/// An array with that many more batches, rows and columns instead of what fits.
template <class Rows>
auto other(const Rows& rows, std::int64_t more_batches, std::int64_t more_rows, std::int64_t more_columns) {
  using Real = typename Rows::non_const_value_type;
  return Array<Real***>("test::other", rows.extent(0) + more_batches, rows.extent(1) + more_rows,
                        rows.extent(2) + more_columns);
}

template <class Real>
class AttentionArguments : public ::testing::Test {
 protected:
  /// Calls check(call) for every variant.
  template <class Check>
  void for_each_call(const Check& check, std::int64_t chunk_size = small_config(Architecture::bsbr).chunk_size) {
    ModelConfig sizes = small_config(Architecture::bsbr);
    sizes.chunk_size = chunk_size;
    for (const ModelConfig& config : variants(sizes)) {
      SCOPED_TRACE(describe(config));
      Call<Real> call(config);
      check(call);
      EXPECT_NO_THROW(Call<Real>(config).forward());
    }
  }
};
TYPED_TEST_SUITE(AttentionArguments, Reals, RealNames);

TYPED_TEST(AttentionArguments, that_fit_are_taken) {
  this->for_each_call([](auto& call) { EXPECT_NO_THROW(call.forward()); });
}

TYPED_TEST(AttentionArguments, rows_of_other_extents_are_refused) {
  this->for_each_call([](auto& call) {
    for (const auto member : call.rows()) {
      const auto right = call.input.*member;
      for (const auto& [more_batches, more_rows, more_columns] :
           {std::array{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-1, 0, 0}, {0, 0, -1}}) {
        call.input.*member = other(right, more_batches, more_rows, more_columns);
        EXPECT_THROW(call.forward(), ShapeError)
            << more_batches << ", " << more_rows << ", " << more_columns << " more";
      }
      call.input.*member = {};
      EXPECT_THROW(call.forward(), ShapeError);
      call.input.*member = right;
    }
    EXPECT_NO_THROW(call.forward());
  });
}

TYPED_TEST(AttentionArguments, output_of_other_extents_is_refused) {
  this->for_each_call([](auto& call) {
    const auto right = call.output;
    for (const auto& [more_batches, more_rows, more_columns] :
         {std::array{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {-1, 0, 0}, {0, 0, -1}}) {
      call.output = other(right, more_batches, more_rows, more_columns);
      EXPECT_THROW(call.forward(), ShapeError) << more_batches << ", " << more_rows << ", " << more_columns << " more";
    }
  });
}

/// What a call is refused for; empty if it is not.
template <class Real>
std::string refusal_of(Call<Real>& call) {
  try {
    call.forward();
    return "";
  } catch (const ShapeError& error) {
    return error.what();
  }
}

/// Around the sizes up to which results may be written over keys: the rule is the same on both sides.
constexpr std::int64_t chunk_sizes_around_the_largest_team[] = {5, 256, 257};

TYPED_TEST(AttentionArguments, output_that_overlaps_an_input_is_refused_whatever_the_chunk_size) {
  using Input = AttentionInput<TypeParam>;
  const std::vector<std::pair<std::string, Strided<const TypeParam***> Input::*>> names{
      {"query", &Input::query},
      {"key", &Input::key},
      {"value", &Input::value},
      {"gate", &Input::gate},
      {"retrieval_query", &Input::retrieval_query},
      {"retrieval_key", &Input::retrieval_key}};
  const auto check = [&](auto& call) {
    if (!has_its_own_way(call.config)) return;
    const std::size_t size = call.output.size();
    const Array<TypeParam*> room("test::room", 3 * size);
    call.output =
        Array<TypeParam***>(room.data() + size, call.output.extent(0), call.output.extent(1), call.output.extent(2));
    for (const auto& [name, member] : names) {
      const auto right = call.input.*member;
      if (right.extent(2) == 0) continue;  // not of this architecture
      const std::size_t rows = right.size();
      std::vector<std::size_t> places{2 * size - 1};  // they have one element in common
      if (call.config.chunk_size == 5) places.insert(places.end(), {size, size + 1 - std::min(rows, size)});
      for (const std::size_t first : places) {
        if (size > 0) {  // a rank without tokens has nothing that could overlap
          call.input.*member =
              Array<TypeParam***>(room.data() + first, right.extent(0), right.extent(1), right.extent(2));
        }
        EXPECT_EQ(refusal_of(call), "output overlaps " + name + ": it must be an array of its own") << first;
      }
      call.input.*member = right;
    }
    EXPECT_EQ(refusal_of(call), "");
  };
  for (const std::int64_t chunk_size : chunk_sizes_around_the_largest_team) this->for_each_call(check, chunk_size);
}

TYPED_TEST(AttentionArguments, output_that_overlaps_a_projection_of_states_is_refused) {
  this->for_each_call([](auto& call) {
    if (!is_compressed(call.config)) return;
    const auto weight = call.input.compress_weight;
    const Array<TypeParam*> room("test::room", std::max(call.output.size(), weight.size()));
    call.output = Array<TypeParam***>(room.data(), call.output.extent(0), call.output.extent(1), call.output.extent(2));
    call.input.compress_weight = Array<TypeParam**>(room.data(), weight.extent(0), weight.extent(1));
    EXPECT_EQ(refusal_of(call), "output overlaps compress_weight: it must be an array of its own");
  });
}

TYPED_TEST(AttentionArguments, inputs_may_be_the_same_array) {
  this->for_each_call([](auto& call) {
    call.input.key = call.input.value = call.input.query;
    EXPECT_EQ(refusal_of(call), "");
  });
}

TYPED_TEST(AttentionArguments, output_may_be_the_key_only_where_both_sides_say_so) {
  const auto check = [](auto& call) {
    const auto separate = call.input.key;
    call.input.overwrite_key = true;
    if (!call.attention->output_may_be_key()) {
      call.input.key = call.output;
      EXPECT_EQ(refusal_of(call), "overwrite_key is set, but keys may still be read after results are written");
      return;
    }
    EXPECT_EQ(refusal_of(call), "overwrite_key is set, but output is not the array of the key");
    call.input.key = call.output;
    EXPECT_EQ(refusal_of(call), "");
    call.input.overwrite_key = false;
    EXPECT_EQ(refusal_of(call), "output overlaps key: it must be an array of its own");
    call.input.key = separate;
    EXPECT_EQ(refusal_of(call), "");
  };
  for (const std::int64_t chunk_size : chunk_sizes_around_the_largest_team) this->for_each_call(check, chunk_size);
}

/// One element that both have is too much; an output beside the rows is not.
TYPED_TEST(AttentionArguments, output_may_lie_beside_the_input_and_no_nearer) {
  this->for_each_call([](auto& call) {
    const std::size_t width = call.output.extent(2), size = call.output.size();
    const Array<TypeParam*> room("test::room", 3 * size);
    const auto rows = [&](std::size_t first) {
      return Array<TypeParam***>(room.data() + first, call.output.extent(0), call.output.extent(1), width);
    };
    call.output = rows(size);
    for (const std::size_t first : {std::size_t{0}, 2 * size}) {
      call.input.value = rows(first);
      EXPECT_NO_THROW(call.forward());
    }
    for (const std::size_t first : {std::size_t{1}, size + 1, 2 * size - 1}) {
      call.input.key = rows(first);
      EXPECT_THROW(call.forward(), ShapeError) << first;
    }
  });
}

TYPED_TEST(AttentionArguments, rows_whose_numbers_lie_apart_are_refused) {
  this->for_each_call([](auto& call) {
    const auto rows = call.input.query;
    const Kokkos::View<TypeParam***, Kokkos::LayoutLeft, Device> apart("test::apart", rows.extent(0) + 1,
                                                                       rows.extent(1) + 1, rows.extent(2));
    call.input.query = Kokkos::subview(apart, std::make_pair(std::size_t{0}, rows.extent(0)),
                                       std::make_pair(std::size_t{0}, rows.extent(1)), Kokkos::ALL());
    EXPECT_THROW(call.forward(), ShapeError);
  });
}

TYPED_TEST(AttentionArguments, projections_of_states_of_other_extents_are_refused) {
  using Input = AttentionInput<TypeParam>;
  this->for_each_call([](auto& call) {
    if (!is_compressed(call.config)) return;
    for (const auto member : {&Input::compress_weight, &Input::decompress_weight}) {
      const auto right = call.input.*member;
      call.input.*member = Array<TypeParam**>("test::other", right.extent(0) + 1, right.extent(1));
      EXPECT_THROW(call.forward(), ShapeError);
      call.input.*member = Array<TypeParam**>("test::other", right.extent(0), right.extent(1) - 1);
      EXPECT_THROW(call.forward(), ShapeError);
      call.input.*member = {};
      EXPECT_THROW(call.forward(), ShapeError);
      call.input.*member = right;
    }
    for (const auto member : {&Input::compress_bias, &Input::decompress_bias}) {
      const auto right = call.input.*member;
      call.input.*member = Array<TypeParam*>("test::other", right.extent(0) + 1);
      EXPECT_THROW(call.forward(), ShapeError);
      call.input.*member = right;
    }
  });
}

TYPED_TEST(AttentionArguments, what_one_rank_gets_wrong_is_refused_by_all) {
  this->for_each_call([](auto& call) {
    if (call.sequence.rank() == call.sequence.ranks() - 1) call.input.key = other(call.input.key, 0, 1, 0);
    EXPECT_THROW(call.forward(), ShapeError);
  });
}

TYPED_TEST(AttentionArguments, a_mask_that_was_made_for_another_sequence_is_refused) {
  this->for_each_call([](auto& call) {
    if (!heeds_padding(call.config)) return;
    const Sequence longer(MPI_COMM_WORLD, call.batch, call.length + 5 * call.sequence.ranks(), call.config.chunk_size);
    call.padding = PaddingMask(Execution(), longer);
    EXPECT_THROW(call.forward(), ShapeError);
  });
}

template <class Real>
class AttentionOfArchitecture : public ::testing::Test {};
TYPED_TEST_SUITE(AttentionOfArchitecture, Reals, RealNames);

TYPED_TEST(AttentionOfArchitecture, with_a_configuration_that_no_model_can_have_is_refused) {
  for (ModelConfig config : variants(small_config(Architecture::bsbr))) {
    SCOPED_TRACE(describe(config));
    config.num_heads = 5;  // of 12 columns
    const Sequence sequence(MPI_COMM_WORLD, 1, 7, config.chunk_size);
    EXPECT_THROW(Attention<TypeParam>::create(config, sequence), ConfigError);
  }
}

}  // namespace
}  // namespace bsbr::testing
