// What training and validation read: the windows of the order, each rank its part, whatever is read ahead.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bsbr/error.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/training_data.hpp"
#include "config/splitmix64.hpp"
#include "files.hpp"
#include "io/step_reader.hpp"
#include "io/token_blocks.hpp"
#include "io/token_scan.hpp"
#include "support/device_arrays.hpp"
#include "training/window_order.hpp"

namespace bsbr::testing {
namespace {

using Numbers = std::vector<std::int64_t>;

constexpr std::int64_t length = 13, vocab_size = 120;
constexpr std::int64_t chunk_size = 3, one_chunk = 100;  // with the latter only one rank of a group has tokens

// ---- The twin: plain lists --------------------------------------------------------------------------------------

/// One sequence as a whole; without a mask none.
struct Example {
  Numbers ids, targets, mask;
};

/// The ids of a source, [rows, length of a row], and their mask; of one dimension: a single row.
struct Source {
  Numbers ids, mask;
  std::int64_t rows = 1, dimensions = 1;

  std::int64_t row_length() const { return static_cast<std::int64_t>(ids.size()) / rows; }

  /// The sequence of length tokens that begins with an id.
  Example example(std::int64_t first) const {
    const std::int64_t end = dimensions == 1 ? row_length() : (first / row_length() + 1) * row_length();
    const auto is_real = [&](std::int64_t t) { return mask.empty() || mask[static_cast<std::size_t>(t)] == 1; };
    Example one;
    for (std::int64_t t = first; t < first + length; ++t) {
      const bool counts = t + 1 < end && is_real(t) && is_real(t + 1);
      one.ids.push_back(ids[static_cast<std::size_t>(t)]);
      one.targets.push_back(counts ? ids[static_cast<std::size_t>(t + 1)] : no_target);
      if (!mask.empty()) one.mask.push_back(is_real(t) ? 1 : 0);
    }
    return one;
  }
};

/// Where the sequences of some epochs begin, one epoch after the other.
Numbers begins_of(const Source& source, const DataOrder& order, std::uint64_t epochs) {
  Numbers begins;
  for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
    const std::uint64_t key = splitmix64(order.seed, epoch);
    Numbers of_epoch;
    const std::int64_t offset = source.dimensions == 1 ? static_cast<std::int64_t>(key % length) : 0;
    const std::int64_t last = source.row_length() * source.rows - length - (source.dimensions == 1 ? 1 : 0);
    for (std::int64_t first = offset; first <= last; first += length) of_epoch.push_back(first);
    const auto count = static_cast<std::int64_t>(of_epoch.size());
    for (std::int64_t i = 0; i < count; ++i) {
      begins.push_back(of_epoch[static_cast<std::size_t>(order.shuffle ? training::permuted(i, count, key) : i)]);
    }
  }
  return begins;
}

/// This rank's part of some sequences.
Numbers local_part(const TrainingGrid& grid, const std::vector<Example>& step, std::int64_t number,
                   Numbers Example::*member) {
  const Sequence& sequence = grid.sequence();
  Numbers part;
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const auto at = static_cast<std::size_t>(number * grid.shape().batch + grid.first_row() + row);
    const auto begin = (step[at].*member).begin() + sequence.offset();
    part.insert(part.end(), begin, begin + sequence.local_tokens());
  }
  return part;
}

template <class View>
Numbers numbers_of(const View& array) {
  const auto values = to_host(array);
  return {values.begin(), values.end()};
}

/// The micro-batches are this rank's part of the sequences of a step.
void expect_step(const std::vector<MicroBatch>& batches, const TrainingGrid& grid, const std::vector<Example>& step) {
  ASSERT_EQ(static_cast<std::int64_t>(batches.size()), grid.shape().accumulate);
  for (std::size_t number = 0; number < batches.size(); ++number) {
    const MicroBatch& batch = batches[number];
    const auto part = [&](Numbers Example::*member) {
      return local_part(grid, step, static_cast<std::int64_t>(number), member);
    };
    EXPECT_EQ(static_cast<std::int64_t>(batch.ids.extent(0)), grid.sequence().batch());
    EXPECT_EQ(static_cast<std::int64_t>(batch.ids.extent(1)), grid.sequence().local_tokens());
    EXPECT_EQ(numbers_of(batch.ids), part(&Example::ids));
    EXPECT_EQ(numbers_of(batch.targets), part(&Example::targets));
    ASSERT_EQ(batch.mask.has_value(), !step[0].mask.empty());
    if (batch.mask) {
      EXPECT_EQ(numbers_of(*batch.mask), part(&Example::mask));
    }
  }
}

