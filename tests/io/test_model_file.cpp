// Model files: what is read from good ones, and what is said of bad ones.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "architectures/traits.hpp"
#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "files.hpp"
#include "support/golden.hpp"

namespace bsbr::testing {
namespace {

constexpr const char* query = "/weights/layers.0.attention.q_proj.weight";
constexpr double infinity = std::numeric_limits<double>::infinity(),
                 not_a_number = std::numeric_limits<double>::quiet_NaN();

ModelConfig config_of(Architecture architecture) {
  ModelConfig config{.architecture = architecture,
                     .vocab_size = 11,
                     .hidden_dim = 8,
                     .num_layers = 2,
                     .num_heads = 2,
                     .ff_dim = 6,
                     .chunk_size = 4};
  config.dropout = 0.25;
  config.head = Head::separate;
  config.compression_factor = 2;
  config.causality = Causality::block_causal;
  config.window_size = 5;
  config.temperature = 1.5;
  config.beta = 0.7;
  config.expansion_factor = 2;
  config.feature_map = FeatureMap::elu;
  config.state_scale = StateScale::mean;
  config.router_key = RouterKey::mean;
  config.null_chunk = config.retrieval_gate = config.output_norm = 1;
  if (traits(architecture).has_one_head) config.num_heads = 1;
  return config;
}

/// A valid model file that tests make bad ones of.
template <class Real = float>
std::string good_model(const Folder& folder, Architecture architecture = Architecture::bsbr) {
  const std::string path = folder / "model.h5";
  on_rank_0([&] { write_model(path, random_weights<Real>(config_of(architecture), 1)); });
  return path;
}

template <class Real>
std::vector<Real> numbers(const Weights<Real>& weights) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), weights.data());
  return {host.data(), host.data() + host.size()};
}

std::string refusal(const std::string& path) {
  return message_of<FileError>([&] { read_weights<float>(path, MPI_COMM_WORLD); });
}

// ---- Good files -----------------------------------------------------------------------------------------------------

class EveryArchitecture : public ::testing::TestWithParam<Named<Architecture>> {};

TEST_P(EveryArchitecture, is_read_as_it_was_written) {
  const Folder folder;
  const ModelConfig config = config_of(GetParam().value);
  const std::string path = good_model<double>(folder, GetParam().value);
  const auto weights = read_weights<double>(path, MPI_COMM_WORLD);
  EXPECT_EQ(numbers(weights), numbers(random_weights<double>(config, 1)));
  const ModelConfig found = read_config(path, MPI_COMM_WORLD);
  for_each_field(config, [&](const Field& field, const auto& written) {
    for_each_field(found, [&](const Field& other, const auto& value) {
      if constexpr (std::is_same_v<decltype(value), decltype(written)>) {
        if (field.name == other.name && field.belongs_to(config.architecture)) {
          EXPECT_TRUE(value == written) << field.name;
        }
      }
    });
  });
}

TEST_P(EveryArchitecture, of_a_file_without_a_head_has_none_and_hidden_states_only) {
  const Folder folder;
  ModelConfig config = config_of(GetParam().value);
  config.head = Head::none;
  const std::string path = folder / "model.h5";
  on_rank_0([&] { write_model(path, random_weights<float>(config, 1)); });
  edit(path, [](hid_t file) { remove_attribute(file, "head"); });
  const auto weights = read_weights<float>(path, MPI_COMM_WORLD);
  EXPECT_EQ(weights.config().head, Head::none);
  EXPECT_EQ(numbers(weights), numbers(random_weights<float>(config, 1)));
}

TEST(ModelFile, a_tied_head_has_no_weight_of_its_own) {
  const Folder folder;
  ModelConfig config = config_of(Architecture::linear);
  config.head = Head::tied;
  const std::string path = folder / "model.h5";
  on_rank_0([&] { write_model(path, random_weights<float>(config, 1)); });
  EXPECT_EQ(read_config(path, MPI_COMM_WORLD).head, Head::tied);
  edit(path, [](hid_t file) { make_dataset(file, "/weights/lm_head.weight", {11, 8}, H5T_IEEE_F32LE); });
  EXPECT_EQ(refusal(path), path + ": /weights/lm_head.weight is not a weight of this configuration");
}

