// Dropout by its definition (docs/architecture.md#training): one element at a time, in double, for the reference.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "config/splitmix64.hpp"
#include "kernels/philox.hpp"
#include "reference/reference.hpp"

namespace bsbr::testing {

/// The dropout of a step of training.
struct StepDropout {
  double probability;
  std::uint64_t seed;
  std::int64_t step;

  bool keeps(reference::DropoutPlace place, std::int64_t layer, std::int64_t sequence, std::int64_t token,
             std::int64_t column) const {
    const std::uint64_t of_step = splitmix64(seed, static_cast<std::uint64_t>(step)),
                        of_layer = splitmix64(of_step, static_cast<std::uint64_t>(layer)),
                        key = splitmix64(of_layer, static_cast<std::uint64_t>(place));
    const auto low = [](std::int64_t number) { return static_cast<std::uint32_t>(number); };
    const kernels::PhiloxWords bits =
        kernels::philox({{low(column / 4), low(sequence), low(token), low(token >> 32)}}, key);
    return bits.word[column % 4] >= std::round(probability * 0x1p32);
  }

  /// Of each of the step's sequences, for the reference.
  std::vector<reference::Dropout> of_sequences(std::int64_t count) const {
    std::vector<reference::Dropout> all;
    for (std::int64_t sequence = 0; sequence < count; ++sequence) {
      all.emplace_back([dropout = *this, sequence](reference::DropoutPlace place, std::int64_t layer,
                                                   std::int64_t token, std::int64_t column) {
        return dropout.keeps(place, layer, sequence, token, column) ? 1 / (1 - dropout.probability) : 0.0;
      });
    }
    return all;
  }
};

}  // namespace bsbr::testing
