#include "io/output_driver.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "io/virtual_driver.hpp"

namespace bsbr::io {
namespace {

/// What HDF5 knows as an open file of this driver. `base` comes first, since HDF5 is given its address.
struct OpenFile {
  H5FD_t base{};
  OutputAccess output{};
  haddr_t end_of_addresses = 0, end = 0;
};

OpenFile& opened(H5FD_t* file) { return *reinterpret_cast<OpenFile*>(file); }
const OpenFile& opened(const H5FD_t* file) { return *reinterpret_cast<const OpenFile*>(file); }

/// Runs `work` and keeps the first error of all. No exception gets into HDF5.
template <class Work>
bool attempt(const OutputAccess& output, Work&& work) noexcept {
  try {
    work();
    return true;
  } catch (const ContentError& error) {
    if (!*output.failure) *output.failure = error;
    return false;
  }
}

H5FD_t* open_file(const char*, unsigned, hid_t access, haddr_t) {
  auto file = std::make_unique<OpenFile>();
  file->output = *static_cast<const OutputAccess*>(H5Pget_driver_info(access));
  if (!attempt(file->output, [&] { file->end = static_cast<haddr_t>(file->output.file->size()); })) return nullptr;
  return &file.release()->base;
}

herr_t close_file(H5FD_t* file) {
  delete &opened(file);
  return 0;
}

/// The features of the driver of POSIX that make metadata lie together.
herr_t query(const H5FD_t*, unsigned long* features) {
  *features = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
              H5FD_FEAT_AGGREGATE_SMALLDATA;
  return 0;
}

haddr_t get_eoa(const H5FD_t* file, H5FD_mem_t) { return opened(file).end_of_addresses; }

herr_t set_eoa(H5FD_t* file, H5FD_mem_t, haddr_t address) {
  opened(file).end_of_addresses = address;
  return 0;
}

haddr_t get_eof(const H5FD_t* file, H5FD_mem_t) { return opened(file).end; }

/// What lies beyond the end is 0, as HDF5 expects it.
herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t begin, std::size_t size, void* bytes) {
  const OutputAccess& output = opened(file).output;
  std::memset(bytes, 0, size);
  const auto work = [&] {
    output.file->read(static_cast<std::int64_t>(begin), bytes, static_cast<std::int64_t>(size));
  };
  return attempt(output, work) ? 0 : -1;
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t begin, std::size_t size, const void* bytes) {
  OpenFile& to = opened(file);
  to.end = std::max(to.end, begin + size);
  if (*to.output.failure) return 0;
  attempt(to.output,
          [&] { to.output.file->write(static_cast<std::int64_t>(begin), bytes, static_cast<std::int64_t>(size)); });
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t, hbool_t) {
  OpenFile& to = opened(file);
  if (to.end == to.end_of_addresses || *to.output.failure) return 0;
  attempt(to.output, [&] { to.output.file->resize(static_cast<std::int64_t>(to.end_of_addresses)); });
  to.end = to.end_of_addresses;
  return 0;
}

H5FD_class_t driver_class() {
  H5FD_class_t driver = make_driver_class("bsbr_output", 510, sizeof(OutputAccess));
  driver.open = open_file;
  driver.close = close_file;
  driver.query = query;
  driver.get_eoa = get_eoa;
  driver.set_eoa = set_eoa;
  driver.get_eof = get_eof;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  return driver;
}

}  // namespace

void use_output_driver(hid_t access, const OutputAccess& output) {
  static Driver driver{driver_class()};
  set_driver(access, driver, &output);
}

}  // namespace bsbr::io
