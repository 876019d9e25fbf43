// Streams: pieces of any size have the bits of one forward of all, what they hold is predicted, and what they refuse.
// Runs on three ranks, of which the first 1, 2 and 3 work together.
#include "bsbr/stream.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/run_stream.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

namespace tools = Kokkos::Tools::Experimental;

bool has_streams(const ModelConfig& config) { return has_its_own_way(config) && is_causal(config); }

ModelConfig small_sizes() {
  ModelConfig sizes = small_config(Architecture::bsbr);
  sizes.num_layers = 2;
  return sizes;
}

/// The last rows of hidden states [batch, tokens, hidden_dim] are what the stream keeps, on every rank.
template <class Real>
void expect_last_rows(const Stream<Real>& stream, const std::vector<Real>& states, std::int64_t tokens) {
  const std::int64_t hidden = stream.config().hidden_dim;
  const auto kept = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), stream.last_states());
  ASSERT_EQ(static_cast<std::int64_t>(kept.extent(0)), stream.batch());
  std::vector<Real> wanted;
  for (std::int64_t row = 0; row < stream.batch(); ++row) {
    const auto end = states.begin() + (row + 1) * tokens * hidden;
    wanted.insert(wanted.end(), end - hidden, end);
  }
  EXPECT_TRUE(same_bits(std::vector<Real>(kept.data(), kept.data() + kept.size()), wanted, hidden));
}

/// The same of pieces of these sizes, whatever is left of the batch behind them left out.
template <class Real>
void expect_bits_of_whole(Stream<Real>& stream, Model<Real>& model, const Batch& batch,
                          const std::vector<std::int64_t>& sizes, const std::vector<Real>& whole) {
  const std::int64_t hidden = model.config().hidden_dim;
  for (const std::int64_t size : sizes) {
    const std::int64_t begin = stream.tokens();
    const auto piece = feed(stream, model, batch.piece(begin, begin + size));
    std::vector<Real> wanted;
    for (std::int64_t row = 0; row < batch.batch; ++row) {
      const auto from = whole.begin() + (row * batch.length + begin) * hidden;
      wanted.insert(wanted.end(), from, from + size * hidden);
    }
    ASSERT_TRUE(same_bits(piece, wanted, hidden)) << size << " tokens from " << begin << " on";
    if (size > 0) expect_last_rows(stream, piece, size);
  }
}

/// As many pieces of `size` as there are, and what is left.
std::vector<std::int64_t> cut(std::int64_t length, std::int64_t size) {
  std::vector<std::int64_t> sizes(static_cast<std::size_t>(length / size), size);
  if (length % size > 0) sizes.push_back(length % size);
  return sizes;
}

template <class Real>
void expect_bits_of_whole(const ModelConfig& config, const Batch& batch, const std::vector<std::int64_t>& sizes) {
  auto model = random_model<Real>(config);
  const auto whole = run_model(model, MPI_COMM_SELF, batch);
  for (int count = 1; count <= world_ranks(); ++count) {
    const FirstRanks ranks(count);
    if (!ranks.has_this()) continue;
    SCOPED_TRACE(describe(config) + ", " + std::to_string(count) + " ranks");
    Stream<Real> stream(config, ranks.comm(), batch.batch);
    expect_bits_of_whole(stream, model, batch, sizes, whole);
    EXPECT_EQ(stream.tokens(), std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}));
  }
}

template <class Real>
class Streamed : public ::testing::Test {};
TYPED_TEST_SUITE(Streamed, Reals, RealNames);

TYPED_TEST(Streamed, has_the_bits_of_the_whole_whatever_the_pieces) {
  for (const ModelConfig& config : variants(small_sizes(), has_streams)) {
    const std::int64_t chunk = config.chunk_size, length = 3 * chunk + 5;
    const auto batch = random_batch(config, 2, length, 71);
    for (const std::int64_t size : {chunk - 1, chunk, chunk + 1})
      expect_bits_of_whole<TypeParam>(config, batch, cut(length, size));
    expect_bits_of_whole<TypeParam>(config, batch, {1, 0, 2 * chunk + 3, chunk + 1});
  }
}

TYPED_TEST(Streamed, has_the_bits_of_the_whole_token_by_token) {
  for (const ModelConfig& config : variants(small_sizes(), has_streams)) {
    const std::int64_t length = 2 * config.chunk_size + 1;
    expect_bits_of_whole<TypeParam>(config, random_batch(config, 1, length, 72), cut(length, 1));
  }
}

