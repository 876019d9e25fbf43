#include "report/table.hpp"

#include <algorithm>

#include "harness/format.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr std::size_t gap = 2;  // blanks between columns, and before the first

}  // namespace

std::string Table::text() const {
  std::vector<std::string> lines(1 + m_rows.size());
  for (std::size_t i = 0; i < m_columns.size(); ++i) {
    const Column& column = m_columns[i];
    std::size_t width = std::max(column.least_width, column.heading.size() + gap);
    for (const auto& cells : m_rows) width = std::max(width, cells[i].size() + gap);
    const auto add = [&](std::string& line, const std::string& cell) {
      line += column.align == Align::right ? right(cell, width) : std::string(gap, ' ') + left(cell, width - gap);
    };
    add(lines.front(), column.heading);
    for (std::size_t j = 0; j < m_rows.size(); ++j) add(lines[j + 1], m_rows[j][i]);
  }
  std::string text;
  for (const std::string& line : lines) text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  return text;
}

}  // namespace bsbr::apps
