// How long a forward pass takes on all ranks, and what it sends.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bsbr/profile.hpp"

namespace bsbr::apps {

struct Measurement {
  std::vector<double> seconds_by_repeat;  ///< of the slowest rank
  double seconds = 0;                     ///< their median

  // What follows is known to rank 0 only; of the repeat that took the median time (of an even number, the faster of the
  // two in the middle).
  std::map<std::string, double> seconds_by_phase;                 ///< of the slowest rank
  std::map<std::string, std::int64_t> bytes_sent, messages_sent;  ///< by transfer, of the rank that sends most
  std::vector<Profile> by_rank;
  std::int64_t total_bytes_sent() const;

  /// Of the slowest rank: sending, waiting for and agreeing with others, as far as no work hides it.
  double exposed_communication_seconds() const;

  /// Adds what was measured of other sequences with as many repeats: the times and bytes of one after the other.
  void add(const Measurement& other);
};

/// Runs `forward` so many times, each started by all ranks at once. Collective.
Measurement measure(MPI_Comm comm, std::int64_t repeat,
                    const std::function<void(std::int64_t number, Profile& profile)>& forward);

/// The largest of the ranks' numbers, on all ranks.
std::int64_t largest(MPI_Comm comm, std::int64_t mine);

}  // namespace bsbr::apps
