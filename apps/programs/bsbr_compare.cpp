// bsbr_compare: forward passes of several architectures at several lengths, and how their time and memory grow.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "bsbr/parallel.hpp"
#include "harness/format.hpp"
#include "harness/job/failure.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
#include "harness/random_tokens.hpp"
#include "measure/other_load.hpp"
#include "memory/allocation_tracker.hpp"
#include "memory/footprint.hpp"
#include "programs/compare_options.hpp"
#include "progress/progress.hpp"
#include "report/comparison.hpp"
#include "report/json_output.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// A case that is left out because of its time.
struct TooLong : Error {
  using Error::Error;
};

std::string shown(double seconds) { return seconds < 1 ? show_seconds(seconds) : show_duration(seconds); }

/// Measures the cases of one architecture, one after the other, the shorter sequences first.
template <class Real>
class Contestant {
 public:
  Contestant(const Runtime& runtime, const CompareOptions& options, const ModelConfig& config, Progress& progress)
      : m_comm(runtime.comm()), m_options(options), m_config(config), m_progress(progress) {}

  /// Collective. What it throws on one rank, it throws on all, unless a kernel refuses its part of the work on one rank
  /// alone.
  CaseResult measure_at(std::int64_t seq_length) {
    const Sequence sequence(m_comm, m_options.batch, seq_length, m_config.chunk_size);
    m_progress.step(name(seq_length) + "setting up");
    require_fit(sequence);
    approach(seq_length);
    if (m_length > 0) require_time(predict(seq_length), "by the speed at " + show_count(m_length) + " tokens");
    return run(sequence, make_ids(sequence));
  }

 private:
  Array<const std::int32_t**> make_ids(const Sequence& sequence) {
    Array<const std::int32_t**> ids;
    parallel::agree(m_comm, [&] {
      const auto seed = static_cast<std::uint64_t>(m_options.seed);
      if (!m_weights) m_weights = random_weights<Real>(m_config, seed);
      m_weights->set_rounding(rounding_of(m_options.precision));
      ids = Kokkos::create_mirror_view_and_copy(Memory(), random_tokens(sequence, m_config.vocab_size, seed));
    });
    return ids;
  }

  /// Where a much longer case seems to exceed the limit by the speed of a very short one, which says little, forwards
  /// of lengths in between are tried, until they tell.
  void approach(std::int64_t seq_length) {
    while (m_length > 0 && exceeds(predict(seq_length)) && m_seconds < telling_seconds && 2 * m_length < seq_length) {
      const Sequence sequence(m_comm, m_options.batch, 2 * m_length, m_config.chunk_size);
      const auto ids = make_ids(sequence);
      Model<Real> model(*m_weights);
      note_speed(sequence,
                 measure(m_comm, 2, [&](std::int64_t, Profile&) { model.forward(Execution(), sequence, ids); }));
    }
  }

  /// Throws MemoryError unless there is room for what this case adds to the process.
  void require_fit(const Sequence& sequence) const {
    std::int64_t added = 0;
    parallel::agree(m_comm, [&] {
      added = predict_footprint<Real>(m_config, sequence, {.rounding = rounding_of(m_options.precision)}).added;
      if (m_weights) added -= parameter_count(m_config) * static_cast<std::int64_t>(sizeof(Real));
    });
    require_memory(m_comm, added, "");
  }

  /// Throws TooLong if the forwards of a case exceed the limit together, each of so many seconds, known in that way.
  /// The same on all ranks.
  void require_time(double seconds, const std::string& known) const {
    const std::int64_t forwards = m_options.repeat + 1;
    if (!exceeds(seconds)) return;
    throw TooLong(show_several(forwards, "forward") + " would take " + shown(seconds * static_cast<double>(forwards)) +
                  ", " + known + "; the limit is " + shown(m_options.max_seconds_per_case) +
                  " (--max-seconds-per-case)");
  }

  /// A model of its own for each case, so that the first forward allocates its workspace while the tracker watches.
  CaseResult run(const Sequence& sequence, const Array<const std::int32_t**>& ids) {
    CaseResult result{m_config, sequence.length(), {}, 0, 0, {}};
    Model<Real> model(*m_weights);
    const Execution execution;
    Array<Real***> states;
    const auto forward = [&](Profile& profile) {
      states = {};  // those of the forward before: memory for one is enough
      states = model.forward(execution, sequence, ids, std::nullopt, profile.progress ? &profile : nullptr);
      execution.fence();
    };
    Profile first;
    first.progress = m_progress.forward(name(sequence.length()) + "warm-up, ", 0, 1);
    const auto start = std::chrono::steady_clock::now();
    {
      const AllocationTracker tracker;
      forward(first);
      result.memory_bytes = largest(m_comm, tracker.peak_bytes());
    }
    const double mine = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    m_length = sequence.length();
    m_seconds = parallel::all_reduce(mine, MPI_MAX, m_comm);
    require_time(m_seconds, "judging by the first one");
    const OtherLoad others(m_comm);
    result.measurement = measure(m_comm, m_options.repeat, [&](std::int64_t number, Profile& profile) {
      profile.progress = m_progress.forward(name(sequence.length()), number, m_options.repeat);
      forward(profile);
    });
    result.cores_used_by_others = others.cores();
    note_speed(sequence, result.measurement);
    result.resident_bytes = largest(m_comm, peak_resident_bytes());
    return result;
  }

