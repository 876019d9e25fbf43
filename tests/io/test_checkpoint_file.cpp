// Checkpoints: what all ranks write together, on which ranks training goes on with it, and what is said of bad ones.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <optional>

#include "bsbr/checkpoint.hpp"
#include "bsbr/error.hpp"
#include "bsbr/version.hpp"
#include "files.hpp"
#include "support/training.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

constexpr const char *query = "layers.0.attention.q_proj.weight",
                     *query_mean = "/training/first_moment/layers.0.attention.q_proj.weight",
                     *query_square = "/training/second_moment/layers.0.attention.q_proj.weight";
constexpr double infinity = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

// hidden_dim does not fit the blocks of the gradient's norm, by which ranks part the weights: rows are parted, too.
ModelConfig config_of(Head head = Head::separate) {
  ModelConfig config{.vocab_size = 57,
                     .hidden_dim = 36,
                     .num_layers = 2,
                     .num_heads = 2,
                     .ff_dim = 70,
                     .chunk_size = 8,
                     .compression_factor = 2};
  config.head = head;
  return config;
}

/// Sequences of a step, by ranks in groups of their own or not.
StepShape shape(std::int64_t accumulate) { return {.length = 29, .batch = 4 / accumulate, .accumulate = accumulate}; }

template <class Real>
struct Session {
  TrainingGrid grid;
  Trainer<Real> trainer;

  Session(MPI_Comm comm, const Weights<Real>& weights, std::int64_t accumulate)
      : grid(comm, shape(accumulate), weights.config().chunk_size),
        trainer(weights, grid,
                {.optimizer = {}, .learning_rate = {.learning_rate = 1e-2, .warmup_steps = 2, .decay_steps = 5}}) {}

  /// A run that goes on with a file.
  Session(MPI_Comm comm, const std::string& path, std::int64_t accumulate)
      : Session(comm, read_weights<Real>(path, comm), accumulate) {
    read_training_state(path, read_training_record(path, comm), trainer);
  }

  void steps_up_to(std::int64_t last) {
    while (trainer.steps() < last) {
      const auto number = static_cast<std::uint64_t>(trainer.steps() + 1);
      take_step(trainer, grid, random_batch(trainer.weights().config(), 4, 29, number, Padding::none));
    }
  }
};

TrainingRecord record_at(std::int64_t step) {
  TrainingRecord record{.step = step,
                        .tokens_seen = 116 * step,
                        .attributes = {{"batch", std::int64_t{4}},
                                       {"learning_rate", 1e-2},
                                       {"input", std::string("text with \xc3\xa4 and \n: ") + std::string(300, 'x')},
                                       {"places", std::vector<std::int64_t>{7, -8, 9}},
                                       {"one", std::vector<std::int64_t>{1}}},
                        .log = {}};
  for (std::int64_t one = 1; one <= step; ++one) {
    record.log.push_back({one, 1 / static_cast<double>(one), 2.5, 1e-2 / 3, one % 2 == 0 ? 0.1 : not_a_number});
  }
  return record;
}

