#include "io/npy_file.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

#include "io/superblock.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

constexpr std::string_view magic("\x93NUMPY", 6);
constexpr std::int64_t longest_header = 1 << 16;  // NumPy itself refuses more than 10,000 characters

constexpr const char* damaged_hint = "the file is damaged, or not what its first bytes say";

/// The dictionary of a header: {'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }, in any order.
struct Dictionary {
  std::optional<std::string> description;
  std::optional<bool> column_major;
  std::optional<Extents> shape;
};

/// Reads the dictionary, which is written as Python does. Throws ContentError for everything that NumPy does not write.
class Parser {
 public:
  explicit Parser(std::string_view text) : m_text(text), m_rest(text) {}

  Dictionary parse() {
    Dictionary found;
    expect('{');
    while (!accept('}')) {
      read_entry(found);
      if (accept(',')) continue;
      expect('}');
      break;
    }
    skip_blanks();
    if (!m_rest.empty() || !found.description || !found.column_major || !found.shape) refuse();
    return found;
  }

 private:
  [[noreturn]] void refuse() const {
    throw ContentError("has the .npy header " + quoted(m_text) + ", which is not one of an array", damaged_hint);
  }

  void skip_blanks() { m_rest.remove_prefix(std::min(m_rest.find_first_not_of(" \n"), m_rest.size())); }

  bool accept(char wanted) {
    skip_blanks();
    if (m_rest.empty() || m_rest.front() != wanted) return false;
    m_rest.remove_prefix(1);
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) refuse();
  }

  bool accept_word(std::string_view word) {
    skip_blanks();
    if (!m_rest.starts_with(word)) return false;
    m_rest.remove_prefix(word.size());
    return true;
  }

  std::string read_text() {
    skip_blanks();
    const std::size_t end = m_rest.empty() || (m_rest.front() != '\'' && m_rest.front() != '"')
                                ? std::string_view::npos
                                : m_rest.find(m_rest.front(), 1);
    if (end == std::string_view::npos) refuse();
    const std::string text(m_rest.substr(1, end - 1));
    m_rest.remove_prefix(end + 1);
    return text;
  }

  std::int64_t read_extent() {
    skip_blanks();
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(m_rest.data(), m_rest.data() + m_rest.size(), extent);
    if (error != std::errc() || extent < 0) refuse();
    m_rest.remove_prefix(static_cast<std::size_t>(end - m_rest.data()));
    accept_word("L");  // Python 2
    return extent;
  }

  Extents read_shape() {
    Extents shape;
    expect('(');
    while (!accept(')')) {
      shape.push_back(read_extent());
      if (accept(',')) continue;
      expect(')');
      break;
    }
    return shape;
  }

  void read_entry(Dictionary& found) {
    const std::string key = read_text();
    expect(':');
    if (key == "descr") {
      skip_blanks();
      if (m_rest.starts_with('['))
        throw ContentError("holds records, ids are integers", "save the field of the ids by itself");
      found.description = read_text();
    } else if (key == "fortran_order") {
      const bool yes = accept_word("True");
      if (!yes && !accept_word("False")) refuse();
      found.column_major = yes;
    } else if (key == "shape") {
      found.shape = read_shape();
    } else {
      refuse();
    }
  }

  std::string_view m_text, m_rest;
};

/// Words for a type that is not one of integers.
std::string describe_type(const std::string& description) {
  const std::string kind = description.size() > 1 ? description.substr(1, 1) : "";
  const std::string bits = description.size() > 2 && description[2] >= '1' && description[2] <= '9'
                               ? std::to_string(8 * std::stoi(description.substr(2, 3))) + "-bit "
                               : "";
  if (kind == "f") return bits + "floating-point numbers";
  if (kind == "c") return bits + "complex numbers";
  if (kind == "b") return "booleans";
  if (kind == "O") return "Python objects";
  if (kind == "S" || kind == "U" || kind == "a") return "text";
  return "elements of type " + quoted(description);
}

std::int64_t decode(const unsigned char* bytes, int width, bool is_signed, bool big_endian) {
  std::uint64_t bits = 0;
  for (int i = 0; i < width; ++i) bits = bits << 8U | bytes[big_endian ? i : width - 1 - i];
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!is_signed) return static_cast<std::int64_t>(std::min(bits, most));
  const unsigned unused = 64U - 8U * static_cast<unsigned>(width);
  return static_cast<std::int64_t>(bits << unused) >> unused;
}

}  // namespace

bool is_npy(const Descriptor& file) {
  std::array<char, magic.size()> begin{};
  return file.read(0, begin.data(), begin.size()) == static_cast<std::int64_t>(begin.size()) &&
         std::string_view(begin.data(), begin.size()) == magic;
}

