// Result files: what all ranks write together, and what is left when that fails.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "files.hpp"
#include "io/output_file.hpp"

namespace bsbr::testing {
namespace {

ModelConfig config_with(std::int64_t hidden_dim) {
  ModelConfig config;
  config.hidden_dim = hidden_dim;
  config.num_heads = 1;
  return config;
}

/// A number that tells its place.
double value_at(std::int64_t row, std::int64_t position, std::int64_t column) {
  return static_cast<double>(row * 10000 + position) + static_cast<double>(column) / 128;
}

template <class Real>
Array<const Real***> hidden_states(const Sequence& sequence, std::int64_t hidden_dim) {
  Array<Real***> values("hidden", sequence.batch(), sequence.local_tokens(), hidden_dim);
  const auto host = Kokkos::create_mirror_view(values);
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
      for (std::int64_t column = 0; column < hidden_dim; ++column) {
        host(row, i, column) = static_cast<Real>(value_at(row, sequence.first_token() + i, column));
      }
    }
  }
  Kokkos::deep_copy(values, host);
  return values;
}

template <class Real>
void write(const std::string& path, const Sequence& sequence, std::int64_t hidden_dim,
           const Attributes& attributes = {}) {
  write_result<Real>(path, config_with(hidden_dim), attributes, sequence, hidden_states<Real>(sequence, hidden_dim));
}

/// Reads the file with HDF5's own interface and compares every number.
template <class Real>
void expect_values(const std::string& path, const std::vector<hsize_t>& shape) {
  MPI_Barrier(MPI_COMM_WORLD);
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  ASSERT_GE(file, 0);
  const hid_t dataset = H5Dopen2(file, "/hidden_states", H5P_DEFAULT), space = H5Dget_space(dataset),
              type = H5Dget_type(dataset);
  std::vector<hsize_t> found(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, found.data(), nullptr);
  EXPECT_EQ(found, shape);
  EXPECT_EQ(H5Tget_size(type), sizeof(Real));
  EXPECT_EQ(H5Tget_class(type), H5T_FLOAT);
  std::vector<double> values(shape[0] * shape[1] * shape[2]);
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  std::int64_t different = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto column = static_cast<std::int64_t>(i % shape[2]), token = static_cast<std::int64_t>(i / shape[2]);
    const auto length = static_cast<std::int64_t>(shape[1]);
    if (values[i] != static_cast<double>(static_cast<Real>(value_at(token / length, token % length, column))))
      ++different;
  }
  EXPECT_EQ(different, 0);
  H5Tclose(type);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file);
}

std::int64_t integer_attribute(const std::string& path, const char* name) {
  std::int64_t value = -1;
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), attribute = H5Aopen(file, name, H5P_DEFAULT);
  H5Aread(attribute, H5T_NATIVE_INT64, &value);
  H5Aclose(attribute);
  H5Fclose(file);
  return value;
}

std::string text_attribute(const std::string& path, const char* name) {
  char* text = nullptr;
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), attribute = H5Aopen(file, name, H5P_DEFAULT);
  const hid_t type = H5Aget_type(attribute);
  H5Aread(attribute, type, &text);
  const std::string copy = text == nullptr ? "" : text;
  H5free_memory(text);
  H5Tclose(type);
  H5Aclose(attribute);
  H5Fclose(file);
  return copy;
}

// ---- What is written ------------------------------------------------------------------------------------------------

struct Shape {
  std::int64_t batch, length, hidden_dim, chunk;
};

class EveryShape : public ::testing::TestWithParam<Shape> {};

TEST_P(EveryShape, is_read_back_as_it_was_computed) {
  const auto [batch, length, hidden_dim, chunk] = GetParam();
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, batch, length, chunk);
  const std::vector<hsize_t> shape{static_cast<hsize_t>(batch), static_cast<hsize_t>(length),
                                   static_cast<hsize_t>(hidden_dim)};
  write<float>(folder / "float.h5", sequence, hidden_dim);
  expect_values<float>(folder / "float.h5", shape);
  write<double>(folder / "double.h5", sequence, hidden_dim);
  expect_values<double>(folder / "double.h5", shape);
  EXPECT_EQ(files_in(folder), (std::vector<std::string>{"double.h5", "float.h5"}));
}

