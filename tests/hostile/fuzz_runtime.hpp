// What the fuzz targets share: MPI and Kokkos for a process by itself, and a file of the bytes at hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace bsbr::hostile {

/// Sets MPI and Kokkos up, one thread. They are taken down when the process ends.
void start_runtime();

/// Bytes as a file, gone with this object; in TMPDIR, which is best in memory.
class TemporaryFile {
 public:
  TemporaryFile(const std::uint8_t* bytes, std::size_t size);
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile();
  const std::string& path() const { return m_path; }

 private:
  std::string m_path;
};

}  // namespace bsbr::hostile
