// Shell completion made from the options of a program.
#pragma once

#include <CLI/App.hpp>
#include <map>
#include <string>
#include <vector>

namespace bsbr::harness {

/// The values that an option may have, by the option's long name.
using Choices = std::map<std::string, std::vector<std::string>>;

/// A script for "bash", "zsh" or "fish" that completes options and their values: choices, and files where the value is
/// called FILE. Throws UsageError for another shell.
std::string completion_script(const std::string& shell, const CLI::App& program, const Choices& choices);

}  // namespace bsbr::harness
