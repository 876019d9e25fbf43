// What bsbr_generate writes: bytes of a model of bytes, or ids.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "generation/utf8_characters.hpp"

namespace bsbr::apps {

/// Where and how tokens are written.
struct TokenOutputOptions {
  std::string path;        ///< a file, or "-": stdout
  bool bytes = false;      ///< ids are bytes; else each has a line
  bool ends_line = false;  ///< stdout is a terminal, where bytes end with a line feed
  std::int64_t batch = 1;  ///< sequences
};

/// The new tokens of some sequences. On stdout those of one sequence appear as they come, several sequences one after
/// the other at the end, with a line feed behind each; a file is written at the end, whole or not at all. One process.
class TokenOutput {
 public:
  explicit TokenOutput(TokenOutputOptions options);

  /// Takes the next token of each sequence, [batch]. Throws OutputError.
  void add(const std::vector<std::int32_t>& ids);

  /// Writes what has not been written yet. Throws OutputError.
  void finish();

 private:
  std::string text_of(std::int32_t id) const;
  bool writes_at_once() const { return m_options.path == "-" && m_options.batch == 1; }

  TokenOutputOptions m_options;
  std::vector<std::string> m_texts;  // [batch]: what has not been written yet
  Utf8Characters m_characters;
};

}  // namespace bsbr::apps
