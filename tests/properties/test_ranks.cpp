// The number of ranks changes no bit, and what ranks send is what the design says. Runs on eight ranks, of which the
// first 1, 2, 3, 4, 7 and 8 work together.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <optional>
#include <set>
#include <utility>

#include "kernels/state_layout.hpp"
#include "kernels/tuning.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t panel = kernels::tuning::panel_rows;

/// 1, 2, 3, 4, 7 and 8, as far as the world has so many.
std::vector<int> rank_counts() {
  int ranks = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  std::vector<int> counts{1, 2, 3, 4, 7, 8};
  std::erase_if(counts, [ranks](int count) { return count > ranks; });
  return counts;
}

/// D = 12, 3 heads, chunks of 5, states of 2 numbers.
ModelConfig base_config() {
  ModelConfig config = small_config(Architecture::bsbr);
  config.compression_factor = 5;
  return config;
}

/// Plain bsbr.
ModelConfig bsbr_config() { return small_config(Architecture::bsbr); }

/// Whether these numbers of ranks give the hidden states that one process gives. Collective over the world.
template <class Real>
void expect_same_bits(const ModelConfig& config, const Batch& batch, const std::vector<int>& counts) {
  auto model = random_model<Real>(config);
  std::optional<std::vector<Real>> alone;
  for (const int count : counts) {
    const FirstRanks ranks(count);
    if (!ranks.has_this()) continue;
    if (ranks.rank() == 0 && !alone) alone = run_model(model, MPI_COMM_SELF, batch);
    const auto together = run_model(model, ranks.comm(), batch);
    if (ranks.rank() > 0) continue;
    EXPECT_TRUE(same_bits(together, *alone, config.hidden_dim)) << count << " ranks";
  }
}

/// The same of the variants.
template <class Real>
void expect_same_bits(const ModelConfig& sizes, std::int64_t batch, std::int64_t length,
                      Padding padding = Padding::none) {
  for (const ModelConfig& config : variants(sizes, has_its_own_way)) {
    SCOPED_TRACE(describe(config) + ", batch " + std::to_string(batch) + ", " + std::to_string(length) + " tokens");
    expect_same_bits<Real>(config, random_batch(config, batch, length, 51, padding), rank_counts());
  }
}

bool carries_state(const ModelConfig& config) { return traits(config.architecture).transfer == Transfer::state; }

template <class Real>
class Ranks : public ::testing::Test {};
TYPED_TEST_SUITE(Ranks, Reals, RealNames);

TYPED_TEST(Ranks, change_no_bit) { expect_same_bits<TypeParam>(base_config(), 1, 20 * 5); }

TYPED_TEST(Ranks, change_no_bit_of_a_batch_with_a_ragged_tail) {
  expect_same_bits<TypeParam>(base_config(), 3, 9 * 5 + 3);
}

TYPED_TEST(Ranks, change_no_bit_with_a_tail_of_one_token) { expect_same_bits<TypeParam>(base_config(), 1, 7 * 5 + 1); }

TYPED_TEST(Ranks, change_no_bit_of_one_token) { expect_same_bits<TypeParam>(base_config(), 3, 1); }

TYPED_TEST(Ranks, change_no_bit_where_there_are_more_than_chunks) {
  for (const std::int64_t length : {2, 10, 12, 29}) expect_same_bits<TypeParam>(base_config(), 1, length);
}

TYPED_TEST(Ranks, may_have_nothing_to_do) {
  expect_same_bits<TypeParam>(base_config(), 2, 0);
  expect_same_bits<TypeParam>(base_config(), 0, 12);
}

TYPED_TEST(Ranks, change_no_bit_of_sequences_with_padding) {
  for (const auto& padding : paddings) {
    if (padding.value == Padding::none) continue;
    SCOPED_TRACE(padding.name);
    expect_same_bits<TypeParam>(base_config(), 3, 12 * 5 + 2, padding.value);
  }
}

TYPED_TEST(Ranks, change_no_bit_where_they_begin_within_a_panel) {
  ModelConfig config = base_config();
  config.chunk_size = 24;
  expect_same_bits<TypeParam>(config, 1, 2 * panel + 75);
  config.chunk_size = 2;  // the rows of compressed states fill panels too
  config.num_layers = 1;
  expect_same_bits<TypeParam>(config, 1, panel + 31);
}

