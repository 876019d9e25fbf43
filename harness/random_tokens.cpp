// Token ids drawn at random, by a counter-based generator.
#include "harness/random_tokens.hpp"

#include "config/splitmix64.hpp"

namespace bsbr::harness {
namespace {

/// A random 64-bit number as one of [0, size): the high half of the product is as even as a remainder, and cheaper.
std::int32_t scale(std::uint64_t random, std::int64_t size) {
  return static_cast<std::int32_t>((static_cast<unsigned __int128>(random) * static_cast<std::uint64_t>(size)) >> 64);
}

}  // namespace

HostArray<std::int32_t**> random_tokens(const Sequence& sequence, std::int64_t vocab_size, std::uint64_t seed) {
  HostArray<std::int32_t**> ids(Kokkos::ViewAllocateWithoutInitializing("bsbr::harness::ids"),
                                static_cast<std::size_t>(sequence.batch()),
                                static_cast<std::size_t>(sequence.local_tokens()));
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const std::uint64_t start = splitmix64(splitmix64(seed) ^ static_cast<std::uint64_t>(row)) +
                                static_cast<std::uint64_t>(sequence.first_token());
    for (std::int64_t token = 0; token < sequence.local_tokens(); ++token) {
      ids(row, token) = scale(splitmix64(start + static_cast<std::uint64_t>(token)), vocab_size);
    }
  }
  return ids;
}

}  // namespace bsbr::harness
