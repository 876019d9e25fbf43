// MPI's calls as we make them: their errors, and what collective operations bring to whom.
#include "parallel/collectives.hpp"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "bsbr/error.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

// ---- check, require_mpi ---------------------------------------------------------------------------------------------

TEST(Check, throws_what_mpi_says) {
  EXPECT_NO_THROW(parallel::check(MPI_SUCCESS, "MPI_Bcast"));
  try {
    parallel::check(MPI_ERR_RANK, "MPI_Bcast");
    ADD_FAILURE() << "nothing was thrown";
  } catch (const CommunicationError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("MPI_Bcast: ", 0), 0u) << message;
    EXPECT_NE(message.find("rank"), std::string::npos) << message;
  }
}

TEST(RequireMpi, is_content_while_mpi_is_up) { EXPECT_NO_THROW(parallel::require_mpi()); }

// ---- Broadcasts -----------------------------------------------------------------------------------------------------

TEST(Broadcast, strings_of_any_length_reach_all_ranks) {
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{4097}, std::size_t{20} << 20}) {
    std::string expected(length, 'a');
    for (std::size_t i = 0; i < length; i += 251) expected[i] = static_cast<char>(i);  // zeros among them
    std::string text = world_rank() == 0 ? expected : "what was there before";
    parallel::broadcast(text, MPI_COMM_WORLD);
    EXPECT_TRUE(text == expected) << length << " characters";
  }
}

TEST(Broadcast, bytes_reach_all_ranks) {
  std::vector<std::int64_t> numbers(1000, world_rank());
  numbers[999] = world_rank() == 0 ? 42 : 7;
  parallel::broadcast(numbers.data(), static_cast<std::int64_t>(numbers.size() * sizeof numbers[0]), MPI_COMM_WORLD);
  EXPECT_EQ(numbers[0], 0);
  EXPECT_EQ(numbers[998], 0);
  EXPECT_EQ(numbers[999], 42);
  parallel::broadcast(nullptr, 0, MPI_COMM_WORLD);
}

TEST(Broadcast, any_rank_may_be_the_one_that_knows) {
  for (int root = 0; root < world_ranks(); ++root) {
    std::string text = world_rank() == root ? "known by " + std::to_string(root) : "";
    parallel::broadcast(text, MPI_COMM_WORLD, root);
    EXPECT_EQ(text, "known by " + std::to_string(root));
  }
}

// ---- The others -----------------------------------------------------------------------------------------------------

TEST(AllReduce, combines_the_numbers_of_all_ranks) {
  const int ranks = world_ranks(), rank = world_rank();
  EXPECT_EQ(parallel::all_reduce(rank + 1, MPI_SUM, MPI_COMM_WORLD), ranks * (ranks + 1) / 2);
  EXPECT_EQ(parallel::all_reduce(std::int64_t{5} - rank, MPI_MIN, MPI_COMM_WORLD), 6 - ranks);
  const std::vector<std::int64_t> numbers{rank, -rank, std::int64_t{1} << 40};
  EXPECT_EQ(parallel::all_reduce(numbers, MPI_MAX, MPI_COMM_WORLD),
            (std::vector<std::int64_t>{ranks - 1, 0, std::int64_t{1} << 40}));
}

TEST(AllGather, brings_every_item_to_all_ranks_in_their_order) {
  struct Item {
    std::int64_t rank;
    char letter;
  };
  const auto items = parallel::all_gather(Item{world_rank(), static_cast<char>('a' + world_rank())}, MPI_COMM_WORLD);
  ASSERT_EQ(static_cast<int>(items.size()), world_ranks());
  for (int rank = 0; rank < world_ranks(); ++rank) {
    EXPECT_EQ(items[static_cast<std::size_t>(rank)].rank, rank);
    EXPECT_EQ(items[static_cast<std::size_t>(rank)].letter, 'a' + rank);
  }
}

TEST(AllGather, gives_the_bytes_of_all_ranks_in_their_order) {
  const std::array<char, 3> mine{'a', static_cast<char>('b' + world_rank()), 'c'};
  std::string all(3 * static_cast<std::size_t>(world_ranks()), ' '), expected;
  for (int rank = 0; rank < world_ranks(); ++rank) expected += {'a', static_cast<char>('b' + rank), 'c'};
  parallel::all_gather(mine.data(), 3, all.data(), MPI_COMM_WORLD);
  EXPECT_EQ(all, expected);
  parallel::all_gather(nullptr, 0, nullptr, MPI_COMM_WORLD);  // nothing of anybody
}

TEST(Collectives, refuse_what_mpi_cannot_count) {
  const char byte = 'a';
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world_ranks()), 0);
  counts.back() = std::int64_t{1} << 31;
  EXPECT_THROW(parallel::all_gather(&byte, counts.back(), nullptr, MPI_COMM_WORLD), ShapeError);
  EXPECT_THROW(parallel::all_gather(&byte, -1, nullptr, MPI_COMM_WORLD), ShapeError);
  EXPECT_THROW(parallel::gather_on_first(&byte, 1, counts, nullptr, MPI_COMM_WORLD), ShapeError);
  if (world_ranks() == 1) return;
  counts.front() = counts.back() = std::int64_t{1} << 30;  // each would do
  EXPECT_THROW(parallel::gather_on_first(&byte, 1, counts, nullptr, MPI_COMM_WORLD), ShapeError);
}

TEST(GatherOnFirst, brings_items_and_texts_to_rank_0_only) {
  std::vector<std::int64_t> counts;
  std::vector<double> expected;
  for (int rank = 0; rank < world_ranks(); ++rank) {
    counts.push_back(rank % 3);  // none of rank 0
    for (int i = 0; i < rank % 3; ++i) expected.push_back(10 * rank + i);
  }
  const std::vector<double> mine{10.0 * world_rank(), 10.0 * world_rank() + 1};
  EXPECT_EQ(parallel::gather_on_first(mine.data(), counts, MPI_COMM_WORLD),
            world_rank() == 0 ? expected : std::vector<double>());

  std::vector<std::string> texts;
  for (int rank = 0; rank < world_ranks(); ++rank)
    texts.push_back(std::string(static_cast<std::size_t>(rank % 2 * 1000), 'a'));
  const std::string text = texts[static_cast<std::size_t>(world_rank())];
  EXPECT_EQ(parallel::gather_on_first(text, MPI_COMM_WORLD), world_rank() == 0 ? texts : std::vector<std::string>());
}

}  // namespace
}  // namespace bsbr::testing
