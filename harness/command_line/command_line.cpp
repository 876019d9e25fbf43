// CLI11's findings turned into our messages.
#include "harness/command_line/command_line.hpp"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>

#include "harness/command_line/completion.hpp"
#include "harness/format.hpp"
#include "harness/job/build_info.hpp"
#include "harness/job/runtime.hpp"

namespace bsbr::harness {
namespace {

constexpr std::size_t help_width = 80, help_column = 31;  // two spaces after the longest name that fits

/// Help as a man page has it: the usage as it is given, then the options, then what the program adds. At most 80
/// columns wide.
class HelpText : public CLI::Formatter {
 public:
  explicit HelpText(std::string usage) : m_usage(std::move(usage)) { column_width(help_column); }
  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), help_width) + "\n\n";
  }
  std::string make_footer(const CLI::App* app) const override { return wrapped(app->get_footer(), help_width) + "\n"; }
  std::string make_usage(const CLI::App*, std::string name) const override {
    return "Usage: " + name + " " + m_usage + "\n";
  }
  std::string make_option_name(const CLI::Option* option, bool) const override {
    const auto& short_names = option->get_snames();
    return (short_names.empty() ? "" : "-" + short_names.front() + ", ") + "--" + option->get_lnames().front();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description(), help_width - help_column);
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return takes_value(*option) ? " " + option->get_type_name() : "";
  }

 private:
  std::string m_usage;
};

std::string shown(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", value);
  return text;
}

void check_range(const std::string& option, const std::string& text, double value, double least, double most) {
  if (value < least) throw UsageError(option + ": " + text + " is below " + shown(least));
  if (value > most) throw UsageError(option + ": " + text + " is above " + shown(most));
}

constexpr double largest_exact = 0x1p53;  // up to here a double holds every whole number

/// "128k" = 128·1,024, "1.5M" = 1.5·1,024², "1e6" = 1,000,000; none unless it is such a text and whole.
std::optional<double> scaled_number(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || !std::isfinite(value)) return std::nullopt;
  constexpr std::string_view suffixes = "kmgt";
  if (stop + 1 == end) {
    const auto suffix = suffixes.find(static_cast<char>(std::tolower(static_cast<unsigned char>(*stop))));
    if (suffix == std::string_view::npos) return std::nullopt;
    value = std::ldexp(value, 10 * (static_cast<int>(suffix) + 1));
  } else if (stop != end || text.find_first_of("eE") == std::string::npos) {
    return std::nullopt;
  }
  return value == std::floor(value) ? std::optional(value) : std::nullopt;
}

/// Insertions, deletions and changes that make one word of the other.
std::size_t distance(const std::string& one, const std::string& other) {
  std::vector<std::size_t> row(other.size() + 1);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = j;
  for (std::size_t i = 0; i < one.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < other.size(); ++j) {
      const std::size_t changed = diagonal + (one[i] == other[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

/// CLI11's "--model: 1 required TEXT missing", "--model: At Most 1 required but received 2", "quiet was given a
/// disallowed flag override", as we say it.
std::string reworded(const std::string& message) {
  const std::string option = message.substr(0, message.find_first_of(": "));
  if (message.find("disallowed") != std::string::npos) return "--" + option + ": takes no value";
  return option + (message.find("received") != std::string::npos ? ": given more than once" : ": its value is missing");
}

/// Without the empty lines that CLI11 leaves between groups.
std::string squeezed(std::string text) {
  constexpr std::string_view gap = "\n\n\n";
  for (auto place = text.find(gap); place != std::string::npos; place = text.find(gap)) text.erase(place, 1);
  return text;
}

}  // namespace

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::int64_t whole_number(const std::string& option, const std::string& text, double least, double most) {
  std::int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) {
    check_range(option, text, text.starts_with("-") ? -HUGE_VAL : HUGE_VAL, least, most);
  }
  if (error != std::errc() || stop != end) {
    const std::optional<double> scaled = scaled_number(text);
    if (!scaled)
      throw UsageError(option + ": '" + text + "' is not a whole number",
                       "128k is 128 · 1,024, 1M is 1,024², 1e6 is a million");
    check_range(option, text, *scaled, least, std::min(most, largest_exact));
    value = static_cast<std::int64_t>(*scaled);
  }
  check_range(option, text, static_cast<double>(value), least, most);
  return value;
}

double number(const std::string& option, const std::string& text, double least, double most) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || std::isnan(value))
    throw UsageError(option + ": '" + text + "' is not a number");
  check_range(option, text, value, least, most);
  return value;
}

void refuse_name(const std::string& option, const std::string& text, const std::string& names) {
  throw UsageError(option + ": '" + text + "' is none of " + names);
}

