// Command lines: CLI11 does the splitting; values, rules and messages are ours, so that every message names the option,
// its value and the rule.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "bsbr/config.hpp"
#include "harness/command_line/completion.hpp"
#include "harness/job/failure.hpp"

namespace bsbr::harness {

/// A whole number within [least, most]: digits, also with k, M, G or T for powers of 1,024 ("128k"), or with an
/// exponent of ten ("1e6"). Throws UsageError, as the two below.
std::int64_t whole_number(const std::string& option, const std::string& text, double least, double most);

/// A number within [least, most].
double number(const std::string& option, const std::string& text, double least, double most);

/// What a value that is none of an enumeration's names is answered with.
[[noreturn]] void refuse_name(const std::string& option, const std::string& text, const std::string& names);

/// A value of an enumeration by its name.
template <class Value>
Value choice(const std::string& option, const std::string& text) {
  const auto value = from_string<Value>(text);
  if (!value) refuse_name(option, text, list_of_names<Value>());
  return *value;
}

/// False for a flag. CLI11 gives flags a type of size 1, too: it is the number of values they expect that is 0.
bool takes_value(const CLI::Option& option);

/// The options of one program.
class CommandLine {
 public:
  /// `usage`: what follows the program's name in the usage, at most 80 columns wide with it; `after`: examples and the
  /// like, below the options. Help wraps all else: a paragraph is one line, and lines that begin with a space stay as
  /// they are.
  CommandLine(const std::string& name, const std::string& usage, const std::string& description,
              const std::string& after);

  /// An option with one value, "--model" or "-m,--model"; `read(long name, text)` takes the value. `value`: what help
  /// calls it, such as FILE, of which the names of files are completed.
  void add(const std::string& option, const std::string& value, const std::string& help,
           const std::function<void(const std::string&, const std::string&)>& read);

  void add_text(const std::string& option, const std::string& value, const std::string& help, std::string& target);

  /// A whole number in [least, most], into an integer or an optional one.
  template <class Target>
  void add_number(const std::string& option, const std::string& help, Target& target, double least,
                  double most = largest_count) {
    add(option, "N", help, [&target, least, most](const std::string& name, const std::string& text) {
      target = whole_number(name, text, least, most);
    });
  }

  /// One of an enumeration's names.
  template <class Value, class Target>
  void add_choice(const std::string& option, const std::string& help, Target& target) {
    add(option, "NAME", help + ": " + list_of_names<Value>(),
        [&target](const std::string& name, const std::string& text) { target = choice<Value>(name, text); });
    offer(option, list_of_names<Value>());
  }

  /// float or double: a precision in which numbers are stored.
  void add_stored_precision(const std::string& help, Precision& target);

  /// What shells complete as values of an option: "float, double".
  void offer(const std::string& option, const std::string& names);

  void add_flag(const std::string& option, const std::string& help, bool& target);

  /// The options added from now on stand under this heading in the help text.
  void start_group(const std::string& heading) { m_group = heading; }

  /// Throws Answer for --help and --version, UsageError for what is not understood.
  void parse(int argc, const char* const* argv);

  bool given(const std::string& option) const { return m_app.count(option) > 0; }

  /// Throws UsageError unless the option is given.
  void require(const std::string& option) const;

  /// Throws UsageError if both are given.
  void exclude(const std::string& option, const std::string& other) const;

  /// Throws UsageError if `option` is given without `needed`.
  void require_with(const std::string& option, const std::string& needed) const;

  /// Far above any sequence or batch that a machine holds; products with sizes of a configuration are checked where
  /// they are formed.
  static constexpr double largest_count = std::int64_t{1} << 45;

 private:
  std::string nearest_option(const std::string& unknown) const;
  void refuse_rest() const;

  std::string m_name, m_group = "Options";
  Choices m_choices;
  CLI::App m_app;
};

}  // namespace bsbr::harness
