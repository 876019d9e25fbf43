// The norm of a gradient: that of plain loops, with the same bits on any number of ranks, and never hidden.
#include "training/clipping.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "bsbr/error.hpp"
#include "kernels/square_sums.hpp"
#include "support/device_arrays.hpp"
#include "support/random_model.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using training::gradient_norm;
constexpr std::int64_t block = kernels::norm_block;

/// The norm of these gradients, of which each rank of the communicator has the part [begin, end).
template <class Real>
double norm_of(MPI_Comm comm, const std::vector<double>& gradients, std::int64_t begin, std::int64_t end) {
  const std::vector<double> part(gradients.begin() + begin, gradients.begin() + end);
  return gradient_norm<Real>(Execution(), comm, static_cast<std::int64_t>(gradients.size()), begin,
                             to_device<Real*>(part, part.size()));
}

template <class Real>
double norm_alone(const std::vector<double>& gradients) {
  return norm_of<Real>(MPI_COMM_SELF, gradients, 0, static_cast<std::int64_t>(gradients.size()));
}

template <class Real>
class GradientNorm : public ::testing::Test {};
TYPED_TEST_SUITE(GradientNorm, Reals, RealNames);

TYPED_TEST(GradientNorm, is_that_of_plain_loops) {
  for (const std::int64_t count :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{5}, block - 1, block, block + 1, 5 * block + 77}) {
    const auto gradients = in_float(random_matrix(1, count, 3).values);
    long double squares = 0;
    for (const double g : gradients) squares += static_cast<long double>(g) * g;
    const auto expected = static_cast<double>(std::sqrt(squares));
    EXPECT_NEAR(norm_alone<TypeParam>(gradients), expected, 1e-14 * expected) << count;
  }
}

TYPED_TEST(GradientNorm, has_the_same_bits_on_any_number_of_ranks) {
  for (const std::int64_t count : {std::int64_t{1}, block, 2 * block + 1, 7 * block + 77, 24 * block}) {
    const auto gradients = random_matrix(1, count, 4).values;
    const double alone = norm_alone<TypeParam>(gradients);
    for (int ranks = 1; ranks <= world_ranks(); ++ranks) {
      const FirstRanks some(ranks);
      if (!some.has_this()) continue;
      const Partition parts = training::weight_parts(count, ranks);
      EXPECT_EQ(norm_of<TypeParam>(some.comm(), gradients, parts.begin(some.rank()), parts.end(some.rank())), alone)
          << count << " gradients, " << ranks << " ranks";
    }
  }
}

/// In float 1e30² overflows; summed in float, 2²⁴ ones and one more would be 2²⁴.
TYPED_TEST(GradientNorm, is_formed_in_double_precision) {
  EXPECT_NEAR(norm_alone<TypeParam>({3e30, 4e30}), 5e30, 1e24);
  EXPECT_NEAR(norm_alone<TypeParam>({4096, 1e-3}) - 4096, 0.5e-6 / 4096, 1e-12);
}

TYPED_TEST(GradientNorm, of_what_is_not_finite_is_not_finite_on_any_rank) {
  const std::int64_t count = 3 * block + 1;
  const Partition parts = training::weight_parts(count, world_ranks());
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY), -static_cast<double>(INFINITY)}) {
    for (const std::int64_t place : {std::int64_t{0}, block, count - 1}) {
      std::vector<double> gradients(static_cast<std::size_t>(count), 1);
      gradients[static_cast<std::size_t>(place)] = bad;
      const double norm =
          norm_of<TypeParam>(MPI_COMM_WORLD, gradients, parts.begin(world_rank()), parts.end(world_rank()));
      EXPECT_FALSE(std::isfinite(norm)) << bad << " at " << place;
      EXPECT_THROW(training::clip_scale(norm, 1), Error);
      EXPECT_THROW(training::clip_scale(norm, 0), Error);
    }
  }
}

TYPED_TEST(GradientNorm, refuses_parts_that_cut_a_block_or_are_not_all) {
  const std::vector<double> gradients(static_cast<std::size_t>(2 * block + 5), 1);
  const std::int64_t end = 2 * block + 5;
  const int last = world_ranks() - 1, rank = world_rank();
  const auto norm = [&](std::int64_t begin) {  // the last rank has the gradients from `begin` on, the others none
    return norm_of<TypeParam>(MPI_COMM_WORLD, gradients, rank == last ? begin : 0, rank == last ? end : 0);
  };
  EXPECT_NEAR(norm(0), std::sqrt(2 * block + 5.0), 1e-12);
  EXPECT_THROW(norm(1), ShapeError);
  EXPECT_THROW(norm(block), std::runtime_error);
  EXPECT_THROW(norm_of<TypeParam>(MPI_COMM_WORLD, gradients, 0, rank == last ? block + 1 : 0), ShapeError);
}

TEST(WeightParts, are_all_weights_in_whole_blocks) {
  for (const std::int64_t weights : {std::int64_t{1}, block, 10 * block + 3}) {
    for (const int ranks : {1, 2, 3, 16}) {
      const Partition parts = training::weight_parts(weights, ranks);
      EXPECT_EQ(parts.begin(0), 0);
      EXPECT_EQ(parts.end(ranks - 1), weights);
      for (int rank = 0; rank < ranks; ++rank)
        EXPECT_TRUE(parts.begin(rank) % block == 0 || parts.size(rank) == 0) << rank << " of " << ranks;
    }
  }
}

TEST(Clipping, scales_to_the_norm_that_is_allowed_and_nothing_that_is_below_it) {
  EXPECT_EQ(training::clip_scale(8, 2), 0.25);
  EXPECT_EQ(training::clip_scale(2, 2), 1);
  EXPECT_EQ(training::clip_scale(1, 2), 1);
  EXPECT_EQ(training::clip_scale(0, 2), 1);
  EXPECT_EQ(training::clip_scale(1e300, 0), 1);
}

TEST(Clipping, refuses_a_norm_that_there_is_not) {
  EXPECT_NO_THROW(training::validate_clip(0));
  EXPECT_THROW(training::validate_clip(-1), ConfigError);
  EXPECT_THROW(training::validate_clip(std::numeric_limits<double>::quiet_NaN()), ConfigError);
}

}  // namespace
}  // namespace bsbr::testing
