// Sizes of blocks that follow the caches of the CPU that the program runs on. They decide no bits.
#pragma once

#include <cstdint>

namespace bsbr::kernels {

/// Bytes of a block of a weight, all of whose rows meet it before the next one: half of a core's second-level cache;
/// 512 KiB where that is not known.
std::int64_t weight_block_bytes();

}  // namespace bsbr::kernels
