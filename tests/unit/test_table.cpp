// Columns of text stay apart.
#include <gtest/gtest.h>

#include "harness/format.hpp"
#include "report/table.hpp"

namespace bsbr::apps {
namespace {

using harness::show_count;

TEST(Table, columns_keep_the_width_that_they_are_given) {
  Table table({{"name", 10, Table::Align::left}, {"count", 8}});
  table.add({"one", "1"});
  EXPECT_EQ(table.text(),
            "  name       count\n"
            "  one            1\n");
}

TEST(Table, cells_wider_than_a_column_are_two_blanks_apart_and_stay_aligned) {
  Table table({{"chunks", 12}, {"tokens", 12}});
  table.add({"1", "2"});
  table.add({show_count(3'906'250'000'000), show_count(1'000'000'000'000)});
  EXPECT_EQ(table.text(),
            "             chunks             tokens\n"
            "                  1                  2\n"
            "  3,906,250,000,000  1,000,000,000,000\n");
}

TEST(Table, headings_are_apart_too_and_lines_have_no_blanks_at_their_end) {
  Table table({{"a long heading", 4}, {"text", 20, Table::Align::left}});
  table.add({"1", "x"});
  EXPECT_EQ(table.text(),
            "  a long heading  text\n"
            "               1  x\n");
}

}  // namespace
}  // namespace bsbr::apps
