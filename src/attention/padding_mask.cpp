// The padding mask: what follows from the tokens, and from the chunks of all ranks.
#include "bsbr/mask.hpp"

#include <string>

#include "attention/chunk_marks.hpp"
#include "bsbr/error.hpp"
#include "parallel/agree.hpp"
#include "parallel/exchange.hpp"

namespace bsbr {
namespace {

/// Throws ShapeError unless the mask has the sequence's extents and no other values than 0 and 1.
void validate(const Execution& execution, const Sequence& sequence, const Array<const std::uint8_t**>& mask) {
  const auto batch = static_cast<std::int64_t>(mask.extent(0)), tokens = static_cast<std::int64_t>(mask.extent(1));
  if (batch != sequence.batch() || tokens != sequence.local_tokens()) {
    throw ShapeError("mask is [" + std::to_string(batch) + ", " + std::to_string(tokens) +
                     "], this rank's part of the sequence [" + std::to_string(sequence.batch()) + ", " +
                     std::to_string(sequence.local_tokens()) + "]");
  }
  std::int64_t others = 0;
  Kokkos::parallel_reduce(
      "bsbr::mask::validate", Kokkos::RangePolicy<Execution>(execution, 0, batch * tokens),
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& count) { count += mask(i / tokens, i % tokens) > 1 ? 1 : 0; },
      others);
  if (others > 0) throw ShapeError("mask has " + std::to_string(others) + " values other than 0 and 1");
}

/// last [batch, local chunks] = index of the last real token of each chunk among the local tokens, −1 if there is none.
/// An empty mask: all are real.
void find_last_real(const Execution& execution, const Sequence& sequence, const Array<const std::uint8_t**>& mask,
                    const Array<std::int64_t**>& last) {
  const std::int64_t batch = sequence.batch(), chunks = sequence.local_chunks(), size = sequence.chunk_size(),
                     tokens = sequence.local_tokens();
  const std::int64_t earlier = sequence.first_token() % size;  // tokens of the first chunk before these
  const bool padding = mask.data() != nullptr;
  Kokkos::parallel_for(
      "bsbr::mask::last_real", Kokkos::RangePolicy<Execution>(execution, 0, batch * chunks),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / chunks, chunk = i % chunks, end = (chunk + 1) * size - earlier;
        const std::int64_t begin = chunk == 0 ? 0 : end - size;
        std::int64_t token = (end < tokens ? end : tokens) - 1;
        while (padding && token >= begin && mask(row, token) == 0) --token;
        last(row, chunk) = token >= begin ? token : -1;
      });
}

/// [chunk][batch] of the whole sequence, so that ranks' parts are contiguous: 1 where a chunk of this rank has a real
/// token.
Array<std::uint8_t*> mark_real_chunks(const Execution& execution, const Sequence& sequence,
                                      const Array<const std::int64_t**>& last_real) {
  const std::int64_t batch = sequence.batch(), local = sequence.local_chunks(), first = sequence.first_chunk();
  const Array<std::uint8_t*> marks("bsbr::mask::real_by_chunk", sequence.num_chunks() * batch);
  Kokkos::parallel_for(
      "bsbr::mask::mark_real_chunks", Kokkos::RangePolicy<Execution>(execution, 0, batch * local),
      KOKKOS_LAMBDA(const std::int64_t i) {
        marks((first + i / batch) * batch + i % batch) = last_real(i % batch, i / batch) >= 0 ? 1 : 0;
      });
  return marks;
}

/// The marks of all ranks.
void gather_marks(const Execution& execution, const Sequence& sequence, const Array<std::uint8_t*>& marks) {
  parallel::Gather<std::uint8_t>(execution, sequence.comm(), marks, sequence.batch(),
                                 parallel::slices_of(sequence.chunks()))
      .wait();
}

/// [batch, chunks]: 1 where the chunk has a real token.
Array<const std::uint8_t**> transpose_marks(const Execution& execution, const Sequence& sequence,
                                            const Array<const std::uint8_t*>& marks) {
  const std::int64_t batch = sequence.batch(), chunks = sequence.num_chunks();
  const Array<std::uint8_t**> real("bsbr::mask::real_chunks", batch, chunks);
  Kokkos::parallel_for(
      "bsbr::mask::transpose_marks", Kokkos::RangePolicy<Execution>(execution, 0, batch * chunks),
      KOKKOS_LAMBDA(const std::int64_t i) { real(i / chunks, i % chunks) = marks((i % chunks) * batch + i / chunks); });
  execution.fence();
  return real;
}

}  // namespace

PaddingMask::PaddingMask(const Execution& execution, const Sequence& sequence)
    : m_last_real("bsbr::mask::last_real", sequence.batch(), sequence.local_chunks()) {
  move_to(execution, sequence);
  const Array<std::uint8_t**> all("bsbr::mask::real_chunks", sequence.batch(), sequence.num_chunks());
  Kokkos::deep_copy(execution, all, std::uint8_t{1});
  m_real_chunks = all;
  m_nearest_real = attention::find_nearest_real(execution, m_real_chunks);
}

void PaddingMask::move_to(const Execution& execution, const Sequence& sequence) {
  find_last_real(execution, sequence, {}, m_last_real);
}

PaddingMask::PaddingMask(const Execution& execution, const Sequence& sequence, const Array<const std::uint8_t**>& mask)
    : m_tokens(mask) {
  Array<std::uint8_t*> marks;
  parallel::agree(sequence.comm(), [&] {
    validate(execution, sequence, mask);
    m_last_real = Array<std::int64_t**>("bsbr::mask::last_real", sequence.batch(), sequence.local_chunks());
    find_last_real(execution, sequence, mask, m_last_real);
    marks = mark_real_chunks(execution, sequence, m_last_real);
  });
  gather_marks(execution, sequence, marks);
  parallel::agree(sequence.comm(), [&] {
    m_real_chunks = transpose_marks(execution, sequence, marks);
    m_nearest_real = attention::find_nearest_real(execution, m_real_chunks);
  });
}

}  // namespace bsbr
