// State files: streams that are saved, and taken up again on any number of ranks. docs/formats.md, "State files".
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>

#include "bsbr/io.hpp"
#include "bsbr/stream.hpp"

namespace bsbr {

/// What a state file says of its stream.
struct StreamInfo {
  ModelConfig config;                        ///< of the model that was fed
  Precision precision = Precision::float32;  ///< of the run; numbers in the file are float or double
  std::int64_t batch = 0;                    ///< number of sequences
  std::int64_t tokens = 0;                   ///< of each sequence
  std::uint64_t model_hash = 0;              ///< weights_hash() of the model
};

/// Writes a stream, with the hash of the weights of its model. Collective over the stream's communicator; all ranks
/// write at the same time. The file has the same bytes whatever the number of ranks and the pieces that the stream was
/// fed, given the same attributes. It is made as `<path>.part`, with its disk space reserved first, and renamed to
/// `<path>` when all of it is on the disk; if anything fails, nothing is left.
/// \param path of the file
/// \param stream what is written
/// \param weights of the model that the stream was fed to
/// \param attributes of the file, besides: where it comes from, for example
/// \throws OutputError on all ranks if the file cannot be written
/// \throws ShapeError on all ranks if the weights are of another configuration, or a piece of the stream has failed
template <class Real>
void write_stream(const std::string& path, const Stream<Real>& stream, const Weights<Real>& weights,
                  const Attributes& attributes = {});

/// What a state file says of itself. Collective: rank 0 reads, and all ranks get it.
/// \throws FileError on all ranks
StreamInfo read_stream_info(const std::string& path, MPI_Comm comm);

/// Whether a model may go on with a stream, as far as that can be told without its weights.
/// \throws FileError with the first difference, if the stream is of another configuration or precision
void require_stream_of(const std::string& path, const StreamInfo& info, const ModelConfig& config, Precision precision);

/// Reads a stream, to go on with on the ranks of `comm`, whatever ranks have written it: it has the bits of the one
/// that was written. Collective: each rank reads what it needs. Files are untrusted: everything is checked before
/// anything is allocated for it. \param path of the file \param weights of the model that will be fed: the one that the
/// stream was fed to \param comm the ranks that share each piece \throws FileError on all ranks, also if the stream is
/// of another model or of another precision \throws MemoryError on all ranks if there is not enough memory on one
template <class Real>
Stream<Real> read_stream(const std::string& path, const Weights<Real>& weights, MPI_Comm comm);

}  // namespace bsbr
