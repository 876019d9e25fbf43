// What differs between hosts and GPUs, for all kernels: teams, loops and sums over a team. What differs for one kernel alone is beside it
// (the products of product.hpp and panel_chain.hpp, the bodies of a tile).
#pragma once

#include "bsbr/types.hpp"

namespace bsbr::kernels {

/// Kernels run on the host's cores: a team is one thread whose inner loops vectorise. Otherwise on a GPU, where teams have many threads.
inline constexpr bool on_host = Kokkos::SpaceAccessibility<Execution, Kokkos::HostSpace>::accessible;

/// A team of one thread: what a host kernel runs as.
struct SerialTeam {};

/// Teams are dealt out one by one as threads get free: their work differs (a causal triangle).
using TeamPolicy = Kokkos::TeamPolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>>;
using TeamMember = TeamPolicy::member_type;

/// The team that a kernel's body sees.
using Team = std::conditional_t<on_host, SerialTeam, TeamMember>;

/// The team of a kernel's body; its type depends on the argument's, so that only the branch that is meant is compiled.
template <class Member>
KOKKOS_INLINE_FUNCTION std::conditional_t<on_host, SerialTeam, Member> as_team([[maybe_unused]] const Member& member) {
  if constexpr (on_host) {
    return {};
  } else {
    return member;
  }
}

/// Asks a host's caches for `count` numbers that will be read soon. A GPU hides its waiting in other ways.
template <class Real>
KOKKOS_INLINE_FUNCTION void prefetch([[maybe_unused]] const Real* data, [[maybe_unused]] int count) {
  if constexpr (on_host) {
    constexpr int line = 64 / static_cast<int>(sizeof(Real));
    for (int i = 0; i < count; i += line) __builtin_prefetch(data + i);
  }
}

/// f(i) for every i in [0, count), by all threads of the team; all of it is done when this returns.
template <class Function>
inline void for_each([[maybe_unused]] const SerialTeam& team, int count, Function&& function) {
  for (int i = 0; i < count; ++i) function(i);
}

template <class Function>
KOKKOS_INLINE_FUNCTION void for_each(const TeamMember& team, int count, Function&& function) {
  team.team_barrier();
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, count), function);
  team.team_barrier();
}

/// Σ f(i) over [0, count), in an order that depends on nothing but count: sixteen partial sums that a host compiler vectorises (bits).
template <class Real, class Function>
inline Real sum([[maybe_unused]] const SerialTeam& team, int count, Function&& function) {
  constexpr int lanes = 16;
  Real partial[lanes] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) partial[lane] += function(i + lane);
  }
  for (; i < count; ++i) partial[i % lanes] += function(i);
  for (int width = lanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
  }
  return partial[0];
}

template <class Real, class Function>
KOKKOS_INLINE_FUNCTION Real sum(const TeamMember& team, int count, Function&& function) {
  Real total = 0;
  team.team_barrier();
  Kokkos::parallel_reduce(
      Kokkos::TeamVectorRange(team, count), [&](const int i, Real& part) { part += function(i); }, total);
  return total;
}

}  // namespace bsbr::kernels
