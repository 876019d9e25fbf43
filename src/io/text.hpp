// Names and values from files, made fit for an error message of one line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bsbr::io {

/// The text with control characters, and bytes that are not UTF-8, as \n, \x1b and so on, cut where it is longer than
/// `longest` bytes.
std::string printable(std::string_view text, std::size_t longest = std::string_view::npos);

/// printable() in quotation marks, cut where it is long: for values of attributes.
std::string quoted(std::string_view text);

/// "[512, 256]": a shape, or a place in an array.
std::string bracketed(const std::vector<std::int64_t>& numbers);

/// "16785408 bytes (16.0 MiB)".
std::string show_bytes(std::int64_t bytes);

/// The system's words for an errno value: "Permission denied".
std::string system_text(int error);

}  // namespace bsbr::io
