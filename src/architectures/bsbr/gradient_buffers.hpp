// What only gradients of BSBR need, allocated when the first one is computed.
#pragma once

#include <algorithm>

#include "architectures/bsbr/attention.hpp"
#include "attention/attention.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/product.hpp"
#include "kernels/row_sums.hpp"
#include "parallel/leaves.hpp"

namespace bsbr::attention {

/// log-sum and δ of a chunk's mixing.
inline constexpr std::int64_t kept_width = 2;

/// With compression: the projections of states, and their gradients.
template <class Real>
struct ProjectionBuffers {
  kernels::ProductWeight<Real> compress, decompress;  // transposed: from gradients of results to those of states
  Array<Real*> full,
      compressed;  // [(chunk of a leaf, head), d²] and [(chunk of a leaf, head), S]: states and gradients
  kernels::OuterProductBuffers<Real> outer_product;
  kernels::RowSumBuffers<Real> row_sums;

  explicit ProjectionBuffers(const ModelConfig& config) {
    if (config.compression_factor == 0) return;
    const std::int64_t size = config.head_dim() * config.head_dim(), compressed_size = config.state_size();
    compress = kernels::ProductWeight<Real>(size, compressed_size, kernels::Transpose::yes);
    decompress = kernels::ProductWeight<Real>(compressed_size, size, kernels::Transpose::yes);
    using Outer = kernels::OuterProductBuffers<Real>;
    outer_product = Outer(std::max(Outer::elements(compressed_size, size), Outer::elements(size, compressed_size)));
  }

  /// Chunks and heads of a leaf on this rank.
  static std::int64_t leaf_rows(const ModelConfig& config, const Sequence& sequence, std::int64_t leaf_chunks) {
    return std::min(leaf_chunks, sequence.local_chunks()) * config.num_heads;
  }

  /// With that room. Nothing without compression.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, std::int64_t leaf_chunks) {
    if (config.compression_factor == 0) return 0;
    using Outer = kernels::OuterProductBuffers<Real>;
    const auto weight = [](std::int64_t out, std::int64_t in) { return kernels::ProductWeight<Real>::bytes(out, in); };
    const std::int64_t size = config.head_dim() * config.head_dim(), compressed_size = config.state_size(),
                       rows = leaf_rows(config, sequence, leaf_chunks);
    return weight(size, compressed_size) + weight(compressed_size, size) +
           Outer::bytes(std::max(Outer::elements(compressed_size, size), Outer::elements(size, compressed_size))) +
           rows * (size + compressed_size) * static_cast<std::int64_t>(sizeof(Real)) +
           kernels::RowSumBuffers<Real>::bytes(rows, std::max(size, compressed_size));
  }

  /// Room for the rows of a leaf, unless there is already. Throws MemoryError.
  void reserve(const ModelConfig& config, const Sequence& sequence, std::int64_t leaf_chunks) {
    const std::int64_t size = config.head_dim() * config.head_dim(), compressed_size = config.state_size();
    const std::int64_t rows = leaf_rows(config, sequence, leaf_chunks);
    if (static_cast<std::int64_t>(full.size()) == rows * size) return;
    full = allocate<Real>("leaf_states", rows * size);
    compressed = allocate<Real>("compressed_leaf_states", rows * compressed_size);
    row_sums = kernels::RowSumBuffers<Real>(rows, std::max(size, compressed_size));
  }
};

template <class Real>
struct Bsbr<Real>::GradientBuffers {
  BlockTranspose<Real> kept, parts;  // of log-sum and δ; of each block's part of dr and dh

  Array<Real***> log_sums, deltas;           // [batch, heads, local tokens]: within chunks
  Array<Real***> term;                       // [batch, local tokens, D], with a gate: q_t G, then g do
  Array<Real*> local_kept, gathered_kept;    // of `kept`
  Array<Real*> mixed_parts, gathered_parts;  // of `parts`, of all blocks of this rank
  Array<Real*> local_parts;
  Array<Real*> retrieval_query;  // [chunk][batch][D]: dr of all chunks
  ProjectionBuffers<Real> projections;

  GradientBuffers(const ModelConfig& config, const Sequence& sequence, const kernels::StateBlocks& blocks,
                  const parallel::Dealing& dealing)
      : kept(sequence, blocks, dealing, kept_width),
        parts(sequence, blocks, dealing, 2 * config.head_dim()),
        projections(config) {
    const std::int64_t batch = sequence.batch(), heads = config.num_heads, tokens = sequence.local_tokens();
    log_sums = Array<Real***>("bsbr::attention::log_sums", batch, heads, tokens);
    deltas = Array<Real***>("bsbr::attention::deltas", batch, heads, tokens);
    if (gates_retrieval(config)) reserve_rows(term, "retrieval_term", sequence, config.hidden_dim);
    const auto pair = [&](const BlockTranspose<Real>& transpose, Array<Real*>& local, Array<Real*>& gathered) {
      local = allocate<Real>("local_gradient_rows", transpose.local_elements());
      gathered = sequence.ranks() > 1 ? allocate<Real>("gathered_gradient_rows", transpose.gathered_elements()) : local;
    };
    pair(kept, local_kept, gathered_kept);
    pair(parts, local_parts, gathered_parts);
    mixed_parts = allocate<Real>("mixed_gradient_rows", parts.mixed_elements(parts.gathered().block_count));
    retrieval_query = allocate<Real>("retrieval_gradients", sequence.num_chunks() * batch * config.hidden_dim);
  }

  /// What an object of these arguments allocates on this rank, with room for leaves.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, const kernels::StateBlocks& blocks,
                            const parallel::Dealing& dealing) {
    const BlockTranspose<Real> kept(sequence, blocks, dealing, kept_width),
        parts(sequence, blocks, dealing, 2 * config.head_dim());
    const std::int64_t of_token = 2 * config.num_heads + (gates_retrieval(config) ? config.hidden_dim : 0);
    std::int64_t elements = sequence.batch() * sequence.local_tokens() * of_token +
                            parts.mixed_elements(parts.gathered().block_count) +
                            sequence.num_chunks() * sequence.batch() * config.hidden_dim;
    for (const auto* transpose : {&kept, &parts}) {
      elements += transpose->local_elements();
      if (sequence.ranks() > 1) elements += transpose->gathered_elements();
    }
    const std::int64_t leaf = parallel::leaf_chunks(sequence.length(), sequence.chunk_size());
    return elements * static_cast<std::int64_t>(sizeof(Real)) + ProjectionBuffers<Real>::bytes(config, sequence, leaf);
  }
};

}  // namespace bsbr::attention
