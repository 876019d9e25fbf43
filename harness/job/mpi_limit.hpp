// A limit on how long MPI itself may take to start and to end, which it does in calls that cannot be given one.
#pragma once

#include <csignal>
#include <string>

namespace bsbr::harness {

/// While this lives: ends the process with exit code 5 and an error line when `seconds` are over. 0: no limit. One at a
/// time.
class MpiLimit {
 public:
  /// `doing`: for the error line, "MPI has not started".
  MpiLimit(const std::string& program, const std::string& doing, double seconds);
  MpiLimit(const MpiLimit&) = delete;
  MpiLimit& operator=(const MpiLimit&) = delete;
  ~MpiLimit();

 private:
  bool m_set = false;
  struct sigaction m_before {};
};

}  // namespace bsbr::harness