INSTANTIATE_TEST_SUITE_P(ModelFile, EveryArchitecture, ::testing::ValuesIn(architectures),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ModelFile, golden_files_are_model_files) {
  for (const std::string name : {"bsbr_c2_ragged", "standard_short", "linear_short", "delta_net_short",
                                 "sliding_window_short", "hopfield_short", "gau_short"}) {
    const GoldenCase golden = read_golden(name);
    const auto weights = read_weights<double>(golden_path(name), MPI_COMM_WORLD);
    for (const WeightInfo& info : weight_table(golden.config)) {
      const auto found = numbers(weights);
      const auto& expected = golden.weights.at(info.name).values;
      EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin() + weights.offset(info.name)))
          << name << ' ' << info.name;
    }
  }
}

TEST(ModelFile, float_weights_of_a_double_file_are_the_rounded_ones) {
  const Folder folder;
  const auto weights = read_weights<float>(good_model<double>(folder), MPI_COMM_WORLD);
  EXPECT_EQ(numbers(weights), numbers(random_weights<float>(config_of(Architecture::bsbr), 1)));
}

TEST(ModelFile, weights_may_be_chunked_compressed_and_of_either_byte_order) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [](hid_t file) {
    remove(file, query);
    make_dataset(file, query, {8, 8}, H5T_IEEE_F64BE, 0.5, {.chunk = {3, 8}, .deflate = true});
  });
  const auto weights = read_weights<float>(path, MPI_COMM_WORLD);
  const auto found = numbers(weights);
  const auto begin = found.begin() + weights.offset("layers.0.attention.q_proj.weight");
  EXPECT_TRUE(std::all_of(begin, begin + 64, [](float value) { return value == 0.5F; }));
}

TEST(ModelFile, attributes_may_be_of_any_text_and_number_type) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [](hid_t file) {
    set_fixed_text(file, "architecture", "bsbr", 4, H5T_STR_NULLPAD);
    set_fixed_text(file, "causality", "causal", 16, H5T_STR_SPACEPAD);
    set_fixed_text(file, "format", "bsbr-model", 11, H5T_STR_NULLTERM);
    set_attribute(file, "format_version", 1.0);
    set_attribute(file, "hidden_dim", 8.0);
    set_attribute(file, "dropout", std::int64_t{0});
    set_attribute(file, "author", "an attribute that nobody knows is ignored");
  });
  const ModelConfig config = read_config(path, MPI_COMM_WORLD);
  EXPECT_EQ(config.causality, Causality::causal);
  EXPECT_EQ(config.hidden_dim, 8);
  EXPECT_EQ(config.dropout, 0);
}

/// An attribute of this type, alone or as an array of one element.
void set_typed(hid_t file, const char* name, hid_t type, double value, bool array) {
  remove_attribute(file, name);
  const hsize_t one = 1;
  const hid_t space = array ? H5Screate_simple(1, &one, nullptr) : H5Screate(H5S_SCALAR);
  const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  H5Awrite(attribute, H5T_NATIVE_DOUBLE, &value);
  H5Aclose(attribute);
  H5Sclose(space);
}

TEST(ModelFile, every_whole_number_may_have_any_width_byte_order_and_be_stored_as_a_real) {
  const Folder folder;
  const std::string path = good_model(folder);
  bool array = false;
  const auto types = {H5T_STD_I8LE,  H5T_STD_U8BE,  H5T_STD_I16BE,  H5T_STD_U16LE,  H5T_STD_I32BE,  H5T_STD_U32LE,
                      H5T_STD_I64BE, H5T_STD_U64LE, H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE, H5T_IEEE_F64BE};
  for (const hid_t type : types) {
    edit(path, [&](hid_t file) {
      const std::pair<const char*, int> fields[] = {
          {"format_version", 1}, {"vocab_size", 11}, {"hidden_dim", 8}, {"num_layers", 2},        {"num_heads", 2},
          {"ff_dim", 6},         {"chunk_size", 4},  {"dropout", 0},    {"compression_factor", 2}};
      for (const auto& [name, value] : fields) set_typed(file, name, type, value, array);
    });
    EXPECT_EQ(read_config(path, MPI_COMM_WORLD).hidden_dim, 8);
    array = !array;
  }
}

