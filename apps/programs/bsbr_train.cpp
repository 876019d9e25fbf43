// bsbr_train: trains a model to predict the next token, on all ranks, and goes on from checkpoints.
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <utility>
#include <vector>

#include "bsbr/checkpoint.hpp"
#include "bsbr/io.hpp"
#include "bsbr/parallel.hpp"
#include "harness/format.hpp"
#include "harness/job/runtime.hpp"
#include "harness/memory.hpp"
#include "io/text.hpp"
#include "measure/measurement.hpp"
#include "measure/product_rate.hpp"
#include "memory/footprint.hpp"
#include "programs/train_options.hpp"
#include "programs/training_run.hpp"
#include "report/report.hpp"
#include "report/training_summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// Share of the rate of matrix products that a step attains: docs/performance.md, "Loss and gradients".
constexpr double share_of_product_rate = 0.7;

/// Sinusoids of size 1 drown the small embedding that a head which shares it needs.
constexpr const char* tied_head_note =
    "a tied head is for models that were converted: from random weights, one with a separate head learns better";

/// What the library calls an invalid configuration is that of the checkpoint `resume`; empty: the command line's.
template <class Work>
auto as_setting(const std::string& resume, const Work& work) {
  try {
    return work();
  } catch (const UsageError&) {
    throw;
  } catch (const ConfigError& error) {
    if (resume.empty()) throw UsageError(error.what(), error.hint());
    throw FileError(resume + ": /training: " + error.what(), error.hint());
  }
}

template <class Work>
auto as_usage(const Work& work) {
  return as_setting("", work);
}

/// What is known before the run.
TrainingSummary begin_summary(const TrainingJob& job) {
  TrainingSummary summary;
  summary.config = job.start.config;
  summary.settings = job.settings;
  summary.environment = find_environment(job.runtime, job.settings.precision);
  summary.stored = {source_of(job.settings.input, job.settings).path, job.data.shape()};
  summary.start = job.options.start();
  summary.output = job.options.output;
  if (!job.start.record && job.start.config.head == Head::tied) summary.note = tied_head_note;
  summary.step = summary.first_step = job.start.record ? job.start.record->step : 0;
  summary.groups = job.grid.groups();
  summary.sequence_ranks = job.grid.shape().sequence_ranks;
  return summary;
}

/// From what matrix products take on the slowest rank. Collective.
template <class Real>
std::optional<double> expected_seconds(const TrainingJob& job, const TrainingSummary& summary) {
  const std::optional<double> rate = product_rate<Real>();
  if (!rate) return std::nullopt;
  const double of_all = parallel::all_reduce(*rate, MPI_MIN, job.runtime.comm()) * job.runtime.ranks();
  const double work = summary.recomputes ? 4.0 / 3 : 1;
  return static_cast<double>(job.settings.steps - summary.first_step) * summary.flops_per_step() * work /
         (share_of_product_rate * of_all);
}

/// Whether it ended early.
template <class Real>
bool train(TrainingJob& job) {
  const MPI_Comm comm = job.runtime.comm();
  Footprint footprint;
  const auto predict = [&](Recompute recompute) {
    parallel::agree(comm, [&] {
      footprint = predict_training_footprint<Real>(
          job.start.config, job.grid, training_options(job.settings, recompute), job.data.shape().has_mask);
    });
    return recompute;
  };
  Recompute recompute = predict(job.options.recompute.value_or(Recompute::none));
  if (!job.options.recompute && !has_memory(comm, footprint.added)) recompute = predict(Recompute::all);
  TrainingSummary summary = begin_summary(job);
  summary.recomputes = recompute == Recompute::all;
  summary.predicted_memory_bytes = largest(comm, footprint.total());
  if (job.options.dry_run) {
    summary.is_dry_run = true;
    summary.available_bytes = std::min(available_on_node(), available_to_process());
    summary.expected_seconds = expected_seconds<Real>(job, summary);
  } else {
    require_memory(comm, footprint.added,
                   "more ranks, a smaller --batch and more --accumulate, or --recompute all; --dry-run tells what "
                   "would be needed");
    TrainingRun<Real>(job, recompute, summary).run();
    summary.peak_memory_bytes = largest(comm, peak_resident_bytes());
  }
  report(job.runtime, job.options, summary);
  return !summary.stopped_by.empty();
}

/// Configuration and record; with a checkpoint its settings take the place of those that are not given.
TrainingStart read_start(const TrainOptions& options, TrainingSettings& settings, MPI_Comm comm) {
  TrainingStart start{read_config(options.start(), comm), std::nullopt};
  try {
    require_head(start.config);
  } catch (const ConfigError& error) {
    throw FileError(options.start() + ": " + error.what(), error.hint());
  }
  if (options.resume.empty()) {
    set_defaults(settings, options.given, start.config);
    return start;
  }
  start.record = read_training_record(options.resume, comm);
  settings = resumed_settings(settings, options.given, *start.record, options.resume);
  if (settings.steps < start.record->step && !options.given.contains("steps")) {
    throw FileError(options.resume + ": attribute steps of /training is " + std::to_string(settings.steps) +
                    ", below its step, " + std::to_string(start.record->step));
  }
  if (settings.steps < start.record->step) {
    throw UsageError("--steps " + std::to_string(settings.steps) + ": " + options.resume + " has " +
                         show_several(start.record->step, "step") + " already",
                     "--steps counts from the first step of all");
  }
  if (options.stop_after && *options.stop_after <= start.record->step) {
    throw UsageError("--stop-after " + std::to_string(*options.stop_after) + ": " + options.resume + " has " +
                         show_several(start.record->step, "step") + " already",
                     "--stop-after counts from the first step of all, too");
  }
  return start;
}

