// Model, token and result files (HDF5): docs/formats.md.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bsbr/model.hpp"

namespace bsbr {

/// The configuration in a model file. Rank 0 reads, all get it. Throws FileError on all ranks, naming the file, the attribute, its value
/// and the rule; also if the file does not hold the weights that the configuration calls for, so that no size is believed.
ModelConfig read_config(const std::string& path, MPI_Comm comm);

/// The weights of a model file (float32 or float64, converted to Real). Everything is validated before anything is allocated: the file's
/// size is the most that a weight may claim; external links, external storage, virtual datasets and filters that are not
/// HDF5's own are refused; so are missing, surplus, wrongly shaped or typed weights, and NaN or infinite numbers.
/// Collective; rank 0 reads, the others get it by broadcast. Throws FileError, MemoryError on all ranks.
template <class Real>
Weights<Real> read_weights(const std::string& path, MPI_Comm comm);

/// Model<Real>(read_weights<Real>(path, comm)).
template <class Real>
Model<Real> read_model(const std::string& path, MPI_Comm comm);

/// Writes a model file (float32, or float64 for Real = double). One process. Appears under its name only when whole. Throws OutputError.
template <class Real>
void write_model(const std::string& path, const Weights<Real>& weights);

/// Where tokens come from: a dataset of an HDF5 file, the array of a .npy file, or the bytes of any other.
struct TokenSource {
  std::string path;     ///< of the file
  std::string dataset;  ///< of an HDF5 file; empty: /inputs/input_ids, else /input_ids
  bool bytes = false;   ///< take the bytes, whatever the file is and whatever the vocabulary

  /// "file.h5:/path" or "file". A file whose whole name exists is taken by its name, colons included.
  static TokenSource parse(const std::string& text);
};

/// How ids are stored.
enum class TokenFormat { hdf5, npy, bytes };

/// "hdf5", "npy", "bytes".
std::string_view to_string(TokenFormat format);

/// The shape of what a token source holds, and how it is stored.
struct TokenShape {
  std::int64_t batch = 0;                   ///< number of sequences
  std::int64_t length = 0;                  ///< tokens of one sequence
  bool has_mask = false;                    ///< whether an attention_mask lies beside the ids
  TokenFormat format = TokenFormat::bytes;  ///< how the file was understood
  std::string dataset = {};                 ///< of an HDF5 file: the path of the ids
  std::string type = {};                    ///< of a stored id: "int32"
  std::string note = {};                    ///< a warning of one line: bytes that are probably not meant as such; empty if there is none
};

/// What a token source holds, checked without reading the ids. Collective; the ranks must see the same. Throws FileError on all ranks
/// (an empty input included; a file that is known to be neither HDF5 nor .npy nor text, such as an archive, unless source.bytes is set).
TokenShape read_token_shape(const TokenSource& source, MPI_Comm comm);

/// Throws FileError if the ids would be bytes but the model's vocabulary is not that of bytes (256), unless source.bytes is set.
void require_byte_vocabulary(const TokenSource& source, const TokenShape& shape, std::int64_t vocab_size);

/// Ids and mask of one rank's part, on the host.
struct Tokens {
  HostArray<std::int32_t**> ids;                  ///< [batch, local tokens]
  std::optional<HostArray<std::uint8_t**>> mask;  ///< [batch, local tokens]
};

/// Reads this rank's part, of the first sequence.length() tokens of each row. Collective. Throws FileError on all ranks, naming the first
/// id outside [0, vocab_size) with its place ([row, position]), or mask value other than 0 and 1; also as require_byte_vocabulary() does.
Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size);

/// Attributes of a result besides the configuration: name → value.
using Attributes = std::map<std::string, std::variant<std::string, std::int64_t, double>>;

/// Writes a result file with all ranks: the format, the configuration, `attributes`, and /hidden_states [batch, length, hidden_dim].
///
/// Made as `<path>.part`, with room for the whole result reserved before the first row is written; `complete` = 1 is written last and
/// the file then renamed to `<path>`. If anything fails nothing is left, and OutputError is thrown on all ranks.
template <class Real>
void write_result(const std::string& path, const ModelConfig& config, const Attributes& attributes, const Sequence& sequence,
                  const Array<const Real***>& hidden_states);

/// Throws OutputError, on all ranks, if `path` surely cannot be written: its folder is missing or not writable, or it is a folder.
/// For programs, to say so before computing.
void check_output_path(const std::string& path, MPI_Comm comm);

/// Removes the unfinished file, `<path>.part`, that this process is making now, if there is one. For signal handlers and the like, before
/// the process ends: it may be called at any time, by any thread.
void remove_unfinished_file() noexcept;

/// The version of the HDF5 library that is in use, "1.10.8".
std::string hdf5_version();

}  // namespace bsbr