/// Segments of a running state: where ranks begin with one, within one, within a step of one, and several within one.
TYPED_TEST(Ranks, change_no_bit_of_segments_of_a_running_state) {
  constexpr std::int64_t segment = kernels::tuning::scan_segment;
  ModelConfig sizes = base_config();
  sizes.num_layers = 1;
  for (const ModelConfig& variant : variants(sizes, carries_state)) {
    ModelConfig config = variant;
    for (const auto& [chunk_size, length] : {std::pair{segment / 2, 8 * segment},
                                             {std::int64_t{100}, 7 * segment + 77},
                                             {std::int64_t{5}, segment + 31},
                                             {std::int64_t{3}, 2 * segment},
                                             {segment + 8, 6 * segment},
                                             {std::int64_t{64}, 3 * segment + 1}}) {
      config.chunk_size = chunk_size;
      SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens");
      expect_same_bits<TypeParam>(config, random_batch(config, 2, length, 55, Padding::holes), rank_counts());
    }
  }
}

// Products so large that a BLAS blocks them: there a row's bits depend on its place in the panel, and on the panel's
// height. Products differ by the number of projections only: three, with r and h besides, or with a gate.
TYPED_TEST(Ranks, change_no_bit_of_larger_products) {
  ModelConfig sizes = base_config();
  sizes.num_layers = 1;
  sizes.hidden_dim = 3 * 40;
  sizes.ff_dim = 450;
  sizes.chunk_size = 33;
  std::set<std::pair<std::size_t, std::size_t>> seen;  // numbers of projections of tokens and of chunks
  for (const auto& entry : architectures) {
    const Traits& special = traits(entry.value);
    if (!seen.emplace(special.token_projections.size(), special.chunk_projections.size()).second) continue;
    for (const ModelConfig& config : variants_of(entry.value, sizes)) {
      if (!has_its_own_way(config)) continue;
      SCOPED_TRACE(describe(config));
      expect_same_bits<TypeParam>(config, random_batch(config, 1, 2 * panel + 75, 51), rank_counts());
    }
  }
}

TYPED_TEST(Ranks, change_no_bit_whatever_heads_there_are) {
  struct Shape {
    std::int64_t heads, width;
  };
  for (const auto& [heads, width] : {Shape{1, 12}, Shape{5, 5}, Shape{2, 25}, Shape{1, 33}, Shape{8, 4}}) {
    SCOPED_TRACE(std::to_string(heads) + " heads of " + std::to_string(width));
    ModelConfig config = base_config();
    config.num_layers = 1;
    config.num_heads = heads;
    config.hidden_dim = heads * width;
    expect_same_bits<TypeParam>(config, 2, 8 * 5 + 2);
  }
}

/// D = 12, 2 heads: 2 blocks of states, which more ranks share, and chunks of one token, so that there are many.
ModelConfig shared_blocks_config() {
  ModelConfig config = base_config();
  config.num_layers = 1;
  config.num_heads = 2;
  config.chunk_size = 1;
  return config;
}

TYPED_TEST(Ranks, change_no_bit_where_they_share_blocks_of_states) {
  // Of a few chunks, several softmax tiles of them, and so many that whole tiles are dealt out.
  constexpr std::int64_t whole_tiles = 2 * kernels::tuning::mixing_rounds * kernels::tuning::query_tile;
  for (const std::int64_t chunks : {7, 300, static_cast<int>(whole_tiles) + 5}) {
    for (const ModelConfig& config : variants_of(Architecture::bsbr, shared_blocks_config())) {
      SCOPED_TRACE(describe(config) + ", " + std::to_string(chunks) + " chunks");
      expect_same_bits<TypeParam>(config, random_batch(config, 2, chunks, 51), rank_counts());
    }
  }
}

