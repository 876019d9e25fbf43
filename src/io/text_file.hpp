// Files of text, for the programs' summaries.
#pragma once

#include <string>

namespace bsbr::io {

/// Writes a file whole or not at all, as results are written: made as <path>.part, which remove_unfinished_file()
/// removes, and renamed. Throws OutputError. One process.
void write_text_file(const std::string& path, const std::string& text);

}  // namespace bsbr::io