CommandLine::CommandLine(const std::string& name, const std::string& usage, const std::string& description,
                         const std::string& after)
    : m_name(name), m_app(description, name) {
  m_app.formatter(std::make_shared<HelpText>(usage));
  m_app.footer(after);
  m_app.set_help_flag("--help,-h", "print this and exit")->group("Help");
  m_app.set_version_flag("--version", "", "print the version and exit")->group("Help");
  const std::function<void()> tell = [name] {
    try {
      throw Answer{build_info(name)};
    } catch (const ConfigError& error) {  // BSBR_TF32
      throw UsageError(error.what());
    }
  };
  m_app.add_flag_callback("--build-info", tell, "print compiler, flags and libraries, and exit")
      ->disable_flag_override()
      ->group("Help");
  m_app
      .add_option_function<std::string>(
          "--completion",
          [this](const std::string& shell) { throw Answer{completion_script(shell, m_app, m_choices)}; },
          "print a completion script for a shell, and exit: bash, zsh, fish")
      ->type_name("SHELL")
      ->group("Help");
  offer("--completion", "bash, zsh, fish");
  m_app.allow_extras();  // they are refused in refuse_rest
}

void CommandLine::add(const std::string& option, const std::string& value, const std::string& help,
                      const std::function<void(const std::string&, const std::string&)>& read) {
  const std::string name = option.substr(option.rfind(',') + 1);
  const std::function<void(const std::string&)> take = [name, read](const std::string& text) { read(name, text); };
  m_app.add_option_function<std::string>(option, take, help)->type_name(value)->group(m_group);
}

void CommandLine::add_stored_precision(const std::string& help, Precision& target) {
  const std::string known =
      std::string(to_string(Precision::float32)) + ", " + std::string(to_string(Precision::float64));
  add("--precision", "NAME", help + ": " + known, [&target, known](const std::string& name, const std::string& text) {
    const auto value = from_string<Precision>(text);
    if (!value || *value == Precision::bfloat16) refuse_name(name, text, known);
    target = *value;
  });
  offer("--precision", known);
}

void CommandLine::offer(const std::string& option, const std::string& names) {
  std::string words = names;
  std::replace(words.begin(), words.end(), ',', ' ');
  std::istringstream stream(words);
  m_choices[option] = {std::istream_iterator<std::string>(stream), {}};
}

void CommandLine::add_text(const std::string& option, const std::string& value, const std::string& help,
                           std::string& target) {
  add(option, value, help, [&target](const std::string& name, const std::string& text) {
    if (text.empty()) throw UsageError(name + ": the value is empty");
    target = text;
  });
}

void CommandLine::add_flag(const std::string& option, const std::string& help, bool& target) {
  const std::function<void()> set = [&target] { target = true; };
  m_app.add_flag_callback(option, set, help)->disable_flag_override()->group(m_group);
}

void CommandLine::parse(int argc, const char* const* argv) {
  try {
    m_app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    throw Answer{squeezed(m_app.help())};
  } catch (const CLI::CallForVersion&) {
    throw Answer{version_line(m_name)};
  } catch (const CLI::ArgumentMismatch& error) {
    throw UsageError(reworded(error.what()));
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  refuse_rest();
}

void CommandLine::refuse_rest() const {
  const std::vector<std::string> rest = m_app.remaining();
  if (rest.empty()) return;
  const std::string& word = rest.front();
  if (!word.starts_with("-"))
    throw UsageError("unexpected argument '" + word + "'", m_name + " takes options only; see --help");
  const std::string nearest = nearest_option(word.substr(0, word.find('=')));
  throw UsageError("unknown option " + word,
                   nearest.empty() ? m_name + " --help lists the options" : "did you mean " + nearest + "?");
}

std::string CommandLine::nearest_option(const std::string& unknown) const {
  std::string nearest;
  std::size_t least = 4;  // more changes than this make another word
  for (const CLI::Option* option : m_app.get_options()) {
    const std::string name = option->get_name();
    const std::size_t changes = distance(unknown, name);
    if (changes < least) {
      least = changes;
      nearest = name;
    }
  }
  return nearest;
}

void CommandLine::require(const std::string& option) const {
  if (!given(option)) throw UsageError(option + " is missing", m_name + " --help shows an example");
}

void CommandLine::exclude(const std::string& option, const std::string& other) const {
  if (given(option) && given(other)) throw UsageError(option + " and " + other + " exclude each other");
}

void CommandLine::require_with(const std::string& option, const std::string& needed) const {
  if (given(option) && !given(needed)) throw UsageError(option + ": only with " + needed);
}

}  // namespace bsbr::harness
