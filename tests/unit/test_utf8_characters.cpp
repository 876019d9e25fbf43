// Text that comes byte by byte: no part of a character is shown, no byte is lost.
#include "generation/utf8_characters.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace bsbr::testing {
namespace {

using apps::Utf8Characters;
using Parts = std::vector<std::string>;

/// What is shown after each byte, and at the end.
Parts shown(const std::string& text) {
  Utf8Characters characters;
  Parts parts;
  for (const char byte : text) parts.push_back(characters.add(std::string_view(&byte, 1)));
  parts.push_back(characters.rest());
  return parts;
}

std::string joined(const Parts& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

TEST(Utf8Characters, are_shown_when_they_are_whole) {
  EXPECT_EQ(shown("a\n"), (Parts{"a", "\n", ""}));
  EXPECT_EQ(shown("\u00e9x"), (Parts{"", "\u00e9", "x", ""}));
  EXPECT_EQ(shown("\u20ac"), (Parts{"", "", "\u20ac", ""}));
  EXPECT_EQ(shown("\U0001f600!"), (Parts{"", "", "", "\U0001f600", "!", ""}));
  EXPECT_EQ(shown(std::string("\0a", 2)), (Parts{std::string("\0", 1), "a", ""}));
}

TEST(Utf8Characters, that_the_text_ends_within_are_shown_at_the_end) {
  EXPECT_EQ(shown("\xe2\x82"), (Parts{"", "", "\xe2\x82"}));
  EXPECT_EQ(shown("\xf0"), (Parts{"", "\xf0"}));
}

TEST(Utf8Characters, of_bytes_that_are_none_pass_through) {
  EXPECT_EQ(shown("\xff\x80\xc0"), (Parts{"\xff", "\x80", "\xc0", ""}));
  EXPECT_EQ(shown("\xe2"
                  "a"),
            (Parts{"",
                   "\xe2"
                   "a",
                   ""}));
  EXPECT_EQ(shown("\xf0\x9f\xe2\x82\xac"), (Parts{"", "", "\xf0\x9f", "", "\xe2\x82\xac", ""}));
  EXPECT_EQ(shown("\x80\x80\x80\x80\x80"), (Parts{"\x80", "\x80", "\x80", "\x80", "\x80", ""}));
}

TEST(Utf8Characters, of_any_bytes_in_any_pieces_lose_none_and_hold_back_three_at_most) {
  std::uint32_t state = 1;
  const auto next = [&] { return (state = state * 1664525 + 1013904223) >> 24; };
  for (int round = 0; round < 200; ++round) {
    Utf8Characters characters;
    std::string all, out;
    for (int piece = 0; piece < 20; ++piece) {
      std::string bytes;
      for (std::uint32_t i = next() % 7; i > 0; --i)
        bytes += static_cast<char>(next() % 3 == 0 ? next() : 0x80 + next() % 128);
      all += bytes;
      out += characters.add(bytes);
      ASSERT_LE(all.size() - out.size(), 3u);
      ASSERT_EQ(all.substr(0, out.size()), out);
    }
    EXPECT_EQ(out + characters.rest(), all);
    EXPECT_EQ(characters.rest(), "");
    EXPECT_EQ(joined(shown(all)), all);
  }
}

}  // namespace
}  // namespace bsbr::testing
