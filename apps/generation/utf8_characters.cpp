#include "generation/utf8_characters.hpp"

#include <utility>

namespace bsbr::apps {
namespace {

constexpr std::size_t longest = 4;  // bytes of a character

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

/// Bytes of the character that this one begins; 1 also if it begins none.
std::size_t length_from(char first) {
  const auto byte = static_cast<unsigned char>(first);
  if (byte >= 0xc2 && byte <= 0xdf) return 2;
  if (byte >= 0xe0 && byte <= 0xef) return 3;
  if (byte >= 0xf0 && byte <= 0xf4) return 4;
  return 1;
}

/// Bytes at the end that begin a character and are not all of it.
std::size_t unfinished(std::string_view text) {
  for (std::size_t count = 1; count < longest && count <= text.size(); ++count) {
    const char byte = text[text.size() - count];
    if (!continues(byte)) return length_from(byte) > count ? count : 0;
  }
  return 0;
}

}  // namespace

std::string Utf8Characters::add(std::string_view bytes) {
  m_held += bytes;
  const std::size_t whole = m_held.size() - unfinished(m_held);
  std::string shown = m_held.substr(0, whole);
  m_held.erase(0, whole);
  return shown;
}

std::string Utf8Characters::rest() { return std::exchange(m_held, {}); }

}  // namespace bsbr::apps
