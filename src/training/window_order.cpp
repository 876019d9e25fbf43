#include "training/window_order.hpp"

#include <algorithm>

#include "bsbr/error.hpp"
#include "config/messages.hpp"
#include "config/splitmix64.hpp"

namespace bsbr::training {

std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key) {
  constexpr std::uint64_t rounds = 128;  // each pairs all places at random, and swaps half of the pairs
  const auto places = static_cast<std::uint64_t>(size);
  auto place = static_cast<std::uint64_t>(index);
  for (std::uint64_t round = 0; round < rounds; ++round) {
    const std::uint64_t of_round = splitmix64(key, round);
    const std::uint64_t sum = of_round % places;  // of the two places of each pair, modulo their number
    const std::uint64_t partner = sum >= place ? sum - place : sum + places - place;
    const bool swap = splitmix64(of_round, std::max(place, partner)) >> 63 != 0;
    if (swap) place = partner;
  }
  return static_cast<std::int64_t>(place);
}

WindowOrder WindowOrder::of_stream(std::int64_t ids, std::int64_t length, std::uint64_t seed, Shuffle shuffle) {
  if (length < 1) throw ConfigError(equation("length", length) + " is below 1", "a window has one target or more");
  if (ids <= length) {
    throw ConfigError(
        "a stream of " + show(ids) + " ids has no window of " + equation("length", length) + " and one id more",
        "shorter windows, or a longer stream");
  }
  return {ids, length, seed, shuffle, false};
}

WindowOrder WindowOrder::of_rows(std::int64_t rows, std::uint64_t seed, Shuffle shuffle) {
  if (rows < 1) throw ConfigError("a dataset of " + show(rows) + " sequences has none to learn from", "give it some");
  return {rows, 1, seed, shuffle, true};
}

/// Where the numbers of an epoch begin: the first decides the offset, the second the permutation.
std::uint64_t WindowOrder::numbers_of(std::int64_t epoch) const {
  return splitmix64(m_seed, static_cast<std::uint64_t>(epoch));
}

std::int64_t WindowOrder::offset(std::int64_t epoch) const {
  return m_has_rows ? 0 : static_cast<std::int64_t>(numbers_of(epoch) % static_cast<std::uint64_t>(m_length));
}

std::int64_t WindowOrder::windows_in(std::int64_t epoch) const {
  return m_has_rows ? m_ids : (m_ids - 1 - offset(epoch)) / m_length;
}

Window WindowOrder::window(std::int64_t index) {
  if (index < 0) throw Error("there is no window " + show(index));
  if (index < m_before) m_epoch = m_before = 0;
  while (index - m_before >= windows_in(m_epoch)) m_before += windows_in(m_epoch++);
  const std::int64_t in_order = index - m_before;
  const std::int64_t place =
      m_shuffle == Shuffle::off ? in_order : permuted(in_order, windows_in(m_epoch), numbers_of(m_epoch));
  return {m_epoch, offset(m_epoch) + place * m_length};
}

}  // namespace bsbr::training
