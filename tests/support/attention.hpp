// Running one attention of the library on Views, without the transformer around it.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
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

/// Random queries, keys, values; gates, r and h, and weights where the architecture has them. Numbers that float holds.
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
  if (has_null_chunk(config)) input.null_logit = random_float_matrix(1, config.num_heads, seed + 10);
  if (gates_retrieval(config)) input.retrieval_gate = random_float_matrix(1, config.num_heads, seed + 11);
  if (!compresses_states(config)) return input;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  input.compress_weight = random_float_matrix(compressed, whole, seed + 6, 1 / std::sqrt(static_cast<double>(whole)));
  input.compress_bias = random_float_matrix(1, compressed, seed + 7);
  input.decompress_weight =
      random_float_matrix(whole, compressed, seed + 8, 1 / std::sqrt(static_cast<double>(compressed)));
  input.decompress_bias = random_float_matrix(1, whole, seed + 9);
  return input;
}

/// The weights, which all sequences of a batch share.
inline constexpr auto shared_weights = std::to_array(
    {&AttentionNumbers::compress_weight, &AttentionNumbers::compress_bias, &AttentionNumbers::decompress_weight,
     &AttentionNumbers::decompress_bias, &AttentionNumbers::null_logit, &AttentionNumbers::retrieval_gate});

template <class Real>
void put_weights(const AttentionNumbers& numbers, AttentionInput<Real>& input) {
  const auto& null_logit = numbers.null_logit;
  const auto& gate = numbers.retrieval_gate;
  if (!null_logit.values.empty()) input.null_logit = to_device<Real*>(null_logit.values, null_logit.columns);
  if (!gate.values.empty()) input.retrieval_gate = to_device<Real*>(gate.values, gate.columns);
  const auto& weight = numbers.compress_weight;
  if (weight.values.empty()) return;
  input.compress_weight = to_device<Real**>(weight.values, weight.rows, weight.columns);
  input.compress_bias = to_device<Real*>(numbers.compress_bias.values, weight.rows);
  input.decompress_weight = to_device<Real**>(numbers.decompress_weight.values, weight.columns, weight.rows);
  input.decompress_bias = to_device<Real*>(numbers.decompress_bias.values, weight.columns);
}

/// Rows [first, first + count) of a matrix, [1, count, columns]; none if it is empty.
template <class Real>
Array<Real***> rows_on_device(const reference::Matrix& matrix, std::int64_t first, std::int64_t count) {
  if (matrix.values.empty()) count = 0;
  return to_device<Real***>(rows_of(matrix.values, matrix.columns, first, count), 1, count, matrix.columns);
}

/// What an attention is given of one sequence on this rank.
template <class Real>
struct LocalAttention {
  AttentionInput<Real> input;
  Array<Real***> key;  // of the input
  PaddingMask padding;

  LocalAttention(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask,
                 const Sequence& sequence)
      : padding(mask.empty() ? PaddingMask(Execution(), sequence)
                             : PaddingMask(Execution(), sequence, local_part<std::uint8_t>(sequence, mask))) {
    const auto tokens = [&](const reference::Matrix& matrix) {
      return rows_on_device<Real>(matrix, sequence.first_token(), sequence.local_tokens());
    };
    const auto chunks = [&](const reference::Matrix& matrix) {
      return rows_on_device<Real>(matrix, sequence.first_chunk(), sequence.local_chunks());
    };
    key = tokens(numbers.key);
    input.query = tokens(numbers.query);
    input.key = key;
    input.value = tokens(numbers.value);
    if (traits(config.architecture).has_gate()) input.gate = tokens(numbers.gate);
    input.retrieval_query = chunks(numbers.retrieval_query);
    input.retrieval_key = chunks(numbers.retrieval_key);
    put_weights(numbers, input);
  }
};

enum class Output { separate, over_keys };

/// The heads' results [tokens, attention_dim] of one sequence, computed by the ranks of a communicator, on every rank.
/// Collective.
template <class Real>
std::vector<Real> run_attention(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask,
                                MPI_Comm comm = MPI_COMM_SELF, Output where = Output::separate) {
  const Sequence sequence(comm, 1, numbers.query.rows, config.chunk_size);
  LocalAttention<Real> local(config, numbers, mask, sequence);
  const Array<Real***> separate("test::output", 1, sequence.local_tokens(), config.attention_dim());
  local.input.overwrite_key = where == Output::over_keys;
  const Array<Real***>& output = local.input.overwrite_key ? local.key : separate;
  const Execution execution;
  Attention<Real>::create(config, sequence)->forward(execution, local.padding, local.input, output);
  execution.fence();
  return gather_tokens(sequence, output);
}

/// The whole [rows, width] of the ranks' parts of one sequence, chunks or tokens, on every rank. Collective.
template <class Real>
std::vector<Real> gather_rows(const Array<Real***>& part, std::int64_t first, std::int64_t rows, MPI_Comm comm) {
  const auto mine = to_host(part);
  const auto width = static_cast<std::int64_t>(part.extent(2));
  std::vector<Real> whole(static_cast<std::size_t>(rows * width), Real(0));
  std::copy(mine.begin(), mine.end(), whole.begin() + static_cast<std::ptrdiff_t>(first * width));
  // Each number has one owner, and zero has no bits set.
  MPI_Allreduce(MPI_IN_PLACE, whole.data(), static_cast<int>(whole.size()),
                sizeof(Real) == 4 ? MPI_UINT32_T : MPI_UINT64_T, MPI_BOR, comm);
  return whole;
}

/// Gradients of one sequence, by name, as run_attention_gradient gives them: [tokens or chunks, attention_dim], and of
/// weights [leaves, elements].
template <class Real>
using NamedGradients = std::vector<std::pair<std::string, std::vector<Real>>>;

