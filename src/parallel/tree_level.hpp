// Levels of the binary trees by which leaves are joined: a node of level k is of 2^k leaves, from a multiple of 2^k on.
#pragma once

#include <cstdint>

namespace bsbr::parallel {

/// The leaves of a whole node.
constexpr std::int64_t leaves_of(int level) { return std::int64_t{1} << level; }

}  // namespace bsbr::parallel
