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

/// All that a source holds, read with the ranks' parts cut at chunks of `chunk` tokens. Every rank compares its part
/// with `expected`.
void expect_ids(const TokenSource& source, const std::vector<std::int64_t>& expected, std::int64_t chunk = 3) {
  const TokenShape shape = read_token_shape(source, MPI_COMM_WORLD);
  ASSERT_EQ(shape.batch * shape.length, static_cast<std::int64_t>(expected.size()));
  const Sequence sequence(MPI_COMM_WORLD, shape.batch, shape.length, chunk);
  const Tokens tokens = read_tokens(source, sequence, vocab_size);
  ASSERT_EQ(static_cast<std::int64_t>(tokens.ids.extent(1)), sequence.local_tokens());
  for (std::int64_t row = 0; row < shape.batch; ++row) {
    for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
      EXPECT_EQ(tokens.ids(row, i),
                expected[static_cast<std::size_t>(row * shape.length + sequence.first_token() + i)]);
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

// ---- Good files -----------------------------------------------------------------------------------------------------

TEST(TokenFile, ids_may_be_integers_of_any_width_sign_and_byte_order) {
  const auto types = {H5T_STD_I8LE,  H5T_STD_U8LE,  H5T_STD_I16BE, H5T_STD_U16LE, H5T_STD_I32LE,
                      H5T_STD_U32BE, H5T_STD_I64LE, H5T_STD_I64BE, H5T_STD_U64LE, H5T_STD_U64BE};
  for (const hid_t type : types) {
    const Folder folder;
    expect_ids({token_file(folder, [&](hid_t file) { make_integers(file, ids_path, {20}, type, count_up(20)); }), {}},
               count_up(20));
  }
}

TEST(TokenFile, a_batch_is_cut_into_the_same_positions_of_each_row) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, "/input_ids", {3, 17}, H5T_STD_I64LE, count_up(51));
  });
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
  expect_ids({folder / "text", {}, true}, {'h', 'e', 'l', 'l', 'o', ' ', 255, '\n'});
}

TEST(TokenFile, files_of_many_pieces_are_read_whole) {
  const Folder folder;
  const std::int64_t size = (std::int64_t{1} << 21) + 12345;
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::vector<std::int64_t> expected(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < bytes.size(); ++i)
    expected[i] = static_cast<unsigned char>(bytes[i] = static_cast<char>(i % 251));
  write_bytes(folder / "bytes", bytes);
  expect_ids({folder / "bytes", {}, true}, expected, 1000);
  const std::string path = token_file(
      folder, [&](hid_t file) { make_integers(file, ids_path, {static_cast<hsize_t>(size)}, H5T_STD_U8LE, expected); });
  expect_ids({path, {}}, expected, 1000);
}

TEST(TokenFile, the_first_tokens_of_each_row_can_be_read_alone) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {2, 10}, H5T_STD_I64LE, count_up(20));
  });
  const Sequence sequence(MPI_COMM_WORLD, 2, 7, 2);
  const Tokens tokens = read_tokens({path, {}}, sequence, vocab_size);
  for (std::int64_t i = 0; i < sequence.local_tokens(); ++i)
    EXPECT_EQ(tokens.ids(1, i), 10 + sequence.first_token() + i);
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

TEST(TokenFile, a_mask_may_be_bit_fields_as_pytables_writes_booleans) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {4}, H5T_STD_I64LE, count_up(4));
    const hsize_t shape[] = {4};
    const std::uint8_t values[] = {1, 0, 1, 1};
    const hid_t space = H5Screate_simple(1, shape, nullptr);
    const hid_t mask = H5Dcreate2(file, mask_path, H5T_STD_B8LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(mask, H5T_STD_B8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    H5Dclose(mask);
    H5Sclose(space);
  });
  const Sequence sequence(MPI_COMM_WORLD, 1, 4, 1);
  const Tokens tokens = read_tokens({path, {}}, sequence, vocab_size);
  for (std::int64_t i = 0; i < sequence.local_tokens(); ++i)
    EXPECT_EQ((*tokens.mask)(0, i), sequence.first_token() + i == 1 ? 0 : 1);
}

