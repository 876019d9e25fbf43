// How long a forward pass takes on all ranks, and what it sends.
#include "measure/measurement.hpp"
#include "bsbr/parallel.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

namespace bsbr::apps {
namespace {

/// The largest of the ranks' values, and who has it.
struct Largest {
  double value;
  int rank;
};

Largest find_largest(MPI_Comm comm, double value) {
  const std::vector<double> values = parallel::all_gather(value, comm);
  const auto largest = std::max_element(values.begin(), values.end());
  return {*largest, static_cast<int>(largest - values.begin())};
}

std::string to_text(const Profile& profile) {
  return nlohmann::json({{"seconds", profile.seconds},
                         {"processor_seconds", profile.processor_seconds},
                         {"bytes", profile.bytes_sent},
                         {"messages", profile.messages_sent}})
      .dump();
}

Profile from_text(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  Profile profile;
  json.at("seconds").get_to(profile.seconds);
  json.at("processor_seconds").get_to(profile.processor_seconds);
  json.at("bytes").get_to(profile.bytes_sent);
  json.at("messages").get_to(profile.messages_sent);
  return profile;
}

/// Every rank's profile, on rank 0.
std::vector<Profile> gather_profiles(const Profile& profile, MPI_Comm comm) {
  std::vector<Profile> all;
  for (const std::string& text : parallel::gather_on_first(to_text(profile), comm)) all.push_back(from_text(text));
  return all;
}

/// Adds each number to that of the same name.
template <class Number>
void add_all(std::map<std::string, Number>& sums, const std::map<std::string, Number>& numbers) {
  for (const auto& [name, number] : numbers) sums[name] += number;
}

std::int64_t total(const std::map<std::string, std::int64_t>& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& entry) { return sum + entry.second; });
}

}  // namespace

std::int64_t Measurement::total_bytes_sent() const { return total(bytes_sent); }

double Measurement::exposed_communication_seconds() const {
  double exposed = 0;
  for (const char* phase : {"exchange", "agreement"}) {
    if (const auto found = seconds_by_phase.find(phase); found != seconds_by_phase.end()) exposed += found->second;
  }
  return exposed;
}

void Measurement::add(const Measurement& other) {
  if (seconds_by_repeat.empty()) {
    *this = other;
    return;
  }
  for (std::size_t i = 0; i < seconds_by_repeat.size(); ++i) seconds_by_repeat[i] += other.seconds_by_repeat.at(i);
  seconds += other.seconds;
  add_all(seconds_by_phase, other.seconds_by_phase);
  add_all(bytes_sent, other.bytes_sent);
  add_all(messages_sent, other.messages_sent);
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    add_all(by_rank[rank].seconds, other.by_rank.at(rank).seconds);
    add_all(by_rank[rank].processor_seconds, other.by_rank.at(rank).processor_seconds);
    add_all(by_rank[rank].bytes_sent, other.by_rank.at(rank).bytes_sent);
    add_all(by_rank[rank].messages_sent, other.by_rank.at(rank).messages_sent);
  }
}

Measurement measure(MPI_Comm comm, std::int64_t repeat,
                    const std::function<void(std::int64_t number, Profile& profile)>& forward) {
  Measurement result;
  std::vector<Profile> profiles;
  std::vector<int> slowest;
  for (std::int64_t number = 0; number < repeat; ++number) {
    Profile& profile = profiles.emplace_back();
    parallel::barrier(comm);
    const auto start = std::chrono::steady_clock::now();
    forward(number, profile);
    const Largest largest =
        find_largest(comm, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    result.seconds_by_repeat.push_back(largest.value);
    slowest.push_back(largest.rank);
  }
  std::vector<std::size_t> order(profiles.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return result.seconds_by_repeat[a] < result.seconds_by_repeat[b]; });
  const std::size_t below = order[(order.size() - 1) / 2], above = order[order.size() / 2];
  result.seconds = (result.seconds_by_repeat[below] + result.seconds_by_repeat[above]) / 2;
  result.by_rank = gather_profiles(profiles[below], comm);
  if (result.by_rank.empty()) return result;
  result.seconds_by_phase = result.by_rank[static_cast<std::size_t>(slowest[below])].seconds;
  const auto busiest =
      std::max_element(result.by_rank.begin(), result.by_rank.end(),
                       [](const Profile& a, const Profile& b) { return total(a.bytes_sent) < total(b.bytes_sent); });
  result.bytes_sent = busiest->bytes_sent;
  result.messages_sent = busiest->messages_sent;
  return result;
}

std::int64_t largest(MPI_Comm comm, std::int64_t mine) { return parallel::all_reduce(mine, MPI_MAX, comm); }

}  // namespace bsbr::apps
