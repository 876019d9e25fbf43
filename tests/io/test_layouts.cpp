// Every way in which HDF5 can lay out a dataset gives the same elements: all chunk indexes, partial chunks, filters,
// times of allocation.
#include <algorithm>
#include <numeric>
#include <optional>

#include "bsbr/error.hpp"
#include "bsbr/io.hpp"
#include "files.hpp"

namespace bsbr::testing {
namespace {

using Shape = std::vector<hsize_t>;

/// Versions of the format that a writer may be bound to. They decide by which index chunks are found.
constexpr std::pair<H5F_libver_t, H5F_libver_t> versions[] = {{H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST},
                                                              {H5F_LIBVER_EARLIEST, H5F_LIBVER_V18},
                                                              {H5F_LIBVER_V18, H5F_LIBVER_V18},
                                                              {H5F_LIBVER_V110, H5F_LIBVER_V110},
                                                              {H5F_LIBVER_LATEST, H5F_LIBVER_LATEST}};

enum class Filters { none, deflate, shuffle, checksum, all, scale_offset, n_bit };
constexpr Filters all_filters[] = {Filters::none, Filters::deflate,      Filters::shuffle, Filters::checksum,
                                   Filters::all,  Filters::scale_offset, Filters::n_bit};

struct Layout {
  Shape shape, most, chunk;
  Filters filters = Filters::none;
  H5D_alloc_time_t allocation = H5D_ALLOC_TIME_DEFAULT;
  bool fill_value = false, unfiltered_edges = false;
};

/// All limits of the dimensions: as they are, twice as much, none.
std::vector<Shape> limits(const Shape& shape) {
  std::vector<Shape> all{{}};
  for (const hsize_t extent : shape) {
    std::vector<Shape> longer;
    for (const Shape& begin : all) {
      for (const hsize_t most : {extent, 2 * extent, H5S_UNLIMITED}) {
        longer.push_back(begin);
        longer.back().push_back(most);
      }
    }
    all = longer;
  }
  return all;
}

/// A chunk may be larger than a dimension only where that can grow to it.
bool fits(const Shape& chunk, const Shape& most) {
  return std::equal(chunk.begin(), chunk.end(), most.begin(), [](hsize_t one, hsize_t limit) { return one <= limit; });
}

/// `newest`: the format of HDF5 1.10 is allowed, which alone can leave edges unfiltered.
std::vector<Layout> layouts(bool newest) {
  std::vector<Layout> all{{{12}, {12}, {}}, {{4, 6}, {4, 6}, {}}};
  const std::pair<Shape, std::vector<Shape>> chunked[] = {{{12}, {{1}, {5}, {12}, {20}}},
                                                          {{4, 6}, {{1, 2}, {3, 4}, {4, 6}, {5, 8}}}};
  for (const auto& [shape, chunks] : chunked) {
    for (const Shape& chunk : chunks) {
      for (const Shape& most : limits(shape)) {
        if (!fits(chunk, most)) continue;
        for (const Filters filters : all_filters) all.push_back({shape, most, chunk, filters});
        all.push_back({shape, most, chunk, Filters::all, H5D_ALLOC_TIME_EARLY});
        all.push_back({shape, most, chunk, Filters::none, H5D_ALLOC_TIME_EARLY, true});
        all.push_back({shape, most, chunk, Filters::deflate, H5D_ALLOC_TIME_INCR, true});
        if (newest) all.push_back({shape, most, chunk, Filters::all, H5D_ALLOC_TIME_DEFAULT, false, true});
      }
    }
  }
  return all;
}

std::string name_of(const Layout& layout) {
  std::string text = "chunk";
  for (const hsize_t extent : layout.chunk) text += " " + std::to_string(extent);
  text += ", most";
  for (const hsize_t extent : layout.most)
    text += " " + (extent == H5S_UNLIMITED ? "unlimited" : std::to_string(extent));
  return text + ", filters " + std::to_string(static_cast<int>(layout.filters)) + ", allocation " +
         std::to_string(layout.allocation) + (layout.unfiltered_edges ? ", edges unfiltered" : "");
}

void set_filters(hid_t creation, Filters filters) {
  const bool all = filters == Filters::all;
  if (filters == Filters::shuffle || all) H5Pset_shuffle(creation);
  if (filters == Filters::deflate || all) H5Pset_deflate(creation, 6);
  if (filters == Filters::scale_offset) H5Pset_scaleoffset(creation, H5Z_SO_INT, H5Z_SO_INT_MINBITS_DEFAULT);
  if (filters == Filters::n_bit) H5Pset_nbit(creation);
  if (filters == Filters::checksum || all) H5Pset_fletcher32(creation);
}

hid_t creation_of(const Layout& layout) {
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  if (!layout.chunk.empty()) H5Pset_chunk(creation, static_cast<int>(layout.chunk.size()), layout.chunk.data());
  set_filters(creation, layout.filters);
  H5Pset_alloc_time(creation, layout.allocation);
  const int fill = 3;
  if (layout.fill_value) H5Pset_fill_value(creation, H5T_NATIVE_INT, &fill);
  if (layout.unfiltered_edges) H5Pset_chunk_opts(creation, H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS);
  return creation;
}

/// A dataset of this layout, written whole from `values`.
void store(hid_t file, const std::string& path, const Layout& layout, hid_t type, hid_t memory_type,
           const void* values) {
  const hid_t links = H5Pcreate(H5P_LINK_CREATE), creation = creation_of(layout);
  H5Pset_create_intermediate_group(links, 1);
  const hid_t space = H5Screate_simple(static_cast<int>(layout.shape.size()), layout.shape.data(), layout.most.data());
  const hid_t dataset = H5Dcreate2(file, path.c_str(), type, space, links, creation, H5P_DEFAULT);
  ASSERT_GE(dataset, 0) << name_of(layout);
  ASSERT_GE(H5Dwrite(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0) << path;
  H5Dclose(dataset);
  H5Sclose(space);
  H5Pclose(creation);
  H5Pclose(links);
}

/// Makes a file of one version of the format on rank 0. Collective.
void create(const std::string& path, std::pair<H5F_libver_t, H5F_libver_t> version,
            const std::function<void(hid_t)>& fill) {
  on_rank_0([&] {
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(access, version.first, version.second);
    const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, access);
    ASSERT_GE(file, 0);
    fill(file);
    H5Fclose(file);
    H5Pclose(access);
  });
}

class EveryVersion : public ::testing::TestWithParam<std::pair<H5F_libver_t, H5F_libver_t>> {};

constexpr int ids_and_mask_size = 24;

TEST_P(EveryVersion, ids_and_masks_are_read_from_every_layout) {
  std::vector<std::int64_t> ids(ids_and_mask_size), mask(ids_and_mask_size);
  for (int i = 0; i < ids_and_mask_size; ++i)
    ids[static_cast<std::size_t>(i)] = 7 * i % 200, mask[static_cast<std::size_t>(i)] = i % 3 != 0;
  const auto all = layouts(GetParam().second != H5F_LIBVER_V18);
  const Folder folder;
  const std::string path = folder / "tokens.h5";
  create(path, GetParam(), [&](hid_t file) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::string group = "/" + std::to_string(i);
      store(file, group + "/ids", all[i], i % 2 == 0 ? H5T_STD_I32LE : H5T_STD_U16BE, H5T_NATIVE_INT64, ids.data());
      store(file, group + "/attention_mask", all[i], H5T_STD_U8LE, H5T_NATIVE_INT64, mask.data());
    }
  });
  for (std::size_t i = 0; i < all.size(); ++i) {
    const TokenSource source{path, "/" + std::to_string(i) + "/ids"};
    try {
      const TokenShape shape = read_token_shape(source, MPI_COMM_WORLD);
      const Sequence sequence(MPI_COMM_WORLD, shape.batch, shape.length, 2);
      const Tokens tokens = read_tokens(source, sequence, 200);
      ASSERT_TRUE(tokens.mask.has_value());
      for (std::int64_t row = 0; row < shape.batch; ++row) {
        for (std::int64_t k = 0; k < sequence.local_tokens(); ++k) {
          const auto at = static_cast<std::size_t>(row * shape.length + sequence.first_token() + k);
          EXPECT_EQ(tokens.ids(row, k), ids[at]) << name_of(all[i]);
          EXPECT_EQ((*tokens.mask)(row, k), mask[at]) << name_of(all[i]);
        }
      }
    } catch (const FileError& error) {
      ADD_FAILURE() << name_of(all[i]) << ": " << error.what();
    }
  }
}

