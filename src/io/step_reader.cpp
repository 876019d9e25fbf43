#include "io/step_reader.hpp"

#include <algorithm>
#include <utility>

#include "bsbr/loss.hpp"

namespace bsbr::io {
namespace {

constexpr std::int64_t piece_of_row = 1 << 20;  // ids that are read at a time

/// Calls function(t, number) for the numbers of a block, which read(block, numbers) reads in pieces; t from 0 on.
template <class Read, class Function>
void for_each_number(const Block& block, const Read& read, const Function& function) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(std::min(block.positions, piece_of_row)));
  for (std::int64_t done = 0; done < block.positions; done += piece_of_row) {
    const std::int64_t count = std::min(piece_of_row, block.positions - done);
    read(Block{block.row, 1, block.position + done, count}, numbers.data());
    for (std::int64_t i = 0; i < count; ++i) function(done + i, numbers[static_cast<std::size_t>(i)]);
  }
}

}  // namespace

StepReader::StepReader(std::unique_ptr<TokenReader> source, const Sequence& sequence, std::int64_t vocab_size)
    : m_source(std::move(source)),
      m_shape(m_source->shape()),
      m_length(sequence.length()),
      m_offset(sequence.offset()),
      m_local(sequence.local_tokens()),
      m_vocab_size(vocab_size) {}

/// Where the numbers of one sequence go.
struct StepReader::Row {
  std::int32_t *ids, *targets;
  std::uint8_t* mask;
};

StepPart StepReader::read(const std::vector<Place>& places) const {
  const auto local = static_cast<std::size_t>(m_local), size = places.size() * local;
  StepPart part;
  part.ids.assign(size, 0);
  part.targets.assign(size, no_target);
  if (m_shape.has_mask) part.mask.assign(size, 1);
  if (m_local == 0) return part;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t begin = i * local;
    if (places[i])
      read_row(*places[i], {part.ids.data() + begin, part.targets.data() + begin, part.mask.data() + begin}, part);
  }
  return part;
}

void StepReader::read_row(std::int64_t place, const Row& row, StepPart& part) const {
  const bool is_stream = m_shape.dimensions == 1;
  const bool has_next = is_stream || m_offset + m_local < m_length;
  const Block block{is_stream ? 0 : place, 1, (is_stream ? place : 0) + m_offset, m_local + (has_next ? 1 : 0)};
  const std::int64_t first = block.row * m_shape.length + block.position;  // counted row after row

  // The id at t is that of token t, and the target of the token before it.
  const auto take_id = [&](std::int64_t t, std::int64_t id) {
    if (id < 0 || id >= m_vocab_size) return part.bad_id.add(first + t, id);
    if (t < m_local) row.ids[t] = static_cast<std::int32_t>(id);
    if (t > 0) row.targets[t - 1] = static_cast<std::int32_t>(id);
  };
  for_each_number(
      block, [&](const Block& some, std::int64_t* ids) { m_source->read_ids(some, ids); }, take_id);
  if (!m_shape.has_mask) return;

  // Padding has no target, and is none.
  const auto take_mask = [&](std::int64_t t, std::int64_t value) {
    if (value == 1) return;
    if (value != 0) return part.bad_mask.add(first + t, value);
    if (t < m_local) row.mask[t] = 0;
    if (t < m_local) row.targets[t] = no_target;
    if (t > 0) row.targets[t - 1] = no_target;
  };
  for_each_number(
      block, [&](const Block& some, std::int64_t* mask) { m_source->read_mask(some, mask); }, take_mask);
}

}  // namespace bsbr::io
