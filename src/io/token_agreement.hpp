// Ranks that read one token file, each by itself: what they agree on.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <limits>
#include <string>

#include "bsbr/io.hpp"
#include "io/token_reader.hpp"

namespace bsbr::io {

/// Throws FileError on all ranks unless all see the same.
void require_same(const std::string& path, const TokenShape& mine, MPI_Comm comm);

/// An element that is out of its range, and where in the source it stands, counted row after row.
struct BadElement {
  static constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();
  std::int64_t index = none, value = 0;

  /// Keeps the first in the source.
  void add(std::int64_t other_index, std::int64_t other_value) {
    if (other_index < index) *this = {other_index, other_value};
  }
};

/// The first of all ranks' bad ids becomes a FileError on all ranks: "… holds -7 at [0, 3], ids are 0 to 999". `reader`
/// is of this source, `length` that of its rows.
void refuse_bad_ids(const std::string& path, MPI_Comm comm, const TokenReader& reader, std::int64_t length,
                    std::int64_t vocab_size, const BadElement& mine);

/// The same of mask values.
void refuse_bad_mask(const std::string& path, MPI_Comm comm, const TokenReader& reader, std::int64_t length,
                     const BadElement& mine);

}  // namespace bsbr::io
