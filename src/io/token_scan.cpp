#include "io/token_scan.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "io/token_blocks.hpp"

namespace bsbr::io {
namespace {

/// Whether integers of a type can be no ids.
bool may_be_no_ids(const std::string& type, std::int64_t vocab_size) {
  if (type == "uint8") return vocab_size < 1 << 8;
  if (type == "uint16") return vocab_size < 1 << 16;
  return true;
}

/// The numbers of a block, row by row, must be from 0 to below - 1. `length`: that of a row of the source.
void check_block(const Block& block, const std::vector<std::int64_t>& numbers, std::int64_t below, std::int64_t length,
                 BadElement& bad) {
  for (std::int64_t i = 0; i < block.rows * block.positions; ++i) {
    const std::int64_t value = numbers[static_cast<std::size_t>(i)];
    if (value >= 0 && value < below) continue;
    bad.add((block.row + i / block.positions) * length + block.position + i % block.positions, value);
  }
}

/// How many pairs of neighbours in the rows of a mask are both 1.
std::int64_t count_pairs(const Block& block, const std::vector<std::int64_t>& mask) {
  std::int64_t pairs = 0;
  for (std::int64_t row = 0; row < block.rows; ++row) {
    const std::int64_t* of_row = mask.data() + row * block.positions;
    for (std::int64_t t = 0; t + 1 < block.positions; ++t) pairs += of_row[t] == 1 && of_row[t + 1] == 1 ? 1 : 0;
  }
  return pairs;
}

}  // namespace

TokenScan scan_tokens(const TokenReader& reader, const Block& part, std::int64_t vocab_size, int rank, int ranks) {
  const TokenShape shape = reader.shape();
  const bool reads_ids = may_be_no_ids(shape.type, vocab_size);
  const std::int64_t end = part.position + part.positions;
  TokenScan found;
  std::vector<std::int64_t> numbers;
  std::int64_t number = 0;  // of a block
  for_each_block(part, reader.is_column_major(), [&](const Block& block) {
    if (number++ % ranks != rank) return;
    Block with_next = block;  // the last token's target is the next block's first
    with_next.positions = std::min(block.positions + 1, end - block.position);
    numbers.resize(static_cast<std::size_t>(block.rows * with_next.positions));
    if (reads_ids) {
      reader.read_ids(block, numbers.data());
      check_block(block, numbers, vocab_size, shape.length, found.bad_id);
    }
    if (!shape.has_mask) {
      found.targets += block.rows * (with_next.positions - 1);
      return;
    }
    reader.read_mask(with_next, numbers.data());
    check_block(with_next, numbers, 2, shape.length, found.bad_mask);
    found.targets += count_pairs(with_next, numbers);
  });
  return found;
}

}  // namespace bsbr::io