/// All grids of the ranks with so many sequences in a step, cut into micro-batches in all ways.
std::vector<TrainingGrid> grids(std::int64_t sequences) {
  std::vector<TrainingGrid> all;
  for (std::int64_t accumulate = 1; accumulate <= sequences; ++accumulate) {
    for (int sequence_ranks = 1; sequence_ranks <= ranks(); ++sequence_ranks) {
      if (sequences % accumulate != 0 || ranks() % sequence_ranks != 0) continue;
      if (sequences / accumulate % (ranks() / sequence_ranks) != 0) continue;
      const StepShape shape{length, sequences / accumulate, accumulate, sequence_ranks};
      all.emplace_back(MPI_COMM_WORLD, shape, chunk_size);
      if (sequence_ranks > 1 && accumulate == 1) all.emplace_back(MPI_COMM_WORLD, shape, one_chunk);
    }
  }
  return all;
}

/// Steps of all grids are those of the twin: 1, 2, … and then some in any order.
void expect_training(const TokenSource& file, const Source& source, const DataOrder& order, std::int64_t sequences) {
  const Numbers begins = begins_of(source, order, 4);
  const auto expected = [&](std::int64_t step) {
    std::vector<Example> examples;
    for (std::int64_t i = (step - 1) * sequences; i < step * sequences; ++i)
      examples.push_back(source.example(begins[static_cast<std::size_t>(i)]));
    return examples;
  };
  const std::int64_t steps = static_cast<std::int64_t>(begins.size()) / sequences;
  for (const TrainingGrid& grid : grids(sequences)) {
    SCOPED_TRACE(std::to_string(grid.groups()) + " groups, accumulate " + std::to_string(grid.shape().accumulate));
    TrainingData data(file, grid, vocab_size, order);
    for (std::int64_t step = 1; step <= steps; ++step) expect_step(data.step(step), grid, expected(step));
    for (const std::int64_t step : {steps, std::int64_t{2}, std::int64_t{2}})
      expect_step(data.step(step), grid, expected(step));
    TrainingData resumed(file, grid, vocab_size, order);
    expect_step(resumed.step(steps - 1), grid, expected(steps - 1));
  }
}

// ---- Sources ----------------------------------------------------------------------------------------------------

Numbers some_ids(std::int64_t count, std::uint64_t seed = 1) {
  Numbers ids;
  for (std::int64_t i = 0; i < count; ++i)
    ids.push_back(static_cast<std::int64_t>(splitmix64(seed, static_cast<std::uint64_t>(i)) % vocab_size));
  return ids;
}

Source rows_with_padding(std::int64_t rows) {
  Source source{some_ids(rows * length), Numbers(static_cast<std::size_t>(rows * length), 1), rows, 2};
  for (std::int64_t row = 0; row < rows; ++row) {  // at the end of one row, at the beginning of the next, with a hole
    for (std::int64_t t = 0; t < row % length; ++t)
      source.mask[static_cast<std::size_t>(row * length + (row % 2 == 0 ? t : length - 1 - t))] = 0;
    if (row % 3 == 0) source.mask[static_cast<std::size_t>(row * length + length / 2)] = 0;
  }
  return source;
}

TokenSource byte_file(const Folder& folder, const Numbers& ids) {
  write_bytes(folder / "ids.bin", std::string(ids.begin(), ids.end()));
  return {folder / "ids.bin", {}, true};
}