  /// The fastest forward counts: others on the machine can only slow one down.
  void note_speed(const Sequence& sequence, const Measurement& measurement) {
    m_length = sequence.length();
    m_seconds = *std::min_element(measurement.seconds_by_repeat.begin(), measurement.seconds_by_repeat.end());
  }

  /// Seconds of a forward at this length, by operations and the speed of the last one.
  double predict(std::int64_t seq_length) const {
    const std::int64_t batch = m_options.batch;
    return m_seconds * forward_flops(m_config, batch, seq_length) / forward_flops(m_config, batch, m_length);
  }

  bool exceeds(double seconds) const {
    return seconds * static_cast<double>(m_options.repeat + 1) > m_options.max_seconds_per_case;
  }

  std::string name(std::int64_t seq_length) const {
    return std::string(to_string(m_config.architecture)) + " at " + std::to_string(seq_length) + ": ";
  }

  MPI_Comm m_comm;
  const CompareOptions& m_options;
  const ModelConfig& m_config;
  Progress& m_progress;
  std::int64_t m_length = 0;                      // of the last forward, 0: there was none
  double m_seconds = 0;                           // that it took
  static constexpr double telling_seconds = 0.5;  // a forward of these tells the speed of longer ones
  std::optional<Weights<Real>> m_weights;         // made when the first case is known to fit
};

CaseFailure::Kind kind_of(const Error& error) {
  if (dynamic_cast<const TooLong*>(&error) != nullptr) return CaseFailure::Kind::time;
  return dynamic_cast<const MemoryError*>(&error) != nullptr ? CaseFailure::Kind::memory : CaseFailure::Kind::other;
}

/// Runs all cases. Those that fail are noted; what is not a case's failure but the program's or MPI's ends it.
template <class Real>
void compare(const Runtime& runtime, Comparison& comparison) {
  Progress progress(comparison.options.progress, runtime.is_first(), "bsbr_compare");
  for (const ModelConfig& config : comparison.options.configs) {
    Contestant<Real> contestant(runtime, comparison.options, config, progress);
    for (const std::int64_t seq_length : comparison.options.seq_lengths) {
      comparison.resident_peak_of_case &= restart_peak_resident_bytes();
      try {
        comparison.results.push_back(contestant.measure_at(seq_length));
      } catch (const CommunicationError&) {
        throw;
      } catch (const Error& error) {
        if (!runtime.meet()) throw;
        comparison.failures.push_back({config.architecture, seq_length, error.what(), kind_of(error)});
      }
    }
  }
}

/// A table on stdout, or JSON.
void report(const Runtime& runtime, const Comparison& comparison) {
  const CompareOptions& options = comparison.options;
  if (!options.json.empty() && options.json != "-") {
    parallel::agree(runtime.comm(), [&] {
      if (runtime.is_first()) write_json(options.json, to_json(comparison));
    });
  }
  if (options.json == "-") runtime.print(dump(to_json(comparison)));
  if (options.prints_text()) runtime.print(to_text(comparison));
}

/// Throws if there is nothing but failures, what the first of them stands for.
void require_results(const Comparison& comparison) {
  if (!comparison.results.empty()) return;
  const CaseFailure& first = comparison.failures.front();
  if (first.kind == CaseFailure::Kind::time) throw UsageError(describe(first), "a larger limit, or shorter sequences");
  if (first.kind == CaseFailure::Kind::memory)
    throw MemoryError(describe(first), "shorter sequences, or a smaller model");
  throw UsageError(describe(first));
}

void run(const Runtime& runtime, const CompareOptions& options) {
  if (!options.json.empty() && options.json != "-") check_output_path(options.json, runtime.comm());
  Comparison comparison{options, find_environment(runtime, options.precision), true, {}, {}};
  if (options.precision != Precision::float64)
    compare<float>(runtime, comparison);
  else
    compare<double>(runtime, comparison);
  report(runtime, comparison);
  require_results(comparison);
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_compare", argc, argv, bsbr::apps::parse_compare_options, bsbr::apps::run);
}