TYPED_TEST(Ranks, change_no_bit_where_they_share_blocks_of_states_of_sequences_with_padding) {
  ModelConfig sizes = shared_blocks_config();
  sizes.chunk_size = 3;
  for (const auto& padding : paddings) {
    for (const ModelConfig& config : variants_of(Architecture::bsbr, sizes)) {
      SCOPED_TRACE(describe(config) + ", " + std::string(padding.name));
      expect_same_bits<TypeParam>(config, random_batch(config, 3, 200 * 3 + 2, 51, padding.value), rank_counts());
    }
  }
}

// ---- What is sent ---------------------------------------------------------------------------------------------------

/// What this rank sends in one forward, by transfer.
template <class Real>
std::map<std::string, std::int64_t> bytes_sent(const ModelConfig& config, MPI_Comm comm, std::int64_t batch,
                                               std::int64_t length) {
  auto model = random_model<Real>(config);
  Profile profile;
  run_model(model, comm, random_batch(config, batch, length, 52), &profile);
  return profile.bytes_sent;
}

kernels::StateBlocks blocks_of(const ModelConfig& config, std::int64_t batch) {
  return {config.state_size(), config.num_heads, batch};
}

template <class Real>
class BytesSent : public ::testing::Test {
 protected:
  static constexpr std::int64_t size = sizeof(Real);
};
TYPED_TEST_SUITE(BytesSent, Reals, RealNames);

TYPED_TEST(BytesSent, by_one_rank_are_none) {
  for (const ModelConfig& config : variants(base_config())) {
    std::int64_t total = 0;
    for (const auto& [transfer, bytes] : bytes_sent<TypeParam>(config, MPI_COMM_SELF, 2, 33)) total += bytes;
    EXPECT_EQ(total, 0) << describe(config);
  }
}

TYPED_TEST(BytesSent, of_bsbr_follow_the_formula_exactly_where_everything_divides) {
  for (const std::int64_t compression : {0, 2}) {
    ModelConfig config = bsbr_config();
    config.hidden_dim = 84;
    config.num_heads = 84 / 4;  // by 1, 3 and 7 ranks
    config.compression_factor = compression;
    for (const int P : {1, 3, 7}) {
      const FirstRanks ranks(P);
      if (!ranks.has_this()) continue;
      const std::int64_t batch = 2, C = 21, H = config.num_heads, S = config.state_size(), D = config.hidden_dim;
      auto sent = bytes_sent<TypeParam>(config, ranks.comm(), batch, C * config.chunk_size);
      EXPECT_EQ(sent["states"], config.num_layers * batch * 2 * (C / P) * H * S * this->size * (P - 1) / P) << P;
      EXPECT_EQ(sent["retrieval_vectors"], config.num_layers * batch * (C / P) * 2 * D * this->size * (P - 1)) << P;
    }
  }
}

TYPED_TEST(BytesSent, of_bsbr_follow_the_formula_within_rounding_where_it_does_not) {
  for (const std::int64_t compression : {0, 2}) {
    ModelConfig config = bsbr_config();
    config.num_layers = 3;
    config.num_heads = 2;
    config.hidden_dim = 50;  // 625 numbers are two blocks, not of the same size
    config.compression_factor = compression;
    for (const int P : rank_counts()) {
      const FirstRanks ranks(P);
      if (!ranks.has_this() || P > blocks_of(config, 1).blocks()) continue;
      const std::int64_t batch = 3, C = 17;
      auto sent = bytes_sent<TypeParam>(config, ranks.comm(), batch, (C - 1) * config.chunk_size + 2);
      // A rank has one chunk and one block more or less than the mean, at most; blocks are padded to the same width.
      const kernels::StateBlocks blocks = blocks_of(config, batch);
      const std::int64_t N = blocks.blocks(), number = config.num_layers * batch * blocks.width * this->size;
      const std::int64_t fewest_chunks = C / P, most_chunks = (C + P - 1) / P, fewest_blocks = N / P,
                         most_blocks = (N + P - 1) / P;
      EXPECT_LE(sent["states"], number * (most_chunks * (N - fewest_blocks) + most_blocks * (C - fewest_chunks))) << P;
      EXPECT_GE(sent["states"], number * (fewest_chunks * (N - most_blocks) + fewest_blocks * (C - most_chunks))) << P;
      EXPECT_LE(blocks.per_head * blocks.width, config.state_size() + blocks.per_head) << P;

      std::int64_t all = sent["states"];
      MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT64_T, MPI_SUM, ranks.comm());
      std::int64_t kept = 0;  // chunk and block of the same rank
      for (int p = 0; p < P; ++p) kept += Partition{C, P}.size(p) * Partition{N, P}.size(p);
      EXPECT_EQ(all, 2 * number * (C * N - kept)) << P;

      const std::int64_t own = Partition{C, P}.size(ranks.rank());
      EXPECT_EQ(sent["retrieval_vectors"],
                config.num_layers * batch * own * 2 * config.hidden_dim * this->size * (P - 1))
          << P;
    }
  }
}

