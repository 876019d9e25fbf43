#include "io/dataset.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr __int128 largest_number = std::int64_t{1} << 62;

/// A chunk larger than this must not be larger than its dataset: it is held in memory as a whole.
constexpr std::int64_t largest_chunk = 1 << 26;

/// How many times smaller than its numbers a compressed dataset can be: deflate's limit, and scale-offset's, which has none for equal
/// numbers.
constexpr std::int64_t deflate_ratio = 1032, scale_offset_ratio = 1 << 16;

std::string cannot_read(const std::string& path) { return printable(path) + " cannot be read"; }

std::int64_t checked_product(__int128 product, std::int64_t factor, const std::string& path) {
  product *= factor;
  if (product > largest_number) throw ContentError(printable(path) + " claims to hold more numbers than any file can");
  return static_cast<std::int64_t>(product);
}

/// Throws unless the link is a hard one. False: there is none of that name.
bool has_hard_link(hid_t group, const std::string& name, const std::string& path) {
  if (check_hdf5(H5Lexists(group, name.c_str(), H5P_DEFAULT), cannot_read(path)) == 0) return false;
  H5L_info_t link;
  check_hdf5(H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT), cannot_read(path));
  if (link.type == H5L_TYPE_HARD) return true;
  const char* kind = link.type == H5L_TYPE_SOFT       ? "a soft link"
                     : link.type == H5L_TYPE_EXTERNAL ? "an external link"
                                                      : "a user-defined link";
  throw ContentError(printable(path) + " is " + kind + ", and links are not followed", "put the numbers themselves into the file");
}

std::vector<std::string> split(const std::string& path) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    if (!part.empty() && part != ".") parts.push_back(part);
    begin = end + 1;
  }
  return parts;
}

Handle open_dataset(const InputFile& file, const std::string& path) {
  const auto object = find_object(file, path);
  if (!object || H5Iget_type(*object) != H5I_DATASET) throw ContentError(printable(path) + " is not a dataset");
  const Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, "HDF5");
  // Room for a chunk, so that reading it in several pieces does not decompress it each time.
  check_hdf5(H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, largest_chunk, H5D_CHUNK_CACHE_W0_DEFAULT), "HDF5");
  return {H5Dopen2(file.id(), path.c_str(), access), H5Dclose, cannot_read(path)};
}

H5Z_filter_t checked_filter(hid_t creation, unsigned index, const std::string& path) {
  unsigned flags = 0, use = 0;
  std::size_t values = 0;
  std::array<char, 64> name{};
  const auto filter = H5Pget_filter2(creation, index, &flags, &values, nullptr, name.size() - 1, name.data(), &use);
  check_hdf5(filter, cannot_read(path));
  const std::string title = (name[0] == '\0' ? "number " : quoted(name.data()) + ", number ") + std::to_string(filter);
  const std::string hint = "h5repack -f GZIP=4 makes a copy that can be read";
  if (filter < H5Z_FILTER_DEFLATE || filter > H5Z_FILTER_SCALEOFFSET) {
    throw ContentError(printable(path) + " is stored by a filter that is not HDF5's own (" + title + ")", hint);
  }
  if (H5Zfilter_avail(filter) <= 0) {
    throw ContentError(printable(path) + " is stored by a filter that this HDF5 library was built without (" + title + ")", hint);
  }
  return filter;
}

/// In the order in which a chunk passes through them when it is written.
std::vector<H5Z_filter_t> checked_filters(hid_t creation, const std::string& path) {
  const int count = check_hdf5(H5Pget_nfilters(creation), cannot_read(path));
  std::vector<H5Z_filter_t> filters;
  for (int i = 0; i < count; ++i) filters.push_back(checked_filter(creation, static_cast<unsigned>(i), path));
  return filters;
}

/// The creation properties, once it is clear that all numbers are within the file.
Handle checked_creation(hid_t dataset, const std::string& path) {
  Handle creation(H5Dget_create_plist(dataset), H5Pclose, cannot_read(path));
  if (H5Pget_layout(creation) == H5D_VIRTUAL) throw ContentError(printable(path) + " is a virtual dataset: its numbers are in other files");
  if (check_hdf5(H5Pget_external_count(creation), cannot_read(path)) > 0) {
    throw ContentError(printable(path) + " is in external storage: its numbers are in other files");
  }
  return creation;
}

