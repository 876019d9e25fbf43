// The command line of bsbr_compare.
#include "programs/compare_options.hpp"

#include <algorithm>

#include "files/output_names.hpp"
#include "harness/command_line/config_options.hpp"
#include "harness/format.hpp"
#include "harness/job/runtime.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr const char* usage =
    "[--architectures all|A,B,...] [--seq-lengths N,N,...]\n"
    "                    [--hidden-dim N ...] [--precision float|double|bfloat16]\n"
    "                    [--batch N] [--seed S] [--repeat N]\n"
    "                    [--max-seconds-per-case SECONDS]\n"
    "                    [--format table|csv|tsv] [--json FILE|-]\n"
    "                    [--progress auto|on|off] [--progress-interval SECONDS]\n"
    "                    [--quiet] [--timeout SECONDS]";

constexpr const char* description =
    "Compares architectures at several sequence lengths: time, speed and memory of a forward pass of models with "
    "random weights, and how "
    "time and memory grow with the length.";

constexpr const char* after =
    "A case is one architecture at one length. It runs once to allocate memory, which is when its memory is measured, "
    "and then --repeat "
    "times for the time. A case that is too long or too large, or that fails, is reported, and the others go on. "
    "Options that belong to "
    "one architecture are refused where it is not selected. gau has one head, whatever --num-heads says.\n"
    "Whole numbers may end in k, M, G or T, which stand for powers of 1,024 (64k = 65,536), or have an exponent of ten "
    "(1e6).\n"
    "\n"
    "Examples:\n"
    "  bsbr_compare\n"
    "  bsbr_compare --architectures bsbr,standard --seq-lengths 1k,4k,16k\n"
    "  mpirun -n 4 bsbr_compare --max-seconds-per-case 600 --json comparison.json\n"
    "\n"
    "Exit codes: 0 done, with at least one case measured; 2 usage; 4 not enough memory for any case; 5 communication; "
    "6 the output cannot "
    "be written; 70 a bug. An error is one line on stderr, and a line 'hint: ...' where there is one.\n";

constexpr const char* standard_lengths = "1k,2k,4k,8k,16k,32k,64k";

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
    if (std::find(values.begin(), values.end(), value) != values.end())
      throw UsageError(option + ": " + part + " is named twice");
    values.push_back(value);
  }
  return values;
}

std::vector<Architecture> read_architectures(const std::string& option, const std::string& text) {
  if (text != "all") {
    return list<Architecture>(option, text, [&](const std::string& name) {
      const auto architecture = from_string<Architecture>(name);
      if (!architecture)
        refuse_name(option, name, list_of_names<Architecture>() + "; 'all', which stands alone, is all of them");
      return *architecture;
    });
  }
  std::vector<Architecture> all;
  all.reserve(architectures.size());
  for (const auto& architecture : architectures) all.push_back(architecture.value);
  return all;
}

std::vector<std::int64_t> read_lengths(const std::string& option, const std::string& text) {
  auto lengths = list<std::int64_t>(option, text, [&](const std::string& length) {
    return whole_number(option, length, 1, CommandLine::largest_count);
  });
  std::sort(lengths.begin(), lengths.end());
  return lengths;
}

TableFormat table_format(const std::string& option, const std::string& text) {
  if (text == "table") return TableFormat::table;
  if (text == "csv") return TableFormat::csv;
  if (text == "tsv") return TableFormat::tsv;
  refuse_name(option, text, "table, csv, tsv");
}

void add_comparison(CommandLine& line, CompareOptions& options, std::vector<Architecture>& selected) {
  line.start_group("Comparison");
  line.add(
      "--architectures", "all|A,B,...", "some of " + list_of_names<Architecture>() + " (default all)",
      [&selected](const std::string& name, const std::string& text) { selected = read_architectures(name, text); });
  line.offer("--architectures", "all, " + list_of_names<Architecture>());
  line.add(
      "--seq-lengths", "N,N,...", std::string("sequence lengths in tokens (default ") + standard_lengths + ")",
      [&options](const std::string& name, const std::string& text) { options.seq_lengths = read_lengths(name, text); });
  line.add_number("--batch", "number of sequences (default 1)", options.batch, 1);
  line.add_choice<Precision>("--precision", "of the computation (default float)", options.precision);
  line.add_number("--seed", "random seed of weights and tokens (default 0)", options.seed, 0, 9e18);
  line.add_number("--repeat", "time N forwards of each case and report the median (default 3)", options.repeat, 1, 1e9);
  line.add("--max-seconds-per-case", "SECONDS",
           "leave out a case whose forwards would take longer, by the time of the length before or of its first "
           "forward (default 60)",
           [&options](const std::string& name, const std::string& text) {
             options.max_seconds_per_case = number(name, text, 1e-3, 1e9);
           });
}

void add_output(CommandLine& line, CompareOptions& options) {
  line.start_group("Output");
  line.add_text("--json", "FILE|-", "everything as JSON; -: on stdout, instead of the table", options.json);
  line.add("--format", "table|csv|tsv", "of stdout; csv, tsv: a line for each case, plain numbers (default table)",
           [&options](const std::string& name, const std::string& text) { options.format = table_format(name, text); });
  line.offer("--format", "table, csv, tsv");
  add_progress_options(line, options.progress);
  line.add_flag("--quiet", "print no table", options.quiet);
}

void check_together(const CommandLine& line, const CompareOptions& options, const std::vector<Architecture>& selected) {
  refuse_foreign_options(line, selected);
  const std::int64_t longest = options.seq_lengths.back();
  if (static_cast<double>(options.batch) * static_cast<double>(longest) > CommandLine::largest_count) {
    throw UsageError("--batch: " + show_several(options.batch, "sequence") + " of " + show_count(longest) +
                     " tokens are too many");
  }
  require_own_names({{"--json", options.json == "-" ? "" : options.json}}, {},
                    options.json == "-" || options.prints_text());
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
