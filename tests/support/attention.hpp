// Running one attention of the library on Views, without the transformer around it.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/attention.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {

/// What BSBR's attention is given, for one sequence, in double. Rows of retrieval_query and retrieval_key are chunks.
using AttentionNumbers = reference::AttentionInput;

/// Random queries, keys, values, r and h, and the projections where the configuration compresses.
inline AttentionNumbers random_attention(const ModelConfig& config, std::int64_t length, std::uint64_t seed) {
  const std::int64_t chunks = (length + config.chunk_size - 1) / config.chunk_size, width = config.hidden_dim;
  AttentionNumbers input;
  input.query = random_matrix(length, width, seed + 1);
  input.key = random_matrix(length, width, seed + 2);
  input.value = random_matrix(length, width, seed + 3);
  input.retrieval_query = random_matrix(chunks, width, seed + 4);
  input.retrieval_key = random_matrix(chunks, width, seed + 5);
  if (config.compression_factor == 0) return input;
  const std::int64_t whole = config.head_dim() * config.head_dim(), compressed = config.state_size();
  input.compress_weight = random_matrix(compressed, whole, seed + 6, 0.3);
  input.compress_bias = random_matrix(1, compressed, seed + 7);
  input.decompress_weight = random_matrix(whole, compressed, seed + 8, 0.3);
  input.decompress_bias = random_matrix(1, whole, seed + 9);
  return input;
}

/// The numbers of a matrix on the device, as an array of any shape that has as many.
template <class Data, class... Extents>
Array<Data> to_array(const reference::Matrix& matrix, Extents... extents) {
  const Array<Data> array("test::array", static_cast<std::size_t>(extents)...);
  const auto host = Kokkos::create_mirror_view(array);
  for (std::size_t i = 0; i < host.size(); ++i) host.data()[i] = static_cast<typename Array<Data>::value_type>(matrix.values[i]);
  Kokkos::deep_copy(array, host);
  return array;
}

/// The heads' results [tokens, hidden_dim] of one sequence, on this process alone.
template <class Real>
std::vector<Real> run_attention(const ModelConfig& config, const AttentionNumbers& numbers, const reference::Mask& mask) {
  const std::int64_t length = numbers.query.rows, width = config.hidden_dim;
  const Sequence sequence(MPI_COMM_SELF, 1, length, config.chunk_size);
  const auto rows = [&](const reference::Matrix& matrix) {
    return Strided<const Real***>(to_array<Real***>(matrix, std::int64_t{1}, matrix.rows, matrix.columns));
  };
  AttentionInput<Real> input;
  input.query = rows(numbers.query);
  input.key = rows(numbers.key);
  input.value = rows(numbers.value);
  input.retrieval_query = rows(numbers.retrieval_query);
  input.retrieval_key = rows(numbers.retrieval_key);
  if (config.compression_factor > 0) {
    input.compress_weight = to_array<Real**>(numbers.compress_weight, numbers.compress_weight.rows, numbers.compress_weight.columns);
    input.compress_bias = to_array<Real*>(numbers.compress_bias, numbers.compress_bias.columns);
    input.decompress_weight =
        to_array<Real**>(numbers.decompress_weight, numbers.decompress_weight.rows, numbers.decompress_weight.columns);
    input.decompress_bias = to_array<Real*>(numbers.decompress_bias, numbers.decompress_bias.columns);
  }
  const Execution execution;
  const PaddingMask padding = [&] {
    if (mask.empty()) return PaddingMask(execution, sequence);
    const Array<std::uint8_t**> tokens("test::mask", 1, static_cast<std::size_t>(length));
    const auto host = Kokkos::create_mirror_view(tokens);
    for (std::size_t t = 0; t < mask.size(); ++t) host(0, t) = mask[t];
    Kokkos::deep_copy(tokens, host);
    return PaddingMask(execution, sequence, tokens);
  }();
  const Array<Real***> output("test::output", 1, static_cast<std::size_t>(length), static_cast<std::size_t>(width));
  Attention<Real>::create(config, sequence)->forward(execution, padding, input, output);
  execution.fence();
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), output);
  return {host.data(), host.data() + host.size()};
}

}  // namespace bsbr::testing
