// Columns of text that stay apart, however long what stands in them is.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bsbr::apps {

/// A table with a line of headings. A column is as wide as its widest cell and the blanks before it, and not narrower
/// than it says itself.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string heading;
    std::size_t least_width = 0;
    Align align = Align::right;
  };

  explicit Table(std::vector<Column> columns) : m_columns(std::move(columns)) {}

  /// One cell for each column.
  void add(std::vector<std::string> cells) { m_rows.push_back(std::move(cells)); }

  bool empty() const { return m_rows.empty(); }

  /// With a line break at the end.
  std::string text() const;

 private:
  std::vector<Column> m_columns;
  std::vector<std::vector<std::string>> m_rows;
};

}  // namespace bsbr::apps
