// Errors that one rank finds become errors of all; broadcasts of any length.
#include <gtest/gtest.h>

#include <new>
#include <stdexcept>
#include <typeinfo>

#include "bsbr/error.hpp"
#include "parallel/agree.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

struct Thrown {
  std::string type = "nothing", message, hint;
  bool operator==(const Thrown&) const = default;
};

[[maybe_unused]] void PrintTo(const Thrown& thrown, std::ostream* out) {
  *out << thrown.type << " '" << thrown.message << "', hint '" << thrown.hint << "'";
}

/// What all ranks are told when `work` runs on each.
template <class Work>
Thrown agreed(const Work& work) {
  try {
    parallel::agree(MPI_COMM_WORLD, work);
    return {};
  } catch (const Error& error) {
    return {typeid(error).name(), error.what(), error.hint()};
  } catch (const std::exception& error) {
    return {typeid(error).name(), error.what(), ""};
  }
}

template <class Type>
Thrown thrown(const std::string& message, const std::string& hint = "") {
  return {typeid(Type).name(), message, hint};
}

template <class Type>
class Agree : public ::testing::Test {};
using ErrorTypes = ::testing::Types<ConfigError, ShapeError, FileError, OutputError, MemoryError, CommunicationError>;
TYPED_TEST_SUITE(Agree, ErrorTypes);

TYPED_TEST(Agree, an_error_of_one_rank_is_thrown_on_all) {
  for (int culprit = 0; culprit < world_ranks(); ++culprit) {
    const auto work = [culprit] {
      if (world_rank() == culprit) throw TypeParam("found by rank " + std::to_string(culprit), "do this");
    };
    EXPECT_EQ(agreed(work), thrown<TypeParam>("found by rank " + std::to_string(culprit), "do this"));
  }
}

TYPED_TEST(Agree, the_lowest_rank_that_throws_is_heard) {
  for (int lowest = 0; lowest < world_ranks(); ++lowest) {
    const auto work = [lowest] {
      if (world_rank() == lowest) throw TypeParam("lowest");
      if (world_rank() > lowest) throw Error("another, of rank " + std::to_string(world_rank()), "not this");
    };
    EXPECT_EQ(agreed(work), thrown<TypeParam>("lowest"));
  }
}

TYPED_TEST(Agree, messages_may_be_empty_or_long) {
  const std::string text(1 << 20, 'x');
  const int last = world_ranks() - 1;
  EXPECT_EQ(agreed([last] {
              if (world_rank() == last) throw TypeParam("");
            }),
            thrown<TypeParam>(""));
  EXPECT_EQ(agreed([&] {
              if (world_rank() == last) throw TypeParam(text, text + "y");
            }),
            thrown<TypeParam>(text, text + "y"));
}

TEST(Agreement, without_an_error_nothing_is_thrown) {
  int calls = 0;
  EXPECT_EQ(agreed([&] { ++calls; }), Thrown());
  EXPECT_EQ(calls, 1);
}

TEST(Agreement, running_out_of_memory_becomes_a_memory_error) {
  const int last = world_ranks() - 1;
  EXPECT_EQ(agreed([last] {
              if (world_rank() == last) throw std::bad_alloc();
            }),
            thrown<MemoryError>("not enough memory"));
}

TEST(Agreement, foreign_errors_keep_their_message) {
  const int last = world_ranks() - 1;
  EXPECT_EQ(agreed([last] {
              if (world_rank() == last) throw std::out_of_range("too far");
            }),
            thrown<std::runtime_error>("too far"));
}

TEST(Agreement, works_again_after_an_error) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(agreed([] { throw ShapeError("all"); }), thrown<ShapeError>("all"));
    EXPECT_EQ(agreed([] {}), Thrown());
  }
}

// ---- check, require_mpi ----------------------------------------------------------------------------------------------

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

// ---- Broadcasts ------------------------------------------------------------------------------------------------------

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

}  // namespace
}  // namespace bsbr::testing