/// With more ranks than blocks every rank gets one block of each chunk, the same one as its neighbours, and mixes the
/// chunks that are dealt to it: in tiles, one tile to each in turn.
TYPED_TEST(BytesSent, of_bsbr_follow_the_formula_exactly_where_ranks_share_blocks) {
  for (const std::int64_t compression : {0, 2}) {
    ModelConfig config = bsbr_config();
    config.num_heads = 2;
    config.hidden_dim = 50;
    config.compression_factor = compression;
    for (const int P : rank_counts()) {
      const FirstRanks ranks(P);
      const kernels::StateBlocks blocks = blocks_of(config, 2);
      const std::int64_t N = blocks.blocks();
      if (!ranks.has_this() || P <= N) continue;
      std::vector<int> sharers;
      for (int p = 0; p < P; ++p) {
        if (Partition{P, static_cast<int>(N)}.part_of(p) == Partition{P, static_cast<int>(N)}.part_of(ranks.rank()))
          sharers.push_back(p);
      }
      for (const std::int64_t C : {1, 17, 300}) {
        const Partition chunks{C, P};
        const std::int64_t tile = std::max<std::int64_t>(1, C / ((P + N - 1) / N * kernels::tuning::mixing_rounds));
        const std::int64_t own = chunks.size(ranks.rank());
        std::int64_t rows = own * (P - 1), messages = own > 0 ? P - 1 : 0;  // the way there
        std::set<int> others;
        for (std::int64_t i = 0; i < C; ++i) {
          const auto sharer = static_cast<std::size_t>(i / tile) % sharers.size();
          const int owner = chunks.part_of(i);
          if (sharers[sharer] != ranks.rank() || owner == ranks.rank()) continue;
          ++rows;
          others.insert(owner);
        }
        messages += static_cast<std::int64_t>(others.size());
        auto model = random_model<TypeParam>(config);
        Profile profile;
        run_model(model, ranks.comm(), random_batch(config, 2, (C - 1) * config.chunk_size + 2, 52), &profile);
        const std::int64_t row = config.num_layers * blocks.batch * blocks.width * this->size;
        EXPECT_EQ(profile.bytes_sent["states"], row * rows) << C << " chunks on " << P << " ranks";
        EXPECT_EQ(profile.messages_sent["states"], config.num_layers * messages) << C << " chunks on " << P << " ranks";
      }
    }
  }
}

TYPED_TEST(BytesSent, of_bsbr_do_not_depend_on_causality_or_mask_and_nothing_else_is_counted) {
  const FirstRanks ranks(std::min(3, rank_counts().back()));
  if (!ranks.has_this()) return;
  ModelConfig config = bsbr_config();
  const auto expected = bytes_sent<TypeParam>(config, ranks.comm(), 1, 33);
  for (const auto& causality : causalities) {
    config.causality = causality.value;
    auto model = random_model<TypeParam>(config);
    Profile profile;
    run_model(model, ranks.comm(), random_batch(config, 1, 33, 53, Padding::holes), &profile);
    EXPECT_EQ(profile.bytes_sent, expected) << causality.name;
    for (const auto& [transfer, bytes] : profile.bytes_sent)
      EXPECT_TRUE(transfer == "states" || transfer == "retrieval_vectors") << transfer;
  }
}