/// Trains on the first ranks, and writes what is there after two steps.
template <class Real>
std::string good_checkpoint(const Folder& folder, int ranks = 1, std::int64_t accumulate = 1,
                            const ModelConfig& config = config_of()) {
  const std::string path = folder / "c.h5";
  const FirstRanks some(std::min(ranks, world_ranks()));
  if (some.has_this()) {
    Session<Real> run(some.comm(), random_weights<Real>(config, 1), accumulate);
    run.steps_up_to(2);
    write_checkpoint(path, run.trainer, record_at(2));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path;
}

/// As if after two steps whose gradients were all 0: for bad ones to be made of.
std::string untrained_checkpoint(const Folder& folder) {
  const std::string path = folder / "c.h5";
  if (rank() == 0) {
    Session<float> session(MPI_COMM_SELF, random_weights<float>(config_of(), 1), 1);
    session.trainer.resume(2);
    write_checkpoint(path, session.trainer, record_at(2));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return path;
}

bool same_number(double one, double other) { return one == other || (std::isnan(one) && std::isnan(other)); }

void expect_same(const TrainingRecord& actual, const TrainingRecord& expected) {
  EXPECT_EQ(actual.step, expected.step);
  EXPECT_EQ(actual.tokens_seen, expected.tokens_seen);
  EXPECT_EQ(actual.attributes, expected.attributes);
  ASSERT_EQ(actual.log.size(), expected.log.size());
  for (std::size_t i = 0; i < actual.log.size(); ++i) {
    EXPECT_EQ(actual.log[i].step, expected.log[i].step);
    for (double LoggedStep::*column :
         {&LoggedStep::loss, &LoggedStep::gradient_norm, &LoggedStep::learning_rate, &LoggedStep::validation_loss})
      EXPECT_TRUE(same_number(actual.log[i].*column, expected.log[i].*column)) << i;
  }
}

template <class Real>
void expect_same(const Trainer<Real>& actual, const Trainer<Real>& expected) {
  EXPECT_EQ(actual.steps(), expected.steps());
  EXPECT_TRUE(same_bits(to_host(actual.weights().data()), to_host(expected.weights().data()), 1));
  for (auto OwnedWeights<Real>::*moments : {&OwnedWeights<Real>::first_moments, &OwnedWeights<Real>::second_moments})
    EXPECT_TRUE(same_bits(of_all_ranks(actual, moments), of_all_ranks(expected, moments), 1));
}

// ---- Going on -------------------------------------------------------------------------------------------------------

template <class Real>
class Checkpoint : public ::testing::Test {};
TYPED_TEST_SUITE(Checkpoint, Reals, RealNames);

TYPED_TEST(Checkpoint, is_read_with_the_same_bits_on_any_number_of_ranks) {
  for (const Head head : {Head::separate, Head::tied}) {
    const Folder folder;
    const std::string path = good_checkpoint<TypeParam>(folder, 2, 2, config_of(head));
    Session<TypeParam> alone(MPI_COMM_SELF, random_weights<TypeParam>(config_of(head), 1), 1);
    alone.steps_up_to(2);
    for (int count = 1; count <= world_ranks(); ++count) {
      const FirstRanks some(count);
      if (!some.has_this()) continue;
      SCOPED_TRACE(std::to_string(count) + " ranks");
      expect_same(Session<TypeParam>(some.comm(), path, 1).trainer, alone.trainer);
    }
  }
}

TYPED_TEST(Checkpoint, lets_training_go_on_in_another_grid_as_if_it_had_never_stopped) {
  const Folder folder;
  const std::string path = good_checkpoint<TypeParam>(folder, world_ranks(), 2);
  Session<TypeParam> whole(MPI_COMM_SELF, random_weights<TypeParam>(config_of(), 1), 1);
  whole.steps_up_to(4);
  for (const std::int64_t accumulate : {1, 4}) {
    Session<TypeParam> rest(MPI_COMM_WORLD, path, accumulate);
    rest.steps_up_to(4);
    expect_same(rest.trainer, whole.trainer);
  }
}

TYPED_TEST(Checkpoint, has_the_same_bytes_whatever_ranks_have_written_it) {
  const Folder folder;
  const std::string alone = read_bytes(good_checkpoint<TypeParam>(folder, 1, 1));
  MPI_Barrier(MPI_COMM_WORLD);
  EXPECT_TRUE(read_bytes(good_checkpoint<TypeParam>(folder, world_ranks(), 4)) == alone);
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"c.h5"});
}

TEST(Checkpoint, of_double_goes_on_in_float_with_what_is_rounded) {
  const Folder folder;
  const std::string path = good_checkpoint<double>(folder);
  Session<double> exact(MPI_COMM_WORLD, path, 1);
  Session<float> rounded(MPI_COMM_WORLD, path, 1);
  const std::vector<double> squares = of_all_ranks(exact.trainer, &OwnedWeights<double>::second_moments);
  EXPECT_EQ(of_all_ranks(rounded.trainer, &OwnedWeights<float>::second_moments),
            std::vector<float>(squares.begin(), squares.end()));
}