TEST(TokenFile, the_shape_tells_how_the_ids_are_stored) {
  const Folder folder;
  const std::string path =
      token_file(folder, [](hid_t file) { make_integers(file, ids_path, {4}, H5T_STD_U16BE, count_up(4)); });
  write_bytes(folder / "text", "hello");
  write_bytes(folder / "train.bin", "hello");
  const TokenShape dataset = read_token_shape({path, {}}, MPI_COMM_WORLD),
                   text = read_token_shape({folder / "text", {}}, MPI_COMM_WORLD),
                   binary = read_token_shape({folder / "train.bin", {}}, MPI_COMM_WORLD);
  EXPECT_EQ(to_string(dataset.format), "hdf5");
  EXPECT_EQ(dataset.dataset, ids_path);
  EXPECT_EQ(dataset.type, "uint16");
  EXPECT_EQ(to_string(text.format), "bytes");
  EXPECT_EQ(text.note, "");
  EXPECT_NE(binary.note.find(".bin"), std::string::npos) << binary.note;
  EXPECT_EQ(read_token_shape({folder / "train.bin", {}, true}, MPI_COMM_WORLD).note, "");
}

TEST(TokenFile, bytes_need_a_vocabulary_of_256_or_to_be_asked_for) {
  const Folder folder;
  write_bytes(folder / "text", "hello");
  const Sequence sequence(MPI_COMM_WORLD, 1, 5, 1);
  const auto read = [&](std::int64_t vocabulary, bool bytes) {
    return read_tokens({folder / "text", {}, bytes}, sequence, vocabulary);
  };
  for (const std::int64_t vocabulary : {200, 257, 50257}) {
    EXPECT_EQ(message_of<FileError>([&] { read(vocabulary, false); }),
              folder / "text: is read as bytes, one id from 0 to 255 each, but the model's vocab_size is " +
                  std::to_string(vocabulary));
    EXPECT_NO_THROW(read(vocabulary, true));
  }
  EXPECT_NO_THROW(read(256, false));
}

TEST(TokenFile, a_container_whose_bytes_are_no_tokens_is_named_unless_bytes_are_asked_for) {
  const Folder folder;
  const std::pair<std::string, const char*> files[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"},
      {std::string("PK\3\4\0\0", 6), "a zip archive, as .npz and .pt are"},
      {"\x1f\x8b\b plus", "a file compressed by gzip"},
      {"BZh91AY&SY and so on", "a file compressed by bzip2"},
      {std::string("\x80\4\x95\0\0", 5), "a Python pickle"},
      {std::string("CDF\1\0\0", 6), "a netCDF-3 file"},
      {"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB 5 file"},
      {std::string("\x40\0\0\0\0\0\0\0{\"a\":", 13), "a safetensors file"},
      {"PAR1 and so on", "a Parquet file"}};
  for (const auto& [content, name] : files) {
    write_bytes(folder / "ids", content);
    EXPECT_EQ(message_of<FileError>([&] {
                read_token_shape({folder / "ids", {}}, MPI_COMM_WORLD);
              }),
              folder / "ids: is " + name + ", whose bytes are not token ids");
    EXPECT_EQ(read_token_shape({folder / "ids", {}, true}, MPI_COMM_WORLD).length,
              static_cast<std::int64_t>(content.size()));
    MPI_Barrier(MPI_COMM_WORLD);
  }
}

TEST(TokenFile, bytes_of_an_hdf5_file_can_be_asked_for) {
  const Folder folder;
  const std::string path =
      token_file(folder, [](hid_t file) { make_integers(file, ids_path, {4}, H5T_STD_I64LE, count_up(4)); });
  EXPECT_EQ(read_token_shape({path, {}, true}, MPI_COMM_WORLD).length,
            static_cast<std::int64_t>(read_bytes(path).size()));
  EXPECT_EQ(message_of<FileError>([&] {
              read_token_shape({path, ids_path, true}, MPI_COMM_WORLD);
            }),
            path + ": is read as bytes, so it has no dataset /inputs/input_ids");
}