INSTANTIATE_TEST_SUITE_P(ResultFile, EveryShape,
                         ::testing::Values(Shape{1, 1, 1, 1}, Shape{1, 37, 5, 4}, Shape{3, 37, 5, 4},
                                           Shape{2, 5, 3, 100}, Shape{1, 4, 7, 2}, Shape{1, 300, 64, 16},
                                           Shape{4, 1, 2, 1}, Shape{1, 0, 4, 3}, Shape{0, 6, 4, 3}));

TEST(ResultFile, large_parts_are_written_whole) {
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 2, 9001, 128);
  write<float>(folder / "out.h5", sequence, 600);
  expect_values<float>(folder / "out.h5", {2, 9001, 600});
}

TEST(ResultFile, says_what_it_is_and_where_it_comes_from) {
  const Folder folder;
  const std::string path = folder / "out.h5", text = "a name with \xc3\xa4, \n and 300 more: " + std::string(300, 'x');
  const Sequence sequence(MPI_COMM_WORLD, 1, 20, 4);
  write<float>(path, sequence, 4,
               {{"version", "0.1.0"}, {"ranks", std::int64_t{ranks()}}, {"seconds", 0.5}, {"input", text}});
  MPI_Barrier(MPI_COMM_WORLD);
  EXPECT_EQ(text_attribute(path, "format"), "bsbr-result");
  EXPECT_EQ(integer_attribute(path, "format_version"), 1);
  EXPECT_EQ(integer_attribute(path, "complete"), 1);
  EXPECT_EQ(text_attribute(path, "architecture"), "bsbr");
  EXPECT_EQ(text_attribute(path, "causality"), "causal");
  EXPECT_EQ(integer_attribute(path, "hidden_dim"), 4);
  EXPECT_EQ(integer_attribute(path, "ranks"), ranks());
  EXPECT_EQ(text_attribute(path, "version"), "0.1.0");
  EXPECT_EQ(text_attribute(path, "input"), text);
}

/// Numbers of a dataset, with HDF5's own interface.
std::vector<double> numbers_of(const std::string& path, const char* name, std::size_t rank, std::size_t count) {
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), dataset = H5Dopen2(file, name, H5P_DEFAULT),
              space = H5Dget_space(dataset), type = H5Dget_type(dataset);
  EXPECT_EQ(H5Sget_simple_extent_ndims(space), static_cast<int>(rank));
  EXPECT_EQ(H5Sget_simple_extent_npoints(space), static_cast<hssize_t>(count));
  EXPECT_EQ(H5Tget_size(type), sizeof(double));
  std::vector<double> values(count, -1);
  EXPECT_GE(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), 0);
  H5Tclose(type);
  H5Sclose(space);
  H5Dclose(dataset);
  H5Fclose(file);
  return values;
}

TEST(LossFile, holds_the_mean_and_the_losses_of_all_ranks) {
  const Folder folder;
  const std::string path = folder / "losses.h5";
  for (const std::int64_t length : {1, 23}) {
    const Sequence sequence(MPI_COMM_WORLD, 2, length, 4);
    const Array<double**> losses("losses", 2, sequence.local_tokens());
    const auto host = Kokkos::create_mirror_view(losses);
    std::vector<double> expected;
    for (std::int64_t row = 0; row < 2; ++row) {
      for (std::int64_t t = 0; t < sequence.local_tokens(); ++t) host(row, t) = value_at(row, sequence.offset() + t, 5);
      for (std::int64_t t = 0; t < length; ++t) expected.push_back(value_at(row, t, 5));
    }
    Kokkos::deep_copy(losses, host);
    write_token_losses(path, config_with(8), {{"model", "m.h5"}}, sequence, 0.1, losses);
    MPI_Barrier(MPI_COMM_WORLD);
    EXPECT_EQ(numbers_of(path, "/token_loss", 2, static_cast<std::size_t>(2 * length)), expected);
    EXPECT_EQ(numbers_of(path, "/loss", 0, 1), std::vector<double>{0.1});
    EXPECT_EQ(text_attribute(path, "format"), "bsbr-gradients");
    EXPECT_EQ(text_attribute(path, "head"), "none");
    EXPECT_EQ(integer_attribute(path, "complete"), 1);
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST(LossFile, losses_of_another_shape_are_refused) {
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 2, 23, 4);
  const Array<double**> losses("losses", 2, sequence.local_tokens() + 1);
  EXPECT_THROW(write_token_losses(folder / "losses.h5", config_with(8), {}, sequence, 0, losses), ShapeError);
  EXPECT_TRUE(files_in(folder).empty());
}

TEST(ResultFile, takes_the_place_of_an_old_one_and_of_what_a_killed_run_has_left) {
  const Folder folder;
  write_bytes(folder / "out.h5", "an old result");
  write_bytes(folder / "out.h5.part", "half of one");
  const Sequence sequence(MPI_COMM_WORLD, 1, 20, 4);
  write<float>(folder / "out.h5", sequence, 4);
  expect_values<float>(folder / "out.h5", {1, 20, 4});
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"out.h5"});
}

