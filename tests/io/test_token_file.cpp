// Token files: what is read from good ones, by each rank, and what is said of bad ones.
#include <algorithm>
#include <filesystem>
#include <limits>
#include <numeric>

#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "files.hpp"
#include "support/golden.hpp"

namespace bsbr::testing {
namespace {

constexpr const char* ids_path = "/inputs/input_ids";
constexpr const char* mask_path = "/inputs/attention_mask";
constexpr std::int64_t vocab_size = 1000;

std::vector<std::int64_t> count_up(std::int64_t size, std::int64_t first = 0) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(size));
  std::iota(values.begin(), values.end(), first);
  return values;
}

/// All that a source holds, read with the ranks' parts cut at chunks of `chunk` tokens. Every rank compares its part with `expected`.
void expect_ids(const TokenSource& source, const std::vector<std::int64_t>& expected, std::int64_t chunk = 3) {
  const TokenShape shape = read_token_shape(source, MPI_COMM_WORLD);
  ASSERT_EQ(shape.batch * shape.length, static_cast<std::int64_t>(expected.size()));
  const Sequence sequence(MPI_COMM_WORLD, shape.batch, shape.length, chunk);
  const Tokens tokens = read_tokens(source, sequence, vocab_size);
  ASSERT_EQ(static_cast<std::int64_t>(tokens.ids.extent(1)), sequence.local_tokens());
  for (std::int64_t row = 0; row < shape.batch; ++row) {
    for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
      EXPECT_EQ(tokens.ids(row, i), expected[static_cast<std::size_t>(row * shape.length + sequence.first_token() + i)]);
    }
  }
}

/// Shape and ids, as a program reads them; what is said when that fails.
std::string refusal(const TokenSource& source) {
  return message_of<FileError>([&] {
    const TokenShape shape = read_token_shape(source, MPI_COMM_WORLD);
    read_tokens(source, Sequence(MPI_COMM_WORLD, shape.batch, shape.length, 4), vocab_size);
  });
}

std::string token_file(const Folder& folder, const std::function<void(hid_t)>& fill) {
  edit(folder / "tokens.h5", fill);
  return folder / "tokens.h5";
}

// ---- Good files ----------------------------------------------------------------------------------------------------

TEST(TokenFile, ids_may_be_integers_of_any_width_sign_and_byte_order) {
  const auto types = {H5T_STD_I8LE,  H5T_STD_U8LE,  H5T_STD_I16BE, H5T_STD_U16LE, H5T_STD_I32LE,
                      H5T_STD_U32BE, H5T_STD_I64LE, H5T_STD_I64BE, H5T_STD_U64LE, H5T_STD_U64BE};
  for (const hid_t type : types) {
    const Folder folder;
    expect_ids({token_file(folder, [&](hid_t file) { make_integers(file, ids_path, {20}, type, count_up(20)); }), {}}, count_up(20));
  }
}

TEST(TokenFile, a_batch_is_cut_into_the_same_positions_of_each_row) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) { make_integers(file, "/input_ids", {3, 17}, H5T_STD_I64LE, count_up(51)); });
  expect_ids({path, {}}, count_up(51));
  expect_ids({path, {}}, count_up(51), 1);
  expect_ids({path, {}}, count_up(51), 100);  // one chunk: other ranks have nothing
}

TEST(TokenFile, a_named_dataset_is_read_with_the_mask_beside_it) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {4}, H5T_STD_I64LE, {9, 9, 9, 9});
    make_integers(file, "/a/b/ids", {4}, H5T_STD_I64LE, count_up(4));
    make_integers(file, "/a/b/attention_mask", {4}, H5T_STD_U8LE, {1, 1, 0, 1});
  });
  expect_ids({path, "/a/b/ids"}, count_up(4));
  expect_ids({path, "a/b/ids"}, count_up(4));
  EXPECT_TRUE(read_token_shape({path, "/a/b/ids"}, MPI_COMM_WORLD).has_mask);
  EXPECT_FALSE(read_token_shape({path, ""}, MPI_COMM_WORLD).has_mask);
}