// ---- Windows --------------------------------------------------------------------------------------------------------

/// The windows that begin there, and those that begin one id later, hold the ids and marks that stand there in `ids`
/// and `mask`.
void expect_windows(const TokenSource& source, const std::vector<std::int64_t>& begins, std::int64_t length,
                    const std::vector<std::int64_t>& ids, const std::vector<std::int64_t>& mask = {}) {
  const Sequence sequence(MPI_COMM_WORLD, static_cast<std::int64_t>(begins.size()), length, 3);
  const Tokens tokens = read_windows(source, sequence, begins, vocab_size);
  ASSERT_EQ(tokens.mask.has_value(), !mask.empty());
  for (std::size_t row = 0; row < begins.size(); ++row) {
    for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
      const auto place = static_cast<std::size_t>(begins[row] + sequence.first_token() + i);
      EXPECT_EQ(tokens.ids(row, i), ids[place]);
      if (!mask.empty()) {
        EXPECT_EQ((*tokens.mask)(row, i), mask[place]);
      }
    }
  }
}

TEST(Windows, are_read_from_any_place_of_a_stream_in_any_order) {
  const Folder folder;
  const auto ids = count_up(50);
  std::vector<std::int64_t> mask(50, 1);
  mask[9] = mask[30] = 0;
  const std::string path = token_file(folder, [&](hid_t file) {
    make_integers(file, ids_path, {50}, H5T_STD_I64LE, ids);
    make_integers(file, mask_path, {50}, H5T_STD_U8LE, mask);
  });
  for (const auto& begins : std::vector<std::vector<std::int64_t>>{{0, 7, 14, 21}, {40, 0, 3, 3}, {13}}) {
    expect_windows({path, {}}, begins, 10, ids, mask);
    expect_windows({path, {}}, begins, 1, ids, mask);
  }
  expect_windows({path, {}}, {0}, 50, ids, mask);
}

TEST(Windows, are_cut_of_one_row_of_two_dimensions_and_of_bytes) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {1, 30}, H5T_STD_I64LE, count_up(30));
  });
  expect_windows({path, {}}, {0, 4, 20}, 10, count_up(30));
  write_bytes(folder / "text", "hello");
  expect_windows({folder / "text", {}, true}, {0, 1, 2}, 3, {'h', 'e', 'l', 'l', 'o'});
}

TEST(Windows, that_are_not_within_the_one_row_are_refused) {
  const Folder folder;
  const std::string path = token_file(folder, [](hid_t file) {
    make_integers(file, ids_path, {30}, H5T_STD_I64LE, count_up(30));
    make_integers(file, "/rows/ids", {2, 30}, H5T_STD_I64LE, count_up(60));
  });
  const Sequence sequence(MPI_COMM_WORLD, 2, 10, 3);
  const auto refused = [&](const std::string& dataset, const std::vector<std::int64_t>& begins) {
    return message_of<FileError>([&] { read_windows({path, dataset}, sequence, begins, vocab_size); });
  };
  EXPECT_EQ(refused({}, {0, 21}), path + ": holds 30 ids, and a window of 10 begins with that at 21");
  EXPECT_EQ(refused({}, {-1, 0}), path + ": holds 30 ids, and a window of 10 begins with that at -1");
  EXPECT_EQ(refused("/rows/ids", {0, 10}), path + ": holds 2 rows, windows are cut of one");
  EXPECT_EQ(message_of<ShapeError>([&] {
              read_windows({path, {}}, sequence, {0}, vocab_size);
            }),
            "1 windows are not the 2 sequences of the batch");
}