NpyFile::NpyFile(const std::string& path) : m_file(path, O_RDONLY, "cannot be read") { read_header(); }

void NpyFile::read_header() {
  std::array<char, 12> fixed{};  // magic, version (1 + 1), length of the header (2, from version 2 on 4)
  const std::int64_t bytes = m_file.size(), there = m_file.read(0, fixed.data(), fixed.size());
  const int version = static_cast<unsigned char>(fixed[6]);
  const std::size_t width = version == 1 ? 2 : 4;
  m_begin = static_cast<std::int64_t>(8 + width);
  if (there < m_begin) throw ContentError("is truncated: it holds " + show_bytes(bytes));
  if (version < 1 || version > 3) {
    throw ContentError("is a .npy file of version " + std::to_string(version) + ", versions 1 to 3 are read",
                       damaged_hint);
  }
  const auto length = static_cast<std::int64_t>(little_endian(std::string_view(fixed.data() + 8, width)));
  if (length > longest_header) throw ContentError("has a .npy header of " + show_bytes(length), damaged_hint);
  std::string text(static_cast<std::size_t>(length), '\0');
  if (m_file.read(m_begin, text.data(), length) != length)
    throw ContentError("is truncated: it holds " + show_bytes(bytes));
  m_begin += length;
  const Dictionary header = Parser(text).parse();
  m_column_major = *header.column_major;
  set_type(*header.description);
  set_shape(*header.shape);
  const std::int64_t needed =
      checked_product(checked_product(m_rows, m_length, "the .npy header"), m_width, "the .npy header");
  if (needed > bytes - m_begin) {
    throw ContentError("is truncated: its header promises ids " + bracketed(*header.shape) + ", " + show_bytes(needed) +
                           ", of which it holds " + show_bytes(bytes - m_begin),
                       "the copy or the program that wrote it was interrupted");
  }
}

void NpyFile::set_type(const std::string& description) {
  const bool integer = description.size() == 3 && (description[1] == 'i' || description[1] == 'u');
  const char order = description.empty() ? '\0' : description[0], width = integer ? description[2] : '\0';
  if (std::string_view("1248").find(width) == std::string_view::npos ||
      std::string_view("<>|=").find(order) == std::string_view::npos) {
    throw ContentError("holds " + describe_type(description) + ", ids are integers of 8 to 64 bits");
  }
  m_width = width - '0';
  m_signed = description[1] == 'i';
  m_big_endian = order == '>';
}

void NpyFile::set_shape(const Extents& shape) {
  if (shape.empty() || shape.size() > 2) {
    throw ContentError("has " + std::to_string(shape.size()) + " dimensions, ids are [sequence] or [batch, sequence]");
  }
  if (std::ranges::find(shape, 0) != shape.end()) throw ContentError("is " + bracketed(shape) + ", empty");
  m_dimensions = static_cast<std::int32_t>(shape.size());
  m_rows = shape.size() == 1 ? 1 : shape.front();
  m_length = shape.back();
  m_column_major = m_column_major && m_rows > 1;
}

std::string NpyFile::type() const { return (m_signed ? "int" : "uint") + std::to_string(8 * m_width); }

std::vector<unsigned char> NpyFile::read_bytes(std::int64_t first, std::int64_t count) const {
  std::vector<unsigned char> bytes(static_cast<std::size_t>(count * m_width));
  const auto size = static_cast<std::int64_t>(bytes.size());
  if (m_file.read(m_begin + first * m_width, bytes.data(), size) != size)
    throw ContentError("has become shorter while it was read");
  return bytes;
}

/// Lines, rows or columns, are read together where whole ones are wanted.
void NpyFile::read(const Block& block, std::int64_t* target) const {
  const std::int64_t line = m_column_major ? m_rows : m_length;  // elements from one line to the next
  const std::int64_t lines = m_column_major ? block.positions : block.rows,
                     wanted = m_column_major ? block.rows : block.positions;
  const std::int64_t first = m_column_major ? block.position * line + block.row : block.row * line + block.position;
  const std::int64_t together = wanted == line ? lines : 1;
  for (std::int64_t done = 0; done < lines; done += together) {
    const auto bytes = read_bytes(first + done * line, together * wanted);
    for (std::int64_t i = 0; i < together * wanted; ++i) {
      const std::int64_t number = done + i / wanted, place = i % wanted;
      const std::int64_t at = m_column_major ? place * block.positions + number : number * block.positions + place;
      target[at] = decode(bytes.data() + i * m_width, m_width, m_signed, m_big_endian);
    }
  }
}

}  // namespace bsbr::io