TEST(TokenFile, a_mask_may_be_integers_or_the_booleans_of_h5py) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {2, 4}, H5T_STD_I64LE, count_up(8));
    const hid_t boolean = H5Tenum_create(H5T_NATIVE_INT8);
    const std::int8_t no = 0, yes = 1;
    H5Tenum_insert(boolean, "FALSE", &no);
    H5Tenum_insert(boolean, "TRUE", &yes);
    const hsize_t shape[] = {2, 4};
    const hid_t space = H5Screate_simple(2, shape, nullptr);
    const hid_t mask = H5Dcreate2(file, mask_path, boolean, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    const std::int8_t values[] = {1, 1, 1, 0, 0, 1, 1, 1};
    H5Dwrite(mask, boolean, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(mask);
    H5Sclose(space);
    H5Tclose(boolean);
  });
  const Sequence sequence(MPI_COMM_WORLD, 2, 4, 1);
  const Tokens tokens = read_tokens({path, {}}, sequence, vocab_size);
  ASSERT_TRUE(tokens.mask.has_value());
  for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
    EXPECT_EQ((*tokens.mask)(0, i), sequence.first_token() + i == 3 ? 0 : 1);
    EXPECT_EQ((*tokens.mask)(1, i), sequence.first_token() + i == 0 ? 0 : 1);
  }
}

TEST(TokenFile, the_bytes_of_any_other_file_are_ids) {
  const Folder folder;
  write_bytes(folder / "text", "hello \xff\n");
  expect_ids({folder / "text", {}}, {'h', 'e', 'l', 'l', 'o', ' ', 255, '\n'});
}

TEST(TokenFile, files_of_many_pieces_are_read_whole) {
  const Folder folder;
  const std::int64_t size = (std::int64_t{1} << 21) + 12345;
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::vector<std::int64_t> expected(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < bytes.size(); ++i) expected[i] = static_cast<unsigned char>(bytes[i] = static_cast<char>(i % 251));
  write_bytes(folder / "bytes", bytes);
  expect_ids({folder / "bytes", {}}, expected, 1000);
  const std::string path =
      token_file(folder, [&](hid_t file) { make_integers(file, ids_path, {static_cast<hsize_t>(size)}, H5T_STD_U8LE, expected); });
  expect_ids({path, {}}, expected, 1000);
}

TEST(TokenFile, the_first_tokens_of_each_row_can_be_read_alone) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) { make_integers(file, ids_path, {2, 10}, H5T_STD_I64LE, count_up(20)); });
  const Sequence sequence(MPI_COMM_WORLD, 2, 7, 2);
  const Tokens tokens = read_tokens({path, {}}, sequence, vocab_size);
  for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) EXPECT_EQ(tokens.ids(1, i), 10 + sequence.first_token() + i);
  EXPECT_EQ(message_of<FileError>([&] {
              read_tokens({path, {}}, Sequence(MPI_COMM_WORLD, 2, 11, 2), vocab_size);
            }),
            path + ": holds ids [2, 10], [2, 11] are needed");
}

TEST(TokenFile, golden_files_are_token_files) {
  const GoldenCase golden = read_golden("bsbr_mask_left");
  const TokenSource source{golden_path("bsbr_mask_left"), {}};
  expect_ids(source, golden.ids, 5);
  EXPECT_TRUE(read_token_shape(source, MPI_COMM_WORLD).has_mask);
}

TEST(TokenFile, a_compressed_dataset_is_read) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_dataset(file, ids_path, {2, 50}, H5T_STD_I64LE, 7, {.chunk = {1, 7}, .deflate = true});
  });
  expect_ids({path, {}}, std::vector<std::int64_t>(100, 7));
}

// ---- Names ---------------------------------------------------------------------------------------------------------

