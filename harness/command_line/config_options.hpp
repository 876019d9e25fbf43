// Options for the fields of a configuration, as every program has them that takes one from its command line.
#pragma once

#include <vector>

#include "bsbr/config.hpp"
#include "harness/command_line/command_line.hpp"

namespace bsbr::harness {

/// One option for each field but the architecture, which each program asks for in its own way: "--chunk-size" for
/// chunk_size.
void add_config_options(CommandLine& line, ModelConfig& config);

/// Throws UsageError if an option is given that belongs to an architecture which is not among the selected ones.
void refuse_foreign_options(const CommandLine& line, const std::vector<Architecture>& selected);

/// A configuration that several architectures share, for one of them: gau always has one head. Throws UsageError unless
/// a model can be built from it.
ModelConfig config_for(Architecture architecture, ModelConfig config);

/// Throws UsageError unless a model can be built from this.
void require_valid(const ModelConfig& config);

}  // namespace bsbr::harness
