// The messages that transfers are made of: what arrives, where, and how many bytes it took.
#include <gtest/gtest.h>

#include <functional>

#include "parallel/exchange.hpp"
#include "support/reals.hpp"
#include "support/world.hpp"

namespace bsbr::testing {
namespace {

using parallel::Slice;

/// How many numbers a rank sends to another.
using Count = std::function<std::int64_t(int, int)>;

/// Number i of what one rank sends to another: tells all three, and is no whole number.
template <class Real>
Real number(int from, int to, std::int64_t i) {
  return static_cast<Real>(from * 31 + to) + static_cast<Real>(i % 4096) / 8192;
}

/// Slices by rank of the sizes that `count` tells, with `gap` numbers between them, in the order of the ranks or the
/// opposite one.
std::vector<Slice> lay_out(int ranks, bool backwards, std::int64_t gap, const std::function<std::int64_t(int)>& count) {
  std::vector<Slice> slices(static_cast<std::size_t>(ranks));
  std::int64_t offset = gap;
  for (int i = 0; i < ranks; ++i) {
    const int rank = backwards ? ranks - 1 - i : i;
    slices[static_cast<std::size_t>(rank)] = {offset, count(rank)};
    offset += count(rank) + gap;
  }
  return slices;
}

std::int64_t size_of(const std::vector<Slice>& slices, std::int64_t gap) {
  std::int64_t size = gap;
  for (const Slice& slice : slices) size += slice.count + gap;
  return size;
}

template <class Real>
Array<Real*> to_device(const std::vector<Real>& values) {
  const Array<Real*> array("test::array", values.size());
  Kokkos::deep_copy(array, HostArray<const Real*>(values.data(), values.size()));
  return array;
}

template <class Real>
std::vector<Real> to_host(const Array<Real*>& array) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), array);
  return {host.data(), host.data() + host.size()};
}

/// One all-to-all with these counts: both sides, and what must be there when it is done.
template <class Real>
struct AllToAll {
  static constexpr Real untouched = -7;
  std::int64_t gap;
  std::vector<Slice> to, from;
  Array<Real*> source, target;
  std::vector<Real> expected;
  std::int64_t bytes = 0;

  explicit AllToAll(const Count& count, std::int64_t gap_size = 3)
      : gap(gap_size),
        to(lay_out(world_ranks(), false, gap, [&](int peer) { return count(world_rank(), peer); })),
        from(lay_out(world_ranks(), true, gap, [&](int peer) { return count(peer, world_rank()); })) {
    std::vector<Real> sent(static_cast<std::size_t>(size_of(to, gap)), Real(-1));
    expected.assign(static_cast<std::size_t>(size_of(from, gap)), untouched);
    target = to_device(expected);
    for (int peer = 0; peer < world_ranks(); ++peer) {
      const Slice out = to[static_cast<std::size_t>(peer)], in = from[static_cast<std::size_t>(peer)];
      for (std::int64_t i = 0; i < out.count; ++i)
        sent[static_cast<std::size_t>(out.offset + i)] = number<Real>(world_rank(), peer, i);
      for (std::int64_t i = 0; i < in.count; ++i)
        expected[static_cast<std::size_t>(in.offset + i)] = number<Real>(peer, world_rank(), i);
      if (peer != world_rank()) bytes += out.count * static_cast<std::int64_t>(sizeof(Real));
    }
    source = to_device(sent);
  }
};

template <class Real>
void expect_exchanged(const Count& count) {
  const AllToAll<Real> all(count);
  parallel::Exchange<Real> exchange(Execution(), MPI_COMM_WORLD, all.source, all.to, all.target, all.from);
  exchange.send();
  exchange.progress();
  exchange.wait();
  Execution().fence();
  EXPECT_TRUE(to_host(all.target) == all.expected);
  EXPECT_EQ(exchange.bytes_sent(), all.bytes);
}

