// What differs between hosts and GPUs, for all kernels: teams, loops and sums over a team. What differs for one kernel
// alone is beside it (the products of product.hpp and panel_chain.hpp, the bodies of a tile).
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// While one of these lives, this thread takes denormal numbers for zeros, as operands and as results; then its mode is
/// what it was. A denormal number takes a core a hundred times as long as another, so the time of a kernel would depend
/// on the numbers that it is given. Where the CPU has no such mode, or is not known here, nothing happens.
class FlushDenormals {
 public:
  FlushDenormals() : m_before(mode()) { set_mode(m_before | flush); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
  ~FlushDenormals() { set_mode(m_before); }

 private:
  // The instructions are said to change memory, so that no operand is loaded before the mode is set, and no result
  // stored after it is reset.
#if defined(__x86_64__)
  using Mode = std::uint32_t;
  static constexpr Mode flush = 0x8040;  // MXCSR: results (FTZ), operands (DAZ)
  static Mode mode() {
    Mode mode = 0;
    asm volatile("stmxcsr %0" : "=m"(mode) : : "memory");
    return mode;
  }
  static void set_mode(Mode mode) { asm volatile("ldmxcsr %0" : : "m"(mode) : "memory"); }
#elif defined(__aarch64__)
  using Mode = std::uint64_t;
  static constexpr Mode flush = Mode{1} << 24;  // FPCR: FZ, both
  static Mode mode() {
    Mode mode = 0;
    asm volatile("mrs %0, fpcr" : "=r"(mode) : : "memory");
    return mode;
  }
  static void set_mode(Mode mode) { asm volatile("msr fpcr, %0" : : "r"(mode) : "memory"); }
#else
  using Mode = int;
  static constexpr Mode flush = 0;
  static Mode mode() { return 0; }
  static void set_mode(Mode) {}
#endif

  Mode m_before;
};

/// A team of one thread: what the body of a host kernel runs as, from its first line to its last.
struct SerialTeam {
  FlushDenormals denormals;
};

/// One thread of a GPU's team, which works on something by itself.
struct LoneThread {};

/// Teams are dealt out one by one as threads get free: their work differs (a causal triangle).
using TeamPolicy = Kokkos::TeamPolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>>;
using TeamMember = TeamPolicy::member_type;

/// The team that a kernel's body sees.
using Team = std::conditional_t<on_host, SerialTeam, TeamMember>;

/// The team of a kernel's body, which every kernel begins with; its type depends on the argument's, so that only one
/// branch is compiled.
template <class Member>
KOKKOS_INLINE_FUNCTION std::conditional_t<on_host, SerialTeam, Member> as_team([[maybe_unused]] const Member& member) {
  if constexpr (on_host) {
    return {};
  } else {
    return member;
  }
}

/// Whether the kernels of `execution` are done, without waiting for them; a host's are when they return.
inline bool is_idle([[maybe_unused]] const Execution& execution) {
#if defined(KOKKOS_ENABLE_CUDA)
  if constexpr (std::is_same_v<Execution, Kokkos::Cuda>)
    return cudaStreamQuery(execution.cuda_stream()) != cudaErrorNotReady;
#elif defined(KOKKOS_ENABLE_HIP)
  if constexpr (!on_host) return hipStreamQuery(execution.hip_stream()) != hipErrorNotReady;
#endif
  return true;
}

/// Asks a host's caches for `count` elements that will be read soon. A GPU hides its waiting in other ways.
template <class Real>
KOKKOS_INLINE_FUNCTION void prefetch([[maybe_unused]] const Real* data, [[maybe_unused]] int count) {
  if constexpr (on_host) {
    constexpr int line = tuning::cache_line_bytes / static_cast<int>(sizeof(Real));
    for (int i = 0; i < count; i += line) __builtin_prefetch(data + i);
  }
}

/// f(i) for every i in [0, count), by all threads of the team; all of it is done when this returns. Code between two of
/// these runs on every thread: it may read what the first has written, and must write nothing that another thread
/// reads.
template <class Function>
inline void for_each([[maybe_unused]] const SerialTeam& team, int count, Function&& function) {
  for (int i = 0; i < count; ++i) function(i);
}

template <class Function>
KOKKOS_INLINE_FUNCTION void for_each(const LoneThread&, int count, Function&& function) {
  for (int i = 0; i < count; ++i) function(i);
}

template <class Function>
KOKKOS_INLINE_FUNCTION void for_each(const TeamMember& team, int count, Function&& function) {
  Kokkos::parallel_for(Kokkos::TeamVectorRange(team, count), function);
  team.team_barrier();
}

/// of_row(row)(i) for every row in [0, rows) and i in [0, width), by all threads of the team; all of it is done when
/// this returns. of_row prepares what the elements of a row have in common; a GPU's threads share out the elements of
/// all rows at once.
template <class OfRow>
inline void for_each_in_rows([[maybe_unused]] const SerialTeam& team, int rows, int width, OfRow&& of_row) {
  for (int row = 0; row < rows; ++row) {
    const auto function = of_row(row);
    for (int i = 0; i < width; ++i) function(i);
  }
}

template <class OfRow>
KOKKOS_INLINE_FUNCTION void for_each_in_rows(const TeamMember& team, int rows, int width, OfRow&& of_row) {
  for_each(team, rows * width, [&](const int element) { of_row(element / width)(element % width); });
}

/// Σ f(i) over [0, count), in an order that depends on nothing but count: partial sums that a host's compiler
/// vectorises.
template <class Real, class Function>
inline Real sum([[maybe_unused]] const SerialTeam& team, int count, Function&& function) {
  constexpr int lanes = HostSizes::sum_lanes;
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
KOKKOS_INLINE_FUNCTION Real sum(const LoneThread&, int count, Function&& function) {
  Real total = 0;
  for (int i = 0; i < count; ++i) total += function(i);
  return total;
}

template <class Real, class Function>
KOKKOS_INLINE_FUNCTION Real sum(const TeamMember& team, int count, Function&& function) {
  Real total = 0;
  Kokkos::parallel_reduce(
      Kokkos::TeamVectorRange(team, count), [&](const int i, Real& part) { part += function(i); }, total);
  return total;
}

}  // namespace bsbr::kernels
