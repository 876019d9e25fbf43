// Running one attention of the library on Views, without the transformer around it.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "architectures/traits.hpp"
#include "bsbr/attention.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"
#include "support/run_model.hpp"

namespace bsbr::testing {

/// What an attention is given, for one sequence, in double. Rows of retrieval_query and retrieval_key are chunks.
using AttentionNumbers = reference::AttentionInput;

/// Normal numbers that float holds, [rows, columns].
inline reference::Matrix random_float_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                                             double deviation = 1) {
  auto matrix = random_matrix(rows, columns, seed, deviation);
  matrix.values = in_float(matrix.values);
  return matrix;
}

/// Random queries, keys, values; gates, r and h, and the projections of states where the architecture has them. Numbers
/// that float holds.
inline AttentionNumbers random_attention(const ModelConfig& config, std::int64_t length, std::uint64_t seed) {
  const std::int64_t chunks = (length + config.chunk_size - 1) / config.chunk_size, width = config.attention_dim();
  AttentionNumbers input;
  input.query = random_float_matrix(length, width, seed + 1);
  input.key = random_float_matrix(length, width, seed + 2);
  input.value = random_float_matrix(length, width, seed + 3);
  if (traits(config.architecture).has_gate()) input.gate = random_float_matrix(length, width, seed + 4);
  if (!traits(config.architecture).has_retrieval()) return input;
  input.retrieval_query = random_float_matrix(chunks, width, seed + 4);
  input.retrieval_key = random_float_matrix(chunks, width, seed + 5);
  if (!compresses_states(config)) return input;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  input.compress_weight = random_float_matrix(compressed, whole, seed + 6, 1 / std::sqrt(static_cast<double>(whole)));
  input.compress_bias = random_float_matrix(1, compressed, seed + 7);
  input.decompress_weight =
      random_float_matrix(whole, compressed, seed + 8, 1 / std::sqrt(static_cast<double>(compressed)));
  input.decompress_bias = random_float_matrix(1, whole, seed + 9);
  return input;
}

/// The projections of states, which all sequences of a batch share.
template <class Real>
void put_projections(const AttentionNumbers& numbers, AttentionInput<Real>& input) {
  const auto& weight = numbers.compress_weight;
  if (weight.values.empty()) return;
  input.compress_weight = to_device<Real**>(weight.values, weight.rows, weight.columns);
  input.compress_bias = to_device<Real*>(numbers.compress_bias.values, weight.rows);
  input.decompress_weight = to_device<Real**>(numbers.decompress_weight.values, weight.columns, weight.rows);
  input.decompress_bias = to_device<Real*>(numbers.decompress_bias.values, weight.columns);
}

enum class Output { separate, over_keys };

/// The heads' results [tokens, attention_dim] of one sequence, computed by the ranks of a communicator, on every rank.
/// Collective.
template <class Real>
std::vector<Real> run_attention(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask,
                                MPI_Comm comm = MPI_COMM_SELF, Output where = Output::separate) {
  const Sequence sequence(comm, 1, numbers.query.rows, config.chunk_size);
  const auto rows = [](const reference::Matrix& matrix, std::int64_t first, std::int64_t count) {
    if (matrix.values.empty()) count = 0;
    return to_device<Real***>(rows_of(matrix.values, matrix.columns, first, count), 1, count, matrix.columns);
  };
  const auto tokens = [&](const reference::Matrix& matrix) {
    return rows(matrix, sequence.first_token(), sequence.local_tokens());
  };
  const auto chunks = [&](const reference::Matrix& matrix) {
    return rows(matrix, sequence.first_chunk(), sequence.local_chunks());
  };
  AttentionInput<Real> input;
  input.query = tokens(numbers.query);
  const Array<Real***> key = tokens(numbers.key);
  input.key = key;
  input.value = tokens(numbers.value);
  input.gate = tokens(numbers.gate);
  input.retrieval_query = chunks(numbers.retrieval_query);
  input.retrieval_key = chunks(numbers.retrieval_key);
  put_projections(numbers, input);
  const Execution execution;
  const PaddingMask padding = mask.empty() ? PaddingMask(execution, sequence)
                                           : PaddingMask(execution, sequence, local_part<std::uint8_t>(sequence, mask));
  const Array<Real***> separate("test::output", 1, sequence.local_tokens(), config.attention_dim());
  input.overwrite_key = where == Output::over_keys;
  const Array<Real***>& output = input.overwrite_key ? key : separate;
  Attention<Real>::create(config, sequence)->forward(execution, padding, input, output);
  execution.fence();
  return gather_tokens(sequence, output);
}

}  // namespace bsbr::testing