TokenSource hdf5_file(const Folder& folder, const Source& source, hid_t type = H5T_STD_I32LE) {
  std::vector<hsize_t> shape{static_cast<hsize_t>(source.row_length())};
  if (source.dimensions == 2) shape.insert(shape.begin(), static_cast<hsize_t>(source.rows));
  edit(folder / "ids.h5", [&](hid_t file) {
    make_integers(file, "/input_ids", shape, type, source.ids);
    if (!source.mask.empty()) make_integers(file, "/attention_mask", shape, H5T_STD_U8LE, source.mask);
  });
  return {folder / "ids.h5", {}};
}

TokenSource npy_file(const Folder& folder, const Source& source) {
  const std::string shape = source.dimensions == 1
                                ? "(" + std::to_string(source.row_length()) + ",)"
                                : "(" + std::to_string(source.rows) + ", " + std::to_string(source.row_length()) + ")";
  const std::string header = "{'descr': '<u2', 'fortran_order': False, 'shape': " + shape + ", }\n";
  std::string bytes = std::string("\x93NUMPY\x01\0", 8) + static_cast<char>(header.size()) + '\0' + header;
  for (const std::int64_t id : source.ids) bytes += {static_cast<char>(id), '\0'};
  write_bytes(folder / "ids.npy", bytes);
  return {folder / "ids.npy", {}};
}

TrainingGrid grid_of(std::int64_t batch, std::int64_t tokens = length) {
  return TrainingGrid(MPI_COMM_WORLD, {.length = tokens, .batch = batch}, chunk_size);
}

// ---- Training ---------------------------------------------------------------------------------------------------

TEST(TrainingData, of_bytes_are_the_windows_of_each_epoch_in_the_order_of_the_seed) {
  const Folder folder;
  const Source source{some_ids(100), {}};
  const TokenSource file = byte_file(folder, source.ids);
  expect_training(file, source, {.seed = 3}, 4);
}

TEST(TrainingData, without_shuffling_are_in_the_order_of_the_file) {
  const Folder folder;
  const Source source{some_ids(90), {}};
  const DataOrder order{.seed = 5, .shuffle = false};
  const Numbers begins = begins_of(source, order, 1);
  EXPECT_TRUE(std::is_sorted(begins.begin(), begins.end()));
  expect_training(byte_file(folder, source.ids), source, order, 6);
}

TEST(TrainingData, may_be_integers_of_any_type) {
  for (const hid_t type : {H5T_STD_I8LE, H5T_STD_U16BE, H5T_STD_I32LE, H5T_STD_U64LE}) {
    const Folder folder;
    const Source source{some_ids(61), {}};
    expect_training(hdf5_file(folder, source, type), source, {.seed = 1}, 2);
  }
  const Folder folder;
  const Source source{some_ids(61), {}}, rows{some_ids(5 * length), {}, 5, 2};
  expect_training(npy_file(folder, source), source, {.seed = 1}, 2);
  expect_training(npy_file(folder, rows), rows, {.seed = 1}, 2);
}

TEST(TrainingData, of_two_dimensions_are_rows_whose_padding_has_no_targets) {
  const Folder folder;
  const Source source = rows_with_padding(9);
  const TokenSource file = hdf5_file(folder, source);
  expect_training(file, source, {.seed = 2}, 4);
  expect_training(file, source, {.seed = 2, .shuffle = false}, 4);
  const TrainingGrid grid = grid_of(ranks());
  EXPECT_EQ(TrainingData(file, grid, vocab_size, {}).windows_in_epoch(3), 9);
}

TEST(TrainingData, of_a_stream_with_a_mask_has_windows_of_both) {
  const Folder folder;
  Source source{some_ids(70), Numbers(70, 1)};
  for (const std::size_t padding : {0, 12, 13, 14, 30, 69}) source.mask[padding] = 0;
  expect_training(hdf5_file(folder, source), source, {.seed = 6}, 2);
}

TEST(TrainingData, has_only_the_one_row_of_a_dataset_of_two_dimensions_with_one) {
  const Folder folder;
  const Source source{some_ids(length), {}, 1, 2};
  expect_training(hdf5_file(folder, source), source, {}, 2);
}

