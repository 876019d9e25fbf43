// Numbers as people read them, and the columns that they stand in.
#pragma once

#include <cstdint>
#include <string>

namespace bsbr::harness {

std::string show_count(std::int64_t count);  ///< "1,048,576"
std::string show_bytes(std::int64_t bytes);  ///< "12.3 GiB"
std::string show_seconds(double seconds);    ///< "1.23 s", "45.6 ms", "789 µs"
std::string show_rate(double flops);         ///< "123 GFLOP/s"
std::string show_digits(double value);       ///< at least three digits: "123", "46.0", "1.50"
std::string show_number(const char* format, double value);

/// "3 ranks", "1 rank"
std::string show_several(std::int64_t count, const std::string& what);

// Columns of text: blanks are added up to a width, nothing is cut.
std::string left(std::string text, std::size_t width);
std::string right(const std::string& text, std::size_t width);

/// Each line broken at spaces where it is longer than `width` columns; lines that begin with a space stay as they are.
std::string wrapped(const std::string& text, std::size_t width);

/// A line of a summary: "  name          value".
std::string row(const std::string& name, const std::string& value);

}  // namespace bsbr::harness
