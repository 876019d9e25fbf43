// The phases of a forward pass: their times, and their regions for Kokkos Tools.
#include "bsbr/profile.hpp"

namespace bsbr {

Phase::Phase(const Execution& execution, Profile* profile, const char* name)
    : m_execution(execution),
      m_profile(profile),
      m_name(name),
      m_start(std::chrono::steady_clock::now()),
      m_processor_start(std::clock()) {
  Kokkos::Profiling::pushRegion(std::string("bsbr::") + name);
  if (m_profile != nullptr && m_profile->phase_begins) m_profile->phase_begins(name);
}

Phase::~Phase() {
  if (m_profile != nullptr) {
    m_execution.fence();
    m_profile->processor_seconds[m_name] += static_cast<double>(std::clock() - m_processor_start) / CLOCKS_PER_SEC;
    m_profile->seconds[m_name] += std::chrono::duration<double>(std::chrono::steady_clock::now() - m_start).count();
  }
  Kokkos::Profiling::popRegion();
}

}  // namespace bsbr
