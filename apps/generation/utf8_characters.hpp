// Text that comes byte by byte, for a terminal, which shows whole characters.
#pragma once

#include <string>
#include <string_view>

namespace bsbr::apps {

/// Holds back the last bytes of a text as long as they may be the beginning of a character in UTF-8. Bytes that cannot
/// be UTF-8 pass through as they are: nothing is held back for longer than a character, four bytes.
class Utf8Characters {
 public:
  /// Takes the next bytes; returns what can be shown of all that have been held back.
  std::string add(std::string_view bytes);

  /// What is still held back, at the end of the text.
  std::string rest();

 private:
  std::string m_held;
};

}  // namespace bsbr::apps
