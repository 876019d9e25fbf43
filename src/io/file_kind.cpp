#include "io/file_kind.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <string_view>

namespace bsbr::io {
namespace {

struct Signature {
  std::string_view begin;
  const char *name, *hint;
  std::size_t offset = 0;
};

using namespace std::string_view_literals;

constexpr const char* save_hint = "read it where it was made, and save the ids: numpy.save(\"ids.npy\", ids)";
constexpr const char* pickle_hint =
    "load it where it was made, and save the ids: numpy.save(\"ids.npy\", numpy.asarray(ids))";
constexpr const char* npz_hint =
    "of an .npz save the array of the ids: numpy.save(\"ids.npy\", numpy.load(FILE)[\"input_ids\"])";

constexpr std::array signatures{
    Signature{"version https://git-lfs.github.com/spec/"sv, "a Git LFS pointer",
              "git lfs pull gets the file that it stands for"},
    Signature{"PK\3\4"sv, "a zip archive, as .npz and .pt are", npz_hint},
    Signature{"PK\5\6"sv, "an empty zip archive", npz_hint},
    Signature{"\x1f\x8b\b"sv, "a file compressed by gzip", "gunzip unpacks it"},
    Signature{"1AY&SY"sv, "a file compressed by bzip2", "bunzip2 unpacks it", 4},
    Signature{"\xfd\x37zXZ\0"sv, "a file compressed by xz", "unxz unpacks it"},
    Signature{"\x28\xb5\x2f\xfd"sv, "a file compressed by zstd", "unzstd unpacks it"},
    Signature{"\x04\x22\x4d\x18"sv, "a file compressed by lz4", "unlz4 unpacks it"},
    Signature{"CDF\1"sv, "a netCDF-3 file", "nccopy -k nc4 makes a netCDF-4 file, which is HDF5"},
    Signature{"CDF\2"sv, "a netCDF-3 file", "nccopy -k nc4 makes a netCDF-4 file, which is HDF5"},
    Signature{"CDF\5"sv, "a netCDF-3 file", "nccopy -k nc4 makes a netCDF-4 file, which is HDF5"},
    Signature{"MATLAB 5.0 MAT-file"sv, "a MATLAB 5 file", "save(FILE, \"-v7.3\") in MATLAB writes HDF5"},
    Signature{"\x0e\x03\x13\x01"sv, "an HDF4 file", "h4toh5 makes an HDF5 file of it"},
    Signature{"PAR1"sv, "a Parquet file", save_hint},
    Signature{"ARROW1"sv, "an Arrow file", save_hint},
    Signature{"FEA1"sv, "a Feather file", save_hint},
    Signature{"Obj\1"sv, "an Avro file", save_hint},
    Signature{"SQLite format 3\0"sv, "an SQLite database", save_hint},
    Signature{"\x80\2}"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\2]"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\2c"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\2\x8a\nl\xfc\x9c"sv, "a Python pickle, as old .pt files are", pickle_hint},
    Signature{"\x80\3}"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\3]"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\3c"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\4\x95"sv, "a Python pickle", pickle_hint},
    Signature{"\x80\5\x95"sv, "a Python pickle", pickle_hint},
    Signature{"GGUF"sv, "a GGUF file", "it holds a model, not ids"},
    // The length of its header, in 8 bytes, comes first.
    Signature{"\0\0\0\0{\""sv, "a safetensors file", "it holds weights: convert_weights.py makes a model file of them",
              4},
};

/// Endings of files that hold data to be parsed, not tokens of one byte each.
constexpr std::array<std::string_view, 32> endings{
    ".h5",    ".hdf5",    ".hdf",   ".he5",         ".nc",       ".nc4", ".mat",  ".npy", ".npz", ".pt",     ".pth",
    ".pkl",   ".pickle",  ".bin",   ".dat",         ".gz",       ".bz2", ".xz",   ".zst", ".zip", ".tar",    ".tgz",
    ".jsonl", ".parquet", ".arrow", ".safetensors", ".tfrecord", ".idx", ".json", ".csv", ".tsv", ".feather"};

}  // namespace

std::optional<FileKind> find_file_kind(const Descriptor& file) {
  std::string begin(64, '\0');
  begin.resize(static_cast<std::size_t>(file.read(0, begin.data(), static_cast<std::int64_t>(begin.size()))));
  for (const Signature& one : signatures) {
    if (begin.compare(std::min(one.offset, begin.size()), one.begin.size(), one.begin) == 0)
      return FileKind{one.name, one.hint};
  }
  return std::nullopt;
}

std::string foreign_ending(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::ranges::find(endings, ending) == endings.end() ? "" : ending;
}

}  // namespace bsbr::io