/// [first, end) of a rank's tokens.
struct Part {
  std::int64_t first, end;
};
Part part_of(int rank, int ranks, std::int64_t length, std::int64_t chunk_size) {
  const Partition chunks{(length + chunk_size - 1) / chunk_size, ranks};
  return {std::min(length, chunks.begin(rank) * chunk_size), std::min(length, chunks.end(rank) * chunk_size)};
}

std::int64_t window_of(const ModelConfig& config) { return traits(config.architecture).window(config); }

bool sends_keys(const ModelConfig& config) { return traits(config.architecture).transfer == Transfer::keys; }

/// A window that reaches far back: heads are sent instead of the rows of earlier tokens.
bool sends_heads(const ModelConfig& config, std::int64_t length, int ranks) {
  return ranks > 1 && window_of(config) > 2 * (length / ranks);
}

/// Keys and values go to every later rank that needs them: rows of 2·D numbers.
TYPED_TEST(BytesSent, of_keys_and_values_are_those_of_the_rows_that_later_ranks_need) {
  for (const ModelConfig& config : variants(base_config(), sends_keys)) {
    for (const std::int64_t length : {4, 33, 100}) {
      for (const int P : rank_counts()) {
        const FirstRanks ranks(P);
        if (!ranks.has_this() || sends_heads(config, length, P)) continue;
        SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens on " + std::to_string(P) + " ranks");
        const Part own = part_of(ranks.rank(), P, length, config.chunk_size);
        std::int64_t rows = 0;
        for (int later = ranks.rank() + 1; later < P; ++later) {
          const Part other = part_of(later, P, length, config.chunk_size);
          if (other.first < other.end)
            rows += std::max<std::int64_t>(0, own.end - std::max(own.first, other.first - window_of(config)));
        }
        constexpr std::int64_t batch = 2;
        auto sent = bytes_sent<TypeParam>(config, ranks.comm(), batch, length);
        EXPECT_EQ(sent["halo"], config.num_layers * batch * rows * 2 * config.hidden_dim * this->size);
        sent.erase("halo");
        EXPECT_TRUE(sent.empty()) << ::testing::PrintToString(sent);
      }
    }
  }
}

/// Queries, keys and values there and results back: four rows of D numbers for each token, less the rank's own heads.
/// With more ranks than heads each of a head's ranks has its keys and values.
TYPED_TEST(BytesSent, of_heads_follow_the_formula) {
  for (ModelConfig config : variants(base_config(), sends_keys)) {
    config.num_heads = 3;
    config.hidden_dim = 12;
    for (const int P : rank_counts()) {
      constexpr std::int64_t batch = 2, length = 7 * 3 * 5 * 4;  // the same number of chunks on 3 and 7 ranks
      const FirstRanks ranks(P);
      if (!ranks.has_this() || !sends_heads(config, length, P)) continue;
      SCOPED_TRACE(describe(config) + " on " + std::to_string(P) + " ranks");
      const auto sent = bytes_sent<TypeParam>(config, ranks.comm(), batch, length);
      ASSERT_EQ(sent.count("heads"), 1u);
      EXPECT_EQ(sent.size(), 1u) << ::testing::PrintToString(sent);
      const std::int64_t all = config.num_layers * batch * (length / P) * config.hidden_dim * this->size;
      if (P == 3) {
        EXPECT_EQ(sent.at("heads"), 4 * all * 2 / 3);
      } else if (P > 3) {
        EXPECT_LE(sent.at("heads"), 2 * all + 2 * all * (P + 2) / 3);  // two or three ranks a head
      }
    }
  }
}

TYPED_TEST(BytesSent, of_a_window_are_those_of_its_keys_and_values) {
  const FirstRanks ranks(std::min(3, rank_counts().back()));
  if (!ranks.has_this()) return;
  ModelConfig config = base_config();
  config.architecture = Architecture::sliding_window;
  for (const std::int64_t window : {std::int64_t{0}, small_window}) {
    config.window_size = window;
    for (const std::int64_t length : {60, 600}) {
      const bool followed = ranks.rank() + 1 < std::min(3, rank_counts().back());
      EXPECT_EQ((bytes_sent<TypeParam>(config, ranks.comm(), 1, length)["halo"]),
                followed ? config.num_layers * 2 * window * config.hidden_dim * this->size : 0);
    }
  }
}