std::vector<std::int64_t> read_shape(hid_t dataset, const std::string& path) {
  const Handle space(H5Dget_space(dataset), H5Sclose, cannot_read(path));
  if (H5Sget_simple_extent_type(space) == H5S_NULL) return {0};
  std::vector<hsize_t> extents(static_cast<std::size_t>(check_hdf5(H5Sget_simple_extent_ndims(space), cannot_read(path))));
  check_hdf5(H5Sget_simple_extent_dims(space, extents.data(), nullptr), cannot_read(path));
  std::vector<std::int64_t> shape;
  std::int64_t size = 1;
  for (const hsize_t extent : extents) {
    shape.push_back(static_cast<std::int64_t>(std::min<hsize_t>(extent, std::numeric_limits<std::int64_t>::max())));
    if (extent != 0) size = checked_product(size, shape.back(), path);  // a 0 must not hide an overflow before it
  }
  return shape;
}

/// How many times larger than its storage a dataset may be.
std::int64_t largest_ratio(const std::vector<H5Z_filter_t>& filters) {
  if (filters.empty()) return 1;
  return std::ranges::find(filters, H5Z_FILTER_SCALEOFFSET) != filters.end() ? scale_offset_ratio : deflate_ratio;
}

#if H5_VERSION_GE(1, 10, 5)
/// Bytes that the file must hold of a chunk of `whole` bytes for which the filters of the bits of `skipped` were left out. HDF5 takes a
/// chunk for whole that no filter has made smaller, and its checksum for there, however little there is.
std::int64_t least_chunk(const std::vector<H5Z_filter_t>& filters, unsigned skipped, std::int64_t whole) {
  std::int64_t numbers = whole, checksum = 0;
  for (std::size_t i = 0; i < filters.size(); ++i) {
    if ((skipped >> i & 1U) != 0 || filters[i] == H5Z_FILTER_SHUFFLE) continue;
    if (filters[i] == H5Z_FILTER_FLETCHER32) {
      checksum = 4;
    } else {
      numbers = 1;
    }
  }
  return numbers + checksum;
}
#endif

std::vector<hsize_t> unsigned_extents(const std::vector<std::int64_t>& extents) { return {extents.begin(), extents.end()}; }

}  // namespace

std::optional<Handle> find_object(const InputFile& file, const std::string& path) {
  Handle object(H5Gopen2(file.id(), "/", H5P_DEFAULT), H5Gclose, "the root group cannot be read");
  std::string walked;
  for (const std::string& part : split(path)) {
    if (H5Iget_type(object) != H5I_GROUP) throw ContentError(printable(walked) + " is not a group");
    walked += '/' + part;
    if (!has_hard_link(object, part, walked)) return std::nullopt;
    object = Handle(H5Oopen(object, part.c_str(), H5P_DEFAULT), H5Oclose, cannot_read(walked));
  }
  return object;
}

std::optional<Dataset> Dataset::find(const InputFile& file, const std::string& path) {
  if (!find_object(file, path)) return std::nullopt;
  return Dataset(file, path);
}

Dataset::Dataset(const InputFile& file, const std::string& path)
    : m_path(path),
      m_dataset(open_dataset(file, path)),
      m_creation(checked_creation(m_dataset, path)),
      m_filters(checked_filters(m_creation, path)),
      m_type(H5Dget_type(m_dataset), H5Tclose, cannot_read(path)),
      m_shape(read_shape(m_dataset, path)) {}

std::int64_t Dataset::size() const {
  std::int64_t product = 1;
  for (const auto extent : m_shape) product *= extent;
  return product;
}

std::int64_t Dataset::bytes() const { return checked_product(size(), static_cast<std::int64_t>(H5Tget_size(m_type)), m_path); }

void Dataset::incomplete(std::int64_t stored) const {
  throw ContentError(printable(m_path) + " is " + bracketed(m_shape) + ", " + show_bytes(bytes()) + ", of which the file holds " +
                         (stored == 0 ? "none" : show_bytes(stored)),
                     "the file is damaged, or was never filled");
}