TEST(TrainingData, of_other_seeds_differ) {
  const Folder folder;
  const TokenSource file = byte_file(folder, some_ids(5000));
  const TrainingGrid grid = grid_of(ranks());
  const auto first_ids = [&](std::uint64_t seed) {
    return numbers_of(TrainingData(file, grid, vocab_size, {.seed = seed}).step(1)[0].ids);
  };
  EXPECT_EQ(first_ids(1), first_ids(1));
  if (grid.sequence().local_tokens() > 0) {
    EXPECT_NE(first_ids(1), first_ids(2));
  } else {
    first_ids(2);
  }
}

TEST(TrainingData, counts_the_windows_of_an_epoch) {
  const Folder folder;
  const TrainingGrid grid = grid_of(ranks());
  const TrainingData data(byte_file(folder, some_ids(100)), grid, vocab_size, {.seed = 7});
  for (std::uint64_t epoch = 0; epoch < 5; ++epoch) {
    const auto offset = static_cast<std::int64_t>(splitmix64(7, epoch) % length);
    EXPECT_EQ(data.windows_in_epoch(static_cast<std::int64_t>(epoch)), (99 - offset) / length);
  }
  EXPECT_EQ(data.shape().length, 100);
  EXPECT_EQ(data.shape().dimensions, 1);
}

// ---- Reading ahead ----------------------------------------------------------------------------------------------

/// A file whose end is cut off once the next step has been read: that step is there, and the one behind it is missed by
/// all ranks.
TEST(TrainingData, read_the_next_step_ahead_and_report_what_goes_wrong_in_the_step_of_its_own) {
  const Folder folder;
  const Source source{some_ids(400), {}};
  const TokenSource file = byte_file(folder, source.ids);
  const DataOrder order{.shuffle = false};
  const Numbers begins = begins_of(source, order, 1);
  const TrainingGrid grid = grid_of(ranks());
  TrainingData data(file, grid, vocab_size, order);
  const auto expected = [&](std::int64_t step) {
    std::vector<Example> examples;
    for (std::int64_t i = (step - 1) * ranks(); i < step * ranks(); ++i)
      examples.push_back(source.example(begins[static_cast<std::size_t>(i)]));
    return examples;
  };
  expect_step(data.step(1), grid, expected(1));
  data.wait();
  MPI_Barrier(MPI_COMM_WORLD);
  on_rank_0([&] { std::filesystem::resize_file(file.path, 3); });
  expect_step(data.step(2), grid, expected(2));
  for (int again = 0; again < 2; ++again) {
    const std::string message = message_of<FileError>([&] { data.step(3); });
    EXPECT_NE(message.find("has become shorter while it was read"), std::string::npos) << message;
  }
  write_bytes(file.path, std::string(source.ids.begin(), source.ids.end()));
  expect_step(data.step(3), grid, expected(3));
}

/// HDF5 is used in threads of two sources and in the caller's, which is safe as the one locks and the other waits.
TEST(TrainingData, and_validation_take_turns_with_what_else_uses_hdf5) {
  const Folder folder, other;
  const Source source{some_ids(300), {}}, rows = rows_with_padding(7);
  const TokenSource file = hdf5_file(folder, source), rows_file = hdf5_file(other, rows);
  const TrainingGrid grid = grid_of(ranks());
  const bool printed = hdf5_prints_errors();
  {
    auto data = std::make_unique<TrainingData>(file, grid, vocab_size, DataOrder{.shuffle = false});
    const Numbers begins = begins_of(source, {.shuffle = false}, 2);
    auto validation = std::make_unique<ValidationData>(rows_file, grid, vocab_size);
    for (std::int64_t step = 1; step <= 20 / ranks(); ++step) {
      std::vector<Example> examples, of_validation;
      for (std::int64_t i = (step - 1) * ranks(); i < step * ranks(); ++i)
        examples.push_back(source.example(begins[static_cast<std::size_t>(i)]));
      expect_step(data->step(step), grid, examples);
      for (int i = 0; i < ranks(); ++i) of_validation.push_back(rows.example(i * length));
      if (step % 2 == 0 && ranks() <= 7) expect_step(validation->step(1), grid, of_validation);
      if (step % 3 != 0) continue;
      data->wait();
      validation->wait();
      edit(folder / "other.h5",
           [&](hid_t h5) { make_integers(h5, "/at" + std::to_string(step), {1}, H5T_STD_I32LE, {1}); });
    }
    data.reset();  // in the order in which they were made
  }
  EXPECT_EQ(hdf5_prints_errors(), printed);
}