/// Within one segment one state of each head goes to the next rank that has tokens, whatever the length. Where steps
/// are chunks, ranks begin with one; elsewhere they may have to see up to a tile of keys and values before their own.
TYPED_TEST(BytesSent, of_a_running_state_within_a_segment_do_not_depend_on_the_length) {
  constexpr std::int64_t tile = kernels::tuning::state_tile, batch = 2;
  for (const std::int64_t chunk_size : {tile, std::int64_t{5}}) {
    ModelConfig sizes = base_config();
    sizes.chunk_size = chunk_size;
    for (const ModelConfig& config : variants(sizes, carries_state)) {
      const std::int64_t elements = traits(config.architecture).state_elements(config);
      const std::int64_t state = config.num_layers * batch * config.num_heads * elements * this->size;
      const std::int64_t row = config.num_layers * batch * 2 * config.attention_dim() * this->size;
      for (const std::int64_t length :
           {chunk_size, std::min<std::int64_t>(9 * tile + 1, kernels::tuning::scan_segment * 3 / 4)}) {
        for (const int P : rank_counts()) {
          const FirstRanks ranks(P);
          if (!ranks.has_this()) continue;
          SCOPED_TRACE(describe(config) + ", " + std::to_string(length) + " tokens on " + std::to_string(P) + " ranks");
          const Part own = part_of(ranks.rank(), P, length, chunk_size);
          const bool followed = own.first < own.end && own.end < length;
          auto sent = bytes_sent<TypeParam>(config, ranks.comm(), batch, length);
          EXPECT_EQ(sent["state"], followed ? state : 0);
          const std::int64_t most_rows = depends_on_chunks(config) || chunk_size == tile ? 0 : (P - 1) * (tile - 1);
          EXPECT_LE(sent["halo"], most_rows * row);
        }
      }
    }
  }
}

/// Segments of a rank that has whole ones: going up and down the tree, at each level a sum, T and perhaps A, or a
/// state.
TYPED_TEST(BytesSent, of_segments_grow_with_the_logarithm_of_the_ranks_only) {
  constexpr std::int64_t segment = kernels::tuning::scan_segment;
  ModelConfig sizes = base_config();
  sizes.chunk_size = segment / 4;
  sizes.num_layers = 1;
  for (const ModelConfig& config : variants(sizes, carries_state)) {
    const std::int64_t state = config.num_heads * traits(config.architecture).state_elements(config) * this->size;
    for (const int P : rank_counts()) {
      const FirstRanks ranks(P);
      if (!ranks.has_this() || P == 1) continue;
      SCOPED_TRACE(describe(config) + " on " + std::to_string(P) + " ranks");
      const auto sent = bytes_sent<TypeParam>(config, ranks.comm(), 1, 2 * P * segment);
      EXPECT_EQ(sent, bytes_sent<TypeParam>(config, ranks.comm(), 1, 4 * P * segment));
      EXPECT_EQ(sent.at("state") > 0, ranks.rank() + 1 < P);
      EXPECT_LE(sent.at("state"), (2 + std::bit_width(static_cast<unsigned>(P - 1))) * state);
      if (P != 2) continue;
      EXPECT_EQ(sent.at("state"), ranks.rank() == 0 ? state : 0);
    }
  }
}

TYPED_TEST(BytesSent, add_up_over_forwards) {
  const FirstRanks ranks(std::min(2, rank_counts().back()));
  if (!ranks.has_this()) return;
  for (const ModelConfig& config : variants(base_config())) {
    const auto once = bytes_sent<TypeParam>(config, ranks.comm(), 1, 33);
    auto model = random_model<TypeParam>(config);
    Profile profile;
    for (int i = 0; i < 3; ++i) run_model(model, ranks.comm(), random_batch(config, 1, 33, 54), &profile);
    for (const auto& [transfer, bytes] : once)
      EXPECT_EQ(profile.bytes_sent[transfer], 3 * bytes) << describe(config) << ", " << transfer;
  }
}

}  // namespace
}  // namespace bsbr::testing
