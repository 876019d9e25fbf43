// The command line of bsbr_compare.
#include "compare_options.hpp"

#include <algorithm>

#include "config_options.hpp"
#include "format.hpp"
#include "output_names.hpp"
#include "runtime.hpp"

namespace bsbr::apps {
namespace {

constexpr const char* usage =
    "[--architectures all|A,B,...] [--seq-lengths 1024,2048,...] [--hidden-dim N ...] [--precision float|double]\n"
    "                    [--batch N] [--seed S] [--repeat N] [--json FILE|-] [--progress auto|on|off] [--quiet]\n"
    "                    [--timeout SECONDS]";

constexpr const char* description =
    "Compares architectures: for each of them and each length, the time of a forward pass of a model with random weights, its\n"
    "speed and its memory; and for each architecture how time and memory grow with the length.\n";

constexpr const char* after =
    "Each case (an architecture at a length) is run once to set memory up, which is when its memory is measured, and then timed.\n"
    "A case that does not fit in memory or fails otherwise is reported, and the others go on. Options that belong to one\n"
    "architecture are refused where it is not selected. gau has one head, whatever --num-heads says.\n"
    "\n"
    "Examples:\n"
    "  bsbr_compare\n"
    "  bsbr_compare --architectures bsbr,standard --seq-lengths 1024,4096,16384 --json comparison.json\n"
    "  mpirun -n 4 bsbr_compare --architectures bsbr,sliding_window --window-size 256 --chunk-size 256\n"
    "\n"
    "Exit codes: 0 done, with one case or more measured; 2 usage; 4 not enough memory for any case; 5 communication; 6 the output\n"
    "cannot be written; 70 a bug. Errors are one line on stderr, and a line 'hint: ...' where there is one.\n";

constexpr const char* standard_lengths = "1024,2048,4096";

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

/// A list without repetitions; `read` makes a value of a part.
template <class Value, class Read>
std::vector<Value> list(const std::string& option, const std::string& text, const Read& read) {
  if (text.empty()) throw UsageError(option + ": the list is empty");
  std::vector<Value> values;
  for (const std::string& part : split(text)) {
    const Value value = read(part);
    if (std::find(values.begin(), values.end(), value) != values.end()) throw UsageError(option + ": " + part + " is named twice");
    values.push_back(value);
  }
  return values;
}

std::vector<Architecture> read_architectures(const std::string& option, const std::string& text) {
  if (text != "all") {
    return list<Architecture>(option, text, [&](const std::string& name) {
      const auto architecture = from_string<Architecture>(name);
      if (!architecture) refuse_name(option, name, list_of_names<Architecture>() + "; 'all', which stands alone, is all of them");
      return *architecture;
    });
  }
  std::vector<Architecture> all;
  all.reserve(architectures.size());
  for (const auto& architecture : architectures) all.push_back(architecture.value);
  return all;
}

std::vector<std::int64_t> read_lengths(const std::string& option, const std::string& text) {
  auto lengths = list<std::int64_t>(option, text,
                                    [&](const std::string& length) { return whole_number(option, length, 1, CommandLine::largest_count); });
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

void add_comparison(CommandLine& line, CompareOptions& options, std::vector<Architecture>& selected) {
  line.start_group("Comparison");
  line.add("--architectures", "all|A,B,...", "some of " + list_of_names<Architecture>() + " (default all)",
           [&selected](const std::string& name, const std::string& text) { selected = read_architectures(name, text); });
  line.add("--seq-lengths", "N,N,...", std::string("tokens in a sequence (default ") + standard_lengths + ")",
           [&options](const std::string& name, const std::string& text) { options.seq_lengths = read_lengths(name, text); });
  line.add_number("--batch", "number of sequences (default 1)", options.batch, 1);
  line.add_choice<Precision>("--precision", "of weights and states (default float)", options.precision);
  line.add_number("--seed", "random seed of weights and tokens (default 0)", options.seed, 0, 9e18);
  line.add_number("--repeat", "time N forwards of each case, and give the median (default 3)", options.repeat, 1, 1e9);
}

void add_output(CommandLine& line, CompareOptions& options) {
  line.start_group("Output");
  line.add_text("--json", "FILE|-", "everything as JSON; -: on stdout, in place of the table", options.json);
  line.add("--progress", "auto|on|off", "on stderr; auto: only on a terminal (default auto)",
           [&options](const std::string& name, const std::string& text) { options.progress = progress_mode(name, text); });
  line.add_flag("--quiet", "print no table", options.quiet);
}

void check_together(const CommandLine& line, const CompareOptions& options, const std::vector<Architecture>& selected) {
  refuse_foreign_options(line, selected);
  const std::int64_t longest = options.seq_lengths.back();
  if (static_cast<double>(options.batch) * static_cast<double>(longest) > CommandLine::largest_count) {
    throw UsageError("--batch: " + show_several(options.batch, "sequence") + " of " + show_count(longest) + " tokens are too many");
  }
  require_own_names({{"--json", options.json == "-" ? "" : options.json}}, {}, options.json == "-" || options.prints_text());
}

}  // namespace

CompareOptions parse_compare_options(int argc, const char* const* argv) {
  CompareOptions options;
  std::vector<Architecture> selected = read_architectures("--architectures", "all");
  options.seq_lengths = read_lengths("--seq-lengths", standard_lengths);
  CommandLine line("bsbr_compare", usage, description, after);
  add_comparison(line, options, selected);
  add_output(line, options);
  line.start_group("Ranks");
  add_timeout_option(line, options.timeout);
  line.start_group("Configuration");
  add_config_options(line, options.config);
  line.parse(argc, argv);
  check_together(line, options, selected);
  for (const Architecture architecture : selected) options.configs.push_back(config_for(architecture, options.config));
  return options;
}

}  // namespace bsbr::apps
