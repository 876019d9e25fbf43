// Sums of arrays over leaves and ranks: the same bits however many ranks share the leaves.
#include "parallel/leaf_sums.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <set>
#include <string>
#include <vector>

#include "bsbr/error.hpp"
#include "parallel/reduce_scatter.hpp"
#include "support/device_arrays.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using parallel::leaf_chunks;
using parallel::LeafSums;
using parallel::Leaves;
using parallel::OrderedReduceScatter;

struct Shape {
  std::int64_t batch, length, chunk_size;
};

Sequence sequence_of(const Shape& shape, MPI_Comm comm) {
  return {comm, shape.batch, shape.length, shape.chunk_size, 0, leaf_chunks(shape.length, shape.chunk_size)};
}

/// [elements] of a leaf, of magnitudes so different that another order of their sum has other bits.
template <class Real>
std::vector<Real> numbers(std::int64_t leaf, std::int64_t elements) {
  constexpr Real magnitudes[] = {1, 10, 100, 1000, 10000, 100000, 1000000};
  std::vector<Real> all;
  for (std::int64_t i = 0; i < elements; ++i) {
    const auto mantissa = static_cast<Real>((leaf * 7919 + i * 104729) % 2003 - 1001) / 3003;
    all.push_back(mantissa * magnitudes[(leaf * 5 + i) % 7]);
  }
  return all;
}

/// The node of `size` leaves from `first` on, by its definition: left + right. size is a power of two.
template <class Real>
std::vector<Real> node(std::int64_t leaves, std::int64_t first, std::int64_t size, std::int64_t elements) {
  if (size == 1) return numbers<Real>(first, elements);
  std::vector<Real> sum = node<Real>(leaves, first, size / 2, elements);
  if (first + size / 2 >= leaves) return sum;
  const std::vector<Real> right = node<Real>(leaves, first + size / 2, size / 2, elements);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

template <class Real>
std::vector<Real> sum_of_all(std::int64_t leaves, std::int64_t elements) {
  if (leaves == 0) return std::vector<Real>(static_cast<std::size_t>(elements), 0);
  const auto size = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(leaves)));
  return node<Real>(leaves, 0, size, elements);
}

/// Forms the leaves of this rank.
template <class Real>
void form(LeafSums<Real>& sums, const Leaves& leaves) {
  for (std::int64_t row = 0; row < leaves.rows(); ++row) {
    for (std::int64_t b = leaves.local().begin; b < leaves.local().end; ++b) {
      const std::int64_t leaf = leaves.index(row, b);
      const auto& array = sums.leaf();
      EXPECT_TRUE(to_host(array) == std::vector<Real>(array.size(), 0)) << "a new leaf is 0";
      Kokkos::deep_copy(array, to_device<Real*>(numbers<Real>(leaf, sums.elements()), sums.elements()));
      sums.join(leaf);
    }
  }
}

template <class Real>
::testing::AssertionResult are_part(const Array<Real*>& part, const Partition& parts, int rank,
                                    const std::vector<Real>& whole) {
  Execution().fence();
  const auto begin = whole.begin() + parts.begin(rank);
  return same_bits(to_host(part), std::vector<Real>(begin, begin + parts.size(rank)), 1);
}

template <class Real>
class SumOverRanks : public ::testing::Test {};
TYPED_TEST_SUITE(SumOverRanks, Reals, RealNames);

