// bsbr_compare: forward passes of several architectures at several lengths, and how their time and memory grow.
#include <Kokkos_Core.hpp>
#include <nlohmann/json.hpp>

#include "allocation_tracker.hpp"
#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "compare_options.hpp"
#include "comparison.hpp"
#include "failure.hpp"
#include "footprint.hpp"
#include "json_output.hpp"
#include "memory.hpp"
#include "parallel/agree.hpp"
#include "progress.hpp"
#include "random_tokens.hpp"
#include "runtime.hpp"

namespace bsbr::apps {
namespace {

/// Measures the cases of one architecture, one after the other.
template <class Real>
class Contestant {
 public:
  Contestant(const Runtime& runtime, const CompareOptions& options, const ModelConfig& config, const Progress& progress)
      : m_comm(runtime.comm()), m_options(options), m_config(config), m_progress(progress) {}

  /// Collective. What it throws on one rank, it throws on all, unless a kernel refuses its part of the work on one rank alone.
  CaseResult measure_at(std::int64_t seq_length) {
    const Sequence sequence(m_comm, m_options.batch, seq_length, m_config.chunk_size);
    step(seq_length, "setting up");
    require_fit(sequence);
    Array<const std::int32_t**> ids;
    parallel::agree(m_comm, [&] {
      const auto seed = static_cast<std::uint64_t>(m_options.seed);
      if (!m_weights) m_weights = random_weights<Real>(m_config, seed);
      ids = Kokkos::create_mirror_view_and_copy(Memory(), random_tokens(sequence, m_config.vocab_size, seed));
    });
    return run(sequence, ids);
  }

 private:
  /// Throws MemoryError unless there is room for what this case adds to the process.
  void require_fit(const Sequence& sequence) const {
    std::int64_t added = 0;
    parallel::agree(m_comm, [&] {
      added = predict_footprint<Real>(m_config, sequence, {}).added;
      if (m_weights) added -= parameter_count(m_config) * static_cast<std::int64_t>(sizeof(Real));
    });
    require_memory(m_comm, added, "");
  }

  /// A model of its own for each case, so that the first forward makes its workspace under the tracker's eyes.
  CaseResult run(const Sequence& sequence, const Array<const std::int32_t**>& ids) const {
    CaseResult result{m_config, sequence.length(), {}, 0, 0};
    Model<Real> model(*m_weights);
    const Execution execution;
    Array<Real***> states;
    const auto forward = [&] {
      states = {};  // those of the forward before: memory for one is enough
      states = model.forward(execution, sequence, ids);
      execution.fence();
    };
    {
      const AllocationTracker tracker;
      forward();
      result.memory_bytes = largest(m_comm, tracker.peak_bytes());
    }
    result.measurement = measure(m_comm, m_options.repeat, [&](std::int64_t number, Profile&) {
      step(sequence.length(), "forward " + std::to_string(number + 1) + " of " + std::to_string(m_options.repeat));
      forward();
    });
    result.resident_bytes = largest(m_comm, peak_resident_bytes());
    return result;
  }

  void step(std::int64_t seq_length, const std::string& what) const {
    m_progress.step(std::string(to_string(m_config.architecture)) + " at " + std::to_string(seq_length) + ": " + what);
  }

  MPI_Comm m_comm;
  const CompareOptions& m_options;
  const ModelConfig& m_config;
  const Progress& m_progress;
  std::optional<Weights<Real>> m_weights;  // made when the first case is known to fit
};

/// Runs all cases. Those that fail are noted; what is not a case's failure but the program's or MPI's ends it.
template <class Real>
void compare(const Runtime& runtime, Comparison& comparison) {
  const Progress progress(comparison.options.progress, runtime.is_first(), "bsbr_compare");
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
        const bool no_memory = dynamic_cast<const MemoryError*>(&error) != nullptr;
        comparison.failures.push_back({config.architecture, seq_length, error.what(), no_memory});
      }
    }
  }
}

/// Table on stdout or JSON, as was asked for.
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
  if (first.no_memory) throw MemoryError(describe(first), "shorter sequences, or a smaller model");
  throw UsageError(describe(first));
}

void run(const Runtime& runtime, const CompareOptions& options) {
  if (!options.json.empty() && options.json != "-") check_output_path(options.json, runtime.comm());
  Comparison comparison{options, find_environment(runtime), true, {}, {}};
  if (options.precision == Precision::float32)
    compare<float>(runtime, comparison);
  else
    compare<double>(runtime, comparison);
  report(runtime, comparison);
  require_results(comparison);
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::apps::run_program("bsbr_compare", argc, argv, bsbr::apps::parse_compare_options, bsbr::apps::run);
}
