// Where the time of a forward pass goes, and what it sends.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <string>

#include "bsbr/types.hpp"

namespace bsbr {

/// Seconds by phase, bytes and messages by movement, of this rank, added up over everything that is run with it.
struct Profile {
  std::map<std::string, double> seconds;              ///< that pass
  std::map<std::string, double> processor_seconds;    ///< that all threads of the process spend on processors, as std::clock counts them
  std::map<std::string, std::int64_t> bytes_sent;     ///< to other ranks; a rank's own part is not counted
  std::map<std::string, std::int64_t> messages_sent;  ///< their number

  /// Adds what one movement has sent.
  void sent(const std::string& movement, std::int64_t bytes, std::int64_t messages) {
    bytes_sent[movement] += bytes;
    messages_sent[movement] += messages;
  }
};

/// Times one phase into a Profile (none: times nothing), fencing at its end; a region "bsbr::<phase>" for Kokkos Tools in any case.
class Phase {
 public:
  /// Begins the phase, and ends it with the object's life. `name` must live as long.
  Phase(const Execution& execution, Profile* profile, const char* name);
  ~Phase();
  Phase(const Phase&) = delete;
  Phase& operator=(const Phase&) = delete;

 private:
  Execution m_execution;
  Profile* m_profile;
  const char* m_name;
  std::chrono::steady_clock::time_point m_start;
  std::clock_t m_processor_start;
};

}  // namespace bsbr
