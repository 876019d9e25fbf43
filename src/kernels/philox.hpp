// Philox4x32-10, a counter-based random number generator: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
// easy as 1, 2, 3", SC 2011.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>

namespace bsbr::kernels {

/// Four words of 32 bits: a counter, and what becomes of it.
struct PhiloxWords {
  std::uint32_t word[4];
};

/// The 128 random bits that belong to a counter in the stream of a key; the key's lower half comes first.
KOKKOS_INLINE_FUNCTION PhiloxWords philox(PhiloxWords counter, std::uint64_t key) {
  constexpr int rounds = 10;
  auto [x0, x1, x2, x3] = counter.word;
  auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xd2511f53} * x0, product2 = std::uint64_t{0xcd9e8d57} * x2;
    x0 = static_cast<std::uint32_t>(product2 >> 32) ^ x1 ^ key0;
    x1 = static_cast<std::uint32_t>(product2);
    x2 = static_cast<std::uint32_t>(product0 >> 32) ^ x3 ^ key1;
    x3 = static_cast<std::uint32_t>(product0);
    key0 += 0x9e3779b9;
    key1 += 0xbb67ae85;
  }
  return {{x0, x1, x2, x3}};
}

}  // namespace bsbr::kernels