/// A stream too long for any memory: it counts what is read of it.
class EndlessReader : public io::TokenReader {
 public:
  explicit EndlessReader(std::int64_t& read) : m_read(read) {}
  TokenShape shape() const override { return {.batch = 1, .length = std::int64_t{1} << 50}; }
  std::string ids_name() const override { return "holds "; }
  void read_ids(const io::Block& block, std::int64_t* ids) const override {
    m_read += block.positions;
    for (std::int64_t i = 0; i < block.positions; ++i) ids[i] = id_at(block.position + i);
  }
  static std::int64_t id_at(std::int64_t position) {
    return static_cast<std::int64_t>(splitmix64(9, static_cast<std::uint64_t>(position)) % vocab_size);
  }

 private:
  std::int64_t& m_read;
};

TEST(StepReader, reads_its_own_tokens_and_the_one_behind_them) {
  const TrainingGrid grid = grid_of(ranks(), 40);
  const Sequence& sequence = grid.sequence();
  std::int64_t read = 0;
  const io::StepReader reader(std::make_unique<EndlessReader>(read), sequence, vocab_size);
  const std::int64_t local = sequence.local_tokens();
  const Numbers begins{5, (std::int64_t{1} << 49) + 3, 7};
  const io::StepPart part = reader.read({begins[0], begins[1], std::nullopt, begins[2]});
  EXPECT_EQ(read, local == 0 ? 0 : 3 * (local + 1));
  for (std::int64_t t = 0; t < local; ++t) {
    for (std::int64_t i = 0; i < 4; ++i) {
      const auto at = static_cast<std::size_t>(i * local + t);
      const std::int64_t position =
          begins[static_cast<std::size_t>(std::min<std::int64_t>(i, 2))] + sequence.offset() + t;
      EXPECT_EQ(part.ids[at], i == 2 ? 0 : EndlessReader::id_at(position));
      EXPECT_EQ(part.targets[at], i == 2 ? no_target : EndlessReader::id_at(position + 1));
    }
  }
}

TEST(StepReader, reads_long_sequences_in_pieces) {
  constexpr std::int64_t tokens = (std::int64_t{1} << 21) + 1;  // with the one behind them two pieces and two ids
  const Sequence sequence(MPI_COMM_SELF, 1, tokens, 1000);
  std::int64_t read = 0;
  const io::StepPart part =
      io::StepReader(std::make_unique<EndlessReader>(read), sequence, vocab_size).read({std::int64_t{77}});
  EXPECT_EQ(read, tokens + 1);
  std::int64_t wrong = 0;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const auto at = static_cast<std::size_t>(t);
    wrong += part.ids[at] != EndlessReader::id_at(77 + t) || part.targets[at] != EndlessReader::id_at(78 + t) ? 1 : 0;
  }
  EXPECT_EQ(wrong, 0);
}

TEST(TrainingData, of_a_file_larger_than_memory_is_read_by_windows) {
  const Folder folder;
  const std::string path = folder / "zeros";
  write_bytes(path, "0");
  on_rank_0([&] { std::filesystem::resize_file(path, std::uintmax_t{1} << 36); });
  const TrainingGrid grid = grid_of(ranks());
  const std::int64_t before = peak_memory();
  TrainingData data({path, {}, true}, grid, vocab_size, {.seed = 1});
  for (std::int64_t step = 1; step <= 5; ++step) {
    for (const std::int64_t id : numbers_of(data.step(step)[0].targets)) EXPECT_TRUE(id == 0 || id == '0');
  }
  EXPECT_LT(peak_memory() - before, std::int64_t{1} << 26);
}