TEST(ModelFile, a_fraction_is_no_version) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [](hid_t file) { set_attribute(file, "format_version", 1.5); });
  EXPECT_EQ(refusal(path), path + ": attribute format_version is 1.5, this library reads version 1");
}

TEST(ModelFile, dropout_may_be_missing) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [](hid_t file) { remove_attribute(file, "dropout"); });
  EXPECT_EQ(read_config(path, MPI_COMM_WORLD).dropout, 0);
}

TEST(ModelFile, without_the_fields_by_which_a_model_learns_to_retrieve_is_as_published) {
  const Folder folder;
  for (const Architecture architecture : {Architecture::bsbr, Architecture::gau, Architecture::linear}) {
    ModelConfig config{.architecture = architecture, .hidden_dim = 8, .num_layers = 1, .num_heads = 1, .ff_dim = 6};
    const std::string path = folder / "older.h5";
    on_rank_0([&] { write_model(path, random_weights<float>(config, 1)); });
    edit(path, [&](hid_t file) {
      for (const char* name : {"state_scale", "null_chunk", "retrieval_gate", "router_key", "output_norm"}) {
        if (has_field(architecture, name)) remove_attribute(file, name);
      }
    });
    const ModelConfig found = read_config(path, MPI_COMM_WORLD);
    EXPECT_EQ(found.state_scale, StateScale::sum);
    EXPECT_EQ(found.router_key, RouterKey::last);
    EXPECT_EQ(found.null_chunk + found.retrieval_gate + found.output_norm, 0);
    EXPECT_EQ(numbers(read_weights<float>(path, MPI_COMM_WORLD)), numbers(random_weights<float>(config, 1)));
  }
}

TEST(ModelFile, a_written_file_has_the_same_bytes_each_time_and_leaves_no_other) {
  const Folder folder;
  const std::string path = good_model(folder), bytes = read_bytes(path);
  MPI_Barrier(MPI_COMM_WORLD);
  good_model(folder);
  EXPECT_EQ(bytes, read_bytes(path));
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST(ModelFile, reading_leaves_the_error_printing_of_hdf5_as_it_was) {
  const Folder folder;
  ASSERT_TRUE(hdf5_prints_errors());
  read_config(good_model(folder), MPI_COMM_WORLD);
  message_of<FileError>([&] { read_config(folder / "absent.h5", MPI_COMM_WORLD); });
  EXPECT_TRUE(hdf5_prints_errors());
}

// ---- Files that are no model files ----------------------------------------------------------------------------------

TEST(ModelFile, a_missing_file_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal(folder / "absent.h5"), folder / "absent.h5: there is no such file");
}

TEST(ModelFile, a_folder_is_named) {
  const Folder folder;
  EXPECT_EQ(refusal(folder.path()), folder.path() + ": is a folder, not a file");
}

TEST(ModelFile, a_pipe_is_not_waited_for) {
  const Folder folder;
  on_rank_0([&] { ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0); });
  EXPECT_EQ(refusal(folder / "pipe"), folder / "pipe: is a pipe or a device, not an ordinary file");
}

TEST(ModelFile, a_file_that_may_not_be_read_is_named) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const Folder folder;
  const std::string path = good_model(folder);
  on_rank_0([&] { ASSERT_EQ(chmod(path.c_str(), 0), 0); });
  EXPECT_EQ(refusal(path), path + ": cannot be read: Permission denied");
}

TEST(ModelFile, an_empty_file_is_named) {
  const Folder folder;
  write_bytes(folder / "empty.h5", "");
  EXPECT_EQ(refusal(folder / "empty.h5"), folder / "empty.h5: is empty");
}

TEST(ModelFile, text_is_not_an_hdf5_file) {
  const Folder folder;
  write_bytes(folder / "text.h5", "this is no HDF5 file");
  EXPECT_EQ(refusal(folder / "text.h5"), folder / "text.h5: is not an HDF5 file");
}

