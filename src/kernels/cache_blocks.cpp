#include "kernels/cache_blocks.hpp"

#include <unistd.h>

#include <algorithm>

namespace bsbr::kernels {

std::int64_t weight_block_bytes() {
  static const std::int64_t bytes = [] {
    constexpr std::int64_t usual = 512 << 10, least = 128 << 10, most = 2048 << 10;
    std::int64_t cache = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
    cache = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return cache > 0 ? std::clamp(cache / 2, least, most) : usual;
  }();
  return bytes;
}

}  // namespace bsbr::kernels
