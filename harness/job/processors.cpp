#include "harness/job/processors.hpp"

#include <sched.h>

#include <Kokkos_Core.hpp>
#include <mutex>

namespace bsbr::harness {
namespace {

cpu_set_t* as_cpu_set(ProcessorMask& mask) { return reinterpret_cast<cpu_set_t*>(mask.words.data()); }

}  // namespace

std::vector<int> ProcessorMask::numbers() const {
  std::vector<int> list;
  for (std::size_t i = 0; i < most; ++i) {
    if ((words[i / 64] >> (i % 64) & 1) != 0) list.push_back(static_cast<int>(i));
  }
  return list;
}

ProcessorMask allowed_processors() {
  ProcessorMask mask;
  if (sched_getaffinity(0, sizeof mask.words, as_cpu_set(mask)) != 0) return {};
  return mask;
}

ProcessorMask processors_of_threads() {
  using Host = Kokkos::DefaultHostExecutionSpace;
  std::mutex access;
  ProcessorMask all;
  Kokkos::parallel_for("bsbr::harness::processors",
                       Kokkos::RangePolicy<Host>(0, static_cast<int>(Host().concurrency())), [&](int) {
                         const ProcessorMask mine = allowed_processors();
                         const std::lock_guard lock(access);
                         for (std::size_t i = 0; i < all.words.size(); ++i) all.words[i] |= mine.words[i];
                       });
  Host().fence();
  return all;
}

ProcessorMask obtainable_processors() {
  ProcessorMask before = allowed_processors(), all;
  all.words.fill(~std::uint64_t{0});
  if (sched_setaffinity(0, sizeof all.words, as_cpu_set(all)) != 0)
    return before;  // the system takes what there is of them
  ProcessorMask found = allowed_processors();
  sched_setaffinity(0, sizeof before.words, as_cpu_set(before));
  return found;
}

}  // namespace bsbr::harness
