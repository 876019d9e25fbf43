// Random weights, ids and masks for the reference: the same numbers on every rank and machine.
#pragma once

#include <cstdint>
#include <vector>

#include "bsbr/config.hpp"
#include "reference/reference.hpp"

namespace bsbr::testing {

/// A small configuration of an architecture that is valid: D = 12, 3 heads (gau: 1), 2 layers, chunks of 5 tokens.
ModelConfig small_config(Architecture architecture);

/// Sizes for gradients, none of which fits a tile: bsbr, D = 21, 3 heads, 2 layers, chunks of 5 tokens.
ModelConfig gradient_config(Head head = Head::none);

/// Normal numbers with this standard deviation, [rows, columns].
reference::Matrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed, double deviation = 1);

/// Weights that make no term of the model small: norms are not 1 and 0, and no softmax is flat.
reference::WeightMap random_weight_map(const ModelConfig& config, std::uint64_t seed);

/// What an attention might be given, for one sequence.
reference::AttentionInput random_attention_input(const ModelConfig& config, std::int64_t length, std::uint64_t seed);

std::vector<std::int64_t> random_ids(std::int64_t length, std::int64_t vocab_size, std::uint64_t seed);

/// About this share of the tokens is padding.
reference::Mask random_mask(std::int64_t length, double padding, std::uint64_t seed);

}  // namespace bsbr::testing