TEST(Checkpoint, may_be_stored_in_chunks_compressed_and_of_either_byte_order) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder);
  edit(path, [](hid_t file) {
    remove(file, query_mean);
    make_dataset(file, query_mean, {36, 36}, H5T_IEEE_F64BE, 0.5, {.chunk = {5, 36}, .deflate = true});
    set_number(file, query_mean, {17, 3}, -2);
  });
  Session<float> run(MPI_COMM_WORLD, path, 1);
  const auto found = of_all_ranks(run.trainer, &OwnedWeights<float>::first_moments);
  const std::int64_t begin = run.trainer.weights().offset(query);
  std::vector<float> expected(36 * 36, 0.5F);
  expected[17 * 36 + 3] = -2;
  EXPECT_EQ(rows_of(found, 1, begin, 36 * 36), expected);
}

// ---- The record -----------------------------------------------------------------------------------------------------

/// As it comes back: with the library's version.
TrainingRecord written(TrainingRecord record) {
  record.attributes["version"] = version();
  return record;
}

class Record : public ::testing::Test {
 protected:
  std::string write(const TrainingRecord& record) {
    m_run.trainer.resume(record.step);
    const std::string path = m_folder / "c.h5";
    write_checkpoint(path, m_run.trainer, record);
    return path;
  }
  std::string refusal(const TrainingRecord& record) {
    const std::string path = m_folder / "c.h5", message = message_of<OutputError>([&] { write(record); });
    EXPECT_TRUE(files_in(m_folder).empty());
    return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
  }

  Folder m_folder;
  Session<float> m_run{MPI_COMM_WORLD, random_weights<float>(config_of(), 1), 1};
};

TEST_F(Record, is_read_as_it_was_written_by_all_ranks) {
  const TrainingRecord record = record_at(3);
  expect_same(read_training_record(write(record), MPI_COMM_WORLD), written(record));
}

TEST_F(Record, may_have_no_log_and_no_attributes) {
  expect_same(read_training_record(write({}), MPI_COMM_WORLD), written({}));
}

TEST_F(Record, may_have_a_log_with_gaps_and_with_steps_that_were_not_taken) {
  TrainingRecord record = record_at(9);
  record.log.erase(record.log.begin() + 2, record.log.begin() + 5);
  record.log[1].loss = not_a_number;
  record.log[2].loss = -infinity;
  record.log[2].gradient_norm = infinity;
  expect_same(read_training_record(write(record), MPI_COMM_WORLD), written(record));
}

TEST_F(Record, has_the_version_that_has_written_it_last) {
  TrainingRecord record = record_at(2);
  record.attributes["version"] = "0.0.1";
  expect_same(read_training_record(write(record), MPI_COMM_WORLD), written(record));
}

TEST_F(Record, that_could_not_be_read_is_not_written) {
  TrainingRecord record = record_at(3);
  record.log[1].step = 1;
  EXPECT_EQ(refusal(record), "/training/log/step [1] is 1, must be from 2 to 3");
  record = record_at(3);
  record.log[2].learning_rate = infinity;
  EXPECT_EQ(refusal(record), "/training/log/learning_rate [2] is inf, must be finite and not negative");
  record = record_at(3);
  record.tokens_seen = -1;
  EXPECT_EQ(refusal(record), "/training: attribute tokens_seen is -1, must not be negative");
  record = record_at(3);
  record.attributes["step"] = std::int64_t{3};
  EXPECT_EQ(refusal(record), "attribute step is given twice");
}

