// Token files. Each rank opens the file and reads its part.
#include <unistd.h>

#include <memory>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/token_pieces.hpp"
#include "io/hdf5.hpp"
#include "io/same_file.hpp"
#include "io/text.hpp"
#include "io/token_agreement.hpp"
#include "io/token_blocks.hpp"
#include "io/token_reader.hpp"
#include "parallel/mpi.hpp"

namespace bsbr {
namespace {

using namespace io;

/// What is read of a source, and where a sequence's position stands in it, counted row after row.
class Selection {
 public:
  /// The tokens of each row from `first` on.
  Selection(const TokenShape& shape, std::int64_t first) : m_length(shape.length), m_first(first) {}
  /// Windows of the one row: where each begins.
  Selection(const TokenShape& shape, const std::vector<std::int64_t>& begins)
      : m_length(shape.length), m_begins(&begins) {}

  std::int64_t index(std::int64_t row, std::int64_t position) const {
    return (m_begins ? (*m_begins)[static_cast<std::size_t>(row)] : row * m_length + m_first) + position;
  }

  /// Calls read(block of the source, where its numbers go) for a block of the sequences.
  template <class Read>
  void read(const Block& block, std::int64_t* numbers, const Read& read) const {
    if (!m_begins) return read({block.row, block.rows, m_first + block.position, block.positions}, numbers);
    for (std::int64_t i = 0; i < block.rows; ++i) {
      read({0, 1, index(block.row + i, block.position), block.positions}, numbers + i * block.positions);
    }
  }

