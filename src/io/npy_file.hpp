// Arrays of integers in NumPy's .npy format (NEP 1), untrusted: the header is believed no further than the file's size
// bears it out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/chunk_grid.hpp"
#include "io/descriptor.hpp"
#include "io/token_reader.hpp"

namespace bsbr::io {

/// Whether the file begins as a .npy file does.
bool is_npy(const Descriptor& file);

/// A .npy file of integers, [length] or [rows, length], that is open for reading.
class NpyFile {
 public:
  /// Throws ContentError: damaged or truncated, another type than integers of 8 to 64 bits, another rank than 1 or 2,
  /// empty.
  explicit NpyFile(const std::string& path);

  std::int32_t dimensions() const { return m_dimensions; }
  std::int64_t rows() const { return m_rows; }
  std::int64_t length() const { return m_length; }
  bool is_column_major() const { return m_column_major; }  ///< as Fortran stores arrays
  std::string type() const;                                ///< "uint16"

  /// Reads a block, row by row. Unsigned integers that int64 cannot hold become its largest. Throws ContentError.
  void read(const Block& block, std::int64_t* target) const;

 private:
  void read_header();
  void set_type(const std::string& description);
  void set_shape(const Extents& shape);
  std::vector<unsigned char> read_bytes(std::int64_t first, std::int64_t count) const;  // of `count` elements

  Descriptor m_file;
  std::int32_t m_dimensions = 1;
  std::int64_t m_begin = 0, m_rows = 1, m_length = 0;
  int m_width = 0;
  bool m_signed = false, m_big_endian = false, m_column_major = false;
};

}  // namespace bsbr::io
