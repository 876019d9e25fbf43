// Where the ranks of a job run, and what is probably unintended about it: ranks or threads that share processors,
// processors that stay idle.
#pragma once

#include <string>
#include <vector>

#include "harness/job/launcher.hpp"

namespace bsbr::apps {

/// Where one rank runs.
struct Place {
  std::string host;
  std::vector<int> processors;  ///< that its threads may use, by the system's numbers, ascending; none if the system
                                ///< does not report them
  int threads = 1;
  int node_processors = 0;  ///< that the job has on this host, whatever the rank is bound to
};

/// Processors as Linux writes them: "0-3,8".
std::string show_processors(const std::vector<int>& processors);

/// "none" if every rank may use all processors that the job has on its host, "separate" if no two ranks may use the
/// same ones, else "overlapping"; empty if the system does not report processors.
std::string show_binding(const std::vector<Place>& places);

/// The names of the hosts, each once, in the order of the ranks.
std::vector<std::string> hosts_of(const std::vector<Place>& places);

/// In one line, of many the first and the last: "node1, node2".
std::string show_hosts(const std::vector<std::string>& hosts);

/// What is probably unintended, one line each; none if all is well. `threads_chosen`: the user has set the number of
/// threads.
std::vector<std::string> placement_notes(const std::vector<Place>& places, harness::LauncherKind launcher,
                                         bool threads_chosen);

}  // namespace bsbr::apps
