// What becomes of names and texts from files before they are shown: one line of UTF-8 that no terminal obeys.
#include <gtest/gtest.h>

#include <string>

#include "io/text.hpp"

namespace bsbr {
namespace {

TEST(Text, PrintableTextStaysAsItIs) {
  EXPECT_EQ(io::printable("größe, 大きさ, 🙂 /a b's"), "größe, 大きさ, 🙂 /a b's");
}

TEST(Text, ControlCharactersAreEscaped) {
  EXPECT_EQ(io::printable("a\nb\r\tc\x1b[31m\x7f"), "a\\nb\\r\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(io::printable("C1 \xc2\x9b"
                          "31m, not \xc2\xa0"),
            "C1 \\xc2\\x9b"
            "31m, not \xc2\xa0");
}

TEST(Text, BytesThatAreNotUtf8AreEscaped) {
  EXPECT_EQ(io::printable("caf\xe9"), "caf\\xe9");                         // Latin-1
  EXPECT_EQ(io::printable("\x80\xff\xc0\x8a."), "\\x80\\xff\\xc0\\x8a.");  // no first bytes
  EXPECT_EQ(io::printable("\xe5\xa4"), "\\xe5\\xa4");                      // ends within a character
  EXPECT_EQ(io::printable("\xc3\nü"), "\\xc3\\nü");
}

TEST(Text, CutsBetweenCharacters) {
  EXPECT_EQ(io::printable("aüb", 2), "a...");
  EXPECT_EQ(io::printable("aüb", 3), "aü...");
  EXPECT_EQ(io::quoted(std::string(100, 'x')), '"' + std::string(60, 'x') + "...\"");
}

}  // namespace
}  // namespace bsbr