TEST(OutputFile, that_another_run_has_replaced_is_not_finished_in_its_place) {
  const Folder folder;
  on_rank_0([&] {
    io::OutputFile first(folder / "out.h5", 1, 1000);
    io::OutputFile second(folder / "out.h5", 1, 1000);
    EXPECT_THROW(first.open(), io::ContentError);
    EXPECT_THROW(first.commit(), io::ContentError);
    second.commit();
  });
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"out.h5"});
}

TEST(ResultFile, may_have_a_name_with_colons_and_spaces) {
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 2, 20, 4);
  write<float>(folder / "ufs:run 12:30.h5", sequence, 4);
  expect_values<float>(folder / "ufs:run 12:30.h5", {2, 20, 4});
}

TEST(ResultFile, numbers_begin_at_a_page) {
  const Folder folder;
  write<float>(folder / "out.h5", Sequence(MPI_COMM_WORLD, 1, 500, 4), 8);
  const hid_t file = H5Fopen((folder / "out.h5").c_str(), H5F_ACC_RDONLY, H5P_DEFAULT),
              dataset = H5Dopen2(file, "/hidden_states", H5P_DEFAULT);
  EXPECT_EQ(H5Dget_offset(dataset) % 4096, 0U);
  H5Dclose(dataset);
  H5Fclose(file);
}

// ---- What cannot be written -----------------------------------------------------------------------------------------

/// What is said, first by the check before computing, then by the writer; they must agree.
std::string refusal(const std::string& path) {
  const std::string checked = message_of<OutputError>([&] { check_output_path(path, MPI_COMM_WORLD); });
  const Sequence sequence(MPI_COMM_WORLD, 1, 20, 4);
  EXPECT_EQ(message_of<OutputError>([&] { write<float>(path, sequence, 4); }), checked);
  return checked;
}

TEST(ResultFile, a_path_that_can_be_written_passes_the_check_and_nothing_is_made) {
  const Folder folder;
  check_output_path(folder / "out.h5", MPI_COMM_WORLD);
  EXPECT_TRUE(files_in(folder).empty());
  write_bytes(folder / "out.h5", "an old result");
  check_output_path(folder / "out.h5", MPI_COMM_WORLD);
  EXPECT_EQ(read_bytes(folder / "out.h5"), "an old result");
}

TEST(ResultFile, a_missing_folder_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal(folder / "nowhere/out.h5"),
            folder / "nowhere/out.h5: the folder " + (folder / "nowhere") + " does not exist");
}

TEST(ResultFile, a_folder_that_is_a_file_is_named) {
  const Folder folder;
  write_bytes(folder / "file", "x");
  const std::string message = refusal(folder / "file/out.h5");
  EXPECT_EQ(message, folder / "file/out.h5: cannot be written: Not a directory");
}

TEST(ResultFile, a_folder_is_not_overwritten) {
  const Folder folder;
  EXPECT_EQ(refusal(folder.path()), folder.path() + ": is a folder");
  EXPECT_EQ(refusal(folder / "new/"), folder / "new/: is the name of a folder");
  EXPECT_EQ(refusal(""), ": the name of the output is empty");
}