TEST_F(Record, of_another_step_than_the_trainers_is_not_written) {
  EXPECT_EQ(message_of<ConfigError>([&] { write_checkpoint(m_folder / "c.h5", m_run.trainer, record_at(1)); }),
            "the record of a checkpoint is of step 1, the trainer is at step 0");
  EXPECT_TRUE(files_in(m_folder).empty());
}

// ---- Checkpoints are model files ------------------------------------------------------------------------------------

TEST(Checkpoint, is_a_model_file) {
  const Folder folder;
  const std::string path = good_checkpoint<float>(folder, world_ranks());
  Session<float> run(MPI_COMM_SELF, random_weights<float>(config_of(), 1), 1);
  run.steps_up_to(2);
  EXPECT_EQ(read_config(path, MPI_COMM_WORLD).head, Head::separate);
  const Weights<float> weights = read_weights<float>(path, MPI_COMM_WORLD);
  EXPECT_TRUE(same_bits(to_host(weights.data()), to_host(run.trainer.weights().data()), 1));
}

TEST(Checkpoint, is_a_model_file_whatever_is_wrong_with_its_training) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder);
  edit(path, [](hid_t file) {
    remove(file, "/training");
    H5Lcreate_external("other.h5", "/x", file, "/training", H5P_DEFAULT, H5P_DEFAULT);
  });
  EXPECT_NO_THROW(read_weights<float>(path, MPI_COMM_WORLD));
}

TEST(Checkpoint, must_hold_what_its_weights_claim_like_any_model_file) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder), weight = std::string("/weights/") + query;
  edit(path, [&](hid_t file) {
    remove(file, weight);
    make_dataset(file, weight, {36, 36}, H5T_IEEE_F32LE, 0, {.no_numbers = true});
  });
  const std::string message = path + ": " + weight + " is [36, 36], 5184 bytes, of which the file holds none";
  EXPECT_EQ(message_of<FileError>([&] { read_weights<float>(path, MPI_COMM_WORLD); }), message);
  EXPECT_EQ(message_of<FileError>([&] { read_training_record(path, MPI_COMM_WORLD); }), message);
}

TEST(Checkpoint, is_not_what_a_model_file_is) {
  const Folder folder;
  const std::string path = folder / "model.h5";
  on_rank_0([&] { write_model(path, random_weights<float>(config_of(), 1)); });
  const auto read = [&] { read_training_record(path, MPI_COMM_WORLD); };
  EXPECT_EQ(message_of<FileError>(read), path + ": is a model file without /training, so it is not a checkpoint");
  EXPECT_EQ(hint_of<FileError>(read),
            "bsbr_train --resume takes checkpoints, which it has written; --model takes any model file");
}

// ---- What cannot be written -----------------------------------------------------------------------------------------

TEST(Checkpoint, that_does_not_fit_leaves_the_old_one_and_nothing_else) {
  const Folder folder;
  const std::string path = good_checkpoint<double>(folder, world_ranks()), old = read_bytes(path);
  Session<double> run(MPI_COMM_WORLD, path, 1);
  run.steps_up_to(3);
  {
    const FileSizeLimit limit(1 << 18);
    const std::string message = message_of<OutputError>([&] { write_checkpoint(path, run.trainer, record_at(3)); });
    EXPECT_TRUE(message.starts_with(path + ": needs ")) << message;
    EXPECT_TRUE(message.ends_with(": larger than a file may be here")) << message;
  }
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"c.h5"});
  EXPECT_TRUE(read_bytes(path) == old);
}

TEST(Checkpoint, that_one_rank_cannot_write_leaves_the_old_one_and_nothing_else) {
  if (ranks() == 1) GTEST_SKIP() << "needs several ranks";
  const Folder folder;
  const std::string path = good_checkpoint<double>(folder, world_ranks()), old = read_bytes(path);
  Session<double> run(MPI_COMM_WORLD, path, 1);
  run.steps_up_to(3);
  std::optional<FileSizeLimit> limit;
  if (rank() == 1) limit.emplace(1 << 18);
  EXPECT_EQ(message_of<OutputError>([&] { write_checkpoint(path, run.trainer, record_at(3)); }),
            path + ": cannot be written by rank 1: File too large");
  limit.reset();
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"c.h5"});
  EXPECT_TRUE(read_bytes(path) == old);
}