template <class Real>
class Exchange : public ::testing::Test {};
TYPED_TEST_SUITE(Exchange, Reals, RealNames);

TYPED_TEST(Exchange, uneven_and_empty_slices_arrive_in_their_places) {
  expect_exchanged<TypeParam>([](int from, int to) { return (from * 3 + to * 5) % 7; });
  expect_exchanged<TypeParam>([](int from, int to) { return from == to ? 0 : 10 + from; });    // nothing for oneself
  expect_exchanged<TypeParam>([](int from, int to) { return from == to ? 5 : 0; });            // only for oneself
  expect_exchanged<TypeParam>([](int from, int) { return from == 0 ? 100 : 0; });              // from one to all
  expect_exchanged<TypeParam>([](int, int to) { return to == world_ranks() - 1 ? 100 : 0; });  // from all to one
}

TYPED_TEST(Exchange, nothing_at_all_may_be_sent) {
  expect_exchanged<TypeParam>([](int, int) { return 0; });
}

TYPED_TEST(Exchange, large_messages_arrive) {
  expect_exchanged<TypeParam>([](int from, int to) { return 200000 + 1000 * from + to; });
}

TYPED_TEST(Exchange, two_at_a_time_do_not_mix) {
  const AllToAll<TypeParam> one([](int from, int to) { return 3 + (from + to) % 5; }),
      two([](int from, int to) { return 2 + (from * to) % 3; });
  parallel::Exchange<TypeParam> first(Execution(), MPI_COMM_WORLD, one.source, one.to, one.target, one.from);
  parallel::Exchange<TypeParam> second(Execution(), MPI_COMM_WORLD, two.source, two.to, two.target, two.from);
  first.send();
  second.send();
  second.wait();
  first.wait();
  Execution().fence();
  EXPECT_TRUE(to_host(one.target) == one.expected);
  EXPECT_TRUE(to_host(two.target) == two.expected);
}

TYPED_TEST(Exchange, slices_may_go_and_be_waited_for_one_by_one) {
  const AllToAll<TypeParam> all([](int from, int to) { return 40000 * (to % 2) + 3 * from + to; });
  parallel::Exchange<TypeParam> exchange(Execution(), MPI_COMM_WORLD, all.source, all.to, all.target, all.from);
  for (int rank = 0; rank < world_ranks(); ++rank) {  // in the order of ranks, which is no rank's own
    exchange.send(rank);
    exchange.wait_for(0);
    exchange.wait_for(0);
    const auto arrived = to_host(all.target);
    const parallel::Slice first = all.from[0];
    EXPECT_TRUE(world_rank() == 0 ||
                std::equal(arrived.begin() + first.offset, arrived.begin() + first.offset + first.count,
                           all.expected.begin() + first.offset));
  }
  exchange.wait();
  EXPECT_TRUE(to_host(all.target) == all.expected);
  EXPECT_EQ(exchange.bytes_sent(), all.bytes);
}

TYPED_TEST(Exchange, one_slice_may_go_to_several_ranks) {
  const auto size = static_cast<std::int64_t>(sizeof(TypeParam));
  const auto slice_for = [](int rank) { return Slice{3 + rank / 3 * 100, 100}; };  // one for three ranks
  const auto value = [](int rank, std::int64_t place) { return static_cast<TypeParam>(rank * 1000 + place); };
  std::vector<Slice> to, from;
  std::vector<TypeParam> sent, expected;
  for (std::int64_t i = 0; i < slice_for(world_ranks()).offset + 100; ++i) sent.push_back(value(world_rank(), i));
  for (int rank = 0; rank < world_ranks(); ++rank) {
    to.push_back(slice_for(rank));
    from.push_back({rank * 100, 100});
    for (std::int64_t i = 0; i < 100; ++i) expected.push_back(value(rank, slice_for(world_rank()).offset + i));
  }
  const auto source = to_device(sent), target = to_device(std::vector<TypeParam>(expected.size()));
  parallel::Exchange<TypeParam> exchange(Execution(), MPI_COMM_WORLD, source, to, target, from);
  exchange.send();
  exchange.wait();
  Execution().fence();
  EXPECT_TRUE(to_host(target) == expected);
  EXPECT_EQ(exchange.bytes_sent(), 100 * size * (world_ranks() - 1));
}

