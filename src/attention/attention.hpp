// What the attentions share: checks of their input, and their workspace's size.
#pragma once

#include <cstddef>
#include <string>

#include "architectures/traits.hpp"
#include "bsbr/attention.hpp"
#include "bsbr/error.hpp"
#include "kernels/huge_pages.hpp"
#include "kernels/poison.hpp"

namespace bsbr::attention {

/// What Attention<Real>::create(config, sequence, rounding) will allocate on this rank, without doing it: bytes.
template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding);

/// What the first forward with an empty AttentionRecord allocates for it on this rank: bytes.
template <class Real>
std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence);

/// What that attention allocates besides, by the end of its first gradient: bytes.
/// \param sequence one whose ranks' parts begin with leaves
template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence);

/// The most scratch memory that one of its teams asks for: bytes. On a host each thread has that much.
template <class Real>
std::int64_t scratch_bytes(const ModelConfig& config);

/// The same of its gradient.
template <class Real>
std::int64_t gradient_scratch_bytes(const ModelConfig& config);

/// Attention::output_may_be_key of the architecture.
template <class Real>
bool output_may_be_key(const ModelConfig& config);

/// Attention::gradient_reads_output of the architecture.
template <class Real>
bool gradient_reads_output(const ModelConfig& config);

/// Zeros, labelled "bsbr::attention::<label>". Arrays of far more than a huge page are in such: states and keys of many
/// tokens are read from end to end. Throws MemoryError.
template <class Number>
Array<Number*> allocate(const char* label, std::int64_t count) {
  constexpr std::int64_t many = (std::int64_t{1} << 26) / static_cast<std::int64_t>(sizeof(Number));
  const std::string name = std::string("bsbr::attention::") + label;
  try {
    if (count < many) return Array<Number*>(name, count);
    const Array<Number*> array = kernels::allocate_in_huge_pages<Number>(name, count);
    Kokkos::deep_copy(array, Number(0));
    return array;
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::to_string(count) + " elements of " + label + ": " + error.what());
  }
}

/// Room for `count` elements: zeros, unless the array has just that many. Throws MemoryError.
template <class Number>
void reserve(Array<Number*>& array, const char* label, std::int64_t count) {
  if (static_cast<std::int64_t>(array.size()) == count) return;
  array = {};  // its memory first
  array = allocate<Number>(label, count);
}

/// Room for [batch, local tokens, width], unless there is already. Throws MemoryError.
template <class Real>
void reserve_rows(Array<Real***>& rows, const char* label, const Sequence& sequence, std::int64_t width) {
  const auto batch = static_cast<std::size_t>(sequence.batch()),
             tokens = static_cast<std::size_t>(sequence.local_tokens()), columns = static_cast<std::size_t>(width);
  if (rows.extent(0) == batch && rows.extent(1) == tokens && rows.extent(2) == columns) return;
  try {
    rows = Array<Real***>(std::string("bsbr::attention::") + label, batch, tokens, columns);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::string(label) + " [" + std::to_string(batch) + ", " +
                      std::to_string(tokens) + ", " + std::to_string(columns) + "]: " + error.what());
  }
}

/// Bytes of AttentionRecord::unnormed.
template <class Real>
std::int64_t unnormed_bytes(const ModelConfig& config, const Sequence& sequence) {
  if (!norms_results(config)) return 0;
  return sequence.batch() * sequence.local_tokens() * config.attention_dim() * static_cast<std::int64_t>(sizeof(Real));
}

/// Whether [a, a + a_count) and [b, b + b_count) have an element in common.
template <class Real>
bool share_elements(const Real* a, std::size_t a_count, const Real* b, std::size_t b_count) {
  return a_count > 0 && b_count > 0 && a < b + b_count && b < a + a_count;
}

/// Throws ShapeError unless rows is [batch, count, width] with contiguous rows.
template <class Real>
void require_rows(const std::string& name, const Strided<const Real***>& rows, std::int64_t batch, std::int64_t count,
                  std::int64_t width);

/// Throws ShapeError unless query, key, value, the gate of gau, and output are [batch, local tokens, attention_dim], or
/// what they are if they are `packed`, the output overlaps no array of the input (overwrite_key: but the key, which it
/// is), the mask fits, and the state is that of the tokens before the sequence's origin.
template <class Real>
void require_input(const ModelConfig& config, const Sequence& sequence, bool packed, const PaddingMask& mask,
                   const AttentionInput<Real>& input, const Array<Real***>& output, const AttentionState<Real>* state);

/// An attention writes all of its output, and of `own`, its own arrays, what it reads: a build for finding errors sees
/// to that. Comes first.
template <class Real, class... Own>
void poison_written(const Execution& execution, const AttentionInput<Real>& input, const Array<Real***>& output,
                    const Own&... own) {
  if (!input.overwrite_key) kernels::poison(execution, output);
  (kernels::poison(execution, own), ...);
}

/// Throws ShapeError unless the mask was made for a sequence of this shape.
void require_mask(const PaddingMask& mask, const Sequence& sequence);

}  // namespace bsbr::attention
