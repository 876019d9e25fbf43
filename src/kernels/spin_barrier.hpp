// Where a host's threads wait for each other within a launch.
#pragma once

#include <atomic>
#include <thread>

namespace bsbr::kernels {

/// A barrier for threads that run at the same time and wait for microseconds only: they spin, where Kokkos' own barrier
/// soon sleeps, which takes longer than a product of a few rows. It lives until all have left it for the last time.
class SpinBarrier {
 public:
  explicit SpinBarrier(int threads) : m_threads(threads) {}

  /// Returns when all threads have called it as often as this one; `calls`: of this thread so far, from 0 on.
  void wait(int& calls) {
    const int all = ++calls * m_threads;
    m_arrived.fetch_add(1, std::memory_order_acq_rel);
    for (int spins = 0; m_arrived.load(std::memory_order_acquire) < all;) {
      if (++spins % spins_till_yield == 0) std::this_thread::yield();  // more threads than cores
    }
  }

 private:
  static constexpr int spins_till_yield = 1 << 12;

  const int m_threads;
  std::atomic<int> m_arrived{0};
};

}  // namespace bsbr::kernels
