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

/// Reads the configuration of a model file. Collective: rank 0 reads, and all ranks get it. That the file does hold the
/// weights of this configuration is checked, too, so no size in it needs to be believed. \throws FileError on all
/// ranks, with the file, the attribute, its value and the rule it breaks
ModelConfig read_config(const std::string& path, MPI_Comm comm);

/// Reads the weights of a model file (float32 or float64, converted to Real). Collective: rank 0 reads and broadcasts
/// them. Files are untrusted, so everything is checked before anything is allocated: a weight may not claim more than
/// the file holds; external links, external storage, virtual datasets and filters that are not HDF5's own are refused,
/// and so are missing or surplus weights, other shapes or types, and elements that are NaN or infinite. \throws
/// FileError on all ranks \throws MemoryError on all ranks, if there is not enough memory on one
template <class Real>
Weights<Real> read_weights(const std::string& path, MPI_Comm comm);

/// Model<Real>(read_weights<Real>(path, comm)).
template <class Real>
Model<Real> read_model(const std::string& path, MPI_Comm comm);

/// Writes a model file (float32, or float64 for Real = double). Called by one process. The file gets its name only when
/// it is complete. \throws OutputError if it cannot be written
template <class Real>
void write_model(const std::string& path, const Weights<Real>& weights);

/// Where tokens come from: a dataset of an HDF5 file, the array of a .npy file, or the bytes of any other file.
struct TokenSource {
  std::string path;  ///< path of the file
  std::string
      dataset;         ///< dataset of an HDF5 file; empty: /inputs/input_ids, or /input_ids if there is no such dataset
  bool bytes = false;  ///< read the bytes, whatever the file is and whatever the vocabulary

  /// Parses "file.h5:/dataset" or "file". If a file of the whole name exists, colons included, it is that file.
  static TokenSource parse(const std::string& text);
};

/// How ids are stored.
enum class TokenFormat {
  hdf5,  ///< a dataset of an HDF5 file
  npy,   ///< the array of a NumPy .npy file
  bytes  ///< the bytes of any other file
};

/// \returns "hdf5", "npy" or "bytes"
std::string_view to_string(TokenFormat format);

/// The shape of the tokens of a TokenSource, and how they are stored.
struct TokenShape {
  std::int64_t batch = 0;                   ///< number of sequences
  std::int64_t length = 0;                  ///< tokens of one sequence
  bool has_mask = false;                    ///< whether there is an attention_mask beside the ids
  std::int32_t dimensions = 1;              ///< of the array of ids: 1, [length], or 2, [batch, length]
  TokenFormat format = TokenFormat::bytes;  ///< how the file was read
  std::string dataset = {};                 ///< path of the ids in an HDF5 file
  std::string type = {};                    ///< type of a stored id: "int32"
  std::string note = {};  ///< one-line warning about bytes that are probably not meant as ids; empty if there is none
};

/// Checks a token source and returns its shape, without reading the ids. Collective; all ranks must see the same file.
/// \throws FileError on all ranks, also for an empty input, and for a file that is recognised as neither HDF5 nor .npy
/// nor text (an
///     archive, for example), unless source.bytes is set
TokenShape read_token_shape(const TokenSource& source, MPI_Comm comm);

/// Checks that ids which are bytes fit the model.
/// \throws FileError if the ids are bytes, vocab_size is not 256, and source.bytes is not set
void require_byte_vocabulary(const TokenSource& source, const TokenShape& shape, std::int64_t vocab_size);

/// Ids and mask of this rank's tokens, on the host.
struct Tokens {
  HostArray<std::int32_t**> ids;                  ///< [batch, local tokens]
  std::optional<HostArray<std::uint8_t**>> mask;  ///< [batch, local tokens]; empty if the source has none
};

/// Reads this rank's part of the first sequence.length() tokens of each row. Collective over the sequence's
/// communicator. \throws FileError on all ranks, with the first id outside [0, vocab_size) or mask value other than 0
/// and 1, and its [row, position];
///     also as require_byte_vocabulary() does
Tokens read_tokens(const TokenSource& source, const Sequence& sequence, std::int64_t vocab_size);

/// Reads this rank's part of windows of the one row of a source: sequence `i` of the batch is sequence.length() ids
/// from that at begins[i] on, counted from 0. Windows may overlap. What would be the targets of their tokens is what
/// windows that begin one id later hold. Collective over the sequence's communicator; all ranks pass the same begins.
/// \throws FileError on all ranks, as read_tokens() does, with places in the row of the source; also if it has more
/// rows, or a window does not lie within it \throws ShapeError unless there are sequence.batch() windows
Tokens read_windows(const TokenSource& source, const Sequence& sequence, const std::vector<std::int64_t>& begins,
                    std::int64_t vocab_size);

/// Attributes of a result file besides the configuration: name → value.
using Attributes = std::map<std::string, std::variant<std::string, std::int64_t, double, std::vector<std::int64_t>>>;

/// Writes a result file: the configuration, `attributes`, and /hidden_states [batch, length, hidden_dim]. Collective
/// over the sequence's communicator.
///
/// The file is made as `<path>.part`, with the space of the whole result reserved before the first row is written. The
/// attribute `complete` = 1 is written last, and the file is then renamed to `<path>`. If anything fails, nothing is
/// left. \throws OutputError on all ranks if the file cannot be written
template <class Real>
void write_result(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                  const Sequence& sequence, const Array<const Real***>& hidden_states);

/// Writes the losses of tokens, as write_result writes hidden states: a file of format bsbr-gradients with the
/// configuration, `attributes`, /loss (a scalar) and /token_loss [batch, length], in nats and in double. Collective
/// over the sequence's communicator. \throws OutputError on all ranks if the file cannot be written
void write_token_losses(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                        const Sequence& sequence, double loss, const Array<const double**>& token_losses);

/// The same with the gradient of each weight, `/gradients/<name>`, as /weights of a model file. Collective over the
/// sequence's communicator; rank 0 writes the gradients. \throws OutputError on all ranks if the file cannot be written
template <class Real>
void write_gradients(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                     const Sequence& sequence, double loss, const Array<const double**>& token_losses,
                     const WeightArray<Real>& gradients);

/// Checks before a long computation whether its result can be written: the folder of `path` must exist and be writable,
/// and `path` must not be a folder. Collective. \throws OutputError on all ranks if it cannot
void check_output_path(const std::string& path, MPI_Comm comm);

/// Removes the unfinished file `<path>.part` that this process is writing, if there is one. For signal handlers that
/// end the process: it may be called at any time and from any thread.
void remove_unfinished_file() noexcept;

/// The version of the HDF5 library at run time, such as "1.10.8".
std::string hdf5_version();

}  // namespace bsbr
