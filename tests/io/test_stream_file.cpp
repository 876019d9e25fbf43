// State files: what all ranks write together, on which ranks a stream goes on with it, and what is said of bad ones.
#include "bsbr/stream_file.hpp"

#include "bsbr/error.hpp"
#include "files.hpp"
#include "support/bits.hpp"
#include "support/reals.hpp"
#include "support/run_model.hpp"
#include "support/run_stream.hpp"
#include "support/variants.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t length = 47, saved = 33;  // of a sequence, and as many of its tokens as the file has read

/// Heads of 23: their states take two blocks, the second of which is longer than what is left of a state; with one head
/// ranks share a block.
ModelConfig sizes(std::int64_t heads) {
  ModelConfig config = small_config(Architecture::bsbr);
  config.num_heads = heads;
  config.hidden_dim = 23 * heads;
  config.chunk_size = 4;
  return config;
}

std::vector<ModelConfig> all_variants() {
  std::vector<ModelConfig> all;
  for (const std::int64_t heads : {1, 2}) {
    const auto some =
        variants(sizes(heads), [](const ModelConfig& config) { return has_its_own_way(config) && is_causal(config); });
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

Batch batch_of(const ModelConfig& config, Padding padding = Padding::none) {
  return random_batch(config, 2, length, 81, padding);
}

template <class Real>
std::vector<Real> last_states(const Stream<Real>& stream) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), stream.last_states());
  return {host.data(), host.data() + host.size()};
}

