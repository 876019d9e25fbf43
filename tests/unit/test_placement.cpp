// What is said about where ranks run: what is probably unintended, and nothing if all is well.
#include <gtest/gtest.h>

#include "environment/placement.hpp"

namespace bsbr::apps {
namespace {

using harness::LauncherKind;

constexpr bool chosen = true, not_chosen = false;

/// A rank on a host, with threads that may use these processors out of so many.
Place rank(const std::string& host, std::vector<int> processors, int threads, int node_processors) {
  return {host, std::move(processors), threads, node_processors};
}

std::vector<int> range(int first, int count) {
  std::vector<int> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(first + i);
  return numbers;
}

/// So many ranks on each of two hosts, bound to processors of their own.
std::vector<Place> bound(int ranks, int width, int threads, int node_processors) {
  std::vector<Place> places;
  for (const char* host : {"one", "two"}) {
    for (int i = 0; i < ranks; ++i) places.push_back(rank(host, range(i * width, width), threads, node_processors));
  }
  return places;
}

std::vector<Place> unbound(int ranks, int threads, int node_processors) {
  return std::vector<Place>(static_cast<std::size_t>(ranks),
                            rank("one", range(0, node_processors), threads, node_processors));
}

using Notes = std::vector<std::string>;

TEST(PlacementNotes, nothing_is_said_if_all_is_well) {
  EXPECT_EQ(placement_notes(bound(4, 16, 16, 64), LauncherKind::open_mpi, chosen), Notes());
  EXPECT_EQ(placement_notes(bound(4, 16, 8, 64), LauncherKind::slurm, chosen), Notes());  // hyperthreads are left alone
  EXPECT_EQ(placement_notes(unbound(4, 16, 64), LauncherKind::open_mpi, not_chosen), Notes());
  EXPECT_EQ(placement_notes(unbound(1, 64, 64), LauncherKind::none, not_chosen), Notes());
  EXPECT_EQ(placement_notes(unbound(1, 1, 1), LauncherKind::open_mpi, not_chosen), Notes());
  EXPECT_EQ(placement_notes(bound(1, 1, 1, 64), LauncherKind::open_mpi, chosen), Notes());
  EXPECT_EQ(placement_notes({rank("one", {}, 4, 0)}, LauncherKind::open_mpi, chosen),
            Notes());  // the system does not tell
}

TEST(PlacementNotes, threads_that_share_a_processor_are_told_with_what_helps) {
  const auto note = [](std::vector<Place> places, LauncherKind launcher) {
    return placement_notes(places, launcher, chosen).at(0);
  };
  const std::vector<Place> one{rank("one", {5}, 4, 64)};
  EXPECT_EQ(note(one, LauncherKind::open_mpi), "4 threads on 1 processor; --bind-to none or --map-by slot:PE=4");
  EXPECT_EQ(note(one, LauncherKind::slurm), "4 threads on 1 processor; srun --cpus-per-task=4 --cpu-bind=cores");
  EXPECT_EQ(note(unbound(1, 4, 2), LauncherKind::none), "4 threads on 2 processors; use fewer threads");
  EXPECT_EQ(note(bound(4, 1, 4, 64), LauncherKind::slurm),
            "4 threads on 1 processor (8 such ranks); srun --cpus-per-task=4 --cpu-bind=cores");
}

TEST(PlacementNotes, no_more_processors_are_advised_than_the_node_has) {
  const auto note = [](std::vector<Place> places, LauncherKind launcher) {
    return placement_notes(places, launcher, chosen).at(0);
  };
  const std::vector<Place> one{rank("one", {1}, 4, 2)};
  EXPECT_EQ(note(one, LauncherKind::open_mpi),
            "4 threads on 1 processor; --bind-to none or --map-by slot:PE=2, with 2 threads a rank");
  EXPECT_EQ(note(one, LauncherKind::slurm),
            "4 threads on 1 processor; srun --cpus-per-task=2 --cpu-bind=cores, with 2 threads a rank");
  EXPECT_EQ(note(unbound(1, 4, 2), LauncherKind::open_mpi), "4 threads on 2 processors; use fewer threads");
  EXPECT_EQ(note(bound(4, 1, 4, 4), LauncherKind::open_mpi),
            "4 threads on 1 processor (8 such ranks); use fewer threads");
  const std::vector<Place> same_core(2, rank("one", {0}, 2, 3));
  EXPECT_EQ(
      note(same_core, LauncherKind::open_mpi),
      "2 ranks of a node share 1 processor, with 4 threads; --map-by slot:PE=1 --bind-to core, with 1 thread a rank");
  const std::vector<Place> too_many(4, rank("one", {0}, 1, 2));
  EXPECT_EQ(note(too_many, LauncherKind::open_mpi), "4 ranks of a node share 1 processor; use fewer ranks or threads");
}

TEST(PlacementNotes, ranks_that_share_processors_are_told) {
  const auto note = [](std::vector<Place> places) {
    return placement_notes(places, LauncherKind::open_mpi, chosen).at(0);
  };
  EXPECT_EQ(note(unbound(4, 1, 2)), "4 ranks of a node share 2 processors; use fewer ranks or threads");
  const std::vector<Place> same_core(2, rank("one", {0}, 1, 64));
  EXPECT_EQ(note(same_core), "2 ranks of a node share 1 processor; --map-by slot:PE=1 --bind-to core");
  const std::vector<Place> same_socket(4, rank("one", range(0, 32), 16, 64));
  EXPECT_EQ(note(same_socket),
            "4 ranks of a node share 32 processors, with 64 threads; --map-by slot:PE=16 --bind-to core");
}

TEST(PlacementNotes, ranks_bound_to_a_part_of_the_processors_of_others_count_for_these) {
  std::vector<Place> places{rank("one", range(0, 4), 3, 64), rank("one", {0, 1}, 1, 64)};
  EXPECT_EQ(placement_notes(places, LauncherKind::open_mpi, chosen), Notes());  // there is room for all
  places.push_back(rank("one", {1}, 1, 64));
  EXPECT_EQ(placement_notes(places, LauncherKind::open_mpi, chosen).at(0),
            "3 ranks of a node share 4 processors, with 5 threads; --map-by slot:PE=1 --bind-to core");
}

TEST(PlacementNotes, ranks_of_other_hosts_do_not_share) {
  const std::vector<Place> places{rank("one", {0}, 1, 1), rank("two", {0}, 1, 1)};
  EXPECT_EQ(placement_notes(places, LauncherKind::slurm, chosen), Notes());
}

TEST(PlacementNotes, a_node_that_stays_idle_is_told_unless_somebody_chose_it) {
  const std::vector<Place> places{rank("one", {0}, 1, 64)};
  EXPECT_EQ(placement_notes(places, LauncherKind::open_mpi, not_chosen),
            Notes{"1 thread on a node of 64 processors; --bind-to none, or --map-by slot:PE=N for N threads a rank"});
  EXPECT_EQ(placement_notes(places, LauncherKind::open_mpi, chosen), Notes());
  EXPECT_EQ(placement_notes(places, LauncherKind::none, not_chosen), Notes());  // taskset
  EXPECT_EQ(placement_notes(bound(2, 1, 1, 16), LauncherKind::slurm, not_chosen).size(), 1U);
}

TEST(Placement, processors_are_shown_as_linux_writes_them) {
  EXPECT_EQ(show_processors({}), "");
  EXPECT_EQ(show_processors({3}), "3");
  EXPECT_EQ(show_processors({0, 1, 2, 8, 10, 11}), "0-2,8,10-11");
}

TEST(Placement, binding_has_a_name) {
  EXPECT_EQ(show_binding(unbound(4, 1, 64)), "none");
  EXPECT_EQ(show_binding(bound(4, 16, 16, 64)), "separate");
  EXPECT_EQ(show_binding(std::vector<Place>(2, rank("one", {0}, 1, 64))), "overlapping");
  EXPECT_EQ(show_binding({rank("one", {}, 1, 0)}), "");
}

TEST(Placement, hosts_are_named_once_and_many_are_counted) {
  EXPECT_EQ(show_hosts(hosts_of(bound(3, 1, 1, 64))), "one, two");
  EXPECT_EQ(show_hosts({"n1", "n2", "n3", "n4", "n5"}), "n1 to n5 (5 hosts)");
}

}  // namespace
}  // namespace bsbr::apps
