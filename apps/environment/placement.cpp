#include "environment/placement.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "harness/format.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

using Node = std::vector<const Place*>;  // the ranks of one host

std::vector<Node> nodes_of(const std::vector<Place>& places) {
  std::map<std::string, Node> by_host;
  for (const Place& place : places) by_host[place.host].push_back(&place);
  std::vector<Node> nodes;
  for (auto& [host, node] : by_host) nodes.push_back(std::move(node));
  return nodes;
}

bool known(const std::vector<Place>& places) {
  return std::none_of(places.begin(), places.end(), [](const Place& place) { return place.processors.empty(); });
}

/// Ranks that are confined to a set of processors, of which each of their threads would need one.
struct Crowd {
  int ranks = 0, threads = 0, processors = 0, node_ranks = 0, node_processors = 0;
  double excess() const { return processors > 0 ? static_cast<double>(threads) / processors : 0; }
};

/// The crowd on the processors of one rank: all ranks of the node that are bound to some of these.
Crowd crowd_on(const Node& node, const Place& own) {
  Crowd crowd{0, 0, static_cast<int>(own.processors.size()), static_cast<int>(node.size()), own.node_processors};
  for (const Place* other : node) {
    if (!std::includes(own.processors.begin(), own.processors.end(), other->processors.begin(),
                       other->processors.end()))
      continue;
    ++crowd.ranks;
    crowd.threads += other->threads;
  }
  return crowd;
}

/// What gives ranks processors of their own, or one rank more of them; no more than the node has.
std::string binding_advice(const Crowd& crowd, LauncherKind launcher) {
  const int share = crowd.node_processors / crowd.node_ranks;  // of the node's processors
  if (share * crowd.ranks <= crowd.processors)
    return crowd.ranks == 1 ? "use fewer threads" : "use fewer ranks or threads";
  const int wanted = std::max(1, crowd.threads / crowd.ranks), threads = std::min(wanted, share);
  const std::string number = std::to_string(threads);
  const std::string fewer = threads < wanted ? ", with " + show_several(threads, "thread") + " a rank" : "";
  if (crowd.ranks == 1 && launcher == LauncherKind::open_mpi)
    return "--bind-to none or --map-by slot:PE=" + number + fewer;
  if (launcher == LauncherKind::open_mpi) return "--map-by slot:PE=" + number + " --bind-to core" + fewer;
  if (launcher == LauncherKind::slurm) return "srun --cpus-per-task=" + number + " --cpu-bind=cores" + fewer;
  return crowd.ranks == 1 ? "use fewer threads, or more processors" : "bind each rank to processors of its own";
}

std::string describe(const Crowd& crowd, int alike, LauncherKind launcher) {
  std::string text =
      crowd.ranks == 1
          ? show_several(crowd.threads, "thread") + " on " + show_several(crowd.processors, "processor")
          : show_several(crowd.ranks, "rank") + " of a node share " + show_several(crowd.processors, "processor");
  if (crowd.ranks > 1 && crowd.threads > crowd.ranks) text += ", with " + show_several(crowd.threads, "thread");
  if (alike > 1) text += " (" + show_count(alike) + " such " + (crowd.ranks == 1 ? "ranks)" : "nodes)");
  return text + "; " + binding_advice(crowd, launcher);
}

/// The worst of crowds that are alike, and how many there are.
struct Worst {
  Crowd crowd;
  int number = 0;
  void take(const Crowd& other) {
    ++number;
    if (other.excess() > crowd.excess()) crowd = other;
  }
};

std::vector<std::string> crowd_notes(const std::vector<Node>& nodes, LauncherKind launcher) {
  Worst alone, together;  // threads of one rank; ranks of one node
  for (const Node& node : nodes) {
    Worst of_node;
    for (const Place* place : node) {
      const Crowd crowd = crowd_on(node, *place);
      if (crowd.threads <= crowd.processors) continue;
      (crowd.ranks == 1 ? alone : of_node).take(crowd);
    }
    if (of_node.number > 0) together.take(of_node.crowd);
  }
  std::vector<std::string> notes;
  for (const Worst& worst : {together, alone}) {
    if (worst.number > 0) notes.push_back(describe(worst.crowd, worst.number, launcher));
  }
  return notes;
}

/// A launcher may bind a rank to a single core, and leave the rest of the node idle, though nobody requested that.
std::string idle_note(const std::vector<Node>& nodes, LauncherKind launcher) {
  constexpr int much = 8;  // times as many processors as threads: probably not on purpose
  for (const Node& node : nodes) {
    int threads = 0;
    for (const Place* place : node) threads += place->threads;
    const int processors = node.front()->node_processors;
    if (threads * much > processors && (threads > 1 || processors < 2)) continue;
    const std::string text =
        show_several(threads, "thread") + " on a node of " + show_several(processors, "processor") + "; ";
    if (launcher == LauncherKind::open_mpi) return text + "--bind-to none, or --map-by slot:PE=N for N threads a rank";
    if (launcher == LauncherKind::slurm) return text + "srun --cpus-per-task=N for N threads a rank";
    return text + "bind the ranks to more processors, or to none";
  }
  return "";
}

}  // namespace

std::string show_processors(const std::vector<int>& processors) {
  std::string text;
  for (std::size_t i = 0; i < processors.size();) {
    std::size_t last = i;
    while (last + 1 < processors.size() && processors[last + 1] == processors[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(processors[i]);
    if (last > i) text += "-" + std::to_string(processors[last]);
    i = last + 1;
  }
  return text;
}

std::string show_binding(const std::vector<Place>& places) {
  if (!known(places)) return "";
  const auto is_bound = [](const Place& place) {
    return static_cast<int>(place.processors.size()) < place.node_processors;
  };
  if (std::none_of(places.begin(), places.end(), is_bound)) return "none";
  for (const Node& node : nodes_of(places)) {
    std::set<int> taken;
    for (const Place* place : node) {
      for (const int processor : place->processors) {
        if (!taken.insert(processor).second) return "overlapping";
      }
    }
  }
  return "separate";
}

std::vector<std::string> hosts_of(const std::vector<Place>& places) {
  std::vector<std::string> hosts;
  std::set<std::string> seen;
  for (const Place& place : places) {
    if (seen.insert(place.host).second) hosts.push_back(place.host);
  }
  return hosts;
}

std::string show_hosts(const std::vector<std::string>& hosts) {
  constexpr std::size_t most = 4;
  if (hosts.size() > most)
    return hosts.front() + " to " + hosts.back() + " (" +
           show_several(static_cast<std::int64_t>(hosts.size()), "host") + ")";
  std::string text;
  for (const std::string& host : hosts) text += (text.empty() ? "" : ", ") + host;
  return text;
}

std::vector<std::string> placement_notes(const std::vector<Place>& places, LauncherKind launcher, bool threads_chosen) {
  if (!known(places)) return {};
  const std::vector<Node> nodes = nodes_of(places);
  std::vector<std::string> notes = crowd_notes(nodes, launcher);
  const std::string idle = launcher == LauncherKind::none || threads_chosen ? "" : idle_note(nodes, launcher);
  if (!idle.empty()) notes.push_back(idle);
  return notes;
}

}  // namespace bsbr::apps
