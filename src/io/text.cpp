#include "io/text.hpp"

#include <algorithm>
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

/// Whether a UTF-8 character is a control character of ASCII or of C1, U+0080 to U+009F: terminals obey both.
bool is_control(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first < 0x20 || first == 0x7f;
  return first == 0xc2 && static_cast<unsigned char>(character[1]) < 0xa0;
}

/// A place at or before `at` that is not within a UTF-8 character.
std::size_t character_border(std::string_view text, std::size_t at) {
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80U) --at;
  return at;
}

/// Bytes of the UTF-8 character that begins at `i`, 0 if none does. Overlong forms and surrogates, which RFC 3629
/// forbids, pass.
std::size_t character_length(std::string_view text, std::size_t i) {
  const auto first = static_cast<unsigned char>(text[i]);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  if (length > text.size() - i) return 0;
  const std::string_view rest = text.substr(i, length).substr(std::min<std::size_t>(length, 1));
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0U) == 0x80U; };
  return std::ranges::all_of(rest, continues) ? length : 0;
}

}  // namespace

std::string printable(std::string_view text, std::size_t longest) {
  const bool cut = text.size() > longest;
  if (cut) text = text.substr(0, character_border(text, longest));
  std::string line;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = character_length(text, i);
    const std::string_view character = text.substr(i, std::max<std::size_t>(length, 1));
    if (length == 0 || is_control(character))
      for (const char byte : character) line += escaped(static_cast<unsigned char>(byte));
    else
      line += character;
    i += character.size();
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
  std::snprintf(text.data(), text.size(), " (%.1f %s)", static_cast<double>(bytes) / (large ? 1 << 30 : 1 << 20),
                large ? "GiB" : "MiB");
  return exact.append(text.data());
}

std::string system_text(int error) { return std::generic_category().message(error); }

}  // namespace bsbr::io