TEST(ModelFile, control_characters_of_a_name_are_escaped) {
  const Folder folder;
  EXPECT_EQ(refusal(folder / "a\nb\x1b\xc2\x9b"
                             "c\xc3\xa4.h5"),
            folder / "a\\nb\\x1b\\xc2\\x9bc\xc3\xa4.h5: there is no such file");
}

TEST(ModelFile, a_truncated_file_is_called_truncated_wherever_it_ends) {
  const Folder folder;
  const std::string whole = read_bytes(good_model(folder)), path = folder / "cut.h5";
  const std::string all = std::to_string(whole.size());
  for (const std::size_t size :
       {std::size_t{4}, std::size_t{8}, std::size_t{60}, std::size_t{2048}, whole.size() / 2, whole.size() - 1}) {
    MPI_Barrier(MPI_COMM_WORLD);
    write_bytes(path, whole.substr(0, size));
    const std::string message = refusal(path);
    EXPECT_TRUE(message.starts_with(path + ": is truncated: it holds " + std::to_string(size) + " bytes")) << message;
    if (size >= 60) {
      EXPECT_TRUE(message.ends_with(" of " + all)) << message;
    }
  }
}

TEST(ModelFile, damage_anywhere_in_the_structure_is_an_error_or_harmless) {
  const Folder folder;
  const std::string whole = read_bytes(good_model(folder)), path = folder / "damaged.h5";
  for (std::size_t at = 0; at < 6000; at += 97) {
    MPI_Barrier(MPI_COMM_WORLD);
    std::string damaged = whole;
    for (std::size_t i = at; i < at + 8; ++i) damaged[i] = static_cast<char>(~damaged[i]);
    write_bytes(path, damaged);
    try {
      read_weights<float>(path, MPI_COMM_WORLD);
    } catch (const FileError& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with(path + ": ")) << error.what();
    }
  }
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

TEST(ModelFile, a_file_that_its_writer_has_not_closed_is_named_as_such) {
  const Folder folder;
  const std::string path = folder / "open.h5";
  on_rank_0([&] {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    H5Fflush(file, H5F_SCOPE_GLOBAL);
    std::filesystem::copy_file(path, path + ".copy");
    H5Fclose(file);
    H5Pclose(access);
  });
  const auto read = [&] { read_config(path + ".copy", MPI_COMM_WORLD); };
  EXPECT_EQ(
      message_of<FileError>(read),
      path + ".copy: is marked as open for writing: it is still being written, or its writer ended without closing it");
  EXPECT_EQ(hint_of<FileError>(read), "if no program writes to it any more, h5clear -s FILE clears the mark");
}

TEST(ModelFile, a_file_that_another_program_writes_is_named_as_such) {
  const Folder folder;
  const std::string path = good_model(folder);
  int writer = -1;
  on_rank_0([&] {
    writer = open(path.c_str(), O_RDWR | O_CLOEXEC);
    ASSERT_EQ(flock(writer, LOCK_EX), 0);
  });
  EXPECT_EQ(refusal(path), path + ": is open for writing in another program");
  on_rank_0([&] { close(writer); });
  EXPECT_NO_THROW(read_config(path, MPI_COMM_WORLD));
}