/// Sequences of several lengths, padded on the left, as prompts are.
TYPED_TEST(Streamed, has_the_bits_of_the_whole_with_padding_on_the_left) {
  for (const ModelConfig& config : variants(small_sizes(), has_streams)) {
    const std::int64_t chunk = config.chunk_size, length = 3 * chunk + 2;
    auto batch = random_batch(config, 3, length, 73);
    batch.mask.assign(static_cast<std::size_t>(3 * length), 1);
    std::fill_n(batch.mask.begin() + length, chunk + 3, std::uint8_t{0});
    std::fill_n(batch.mask.begin() + 2 * length, 5, std::uint8_t{0});
    expect_bits_of_whole<TypeParam>(config, batch, cut(length, chunk - 3));
    expect_bits_of_whole<TypeParam>(config, batch, {4, chunk, length - chunk - 4});
  }
}

TYPED_TEST(Streamed, goes_on_with_the_same_bits_on_rank_0_alone) {
  ModelConfig few = small_sizes();
  few.num_heads = 1;  // more ranks than blocks of states
  for (const ModelConfig& sizes : {small_sizes(), few}) {
    for (const ModelConfig& config : variants(sizes, has_streams)) {
      SCOPED_TRACE(describe(config));
      auto model = random_model<TypeParam>(config);
      const std::int64_t chunk = config.chunk_size, length = 6 * chunk;
      const auto batch = random_batch(config, 2, length, 78);
      const auto whole = run_model(model, MPI_COMM_SELF, batch);
      Stream<TypeParam> stream(config, MPI_COMM_WORLD, 2);
      stream.reserve(3 * chunk + 2);  // no room for more, which would be shared
      expect_bits_of_whole(stream, model, batch, {3 * chunk, 2}, whole);
      auto alone = gather_on_first(Execution(), stream);
      EXPECT_EQ(alone.has_value(), world_rank() == 0);
      if (!alone) continue;
      EXPECT_LE(alone->bytes(), stream_bytes<TypeParam>(config, 2, 3 * chunk + 2));
      expect_bits_of_whole(*alone, model, batch, {1, chunk, length - 4 * chunk - 3}, whole);
    }
  }
}

TYPED_TEST(Streamed, holds_as_many_bytes_as_predicted) {
  for (const ModelConfig& config : variants(small_sizes(), has_streams)) {
    SCOPED_TRACE(describe(config));
    auto model = random_model<TypeParam>(config);
    const std::int64_t length = 5 * config.chunk_size + 3;
    const auto batch = random_batch(config, 2, length, 74);
    for (int count = 1; count <= world_ranks(); ++count) {
      const FirstRanks ranks(count);
      if (!ranks.has_this()) continue;
      const auto predicted = [&](std::int64_t tokens) {
        return stream_bytes<TypeParam>(config, 2, tokens, count, ranks.rank());
      };
      Stream<TypeParam> whole(config, ranks.comm(), 2);
      EXPECT_EQ(whole.bytes(), 0);
      feed(whole, model, batch);
      EXPECT_EQ(whole.bytes(), predicted(length)) << count << " ranks";

      // With room from the beginning on nothing grows any more than that, but for a few keys.
      Stream<TypeParam> pieces(config, ranks.comm(), 2);
      pieces.reserve(length);
      for (const std::int64_t size : cut(length, 7))
        feed(pieces, model, batch.piece(pieces.tokens(), pieces.tokens() + size));
      EXPECT_GE(pieces.bytes(), predicted(length)) << count << " ranks";
      const bool keeps_all_keys =
          config.architecture == Architecture::standard || config.architecture == Architecture::hopfield;
      EXPECT_LE(pieces.bytes(), (keeps_all_keys ? 1 : 2) * predicted(length)) << count << " ranks";
    }
  }
}

TYPED_TEST(Streamed, has_the_bits_of_the_whole_with_room_for_more) {
  for (const ModelConfig& config : variants_of(Architecture::bsbr, small_sizes())) {
    if (!is_causal(config)) continue;
    auto model = random_model<TypeParam>(config);
    const std::int64_t length = 6 * config.chunk_size;
    const auto batch = random_batch(config, 2, length, 75);
    const auto whole = run_model(model, MPI_COMM_SELF, batch);
    Stream<TypeParam> stream(config, MPI_COMM_WORLD, 2);
    expect_bits_of_whole(stream, model, batch, {2 * config.chunk_size + 3}, whole);
    stream.reserve(length);
    expect_bits_of_whole(stream, model, batch, {config.chunk_size, length - 3 * config.chunk_size - 3}, whole);
  }
}

