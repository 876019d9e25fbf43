// Where the time of a forward pass goes, and how much it sends.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <map>
#include <string>

#include "bsbr/types.hpp"

namespace bsbr {

/// Times of this rank by phase, and its messages by movement (a kind of exchange between ranks, such as "states"). They accumulate over all
/// forward passes that are run with it.
struct Profile {
  std::map<std::string, double> seconds;              ///< phase → wall-clock time
  std::map<std::string, double> processor_seconds;    ///< phase → processor time of all threads of the process, as std::clock counts it
  std::map<std::string, std::int64_t> bytes_sent;     ///< movement → bytes sent to other ranks
  std::map<std::string, std::int64_t> messages_sent;  ///< movement → number of messages to other ranks

  /// Adds the bytes and messages of one movement.
  void sent(const std::string& movement, std::int64_t bytes, std::int64_t messages) {
    bytes_sent[movement] += bytes;
    messages_sent[movement] += messages;
  }
};

/// Times a phase, from construction to destruction, and is its region "bsbr::<phase>" for Kokkos Tools. Without a Profile nothing is timed
/// and nothing fenced.
class Phase {
 public:
  /// Begins the phase; the destructor fences `execution` and ends it. `name` must live as long as this object.
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
