#include "files.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace bsbr::testing {
namespace {

/// Ends the test program's patience with a wrong test: the answer of an HDF5 call, or an exception.
template <class Answer>
Answer good(Answer answer) {
  if (answer < 0) throw std::logic_error("an HDF5 call of a test has failed");
  return answer;
}

hid_t space_of(const std::vector<hsize_t>& shape) {
  return good(shape.empty() ? H5Screate(H5S_SCALAR)
                            : H5Screate_simple(static_cast<int>(shape.size()), shape.data(), nullptr));
}

std::size_t size_of(const std::vector<hsize_t>& shape) {
  std::size_t size = 1;
  for (const auto extent : shape) size *= extent;
  return size;
}

hid_t create(hid_t file, const std::string& path, const std::vector<hsize_t>& shape, hid_t type,
             const Storage& storage) {
  const hid_t links = good(H5Pcreate(H5P_LINK_CREATE)), creation = good(H5Pcreate(H5P_DATASET_CREATE)),
              space = space_of(shape);
  good(H5Pset_create_intermediate_group(links, 1));
  if (!storage.chunk.empty())
    good(H5Pset_chunk(creation, static_cast<int>(storage.chunk.size()), storage.chunk.data()));
  if (storage.deflate) good(H5Pset_deflate(creation, 9));
  if (storage.other_filter != 0) good(H5Pset_filter(creation, storage.other_filter, H5Z_FLAG_OPTIONAL, 0, nullptr));
  const hid_t dataset = good(H5Dcreate2(file, path.c_str(), type, space, links, creation, H5P_DEFAULT));
  H5Sclose(space);
  H5Pclose(creation);
  H5Pclose(links);
  return dataset;
}

template <class Value>
void replace_attribute(hid_t file, const std::string& name, hid_t type, const Value* value) {
  if (H5Aexists(file, name.c_str()) > 0) good(H5Adelete(file, name.c_str()));
  const hid_t space = good(H5Screate(H5S_SCALAR));
  const hid_t attribute = good(H5Acreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT));
  good(H5Awrite(attribute, type, value));
  H5Aclose(attribute);
  H5Sclose(space);
}

}  // namespace

int rank() {
  int answer = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &answer);
  return answer;
}

int ranks() {
  int answer = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &answer);
  return answer;
}

Folder::Folder() {
  std::array<char, 256> path{};
  if (rank() == 0) {
    const std::string pattern = (std::filesystem::temp_directory_path() / "bsbr-test-XXXXXX").string();
    pattern.copy(path.data(), path.size() - 1);
    if (mkdtemp(path.data()) == nullptr) throw std::logic_error("no temporary folder");
  }
  MPI_Bcast(path.data(), static_cast<int>(path.size()), MPI_CHAR, 0, MPI_COMM_WORLD);
  m_path = path.data();
}

Folder::~Folder() {
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank() == 0) std::filesystem::remove_all(m_path);
}

std::vector<std::string> files_in(const Folder& folder) {
  MPI_Barrier(MPI_COMM_WORLD);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  MPI_Barrier(MPI_COMM_WORLD);
  return names;
}

FileSizeLimit::FileSizeLimit(rlim_t bytes) {
  getrlimit(RLIMIT_FSIZE, &m_before);
  struct rlimit limit = m_before;
  limit.rlim_cur = bytes;
  setrlimit(RLIMIT_FSIZE, &limit);
  m_handler = std::signal(SIGXFSZ, SIG_IGN);  // as the programs do
}

FileSizeLimit::~FileSizeLimit() {
  setrlimit(RLIMIT_FSIZE, &m_before);
  std::signal(SIGXFSZ, m_handler);
}

void on_rank_0(const std::function<void()>& work) {
  if (rank() == 0) work();
  MPI_Barrier(MPI_COMM_WORLD);
}

void edit(const std::string& path, const std::function<void(hid_t)>& work) {
  on_rank_0([&] {
    const bool there = std::filesystem::exists(path);
    const hid_t file = good(there ? H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT)
                                  : H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, H5P_DEFAULT));
    work(file);
    good(H5Fclose(file));
  });
}

void write_bytes(const std::string& path, const std::string& bytes) {
  on_rank_0([&] { std::ofstream(path, std::ios::binary) << bytes; });
}

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void make_dataset(hid_t file, const std::string& path, const std::vector<hsize_t>& shape, hid_t file_type, double value,
                  const Storage& storage) {
  const hid_t dataset = create(file, path, shape, file_type, storage);
  if (!storage.no_numbers) {
    const std::vector<double> values(size_of(shape), value);
    good(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
  }
  H5Dclose(dataset);
}

void make_integers(hid_t file, const std::string& path, const std::vector<hsize_t>& shape, hid_t file_type,
                   const std::vector<std::int64_t>& values) {
  const hid_t dataset = create(file, path, shape, file_type, {});
  good(H5Dwrite(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
  H5Dclose(dataset);
}

void set_number(hid_t file, const std::string& path, const std::vector<hsize_t>& place, double value) {
  const hid_t dataset = good(H5Dopen2(file, path.c_str(), H5P_DEFAULT)), space = good(H5Dget_space(dataset)),
              one = good(H5Screate(H5S_SCALAR));
  good(H5Sselect_elements(space, H5S_SELECT_SET, 1, place.data()));
  good(H5Dwrite(dataset, H5T_NATIVE_DOUBLE, one, space, H5P_DEFAULT, &value));
  H5Sclose(one);
  H5Sclose(space);
  H5Dclose(dataset);
}

void set_attribute(hid_t file, const std::string& name, std::int64_t value) {
  replace_attribute(file, name, H5T_STD_I64LE, &value);
}

void set_attribute(hid_t file, const std::string& name, double value) {
  replace_attribute(file, name, H5T_IEEE_F64LE, &value);
}

void set_attribute(hid_t file, const std::string& name, const char* value) {
  const hid_t type = good(H5Tcopy(H5T_C_S1));
  good(H5Tset_size(type, H5T_VARIABLE));
  replace_attribute(file, name, type, &value);
  H5Tclose(type);
}

void set_fixed_text(hid_t file, const std::string& name, const std::string& value, std::size_t size,
                    H5T_str_t padding) {
  const hid_t type = good(H5Tcopy(H5T_C_S1));
  good(H5Tset_size(type, size));
  good(H5Tset_strpad(type, padding));
  std::string padded = value;
  padded.resize(size, padding == H5T_STR_SPACEPAD ? ' ' : '\0');
  replace_attribute(file, name, type, padded.data());
  H5Tclose(type);
}

void remove_attribute(hid_t file, const std::string& name) { good(H5Adelete(file, name.c_str())); }

void remove(hid_t file, const std::string& path) { good(H5Ldelete(file, path.c_str(), H5P_DEFAULT)); }

std::int64_t peak_memory() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * std::int64_t{1024};
}

bool hdf5_prints_errors() {
  H5E_auto2_t print = nullptr;
  void* data = nullptr;
  return H5Eget_auto2(H5E_DEFAULT, &print, &data) >= 0 && print != nullptr;
}

}  // namespace bsbr::testing
