// The steps of a source, each read while the one before is computed: what TrainingData and ValidationData share.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <optional>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/training.hpp"
#include "io/step_reader.hpp"

namespace bsbr::io {

class StepData {
 public:
  /// Where the window of an index is, counted from the first of step 1.
  using Order = std::function<Place(std::int64_t window)>;

  /// As TrainingData().
  StepData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size);
  StepData(const StepData&) = delete;
  StepData& operator=(const StepData&) = delete;
  ~StepData();

  const TokenShape& shape() const { return m_reader->shape(); }

  /// Throws FileError on all ranks, with the first id of `part` that is outside the vocabulary, or mask value that is
  /// none; also if nothing in it is to be predicted. Collective.
  void check(const Block& part) const;

  std::int64_t windows_of_step() const { return m_grid.shape().batch * m_grid.shape().accumulate; }

  /// As TrainingData::step(). Where there is a step behind it, that is read ahead.
  std::vector<MicroBatch> step(std::int64_t step, bool has_next, const Order& order);

  void wait() const;

 private:
  void start(std::int64_t step, const Order& order);
  std::vector<MicroBatch> micro_batches(const StepPart& part) const;

  TokenSource m_source;
  TrainingGrid m_grid;
  std::int64_t m_vocab_size;
  std::optional<StepReader> m_reader;
  std::int64_t m_step = 0;  // that is being read, or has been
  std::future<StepPart> m_part;
};

}  // namespace bsbr::io