TEST(TokenSource, a_dataset_is_named_after_a_colon) {
  const Folder folder;
  write_bytes(folder / "a.h5", "x");
  const TokenSource source = TokenSource::parse(folder / "a.h5:/b/c");
  EXPECT_EQ(source.path, folder / "a.h5");
  EXPECT_EQ(source.dataset, "/b/c");
  EXPECT_EQ(TokenSource::parse(folder / "a.h5").dataset, "");
}

TEST(TokenSource, a_file_whose_whole_name_exists_is_taken_by_it) {
  const Folder folder;
  write_bytes(folder / "12:30", "x");
  write_bytes(folder / "12", "x");
  EXPECT_EQ(TokenSource::parse(folder / "12:30").path, folder / "12:30");
  EXPECT_EQ(TokenSource::parse(folder / "12:30").dataset, "");
  EXPECT_EQ(TokenSource::parse(folder / "12:30:/ids").path, folder / "12:30");
  EXPECT_EQ(TokenSource::parse(folder / "12:30:/ids").dataset, "/ids");
}

TEST(TokenSource, a_missing_file_is_named_without_its_dataset) {
  const TokenSource source = TokenSource::parse("absent.h5:/ids");
  EXPECT_EQ(source.path, "absent.h5");
  EXPECT_EQ(source.dataset, "/ids");
  EXPECT_EQ(TokenSource::parse("absent:30").path, "absent:30");
}

// ---- Bad files -----------------------------------------------------------------------------------------------------

TEST(TokenFile, a_missing_file_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal({folder / "absent", {}}), folder / "absent: there is no such file");
}

TEST(TokenFile, a_folder_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal({folder.path(), {}}), folder.path() + ": is a folder, not a file");
}

TEST(TokenFile, an_empty_file_is_refused) {
  const Folder folder;
  write_bytes(folder / "empty", "");
  EXPECT_EQ(refusal({folder / "empty", {}}), folder / "empty: is empty");
}

TEST(TokenFile, a_file_that_is_not_hdf5_has_no_datasets) {
  const Folder folder;
  write_bytes(folder / "text", "hello");
  EXPECT_EQ(refusal({folder / "text", "/ids"}), folder / "text: is not an HDF5 file, so it has no dataset /ids");
}

TEST(TokenFile, a_truncated_hdf5_file_is_not_taken_for_bytes) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) { make_integers(file, ids_path, {500}, H5T_STD_I64LE, count_up(500)); });
  const std::string whole = read_bytes(path);
  MPI_Barrier(MPI_COMM_WORLD);
  write_bytes(path, whole.substr(0, whole.size() - 1));
  EXPECT_EQ(refusal({path, {}}),
            path + ": is truncated: it holds " + std::to_string(whole.size() - 1) + " bytes of " + std::to_string(whole.size()));
}

TEST(TokenFile, a_byte_beyond_the_vocabulary_is_named_with_its_place) {
  const Folder folder;
  write_bytes(folder / "text", "abcz{");
  EXPECT_EQ(message_of<FileError>([&] {
              read_tokens({folder / "text", {}}, Sequence(MPI_COMM_WORLD, 1, 5, 1), 122);
            }),
            folder / "text: holds the byte 122 at [0, 3], ids are 0 to 121");
}

struct BadContent {
  const char* name;
  std::function<void(hid_t)> fill;
  std::string message, dataset = {};
};

class BadTokenFile : public ::testing::TestWithParam<BadContent> {};