/// A stream of the first tokens, fed in pieces of `size`, and written by the first `count` ranks.
template <class Real>
std::string save(const Folder& folder, const ModelConfig& config, const Batch& batch, int count, std::int64_t size) {
  const std::string path = folder / "s.h5";
  const FirstRanks some(std::min(count, world_ranks()));
  if (some.has_this()) {
    auto model = random_model<Real>(config);
    Stream<Real> stream(config, some.comm(), batch.batch);
    while (stream.tokens() < saved)
      feed(stream, model, batch.piece(stream.tokens(), std::min(saved, stream.tokens() + size)));
    write_stream(path, stream, model.weights(), {{"made_by", std::string("a test")}});
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path;
}

template <class Real>
class StreamFile : public ::testing::Test {};
TYPED_TEST_SUITE(StreamFile, Reals, RealNames);

TYPED_TEST(StreamFile, goes_on_with_the_same_bits_on_any_number_of_ranks) {
  for (const ModelConfig& config : all_variants()) {
    SCOPED_TRACE(describe(config));
    const Folder folder;
    const auto batch = batch_of(config);
    const std::string path = save<TypeParam>(folder, config, batch, 3, 13);
    auto model = random_model<TypeParam>(config);
    const auto whole = run_model(model, MPI_COMM_SELF, batch);
    auto last_rows = rows_of(whole, config.hidden_dim, saved - 1, 1);
    const auto of_second = rows_of(whole, config.hidden_dim, length + saved - 1, 1);
    last_rows.insert(last_rows.end(), of_second.begin(), of_second.end());
    for (int count = 1; count <= world_ranks(); ++count) {
      const FirstRanks some(count);
      if (!some.has_this()) continue;
      auto stream = read_stream(path, model.weights(), some.comm());
      EXPECT_EQ(stream.tokens(), saved);
      EXPECT_TRUE(same_bits(last_states(stream), last_rows, config.hidden_dim));
      EXPECT_LE(stream.bytes(), stream_bytes<TypeParam>(config, 2, saved, count, some.rank()));
      for (const std::int64_t end : {saved + 1, length - 3, length}) {
        const std::int64_t begin = stream.tokens();
        const auto piece = feed(stream, model, batch.piece(begin, end));
        for (std::int64_t row = 0; row < 2; ++row) {
          EXPECT_TRUE(same_bits(rows_of(piece, config.hidden_dim, row * (end - begin), end - begin),
                                rows_of(whole, config.hidden_dim, row * length + begin, end - begin),
                                config.hidden_dim))
              << count << " ranks, tokens " << begin << " to " << end;
        }
      }
    }
  }
}

TYPED_TEST(StreamFile, goes_on_with_the_same_bits_with_padding) {
  for (const ModelConfig& config : all_variants()) {
    SCOPED_TRACE(describe(config));
    const Folder folder;
    const auto batch = batch_of(config, Padding::holes);
    const std::string path = save<TypeParam>(folder, config, batch, 1, 20);
    auto model = random_model<TypeParam>(config);
    const auto whole = run_model(model, MPI_COMM_SELF, batch);
    auto stream = read_stream(path, model.weights(), MPI_COMM_WORLD);
    const auto piece = feed(stream, model, batch.piece(saved, length));
    for (std::int64_t row = 0; row < 2; ++row) {
      EXPECT_TRUE(same_bits(rows_of(piece, config.hidden_dim, row * (length - saved), length - saved),
                            rows_of(whole, config.hidden_dim, row * length + saved, length - saved),
                            config.hidden_dim));
    }
  }
}

TYPED_TEST(StreamFile, has_the_same_bytes_whatever_ranks_and_pieces) {
  for (const ModelConfig& config : all_variants()) {
    for (const Padding padding : {Padding::none, Padding::holes}) {
      SCOPED_TRACE(describe(config));
      const Folder folder;
      const auto batch = batch_of(config, padding);
      const std::string alone = read_bytes(save<TypeParam>(folder, config, batch, 1, saved));
      MPI_Barrier(MPI_COMM_WORLD);
      EXPECT_TRUE(read_bytes(save<TypeParam>(folder, config, batch, world_ranks(), saved)) == alone) << "ranks";
      MPI_Barrier(MPI_COMM_WORLD);
      EXPECT_TRUE(read_bytes(save<TypeParam>(folder, config, batch, 2, 7)) == alone) << "pieces";
      EXPECT_EQ(files_in(folder), std::vector<std::string>{"s.h5"});
    }
  }
}

TYPED_TEST(StreamFile, of_no_tokens_goes_on_from_the_beginning) {
  for (const ModelConfig& config : all_variants()) {
    SCOPED_TRACE(describe(config));
    const Folder folder;
    const std::string path = folder / "s.h5";
    auto model = random_model<TypeParam>(config);
    const auto batch = batch_of(config);
    write_stream(path, Stream<TypeParam>(config, MPI_COMM_WORLD, 2), model.weights());
    auto stream = read_stream(path, model.weights(), MPI_COMM_WORLD);
    EXPECT_TRUE(same_bits(feed(stream, model, batch), run_model(model, MPI_COMM_SELF, batch), config.hidden_dim));
  }
}

TEST(StateFile, says_what_it_is_of) {
  const ModelConfig config = sizes(2);
  const Folder folder;
  const auto info = read_stream_info(save<float>(folder, config, batch_of(config), 2, 9), MPI_COMM_WORLD);
  EXPECT_EQ(info.config.hidden_dim, 46);
  EXPECT_EQ(info.precision, Precision::float32);
  EXPECT_EQ(info.batch, 2);
  EXPECT_EQ(info.tokens, saved);
  EXPECT_EQ(info.model_hash, weights_hash(random_model<float>(config).weights()));
}

// ---- Other models ---------------------------------------------------------------------------------------------------

/// What is said of a file that should go on with a model.
template <class Real>
std::string refusal(const std::string& path, const Weights<Real>& weights) {
  const std::string message = message_of<FileError>([&] { read_stream(path, weights, MPI_COMM_WORLD); });
  return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
}

TEST(StateFile, of_another_model_is_refused) {
  const ModelConfig config = sizes(2);
  const Folder folder;
  const std::string path = save<float>(folder, config, batch_of(config), 1, saved);
  const std::string other = refusal(path, random_model<float>(config, 2).weights());
  EXPECT_TRUE(other.starts_with("is the stream of another model: of one whose weights have the hash ")) << other;

  ModelConfig chunks = config;
  chunks.chunk_size = 8;
  EXPECT_EQ(refusal(path, random_model<float>(chunks).weights()),
            "is the stream of another model or configuration: its chunk_size is 4, not 8");
  ModelConfig architecture = config;
  architecture.architecture = Architecture::linear;
  EXPECT_EQ(refusal(path, random_model<float>(architecture).weights()),
            "is the stream of another model or configuration: its architecture is bsbr, not linear");
  EXPECT_EQ(refusal(path, random_model<double>(config).weights()), "is a stream of precision float, not double");
}

TEST(StateFile, is_not_written_with_weights_of_another_configuration) {
  const ModelConfig config = sizes(2);
  ModelConfig other = config;
  other.num_layers += 1;
  const Folder folder;
  const Stream<float> stream(config, MPI_COMM_WORLD, 1);
  EXPECT_EQ(message_of<ShapeError>([&] { write_stream(folder / "s.h5", stream, random_weights<float>(other, 1)); }),
            "the weights are not those of the stream's model: its num_layers is 3, not 2");
  EXPECT_TRUE(files_in(folder).empty());
}

// ---- What cannot be written -----------------------------------------------------------------------------------------

TEST(StateFile, that_does_not_fit_leaves_the_old_one_and_nothing_else) {
  const ModelConfig config = sizes(2);
  const Folder folder;
  const std::string path = save<float>(folder, config, batch_of(config), 3, saved), old = read_bytes(path);
  const auto model = random_model<float>(config);
  const auto stream = read_stream(path, model.weights(), MPI_COMM_WORLD);
  {
    const FileSizeLimit limit(1 << 14);
    const std::string message = message_of<OutputError>([&] { write_stream(path, stream, model.weights()); });
    EXPECT_TRUE(message.starts_with(path + ": needs ")) << message;
  }
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"s.h5"});
  EXPECT_TRUE(read_bytes(path) == old);
}

