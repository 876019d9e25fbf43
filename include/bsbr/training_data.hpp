// What training reads: windows of a stream of ids, or rows of a dataset, in an order that seed and step alone decide.
// Sources may be larger than memory: each rank reads its part of a step, while the step before is computed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/training.hpp"

namespace bsbr {

/// In which order training takes its data. In epoch e = 0, 1, … the windows of a stream of ids begin at o + i·L, as
/// many as fit, with o = splitmix64(seed, e) mod L and L the tokens of a sequence; they, or the rows of a dataset, are
/// taken in an order that is drawn from (seed, e).
struct DataOrder {
  std::uint64_t seed = 0;  ///< of offsets and orders
  bool shuffle = true;     ///< no: the windows of an epoch are taken in the order of the file
};

/// What training learns from: a source of one dimension is a stream, of which a window has L + 1 ids, the first L for
/// ids and the last L for targets; of a source of two dimensions each row is a sequence of L ids, whose last token has
/// no target. Where a token or the next one is padding (attention_mask), it has no target, either. With n sequences in
/// a step, accumulate·batch, step s has the windows (s − 1)·n to s·n − 1 of all epochs, in order, micro-batch after
/// micro-batch: nothing of it depends on ranks. Copies share what is read.
class TrainingData {
 public:
  /// Opens the source and checks its shape, but reads no ids. Collective over grid.comm().
  /// \param source of the ids: all ranks see the same file
  /// \param grid how ranks share a step, and its shape
  /// \param vocab_size the model's
  /// \param order of the windows
  /// \throws FileError on all ranks: as read_token_shape() and require_byte_vocabulary(); also if a stream has fewer
  /// than L + 1 ids, or rows have another length than L
  TrainingData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size, const DataOrder& order);

  /// What this rank has of the micro-batches of a step: the rows of its group, its part of each sequence. The step
  /// behind it is then read ahead, in a thread that calls neither MPI nor Kokkos, while the caller computes; any other
  /// one may be asked for next. Collective over grid.comm().
  /// \param step from 1 on
  /// \throws FileError on all ranks, with the first id outside [0, vocab_size) or mask value other than 0 and 1, and
  /// its place; if the file cannot be read
  /// \throws MemoryError on all ranks, if there is not enough memory on one
  /// \throws Error if the step is below 1
  std::vector<MicroBatch> step(std::int64_t step);

  /// Reads all of the source once, each rank a share of it, so that bad ids are found before the first step; ids of a
  /// type that has none outside the vocabulary are not read. Collective over grid.comm().
  /// \throws FileError on all ranks, as step(); also if no token of the source has a target
  void check() const;

  /// Returns when nothing is being read, until step() is called again. HDF5 is not thread-safe: this goes before any
  /// other use of it, but by TrainingData and ValidationData. Not collective.
  void wait() const;

  /// The shape of the source, and how it is stored.
  const TokenShape& shape() const;

  /// How many windows, or rows, an epoch has; epochs count from 0. Short streams may have none in some of them.
  std::int64_t windows_in_epoch(std::int64_t epoch) const;

 private:
  struct State;
  std::shared_ptr<State> m_state;
};

/// What validation reads: the windows of a source in the order of the file, in steps like those of training. Window i
/// of a stream has the ids [iL, iL + L], of a source of two dimensions row i. Copies share what is read.
class ValidationData {
 public:
  /// As TrainingData(). Collective over grid.comm().
  /// \param source of the ids: all ranks see the same file
  /// \param grid how ranks share a step, and its shape
  /// \param vocab_size the model's
  /// \param tokens how many from the first on, in whole windows: rounded up, and never more than the source has; 0: all
  /// \throws FileError on all ranks, as TrainingData() \throws ConfigError if tokens is below 0
  ValidationData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size, std::int64_t tokens = 0);

  /// How many steps have all of its windows.
  std::int64_t steps() const;

  /// As of TrainingData, up to step steps(). That one is filled up with sequences of which no target counts, to have
  /// the shape of the grid. Collective over grid.comm().
  /// \param step 1 to steps()
  /// \throws FileError on all ranks, as of TrainingData \throws MemoryError likewise \throws Error if there is no such
  /// step
  std::vector<MicroBatch> step(std::int64_t step);

  /// As of TrainingData, of what its windows read.
  void check() const;

  /// As of TrainingData.
  void wait() const;

  /// The shape of the source, and how it is stored.
  const TokenShape& shape() const;

 private:
  struct State;
  std::shared_ptr<State> m_state;
};

}  // namespace bsbr
