// The command line of bsbr_init: one option for each field of a configuration.
#include "programs/init_options.hpp"

#include "architectures/traits.hpp"
#include "files/output_names.hpp"
#include "harness/command_line/config_options.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "--output M.h5 --architecture A [--hidden-dim N ...]\n"
    "                 [--seed S] [--precision float|double]";

constexpr const char* description =
    "Writes a model file with random weights, drawn as PyTorch draws them for a new model. The same seed and "
    "configuration give the same "
    "weights everywhere.";

constexpr const char* after =
    "Options that belong to one architecture are refused with another.\n"
    "\n"
    "A bsbr model that is to be trained should have --state-scale mean --retrieval-gate 1 --null-chunk 1: the defaults "
    "are the architecture as published, whose retrieval drowns what is within the chunk.\n"
    "\n"
    "Whole numbers may end in k, M, G or T, which stand for powers of 1,024, or have an exponent of ten (1e6).\n"
    "\n"
    "Examples:\n"
    "  bsbr_init -o model.h5 --architecture bsbr --hidden-dim 512 --chunk-size 128\n"
    "  bsbr_init -o window.h5 --architecture sliding_window --window-size 256\n"
    "\n"
    "Exit codes: 0 done, 2 usage, 4 not enough memory, 6 the output cannot be written, 70 a bug. An error is one line "
    "on stderr, and a "
    "line 'hint: ...' where there is one.\n";

}  // namespace

InitOptions parse_init_options(int argc, const char* const* argv) {
  InitOptions options;
  CommandLine line("bsbr_init", usage, description, after);
  line.start_group("Files");
  line.add_text("-o,--output", "FILE", "model file to write", options.output);
  line.add_stored_precision("of the weights in the file (default float)", options.precision);
  line.add_number("--seed", "random seed (default 0)", options.seed, 0, 9e18);
  line.start_group("Configuration");
  line.add_choice<Architecture>("--architecture", "attention of the model", options.config.architecture);
  add_config_options(line, options.config);
  line.parse(argc, argv);
  line.require("--output");
  line.require("--architecture");
  refuse_foreign_options(line, {options.config.architecture});
  if (traits(options.config.architecture).has_one_head && !line.given("--num-heads")) options.config.num_heads = 1;
  require_valid(options.config);
  const NamedFile output{"--output", options.output};
  refuse_stdout(output, "a model");
  require_own_names({output}, {}, true);
  return options;
}

}  // namespace bsbr::apps
