// Looks through a source before it is used, whatever is to be read of it later. Nothing here communicates.
#pragma once

#include "io/token_agreement.hpp"
#include "io/token_reader.hpp"

namespace bsbr::io {

/// What a rank has found.
struct TokenScan {
  BadElement bad_id, bad_mask;  // the first of each
  std::int64_t targets = 0;     // tokens that a token of their row stands behind, neither of them padding
};

/// Of the blocks of `part`, every `ranks`-th from number `rank` on. Ids are not read where their type has none of
/// vocab_size or more. Throws ContentError if the file cannot be read.
TokenScan scan_tokens(const TokenReader& reader, const Block& part, std::int64_t vocab_size, int rank, int ranks);

}  // namespace bsbr::io
