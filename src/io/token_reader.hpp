// Where ids and masks come from, each kind of file with a reader of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bsbr/io.hpp"

namespace bsbr::io {

/// A part of the rows of an input: the same positions of each.
struct Block {
  std::int64_t row, rows, position, positions;
};

/// A source of ids that is open on this process. Its functions throw ContentError.
class TokenReader {
 public:
  TokenReader() = default;
  TokenReader(const TokenReader&) = delete;
  TokenReader& operator=(const TokenReader&) = delete;
  virtual ~TokenReader() = default;

  virtual TokenShape shape() const = 0;
  virtual std::string ids_name() const = 0;  ///< for messages: "/inputs/input_ids holds "
  virtual std::string mask_name() const { return {}; }

  /// Whether columns, not rows, are stored in one piece.
  virtual bool is_column_major() const { return false; }

  /// Reads a block, row by row. There is a mask only if shape() says so.
  virtual void read_ids(const Block& block, std::int64_t* ids) const = 0;
  virtual void read_mask(const Block&, std::int64_t*) const {}
};

/// Opens what holds the ids: an HDF5 file, a .npy file, or any other as its bytes. Throws ContentError.
std::unique_ptr<TokenReader> open_tokens(const TokenSource& source);

}  // namespace bsbr::io