/// Looks at the file that an option names. What a checkpoint names may be elsewhere by now.
TokenShape look_at(const std::string& option, const std::string& name, const TrainOptions& options,
                   const TrainingSettings& settings, MPI_Comm comm) {
  try {
    return read_token_shape(source_of(name, settings), comm);
  } catch (const FileError& error) {
    if (options.resume.empty() || options.given.contains(option) || !error.hint().empty()) throw;
    throw FileError(error.what(), options.resume + " has this name from --" + option + ", which may be given anew");
  }
}

/// Of a run that is resumed the input must be what it was, as windows are counted in it.
void find_input_shape(const TrainOptions& options, TrainingSettings& settings, const TokenShape& shape) {
  const std::vector<std::int64_t> known = std::move(settings.input_shape);
  settings.input_shape = shape.dimensions == 1 ? std::vector{shape.length} : std::vector{shape.batch, shape.length};
  if (known.empty() || known == settings.input_shape) return;
  throw FileError(settings.input + ": holds ids " + io::bracketed(settings.input_shape) + ", and " + options.resume +
                      " was trained on " + io::bracketed(known) + ": its windows have become others",
                  "the input as it was; or --input " + settings.input + " to go on with it as it is");
}

/// Rows of a dataset have a length of their own.
void find_length(TrainingSettings& settings, const TokenShape& shape) {
  if (settings.length > 0) return;
  if (shape.dimensions == 1) {
    throw UsageError(
        "--length is required: " + settings.input + " is one sequence of " + show_several(shape.length, "token"),
        "training takes windows of --length tokens from it");
  }
  settings.length = shape.length;
}

/// What the files of input and validation say before they are used.
void look_at_sources(const TrainOptions& options, TrainingSettings& settings, MPI_Comm comm) {
  const TokenShape shape = look_at("input", settings.input, options, settings, comm);
  find_input_shape(options, settings, shape);
  find_length(settings, shape);
  if (!settings.validation.empty()) look_at("validation", settings.validation, options, settings, comm);
}

/// Of a new run the command line has been looked at already.
void require_validation(const TrainOptions& options, const TrainingSettings& settings) {
  if (!settings.validation.empty()) return;
  if (!options.best.empty()) throw UsageError("--best is of the lowest validation loss, and there is no --validation");
  for (const char* name : {"validate-every", "validation-tokens"}) {
    if (options.given.contains(name)) {
      throw UsageError(std::string("--") + name + ": " + options.resume + " has no validation",
                       "--validation names what to measure the loss of");
    }
  }
}

ExitCode run(const Runtime& runtime, const TrainOptions& given) {
  const MPI_Comm comm = runtime.comm();
  TrainOptions options = given;
  for (const std::string& output : {options.output, options.best, options.log, options.json}) {
    if (!output.empty() && output != "-") check_output_path(output, comm);
  }
  TrainingSettings settings = options.settings;
  const TrainingStart start = read_start(options, settings, comm);
  if (!options.keep && start.record) options.keep = checkpoints_to_keep(*start.record);
  as_setting(options.resume, [&] { training_options(settings, Recompute::all).validate(); });
  require_countable(settings);
  require_own_files(options, settings);
  require_validation(options, settings);
  look_at_sources(options, settings, comm);
  const TrainingGrid grid = as_usage([&] {
    return TrainingGrid(comm,
                        {.length = settings.length,
                         .batch = settings.batch,
                         .accumulate = settings.accumulate,
                         .sequence_ranks = static_cast<std::int32_t>(options.sequence_ranks)},
                        start.config.chunk_size);
  });
  TrainingData data(source_of(settings.input, settings), grid, start.config.vocab_size,
                    {static_cast<std::uint64_t>(settings.seed), settings.shuffle});
  std::optional<ValidationData> validation;
  if (!settings.validation.empty()) {
    validation.emplace(source_of(settings.validation, settings), grid, start.config.vocab_size,
                       settings.validation_tokens);
  }
  TrainingJob job{runtime, options, settings, start, grid, std::move(data), std::move(validation)};
  const bool ended_early = as_setting(options.resume, [&] {
    return settings.precision == Precision::float32 ? train<float>(job) : train<double>(job);
  });
  return ended_early ? stopped_early : done;
}

}  // namespace
}  // namespace bsbr::apps

int main(int argc, char** argv) {
  return bsbr::harness::run_program("bsbr_train", argc, argv, bsbr::apps::parse_train_options, bsbr::apps::run);
}
