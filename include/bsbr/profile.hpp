// Where the time of a forward pass goes, and how much it sends.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <functional>
#include <map>
#include <string>

#include "bsbr/types.hpp"

namespace bsbr {

/// Where a forward pass is on this rank.
struct ForwardProgress {
  std::int64_t layer = 0;       ///< the layer being computed, from 0; num_layers after the last one
  std::int64_t num_layers = 0;  ///< layers of the model
  std::string phase;            ///< the phase that begins, a key of Profile::seconds; empty at the end of the pass
  double share = 0;  ///< of the pass's useful operations (forward_flops) that are done: 0 to 1, never decreasing
};

/// Times of this rank by phase, and its messages by transfer (a kind of exchange between ranks, such as "states"). They
/// accumulate over all forward passes that are run with it.
struct Profile {
  std::map<std::string, double> seconds;  ///< phase → wall-clock time
  std::map<std::string, double>
      processor_seconds;  ///< phase → processor time of all threads of the process, as std::clock counts it
  std::map<std::string, std::int64_t> bytes_sent;     ///< transfer → bytes sent to other ranks
  std::map<std::string, std::int64_t> messages_sent;  ///< transfer → number of messages to other ranks

  /// Called by Model::forward when a phase begins and once at the end, on the calling thread, between kernels. Each
  /// rank may set it or not, independently of the others. It must not communicate with other ranks, nor throw: the
  /// others would wait for this rank.
  std::function<void(const ForwardProgress&)> progress;

  /// Called when any phase begins, with its name, under the same rules; Model::forward sets it while `progress` is set.
  std::function<void(const char* phase)> phase_begins;

  /// Adds the bytes and messages of one transfer.
  void sent(const std::string& transfer, std::int64_t bytes, std::int64_t messages) {
    bytes_sent[transfer] += bytes;
    messages_sent[transfer] += messages;
  }
};

/// Times a phase, from construction to destruction, and is its region "bsbr::<phase>" for Kokkos Tools. Without a
/// Profile nothing is timed and nothing fenced.
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
