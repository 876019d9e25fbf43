#include "io/token_reader.hpp"

#include <fcntl.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "io/dataset.hpp"
#include "io/datatype.hpp"
#include "io/descriptor.hpp"
#include "io/file_kind.hpp"
#include "io/npy_file.hpp"
#include "io/superblock.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

/// A warning about a file whose name promises something else than bytes; empty if there is none.
std::string note_of_bytes(const TokenSource& source) {
  const std::string ending = source.bytes ? "" : foreign_ending(source.path);
  if (ending.empty()) return {};
  return "it is read as bytes although its name ends in " + ending +
         "; save integer ids as .npy or HDF5, or give --bytes";
}

/// The bytes of a file, as one sequence.
class ByteReader : public TokenReader {
 public:
  explicit ByteReader(const TokenSource& source)
      : m_file(source.path, O_RDONLY, "cannot be read"), m_length(m_file.size()), m_note(note_of_bytes(source)) {}

  TokenShape shape() const override {
    return {.batch = 1, .length = m_length, .format = TokenFormat::bytes, .type = "uint8", .note = m_note};
  }
  std::string ids_name() const override { return "holds the byte "; }

  void read_ids(const Block& block, std::int64_t* ids) const override {
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(block.positions));
    if (m_file.read(block.position, bytes.data(), block.positions) != block.positions) {
      throw ContentError("has become shorter while it was read");
    }
    std::copy(bytes.begin(), bytes.end(), ids);
  }

 private:
  Descriptor m_file;
  std::int64_t m_length;
  std::string m_note;
};

/// An array of a .npy file.
class NpyReader : public TokenReader {
 public:
  explicit NpyReader(const std::string& path) : m_file(path) {}

  TokenShape shape() const override {
    return {.batch = m_file.rows(),
            .length = m_file.length(),
            .dimensions = m_file.dimensions(),
            .format = TokenFormat::npy,
            .type = m_file.type()};
  }
  std::string ids_name() const override { return "holds "; }
  bool is_column_major() const override { return m_file.is_column_major(); }
  void read_ids(const Block& block, std::int64_t* ids) const override { m_file.read(block, ids); }

 private:
  NpyFile m_file;
};

/// Datasets of an HDF5 file.
class DatasetReader : public TokenReader {
 public:
  DatasetReader(const std::string& path, const std::string& dataset)
      : m_file(path), m_ids(find_ids(dataset)), m_mask(find_mask()) {}

  TokenShape shape() const override {
    const auto& extents = m_ids.shape();
    return {.batch = extents.size() == 1 ? 1 : extents[0],
            .length = extents.back(),
            .has_mask = m_mask.has_value(),
            .dimensions = static_cast<std::int32_t>(extents.size()),
            .format = TokenFormat::hdf5,
            .dataset = m_ids.path(),
            .type = name_of_integer(m_ids.type())};
  }
  std::string ids_name() const override { return printable(m_ids.path()) + " holds "; }
  std::string mask_name() const override { return printable(m_mask->path()) + " holds "; }
  void read_ids(const Block& block, std::int64_t* ids) const override { read(m_ids, H5T_NATIVE_INT64, block, ids); }
  void read_mask(const Block& block, std::int64_t* mask) const override;

 private:
  Dataset find_ids(const std::string& name) const;
  std::optional<Dataset> find_mask() const;
  static void read(const Dataset& dataset, hid_t memory_type, const Block& block, void* target);

  InputFile m_file;
  Dataset m_ids;
  std::optional<Dataset> m_mask;
};

void check_ids(Dataset& ids) {
  const std::string name = printable(ids.path());
  if (!is_integer(ids.type()))
    throw ContentError(name + " holds " + describe(ids.type()) + ", ids are integers of 8 to 64 bits");
  if (ids.shape().empty() || ids.shape().size() > 2) {
    throw ContentError(name + " is " + bracketed(ids.shape()) + ", ids are [sequence] or [batch, sequence]");
  }
  if (ids.size() == 0) throw ContentError(name + " is " + bracketed(ids.shape()) + ", empty");
  ids.check_storage();
}

Dataset DatasetReader::find_ids(const std::string& name) const {
  const std::vector<std::string> places =
      name.empty() ? std::vector<std::string>{"/inputs/input_ids", "/input_ids"} : std::vector{name};
  for (const std::string& place : places) {
    auto ids = Dataset::find(m_file, place.starts_with('/') ? place : '/' + place);
    if (!ids) continue;
    check_ids(*ids);
    return std::move(*ids);
  }
  if (!name.empty()) throw ContentError("has no dataset " + printable(name));
  throw ContentError("has neither /inputs/input_ids nor /input_ids",
                     "name the dataset of the ids after a colon: file.h5:/path");
}

std::optional<Dataset> DatasetReader::find_mask() const {
  const std::string& ids = m_ids.path();
  auto mask = Dataset::find(m_file, ids.substr(0, ids.rfind('/') + 1) + "attention_mask");
  if (!mask) return std::nullopt;
  const std::string name = printable(mask->path());
  if (!is_integer_or_boolean(mask->type())) {
    throw ContentError(name + " holds " + describe(mask->type()) + ", a mask has integers of 8 to 64 bits or booleans");
  }
  if (mask->shape() != m_ids.shape()) {
    throw ContentError(name + " is " + bracketed(mask->shape()) + ", " + printable(ids) + " is " +
                       bracketed(m_ids.shape()));
  }
  mask->check_storage();
  return mask;
}

void DatasetReader::read_mask(const Block& block, std::int64_t* mask) const {
  if (!is_bit_field(m_mask->type())) return read(*m_mask, H5T_NATIVE_INT64, block, mask);
  std::vector<std::uint8_t> bytes(
      static_cast<std::size_t>(block.rows * block.positions));  // HDF5 does not convert them to integers
  read(*m_mask, H5T_NATIVE_B8, block, bytes.data());
  std::ranges::copy(bytes, mask);
}

void DatasetReader::read(const Dataset& dataset, hid_t memory_type, const Block& block, void* target) {
  if (dataset.shape().size() == 1)
    dataset.read(memory_type, {block.position}, {block.positions}, target);
  else
    dataset.read(memory_type, {block.row, block.position}, {block.rows, block.positions}, target);
}

}  // namespace

std::unique_ptr<TokenReader> open_tokens(const TokenSource& source) {
  const std::int64_t bytes = require_readable(source.path);
  const Descriptor file(source.path, O_RDONLY, "cannot be read");
  if (!source.bytes && find_signature(file, bytes)) return std::make_unique<DatasetReader>(source.path, source.dataset);
  if (!source.dataset.empty()) {
    throw ContentError((source.bytes ? "is read as bytes" : "is not an HDF5 file") +
                       (", so it has no dataset " + printable(source.dataset)));
  }
  if (source.bytes) return std::make_unique<ByteReader>(source);
  if (is_npy(file)) return std::make_unique<NpyReader>(source.path);
  if (const auto kind = find_file_kind(file)) {
    throw ContentError("is " + kind->name + ", whose bytes are not token ids",
                       kind->hint + "; --bytes takes its bytes all the same");
  }
  return std::make_unique<ByteReader>(source);
}

}  // namespace bsbr::io
