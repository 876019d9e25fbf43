#include "io/dataset.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "io/text.hpp"

namespace bsbr::io {
namespace {

/// A chunk larger than this must not be larger than its dataset: it is held in memory as a whole.
constexpr std::int64_t largest_chunk = 1 << 26;

/// How many times smaller than its elements a compressed dataset can be: deflate's limit, and scale-offset's, which has
/// none for equal elements. The first is the limit for unwritten chunks, too.
constexpr std::int64_t deflate_ratio = 1032, scale_offset_ratio = 1 << 16;

constexpr const char* unwritten_hint =
    "write all of it; what was never written is read only where the writer has set a fill value (h5py: fillvalue=0)";

std::string cannot_read(const std::string& path) { return printable(path) + " cannot be read"; }

/// Throws unless the link is a hard one. False: there is none of that name.
bool has_hard_link(hid_t group, const std::string& name, const std::string& path) {
  if (check_hdf5(H5Lexists(group, name.c_str(), H5P_DEFAULT), cannot_read(path)) == 0) return false;
  H5L_info_t link;
  check_hdf5(H5Lget_info(group, name.c_str(), &link, H5P_DEFAULT), cannot_read(path));
  if (link.type == H5L_TYPE_HARD) return true;
  const char* kind = link.type == H5L_TYPE_SOFT       ? "a soft link"
                     : link.type == H5L_TYPE_EXTERNAL ? "an external link"
                                                      : "a user-defined link";
  throw ContentError(printable(path) + " is " + kind + ", and links are not followed",
                     "put the data themselves into the file");
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
  check_hdf5(H5Pset_chunk_cache(access, H5D_CHUNK_CACHE_NSLOTS_DEFAULT, largest_chunk, H5D_CHUNK_CACHE_W0_DEFAULT),
             "HDF5");
  return {H5Dopen2(file.id(), path.c_str(), access), H5Dclose, cannot_read(path)};
}

H5Z_filter_t checked_filter(hid_t creation, unsigned index, const std::string& path) {
  unsigned flags = 0, use = 0;
  std::size_t values = 0;
  std::array<char, 64> name{};
  const auto filter = H5Pget_filter2(creation, index, &flags, &values, nullptr, name.size() - 1, name.data(), &use);
  check_hdf5(filter, cannot_read(path));
  const std::string title = (name[0] == '\0' ? "number " : quoted(name.data()) + ", number ") + std::to_string(filter);
  const std::string hint =
      "copy it with the program that wrote it, compressed by gzip (h5py: compression=\"gzip\"); h5repack drops "
      "datasets whose filter it "
      "lacks";
  if (filter < H5Z_FILTER_DEFLATE || filter > H5Z_FILTER_SCALEOFFSET) {
    throw ContentError(printable(path) + " is stored by a filter that is not HDF5's own (" + title + ")", hint);
  }
  if (H5Zfilter_avail(filter) <= 0) {
    throw ContentError(
        printable(path) + " is stored by a filter that this HDF5 library was built without (" + title + ")", hint);
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

/// The creation properties, once it is clear that all data are within the file.
Handle checked_creation(hid_t dataset, const std::string& path) {
  Handle creation(H5Dget_create_plist(dataset), H5Pclose, cannot_read(path));
  if (H5Pget_layout(creation) == H5D_VIRTUAL)
    throw ContentError(printable(path) + " is a virtual dataset: its data are in other files");
  if (check_hdf5(H5Pget_external_count(creation), cannot_read(path)) > 0) {
    throw ContentError(printable(path) + " is in external storage: its data are in other files");
  }
  return creation;
}

Extents read_shape(hid_t dataset, const std::string& path) {
  const Handle space(H5Dget_space(dataset), H5Sclose, cannot_read(path));
  if (H5Sget_simple_extent_type(space) == H5S_NULL) return {0};
  std::vector<hsize_t> extents(
      static_cast<std::size_t>(check_hdf5(H5Sget_simple_extent_ndims(space), cannot_read(path))));
  check_hdf5(H5Sget_simple_extent_dims(space, extents.data(), nullptr), cannot_read(path));
  Extents shape;
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

/// Bytes that the file must hold of a chunk of `whole` bytes for which the filters of the bits of `skipped` were left
/// out. HDF5 takes a chunk for whole that no filter has made smaller, and its checksum for there, however little there
/// is.
std::int64_t least_chunk(const std::vector<H5Z_filter_t>& filters, unsigned skipped, std::int64_t whole) {
  std::int64_t data = whole, checksum = 0;
  for (std::size_t i = 0; i < filters.size(); ++i) {
    if ((skipped >> i & 1U) != 0 || filters[i] == H5Z_FILTER_SHUFFLE) continue;
    if (filters[i] == H5Z_FILTER_FLETCHER32) {
      checksum = 4;
    } else {
      data = 1;
    }
  }
  return data + checksum;
}

/// Whether HDF5 gives a value that the writer has chosen where nothing was written.
bool has_fill_value(hid_t creation, const std::string& path) {
  H5D_fill_value_t defined = H5D_FILL_VALUE_DEFAULT;
  H5D_fill_time_t time = H5D_FILL_TIME_NEVER;
  check_hdf5(H5Pfill_value_defined(creation, &defined), cannot_read(path));
  check_hdf5(H5Pget_fill_time(creation, &time), cannot_read(path));
  return defined == H5D_FILL_VALUE_USER_DEFINED && time != H5D_FILL_TIME_NEVER;
}

/// Whether the chunks at the edges of a dataset, where they reach beyond it, are stored without any filter.
bool are_edges_unfiltered(hid_t creation) {
  unsigned options = 0;
  return H5Pget_chunk_opts(creation, &options) >= 0 && (options & H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) != 0;
}

std::vector<hsize_t> unsigned_extents(const Extents& extents) { return {extents.begin(), extents.end()}; }

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
      m_shape(read_shape(m_dataset, path)),
      m_file_bytes(file.bytes()) {}

std::int64_t Dataset::size() const {
  std::int64_t product = 1;
  for (const auto extent : m_shape) product *= extent;
  return product;
}

std::int64_t Dataset::bytes() const {
  return checked_product(size(), static_cast<std::int64_t>(H5Tget_size(m_type)), m_path);
}

void Dataset::incomplete(std::int64_t stored) const {
  throw ContentError(printable(m_path) + " is " + bracketed(m_shape) + ", " + show_bytes(bytes()) +
                         ", of which the file holds " + (stored == 0 ? "none" : show_bytes(stored)),
                     stored == 0 ? unwritten_hint : "the file is damaged, or not all of the dataset was written");
}

void Dataset::check_storage() {
  if (size() == 0) return;
  const hsize_t stored = H5Dget_storage_size(m_dataset);
  if (stored > static_cast<hsize_t>(m_file_bytes)) {
    throw ContentError(printable(m_path) + " claims " + std::to_string(stored) + " bytes of a file that has " +
                       std::to_string(m_file_bytes));
  }
  const auto held = static_cast<std::int64_t>(stored);
  const bool filled = has_fill_value(m_creation, m_path);
  const H5D_layout_t layout = H5Pget_layout(m_creation);
  if (layout == H5D_CHUNKED) check_grid(held, filled);
  const std::int64_t ratio = std::max(largest_ratio(m_filters), filled ? deflate_ratio : 1);
  if (static_cast<__int128>(filled ? m_file_bytes : held) * ratio < bytes()) incomplete(held);
  if (layout == H5D_CONTIGUOUS) check_contiguous(filled);
}

void Dataset::check_contiguous(bool filled) const {
  const haddr_t begin = H5Dget_offset(m_dataset);
  if (begin == HADDR_UNDEF && filled) return;
  if (begin == HADDR_UNDEF) incomplete(0);
  if (begin > static_cast<haddr_t>(m_file_bytes) || static_cast<std::int64_t>(begin) > m_file_bytes - bytes()) {
    throw ContentError(printable(m_path) + " reaches beyond the end of the file");
  }
}

void Dataset::check_grid(std::int64_t held, bool filled) {
  m_grid.emplace(m_path, m_creation, m_shape, static_cast<std::int64_t>(H5Tget_size(m_type)));
  if (m_grid->chunk_bytes() > std::max(largest_chunk, bytes())) {
    throw ContentError(printable(m_path) + " is stored in chunks of " + show_bytes(m_grid->chunk_bytes()) +
                       ", more than the whole of it");
  }
  if (m_grid->chunks() > (filled ? m_file_bytes : held))
    incomplete(held);  // a chunk that was written takes a byte at least
  if (!filled) require_written();
}

std::int64_t Dataset::stored_bytes(const Extents& place) const {
  const auto offset = unsigned_extents(place);
  hsize_t stored = 0;  // H5Dget_chunk_info_by_coord would be slow, and it finds nothing in some extensible arrays
  if (H5Dget_chunk_storage_size(m_dataset, offset.data(), &stored) < 0) {
    ContentError error = hdf5_error(cannot_read(m_path));
    // HDF5 1.10 gives no size for a chunk that was never written, but an error.
    const bool unwritten =
        std::string_view(error.what()).find("chunk storage is not allocated") != std::string_view::npos;
    if (!unwritten) throw ContentError(std::move(error));
    stored = 0;
  }
  if (stored > static_cast<hsize_t>(m_file_bytes)) {
    throw ContentError(printable(m_path) + " has a chunk of " + std::to_string(stored) + " bytes in a file that has " +
                       std::to_string(m_file_bytes));
  }
  return static_cast<std::int64_t>(stored);
}

void Dataset::require_written() const {
  std::int64_t unwritten = 0;
  Extents first;
  m_grid->for_each(Extents(m_shape.size()), m_shape, [&](const Extents& place, std::int64_t) {
    if (stored_bytes(place) == 0 && unwritten++ == 0) first = place;
  });
  if (unwritten == 0) return;
  throw ContentError(printable(m_path) + " has " + std::to_string(m_grid->chunks()) + " chunks, of which " +
                         std::to_string(unwritten) + (unwritten == 1 ? " was" : " were") +
                         " never written, the first at " + bracketed(first),
                     unwritten_hint);
}

void Dataset::check_chunks(const Extents& begin, const Extents& count) const {
  if (!m_grid || m_filters.empty()) return;  // without filters HDF5 reads whole chunks, whatever the index says of them
  m_checked.resize(static_cast<std::size_t>(m_grid->chunks()));
  m_grid->for_each(begin, count, [&](const Extents& place, std::int64_t index) {
    const auto at = static_cast<std::size_t>(index);
    if (!m_checked[at]) check_chunk(place);
    m_checked[at] = true;
  });
}

void Dataset::check_chunk(const Extents& place) const {
  const std::int64_t stored = stored_bytes(place), whole = m_grid->chunk_bytes();
  if (stored == 0) return;  // check_storage() has seen to it that there is a fill value
  std::int64_t least = whole;
  if (!are_edges_unfiltered(m_creation) || !m_grid->is_partial(place)) {
    const auto offset = unsigned_extents(place);
    std::vector<char> bytes(static_cast<std::size_t>(stored));
    std::uint32_t skipped = 0;  // what H5Dget_chunk_info says of it takes time that grows with the number of chunks
    check_hdf5(H5Dread_chunk(m_dataset, H5P_DEFAULT, offset.data(), &skipped, bytes.data()), cannot_read(m_path));
    least = least_chunk(m_filters, skipped, whole);
  }
  if (stored >= least) return;
  throw ContentError(printable(m_path) + " has a chunk of " + std::to_string(stored) + " bytes, must be " +
                         std::to_string(least) + " at least",
                     "the file is damaged");
}

void Dataset::read(hid_t memory_type, const Extents& begin, const Extents& count, void* target) const {
  check_chunks(begin, count);
  const auto first = unsigned_extents(begin), extents = unsigned_extents(count);
  const std::string doing = cannot_read(m_path);
  const Handle space(H5Dget_space(m_dataset), H5Sclose, doing);
  const Handle memory(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr), H5Sclose, doing);
  check_hdf5(H5Sselect_hyperslab(space, H5S_SELECT_SET, first.data(), nullptr, extents.data(), nullptr), doing);
  check_hdf5(H5Dread(m_dataset, memory_type, memory, space, H5P_DEFAULT, target), doing);
}

}  // namespace bsbr::io