TEST(Windows, name_the_first_bad_id_by_its_place_in_the_stream) {
  const Folder folder;
  auto ids = count_up(30);
  ids[17] = ids[25] = vocab_size;
  const std::string path =
      token_file(folder, [&](hid_t file) { make_integers(file, ids_path, {30}, H5T_STD_I64LE, ids); });
  const Sequence sequence(MPI_COMM_WORLD, 2, 10, 3);
  EXPECT_EQ(message_of<FileError>([&] {
              read_windows({path, {}}, sequence, {20, 10}, vocab_size);
            }),
            path + ": /inputs/input_ids holds 1000 at [0, 17], ids are 0 to 999");
}

// ---- .npy -----------------------------------------------------------------------------------------------------------

/// A .npy file with this header; `version` decides how the length of the header is written.
std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(version);
  bytes += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) bytes += static_cast<char>(header.size() >> (8 * i) & 0xffU);
  return bytes + header + data;
}

std::string header_of(const std::string& type, const std::string& shape, bool column_major = false) {
  return "{'descr': '" + type + "', 'fortran_order': " + (column_major ? "True" : "False") + ", 'shape': " + shape +
         ", }   \n";
}

/// Integers in this width and byte order, one after the other.
std::string packed(const std::vector<std::int64_t>& values, int width, bool big_endian) {
  std::string bytes;
  for (const std::int64_t value : values) {
    for (int i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * (big_endian ? width - 1 - i : i)) & 0xff);
  }
  return bytes;
}

TEST(NpyFile, integers_of_every_width_sign_byte_order_and_version_are_read) {
  for (const std::string kind : {"i", "u"}) {
    for (const int width : {1, 2, 4, 8}) {
      for (const std::string order : {"<", ">", "|"}) {
        for (const int version : {1, 2, 3}) {
          const Folder folder;
          const auto values = count_up(100, 27);
          write_bytes(folder / "ids.npy", npy(header_of(order + kind + std::to_string(width), "(100,)"),
                                              packed(values, width, order == ">"), version));
          expect_ids({folder / "ids.npy", {}}, values);
          EXPECT_EQ(read_token_shape({folder / "ids.npy", {}}, MPI_COMM_WORLD).type,
                    (kind == "i" ? "int" : "uint") + std::to_string(8 * width));
        }
      }
    }
  }
}

TEST(NpyFile, rows_and_columns_are_read_in_either_order) {
  const Folder folder;
  std::vector<std::int64_t> by_columns;
  for (std::int64_t column = 0; column < 17; ++column) {
    for (std::int64_t row = 0; row < 3; ++row) by_columns.push_back(17 * row + column);
  }
  write_bytes(folder / "c.npy", npy(header_of("<i4", "(3, 17)"), packed(count_up(51), 4, false)));
  write_bytes(folder / "f.npy", npy(header_of("<i4", "(3, 17)", true), packed(by_columns, 4, false)));
  for (const std::int64_t chunk : {1, 3, 100}) {
    expect_ids({folder / "c.npy", {}}, count_up(51), chunk);
    expect_ids({folder / "f.npy", {}}, count_up(51), chunk);
  }
}

TEST(NpyFile, one_of_many_pieces_is_read_whole) {
  const Folder folder;
  const std::int64_t rows = 3, length = (std::int64_t{1} << 20) + 77;
  std::string plain, turned;
  std::vector<std::int64_t> expected;
  for (std::int64_t i = 0; i < rows * length; ++i) {
    expected.push_back((i % length * 7 + i / length) % 251);
    plain += static_cast<char>(expected.back());
    turned += static_cast<char>((i / rows * 7 + i % rows) % 251);
  }
  const std::string shape = "(3, " + std::to_string(length) + ")";
  write_bytes(folder / "c.npy", npy(header_of("|u1", shape), plain));
  write_bytes(folder / "f.npy", npy(header_of("|u1", shape, true), turned));
  expect_ids({folder / "c.npy", {}}, expected, 1000);
  expect_ids({folder / "f.npy", {}}, expected, 1000);
}

TEST(NpyFile, keys_may_come_in_any_order_and_strings_in_either_quotes) {
  const Folder folder;
  write_bytes(folder / "ids.npy",
              npy("{\"shape\":(4L,),'fortran_order' :True , \"descr\":'<u2'}", packed(count_up(4), 2, false)));
  expect_ids({folder / "ids.npy", {}}, count_up(4));
}

