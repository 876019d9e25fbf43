// The command line of bsbr_init: one option for each field of a configuration.
#include "init_options.hpp"

#include <algorithm>

#include "command_line.hpp"
#include "format.hpp"

namespace bsbr::apps {
namespace {

constexpr const char* usage = "--output M.h5 --architecture A [--hidden-dim N ...] [--seed S] [--precision float|double]";

constexpr const char* description =
    "Makes a model file with random weights, drawn as PyTorch draws them for a new model. The same seed and configuration\n"
    "give the same weights everywhere.\n";

constexpr const char* after =
    "Options that belong to one architecture are refused with another.\n"
    "\n"
    "Examples:\n"
    "  bsbr_init --output model.h5 --architecture bsbr --hidden-dim 512 --num-heads 8 --chunk-size 128\n"
    "  bsbr_init --output window.h5 --architecture sliding_window --window-size 256 --seed 7\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 4 not enough memory, 6 the output cannot be written, 70 a bug. Errors are one line on stderr,\n"
    "and a line 'hint: ...' where there is one.\n";

/// The one field that has to be given.
constexpr std::string_view required_field = "architecture";

/// "chunk_size" as an option: "--chunk-size".
std::string option_of(const Field& field) {
  std::string name = "--" + std::string(field.name);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string help_of(const Field& field, const std::string& standard) {
  const std::string owner = field.owner ? std::string(to_string(*field.owner)) + ": " : "";
  return owner + std::string(field.help) + (field.name == required_field ? "" : " (default " + standard + ")");
}

template <class Value>
void add_field(CommandLine& line, const Field& field, Value& value) {
  const std::string option = option_of(field);
  if constexpr (std::is_enum_v<Value>) {
    line.add_choice<Value>(option, help_of(field, std::string(to_string(value))), value);
  } else if constexpr (std::is_same_v<Value, double>) {
    line.add(option, "X", help_of(field, show_number("%g", value)),
             [&value, field](const std::string& name, const std::string& text) { value = number(name, text, field.least, field.most); });
  } else {
    line.add_number(option, help_of(field, std::to_string(value)), value, field.least, field.most);
  }
}

void check_config(const CommandLine& line, ModelConfig& config) {
  for_each_field(std::as_const(config), [&](const Field& field, const auto&) {
    if (field.belongs_to(config.architecture) || !line.given(option_of(field))) return;
    throw UsageError(option_of(field) + ": only for " + std::string(to_string(*field.owner)) + ", not for " +
                     std::string(to_string(config.architecture)));
  });
  if (config.architecture == Architecture::gau && !line.given("--num-heads")) config.num_heads = 1;
  try {
    config.validate();
  } catch (const ConfigError& error) {
    throw UsageError(error.what(), error.hint());
  }
}

}  // namespace

InitOptions parse_init_options(int argc, const char* const* argv) {
  InitOptions options;
  CommandLine line("bsbr_init", usage, description, after);
  line.start_group("Files");
  line.add_text("--output", "FILE", "model file to write", options.output);
  line.add_choice<Precision>("--precision", "of the weights in the file (default float)", options.precision);
  line.add_number("--seed", "where the random numbers start (default 0)", options.seed, 0, 9e18);
  line.start_group("Configuration");
  for_each_field(options.config, [&](const Field& field, auto& value) { add_field(line, field, value); });
  line.parse(argc, argv);
  line.require("--output");
  line.require("--" + std::string(required_field));
  check_config(line, options.config);
  return options;
}

}  // namespace bsbr::apps
