#include "attention/kept_keys.hpp"

#include <algorithm>
#include <vector>

#include "attention/attention.hpp"
#include "attention/mask_rows.hpp"
#include "attention/overlap.hpp"
#include "bsbr/error.hpp"
#include "kernels/rows.hpp"
#include "parallel/exchange.hpp"
#include "parallel/message_buffer.hpp"

namespace bsbr::attention {
namespace {

/// Rows of tokens [first, end), of `row` elements each: where a rank's own ones, and those of before the sequence, are.
struct KeptRows {
  const Sequence& sequence;
  std::int64_t first, row;

  parallel::Slice of_rank(int rank) const {
    const std::int64_t begin = std::max(first, sequence.first_token_of(rank));
    return {(begin - first) * row, std::max<std::int64_t>(0, sequence.first_token_of(rank + 1) - begin) * row};
  }
  std::int64_t earlier() const { return std::max<std::int64_t>(0, sequence.origin() - first) * row; }
  std::int64_t total() const { return (sequence.end() - first) * row; }
};

/// Numbers of a token's key and value.
template <class Real>
std::int64_t key_elements(const AttentionInput<Real>& input) {
  return (input.packed ? 1 : 2) * static_cast<std::int64_t>(input.key.extent(2));
}

/// Every rank's rows to every rank, in place.
template <class Number>
void share(const Execution& execution, const KeptRows& kept, const Array<Number*>& rows, const char* transfer,
           Profile* profile) {
  const int ranks = kept.sequence.ranks();
  if (ranks == 1) return;
  std::vector<parallel::Slice> from;
  for (int rank = 0; rank < ranks; ++rank) from.push_back(kept.of_rank(rank));
  const std::vector<parallel::Slice> to(static_cast<std::size_t>(ranks), kept.of_rank(kept.sequence.rank()));
  parallel::Exchange<Number> messages(execution, kept.sequence.comm(), rows, to, rows, from);
  messages.send();
  finish(messages, transfer, profile);
}

}  // namespace

template <class Real>
void pack_keys(const Execution& execution, const AttentionInput<Real>& input, std::int64_t first, std::int64_t count,
               const Array<Real*>& rows, std::int64_t offset) {
  const auto batch = static_cast<std::int64_t>(input.key.extent(0)),
             width = static_cast<std::int64_t>(input.key.extent(2));
  const auto key = input.key, value = input.value;
  if (input.packed) {  // a key has its value beside it
    kernels::copy_rows(
        execution, "bsbr::attention::pack_keys", count * batch, width, KOKKOS_LAMBDA(const std::int64_t i) {
          return kernels::RowCopies<Real, 1>{{&key(i % batch, first + i / batch, 0)}, {&rows(offset + i * width)}};
        });
    return;
  }
  kernels::copy_rows(
      execution, "bsbr::attention::pack_keys", count * batch, width, KOKKOS_LAMBDA(const std::int64_t i) {
        Real* target = &rows(offset + i * 2 * width);
        const std::int64_t token = first + i / batch, row = i % batch;
        return kernels::RowCopies<Real, 2>{{&key(row, token, 0), &value(row, token, 0)}, {target, target + width}};
      });
}

template <class Real>
void require_kept_keys(const Sequence& sequence, std::int64_t numbers, std::int64_t first,
                       const AttentionState<Real>& state) {
  const std::int64_t row = sequence.batch() * numbers, tokens = sequence.origin() - state.first_key;
  const auto keys = static_cast<std::int64_t>(state.keys.size()), marks = static_cast<std::int64_t>(state.real.size());
  if (state.tokens == 0) return;
  if (state.first_key <= first && state.key_row == row && keys >= tokens * row &&
      (marks == 0 || marks >= tokens * sequence.batch()))
    return;
  refuse_state("it has " + std::to_string(keys) + " elements of keys, " + std::to_string(state.key_row) +
               " a token, from token " + std::to_string(state.first_key) + " on, not " +
               std::to_string((sequence.origin() - first) * row) + ", " + std::to_string(row) + " a token, from " +
               std::to_string(first));
}

void refuse_state(const std::string& what) {
  throw ShapeError("the state is not one of this attention and batch: " + what,
                   "go on with a state where it was formed: the same configuration, batch and number of ranks");
}

template <class Real>
void keep_keys(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
               const AttentionInput<Real>& input, std::int64_t first, AttentionState<Real>& state, Profile* profile) {
  const Phase phase(execution, profile, "exchange");
  const std::int64_t batch = sequence.batch();
  const KeptRows keys{sequence, first, batch * key_elements(input)}, marks{sequence, first, batch};
  const parallel::Slice own = keys.of_rank(sequence.rank()), own_marks = marks.of_rank(sequence.rank());
  const std::int64_t before = first - state.first_key;  // rows that are not kept any longer

  // There may be room, in which rows that stay do not overlap their new place.
  const bool fits = static_cast<std::int64_t>(state.keys.size()) >= keys.total() &&
                    (before == 0 || before * keys.row >= keys.earlier());
  const Array<Real*> rows = fits ? state.keys : allocate<Real>("kept_keys", keys.total());
  if (keys.earlier() > 0 && (before > 0 || !fits))
    Kokkos::deep_copy(execution, parallel::range_of(rows, {0, keys.earlier()}),
                      parallel::range_of(state.keys, {before * keys.row, keys.earlier()}));
  if (own.count > 0) {
    const std::int64_t begin = std::max<std::int64_t>(0, first - sequence.first_token());
    pack_keys(execution, input, begin, own.count / keys.row, rows, own.offset);
  }
  share(execution, keys, rows, "halo", profile);

  Array<std::uint8_t*> real;
  if (mask.has_padding() || state.real.size() > 0) {
    real = allocate<std::uint8_t>("kept_mask", marks.total());
    Kokkos::deep_copy(execution, real, std::uint8_t{1});
    if (state.real.size() > 0 && marks.earlier() > 0)
      Kokkos::deep_copy(execution, parallel::range_of(real, {0, marks.earlier()}),
                        parallel::range_of(state.real, {before * batch, marks.earlier()}));
    if (mask.has_padding() && own_marks.count > 0) {
      const Array<std::uint8_t*> all("bsbr::attention::own_mask", sequence.local_tokens() * batch);
      pack_mask(execution, mask, all, 0);
      const std::int64_t skipped = static_cast<std::int64_t>(all.size()) - own_marks.count;
      Kokkos::deep_copy(execution, parallel::range_of(real, own_marks),
                        parallel::range_of(all, {skipped, own_marks.count}));
    }
    share(execution, marks, real, "mask", profile);
  }
  execution.fence();
  state.key_row = keys.row;
  state.first_key = first;
  state.keys = rows;
  state.real = real;
}

bool appends_keys(const Sequence& sequence, std::int64_t first_needed) {
  return sequence.ranks() == 1 && sequence.length() > 0 && sequence.length() <= sequence.origin() - first_needed;
}

template <class Real>
void append_keys(const Execution& execution, const Sequence& sequence, const PaddingMask& mask,
                 const AttentionInput<Real>& input, AttentionState<Real>& state) {
  const std::int64_t batch = sequence.batch(), row = batch * key_elements(input);
  const std::int64_t before = sequence.origin() - state.first_key, total = before + sequence.length();
  if (static_cast<std::int64_t>(state.keys.size()) < total * row) {
    const Array<Real*> more = allocate<Real>("kept_keys", std::max(total, 2 * before) * row);
    Kokkos::deep_copy(execution, parallel::range_of(more, {0, before * row}),
                      parallel::range_of(state.keys, {0, before * row}));
    state.keys = more;
  }
  pack_keys(execution, input, 0, sequence.length(), state.keys, before * row);
  if (!mask.has_padding() && state.real.size() == 0) return;
  const parallel::Slice earlier{0, before * batch}, own{before * batch, sequence.length() * batch};
  if (static_cast<std::int64_t>(state.real.size()) < total * batch) {
    const Array<std::uint8_t*> more =
        allocate<std::uint8_t>("kept_mask", static_cast<std::int64_t>(state.keys.size()) / row * batch);
    if (state.real.size() > 0)
      Kokkos::deep_copy(execution, parallel::range_of(more, earlier), parallel::range_of(state.real, earlier));
    else
      Kokkos::deep_copy(execution, parallel::range_of(more, earlier), std::uint8_t{1});
    state.real = more;
  }
  if (mask.has_padding())
    pack_mask(execution, mask, state.real, own.offset);
  else
    Kokkos::deep_copy(execution, parallel::range_of(state.real, own), std::uint8_t{1});
}

template <class Real>
void drop_keys(const Execution& execution, const Sequence& sequence, std::int64_t numbers, std::int64_t first,
               AttentionState<Real>& state) {
  const std::int64_t batch = sequence.batch(), row = batch * numbers;
  const std::int64_t dropped = first - state.first_key, kept = sequence.end() - first;
  if (dropped == 0 || dropped < kept) return;  // so that what stays and its new place do not overlap
  Kokkos::deep_copy(execution, parallel::range_of(state.keys, {0, kept * row}),
                    parallel::range_of(state.keys, {dropped * row, kept * row}));
  if (kept == 0)
    state.real = {};  // what comes may have no padding
  else if (state.real.size() > 0)
    Kokkos::deep_copy(execution, parallel::range_of(state.real, {0, kept * batch}),
                      parallel::range_of(state.real, {dropped * batch, kept * batch}));
  state.first_key = first;
}

template void pack_keys<float>(const Execution&, const AttentionInput<float>&, std::int64_t, std::int64_t,
                               const Array<float*>&, std::int64_t);
template void pack_keys<double>(const Execution&, const AttentionInput<double>&, std::int64_t, std::int64_t,
                                const Array<double*>&, std::int64_t);
template void require_kept_keys<float>(const Sequence&, std::int64_t, std::int64_t, const AttentionState<float>&);
template void require_kept_keys<double>(const Sequence&, std::int64_t, std::int64_t, const AttentionState<double>&);
template void append_keys<float>(const Execution&, const Sequence&, const PaddingMask&, const AttentionInput<float>&,
                                 AttentionState<float>&);
template void drop_keys<float>(const Execution&, const Sequence&, std::int64_t, std::int64_t, AttentionState<float>&);
template void keep_keys<float>(const Execution&, const Sequence&, const PaddingMask&, const AttentionInput<float>&,
                               std::int64_t, AttentionState<float>&, Profile*);
template void append_keys<double>(const Execution&, const Sequence&, const PaddingMask&, const AttentionInput<double>&,
                                  AttentionState<double>&);
template void drop_keys<double>(const Execution&, const Sequence&, std::int64_t, std::int64_t, AttentionState<double>&);
template void keep_keys<double>(const Execution&, const Sequence&, const PaddingMask&, const AttentionInput<double>&,
                                std::int64_t, AttentionState<double>&, Profile*);

}  // namespace bsbr::attention