TEST(ResultFile, a_device_is_not_overwritten) {
  EXPECT_EQ(refusal("/dev/null"), "/dev/null: is a pipe or a device, not an ordinary file");
}

TEST(ResultFile, a_part_that_is_a_folder_is_named) {
  const Folder folder;
  on_rank_0([&] { std::filesystem::create_directory(folder / "out.h5.part"); });
  EXPECT_EQ(refusal(folder / "out.h5"), folder / "out.h5: " + (folder / "out.h5.part") + " is a folder");
}

TEST(ResultFile, a_folder_that_may_not_be_written_to_is_named) {
  if (geteuid() == 0) GTEST_SKIP() << "root writes everywhere";
  const Folder folder;
  on_rank_0([&] { chmod(folder.path().c_str(), 0500); });
  EXPECT_EQ(refusal(folder / "out.h5"),
            folder / "out.h5: the folder " + folder.path() + " cannot be written to: Permission denied");
  on_rank_0([&] { chmod(folder.path().c_str(), 0700); });
}

TEST(ResultFile, a_name_that_is_too_long_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal(folder / std::string(253, 'x')).substr(folder.path().size() + 1),
            std::string(253, 'x') + ": " + folder.path() + '/' + std::string(253, 'x') +
                ".part cannot be written: File name too long");
}

TEST(ResultFile, too_large_a_result_is_refused_before_a_row_is_written_and_the_old_one_stays) {
  const Folder folder;
  write_bytes(folder / "out.h5", "an old result");
  const Sequence sequence(MPI_COMM_WORLD, 1, 1000, 4);
  const FileSizeLimit limit(1 << 20);
  const std::string message = message_of<OutputError>([&] { write<double>(folder / "out.h5", sequence, 256); });
  EXPECT_TRUE(message.starts_with(folder / "out.h5: needs 20")) << message;
  EXPECT_TRUE(message.ends_with(": larger than a file may be here")) << message;
  EXPECT_EQ(files_in(folder), std::vector<std::string>{"out.h5"});
  EXPECT_EQ(read_bytes(folder / "out.h5"), "an old result");
}

TEST(ResultFile, a_rank_that_cannot_write_makes_all_fail_and_leaves_nothing) {
  if (ranks() == 1) GTEST_SKIP() << "needs several ranks";
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 1, 1000, 4);
  std::optional<FileSizeLimit> limit;
  if (rank() == 2) limit.emplace(1 << 20);
  EXPECT_EQ(message_of<OutputError>([&] { write<double>(folder / "out.h5", sequence, 256); }),
            folder / "out.h5: cannot be written by rank 2: File too large");
  EXPECT_TRUE(files_in(folder).empty());
}

TEST(ResultFile, a_failure_leaves_hdf5_usable_and_its_error_printing_as_it_was) {
  const Folder folder;
  message_of<OutputError>([&] { write<float>(folder / "nowhere/out.h5", Sequence(MPI_COMM_WORLD, 1, 20, 4), 4); });
  EXPECT_TRUE(hdf5_prints_errors());
  EXPECT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
}

TEST(ResultFile, hidden_states_of_another_shape_are_refused) {
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 1, 20 * ranks(), 20);
  const auto states = hidden_states<float>(sequence, 4);
  EXPECT_EQ(
      message_of<ShapeError>([&] { write_result<float>(folder / "out.h5", config_with(5), {}, sequence, states); }),
      "hidden_states is [1, 20, 4], the sequence and the configuration need [1, 20, 5]");
  EXPECT_TRUE(files_in(folder).empty());
}

TEST(ResultFile, an_attribute_of_the_configuration_cannot_be_given_twice) {
  const Folder folder;
  const Sequence sequence(MPI_COMM_WORLD, 1, 20, 4);
  EXPECT_EQ(message_of<OutputError>([&] {
              write<float>(folder / "out.h5", sequence, 4, {{"hidden_dim", std::int64_t{5}}});
            }),
            folder / "out.h5: attribute hidden_dim is given twice");
  EXPECT_TRUE(files_in(folder).empty());
}

}  // namespace
}  // namespace bsbr::testing