// ---- Bad ones -------------------------------------------------------------------------------------------------------

struct BadContent {
  const char* name;
  std::function<void(hid_t)> edit;
  std::string message;
};

class BadStream : public ::testing::TestWithParam<BadContent> {};

TEST_P(BadStream, is_refused_with_the_thing_its_value_and_the_rule) {
  const ModelConfig config = sizes(2);
  const Folder folder;
  const std::string path = save<float>(folder, config, batch_of(config), 3, saved);
  edit(path, GetParam().edit);
  EXPECT_EQ(refusal(path, random_model<float>(config).weights()), GetParam().message);
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

/// Attributes of /stream.
BadContent attributes(const char* name, const std::function<void(hid_t)>& change, const std::string& message) {
  return {name,
          [=](hid_t file) {
            const hid_t group = H5Gopen2(file, "/stream", H5P_DEFAULT);
            change(group);
            H5Gclose(group);
          },
          "/stream: attribute " + message};
}

/// A dataset of the second layer made anew.
BadContent dataset(const char* name, const std::string& array,
                   const std::function<void(hid_t, const std::string&)>& make, const std::string& message) {
  const std::string path = "/stream/layers.1/" + array;
  return {name,
          [=](hid_t file) {
            remove(file, path);
            make(file, path);
          },
          path + ' ' + message};
}

INSTANTIATE_TEST_SUITE_P(
    Heads, BadStream,
    ::testing::Values(
        BadContent{"no_format", [](hid_t file) { remove_attribute(file, "format"); },
                   "has no attribute format = \"bsbr-stream\", so it is not a state file"},
        BadContent{"a_model", [](hid_t file) { set_attribute(file, "format", "bsbr-model"); },
                   "attribute format is \"bsbr-model\", a state file has \"bsbr-stream\""},
        BadContent{"a_later_version", [](hid_t file) { set_attribute(file, "format_version", std::int64_t{2}); },
                   "attribute format_version is 2, this library reads version 1"},
        BadContent{"no_stream", [](hid_t file) { remove(file, "/stream"); }, "/stream is missing, or is not a group"},
        BadContent{"a_bad_configuration", [](hid_t file) { set_attribute(file, "num_heads", std::int64_t{0}); },
                   "num_heads = 0 is below 1"},
        attributes(
            "no_batch", [](hid_t group) { remove_attribute(group, "batch"); }, "batch is missing"),
        attributes(
            "negative_tokens", [](hid_t group) { set_attribute(group, "tokens", std::int64_t{-1}); },
            "tokens is -1, must be a whole number from 0 to 35184372088832"),
        attributes(
            "half_a_token", [](hid_t group) { set_attribute(group, "tokens", 0.5); },
            "tokens is 0.5, must be a whole number from 0 to 35184372088832"),
        attributes(
            "no_precision", [](hid_t group) { set_attribute(group, "precision", "half"); },
            "precision is \"half\", known are float, double, bfloat16"),
        attributes(
            "a_short_hash", [](hid_t group) { set_attribute(group, "model_hash", "12ab"); },
            "model_hash is \"12ab\", must be 16 hexadecimal digits"),
        attributes(
            "a_hash_that_is_none", [](hid_t group) { set_attribute(group, "model_hash", "12ab12ab12ab12ax"); },
            "model_hash is \"12ab12ab12ab12ax\", must be 16 hexadecimal digits")),
    [](const auto& test) { return test.param.name; });

INSTANTIATE_TEST_SUITE_P(
    Arrays, BadStream,
    ::testing::Values(
        BadContent{"no_last_real", [](hid_t file) { remove(file, "/stream/last_real"); },
                   "/stream/last_real is missing, the stream needs it as [2]"},
        BadContent{"a_last_token_that_is_neither",
                   [](hid_t file) {
                     remove(file, "/stream/last_real");
                     make_integers(file, "/stream/last_real", {2}, H5T_STD_U8LE, {1, 3});
                   },
                   "/stream/last_real [1] is 3, must be 0 or 1"},
        BadContent{"a_missing_array", [](hid_t file) { remove(file, "/stream/layers.1/keys"); },
                   "/stream/layers.1/keys is missing, the stream needs it as [1, 2, 92]"},
        BadContent{"a_missing_layer", [](hid_t file) { remove(file, "/stream/layers.0"); },
                   "/stream/layers.0/keys is missing, the stream needs it as [1, 2, 92]"},
        BadContent{"more_tokens_than_it_holds",
                   [](hid_t file) {
                     const hid_t group = H5Gopen2(file, "/stream", H5P_DEFAULT);
                     set_attribute(group, "tokens", std::int64_t{1} << 45);
                     H5Gclose(group);
                   },
                   "/stream/layers.0/chunk_states is [4, 8, 2, 265], the stream needs [4, 8796093022208, 2, 265]"},
        BadContent{"no_last_states", [](hid_t file) { remove(file, "/stream/last_states"); },
                   "/stream/last_states is missing, the stream needs it as [2, 46]"},
        dataset(
            "another_shape", "chunk_states",
            [](hid_t file, const std::string& path) {
              make_dataset(file, path, {4, 7, 2, 265}, H5T_IEEE_F32LE);
            },
            "is [4, 7, 2, 265], the stream needs [4, 8, 2, 265]"),
        dataset(
            "another_type", "retrieval",
            [](hid_t file, const std::string& path) {
              make_dataset(file, path, {9, 2, 92}, H5T_IEEE_F64LE);
            },
            "holds 64-bit floating-point numbers, the stream needs 32-bit ones"),
        dataset(
            "no_numbers", "retrieval",
            [](hid_t file, const std::string& path) {
              make_dataset(file, path, {9, 2, 92}, H5T_IEEE_F32LE, 0, {.no_numbers = true});
            },
            "is [9, 2, 92], 6624 bytes, of which the file holds none"),
        dataset(
            "a_mark_that_is_none", "real_chunks",
            [](hid_t file, const std::string& path) {
              make_integers(file, path, {2, 9}, H5T_STD_U8LE, [] {
                std::vector<std::int64_t> marks(18, 1);
                marks[11] = 2;
                return marks;
              }());
            },
            "[1, 2] is 2, must be 0 or 1")),
    [](const auto& test) { return test.param.name; });

TEST(StateFile, that_is_cut_off_is_refused) {
  const ModelConfig config = sizes(2);
  const Folder folder;
  const std::string path = save<float>(folder, config, batch_of(config), 1, saved);
  const std::string whole = read_bytes(path);
  write_bytes(path, whole.substr(0, whole.size() - 1000));
  const std::string message = refusal(path, random_model<float>(config).weights());
  EXPECT_TRUE(message.find("truncated") != std::string::npos) << message;
}

}  // namespace
}  // namespace bsbr::testing