TEST(ModelFile, a_format_that_is_newer_than_this_hdf5_is_named_in_the_hint) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [](hid_t file) {
    remove(file, query);
    make_dataset(file, query, {8, 8}, H5T_IEEE_F32LE);  // with a header that has no checksum
  });
  const std::string whole = read_bytes(path);
  MPI_Barrier(MPI_COMM_WORLD);
  const auto hint = [&] { return hint_of<FileError>([&] { read_weights<float>(path, MPI_COMM_WORLD); }); };
  std::string newer = whole;
  newer[8] = 9;  // the version of the superblock
  write_bytes(path, newer);
  EXPECT_EQ(refusal(path), path + ": has a superblock of version 9");
  EXPECT_NE(hint().find("newer than HDF5 " + hdf5_version() + " reads"), std::string::npos) << hint();
  MPI_Barrier(MPI_COMM_WORLD);
  newer = whole;
  // The layout message of a contiguous dataset: type 8, size 24, flags and reserved; then its version, 3, and class, 1.
  const std::string begin("\x08\0\x18\0", 4), rest("\0\0\0\3\1", 5);
  std::size_t layout = newer.find(begin);
  while (layout != std::string::npos && newer.compare(layout + 5, rest.size(), rest) != 0)
    layout = newer.find(begin, layout + 1);
  ASSERT_NE(layout, std::string::npos);
  newer[layout + 8] = 9;
  MPI_Barrier(MPI_COMM_WORLD);
  write_bytes(path, newer);
  EXPECT_NE(refusal(path).find("version number for layout message"), std::string::npos) << refusal(path);
  EXPECT_NE(hint().find("libver=\"v110\""), std::string::npos) << hint();
}

TEST(ModelFile, a_git_lfs_pointer_is_named_as_such) {
  const Folder folder;
  write_bytes(folder / "m.h5", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
  const auto read = [&] { read_config(folder / "m.h5", MPI_COMM_WORLD); };
  EXPECT_EQ(message_of<FileError>(read), folder / "m.h5: is not an HDF5 file but a Git LFS pointer");
  EXPECT_EQ(hint_of<FileError>(read), "git lfs pull gets the file that it stands for");
}

// ---- Files whose content is wrong -----------------------------------------------------------------------------------

struct BadContent {
  const char* name;
  std::function<void(hid_t)> edit;
  std::string message, hint = {};
};

class BadModelFile : public ::testing::TestWithParam<BadContent> {};

TEST_P(BadModelFile, is_refused_with_the_thing_its_value_and_the_rule) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, GetParam().edit);
  EXPECT_EQ(refusal(path), path + ": " + GetParam().message);
  if (!GetParam().hint.empty()) {
    EXPECT_EQ(hint_of<FileError>([&] { read_weights<float>(path, MPI_COMM_WORLD); }), GetParam().hint);
  }
  EXPECT_LT(peak_memory(), std::int64_t{1} << 30);
}

BadContent attribute(const char* name, const char* field, auto value, const std::string& message,
                     const std::string& hint = {}) {
  return {name, [=](hid_t file) { set_attribute(file, field, value); }, message, hint};
}

/// The query weight of layer 0 made anew.
BadContent weight(const char* name, const std::function<void(hid_t)>& make, const std::string& message,
                  const std::string& hint = {}) {
  return {name,
          [=](hid_t file) {
            remove(file, query);
            make(file);
          },
          query + message, hint};
}

const std::string filled_hint =
                      "write all of it; what was never written is read only where the writer has set a fill value "
                      "(h5py: fillvalue=0)",
                  link_hint = "put the data themselves into the file",
                  filter_hint =
                      "copy it with the program that wrote it, compressed by gzip (h5py: compression=\"gzip\"); "
                      "h5repack drops datasets "
                      "whose filter it lacks";