 private:
  std::int64_t m_length, m_first = 0;  // of a row of the source
  const std::vector<std::int64_t>* m_begins = nullptr;
};

/// Reads this rank's part into `target`. `below`: what all elements must be. Returns the first that is not.
template <class Number, class Read>
BadElement read_part(const Sequence& sequence, const Selection& selection, bool column_major, std::int64_t below,
                     const HostArray<Number**>& target, const Read& read) {
  BadElement bad;
  std::vector<std::int64_t> numbers;
  const Block part{0, sequence.batch(), sequence.offset(), sequence.local_tokens()};
  for_each_block(part, column_major, [&](const Block& block) {
    numbers.resize(static_cast<std::size_t>(block.rows * block.positions));
    selection.read(block, numbers.data(), read);
    for (std::int64_t i = 0; i < block.rows * block.positions; ++i) {
      const std::int64_t row = block.row + i / block.positions, position = block.position + i % block.positions;
      const std::int64_t value = numbers[static_cast<std::size_t>(i)];
      if (value >= 0 && value < below)
        target(row, position - sequence.offset()) = static_cast<Number>(value);
      else
        bad.add(selection.index(row, position), value);
    }
  });
  return bad;
}

template <class Number>
HostArray<Number**> allocate(const char* label, const Sequence& sequence) {
  const auto batch = static_cast<std::size_t>(sequence.batch()),
             local = static_cast<std::size_t>(sequence.local_tokens());
  try {
    return HostArray<Number**>(Kokkos::view_alloc(std::string(label), Kokkos::WithoutInitializing), batch, local);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + bracketed({sequence.batch(), sequence.local_tokens()}) +
                      " token ids: " + error.what());
  }
}

void require_enough(const TokenShape& shape, const Sequence& sequence, std::int64_t first) {
  if (shape.batch == sequence.batch() && first >= 0 && first <= shape.length - sequence.length()) return;
  throw ContentError("holds ids " + bracketed({shape.batch, shape.length}) + ", " +
                     bracketed({sequence.batch(), first + sequence.length()}) + " are needed");
}

/// Windows are the sequences of a batch, each within the one row.
void require_windows(const TokenShape& shape, const Sequence& sequence, const std::vector<std::int64_t>& begins) {
  if (shape.batch != 1) throw ContentError("holds " + std::to_string(shape.batch) + " rows, windows are cut of one");
  if (static_cast<std::int64_t>(begins.size()) != sequence.batch()) {
    throw ShapeError(std::to_string(begins.size()) + " windows are not the " + std::to_string(sequence.batch()) +
                     " sequences of the batch");
  }
  for (const std::int64_t begin : begins) {
    if (begin >= 0 && begin <= shape.length - sequence.length()) continue;
    throw ContentError("holds " + std::to_string(shape.length) + " ids, and a window of " +
                       std::to_string(sequence.length()) + " begins with that at " + std::to_string(begin));
  }
}

/// Ids and mask of what is selected. `reader` is open on all ranks, and all of them see the same.
Tokens read_selection(const TokenSource& source, const TokenReader& reader, const Sequence& sequence,
                      const Selection& selection, std::int64_t vocab_size) {
  const MPI_Comm comm = sequence.comm();
  Tokens tokens;
  BadElement bad;
  agree_on_file(source.path, comm, [&] {
    tokens.ids = allocate<std::int32_t>("bsbr::tokens::ids", sequence);
    bad = read_part(sequence, selection, reader.is_column_major(), vocab_size, tokens.ids,
                    [&](const Block& block, std::int64_t* ids) { reader.read_ids(block, ids); });
  });
  const TokenShape shape = reader.shape();
  refuse_bad_ids(source.path, comm, reader, shape.length, vocab_size, bad);
  require_byte_vocabulary(source, shape, vocab_size);  // only now, since a byte that is no id says more
  if (!shape.has_mask) return tokens;
  agree_on_file(source.path, comm, [&] {
    tokens.mask = allocate<std::uint8_t>("bsbr::tokens::mask", sequence);
    bad = read_part(sequence, selection, reader.is_column_major(), 2, *tokens.mask,
                    [&](const Block& block, std::int64_t* mask) { reader.read_mask(block, mask); });
  });
  refuse_bad_mask(source.path, comm, reader, shape.length, bad);
  return tokens;
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

TokenSource TokenSource::parse(const std::string& text) {
  if (is_there(text)) return {text, {}};
  for (std::size_t colon = text.rfind(':'); colon != std::string::npos && colon > 0;
       colon = text.rfind(':', colon - 1)) {
    if (colon + 1 < text.size() && is_there(text.substr(0, colon)))
      return {text.substr(0, colon), text.substr(colon + 1)};
  }
  const std::size_t colon = text.rfind(":/");  // no such file; the message should be about what was meant
  if (colon == std::string::npos || colon == 0) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

std::string_view to_string(TokenFormat format) {
  switch (format) {
    case TokenFormat::hdf5:
      return "hdf5";
    case TokenFormat::npy:
      return "npy";
    default:
      return "bytes";
  }
}

void require_byte_vocabulary(const TokenSource& source, const TokenShape& shape, std::int64_t vocab_size) {
  if (shape.format != TokenFormat::bytes || source.bytes || vocab_size == 256) return;
  const std::string text =
      "is read as bytes, one id from 0 to 255 each, but the model's vocab_size is " + std::to_string(vocab_size);
  throw FileError(named(source.path, text.c_str()),
                  "tokenise it and save the ids, numpy.save(\"ids.npy\", ids); --bytes takes its bytes all the same");
}

TokenShape read_token_shape(const TokenSource& source, MPI_Comm comm) {
  parallel::require_mpi();
  TokenShape shape;
  agree_on_file(source.path, comm, [&] { shape = open_tokens(source)->shape(); });
  require_same(source.path, shape, comm);
  return shape;
}

Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size) {
  return read_tokens(source, sequence, vocab_size, 0);
}

Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size, std::int64_t first) {
  std::unique_ptr<TokenReader> reader;
  agree_on_file(source.path, sequence.comm(), [&] {
    reader = open_tokens(source);
    require_enough(reader->shape(), sequence, first);
  });
  require_same(source.path, reader->shape(), sequence.comm());
  return read_selection(source, *reader, sequence, Selection(reader->shape(), first), vocab_size);
}

Tokens read_windows(const TokenSource& source, const Sequence& sequence, const std::vector<std::int64_t>& begins,
                    std::int64_t vocab_size) {
  std::unique_ptr<TokenReader> reader;
  agree_on_file(source.path, sequence.comm(), [&] {
    reader = open_tokens(source);
    require_windows(reader->shape(), sequence, begins);
  });
  require_same(source.path, reader->shape(), sequence.comm());
  return read_selection(source, *reader, sequence, Selection(reader->shape(), begins), vocab_size);
}

}  // namespace bsbr
