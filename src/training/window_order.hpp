// The order in which training reads its data: windows of a stream of ids, or rows of a dataset, epoch after epoch.
//
// All of it is a function of (seed, epoch, place), by a counter-based generator, so that a step's windows are known
// without those before, on any rank, and a run that is resumed goes on where it was.
#pragma once

#include <cstdint>

namespace bsbr::training {

/// Whether the windows of an epoch are taken in a random order, or in that of the file.
enum class Shuffle { on, off };

/// A permutation of [0, size), drawn from a key: where it takes `index`. In constant memory: the swap-or-not shuffle of
/// Hoang, Morris and Rogaway, "An enciphering scheme based on a card shuffle", CRYPTO 2012. size 1 or more.
std::int64_t permuted(std::int64_t index, std::int64_t size, std::uint64_t key);

/// One of the windows of an epoch: `first` is the first of its length + 1 ids in the stream; of rows, the row.
struct Window {
  std::int64_t epoch, first;

  bool operator==(const Window&) const = default;
};

/// The windows of all epochs, one epoch after the other. Step s = 0, 1, … of n windows each takes the windows [s·n,
/// (s + 1)·n).
class WindowOrder {
 public:
  /// Of a stream of `ids` ids: in epoch e the windows of length + 1 ids begin at o + i·length, as many as fit, with
  /// o = splitmix64(seed, e) mod length. Windows overlap by one id, so that each id behind the first of them is a
  /// target once. Where the stream has fewer than 2·length ids, an epoch may have no window.
  /// Throws ConfigError if `length` is below 1, or the stream has no window at all: fewer than length + 1 ids.
  static WindowOrder of_stream(std::int64_t ids, std::int64_t length, std::uint64_t seed, Shuffle shuffle);

  /// Of the rows of a dataset: each epoch has all of them, and a window is a row. Throws ConfigError if there is none.
  static WindowOrder of_rows(std::int64_t rows, std::uint64_t seed, Shuffle shuffle);

  /// How many windows an epoch has; epochs count from 0.
  std::int64_t windows_in(std::int64_t epoch) const;

  /// Window `index` of all, from 0 on. The epochs up to that one are counted: all of them the first time, later those
  /// behind the one that was asked for last.
  Window window(std::int64_t index);

 private:
  WindowOrder(std::int64_t ids, std::int64_t length, std::uint64_t seed, Shuffle shuffle, bool has_rows)
      : m_ids(ids), m_length(length), m_seed(seed), m_shuffle(shuffle), m_has_rows(has_rows) {}

  std::uint64_t numbers_of(std::int64_t epoch) const;
  std::int64_t offset(std::int64_t epoch) const;

  std::int64_t m_ids, m_length;  // of rows: their number, and 1
  std::uint64_t m_seed;
  Shuffle m_shuffle;
  bool m_has_rows;
  std::int64_t m_epoch = 0, m_before = 0;  // an epoch, and the windows before it
};

}  // namespace bsbr::training