struct BadNpy {
  const char* name;
  std::string content, message;
};

class BadNpyFile : public ::testing::TestWithParam<BadNpy> {};

TEST_P(BadNpyFile, is_refused_with_the_thing_its_value_and_the_rule) {
  const Folder folder;
  write_bytes(folder / "ids.npy", GetParam().content);
  EXPECT_EQ(refusal({folder / "ids.npy", {}}), folder / "ids.npy: " + GetParam().message);
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

INSTANTIATE_TEST_SUITE_P(
    TokenFile, BadNpyFile,
    ::testing::Values(
        BadNpy{"the_magic_alone", "\x93NUMPY", "is truncated: it holds 6 bytes"},
        BadNpy{"a_version_that_is_not_known", npy(header_of("<i4", "(2,)"), "01234567", 4),
               "is a .npy file of version 4, versions 1 to 3 are read"},
        BadNpy{"a_header_that_is_cut", npy(header_of("<i4", "(2,)"), "").substr(0, 40),
               "is truncated: it holds 40 bytes"},
        BadNpy{"a_header_of_4_GiB", std::string("\x93NUMPY\2\0\xff\xff\xff\xff", 12),
               "has a .npy header of 4294967295 bytes (4.0 GiB)"},
        BadNpy{"no_dictionary", npy("[1, 2]", ""), "has the .npy header \"[1, 2]\", which is not one of an array"},
        BadNpy{"a_key_that_is_missing", npy("{'descr': '<i4', 'shape': (2,)}", "01234567"),
               "has the .npy header \"{'descr': '<i4', 'shape': (2,)}\", which is not one of an array"},
        BadNpy{"an_extent_below_0", npy(header_of("<i4", "(-2,)"), "01234567"),
               "has the .npy header \"{'descr': '<i4', 'fortran_order': False, 'shape': (-2,), }  ...\", which is not "
               "one of an array"},
        BadNpy{"floats", npy(header_of("<f4", "(2,)"), "01234567"),
               "holds 32-bit floating-point numbers, ids are integers of 8 to 64 bits"},
        BadNpy{"booleans", npy(header_of("|b1", "(2,)"), "01"), "holds booleans, ids are integers of 8 to 64 bits"},
        BadNpy{"objects", npy(header_of("|O", "(2,)"), "01"), "holds Python objects, ids are integers of 8 to 64 bits"},
        BadNpy{"text", npy(header_of("<U4", "(2,)"), "01"), "holds text, ids are integers of 8 to 64 bits"},
        BadNpy{"integers_of_16_bytes", npy(header_of("<i16", "(2,)"), "01"),
               "holds elements of type \"<i16\", ids are integers of 8 to 64 bits"},
        BadNpy{"records", npy("{'descr': [('ids', '<i4')], 'fortran_order': False, 'shape': (1,)}", "0123"),
               "holds records, ids are integers"},
        BadNpy{"a_single_integer", npy(header_of("<i4", "()"), "0123"),
               "has 0 dimensions, ids are [sequence] or [batch, sequence]"},
        BadNpy{"three_dimensions", npy(header_of("|u1", "(1, 2, 3)"), "012345"),
               "has 3 dimensions, ids are [sequence] or [batch, sequence]"},
        BadNpy{"no_tokens", npy(header_of("<i4", "(3, 0)"), ""), "is [3, 0], empty"},
        BadNpy{"data_that_are_cut", npy(header_of("<i4", "(2, 3)"), std::string(23, '\0')),
               "is truncated: its header promises ids [2, 3], 24 bytes, of which it holds 23 bytes"},
        BadNpy{"far_more_ids_than_the_file_holds", npy(header_of("<i8", "(1099511627776,)"), std::string(64, '\0')),
               "is truncated: its header promises ids [1099511627776], 8796093022208 bytes (8192.0 GiB), of which it "
               "holds 64 bytes"},
        BadNpy{"more_ids_than_can_be_counted", npy(header_of("<i8", "(1099511627776, 1099511627776)"), ""),
               "the .npy header claims to hold more elements than any file can"},
        BadNpy{"an_extent_beyond_64_bits", npy(header_of("<i8", "(99999999999999999999,)"), ""),
               "has the .npy header \"{'descr': '<i8', 'fortran_order': False, 'shape': (999999999...\", which is not "
               "one of an array"},
        BadNpy{"an_id_below_0", npy(header_of("<i2", "(3,)"), packed({1, 2, -7}, 2, false)),
               "holds -7 at [0, 2], ids are 0 to 999"},
        BadNpy{"an_enormous_id", npy(header_of("<u8", "(1,)"), std::string(8, '\xff')),
               "holds 9223372036854775807 or more at [0, 0], ids are 0 to 999"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(NpyFile, it_has_no_datasets) {
  const Folder folder;
  write_bytes(folder / "ids.npy", npy(header_of("<i4", "(1,)"), "0123"));
  EXPECT_EQ(refusal({folder / "ids.npy", "/ids"}), folder / "ids.npy: is not an HDF5 file, so it has no dataset /ids");
}

// ---- Names ----------------------------------------------------------------------------------------------------------

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

// ---- Bad files ------------------------------------------------------------------------------------------------------

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
  const std::string path =
      token_file(folder, [](hid_t file) { make_integers(file, ids_path, {500}, H5T_STD_I64LE, count_up(500)); });
  const std::string whole = read_bytes(path);
  MPI_Barrier(MPI_COMM_WORLD);
  write_bytes(path, whole.substr(0, whole.size() - 1));
  EXPECT_EQ(refusal({path, {}}), path + ": is truncated: it holds " + std::to_string(whole.size() - 1) + " bytes of " +
                                     std::to_string(whole.size()));
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
                   "/inputs/input_ids holds 64-bit floating-point numbers, ids are integers of 8 to 64 bits"},
        BadContent{"integers_of_24_bits",
                   [](hid_t file) {
                     const hid_t type = H5Tcopy(H5T_STD_I32LE);
                     H5Tset_precision(type, 24);
                     make_integers(file, ids_path, {5}, type, {1, 2, 3, 4, 5});
                     H5Tclose(type);
                   },
                   "/inputs/input_ids holds 32-bit integers, of which only 24 bits are used, ids are integers of 8 to 64 bits"},
        BadContent{"integers_of_128_bits",
                   [](hid_t file) {
                     const hid_t type = H5Tcopy(H5T_STD_I64LE);
                     H5Tset_precision(type, 128);
                     make_dataset(file, ids_path, {5}, type, 1, {.no_numbers = true});
                     H5Tclose(type);
                   },
                   "/inputs/input_ids holds 128-bit integers, ids are integers of 8 to 64 bits"},
        BadContent{"bit_fields", [](hid_t file) { make_dataset(file, ids_path, {5}, H5T_STD_B16LE, 1, {.no_numbers = true}); },
                   "/inputs/input_ids holds 16-bit bit fields, ids are integers of 8 to 64 bits"},
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
                   "/inputs/attention_mask holds 32-bit floating-point numbers, a mask has integers of 8 to 64 bits or booleans"},
        BadContent{"far_more_ids_than_the_file_could_hold", [](hid_t file) { make_dataset(file, ids_path, {1ULL << 45}, H5T_STD_I64LE, 0, {.chunk = {1 << 20}, .no_numbers = true}); },
                   "/inputs/input_ids is [35184372088832], 281474976710656 bytes (262144.0 GiB), of which the file holds none"},
        BadContent{"more_ids_than_can_be_counted", [](hid_t file) { make_dataset(file, ids_path, {1ULL << 40, 1ULL << 40}, H5T_STD_I8LE, 0, {.chunk = {1, 1 << 20}, .no_numbers = true}); },
                   "/inputs/input_ids claims to hold more elements than any file can"},
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

// ---- Ranks that see different files ---------------------------------------------------------------------------------

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