INSTANTIATE_TEST_SUITE_P(
    Weights, BadModelFile,
    ::testing::Values(
        weight(
            "a_missing_weight", [](hid_t) {}, " is missing, the configuration needs it as [8, 8]"),
        weight(
            "a_misspelt_weight",
            [](hid_t file) {
              make_dataset(file, "/weights/q", {8, 8}, H5T_IEEE_F32LE);
            },
            " is missing, the configuration needs it as [8, 8]",
            "there is /weights/q, which the configuration has no place for"),
        weight(
            "a_weight_of_another_shape",
            [](hid_t file) {
              make_dataset(file, query, {8, 4}, H5T_IEEE_F32LE);
            },
            " is [8, 4], the configuration needs [8, 8]"),
        weight(
            "a_weight_of_another_rank", [](hid_t file) { make_dataset(file, query, {64}, H5T_IEEE_F32LE); },
            " is [64], the configuration needs [8, 8]"),
        weight(
            "a_scalar", [](hid_t file) { make_dataset(file, query, {}, H5T_IEEE_F32LE); },
            " is [], the configuration needs [8, 8]"),
        weight(
            "an_enormous_weight",
            [](hid_t file) {
              make_dataset(file, query, {1 << 25, 1 << 20}, H5T_IEEE_F32LE, 0,
                           {.chunk = {1024, 1024}, .no_numbers = true});
            },
            " is [33554432, 1048576], the configuration needs [8, 8]"),
        weight(
            "a_shape_that_overflows",
            [](hid_t file) {
              make_dataset(file, query, {1ULL << 40, 1ULL << 20}, H5T_IEEE_F32LE, 0,
                           {.chunk = {1024, 1024}, .no_numbers = true});
            },
            " is [1099511627776, 1048576], the configuration needs [8, 8]"),
        weight(
            "integers",
            [](hid_t file) {
              make_dataset(file, query, {8, 8}, H5T_STD_I64LE);
            },
            " holds 64-bit integers, weights are float32 or float64"),
        weight(
            "a_group", [](hid_t file) { H5Gclose(H5Gcreate2(file, query, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)); },
            " is not a dataset"),
        weight(
            "a_soft_link",
            [](hid_t file) { H5Lcreate_soft("/weights/embedding.weight", file, query, H5P_DEFAULT, H5P_DEFAULT); },
            " is a soft link, and links are not followed", link_hint),
        weight(
            "an_external_link",
            [](hid_t file) { H5Lcreate_external("other.h5", "/x", file, query, H5P_DEFAULT, H5P_DEFAULT); },
            " is an external link, and links are not followed", link_hint),
        weight(
            "an_unknown_filter",
            [](hid_t file) {
              make_dataset(file, query, {8, 8}, H5T_IEEE_F32LE, 1, {.chunk = {8, 8}, .other_filter = 32000});
            },
            " is stored by a filter that is not HDF5's own (number 32000)", filter_hint),
        weight(
            "a_weight_that_was_never_written",
            [](hid_t file) {
              make_dataset(file, query, {8, 8}, H5T_IEEE_F32LE, 0, {.no_numbers = true});
            },
            " is [8, 8], 256 bytes, of which the file holds none", filled_hint),
        BadContent{"not_a_number",
                   [](hid_t file) {
                     set_number(file, query, {3, 4}, not_a_number);
                   },
                   query + std::string(" [3, 4] is nan, weights are finite numbers")},
        BadContent{"infinity", [](hid_t file) { set_number(file, "/weights/layer_norm.bias", {7}, -infinity); },
                   "/weights/layer_norm.bias [7] is -inf, weights are finite numbers"},
        weight(
            "a_number_too_large_for_float",
            [](hid_t file) {
              make_dataset(file, query, {8, 8}, H5T_IEEE_F64LE, 1e300);
            },
            " [0, 0] is 1e+300, too large for float", "read the model in double precision"),
        BadContent{"a_surplus_weight",
                   [](hid_t file) {
                     make_dataset(file, "/weights/layers.0.attention.s\n_proj.weight", {8, 8}, H5T_IEEE_F32LE);
                   },
                   "/weights/layers.0.attention.s\\n_proj.weight is not a weight of this configuration"},
        BadContent{"a_surplus_group", [](hid_t file) { make_dataset(file, "/weights/more/x", {8}, H5T_IEEE_F32LE); },
                   "/weights/more is not a weight of this configuration"},
        BadContent{"no_weights", [](hid_t file) { remove(file, "/weights"); }, "/weights is missing"},
        BadContent{"weights_that_are_a_dataset",
                   [](hid_t file) {
                     remove(file, "/weights");
                     make_dataset(file, "/weights", {8}, H5T_IEEE_F32LE);
                   },
                   "/weights is not a group"},
        BadContent{"weights_that_are_elsewhere",
                   [](hid_t file) {
                     remove(file, "/weights");
                     H5Lcreate_external("other.h5", "/weights", file, "/weights", H5P_DEFAULT, H5P_DEFAULT);
                   },
                   "/weights is an external link, and links are not followed"}),
    [](const auto& test) { return std::string(test.param.name); });

