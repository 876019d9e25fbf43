#include "bsbr/nonfinite.hpp"

#include <limits>
#include <string>

#include "bsbr/error.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

constexpr std::int64_t none = std::numeric_limits<std::int64_t>::max();

/// This rank's count, and the lowest number batch · length + token of one; `none` if there is none.
struct Found {
  std::int64_t count = 0, first = none;
};

template <class Real>
Found find_local(const Execution& execution, const Sequence& sequence, const Array<const Real***>& states) {
  const std::int64_t tokens = sequence.local_tokens(), length = sequence.length(), offset = sequence.offset();
  const auto width = static_cast<std::int64_t>(states.extent(2));
  const auto is_nonfinite = KOKKOS_LAMBDA(const std::int64_t i) {
    const Real* row = &states(i / tokens, i % tokens, 0);
    bool finite = true;
    for (std::int64_t k = 0; k < width; ++k) finite &= row[k] * Real(0) == Real(0);  // NaN otherwise
    return !finite;
  };
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> all(execution, 0, sequence.batch() * tokens);
  Found found;
  if (width == 0) return found;
  Kokkos::parallel_reduce(
      "bsbr::nonfinite::count", all,
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& count) { count += is_nonfinite(i) ? 1 : 0; }, found.count);
  if (found.count == 0) return found;
  Kokkos::parallel_reduce(
      "bsbr::nonfinite::find_first", all,
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& first) {
        const std::int64_t number = i / tokens * length + offset + i % tokens;
        if (number < first && is_nonfinite(i)) first = number;
      },
      Kokkos::Min<std::int64_t>(found.first));
  return found;
}

template <class Real>
void require_states(const Sequence& sequence, const Array<const Real***>& states) {
  const auto batch = static_cast<std::int64_t>(states.extent(0)), tokens = static_cast<std::int64_t>(states.extent(1));
  if (batch == sequence.batch() && tokens == sequence.local_tokens()) return;
  throw ShapeError("states are [" + std::to_string(batch) + ", " + std::to_string(tokens) +
                   ", …], this rank's part of the sequence [" + std::to_string(sequence.batch()) + ", " +
                   std::to_string(sequence.local_tokens()) + ", …]");
}

}  // namespace

template <class Real>
NonfiniteStates find_nonfinite(const Execution& execution, const Sequence& sequence,
                               const Array<const Real***>& states) {
  Found found;
  parallel::agree(sequence.comm(), [&] {
    require_states(sequence, states);
    found = find_local(execution, sequence, states);
  });
  NonfiniteStates all;
  all.count = parallel::all_reduce(found.count, MPI_SUM, sequence.comm());
  const std::int64_t first = parallel::all_reduce(found.first, MPI_MIN, sequence.comm());
  if (first != none) all.first = TokenPlace{first / sequence.length(), first % sequence.length()};
  return all;
}

template NonfiniteStates find_nonfinite<float>(const Execution&, const Sequence&, const Array<const float***>&);
template NonfiniteStates find_nonfinite<double>(const Execution&, const Sequence&, const Array<const double***>&);

}  // namespace bsbr