// ---- Validation -------------------------------------------------------------------------------------------------

/// Sequences that fill up a step.
Example filling(const Source& source) {
  return {Numbers(length, 0), Numbers(length, no_target), Numbers(source.mask.empty() ? 0 : length, 1)};
}

/// The first `windows` windows of a source in order, and nothing that counts behind them.
void expect_validation(const TokenSource& file, const Source& source, std::int64_t tokens, std::int64_t windows) {
  constexpr std::int64_t sequences = 4;
  for (const TrainingGrid& grid : grids(sequences)) {
    ValidationData data(file, grid, vocab_size, tokens);
    EXPECT_EQ(data.steps(), (windows + sequences - 1) / sequences);
    for (const std::int64_t first_step : {1, 2}) {  // also from the second on
      for (std::int64_t step = first_step; step <= data.steps(); ++step) {
        std::vector<Example> examples;
        for (std::int64_t window = (step - 1) * sequences; window < step * sequences; ++window)
          examples.push_back(window < windows ? source.example(window * length) : filling(source));
        expect_step(data.step(step), grid, examples);
      }
    }
    EXPECT_THROW(data.step(0), Error);
    EXPECT_THROW(data.step(data.steps() + 1), Error);
  }
}

TEST(ValidationData, are_the_windows_of_the_file_in_order) {
  const Folder folder;
  for (const std::int64_t windows : {1, 3, 4, 9}) {
    const Source source{some_ids(windows * length + 1 + windows % 2 * (length - 1)), {}};
    expect_validation(byte_file(folder, source.ids), source, 0, windows);
  }
}

TEST(ValidationData, of_two_dimensions_are_rows) {
  const Folder folder;
  const Source source = rows_with_padding(9);
  const TokenSource file = hdf5_file(folder, source);
  expect_validation(file, source, 0, 9);
  expect_validation(file, source, 3 * length, 3);
}

TEST(ValidationData, are_as_many_whole_windows_as_have_so_many_tokens) {
  const Folder folder;
  const Source source{some_ids(9 * length + 5), {}};
  const TokenSource file = byte_file(folder, source.ids);
  expect_validation(file, source, 1, 1);
  expect_validation(file, source, 5 * length, 5);
  expect_validation(file, source, 5 * length + 1, 6);
  expect_validation(file, source, 1000 * length, 9);
  EXPECT_THROW(ValidationData(file, grid_of(ranks()), vocab_size, -1), ConfigError);
}

// ---- Bad files --------------------------------------------------------------------------------------------------

std::string refusal(const TokenSource& file, std::int64_t vocab = vocab_size) {
  const TrainingGrid grid = grid_of(ranks());
  const std::string message = message_of<FileError>([&] { TrainingData(file, grid, vocab, {}); });
  EXPECT_EQ(message_of<FileError>([&] { ValidationData(file, grid, vocab); }), message);
  return message;
}

TEST(BadTrainingData, are_refused_before_the_first_step) {
  const Folder folder;
  EXPECT_EQ(refusal({folder / "nothing", {}}), folder / "nothing: there is no such file");
  const TokenSource bytes = byte_file(folder, some_ids(length));
  EXPECT_EQ(refusal(bytes), bytes.path +
                                ": holds 13 ids, a window of length 13 takes 14, as the last token's target "
                                "is the id behind it");
  EXPECT_EQ(refusal({byte_file(folder, Numbers(50, 'a')).path, {}}),
            bytes.path + ": is read as bytes, one id from 0 to 255 each, but the model's vocab_size is 120");
  const TokenSource rows = hdf5_file(folder, {some_ids(6 * length), {}, 3, 2});
  EXPECT_EQ(refusal(rows),
            rows.path + ": holds ids [3, 26], and length is 13: in two dimensions each row is a sequence");
  EXPECT_FALSE(hint_of<FileError>([&] { TrainingData(rows, grid_of(ranks()), vocab_size, {}); }).empty());
  EXPECT_THROW(TrainingData(byte_file(folder, some_ids(50)), grid_of(ranks()), vocab_size, {}).step(0), Error);
}