TEST(Checkpoint, takes_the_place_of_what_a_killed_run_has_left) {
  const Folder folder;
  write_bytes(folder / "c.h5.part", "half of one");
  const std::string path = good_checkpoint<float>(folder, world_ranks());
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"c.h5"});
  expect_same(read_training_record(path, MPI_COMM_WORLD), written(record_at(2)));
}

// ---- Bad ones -------------------------------------------------------------------------------------------------------

/// What is said of a checkpoint from which training should go on.
std::string refusal(const std::string& path) {
  const std::string message = message_of<FileError>([&] { Session<float>(MPI_COMM_WORLD, path, 1); });
  return message.starts_with(path + ": ") ? message.substr(path.size() + 2) : message;
}

struct BadContent {
  const char* name;
  std::function<void(hid_t)> edit;
  std::string message;
};

class BadCheckpoint : public ::testing::TestWithParam<BadContent> {};

TEST_P(BadCheckpoint, is_refused_with_the_thing_its_value_and_the_rule) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder);
  edit(path, GetParam().edit);
  EXPECT_EQ(refusal(path), GetParam().message);
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

BadContent without(const char* name, const std::string& path, const std::string& message) {
  return {name, [=](hid_t file) { remove(file, path); }, message};
}

BadContent number(const char* name, const std::string& path, const std::vector<hsize_t>& place, double value,
                  const std::string& message) {
  return {name, [=](hid_t file) { set_number(file, path, place, value); }, path + ' ' + message};
}

/// A dataset made anew.
BadContent dataset(const char* name, const std::string& path, const std::function<void(hid_t)>& make,
                   const std::string& message) {
  return {name,
          [=](hid_t file) {
            remove(file, path);
            make(file);
          },
          path + ' ' + message};
}

/// Attributes of /training.
BadContent attributes(const char* name, const std::function<void(hid_t)>& change, const std::string& message) {
  return {name,
          [=](hid_t file) {
            const hid_t group = H5Gopen2(file, "/training", H5P_DEFAULT);
            change(group);
            H5Gclose(group);
          },
          message};
}

const std::string log_step = "/training/log/step", log_loss = "/training/log/loss";