/// On all ranks of a sequence: sums, parts, bytes, and the whole.
template <class Real>
void expect_sum(const Sequence& sequence, std::int64_t elements) {
  const Leaves leaves(sequence);
  const std::vector<Real> expected = sum_of_all<Real>(leaves.count(), elements);
  LeafSums<Real> sums(Execution(), leaves, elements);
  OrderedReduceScatter<Real> reduction(Execution(), sequence.comm(), leaves, elements);
  form(sums, leaves);
  reduction.start(sums);
  reduction.progress();
  const Array<Real*> part = reduction.wait();
  EXPECT_TRUE(are_part(part, reduction.parts(), sequence.rank(), expected));

  const auto size = static_cast<std::int64_t>(sizeof(Real)), own = reduction.parts().size(sequence.rank());
  const auto nodes = static_cast<std::int64_t>(leaves.nodes_of(sequence.rank()).size());
  EXPECT_EQ(reduction.bytes_sent(), size * nodes * (elements - own));

  const Array<Real*> whole("test::whole", elements);
  const auto gather = parallel::all_parts(Execution(), sequence.comm(), part, whole, reduction.parts());
  gather->wait();
  EXPECT_TRUE(same_bits(to_host(whole), expected, 1));
  EXPECT_EQ(gather->bytes_sent(), size * own * (sequence.ranks() - 1));
}

TYPED_TEST(SumOverRanks, has_the_order_of_the_tree_on_any_number_of_ranks) {
  for (const int count : {1, 2, 3, 4, 7, 8}) {
    const FirstRanks ranks(count);
    if (count > world_ranks() || !ranks.has_this()) continue;
    for (const Shape& shape :
         {Shape{1, 2048, 8}, Shape{1, 999, 8}, Shape{2, 40, 100}, Shape{3, 777, 16}, Shape{5, 17, 1}}) {
      const Sequence sequence = sequence_of(shape, ranks.comm());
      for (const std::int64_t elements : {5, 300}) {
        SCOPED_TRACE(std::to_string(count) + " ranks, " + std::to_string(shape.batch) + " rows of " +
                     std::to_string(shape.length) + " tokens, " + std::to_string(elements) + " elements");
        expect_sum<TypeParam>(sequence, elements);
      }
    }
  }
}

TYPED_TEST(SumOverRanks, of_no_leaves_is_0_and_of_no_elements_is_empty) {
  for (const Shape& shape : {Shape{1, 0, 4}, Shape{0, 9, 4}})
    expect_sum<TypeParam>(sequence_of(shape, MPI_COMM_WORLD), 10);
  for (const Shape& shape : {Shape{1, 0, 4}, Shape{2, 2048, 8}})
    expect_sum<TypeParam>(sequence_of(shape, MPI_COMM_WORLD), 0);
}

TYPED_TEST(SumOverRanks, sends_each_element_of_another_owner_once_where_ranks_and_leaves_are_powers_of_two) {
  for (const int count : {1, 2, 4, 8}) {
    const FirstRanks ranks(count);
    if (count > world_ranks() || !ranks.has_this()) continue;
    const Sequence sequence = sequence_of({1, 2048, 8}, ranks.comm());
    const Leaves leaves(sequence);
    constexpr std::int64_t elements = 800;
    LeafSums<TypeParam> sums(Execution(), leaves, elements);
    OrderedReduceScatter<TypeParam> reduction(Execution(), sequence.comm(), leaves, elements);
    form(sums, leaves);
    reduction.start(sums);
    reduction.wait();
    EXPECT_EQ(reduction.bytes_sent(), static_cast<std::int64_t>(sizeof(TypeParam)) * elements * (count - 1) / count);
  }
}

/// As layer by layer, and step by step: the second sum is formed while the first one is under way.
TYPED_TEST(SumOverRanks, may_be_under_way_several_at_a_time_and_again) {
  const Sequence sequence = sequence_of({2, 999, 8}, MPI_COMM_WORLD);
  const Leaves leaves(sequence);
  LeafSums<TypeParam> few(Execution(), leaves, 30), many(Execution(), leaves, 3000);
  OrderedReduceScatter<TypeParam> of_few(Execution(), sequence.comm(), leaves, 30),
      of_many(Execution(), sequence.comm(), leaves, 3000);
  for (int step = 0; step < 2; ++step) {
    few.clear();
    many.clear();
    form(few, leaves);
    of_few.start(few);
    form(many, leaves);
    of_few.progress();
    of_many.start(many);
    const auto larger = of_many.wait(), smaller = of_few.wait();
    EXPECT_TRUE(are_part(larger, of_many.parts(), sequence.rank(), sum_of_all<TypeParam>(leaves.count(), 3000)));
    EXPECT_TRUE(are_part(smaller, of_few.parts(), sequence.rank(), sum_of_all<TypeParam>(leaves.count(), 30)));
  }
}

