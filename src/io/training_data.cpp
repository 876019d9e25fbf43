// What training and validation read: which windows, and in which order.
#include "bsbr/training_data.hpp"

#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "io/step_data.hpp"
#include "training/window_order.hpp"

namespace bsbr {
namespace {

using training::Shuffle;
using training::WindowOrder;

WindowOrder order_of(const TokenShape& shape, std::int64_t length, const DataOrder& order) {
  const Shuffle shuffle = order.shuffle ? Shuffle::on : Shuffle::off;
  return shape.dimensions == 1 ? WindowOrder::of_stream(shape.length, length, order.seed, shuffle)
                               : WindowOrder::of_rows(shape.batch, order.seed, shuffle);
}

/// How many times the divisor goes into a number of 1 or more, rounded up.
std::int64_t ratio_up(std::int64_t number, std::int64_t divisor) { return (number - 1) / divisor + 1; }

[[noreturn]] void refuse_step(std::int64_t step) { throw Error("there is no step " + std::to_string(step)); }

std::int64_t checked_tokens(std::int64_t tokens) {
  if (tokens < 0) throw ConfigError("tokens = " + std::to_string(tokens) + " is below 0", "0 stands for all");
  return tokens;
}

}  // namespace

struct TrainingData::State {
  State(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size, const DataOrder& order)
      : data(source, grid, vocab_size), windows(order_of(data.shape(), grid.shape().length, order)) {}

  io::StepData data;
  WindowOrder windows;
};

TrainingData::TrainingData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size,
                           const DataOrder& order)
    : m_state(std::make_shared<State>(source, grid, vocab_size, order)) {}

std::vector<MicroBatch> TrainingData::step(std::int64_t step) {
  if (step < 1) refuse_step(step);
  return m_state->data.step(step, true, [this](std::int64_t window) { return m_state->windows.window(window).first; });
}

void TrainingData::check() const {
  const TokenShape& is = shape();
  m_state->data.check({0, is.batch, 0, is.length});
}

void TrainingData::wait() const { m_state->data.wait(); }

const TokenShape& TrainingData::shape() const { return m_state->data.shape(); }

std::int64_t TrainingData::windows_in_epoch(std::int64_t epoch) const { return m_state->windows.windows_in(epoch); }

struct ValidationData::State {
  State(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size, std::int64_t tokens)
      : data(source, grid, vocab_size), length(grid.shape().length), windows(windows_of(checked_tokens(tokens))) {}

  bool is_stream() const { return data.shape().dimensions == 1; }

  std::int64_t windows_of(std::int64_t tokens) const {
    const std::int64_t all = is_stream() ? (data.shape().length - 1) / length : data.shape().batch;
    return tokens == 0 ? all : std::min(all, ratio_up(tokens, length));
  }

  /// What the windows read.
  io::Block read() const {
    return is_stream() ? io::Block{0, 1, 0, windows * length + 1} : io::Block{0, windows, 0, length};
  }

  io::Place place(std::int64_t window) const {
    if (window >= windows) return std::nullopt;
    return is_stream() ? window * length : window;
  }

  io::StepData data;
  std::int64_t length, windows;
};

ValidationData::ValidationData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size,
                               std::int64_t tokens)
    : m_state(std::make_shared<State>(source, grid, vocab_size, tokens)) {}

std::int64_t ValidationData::steps() const { return ratio_up(m_state->windows, m_state->data.windows_of_step()); }

std::vector<MicroBatch> ValidationData::step(std::int64_t step) {
  if (step < 1 || step > steps()) refuse_step(step);
  return m_state->data.step(step, step < steps(), [this](std::int64_t window) { return m_state->place(window); });
}

void ValidationData::check() const { m_state->data.check(m_state->read()); }

void ValidationData::wait() const { m_state->data.wait(); }

const TokenShape& ValidationData::shape() const { return m_state->data.shape(); }

}  // namespace bsbr