/// Copies every weight of a model file into one of another layout.
void restore(hid_t from, hid_t to, const ModelConfig& config, std::size_t limit, Filters filters) {
  for (const WeightInfo& info : weight_table(config)) {
    const std::string path = "/weights/" + info.name;
    std::vector<float> values(static_cast<std::size_t>(info.size()));
    const hid_t dataset = H5Dopen2(from, path.c_str(), H5P_DEFAULT);
    H5Dread(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(dataset);
    const Shape shape(info.shape.begin(), info.shape.end());
    const auto all = limits(shape);
    Shape chunk;
    for (const hsize_t extent : shape) chunk.push_back(std::max<hsize_t>(1, 2 * extent / 3));
    store(to, path, {shape, all[limit % all.size()], chunk, filters}, H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, values.data());
  }
}

TEST_P(EveryVersion, weights_are_read_from_every_chunk_index) {
  ModelConfig config{.vocab_size = 11, .hidden_dim = 8, .num_layers = 1, .num_heads = 2, .ff_dim = 6, .chunk_size = 4};
  const Folder folder;
  const std::string plain = folder / "plain.h5", path = folder / "model.h5";
  on_rank_0([&] { write_model(plain, random_weights<float>(config, 1)); });
  const auto expected = read_weights<float>(plain, MPI_COMM_WORLD);
  for (std::size_t limit = 0; limit < 9; ++limit) {
    for (const Filters filters : {Filters::none, Filters::all}) {
      create(path, GetParam(), [&](hid_t file) {
        const hid_t from = H5Fopen(plain.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
        const auto copy_attribute = [](hid_t old, const char* name, const H5A_info_t*, void* to) -> herr_t {
          const hid_t attribute = H5Aopen(old, name, H5P_DEFAULT), type = H5Aget_type(attribute),
                      space = H5Aget_space(attribute);
          std::vector<char> value(std::max<std::size_t>(H5Tget_size(type), 16));
          H5Aread(attribute, type, value.data());
          const hid_t copy = H5Acreate2(*static_cast<hid_t*>(to), name, type, space, H5P_DEFAULT, H5P_DEFAULT);
          H5Awrite(copy, type, value.data());
          for (const hid_t one : {copy, attribute}) H5Aclose(one);
          H5Tclose(type);
          H5Sclose(space);
          return 0;
        };
        H5Aiterate2(from, H5_INDEX_NAME, H5_ITER_INC, nullptr, copy_attribute, &file);
        restore(from, file, config, limit, filters);
        H5Fclose(from);
      });
      const auto found = read_weights<float>(path, MPI_COMM_WORLD);
      const auto one = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), found.data());
      const auto other = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), expected.data());
      EXPECT_TRUE(std::equal(one.data(), one.data() + one.size(), other.data())) << limit;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, EveryVersion, ::testing::ValuesIn(versions),
                         [](const auto& test) { return std::to_string(test.index); });

