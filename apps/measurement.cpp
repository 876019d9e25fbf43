// How long a forward pass takes on all ranks, and what it sends.
#include "measurement.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>

#include "parallel/agree.hpp"
#include "runtime.hpp"

namespace bsbr::apps {
namespace {

using parallel::check;

/// The largest of the ranks' values, and who has it: MPI's MPI_DOUBLE_INT.
struct Largest {
  double value;
  int rank;
};

Largest find_largest(MPI_Comm comm, double value) {
  Largest mine{value, 0}, largest{};
  check(MPI_Comm_rank(comm, &mine.rank), "MPI_Comm_rank");
  check(MPI_Allreduce(&mine, &largest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, comm), "MPI_Allreduce");
  return largest;
}

std::string to_text(const Profile& profile) {
  return nlohmann::json({{"seconds", profile.seconds}, {"bytes", profile.bytes_sent}, {"messages", profile.messages_sent}}).dump();
}

Profile from_text(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  Profile profile;
  json.at("seconds").get_to(profile.seconds);
  json.at("bytes").get_to(profile.bytes_sent);
  json.at("messages").get_to(profile.messages_sent);
  return profile;
}

/// One rank's profile, brought to all: the ranks need not have the same phases and movements.
Profile profile_of(int rank, const Profile& profile, MPI_Comm comm) { return from_text(broadcast_from(rank, to_text(profile), comm)); }

/// Every rank's profile, on rank 0.
std::vector<Profile> gather_profiles(const Profile& profile, MPI_Comm comm) {
  std::vector<Profile> all;
  for (const std::string& text : gather_texts(to_text(profile), comm)) all.push_back(from_text(text));
  return all;
}

std::int64_t total(const std::map<std::string, std::int64_t>& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0},
                         [](std::int64_t sum, const auto& entry) { return sum + entry.second; });
}

}  // namespace

std::int64_t Measurement::total_bytes_sent() const { return total(bytes_sent); }

Measurement measure(MPI_Comm comm, std::int64_t repeat, const std::function<void(std::int64_t number, Profile& profile)>& forward) {
  Measurement result;
  std::vector<Profile> profiles;
  std::vector<int> slowest;
  for (std::int64_t number = 0; number < repeat; ++number) {
    Profile& profile = profiles.emplace_back();
    check(MPI_Barrier(comm), "MPI_Barrier");
    const auto start = std::chrono::steady_clock::now();
    forward(number, profile);
    const Largest largest = find_largest(comm, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    result.seconds_by_repeat.push_back(largest.value);
    slowest.push_back(largest.rank);
  }
  std::vector<std::size_t> order(profiles.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return result.seconds_by_repeat[a] < result.seconds_by_repeat[b]; });
  const std::size_t below = order[(order.size() - 1) / 2], above = order[order.size() / 2];
  result.seconds = (result.seconds_by_repeat[below] + result.seconds_by_repeat[above]) / 2;
  const Profile& median = profiles[below];
  result.seconds_by_phase = profile_of(slowest[below], median, comm).seconds;
  const Profile busiest = profile_of(find_largest(comm, static_cast<double>(total(median.bytes_sent))).rank, median, comm);
  result.bytes_sent = busiest.bytes_sent;
  result.messages_sent = busiest.messages_sent;
  result.by_rank = gather_profiles(median, comm);
  return result;
}

std::int64_t largest(MPI_Comm comm, std::int64_t mine) {
  std::int64_t result = mine;
  check(MPI_Allreduce(&mine, &result, 1, MPI_INT64_T, MPI_MAX, comm), "MPI_Allreduce");
  return result;
}

}  // namespace bsbr::apps
