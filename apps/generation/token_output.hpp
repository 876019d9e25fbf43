// What bsbr_generate writes: bytes of a model of bytes, or ids.
#pragma once

#include <csignal>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "generation/utf8_characters.hpp"

namespace bsbr::apps {

/// Where and how tokens are written.
struct TokenOutputOptions {
  std::string path;          ///< a file, or "-": stdout
  bool bytes = false;        ///< ids are bytes; else each has a line
  bool on_terminal = false;  ///< stdout is one: bytes end with a line feed, and half a character is not shown
  std::int64_t batch = 1;    ///< sequences
};

/// The new tokens of some sequences. On stdout those of one sequence appear as they come, several sequences one after
/// the other at the end, with a line feed behind each; a file is written at the end, whole or not at all. While it
/// lives, a stdout that its reader has closed (`| head`) takes everything and shows nothing: no signal comes. One
/// process.
class TokenOutput {
 public:
  explicit TokenOutput(TokenOutputOptions options);
  ~TokenOutput();
  TokenOutput(const TokenOutput&) = delete;
  TokenOutput& operator=(const TokenOutput&) = delete;

  /// Takes the next token of each sequence, [batch]. Throws OutputError.
  void add(const std::vector<std::int32_t>& ids);

  /// Writes what has not been written yet. Throws OutputError.
  void finish();

  /// Whether nobody reads stdout any more.
  bool is_closed() const { return m_is_closed; }

 private:
  void write_stdout(std::string_view text);
  std::string text_of(std::int32_t id) const;
  bool writes_at_once() const { return m_options.path == "-" && m_options.batch == 1; }

  TokenOutputOptions m_options;
  std::vector<std::string> m_texts;  // [batch]: what has not been written yet
  Utf8Characters m_characters;
  bool m_is_closed = false;
  struct sigaction m_before {};  // what SIGPIPE would have done
};

}  // namespace bsbr::apps
