// From all heads to one head and back, for any architecture.
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

}  // namespace

Matrix attend_to_earlier(const Head& head, double scale, std::int64_t window, const Mask& mask) {
  const Matrix& query = head.query;
  Matrix out(query.rows, query.columns);
  for (std::int64_t t = 0; t < out.rows; ++t) {
    attend_to(out, query, head.key, head.value, t, {std::max<std::int64_t>(0, t - window), t + 1}, mask, scale);
  }
  return out;
}

Matrix attention(const ModelConfig& config, const AttentionInput& input, const Mask& mask) {
  check_shapes(config, input, mask);
  Matrix out(input.query.rows, input.query.columns);
  for (std::int64_t head = 0; head < config.num_heads; ++head) {
    const Matrix result = with_architecture(config.architecture, [&](auto architecture) {
      return attend(architecture, config, input, take_head(config, input, head), effective_mask(config, mask));
    });
    for (std::int64_t t = 0; t < out.rows; ++t) {
      for (std::int64_t column = 0; column < result.columns; ++column)
        out(t, head * result.columns + column) = result(t, column);
    }
  }
  return out;
}

}  // namespace bsbr::reference
