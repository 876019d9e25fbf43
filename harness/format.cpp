// Numbers as people read them, and the columns that they stand in.
#include "harness/format.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

namespace bsbr::harness {

std::string show_number(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

std::string show_digits(double value) {
  if (value >= 99.95) return show_number("%.0f", value);
  return show_number(value >= 9.995 ? "%.1f" : "%.2f", value);
}

std::string show_count(std::int64_t count) {
  std::string digits = std::to_string(count);
  for (auto place = static_cast<std::int64_t>(digits.size()) - 3; place > (count < 0 ? 1 : 0); place -= 3) {
    digits.insert(static_cast<std::size_t>(place), ",");
  }
  return digits;
}

std::string show_bytes(std::int64_t bytes) {
  constexpr std::array units{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  return show_number(unit == 0 ? "%.0f " : "%.1f ", value) + units[unit];
}

std::string show_seconds(double seconds) {
  if (seconds >= 100) return show_number("%.0f s", seconds);
  if (seconds >= 1) return show_number("%.2f s", seconds);
  return seconds >= 1e-3 ? show_digits(seconds * 1e3) + " ms" : show_digits(seconds * 1e6) + " µs";
}

std::string show_rate(double flops) {
  constexpr std::array units{"", "K", "M", "G", "T", "P", "E"};
  std::size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < units.size(); ++unit) flops /= 1000;
  return show_digits(flops) + " " + units[unit] + "FLOP/s";
}

std::string show_several(std::int64_t count, const std::string& what) {
  return show_count(count) + " " + what + (count == 1 ? "" : "s");
}

std::string left(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string right(const std::string& text, std::size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

std::string wrapped(const std::string& text, std::size_t width) {
  std::string result;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    while (line.size() > width && line.front() != ' ') {
      std::size_t space = line.rfind(' ', width);
      if (space == std::string::npos) space = line.find(' ');
      if (space == std::string::npos) break;
      result += line.substr(0, space) + "\n";
      line.erase(0, space + 1);
    }
    result += line + "\n";
  }
  if (!result.empty()) result.pop_back();
  return result;
}

std::string row(const std::string& name, const std::string& value) { return "  " + left(name, 14) + value + "\n"; }

}  // namespace bsbr::harness