/// Whether the attention has weights, whose gradients are sums over leaves.
inline bool has_weights(const ModelConfig& config) {
  return compresses_states(config) || has_null_chunk(config) || gates_retrieval(config);
}

/// The gradients of weights on this rank, for its leaves; empty where there are none.
template <class Real>
void reserve_weights(const ModelConfig& config, const Sequence& sequence, AttentionGradient<Real>& gradient) {
  const std::int64_t leaves =
      sequence.batch() * ((sequence.local_chunks() + gradient.leaf_chunks - 1) / gradient.leaf_chunks);
  const auto poison = [](const auto& array) { Kokkos::deep_copy(array, std::numeric_limits<Real>::quiet_NaN()); };
  const auto of_heads = [&](const std::string& label) {
    const Array<Real**> array(label, leaves, config.num_heads);
    poison(array);
    return array;
  };
  if (has_null_chunk(config)) gradient.null_logit = of_heads("test::null_logit");
  if (gates_retrieval(config)) gradient.retrieval_gate = of_heads("test::retrieval_gate");
  if (!compresses_states(config)) return;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  gradient.compress_weight = Array<Real***>("test::compress_weight", leaves, compressed, whole);
  gradient.compress_bias = Array<Real**>("test::compress_bias", leaves, compressed);
  gradient.decompress_weight = Array<Real***>("test::decompress_weight", leaves, whole, compressed);
  gradient.decompress_bias = Array<Real**>("test::decompress_bias", leaves, whole);
  poison(gradient.compress_weight);
  poison(gradient.compress_bias);
  poison(gradient.decompress_weight);
  poison(gradient.decompress_bias);
}

/// The gradients of what an attention is given, for that of its result, computed by the ranks of a communicator, on
/// every rank. Those of weights are sums over leaves of `leaf_chunks` chunks. Collective.
template <class Real>
NamedGradients<Real> run_attention_gradient(const ModelConfig& config, const AttentionNumbers& numbers,
                                            const reference::Mask& mask, const reference::Matrix& output_gradient,
                                            std::int64_t leaf_chunks, MPI_Comm comm = MPI_COMM_SELF) {
  const Sequence sequence(comm, 1, numbers.query.rows, config.chunk_size, 0, has_weights(config) ? leaf_chunks : 1);
  const LocalAttention<Real> local(config, numbers, mask, sequence);
  const auto like = [](const auto& rows) {
    return Array<Real***>("test::gradient", rows.extent(0), rows.extent(1), rows.extent(2));
  };
  const auto given = rows_on_device<Real>(output_gradient, sequence.first_token(), sequence.local_tokens());
  const Array<Real***> query = like(local.input.query), key = like(local.input.key), value = like(local.input.value),
                       gate = like(local.input.gate), r = like(local.input.retrieval_query),
                       h = like(local.input.retrieval_key);
  AttentionGradient<Real> gradient;
  gradient.query = query;
  gradient.key = key;
  gradient.value = value;
  gradient.gate = gate;
  gradient.retrieval_query = r;
  gradient.retrieval_key = h;
  gradient.leaf_chunks = leaf_chunks;
  reserve_weights(config, sequence, gradient);
  const Execution execution;
  const auto attention = Attention<Real>::create(config, sequence);
  AttentionRecord<Real> record;
  const Array<Real***> output("test::output", 1, sequence.local_tokens(), config.attention_dim());
  attention->forward(execution, local.padding, local.input, output, nullptr, nullptr, &record);
  attention->backward(execution, local.padding, local.input, record, output, given, gradient);
  execution.fence();
  NamedGradients<Real> gradients;
  const auto add = [&](const char* name, const Array<Real***>& part, std::int64_t first, std::int64_t rows) {
    gradients.emplace_back(name, gather_rows(part, first, rows, comm));
  };
  add("query", query, sequence.first_token(), sequence.length());
  add("key", key, sequence.first_token(), sequence.length());
  add("value", value, sequence.first_token(), sequence.length());
  if (traits(config.architecture).has_gate()) add("gate", gate, sequence.first_token(), sequence.length());
  if (traits(config.architecture).has_retrieval()) {
    add("retrieval_query", r, sequence.first_chunk(), sequence.num_chunks());
    add("retrieval_key", h, sequence.first_chunk(), sequence.num_chunks());
  }
  const std::int64_t leaves = (sequence.num_chunks() + leaf_chunks - 1) / leaf_chunks;
  const auto add_leaves = [&](const char* name, const auto& part) {
    const Array<Real***> rows(part.data(), 1, part.extent(0), part.extent(1) * part.extent(2));
    gradients.emplace_back(name, gather_rows(rows, sequence.first_chunk() / leaf_chunks, leaves, comm));
  };
  const auto add_heads = [&](const char* name, const Array<Real**>& part) {
    const Array<Real***> rows(part.data(), 1, part.extent(0), part.extent(1));
    gradients.emplace_back(name, gather_rows(rows, sequence.first_chunk() / leaf_chunks, leaves, comm));
  };
  if (has_null_chunk(config)) add_heads("null_logit", gradient.null_logit);
  if (gates_retrieval(config)) add_heads("retrieval_gate", gradient.retrieval_gate);
  if (!compresses_states(config)) return gradients;
  add_leaves("compress_weight", gradient.compress_weight);
  add_leaves("compress_bias", gradient.compress_bias);
  add_leaves("decompress_weight", gradient.decompress_weight);
  add_leaves("decompress_bias", gradient.decompress_bias);
  return gradients;
}

}  // namespace bsbr::testing
