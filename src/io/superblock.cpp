#include "io/superblock.hpp"

#include <string>

namespace bsbr::io {
namespace {

constexpr std::string_view signature("\211HDF\r\n\032\n", 8);

/// Up to `size` bytes from `offset`.
std::string bytes_at(const Descriptor& file, std::int64_t offset, std::size_t size) {
  std::string bytes(size, '\0');
  bytes.resize(static_cast<std::size_t>(file.read(offset, bytes.data(), static_cast<std::int64_t>(size))));
  return bytes;
}

}  // namespace

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t number = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) number = number << 8U | static_cast<unsigned char>(bytes[i]);
  return number;
}

std::optional<std::int64_t> find_signature(const Descriptor& file, std::int64_t bytes) {
  for (std::int64_t at = 0; at < bytes; at = at == 0 ? 512 : 2 * at) {
    if (bytes_at(file, at, signature.size()) == signature) return at;
  }
  return std::nullopt;
}

bool is_piece_of_signature(const Descriptor& file) {
  return signature.starts_with(bytes_at(file, 0, signature.size()));
}

std::optional<Superblock> read_superblock(const Descriptor& file, std::int64_t bytes) {
  const auto begin = find_signature(file, bytes);
  if (!begin) return std::nullopt;
  const std::string block = bytes_at(file, *begin, 128);
  if (block.size() < 16) return std::nullopt;
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(block[at]); };
  if (byte(8) > newest_superblock) return Superblock{.version = byte(8), .is_open = false, .end = 0, .length_width = 8};
  const bool old = byte(8) < 2;
  const std::size_t width = byte(old ? 13 : 9), length_width = byte(old ? 14 : 10);
  const std::size_t addresses = old ? (byte(8) == 0 ? 24 : 28) : 12;
  if (width < 2 || width > 8 || length_width < 2 || length_width > 8 || addresses + 3 * width > block.size())
    return std::nullopt;
  return Superblock{.version = byte(8),
                    .is_open = byte(8) == 3 && (byte(11) & 1U) != 0,
                    .end = little_endian(std::string_view(block).substr(addresses + 2 * width, width)),
                    .length_width = static_cast<int>(length_width)};
}

}  // namespace bsbr::io