TYPED_TEST(SumOverRanks, of_a_chain_has_other_bits_here) {
  auto chain = numbers<TypeParam>(0, 100);
  for (std::int64_t leaf = 1; leaf < 18; ++leaf) {
    const auto next = numbers<TypeParam>(leaf, 100);
    for (std::size_t i = 0; i < chain.size(); ++i) chain[i] += next[i];
  }
  EXPECT_FALSE(same_bits(chain, sum_of_all<TypeParam>(18, 100), 1));
}

TYPED_TEST(SumOverRanks, all_parts_may_be_gathered_in_place) {
  const Partition parts{1003, world_ranks()};
  const auto expected = numbers<TypeParam>(3, parts.items);
  const Array<TypeParam*> whole("test::whole", parts.items);
  const parallel::Slice own{parts.begin(world_rank()), parts.size(world_rank())};
  const Array<TypeParam*> part = parallel::range_of(whole, own);
  Kokkos::deep_copy(part, parallel::range_of(to_device<TypeParam*>(expected, parts.items), own));
  parallel::all_parts(Execution(), MPI_COMM_WORLD, part, whole, parts)->wait();
  EXPECT_TRUE(same_bits(to_host(whole), expected, 1));
}

// ---- Of one rank ----------------------------------------------------------------------------------------------------

TYPED_TEST(SumOverRanks, keeps_one_array_of_each_level_and_that_of_a_leaf) {
  const FirstRanks alone(1);
  if (!alone.has_this()) return;
  const Leaves leaves(sequence_of({4, 2048, 8}, alone.comm()));
  ASSERT_EQ(leaves.count(), 64);
  EXPECT_EQ(LeafSums<TypeParam>::arrays(leaves), 7);
  LeafSums<TypeParam> sums(Execution(), leaves, 10);
  std::set<const void*> arrays;
  for (int step = 0; step < 2; ++step) {
    sums.clear();
    for (std::int64_t leaf = 0; leaf < 64; ++leaf) {
      arrays.insert(sums.leaf().data());
      sums.join(leaf);
      EXPECT_LE(sums.nodes().size(), 6u);
    }
  }
  EXPECT_EQ(arrays.size(), 7u) << "arrays that have held a leaf";
}

TYPED_TEST(SumOverRanks, of_leaves_that_are_missing_or_out_of_order_is_refused) {
  const FirstRanks alone(1);
  if (!alone.has_this()) return;
  const Sequence sequence = sequence_of({1, 2048, 8}, alone.comm());
  LeafSums<TypeParam> sums(Execution(), Leaves(sequence), 10), others(Execution(), Leaves(sequence), 11);
  OrderedReduceScatter<TypeParam> reduction(Execution(), sequence.comm(), Leaves(sequence), 10);
  EXPECT_THROW(reduction.wait(), Error);
  EXPECT_THROW(reduction.start(sums), Error);
  EXPECT_THROW(sums.join(0), Error) << "not formed";
  for (std::int64_t leaf = 0; leaf < 16; ++leaf) {
    sums.leaf();
    EXPECT_THROW(sums.join(leaf - 1), Error);
    EXPECT_THROW(sums.join(16), Error);
    sums.join(leaf);
  }
  form(others, Leaves(sequence));
  EXPECT_THROW(reduction.start(others), Error) << "of another size";
  reduction.start(sums);
  EXPECT_THROW(reduction.start(sums), Error) << "under way";
  reduction.wait();
}

}  // namespace
}  // namespace bsbr::testing
