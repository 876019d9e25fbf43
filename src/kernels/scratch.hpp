// Scratch memory of a team, handed out piece by piece.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/poison.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Where `bytes` of scratch lie: level 0 is a GPU's shared memory, level 1 ordinary memory. On a host level 0 is too
/// small for any kernel.
KOKKOS_INLINE_FUNCTION constexpr int scratch_level(std::int64_t bytes) {
  return !on_host && bytes <= tuning::shared_bytes ? 0 : 1;
}

/// f(std::integral_constant<int, division>) with the smallest division of tiles, 1, 2 or 4, with which the scratch of a
/// team fits into a GPU's shared memory: bytes_of(division), in bytes. If it fits with none, as on a host, with 1.
template <class BytesOf, class Function>
auto with_division(const BytesOf& bytes_of, Function&& f) {
  constexpr std::integral_constant<int, 1> whole;
  constexpr std::integral_constant<int, 2> halves;
  constexpr std::integral_constant<int, 4> quarters;
  if constexpr (!on_host) {
    if (scratch_level(bytes_of(whole)) == 0) return f(whole);
    if (scratch_level(bytes_of(halves)) == 0) return f(halves);
    if (scratch_level(bytes_of(quarters)) == 0) return f(quarters);
  }
  return f(whole);
}

/// Pieces are aligned to cache lines; the first may have to be moved up to one.
inline constexpr std::int64_t scratch_alignment = tuning::cache_line_bytes;

/// Bytes of a piece of `count` elements, and of the gap behind it.
template <class Real>
KOKKOS_INLINE_FUNCTION constexpr std::int64_t scratch_bytes(std::int64_t count) {
  return (count * static_cast<std::int64_t>(sizeof(Real)) + scratch_alignment - 1) / scratch_alignment *
             scratch_alignment +
         scratch_gap;
}

/// What must be asked for so that `bytes` of pieces fit whatever the alignment of the whole.
KOKKOS_INLINE_FUNCTION constexpr std::int64_t scratch_request(std::int64_t bytes) {
  return bytes + 2 * scratch_alignment;
}

/// Hands out pieces of the team's scratch memory, in the order of the calls.
class Scratch : private ScratchGuard<(scratch_gap > 0)> {
 public:
  /// It lives as long as the kernel uses the pieces.
  KOKKOS_INLINE_FUNCTION Scratch(const TeamMember& member, std::int64_t bytes)
      : Scratch(member.team_scratch(scratch_level(bytes)).get_shmem(static_cast<int>(scratch_request(bytes))), bytes) {}

  /// Pieces of `memory`, of which there are scratch_request(bytes).
  KOKKOS_INLINE_FUNCTION Scratch(void* memory, std::int64_t bytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    m_next = reinterpret_cast<char*>((address + scratch_alignment - 1) / scratch_alignment * scratch_alignment);
    this->watch(m_next, bytes);
  }

  /// Pieces of a piece that was taken before.
  KOKKOS_INLINE_FUNCTION explicit Scratch(char* begin) : m_next(begin) {}

  template <class Real>
  KOKKOS_INLINE_FUNCTION Real* take(std::int64_t count) {
    auto* piece = reinterpret_cast<Real*>(m_next);
    m_next += scratch_bytes<Real>(count);
    this->watch_gap(reinterpret_cast<char*>(piece + count), m_next);
    return piece;
  }

 private:
  char* m_next;
};

/// Threads of each team.
inline int team_size(const Execution& execution) {
  return std::min(tuning::team_size,
                  device_bodies_on_host ? static_cast<int>(execution.concurrency()) : tuning::team_size);
}

/// Teams that run at the same time.
inline std::int64_t concurrent_teams(const Execution& execution) {
  return std::max<std::int64_t>(1, execution.concurrency() / team_size(execution));
}

/// Chunk size of the schedule. The `neighbours` heads of a token share pages and cache lines, so a thread takes all of
/// them at once if that still leaves `groups` such groups for each thread; else one team.
inline std::int64_t taken_together(const Execution& execution, std::int64_t teams, std::int64_t neighbours,
                                   int groups) {
  return teams >= groups * neighbours * concurrent_teams(execution) ? neighbours : 1;
}

/// Bytes that Kokkos takes from a GPU's memory for teams whose scratch does not fit into shared memory. On a host each
/// thread has the scratch of its team, which the programs count with what threads take.
inline std::int64_t scratch_in_device_memory(std::int64_t bytes) {
  if (on_host_threads || scratch_level(bytes) == 0) return 0;
  return concurrent_teams(Execution()) * scratch_request(bytes);
}

/// A policy of `teams` teams with that much scratch memory each; a thread takes `together` neighbours at a time.
/// Throws ShapeError for more than Kokkos counts.
inline TeamPolicy team_policy(const Execution& execution, std::int64_t teams, std::int64_t bytes,
                              std::int64_t together = 1) {
  constexpr std::int64_t most = std::numeric_limits<int>::max();
  if (teams > most || scratch_request(bytes) > most) {
    throw ShapeError("a kernel needs " + std::to_string(teams) + " teams with " + std::to_string(bytes) +
                     " bytes of scratch each, more than " + std::to_string(most));
  }
  constexpr int vector_length = 1;
  TeamPolicy policy(execution, static_cast<int>(teams), team_size(execution), vector_length);
  policy.set_chunk_size(static_cast<int>(together));
  policy.set_scratch_size(scratch_level(bytes), Kokkos::PerTeam(static_cast<int>(scratch_request(bytes))));
  return policy;
}

}  // namespace bsbr::kernels
