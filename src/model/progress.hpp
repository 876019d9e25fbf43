// Turns the phases of a forward pass into its progress.
#pragma once

#include <map>
#include <string>

#include "bsbr/config.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"

namespace bsbr {

/// While it lives, every phase is reported to Profile::progress. Without a profile, or if that has no such function, it
/// does nothing.
class ProgressReports {
 public:
  ProgressReports(const ModelConfig& config, const Sequence& sequence, Profile* profile);
  ~ProgressReports();
  ProgressReports(const ProgressReports&) = delete;
  ProgressReports& operator=(const ProgressReports&) = delete;

  /// All layers before this one are done.
  void start_layer(std::int64_t layer);

  /// The pass is done.
  void finish();

 private:
  void begin(const char* phase);
  void report(const std::string& phase);

  Profile* m_profile = nullptr;  // none: nobody listens
  ForwardProgress m_now;
  std::map<std::string, double> m_shares;  // of the pass's operations in each phase of one layer
  std::map<std::string, double> m_left;    // those of this layer's phases that are not done
  std::string m_running;                   // the phase whose operations are under way; empty: none
};

}  // namespace bsbr