TEST_P(BadTokenFile, is_refused_with_the_thing_its_value_and_the_rule) {
  const Folder folder;
  const std::string path = token_file(folder, GetParam().fill);
  EXPECT_EQ(refusal({path, GetParam().dataset}), path + ": " + GetParam().message);
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

/// Integers, and a mask beside them.
std::function<void(hid_t)> ids_with_mask(const std::vector<hsize_t>& shape, const std::vector<std::int64_t>& mask) {
  return [=](hid_t file) {
    make_integers(file, ids_path, {6}, H5T_STD_I64LE, count_up(6));
    make_integers(file, mask_path, shape, H5T_STD_I8LE, mask);
  };
}

INSTANTIATE_TEST_SUITE_P(
    TokenFile, BadTokenFile,
    ::testing::Values(
        BadContent{"an_id_below_0", [](hid_t file) { make_integers(file, ids_path, {2, 5}, H5T_STD_I64LE, {1, 2, 3, 4, 5, 6, 7, 8, -7, -9}); },
                   "/inputs/input_ids holds -7 at [1, 3], ids are 0 to 999"},
        BadContent{"an_id_beyond_the_vocabulary", [](hid_t file) { make_integers(file, ids_path, {5}, H5T_STD_U16LE, {999, 1, 2, 3, 1000}); },
                   "/inputs/input_ids holds 1000 at [0, 4], ids are 0 to 999"},
        BadContent{"the_first_bad_id_of_all_ranks", [](hid_t file) { make_integers(file, ids_path, {2, 12}, H5T_STD_I64LE, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2000, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); },
                   "/inputs/input_ids holds 2000 at [0, 11], ids are 0 to 999"},
        BadContent{"an_enormous_id", [](hid_t file) { make_dataset(file, ids_path, {5}, H5T_STD_U64LE, 1.8e19); },
                   "/inputs/input_ids holds 9223372036854775807 or more at [0, 0], ids are 0 to 999"},
        BadContent{"floats", [](hid_t file) { make_dataset(file, ids_path, {5}, H5T_IEEE_F64LE); },
                   "/inputs/input_ids holds 64-bit floating-point numbers, ids are integers"},
        BadContent{"three_dimensions", [](hid_t file) { make_integers(file, ids_path, {1, 2, 3}, H5T_STD_I64LE, count_up(6)); },
                   "/inputs/input_ids is [1, 2, 3], ids are [sequence] or [batch, sequence]"},
        BadContent{"a_single_number", [](hid_t file) { make_integers(file, ids_path, {}, H5T_STD_I64LE, {1}); },
                   "/inputs/input_ids is [], ids are [sequence] or [batch, sequence]"},
        BadContent{"no_tokens", [](hid_t file) { make_integers(file, ids_path, {3, 0}, H5T_STD_I64LE, {}); }, "/inputs/input_ids is [3, 0], empty"},
        BadContent{"no_dataset", [](hid_t file) { make_integers(file, "/ids", {1}, H5T_STD_I64LE, {1}); }, "has neither /inputs/input_ids nor /input_ids"},
        BadContent{"not_the_dataset_that_is_named", [](hid_t file) { make_integers(file, ids_path, {1}, H5T_STD_I64LE, {1}); }, "has no dataset /no\\npe", "/no\npe"},
        BadContent{"a_group", [](hid_t file) { make_integers(file, ids_path, {1}, H5T_STD_I64LE, {1}); }, "/inputs is not a dataset", "/inputs"},
        BadContent{"a_dataset_in_a_dataset", [](hid_t file) { make_integers(file, ids_path, {1}, H5T_STD_I64LE, {1}); }, "/inputs/input_ids is not a group", "/inputs/input_ids/x"},
        BadContent{"a_mask_of_another_length", ids_with_mask({5}, {1, 1, 1, 1, 1}), "/inputs/attention_mask is [5], /inputs/input_ids is [6]"},
        BadContent{"a_mask_of_another_rank", ids_with_mask({1, 6}, {1, 1, 1, 1, 1, 1}), "/inputs/attention_mask is [1, 6], /inputs/input_ids is [6]"},
        BadContent{"a_mask_with_a_7", ids_with_mask({6}, {1, 1, 0, 1, 1, 7}), "/inputs/attention_mask holds 7 at [0, 5], a mask has 1 for a token and 0 for padding"},
        BadContent{"a_mask_below_0", ids_with_mask({6}, {1, -1, 0, 1, 1, 7}), "/inputs/attention_mask holds -1 at [0, 1], a mask has 1 for a token and 0 for padding"},
        BadContent{"a_mask_of_floats",
                   [](hid_t file) {
                     make_integers(file, ids_path, {2}, H5T_STD_I64LE, {1, 2});
                     make_dataset(file, mask_path, {2}, H5T_IEEE_F32LE);
                   },
                   "/inputs/attention_mask holds 32-bit floating-point numbers, a mask has integers or booleans"},
        BadContent{"far_more_ids_than_the_file_could_hold", [](hid_t file) { make_dataset(file, ids_path, {1ULL << 45}, H5T_STD_I64LE, 0, {.chunk = {1 << 20}, .no_numbers = true}); },
                   "/inputs/input_ids is [35184372088832], 281474976710656 bytes (262144.0 GiB), of which the file holds none"},
        BadContent{"more_ids_than_can_be_counted", [](hid_t file) { make_dataset(file, ids_path, {1ULL << 40, 1ULL << 40}, H5T_STD_I8LE, 0, {.chunk = {1, 1 << 20}, .no_numbers = true}); },
                   "/inputs/input_ids claims to hold more numbers than any file can"},
        BadContent{"an_external_link", [](hid_t file) { H5Lcreate_external("other.h5", "/x", file, "/input_ids", H5P_DEFAULT, H5P_DEFAULT); },
                   "/input_ids is an external link, and links are not followed"},
        BadContent{"a_soft_link_on_the_way",
                   [](hid_t file) {
                     make_integers(file, "/other/input_ids", {1}, H5T_STD_I64LE, {1});
                     H5Lcreate_soft("/other", file, "/inputs", H5P_DEFAULT, H5P_DEFAULT);
                   },
                   "/inputs is a soft link, and links are not followed"},
        BadContent{"an_unknown_filter", [](hid_t file) { make_dataset(file, ids_path, {8}, H5T_STD_I64LE, 1, {.chunk = {8}, .other_filter = 32000}); },
                   "/inputs/input_ids is stored by a filter that is not HDF5's own (number 32000)"}),
    [](const auto& test) { return std::string(test.param.name); });

// ---- Ranks that see different files --------------------------------------------------------------------------------

TEST(TokenFile, ranks_that_see_different_files_all_say_which_saw_what) {
  if (ranks() == 1) GTEST_SKIP() << "one rank sees one file";
  const Folder folder;
  write_bytes(folder / "whole", "0123456789");
  write_bytes(folder / "short", "0123");
  const std::string path = folder / (rank() == 1 ? "short" : "whole");
  EXPECT_EQ(message_of<FileError>([&] {
              read_token_shape({path, {}}, MPI_COMM_WORLD);
            }),
            path + ": rank 0 sees ids [1, 10] without a mask, rank 1 sees ids [1, 4] without a mask");
}

TEST(TokenFile, a_file_that_is_missing_on_one_rank_is_said_to_be_so) {
  if (ranks() == 1) GTEST_SKIP() << "one rank sees one file";
  const Folder folder;
  write_bytes(folder / "whole", "0123456789");
  const std::string path = folder / (rank() == 1 ? "absent" : "whole");
  EXPECT_EQ(message_of<FileError>([&] {
              read_token_shape({path, {}}, MPI_COMM_WORLD);
            }),
            folder / "absent: there is no such file, as rank 1 sees it");
}

TEST(TokenFile, a_file_that_is_cut_on_one_rank_after_its_shape_was_read_is_still_found_out) {
  if (ranks() == 1) GTEST_SKIP() << "one rank sees one file";
  const Folder folder;
  write_bytes(folder / "whole", "0123456789");
  write_bytes(folder / "short", "0123");
  const std::string path = folder / (rank() == 1 ? "short" : "whole");
  EXPECT_EQ(message_of<FileError>([&] {
              read_tokens({path, {}}, Sequence(MPI_COMM_WORLD, 1, 10, 1), vocab_size);
            }),
            folder / "short: holds ids [1, 4], [1, 10] are needed, as rank 1 sees it");
}

}  // namespace
}  // namespace bsbr::testing
