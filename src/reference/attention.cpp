// From all heads to one head and back, for any architecture: results and gradients.
#include <algorithm>

#include "reference/head.hpp"

namespace bsbr::reference {
namespace {

void require_shape(const Matrix& matrix, std::int64_t rows, std::int64_t columns, const std::string& name) {
  require(matrix.rows == rows && matrix.columns == columns,
          name + " is [" + std::to_string(matrix.rows) + ", " + std::to_string(matrix.columns) + "], not [" +
              std::to_string(rows) + ", " + std::to_string(columns) + "]");
}

void check_shapes(const ModelConfig& config, const AttentionInput& input, const Mask& mask) {
  require(config.num_heads >= 1 && config.attention_dim() % config.num_heads == 0,
          "num_heads divides the attention's width");
  require(config.chunk_size >= 1, "chunk_size is at least 1");
  const std::int64_t tokens = input.query.rows, width = config.attention_dim(),
                     chunks = count_chunks(tokens, config.chunk_size);
  require_shape(input.query, tokens, width, "query");
  require_shape(input.key, tokens, width, "key");
  require_shape(input.value, tokens, width, "value");
  require(mask.empty() || static_cast<std::int64_t>(mask.size()) == tokens,
          "the mask is as long as the sequence, or empty");
  const Traits& special = traits(config.architecture);
  require(config.num_heads == 1 || !special.has_one_head,
          std::string(to_string(config.architecture)) + " has one head");
  if (special.has_gate()) require_shape(input.gate, tokens, width, "gate");
  if (!special.has_retrieval()) return;
  require_shape(input.retrieval_query, chunks, width, "retrieval_query");
  require_shape(input.retrieval_key, chunks, width, "retrieval_key");
  if (has_null_chunk(config)) require_shape(input.null_logit, 1, config.num_heads, "null_logit");
  if (gates_retrieval(config)) require_shape(input.retrieval_gate, 1, config.num_heads, "retrieval_gate");
  if (!compresses_states(config)) return;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  require_shape(input.compress_weight, compressed, whole, "compress_weight");
  require_shape(input.compress_bias, 1, compressed, "compress_bias");
  require_shape(input.decompress_weight, whole, compressed, "decompress_weight");
  require_shape(input.decompress_bias, 1, whole, "decompress_bias");
}

/// The columns of head h: [rows, d] of [rows, H·d].
Matrix columns_of_head(const Matrix& all, std::int64_t head, std::int64_t head_dim) {
  Matrix part(all.rows, head_dim);
  for (std::int64_t row = 0; row < all.rows; ++row) {
    for (std::int64_t column = 0; column < head_dim; ++column) part(row, column) = all(row, head * head_dim + column);
  }
  return part;
}

/// Puts [rows, d] where columns_of_head takes it.
void put_columns_of_head(Matrix& all, std::int64_t head, const Matrix& part) {
  for (std::int64_t row = 0; row < part.rows; ++row) {
    for (std::int64_t column = 0; column < part.columns; ++column)
      all(row, head * part.columns + column) = part(row, column);
  }
}

Head take_head(const ModelConfig& config, const AttentionInput& input, std::int64_t index) {
  const std::int64_t width = config.head_dim();
  const auto columns = [&](const Matrix& all) { return columns_of_head(all, index, width); };
  Head head{index, columns(input.query), columns(input.key), columns(input.value), {}, {}};
  if (traits(config.architecture).has_retrieval()) {
    head.retrieval_query = columns(input.retrieval_query);
    head.retrieval_key = columns(input.retrieval_key);
  }
  return head;
}

void put_head(AttentionInput& all, const Head& head) {
  put_columns_of_head(all.query, head.index, head.query);
  put_columns_of_head(all.key, head.index, head.key);
  put_columns_of_head(all.value, head.index, head.value);
  put_columns_of_head(all.retrieval_query, head.index, head.retrieval_query);
  put_columns_of_head(all.retrieval_key, head.index, head.retrieval_key);
}

/// The tokens t − w ≤ s ≤ t.
Range earlier_tokens(std::int64_t token, std::int64_t window) {
  return {std::max<std::int64_t>(0, token - window), token + 1};
}

}  // namespace

Matrix zeros_like(const Matrix& matrix) { return {matrix.rows, matrix.columns}; }

Head zeros_like(const Head& head) {
  return {head.index,
          zeros_like(head.query),
          zeros_like(head.key),
          zeros_like(head.value),
          zeros_like(head.retrieval_query),
          zeros_like(head.retrieval_key)};
}

AttentionInput zeros_like(const AttentionInput& input) {
  return {zeros_like(input.query),
          zeros_like(input.key),
          zeros_like(input.value),
          zeros_like(input.gate),
          zeros_like(input.retrieval_query),
          zeros_like(input.retrieval_key),
          zeros_like(input.compress_weight),
          zeros_like(input.compress_bias),
          zeros_like(input.decompress_weight),
          zeros_like(input.decompress_bias),
          zeros_like(input.null_logit),
          zeros_like(input.retrieval_gate)};
}

Matrix attend_to_earlier(const Head& head, double scale, std::int64_t window, const Mask& mask) {
  const Matrix& query = head.query;
  Matrix out(query.rows, query.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    attend_to(out, query, head.key, head.value, t, earlier_tokens(t, window), mask, scale);
  }
  return out;
}

Head attend_to_earlier_gradient(const Head& head, double scale, std::int64_t window, const Mask& mask,
                                const Matrix& dout) {
  Head dhead = zeros_like(head);
  for (std::int64_t t = 0; t < dout.rows; ++t) {
    add_attend_to_gradient(dhead.query, dhead.key, dhead.value, head.query, head.key, head.value, dout, t,
                           earlier_tokens(t, window), mask, scale);
  }
  return dhead;
}

Matrix attention(const ModelConfig& config, const AttentionInput& input, const Mask& mask) {
  check_shapes(config, input, mask);
  Matrix out(input.query.rows, input.query.columns);
  for (std::int64_t head = 0; head < config.num_heads; ++head) {
    const Matrix result = with_architecture(config.architecture, [&](auto architecture) {
      return attend(architecture, config, input, take_head(config, input, head), effective_mask(config, mask));
    });
    put_columns_of_head(out, head, result);
  }
  return out;
}

AttentionInput attention_gradient(const ModelConfig& config, const AttentionInput& input, const Mask& mask,
                                  const Matrix& dout) {
  check_shapes(config, input, mask);
  require_shape(dout, input.query.rows, input.query.columns, "dout");
  AttentionInput dinput = zeros_like(input);
  for (std::int64_t head = 0; head < config.num_heads; ++head) {
    put_head(dinput, with_architecture(config.architecture, [&](auto architecture) {
               return attend_gradient(architecture, config, input, take_head(config, input, head),
                                      effective_mask(config, mask), columns_of_head(dout, head, config.head_dim()),
                                      dinput);
             }));
  }
  return dinput;
}

}  // namespace bsbr::reference
