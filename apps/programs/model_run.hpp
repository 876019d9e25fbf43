// What bsbr_forward and bsbr_evaluate do alike: the model's configuration, the tokens, the summary.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/io.hpp"
#include "harness/job/runtime.hpp"
#include "memory/footprint.hpp"
#include "programs/model_options.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

/// Looks whether these files, and that of --json, can be written. Names that are empty are left out. Collective.
void check_outputs(const harness::Runtime& runtime, const ModelOptions& options,
                   const std::vector<std::string>& outputs);

/// Reads the model's configuration, with what the command line puts in its place, and stdin if that is the input;
/// calls work(configuration, path of what has been read from stdin). Errors name the files that are at fault.
void with_model(const harness::Runtime& runtime, const ModelOptions& options,
                const std::function<void(const ModelConfig& config, const std::string& stdin_path)>& work);

/// `stdin_path`: of what has been read from stdin.
TokenSource source_of(const ModelOptions& options, const std::string& stdin_path);

/// The shape of the input. Bytes that this model has no use for are refused here, before any work; not those beyond a
/// smaller vocabulary: of them read_tokens() names one.
TokenShape find_input_shape(const ModelOptions& options, const std::string& stdin_path, std::int64_t vocab_size,
                            MPI_Comm comm);

/// Ids and mask where the kernels run.
struct DeviceTokens {
  explicit DeviceTokens(const Tokens& tokens);
  Array<const std::int32_t**> ids;
  std::optional<Array<const std::uint8_t**>> mask;
};

/// What is known before the run. Collective.
Summary begin_summary(const harness::Runtime& runtime, const ModelOptions& options, const ModelConfig& config,
                      const TokenShape& shape);

/// With --dry-run what each rank would hold; else compute(), for which there is enough memory. Then the report, as text
/// on stdout or JSON, as was asked for. Collective.
void run_and_report(const harness::Runtime& runtime, const ModelOptions& options, const Sequence& sequence,
                    const Footprint& footprint, Summary& summary, const std::function<void()>& compute);

/// Attributes of a file with results: the provenance, how the input was stored, how many states are not finite.
Attributes result_attributes(const ModelOptions& options, const Summary& summary);

}  // namespace bsbr::apps
