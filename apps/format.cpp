// Numbers as people read them, and the columns that they stand in.
#include "format.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace bsbr::apps {

std::string show_number(const char* format, double value) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
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
  return seconds >= 1 ? show_number("%.2f s", seconds) : show_number("%.3g ms", seconds * 1e3);
}

std::string show_rate(double flops) {
  constexpr std::array units{"", "K", "M", "G", "T", "P", "E"};
  std::size_t unit = 0;
  for (; flops >= 1000 && unit + 1 < units.size(); ++unit) flops /= 1000;
  return show_number("%.3g ", flops) + units[unit] + "FLOP/s";
}

std::string show_several(std::int64_t count, const std::string& what) { return show_count(count) + " " + what + (count == 1 ? "" : "s"); }

std::string left(std::string text, std::size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string right(const std::string& text, std::size_t width) { return std::string(width - std::min(width, text.size()), ' ') + text; }

std::string row(const std::string& name, const std::string& value) { return "  " + left(name, 14) + value + "\n"; }

}  // namespace bsbr::apps
