#include "io/step_data.hpp"

#include <mutex>
#include <string>
#include <utility>

#include "bsbr/error.hpp"
#include "io/hdf5.hpp"
#include "io/same_file.hpp"
#include "io/text.hpp"
#include "io/token_agreement.hpp"
#include "io/token_scan.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr::io {
namespace {

/// HDF5 is not thread-safe: of all sources one is used at a time.
std::mutex source_in_use;

/// A stream has one window at least, and rows are sequences.
void require_sequences(const TokenShape& shape, std::int64_t length) {
  if (shape.dimensions == 2 && shape.length != length) {
    throw ContentError("holds ids " + bracketed({shape.batch, shape.length}) + ", and length is " +
                           std::to_string(length) + ": in two dimensions each row is a sequence",
                       "a length of " + std::to_string(shape.length) +
                           ", or all ids in one dimension, from which windows of any length are taken");
  }
  if (shape.dimensions == 1 && shape.length <= length) {
    throw ContentError("holds " + std::to_string(shape.length) + " ids, a window of length " + std::to_string(length) +
                           " takes " + std::to_string(length + 1) + ", as the last token's target is the id behind it",
                       "a smaller length, or more ids");
  }
}

/// Some rows of what has been read, in the memory of the kernels.
template <class Number>
Array<const Number**> to_device(const char* label, const std::vector<Number>& numbers, std::int64_t first_row,
                                std::int64_t rows, std::int64_t columns) {
  using Rows =
      Kokkos::View<const Number**, Kokkos::LayoutRight, Kokkos::HostSpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
  const auto extent = static_cast<std::size_t>(rows), width = static_cast<std::size_t>(columns);
  const Array<Number**> array(Kokkos::view_alloc(std::string(label), Kokkos::WithoutInitializing), extent, width);
  Kokkos::deep_copy(array, Rows(numbers.data() + first_row * columns, extent, width));
  return array;
}

}  // namespace

StepData::StepData(const TokenSource& source, const TrainingGrid& grid, std::int64_t vocab_size)
    : m_source(source), m_grid(grid), m_vocab_size(vocab_size) {
  agree_on_file(source.path, grid.comm(), [&] {
    const std::scoped_lock lock(source_in_use);
    m_reader.emplace(open_tokens(source), grid.sequence(), vocab_size);
  });
  require_same(source.path, shape(), grid.comm());
  require_byte_vocabulary(source, shape(), vocab_size);
  reading(source.path, [&] { require_sequences(shape(), grid.shape().length); });
}

StepData::~StepData() {
  wait();
  const std::scoped_lock lock(source_in_use);
  m_reader.reset();
}

void StepData::wait() const {
  if (m_part.valid()) m_part.wait();
}

void StepData::check(const Block& part) const {
  const MPI_Comm comm = m_grid.comm();
  const TokenReader& reader = m_reader->source();
  TokenScan found;
  agree_on_file(m_source.path, comm, [&] {
    const std::scoped_lock lock(source_in_use);
    found = scan_tokens(reader, part, m_vocab_size, parallel::rank_in(comm), parallel::ranks_of(comm));
  });
  refuse_bad_ids(m_source.path, comm, reader, shape().length, m_vocab_size, found.bad_id);
  if (shape().has_mask) refuse_bad_mask(m_source.path, comm, reader, shape().length, found.bad_mask);
  if (parallel::all_reduce(found.targets, MPI_SUM, comm) > 0) return;
  const std::string text = "none of the ids " + bracketed({part.rows, part.positions}) +
                           " has a target, the id behind it in its row, with neither of them padding";
  throw FileError(named(m_source.path, text.c_str()), "a mask has 1 for a token and 0 for padding");
}

/// Begins to read what this rank has of a step.
void StepData::start(std::int64_t step, const Order& order) {
  const StepShape& shape = m_grid.shape();
  std::vector<Place> places;
  for (std::int64_t number = 0; number < shape.accumulate; ++number) {
    const std::int64_t first = (step - 1) * windows_of_step() + number * shape.batch + m_grid.first_row();
    for (std::int64_t row = 0; row < m_grid.sequence().batch(); ++row) places.push_back(order(first + row));
  }
  m_step = step;
  m_part = std::async(std::launch::async, [this, places = std::move(places)] {
    const std::scoped_lock lock(source_in_use);
    const LibraryScope quiet;  // of this thread
    return m_reader->read(places);
  });
}

std::vector<MicroBatch> StepData::micro_batches(const StepPart& part) const {
  const std::int64_t rows = m_grid.sequence().batch(), columns = m_grid.sequence().local_tokens();
  std::vector<MicroBatch> batches;
  for (std::int64_t first = 0; first < rows * m_grid.shape().accumulate; first += rows) {
    MicroBatch batch{to_device("bsbr::data::ids", part.ids, first, rows, columns),
                     to_device("bsbr::data::targets", part.targets, first, rows, columns), std::nullopt};
    if (shape().has_mask) batch.mask = to_device("bsbr::data::mask", part.mask, first, rows, columns);
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::vector<MicroBatch> StepData::step(std::int64_t step, bool has_next, const Order& order) {
  const MPI_Comm comm = m_grid.comm();
  StepPart part;
  agree_on_file(m_source.path, comm, [&] {
    if (!m_part.valid() || m_step != step) start(step, order);
    part = m_part.get();
  });
  refuse_bad_ids(m_source.path, comm, m_reader->source(), shape().length, m_vocab_size, part.bad_id);
  if (shape().has_mask) refuse_bad_mask(m_source.path, comm, m_reader->source(), shape().length, part.bad_mask);
  std::vector<MicroBatch> batches;
  parallel::agree(comm, [&] {
    if (has_next) start(step + 1, order);
    batches = micro_batches(part);
  });
  return batches;
}

}  // namespace bsbr::io
