// Making files for tests, bad ones above all: a folder for them, and HDF5 without the library's own writers.
#pragma once

#include <gtest/gtest.h>
#include <hdf5.h>
#include <mpi.h>
#include <sys/resource.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bsbr::testing {

int rank();
int ranks();

/// A temporary folder that all ranks share, gone with all its files at the end of the test. Collective.
class Folder {
 public:
  Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder();
  std::string operator/(const std::string& name) const { return m_path + '/' + name; }
  const std::string& path() const { return m_path; }

 private:
  std::string m_path;
};

/// The names of its files, sorted. Collective.
std::vector<std::string> files_in(const Folder& folder);

/// The largest file that this process may write, until the end of the scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes);
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit();

 private:
  struct rlimit m_before {};
  void (*m_handler)(int) = SIG_DFL;
};

/// Runs `work` on rank 0 while the others wait.
void on_rank_0(const std::function<void()>& work);

/// Opens an HDF5 file on rank 0, for `work` to change; makes it if it is missing. Collective.
void edit(const std::string& path, const std::function<void(hid_t)>& work);

/// Makes a file of these bytes on rank 0. Collective.
void write_bytes(const std::string& path, const std::string& bytes);
std::string read_bytes(const std::string& path);

/// How a dataset is stored that is not plain.
struct Storage {
  std::vector<hsize_t> chunk = {};
  bool deflate = false;
  H5Z_filter_t other_filter = 0;  ///< an optional filter, so that HDF5 writes without it
  bool no_numbers = false;
};

/// A dataset of `file_type` whose numbers are all `value`; groups on the way are made.
void make_dataset(hid_t file, const std::string& path, const std::vector<hsize_t>& shape, hid_t file_type,
                  double value = 1, const Storage& storage = {});

/// A dataset of integers, row by row.
void make_integers(hid_t file, const std::string& path, const std::vector<hsize_t>& shape, hid_t file_type,
                   const std::vector<std::int64_t>& values);

/// One number of a dataset.
void set_number(hid_t file, const std::string& path, const std::vector<hsize_t>& place, double value);

void set_attribute(hid_t file, const std::string& name, std::int64_t value);
void set_attribute(hid_t file, const std::string& name, double value);
void set_attribute(hid_t file, const std::string& name, const char* value);
/// Text of fixed length.
void set_fixed_text(hid_t file, const std::string& name, const std::string& value, std::size_t size, H5T_str_t padding);
void remove_attribute(hid_t file, const std::string& name);
void remove(hid_t file, const std::string& path);

/// What `work` says when it fails as it should, on this rank: the exception must be an Expected. Empty, and a failure,
/// if it does not.
template <class Expected>
std::string message_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no exception";
  return {};
}

template <class Expected>
std::string hint_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Expected& error) {
    return error.hint();
  }
  ADD_FAILURE() << "no exception";
  return {};
}

/// The most memory that this process has had so far, in bytes.
std::int64_t peak_memory();

/// How many errors HDF5 would print of itself: its own printing must be as it was, whatever the library did in between.
bool hdf5_prints_errors();

}  // namespace bsbr::testing