// ---- What was never written -----------------------------------------------------------------------------------------

/// Ids [2, 6] in chunks [1, 3], of which the first alone was written; `fill`: the value that the writer has set for the
/// others.
std::string partly_written(const Folder& folder, std::optional<int> fill, bool chunked = true) {
  const std::string path = folder / "partly.h5";
  create(path, versions[4], [&](hid_t file) {
    const hsize_t shape[] = {2, 6}, most[] = {2, H5S_UNLIMITED}, chunk[] = {1, 3}, begin[] = {0, 0};
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(2, shape, chunked ? most : nullptr);
    if (chunked) H5Pset_chunk(creation, 2, chunk);
    if (fill) H5Pset_fill_value(creation, H5T_NATIVE_INT, &*fill);
    const hid_t dataset = H5Dcreate2(file, "/input_ids", H5T_STD_I32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    const std::int32_t values[] = {5, 6, 7};
    const hid_t memory = H5Screate_simple(2, chunk, nullptr);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, begin, nullptr, chunk, nullptr);
    if (chunked) H5Dwrite(dataset, H5T_NATIVE_INT32, memory, space, H5P_DEFAULT, values);
    for (const hid_t one : {memory, space}) H5Sclose(one);
    H5Pclose(creation);
    H5Dclose(dataset);
  });
  return path;
}

TEST(Unwritten, chunks_are_read_where_their_writer_has_set_a_fill_value) {
  for (const bool chunked : {true, false}) {
    const Folder folder;
    const std::string path = partly_written(folder, 9, chunked);
    const Sequence sequence(MPI_COMM_WORLD, 2, 6, 1);
    const Tokens tokens = read_tokens({path, {}}, sequence, 10);
    for (std::int64_t row = 0; row < 2; ++row) {
      for (std::int64_t i = 0; i < sequence.local_tokens(); ++i) {
        const std::int64_t position = sequence.first_token() + i;
        EXPECT_EQ(tokens.ids(row, i), chunked && row == 0 && position < 3 ? 5 + position : 9);
      }
    }
  }
}

TEST(Unwritten, chunks_without_a_fill_value_are_refused_by_place_and_not_called_damaged) {
  const Folder folder;
  const std::string path = partly_written(folder, std::nullopt);
  const auto read = [&] { read_token_shape({path, {}}, MPI_COMM_WORLD); };
  EXPECT_EQ(message_of<FileError>(read),
            path + ": /input_ids has 4 chunks, of which 3 were never written, the first at [0, 3]");
  EXPECT_NE(hint_of<FileError>(read).find("fill value"), std::string::npos);
}

TEST(Unwritten, a_fill_value_does_not_stand_for_far_more_than_the_file_holds) {
  const Folder folder;
  const std::string path = folder / "huge.h5";
  create(path, versions[4], [&](hid_t file) {
    const hsize_t shape[] = {1ULL << 40}, chunk[] = {1 << 20};
    const int fill = 1;
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, shape, nullptr);
    H5Pset_chunk(creation, 1, chunk);
    H5Pset_fill_value(creation, H5T_NATIVE_INT, &fill);
    H5Dclose(H5Dcreate2(file, "/input_ids", H5T_STD_I8LE, space, H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(creation);
  });
  EXPECT_EQ(message_of<FileError>([&] {
              read_token_shape({path, {}}, MPI_COMM_WORLD);
            }),
            path + ": /input_ids is [1099511627776], 1099511627776 bytes (1024.0 GiB), of which the file holds none");
}

}  // namespace
}  // namespace bsbr::testing
