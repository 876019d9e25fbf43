// How an HDF5 file begins (HDF5 File Format Specification, section II.A), for what must be known before HDF5 opens it
// or when it will not.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "io/descriptor.hpp"

namespace bsbr::io {

/// The integer in these bytes of metadata, 8 at most.
std::uint64_t little_endian(std::string_view bytes);

/// Where the signature stands in a file of so many bytes: at 0, or after a user block of 512, 1024, 2048, … bytes.
std::optional<std::int64_t> find_signature(const Descriptor& file, std::int64_t bytes);

/// Whether the file has nothing but a piece of the signature.
bool is_piece_of_signature(const Descriptor& file);

constexpr int newest_superblock = 3;  ///< the newest version that is known here

struct Superblock {
  int version;   ///< of one that is newer than newest_superblock, nothing else is known
  bool is_open;  ///< marked as open for writing: set when a file is opened in the format of HDF5 1.10, cleared when it
                 ///< is closed
  std::uint64_t end;  ///< of the file, where it is whole
  int length_width;   ///< bytes of a length in the file's metadata, 2 to 8
};

/// Of a file of so many bytes. Nothing if it has no signature, is cut off, or its integers have a width that none has.
std::optional<Superblock> read_superblock(const Descriptor& file, std::int64_t bytes);

}  // namespace bsbr::io
