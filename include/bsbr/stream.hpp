// Sequences that come in pieces: what a model needs to know of the tokens so far.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bsbr/model.hpp"

namespace bsbr {

/// A batch of sequences that a model is fed piece by piece, from one token at a time to all of them at once. The hidden
/// states have the bits of one forward of the whole, whatever the pieces, on any number of ranks. Copies share arrays:
/// go on with one of them only.
///
/// What a stream holds, of each layer and sequence: standard, hopfield: keys and values of all tokens; sliding_window:
/// of its window; linear, delta_net, gau: a few running states; bsbr: states of all chunks, of which each rank has a
/// part, r and h of all chunks, keys and values of the chunk that has begun, and what it retrieves, which is mixed once
/// a chunk where one rank has all. Besides, the hidden states of the last tokens.
template <class Real>
class Stream {
 public:
  /// A stream of no tokens. Collective over `comm`, which is duplicated.
  /// \param config of the model that will be fed
  /// \param comm the ranks that share each piece
  /// \param batch number of sequences
  /// \param rounding of that model; where it is not said, reserve() gives keys room for what no rounding takes until a
  /// model has been fed
  /// \throws ConfigError if the configuration is not valid, or tokens see later ones: bsbr with a causality other than
  /// causal has no streams
  Stream(const ModelConfig& config, MPI_Comm comm, std::int64_t batch, std::optional<Rounding> rounding = std::nullopt);

  /// A stream that goes on behind `tokens` tokens of each sequence, of which a forward on such ranks has left `states`,
  /// one for each layer, last_states(), last_real() and rounding().
  /// \throws ConfigError as above
  /// \throws ShapeError if the states are not those of so many layers and tokens
  Stream(const ModelConfig& config, MPI_Comm comm, std::int64_t batch, std::int64_t tokens,
         std::vector<AttentionState<Real>> states, const Array<Real**>& last_states,
         std::vector<std::uint8_t> last_real = {}, std::optional<Rounding> rounding = std::nullopt);

  const ModelConfig& config() const { return m_config; }  ///< of the model
  std::int64_t batch() const { return m_last.batch(); }   ///< number of sequences
  std::int64_t tokens() const { return m_last.end(); }    ///< of each sequence so far, padding counted
  MPI_Comm comm() const { return m_last.comm(); }         ///< the duplicated communicator
  const std::vector<AttentionState<Real>>& states() const { return m_states; }  ///< of the layers

  /// Hidden states of the last tokens, after the final norm, from which the next ones are drawn: [batch, hidden_dim],
  /// on all ranks. The next feed() writes others into the array. Empty if there is no token yet.
  const Array<Real**>& last_states() const { return m_last_states; }

  /// [batch], on all ranks: 0 where the last token is padding, of whose hidden states nothing can be drawn; empty: all
  /// are real.
  const std::vector<std::uint8_t>& last_real() const { return m_last_real; }

  /// The shape of the next `length` tokens of each sequence, and this rank's part of them: for feed(), which may be
  /// given others of the same place and ranks. Collective.
  /// \throws ConfigError if the length is negative, or the sequence would be too long
  Sequence next(std::int64_t length) const;

  /// Takes the next tokens. Collective; either all ranks pass a mask or none, which may differ from piece to piece. A
  /// stream on which this has thrown cannot be used any more.
  /// \param execution where the kernels run; it has been fenced when this returns
  /// \param model of the configuration of this stream, and always the same
  /// \param piece next(length)
  /// \param ids [batch, local tokens of the piece]
  /// \param mask [batch, local tokens]: 1 = real token, 0 = padding; empty: no padding
  /// \param profile times and bytes are added to it; may be null
  /// \returns hidden states after the final norm, [batch, local tokens, hidden_dim], as Model::forward does
  /// \throws ShapeError if the piece is not the next one, the model has another configuration, or an earlier call has
  /// thrown; and what Model::forward throws
  Array<Real***> feed(const Execution& execution, Model<Real>& model, const Sequence& piece,
                      const Array<const std::int32_t**>& ids,
                      const std::optional<Array<const std::uint8_t**>>& mask = std::nullopt,
                      Profile* profile = nullptr);

  /// Gives arrays that grow room for `tokens` tokens of each sequence, so that none is copied until then. Without it
  /// they double when they are full. Not collective. \throws MemoryError if there is not enough memory
  void reserve(std::int64_t tokens);

  /// Of the model that has read its tokens, or will; empty where that is not known.
  std::optional<Rounding> rounding() const { return m_rounding; }

  /// Whether it can go on: no piece has failed.
  bool is_whole() const { return m_is_whole; }

  /// Bytes that the states of the layers take on this rank, room for more tokens included.
  std::int64_t bytes() const;

 private:
  void keep_last_tokens(const Execution& execution, const Sequence& piece, const Array<Real***>& hidden_states,
                        const std::optional<Array<const std::uint8_t**>>& mask);

  ModelConfig m_config;
  Sequence m_last;  // what has been fed last, on the stream's own communicator
  std::vector<AttentionState<Real>> m_states;
  Array<Real**> m_last_states;
  std::vector<std::uint8_t> m_last_real;
  std::optional<Rounding> m_rounding;
  bool m_is_whole = true;  // no forward has been given up
};

/// The same stream for rank 0 alone, as decoding token by token wants it: what other ranks have of it is sent there. It
/// shares the other arrays: go on with one of the two only. Collective over the stream's communicator.
/// \returns on rank 0 the stream, whose communicator has this process only; nothing on the others
/// \throws ShapeError on all ranks if a piece of the stream has failed
/// \throws MemoryError on all ranks if there is not enough memory on rank 0
/// \throws CommunicationError if MPI fails or a rank does not respond in time
template <class Real>
std::optional<Stream<Real>> gather_on_first(const Execution& execution, const Stream<Real>& stream);

/// Predicts Stream::bytes() after `tokens` tokens, on the rank `rank` of `ranks`, without padding. Behind pieces
/// without reserve() there may be room for up to twice as many keys, and chunks; and always so where only the keys of a
/// window, or of a chunk that has begun, are kept. 2^60 where it is more than that. Allocates nothing. \throws
/// ConfigError as Stream does
template <class Real>
std::int64_t stream_bytes(const ModelConfig& config, std::int64_t batch, std::int64_t tokens, int ranks = 1,
                          int rank = 0, Rounding rounding = Rounding::none);

/// By how many bytes that grows with each token of every sequence, in the long run. One rank alone: standard, hopfield:
/// 2·D elements a layer and sequence, half as many where packs_rows(); bsbr: (H·S + 2·D) / B, with S elements of a
/// state: d², or what they are compressed to. Others do not grow.
/// \throws ConfigError as Stream does
template <class Real>
double stream_growth(const ModelConfig& config, std::int64_t batch, int ranks = 1, int rank = 0,
                     Rounding rounding = Rounding::none);

/// 64 bits of all weights of a model and their places, by which the state of a stream is known to be this model's: a
/// sum, modulo 2^64, of well-mixed bits of each. Not a protection against forgery.
template <class Real>
std::uint64_t weights_hash(const Weights<Real>& weights);

}  // namespace bsbr
