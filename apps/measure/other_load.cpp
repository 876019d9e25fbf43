// What other processes do on the machine while something is measured.
#include "measure/other_load.hpp"
#include "bsbr/parallel.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

namespace bsbr::apps {
namespace {

constexpr double least_seconds = 0.2;  // Linux counts in hundredths of a second

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Processor seconds of this process. (std::clock wraps after an hour where its type has 32 bits; this is that clock
/// without the wrap.)
double own_seconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Seconds that the cores of this node have worked since it started, summed; below 0 if unknown.
/// /proc/stat: "cpu user nice system idle iowait irq softirq steal guest guest_nice", and user includes guest.
double busy_seconds() {
  std::ifstream file("/proc/stat");
  std::string name;
  double ticks = 0;
  file >> name;
  for (int column = 0; column < 8; ++column) {
    double value = 0;
    file >> value;
    if (column != 3 && column != 4) ticks += value;
  }
  return file && name == "cpu" ? ticks / static_cast<double>(sysconf(_SC_CLK_TCK)) : -1;
}

}  // namespace

OtherLoad::OtherLoad(MPI_Comm comm) : m_comm(comm), m_start(now()), m_own(own_seconds()), m_busy(busy_seconds()) {}

std::optional<double> OtherLoad::cores() const {
  const double busy = busy_seconds(), seconds = now() - m_start, own = own_seconds() - m_own;
  MPI_Comm node = parallel::split_by_node(m_comm);
  const std::vector<double> ranks = parallel::all_gather(own, node);
  parallel::check(MPI_Comm_free(&node), "MPI_Comm_free");
  if (m_busy < 0 || busy < 0 || seconds < least_seconds) return std::nullopt;
  return std::max(0.0, (busy - m_busy - std::accumulate(ranks.begin(), ranks.end(), 0.0)) / seconds);
}

}  // namespace bsbr::apps