INSTANTIATE_TEST_SUITE_P(
    Moments, BadCheckpoint,
    ::testing::Values(
        without("no_training", "/training", "is a model file without /training, so it is not a checkpoint"),
        without("no_first_moments", "/training/first_moment", "/training/first_moment is missing"),
        without("no_second_moments", "/training/second_moment", "/training/second_moment is missing"),
        without("a_missing_moment", query_mean,
                std::string(query_mean) + " is missing, the configuration needs it as [36, 36]"),
        without("a_missing_weight", "/weights/layer_norm.bias",
                "/weights/layer_norm.bias is missing, the configuration needs it as [36]"),
        BadContent{
            "a_surplus_moment",
            [](hid_t file) { make_dataset(file, "/training/second_moment/layers.7.ff.0.bias", {8}, H5T_IEEE_F32LE); },
            "/training/second_moment/layers.7.ff.0.bias is not a weight of this configuration"},
        dataset(
            "a_moment_of_another_shape", query_square,
            [](hid_t file) {
              make_dataset(file, query_square, {36, 35}, H5T_IEEE_F32LE);
            },
            "is [36, 35], the configuration needs [36, 36]"),
        dataset(
            "moments_that_are_integers", query_square,
            [](hid_t file) {
              make_dataset(file, query_square, {36, 36}, H5T_STD_I32LE);
            },
            "holds 32-bit integers, moments of squares are float32 or float64"),
        dataset(
            "moments_that_were_never_written", query_mean,
            [](hid_t file) {
              make_dataset(file, query_mean, {36, 36}, H5T_IEEE_F32LE, 0, {.no_numbers = true});
            },
            "is [36, 36], 5184 bytes, of which the file holds none"),
        dataset(
            "moments_that_are_elsewhere", query_mean,
            [](hid_t file) { H5Lcreate_external("o.h5", "/x", file, query_mean, H5P_DEFAULT, H5P_DEFAULT); },
            "is an external link, and links are not followed"),
        dataset(
            "a_moment_too_large_for_float", query_mean,
            [](hid_t file) {
              make_dataset(file, query_mean, {36, 36}, H5T_IEEE_F64LE, 1e300);
            },
            "[0, 0] is 1e+300, too large for float"),
        number("a_moment_that_is_not_a_number", query_mean, {35, 35}, not_a_number,
               "[35, 35] is nan, moments are finite numbers"),
        number("an_infinite_moment", query_square, {20, 3}, infinity,
               "[20, 3] is inf, moments of squares are finite numbers"),
        number("a_negative_square", query_square, {1, 2}, -0.5, "[1, 2] is -0.5, moments of squares are not negative")),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Record, BadCheckpoint,
    ::testing::Values(
        attributes(
            "no_step", [](hid_t group) { remove_attribute(group, "step"); }, "/training: attribute step is missing"),
        attributes(
            "no_tokens", [](hid_t group) { remove_attribute(group, "tokens_seen"); },
            "/training: attribute tokens_seen is missing"),
        attributes(
            "half_a_step", [](hid_t group) { set_attribute(group, "step", 1.5); },
            "/training: attribute step is 1.5, which is not a whole number"),
        attributes(
            "a_step_that_is_text", [](hid_t group) { set_attribute(group, "step", "two"); },
            "/training: attribute step is \"two\", which is not a whole number"),
        attributes(
            "a_negative_step", [](hid_t group) { set_attribute(group, "step", std::int64_t{-2}); },
            "/training: attribute step is -2, must not be negative"),
        attributes(
            "negative_tokens", [](hid_t group) { set_attribute(group, "tokens_seen", std::int64_t{-1}); },
            "/training: attribute tokens_seen is -1, must not be negative"),
        attributes(
            "a_step_before_the_end_of_the_log", [](hid_t group) { set_attribute(group, "step", std::int64_t{1}); },
            "/training/log/step [1] is 2, must be from 2 to 1"),
        attributes(
            "an_attribute_that_is_a_table",
            [](hid_t group) {
              const hsize_t shape[] = {2, 2};
              const hid_t space = H5Screate_simple(2, shape, nullptr);
              H5Aclose(H5Acreate2(group, "ta\nble", H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT));
              H5Sclose(space);
            },
            "attribute ta\\nble holds 4 values, not one"),
        attributes(
            "more_attributes_than_anyone_needs",
            [](hid_t group) {
              for (std::int64_t i = 0; i < 1001; ++i) set_attribute(group, "a" + std::to_string(i), i);
            },
            "there are more than 1000 attributes in one place"),
        dataset(
            "a_training_that_is_a_dataset", "/training",
            [](hid_t file) { make_dataset(file, "/training", {3}, H5T_IEEE_F32LE); }, "is not a group"),
        without("no_log", "/training/log", "/training/log/step is missing"),
        without("a_missing_column", "/training/log/validation_loss", "/training/log/validation_loss is missing"),
        dataset(
            "a_column_of_another_type", log_step, [](hid_t file) { make_dataset(file, log_step, {2}, H5T_IEEE_F64LE); },
            "holds 64-bit floating-point numbers, must hold integers"),
        dataset(
            "losses_that_are_integers", log_loss, [](hid_t file) { make_dataset(file, log_loss, {2}, H5T_STD_I64LE); },
            "holds 64-bit integers, must hold float32 or float64"),
        dataset(
            "a_column_that_is_longer", log_loss, [](hid_t file) { make_dataset(file, log_loss, {3}, H5T_IEEE_F64LE); },
            "is [3], columns before it are [2]"),
        BadContent{"columns_that_are_longer_than_none",
                   [](hid_t file) {
                     remove(file, log_step);
                     make_dataset(file, log_step, {0}, H5T_STD_I64LE);
                   },
                   log_loss + " is [2], columns before it are [0]"},
        dataset(
            "a_column_that_is_a_table", log_loss,
            [](hid_t file) {
              make_dataset(file, log_loss, {2, 1}, H5T_IEEE_F64LE);
            },
            "is [2, 1], must have one dimension"),
        dataset(
            "an_enormous_log", log_step,
            [](hid_t file) {
              make_dataset(file, log_step, {1ULL << 40}, H5T_STD_I64LE, 0,
                           {.chunk = {1024}, .deflate = true, .no_numbers = true});
            },
            "is [1099511627776], 8796093022208 bytes (8192.0 GiB), of which the file holds none"),
        number("a_step_twice", log_step, {1}, 1, "[1] is 1, must be from 2 to 2"),
        number("a_step_that_is_to_come", log_step, {1}, 3, "[1] is 3, must be from 2 to 2"),
        number("step_zero", log_step, {0}, 0, "[0] is 0, must be from 1 to 2"),
        number("a_negative_norm", "/training/log/gradient_norm", {1}, -1, "[1] is -1, must not be negative"),
        number("a_rate_that_is_not_a_number", "/training/log/learning_rate", {0}, not_a_number,
               "[0] is nan, must be finite and not negative")),
    [](const auto& test) { return std::string(test.param.name); });