/// Keys are appended, and what bsbr retrieves is mixed once a chunk.
TYPED_TEST(Streamed, keeps_its_arrays_from_token_to_token) {
  for (const Architecture architecture : {Architecture::standard, Architecture::sliding_window, Architecture::bsbr}) {
    ModelConfig config = small_sizes();
    config.architecture = architecture;
    auto model = random_model<TypeParam>(config);
    const std::int64_t prompt = 2 * config.chunk_size + 3, length = 3 * config.chunk_size - 1;
    const auto batch = random_batch(config, 2, length, 79);
    Stream<TypeParam> stream(config, MPI_COMM_SELF, 2);
    feed(stream, model, batch.piece(0, prompt));
    stream.reserve(length);
    feed(stream, model, batch.piece(prompt, prompt + 1));
    const AttentionState<TypeParam> before = stream.states().front();
    while (stream.tokens() < length) feed(stream, model, batch.piece(stream.tokens(), stream.tokens() + 1));
    const AttentionState<TypeParam>& after = stream.states().front();
    if (architecture == Architecture::standard) {
      EXPECT_EQ(after.keys.data(), before.keys.data());
    }
    if (architecture == Architecture::sliding_window) {
      const std::int64_t row = 2 * 2 * config.attention_dim();
      EXPECT_LE(static_cast<std::int64_t>(after.keys.size()), 2 * (config.window_size + 1) * row);
    }
    if (architecture != Architecture::bsbr) continue;
    EXPECT_EQ(after.chunk_states.data(), before.chunk_states.data());
    EXPECT_EQ(after.mixed_states.data(), before.mixed_states.data());
    EXPECT_GT(after.mixed_states.size(), 0u);
  }
}

/// Allocations of Kokkos that the library asks for, while one is alive.
class AllocationCount {
 public:
  AllocationCount() : m_before(tools::get_callbacks()) {
    labels.clear();
    tools::set_allocate_data_callback(&add);
  }
  ~AllocationCount() { tools::set_callbacks(m_before); }
  AllocationCount(const AllocationCount&) = delete;
  AllocationCount& operator=(const AllocationCount&) = delete;

  static inline std::vector<std::string> labels;

 private:
  static void add(Kokkos::Tools::SpaceHandle, const char* label, const void*, std::uint64_t) {
    if (std::string_view(label).starts_with("bsbr::")) labels.emplace_back(label);
  }
  tools::EventSet m_before;
};

/// Between the ends of chunks, and of the steps of scans, which have 64 tokens at most.
TYPED_TEST(Streamed, allocates_nothing_for_a_token) {
  ModelConfig sizes = small_sizes();
  sizes.chunk_size = 32;
  for (const ModelConfig& config : variants(sizes, has_streams)) {
    for (const bool is_padded : {false, true}) {
      SCOPED_TRACE(describe(config) + (is_padded ? ", padded" : ""));
      auto model = random_model<TypeParam>(config);
      const std::int64_t prompt = 64, length = 64 + 30;
      auto batch = random_batch(config, 2, length, 79);
      if (is_padded) {
        batch.mask.assign(static_cast<std::size_t>(2 * length), 1);
        std::fill_n(batch.mask.begin(), 40, std::uint8_t{0});
      }
      Stream<TypeParam> stream(config, MPI_COMM_SELF, 2);
      feed(stream, model, batch.piece(0, prompt));
      stream.reserve(length);
      while (stream.tokens() < length) {
        const std::int64_t token = stream.tokens();
        const Sequence next = stream.next(1);
        const auto ids = local_part<std::int32_t>(next, batch.piece(token, token + 1).ids);
        const AllocationCount allocations;
        stream.feed(Execution(), model, next, ids);
        if (token < prompt + 2) continue;  // makes room
        ASSERT_TRUE(allocations.labels.empty()) << token << ": " << allocations.labels.front();
      }
    }
  }
}

/// Of which sequences something can be drawn.
TYPED_TEST(Streamed, knows_whose_last_token_is_padding) {
  const ModelConfig config = small_sizes();
  auto model = random_model<TypeParam>(config);
  auto batch = random_batch(config, 2, 3 * config.chunk_size, 80);
  Stream<TypeParam> stream(config, MPI_COMM_WORLD, 2);
  EXPECT_TRUE(stream.last_real().empty());
  batch.mask.assign(static_cast<std::size_t>(2 * batch.length), 1);
  batch.mask.back() = 0;
  feed(stream, model, batch);
  EXPECT_EQ(stream.last_real(), (std::vector<std::uint8_t>{1, 0}));
  batch.mask.clear();
  feed(stream, model, batch);
  EXPECT_TRUE(stream.last_real().empty());
}

