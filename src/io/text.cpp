#include "io/text.hpp"

#include <array>
#include <cstdio>
#include <system_error>

namespace bsbr::io {
namespace {

std::string escaped(unsigned char byte) {
  switch (byte) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "\\x%02x", static_cast<unsigned>(byte));
  return text.data();
}

/// Control characters of ASCII, and those that UTF-8 writes as C2 80 to C2 9F: terminals obey both.
bool is_control(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  if (byte(i) < 0x20 || byte(i) == 0x7f) return true;
  const auto in_c1 = [&](std::size_t at) { return at < text.size() && byte(at) >= 0x80 && byte(at) < 0xa0; };
  return (byte(i) == 0xc2 && in_c1(i + 1)) || (i > 0 && byte(i - 1) == 0xc2 && in_c1(i));
}

/// A place at or before `at` that is not within a UTF-8 character.
std::size_t character_border(std::string_view text, std::size_t at) {
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U) --at;
  return at;
}

}  // namespace

std::string printable(std::string_view text, std::size_t longest) {
  const bool cut = text.size() > longest;
  if (cut) text = text.substr(0, character_border(text, longest));
  std::string line;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_control(text, i))
      line += escaped(static_cast<unsigned char>(text[i]));
    else
      line += text[i];
  }
  return cut ? line + "..." : line;
}

std::string quoted(std::string_view text) { return '"' + printable(text, 60) + '"'; }

std::string bracketed(const std::vector<std::int64_t>& numbers) {
  std::string text;
  for (const auto number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return '[' + text + ']';
}

std::string show_bytes(std::int64_t bytes) {
  std::string exact = std::to_string(bytes) + " bytes";
  if (bytes < 1 << 20) return exact;
  std::array<char, 32> text{};
  const bool large = bytes >= 1 << 30;
  std::snprintf(text.data(), text.size(), " (%.1f %s)", static_cast<double>(bytes) / (large ? 1 << 30 : 1 << 20), large ? "GiB" : "MiB");
  return exact.append(text.data());
}

std::string system_text(int error) { return std::generic_category().message(error); }

}  // namespace bsbr::io
