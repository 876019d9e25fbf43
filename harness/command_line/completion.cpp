// Shell completion made from the options of a program.
#include "harness/command_line/completion.hpp"

#include <CLI/Option.hpp>
#include <string_view>

#include "harness/command_line/command_line.hpp"

namespace bsbr::harness {
namespace {

enum class Values { none, chosen, file, other };

/// An option as shells want to know it.
struct Entry {
  std::vector<std::string> names;  // "-m", "--model"
  std::string long_name;           // "model"
  std::string value;               // "FILE"; empty: it takes none
  std::string help;
  Values values = Values::none;
  std::vector<std::string> choices;
  bool list() const { return value.find("...") != std::string::npos; }
};

std::vector<Entry> entries_of(const CLI::App& program, const Choices& choices) {
  std::vector<Entry> entries;
  for (const CLI::Option* option : program.get_options()) {
    Entry entry;
    for (const std::string& name : option->get_snames()) entry.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) entry.names.push_back("--" + name);
    entry.long_name = option->get_lnames().front();
    entry.help = option->get_description();
    if (takes_value(*option)) {
      entry.value = option->get_type_name();
      entry.values = entry.value.starts_with("FILE") ? Values::file : Values::other;
      if (const auto found = choices.find("--" + entry.long_name); found != choices.end()) {
        entry.values = Values::chosen;
        entry.choices = found->second;
      }
    }
    entries.push_back(entry);
  }
  return entries;
}

std::string joined(const std::vector<std::string>& words, const std::string& between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

/// Each of some characters after a backslash, or what stands for it.
std::string escaped(const std::string& text, std::string_view special, const std::string& before = "\\") {
  std::string result;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) result += before;
    result += c;
  }
  return result;
}

// ---- bash

/// Bash splits "--option=value" at "=" into words of their own; of a list the part after the last comma is completed.
constexpr const char* bash_frame = R"(
  local word=${COMP_WORDS[COMP_CWORD]} option=${COMP_WORDS[COMP_CWORD-1]} before= words=
  if [[ $word == '=' ]]; then word=
  elif [[ $option == '=' ]]; then option=${COMP_WORDS[COMP_CWORD-2]}
  fi
  COMPREPLY=()
  case $option in
)";

std::string bash(const std::string& name, const std::vector<Entry>& entries) {
  std::string cases, files, others, all;
  for (const Entry& entry : entries) {
    all += (all.empty() ? "" : " ") + joined(entry.names, " ");
    const std::string pattern = joined(entry.names, "|");
    if (entry.values == Values::file) files += (files.empty() ? "" : "|") + pattern;
    if (entry.values == Values::other) others += (others.empty() ? "" : "|") + pattern;
    if (entry.values != Values::chosen) continue;
    cases += "    " + pattern + ") words='" + joined(entry.choices, " ") + "'" +
             (entry.list() ? "; [[ $word == *,* ]] && before=${word%,*}," : "") + ";;\n";
  }
  if (!files.empty()) {
    cases += "    " + files +
             ")\n      mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n      compopt -o filenames 2>/dev/null\n     "
             " return;;\n";
  }
  if (!others.empty()) cases += "    " + others + ") return;;\n";
  return "# Completion of " + name + " for bash.\n_" + name + "() {" + bash_frame + cases + "    *) words='" + all +
         "';;\n  esac\n  mapfile -t COMPREPLY < <(compgen -P \"$before\" -W \"$words\" -- "
         "\"${word#\"$before\"}\")\n}\ncomplete -F _" +
         name + " " + name + "\n";
}

// ---- zsh

std::string zsh_value(const Entry& entry) {
  if (entry.values == Values::none) return "";
  const std::string message = ":" + escaped(entry.value, ":") + ":";
  if (entry.values == Values::file) return message + "_files";
  if (entry.values == Values::other) return message + " ";
  const std::string choices = joined(entry.choices, " ");
  return message + (entry.list() ? "{compset -P \"*,\"; compadd -- " + choices + "}" : "(" + choices + ")");
}

/// Found in fpath, the script is the body of the function that completes, and calls what it has defined; sourced, it
/// registers that.
std::string zsh(const std::string& name, const std::vector<Entry>& entries) {
  const std::string function = "_" + name;
  std::string text =
      "#compdef " + name + "\n# Completion of " + name + " for zsh.\n\n" + function + "() {\n  _arguments -s";
  for (const Entry& entry : entries) {
    const std::string what = escaped("[" + escaped(entry.help, "[]:\\") + "]" + zsh_value(entry), "'", "'\\'");
    const std::string names = entry.names.size() == 1 ? entry.names.front() : "{" + joined(entry.names, ",") + "}";
    text += " \\\n    '(" + joined(entry.names, " ") + ")'" + names + "'" + what + "'";
  }
  return text + "\n}\n\nif [[ $funcstack[1] == " + function + " ]]; then\n  " + function + " \"$@\"\nelse\n  compdef " +
         function + " " + name + "\nfi\n";
}

// ---- fish

std::string fish(const std::string& name, const std::vector<Entry>& entries) {
  std::string text = "# Completion of " + name + " for fish.\ncomplete -c " + name + " -f\n";
  for (const Entry& entry : entries) {
    text += "complete -c " + name;
    for (const std::string& option : entry.names) {
      text += option.starts_with("--") ? " -l " + option.substr(2) : " -s " + option.substr(1);
    }
    if (entry.values == Values::file) text += " -r -F";
    if (entry.values == Values::other) text += " -x";
    if (entry.values == Values::chosen) text += " -x -a '" + joined(entry.choices, " ") + "'";
    text += " -d '" + escaped(entry.help, "'\\") + "'\n";
  }
  return text;
}

}  // namespace

std::string completion_script(const std::string& shell, const CLI::App& program, const Choices& choices) {
  const std::vector<Entry> entries = entries_of(program, choices);
  if (shell == "bash") return bash(program.get_name(), entries);
  if (shell == "zsh") return zsh(program.get_name(), entries);
  if (shell == "fish") return fish(program.get_name(), entries);
  refuse_name("--completion", shell, "bash, zsh, fish");
}

}  // namespace bsbr::harness
