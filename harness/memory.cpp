// Memory of this process and what it can still get, as Linux tells it.
#include "harness/memory.hpp"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

#include "bsbr/error.hpp"
#include "bsbr/parallel.hpp"
#include "harness/format.hpp"

namespace bsbr::harness {
namespace {

constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max();

/// The number after a word at the beginning of a line, "VmRSS:  1234 kB" or "inactive_file 1234".
std::optional<std::int64_t> number_after(const std::string& path, const std::string& word) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream parts(line);
    std::string first;
    std::int64_t number = 0;
    if (parts >> first >> number && first == word) return number;
  }
  return std::nullopt;
}

std::optional<std::int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::int64_t number = 0;
  return file >> number ? std::optional(number) : std::nullopt;
}

std::int64_t status(const char* field) { return number_after("/proc/self/status", field).value_or(0) * 1024; }

std::int64_t left_of_limit(int resource, std::int64_t used) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return unlimited;
  const auto most = static_cast<std::int64_t>(std::min<rlim_t>(limit.rlim_cur, unlimited));
  return std::max<std::int64_t>(0, most - used);
}

/// Names of the files of a memory controller, of both versions of cgroups.
struct Controller {
  const char *root, *limit, *usage, *reclaimable;
};
constexpr Controller version_1{"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                               "total_inactive_file"};
constexpr Controller version_2{"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file"};

/// What one cgroup leaves: its limit less what is in use, where the page cache does not count, as it gives way.
std::int64_t left_of_group(const Controller& controller, const std::string& group) {
  const std::string folder = controller.root + group;
  const auto limit = number_in(folder + controller.limit), usage = number_in(folder + controller.usage);
  if (!limit || !usage) return unlimited;
  const std::int64_t cache = number_after(folder + "/memory.stat", controller.reclaimable).value_or(0);
  return std::max<std::int64_t>(0, *limit - std::max<std::int64_t>(0, *usage - cache));
}

/// The least that this process' cgroup and those around it leave.
std::int64_t left_of_groups() {
  std::int64_t left = unlimited;
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {  // "4:memory:/a/b" or "0::/a/b"
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers != ",," && controllers.find(",memory,") == std::string::npos) continue;
    const Controller& controller = controllers == ",," ? version_2 : version_1;
    std::string group = line.substr(second + 1);
    while (group.size() > 1) {
      left = std::min(left, left_of_group(controller, group));
      group.resize(group.rfind('/'));
    }
    left = std::min(left, left_of_group(controller, ""));
  }
  return left;
}

std::string shortage(std::int64_t needed, std::int64_t available, const std::string& where) {
  return "not enough memory: " + show_bytes(needed) + " needed, " + show_bytes(available) + " available " + where;
}

}  // namespace

std::int64_t resident_bytes() { return status("VmRSS:"); }

std::int64_t peak_resident_bytes() {
  const std::int64_t peak = status("VmHWM:");
  rusage usage{};
  return peak > 0 || getrusage(RUSAGE_SELF, &usage) != 0 ? peak : static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

bool restart_peak_resident_bytes() {
  malloc_trim(0);
  std::ofstream file("/proc/self/clear_refs");
  return static_cast<bool>(file << "5" << std::flush);
}

std::int64_t available_to_process() {
  return std::min(left_of_limit(RLIMIT_AS, status("VmSize:")), left_of_limit(RLIMIT_DATA, status("VmData:")));
}

std::int64_t available_on_node() {
  const auto free = number_after("/proc/meminfo", "MemAvailable:");
  return std::min(free ? *free * 1024 : unlimited, left_of_groups());
}

void require_memory(MPI_Comm comm, std::int64_t bytes, const std::string& hint) {
  const int rank = parallel::rank_in(comm);
  MPI_Comm node = parallel::split_by_node(comm);
  const int neighbours = parallel::ranks_of(node);
  const std::int64_t together =
      parallel::all_reduce(std::min(bytes, unlimited / neighbours), MPI_SUM, node);  // does not overflow
  parallel::check(MPI_Comm_free(&node), "MPI_Comm_free");
  parallel::agree(comm, [&] {
    const std::string here = "on rank " + std::to_string(rank);
    if (const std::int64_t available = available_to_process(); bytes > available) {
      throw MemoryError(shortage(bytes, available, here + ", whose memory is limited (ulimit)"), hint);
    }
    const std::int64_t available = available_on_node();
    if (together > available && neighbours == 1) throw MemoryError(shortage(together, available, here), hint);
    if (together > available) {
      throw MemoryError(
          shortage(together, available,
                   "on the node of rank " + std::to_string(rank) + " and " + std::to_string(neighbours - 1) + " more"),
          hint);
    }
  });
}

bool has_memory(MPI_Comm comm, std::int64_t bytes) {
  try {
    require_memory(comm, bytes, "");
  } catch (const MemoryError&) {
    return false;
  }
  return true;
}

}  // namespace bsbr::harness