TEST(BadTrainingData, are_named_with_the_place_of_the_first_on_all_ranks) {
  const Folder folder;
  Source source{some_ids(8 * length + 1), {}};
  source.ids[60] = -7;
  source.ids[66] = vocab_size;
  const TokenSource file = hdf5_file(folder, source);
  const TrainingGrid grid = grid_of(4 * ranks());
  const std::string rule = ", ids are 0 to 119";
  ValidationData data(file, grid, vocab_size);
  const std::int64_t step = 60 / length / (4 * ranks()) + 1;
  for (std::int64_t good = 1; good < step; ++good) data.step(good);
  EXPECT_EQ(message_of<FileError>([&] { data.step(step); }), file.path + ": /input_ids holds -7 at [0, 60]" + rule);

  Source last{some_ids(length + 1), {}};
  last.ids.back() = 127;  // no token but a target
  const TokenSource bytes = byte_file(folder, last.ids);
  EXPECT_EQ(message_of<FileError>([&] { ValidationData(bytes, grid, vocab_size).step(1); }),
            bytes.path + ": holds the byte 127 at [0, 13]" + rule);
}

TEST(BadTrainingData, have_masks_of_other_numbers) {
  const Folder folder;
  Source source = rows_with_padding(4);
  source.mask[2 * length + 6] = 2;
  const TokenSource file = hdf5_file(folder, source);
  EXPECT_EQ(message_of<FileError>([&] { TrainingData(file, grid_of(4 * ranks()), vocab_size, {}).step(1); }),
            file.path + ": /attention_mask holds 2 at [2, 6], a mask has 1 for a token and 0 for padding");
}

/// Also those that no window has.
TEST(BadTrainingData, are_found_anywhere_before_the_first_step) {
  const TrainingGrid grid = grid_of(ranks());
  constexpr std::int64_t ids = 2 * length + 9, windows = 2;
  for (const std::int64_t bad : {std::int64_t{0}, length + 1, windows * length, windows * length + 1, ids - 1}) {
    const Folder folder;
    Source source{some_ids(ids), {}};
    source.ids[static_cast<std::size_t>(bad)] = 999;
    const TokenSource file = hdf5_file(folder, source);
    const std::string message =
        file.path + ": /input_ids holds 999 at [0, " + std::to_string(bad) + "], ids are 0 to 119";
    const TrainingData data(file, grid, vocab_size, {});
    EXPECT_EQ(message_of<FileError>([&] { data.check(); }), message);
    const ValidationData validation(file, grid, vocab_size);
    if (bad <= windows * length) {
      EXPECT_EQ(message_of<FileError>([&] { validation.check(); }), message);
    } else {
      validation.check();
    }
    EXPECT_NO_THROW(TrainingData(file, grid, 1000, {}).check());
  }
}

TEST(BadTrainingData, have_masks_of_other_numbers_in_any_row) {
  const Folder folder;
  Source source = rows_with_padding(7);
  source.mask[5 * length + 2] = 5;
  const TokenSource file = hdf5_file(folder, source);
  const TrainingGrid grid = grid_of(ranks());
  EXPECT_EQ(message_of<FileError>([&] { TrainingData(file, grid, vocab_size, {}).check(); }),
            file.path + ": /attention_mask holds 5 at [5, 2], a mask has 1 for a token and 0 for padding");
  EXPECT_NO_THROW(ValidationData(file, grid, vocab_size, 5 * length).check());
}

TEST(BadTrainingData, have_nothing_to_be_predicted) {
  const Folder folder;
  Source source = rows_with_padding(4);
  std::fill(source.mask.begin(), source.mask.end(), 0);
  for (const std::size_t t : {0, 2, 12, 13}) source.mask[t] = 1;  // the latter of two rows
  const TokenSource file = hdf5_file(folder, source);
  const TrainingGrid grid = grid_of(ranks());
  const std::string message =
      file.path + ": none of the ids [4, 13] has a target, the id behind it in its row, with neither of them padding";
  EXPECT_EQ(message_of<FileError>([&] { TrainingData(file, grid, vocab_size, {}).check(); }), message);
  EXPECT_EQ(message_of<FileError>([&] { ValidationData(file, grid, vocab_size).check(); }), message);
}

