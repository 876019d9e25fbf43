// Errors that one rank finds become errors of all.
#include <gtest/gtest.h>

#include <Kokkos_Core.hpp>
#include <new>
#include <stdexcept>
#include <type_traits>
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

/// What is added where a process, not something that all ranks share, has failed.
template <class Type>
std::string whose(int rank) {
  const bool named = std::is_same_v<Type, MemoryError> || std::is_same_v<Type, std::runtime_error>;
  return named && world_ranks() > 1 ? ", on rank " + std::to_string(rank) : "";
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
    EXPECT_EQ(agreed(work), thrown<TypeParam>("lowest" + whose<TypeParam>(lowest)));
  }
}

TYPED_TEST(Agree, messages_may_be_empty_or_long) {
  const std::string text(1 << 20, 'x');
  const int last = world_ranks() - 1;
  EXPECT_EQ(agreed([last] {
              if (world_rank() == last) throw TypeParam("");
            }),
            thrown<TypeParam>(whose<TypeParam>(last)));
  EXPECT_EQ(agreed([&] {
              if (world_rank() == last) throw TypeParam(text, text + "y");
            }),
            thrown<TypeParam>(text + whose<TypeParam>(last), text + "y"));
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
            thrown<MemoryError>("not enough memory" + whose<MemoryError>(last)));
}

TEST(Agreement, memory_that_kokkos_does_not_get_becomes_a_memory_error) {
  const int last = world_ranks() - 1;
  const Thrown found = agreed([last] {
    if (world_rank() == last) Kokkos::View<char*, Kokkos::HostSpace>("test::too_much", std::size_t{1} << 60);
  });
  EXPECT_EQ(found.type, typeid(MemoryError).name());
  EXPECT_NE(found.message.find("test::too_much"), std::string::npos) << found.message;
}

TEST(Agreement, foreign_errors_keep_their_message_and_name_the_rank) {
  const int last = world_ranks() - 1;
  EXPECT_EQ(agreed([last] {
              if (world_rank() == last) throw std::out_of_range("too far");
            }),
            thrown<std::runtime_error>("too far" + whose<std::runtime_error>(last)));
}

TEST(Agreement, works_again_after_an_error) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(agreed([] { throw ShapeError("all"); }), thrown<ShapeError>("all"));
    EXPECT_EQ(agreed([] {}), Thrown());
  }
}

}  // namespace
}  // namespace bsbr::testing