INSTANTIATE_TEST_SUITE_P(
    Attributes, BadModelFile,
    ::testing::Values(
        attribute("another_format", "format", "bsbr-result",
                  "attribute format is \"bsbr-result\", a model file has \"bsbr-model\"",
                  "this is a result that bsbr_forward has written"),
        BadContent{"no_format", [](hid_t file) { remove_attribute(file, "format"); },
                   "has no attribute format = \"bsbr-model\", so it is not a model file"},
        attribute("a_future_version", "format_version", std::int64_t{99},
                  "attribute format_version is 99, this library reads version 1",
                  "a newer version of bsbr has written the file"),
        attribute("version_0", "format_version", std::int64_t{0},
                  "attribute format_version is 0, this library reads version 1"),
        attribute("an_unknown_architecture", "architecture", "perceptron",
                  "attribute architecture is \"perceptron\", which this library does not know",
                  "known are " + list_of_names<Architecture>()),
        attribute("an_architecture_with_control_characters", "architecture", "a\nb",
                  "attribute architecture is \"a\\nb\", which this library does not know"),
        attribute("a_long_text", "causality", "0123456789012345678901234567890123456789012345678901234567890123456789",
                  "attribute causality is \"012345678901234567890123456789012345678901234567890123456789...\", which "
                  "this library does not know"),
        attribute("an_unknown_causality", "causality", "sideways",
                  "attribute causality is \"sideways\", which this library does not know",
                  "known are causal, block_causal, bidirectional, reference"),
        attribute("an_unknown_head", "head", "two", "attribute head is \"two\", which this library does not know",
                  "known are none, tied, separate"),
        attribute("a_head_that_has_no_weight", "head", "none",
                  "/weights/lm_head.weight is not a weight of this configuration"),
        BadContent{"a_separate_head_without_its_weight", [](hid_t file) { remove(file, "/weights/lm_head.weight"); },
                   "/weights/lm_head.weight is missing, the configuration needs it as [11, 8]"},
        BadContent{"a_head_of_another_vocabulary",
                   [](hid_t file) {
                     remove(file, "/weights/lm_head.weight");
                     make_dataset(file, "/weights/lm_head.weight", {12, 8}, H5T_IEEE_F32LE);
                   },
                   "/weights/lm_head.weight is [12, 8], the configuration needs [11, 8]"},
        attribute("a_number_for_a_name", "architecture", std::int64_t{3},
                  "attribute architecture is 3, which is not a name"),
        BadContent{"a_missing_attribute", [](hid_t file) { remove_attribute(file, "hidden_dim"); },
                   "attribute hidden_dim is missing"},
        BadContent{"a_missing_attribute_of_the_architecture", [](hid_t file) { remove_attribute(file, "causality"); },
                   "attribute causality is missing"},
        attribute("an_attribute_of_another_architecture", "window_size", std::int64_t{4},
                  "attribute window_size belongs to sliding_window, the architecture is bsbr"),
        attribute("heads_that_do_not_divide", "num_heads", std::int64_t{7},
                  "num_heads = 7 does not divide hidden_dim = 8"),
        attribute("no_heads", "num_heads", std::int64_t{0}, "num_heads = 0 is below 1"),
        attribute("negative_layers", "num_layers", std::int64_t{-1}, "num_layers = -1 is below 1"),
        attribute("enormous_layers", "num_layers", std::int64_t{1} << 40, "num_layers = 1099511627776 is above 65536"),
        attribute("an_enormous_width", "hidden_dim", std::int64_t{1} << 40,
                  "hidden_dim = 1099511627776 is above 1073741824"),
        attribute("enormous_but_possible_layers", "num_layers", std::int64_t{65536},
                  "/weights/layers.2.attention.q_proj.weight is missing, the configuration needs it as [8, 8]"),
        attribute("an_enormous_but_possible_width", "ff_dim", std::int64_t{1} << 24,
                  "/weights/layers.0.ff.0.weight is [6, 8], the configuration needs [16777216, 8]"),
        attribute("text_for_a_number", "hidden_dim", "thirty-two",
                  "attribute hidden_dim is \"thirty-two\", which is not a whole number"),
        attribute("a_width_that_is_not_whole", "hidden_dim", 8.5,
                  "attribute hidden_dim is 8.5, which is not a whole number"),
        attribute("a_width_that_is_not_a_number", "hidden_dim", not_a_number,
                  "attribute hidden_dim is nan, which is not a whole number"),
        attribute("an_infinite_width", "hidden_dim", infinity, "attribute hidden_dim is inf, which is out of range"),
        attribute("a_dropout_that_is_not_a_number", "dropout", not_a_number, "dropout = nan is not a number"),
        attribute("text_for_a_dropout", "dropout", "none", "attribute dropout is \"none\", which is not a number"),
        attribute("a_negative_compression", "compression_factor", std::int64_t{-2},
                  "compression_factor = -2 is below 0"),
        attribute("no_chunk", "chunk_size", std::int64_t{0}, "chunk_size = 0 is below 1")),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ModelFile, external_storage_is_refused) {
  const Folder folder;
  const std::string path = good_model(folder);
  write_bytes(folder / "numbers", std::string(256, '\0'));
  edit(path, [&](hid_t file) {
    remove(file, query);
    const hsize_t shape[] = {8, 8};
    const hid_t space = H5Screate_simple(2, shape, nullptr), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(creation, (folder / "numbers").c_str(), 0, 256);
    H5Dclose(H5Dcreate2(file, query, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Pclose(creation);
    H5Sclose(space);
  });
  EXPECT_EQ(refusal(path), path + ": " + query + " is in external storage: its data are in other files");
}

TEST(ModelFile, a_virtual_dataset_is_refused) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [&](hid_t file) {
    remove(file, query);
    const hsize_t shape[] = {8, 8};
    const hid_t space = H5Screate_simple(2, shape, nullptr), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_virtual(creation, space, "other.h5", "/x", space);
    H5Dclose(H5Dcreate2(file, query, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Pclose(creation);
    H5Sclose(space);
  });
  EXPECT_EQ(refusal(path), path + ": " + query + " is a virtual dataset: its data are in other files");
}

TEST(ModelFile, a_chunk_far_larger_than_its_dataset_is_refused) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [&](hid_t file) {
    remove(file, query);
    const hsize_t shape[] = {8, 8}, most[] = {H5S_UNLIMITED, H5S_UNLIMITED}, chunk[] = {1 << 14, 1 << 14};
    const hid_t space = H5Screate_simple(2, shape, most), creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 2, chunk);
    H5Pset_deflate(creation, 1);
    const hid_t dataset = H5Dcreate2(file, query, H5T_IEEE_F32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    const std::vector<unsigned char> bytes(2000, 0);
    const hsize_t origin[] = {0, 0};
    H5Dwrite_chunk(dataset, H5P_DEFAULT, 0, origin, bytes.size(), bytes.data());
    H5Dclose(dataset);
    H5Pclose(creation);
    H5Sclose(space);
  });
  EXPECT_EQ(refusal(path),
            path + ": " + query + " is stored in chunks of 1073741824 bytes (1.0 GiB), more than the whole of it");
}

TEST(ModelFile, a_chunk_that_is_missing_is_refused) {
  const Folder folder;
  const std::string path = good_model(folder);
  edit(path, [&](hid_t file) {
    remove(file, query);
    make_dataset(file, query, {8, 8}, H5T_IEEE_F32LE, 0, {.chunk = {4, 8}, .deflate = true, .no_numbers = true});
    set_number(file, query, {0, 0}, 1);
  });
  EXPECT_EQ(refusal(path), path + ": " + query + " has 2 chunks, of which 1 was never written, the first at [4, 0]");
}

// ---- Writing --------------------------------------------------------------------------------------------------------

TEST(ModelFile, is_not_written_into_a_missing_folder) {
  const Folder folder;
  const auto weights = random_weights<float>(config_of(Architecture::gau), 1);
  const std::string path = folder / "nowhere/model.h5";
  EXPECT_EQ(message_of<OutputError>([&] { write_model(path, weights); }),
            path + ": the folder " + (folder / "nowhere") + " does not exist");
}

}  // namespace
}  // namespace bsbr::testing