TYPED_TEST(Exchange, one_that_is_given_up_leaves_nothing_behind) {
  const Count count = [](int from, int to) { return 50000 + from + to; };
  {
    const AllToAll<TypeParam> dropped(count);
    parallel::Exchange<TypeParam> exchange(Execution(), MPI_COMM_WORLD, dropped.source, dropped.to, dropped.target,
                                           dropped.from);
    exchange.send();
  }
  expect_exchanged<TypeParam>([](int from, int to) { return 1 + from + to; });
}

// ---- Gather ---------------------------------------------------------------------------------------------------------

/// Gathers rows of `row` numbers, `count(p)` of them of rank p.
template <class Real>
void expect_gathered(std::int64_t row, const std::function<std::int64_t(int)>& count) {
  SCOPED_TRACE("rows of " + std::to_string(row));
  const auto slices = lay_out(world_ranks(), false, 0, count);
  const auto value = [row](std::int64_t i) { return static_cast<Real>((i * 7 + row) % 251); };
  std::vector<Real> data(static_cast<std::size_t>(size_of(slices, 0) * row), Real(255)), expected = data;
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = value(static_cast<std::int64_t>(i));
  const Slice own = slices[static_cast<std::size_t>(world_rank())];
  for (std::int64_t i = own.offset * row; i < (own.offset + own.count) * row; ++i)
    data[static_cast<std::size_t>(i)] = value(i);
  const auto array = to_device(data);
  parallel::Gather<Real> gather(Execution(), MPI_COMM_WORLD, array, row, slices);
  gather.wait();
  Execution().fence();
  EXPECT_TRUE(to_host(array) == expected);
  EXPECT_EQ(gather.bytes_sent(), own.count * row * static_cast<std::int64_t>(sizeof(Real)) * (world_ranks() - 1));
}

template <class Real>
class Gather : public ::testing::Test {};
using Gathered = ::testing::Types<float, double, std::uint8_t>;
TYPED_TEST_SUITE(Gather, Gathered);

TYPED_TEST(Gather, uneven_and_empty_parts_reach_all_ranks) {
  for (const std::int64_t row : {1, 3, 64}) {
    expect_gathered<TypeParam>(row, [](int rank) { return (rank * 3 + 1) % 4; });
    expect_gathered<TypeParam>(row, [](int rank) { return rank == world_ranks() - 1 ? 9 : 0; });
    expect_gathered<TypeParam>(row, [](int rank) { return rank == 0 ? 9 : 0; });
    expect_gathered<TypeParam>(row, [](int) { return 0; });
  }
}

TYPED_TEST(Gather, rows_may_be_empty) {
  expect_gathered<TypeParam>(0, [](int rank) { return rank + 1; });
}

TYPED_TEST(Gather, large_parts_reach_all_ranks) {
  expect_gathered<TypeParam>(1000, [](int rank) { return 200 + 10 * rank; });
}

TYPED_TEST(Gather, one_that_is_given_up_leaves_nothing_behind) {
  const auto slices = lay_out(world_ranks(), false, 0, [](int) { return 100; });
  const auto array = to_device(std::vector<TypeParam>(static_cast<std::size_t>(100 * world_ranks() * 10)));
  { const parallel::Gather<TypeParam> dropped(Execution(), MPI_COMM_WORLD, array, 10, slices); }
  expect_gathered<TypeParam>(2, [](int rank) { return rank + 1; });
}

}  // namespace
}  // namespace bsbr::testing
