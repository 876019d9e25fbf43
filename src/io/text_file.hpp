// Files of text, for the programs' summaries.
#pragma once

#include <cstdint>
#include <string>

namespace bsbr::io {

/// Writes a file whole or not at all, as results are written: made as <path>.part, which remove_unfinished_file()
/// removes, and renamed. Throws OutputError. One process.
void write_text_file(const std::string& path, const std::string& text);

/// Leaves of a file, which is made if there is none, the first `size` bytes, and writes a text behind them: for logs,
/// which are read while they grow. If that fails, what stands behind those bytes may be a part of the text. Throws
/// OutputError. One process.
void end_text_file(const std::string& path, std::int64_t size, const std::string& text);

}  // namespace bsbr::io
