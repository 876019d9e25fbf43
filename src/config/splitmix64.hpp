// A counter-based random number generator: number i of a stream is a function of the stream and i alone, whoever asks
// for it.
#pragma once

#include <cstdint>

namespace bsbr {

/// 64 well-mixed bits of a counter: the output function of splitmix64 (Steele, Lea and Flood 2014).
inline std::uint64_t splitmix64(std::uint64_t counter) {
  std::uint64_t z = counter + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

/// Number `index` of the stream of a seed. Such a number may be the seed of a stream in turn.
inline std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t index) {
  return splitmix64(splitmix64(seed) + index);
}

}  // namespace bsbr