TEST(Checkpoint, of_another_model_is_refused) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder);
  const TrainingRecord record = read_training_record(path, MPI_COMM_WORLD);
  ModelConfig wider = config_of();
  wider.ff_dim = 72;
  Session<float> run(MPI_COMM_WORLD, random_weights<float>(wider, 1), 1);
  EXPECT_EQ(message_of<FileError>([&] { read_training_state(path, record, run.trainer); }),
            path + ": /training/first_moment/layers.0.ff.0.weight is [70, 36], the configuration needs [72, 36]");
  EXPECT_EQ(run.trainer.steps(), 0);
}

TEST(Checkpoint, that_is_no_longer_the_one_of_the_record_is_refused) {
  const Folder folder;
  const std::string path = untrained_checkpoint(folder);
  Session<float> run(MPI_COMM_WORLD, path, 1);
  EXPECT_EQ(message_of<FileError>([&] { read_training_state(path, record_at(5), run.trainer); }),
            path + ": is at step 2, its record is of step 5");
}

TEST(Checkpoint, that_one_rank_does_not_see_is_refused) {
  if (ranks() == 1) GTEST_SKIP() << "needs several ranks";
  const Folder folder;
  const std::string path = untrained_checkpoint(folder), mine = rank() == 1 ? folder / "absent.h5" : path;
  Session<float> run(MPI_COMM_WORLD, path, 1);
  const auto read = [&] { read_training_state(mine, record_at(2), run.trainer); };
  EXPECT_EQ(message_of<FileError>(read), folder / "absent.h5: there is no such file, as rank 1 sees it");
}

TEST(Checkpoint, damage_anywhere_in_the_structure_is_an_error_or_harmless) {
  const Folder folder;
  const std::string whole = read_bytes(untrained_checkpoint(folder)), path = folder / "damaged.h5";
  for (std::size_t at = 0; at < 100000; at += 1009) {
    MPI_Barrier(MPI_COMM_WORLD);
    std::string damaged = whole;
    for (std::size_t i = at; i < at + 8; ++i) damaged[i] = static_cast<char>(~damaged[i]);
    write_bytes(path, damaged);
    try {
      read_training_record(path, MPI_COMM_WORLD);
    } catch (const FileError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(path + ": ")) << error.what();
    }
  }
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

}  // namespace
}  // namespace bsbr::testing