void Dataset::check_storage(const InputFile& file) const {
  if (size() == 0) return;
  const hsize_t stored = H5Dget_storage_size(m_dataset);
  if (stored > static_cast<hsize_t>(file.bytes())) {
    throw ContentError(printable(m_path) + " claims " + std::to_string(stored) + " bytes of a file that has " +
                       std::to_string(file.bytes()));
  }
  const auto held = static_cast<std::int64_t>(stored);
  if (static_cast<__int128>(held) * largest_ratio(m_filters) < bytes()) incomplete(held);
  const H5D_layout_t layout = H5Pget_layout(m_creation);
  if (layout == H5D_CHUNKED) check_chunks();
  if (layout == H5D_CONTIGUOUS) check_contiguous(file);
}

void Dataset::check_contiguous(const InputFile& file) const {
  const haddr_t begin = H5Dget_offset(m_dataset);
  if (begin == HADDR_UNDEF) incomplete(0);
  if (begin > static_cast<haddr_t>(file.bytes()) || static_cast<std::int64_t>(begin) > file.bytes() - bytes()) {
    throw ContentError(printable(m_path) + " reaches beyond the end of the file");
  }
}

void Dataset::check_chunks() const {
  std::vector<hsize_t> chunk(m_shape.size());
  check_hdf5(H5Pget_chunk(m_creation, static_cast<int>(chunk.size()), chunk.data()), cannot_read(m_path));
  auto chunk_bytes = static_cast<std::int64_t>(H5Tget_size(m_type));
  std::int64_t needed = 1;
  for (std::size_t i = 0; i < chunk.size(); ++i) {
    const auto extent = static_cast<std::int64_t>(std::clamp<hsize_t>(chunk[i], 1, std::numeric_limits<std::int64_t>::max()));
    chunk_bytes = checked_product(chunk_bytes, extent, m_path);
    needed *= m_shape[i] / extent + (m_shape[i] % extent != 0 ? 1 : 0);  // at most the size of the dataset
  }
  if (chunk_bytes > std::max(largest_chunk, bytes())) {
    throw ContentError(printable(m_path) + " is stored in chunks of " + show_bytes(chunk_bytes) + ", more than the whole of it");
  }
#if H5_VERSION_GE(1, 10, 5)
  hsize_t chunks = 0;
  const Handle space(H5Dget_space(m_dataset), H5Sclose, cannot_read(m_path));
  check_hdf5(H5Dget_num_chunks(m_dataset, space, &chunks), cannot_read(m_path));
  if (chunks < static_cast<hsize_t>(needed)) {
    throw ContentError(
        printable(m_path) + " should have " + std::to_string(needed) + " chunks, of which the file holds " + std::to_string(chunks),
        "the file is damaged, or was never filled");
  }
  unsigned options = 0;
  const bool edges_unfiltered = H5Pget_chunk_opts(m_creation, &options) >= 0 && options != 0;  // whatever the mask of a chunk says
  std::vector<hsize_t> place(m_shape.size());
  for (std::int64_t i = 0; i < needed; ++i) {
    unsigned skipped = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t stored = 0;
    check_hdf5(H5Dget_chunk_info_by_coord(m_dataset, place.data(), &skipped, &address, &stored), cannot_read(m_path));
    const std::int64_t least = edges_unfiltered ? 1 : least_chunk(m_filters, skipped, chunk_bytes);
    if (address == HADDR_UNDEF || stored < static_cast<hsize_t>(least)) {
      throw ContentError(
          printable(m_path) + " has a chunk of " + std::to_string(stored) + " bytes, must be " + std::to_string(least) + " at least",
          "the file is damaged");
    }
    // The next one, row by row.
    for (std::size_t d = place.size(); d-- > 0;) {
      place[d] += chunk[d];
      if (place[d] < static_cast<hsize_t>(m_shape[d])) break;
      place[d] = 0;
    }
  }
#endif
}

void Dataset::read(hid_t memory_type, const std::vector<std::int64_t>& begin, const std::vector<std::int64_t>& count, void* target) const {
  const auto first = unsigned_extents(begin), extents = unsigned_extents(count);
  const std::string doing = cannot_read(m_path);
  const Handle space(H5Dget_space(m_dataset), H5Sclose, doing);
  const Handle memory(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, doing);
  check_hdf5(H5Sselect_hyperslab(space, H5S_SELECT_SET, first.data(), nullptr, extents.data(), nullptr), doing);
  check_hdf5(H5Dread(m_dataset, memory_type, memory, space, H5P_DEFAULT, target), doing);
}

}  // namespace bsbr::io