/// Ids of which one is bad, and how many of them are read; of the mask two neighbours of different blocks are 1.
class ManyIds : public io::TokenReader {
 public:
  ManyIds(TokenShape shape, bool column_major, std::int64_t bad)
      : m_shape(std::move(shape)), m_column_major(column_major), m_bad(bad) {}
  TokenShape shape() const override { return m_shape; }
  std::string ids_name() const override { return "holds "; }
  bool is_column_major() const override { return m_column_major; }
  void read_ids(const io::Block& block, std::int64_t* ids) const override {
    read += block.rows * block.positions;
    for (std::int64_t i = 0; i < block.rows * block.positions; ++i) {
      const std::int64_t row = block.row + i / block.positions, position = block.position + i % block.positions;
      ids[i] = row * m_shape.length + position == m_bad ? vocab_size : vocab_size - 1;
    }
  }
  void read_mask(const io::Block& block, std::int64_t* mask) const override {
    for (std::int64_t t = 0; t < block.positions; ++t)
      mask[t] = block.position + t == io::ids_of_block - 1 || block.position + t == io::ids_of_block ? 1 : 0;
  }

  mutable std::int64_t read = 0;

 private:
  TokenShape m_shape;
  bool m_column_major;
  std::int64_t m_bad;
};

TEST(TokenScan, of_some_ranks_reads_everything_once) {
  constexpr std::int64_t many = io::ids_of_block + 3;
  for (const std::int64_t rows : {1, 3}) {
    for (const bool column_major : {false, true}) {
      const std::int64_t bad = (rows - 1) * many + many - 2;
      const ManyIds reader({.batch = rows, .length = many, .dimensions = 2, .type = "int32"}, column_major, bad);
      io::BadElement found;
      std::int64_t targets = 0;
      for (int rank = 0; rank < 3; ++rank) {
        const io::TokenScan scan = io::scan_tokens(reader, {0, rows, 0, many}, vocab_size, rank, 3);
        found.add(scan.bad_id.index, scan.bad_id.value);
        targets += scan.targets;
      }
      EXPECT_EQ(targets, rows * (many - 1));
      EXPECT_EQ(found.index, bad);
      EXPECT_EQ(found.value, vocab_size);
      EXPECT_EQ(reader.read, rows * many);
    }
  }
}

TEST(TokenScan, counts_targets_that_are_in_the_next_block) {
  constexpr std::int64_t many = io::ids_of_block + 3;
  const ManyIds reader({.batch = 1, .length = many, .has_mask = true, .type = "uint8"}, false, -1);
  for (int rank = 0; rank < 2; ++rank) {
    const io::TokenScan scan = io::scan_tokens(reader, {0, 1, 0, many}, 256, rank, 2);
    EXPECT_EQ(scan.targets, rank == 0 ? 1 : 0);
    EXPECT_EQ(scan.bad_mask.index, io::BadElement::none);
  }
}

TEST(TokenScan, reads_no_ids_whose_type_has_none_outside_the_vocabulary) {
  const auto reads = [](const char* type, std::int64_t vocabulary) {
    const ManyIds reader({.batch = 1, .length = 50, .type = type}, false, -1);
    io::scan_tokens(reader, {0, 1, 0, 50}, vocabulary, 0, 1);
    return reader.read > 0;
  };
  EXPECT_FALSE(reads("uint8", 256));
  EXPECT_TRUE(reads("uint8", 255));
  EXPECT_FALSE(reads("uint16", 65536));
  EXPECT_TRUE(reads("uint16", 65535));
  EXPECT_TRUE(reads("int8", 65536));
  EXPECT_TRUE(reads("uint32", 65536));
}

}  // namespace
}  // namespace bsbr::testing