/// D elements a token for a key and a value each, D·d/B and 2·D/B for what is kept of a chunk.
TYPED_TEST(Streamed, grows_as_documented) {
  constexpr auto real = static_cast<double>(sizeof(TypeParam));
  ModelConfig config;
  config.hidden_dim = 512, config.num_heads = 8, config.num_layers = 4, config.chunk_size = 128;
  const auto growth = [&](Architecture architecture) {
    config.architecture = architecture;
    config.num_heads = architecture == Architecture::gau ? 1 : 8;
    return stream_growth<TypeParam>(config, 3);
  };
  EXPECT_EQ(growth(Architecture::standard), 4 * 3 * 2 * 512 * real);
  EXPECT_EQ(growth(Architecture::hopfield), 4 * 3 * 2 * 512 * real);
  EXPECT_EQ(growth(Architecture::bsbr), 4 * 3 * ((512 * 64 + 2 * 512) * real + 1) / 128);  // a mark for each chunk
  for (const auto constant :
       {Architecture::linear, Architecture::delta_net, Architecture::gau, Architecture::sliding_window})
    EXPECT_EQ(growth(constant), 0);
}

TYPED_TEST(Streamed, is_refused_where_tokens_see_later_ones) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.causality = Causality::bidirectional;
  EXPECT_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1), ConfigError);
  EXPECT_THROW(stream_bytes<TypeParam>(config, 1, 10), ConfigError);
  config.causality = Causality::causal;
  config.num_layers = -1;
  EXPECT_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1), ConfigError);
}

TYPED_TEST(Streamed, refuses_what_is_not_its_next_piece) {
  const ModelConfig config = small_config(Architecture::bsbr);
  auto model = random_model<TypeParam>(config);
  const auto batch = random_batch(config, 2, 9, 76);
  Stream<TypeParam> stream(config, MPI_COMM_WORLD, 2);
  feed(stream, model, batch);
  const Sequence later(MPI_COMM_WORLD, 2, 9, config.chunk_size, 10);
  const auto ids = local_part<std::int32_t>(later, batch.ids);
  EXPECT_THROW(stream.feed(Execution(), model, later, ids), ShapeError);

  ModelConfig other = config;
  other.causality = Causality::block_causal;
  auto other_model = random_model<TypeParam>(other);
  const Sequence next = stream.next(9);
  EXPECT_THROW(stream.feed(Execution(), other_model, next, local_part<std::int32_t>(next, batch.ids)), ShapeError);
  EXPECT_NO_THROW(feed(stream, model, batch));  // nothing has been begun
}

/// An id beyond the vocabulary, on the last rank that has tokens: the others learn of it.
TYPED_TEST(Streamed, does_not_go_on_behind_a_piece_that_has_failed) {
  const ModelConfig config = small_config(Architecture::bsbr);
  auto model = random_model<TypeParam>(config);
  Stream<TypeParam> stream(config, MPI_COMM_WORLD, 1);
  auto batch = random_batch(config, 1, 3 * config.chunk_size, 77);
  const auto good = batch;
  batch.ids.back() = config.vocab_size;
  EXPECT_THROW(feed(stream, model, batch), ShapeError);
  EXPECT_FALSE(stream.is_whole());
  EXPECT_THROW(feed(stream, model, good), ShapeError);
  EXPECT_THROW(gather_on_first(Execution(), stream), ShapeError);
}

TYPED_TEST(Streamed, refuses_states_of_other_tokens) {
  const ModelConfig config = small_config(Architecture::linear);
  using States = std::vector<AttentionState<TypeParam>>;
  const auto layers = static_cast<std::size_t>(config.num_layers);
  EXPECT_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1, 5, States(layers), {}), ShapeError);
  EXPECT_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1, 0, States(layers + 1), {}), ShapeError);
  States behind_5(layers);
  for (auto& state : behind_5) state.tokens = 5;
  EXPECT_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1, 5, behind_5, {}), ShapeError);
  const Array<TypeParam**> last("last", 1, config.hidden_dim);
  EXPECT_NO_THROW(Stream<TypeParam>(config, MPI_COMM_WORLD, 1, 5, behind_5, last));
}

/// Two models of one configuration, and one whose weights have changed places.
TYPED_TEST(Streamed, has_a_hash_of_weights_that_tells_models_apart) {
  const ModelConfig config = small_config(Architecture::bsbr);
  const auto one = random_weights<TypeParam>(config, 1), again = random_weights<TypeParam>(config, 1);
  EXPECT_EQ(weights_hash(one), weights_hash(again));
  EXPECT_NE(weights_hash(one), weights_hash(random_weights<TypeParam>(config, 2)));
  const auto host = Kokkos::create_mirror_view(again.data());
  Kokkos::deep_copy(host, again.data());
  std::swap(host(0), host(1));
  Kokkos::deep_copy(again.data(), host);
  EXPECT_NE(weights_hash(one), weights_hash(again));
}

}  // namespace
}  // namespace bsbr::testing
