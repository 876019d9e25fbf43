// One attention on Views: what to use in a model of your own.
#pragma once

#include <memory>

#include "bsbr/config.hpp"
#include "bsbr/mask.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/rounding.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// Whether queries, keys and values are stored in bfloat16: AttentionInput::packed. They are with Rounding::bfloat16,
/// on CPUs, where head_dim is even.
template <class Real>
bool packs_rows(const ModelConfig& config, Rounding rounding);

/// The input of an attention: projections of the hidden states, which a Layer computes with its weights.
template <class Real>
struct AttentionInput {
  Strided<const Real***> query;  ///< [batch, local tokens, num_heads · head_dim]; heads side by side; or `packed`
  Strided<const Real***> key;    ///< the same shape, or `packed`
  Strided<const Real***> value;  ///< the same shape; empty if they are `packed`
  Strided<const Real***> gate;   ///< gau: the same shape, before the sigmoid; else empty

  /// bsbr: r, meta_r_proj at the last real token of each local chunk, [batch, local chunks, num_heads · head_dim]. The
  /// row of a chunk without a real token is not used.
  Strided<const Real***> retrieval_query;
  /// bsbr: h, the same shape: meta_h_proj at the same tokens; with router_key = mean of the mean over the chunk's real
  /// tokens, those before a sequence that goes on within the chunk counted.
  Strided<const Real***> retrieval_key;

  Array<const Real**>
      compress_weight;  ///< bsbr with compression: compress_proj [S, d²], where S = config.state_size(); else empty
  Array<const Real**> decompress_weight;  ///< bsbr with compression: decompress_proj [d², S]; else empty
  Array<const Real*> compress_bias;       ///< bsbr with compression: [S]; else empty
  Array<const Real*> decompress_bias;     ///< bsbr with compression: [d²]; else empty

  Array<const Real*> null_logit;  ///< bsbr with null_chunk: the logit of retrieving nothing, [num_heads]; else empty
  Array<const Real*> retrieval_gate;  ///< bsbr with retrieval_gate: what retrieval is multiplied by, [num_heads]

  /// The output is exactly the array of `key`, and takes its place. Only where Attention::output_may_be_key(); saves a
  /// fifth of a layer's memory, a quarter if keys are packed.
  bool overwrite_key = false;

  /// Queries, keys and values are bfloat16, two of which take the place of a float, the first one the float's first
  /// bytes. `query` is [batch, local tokens, num_heads · head_dim / 2]; `key` is [batch, local tokens, num_heads ·
  /// head_dim], of each head its key and then its value; `value` is empty. Where packs_rows() of the rounding that the
  /// attention was created with.
  bool packed = false;
};

/// What an attention has to know of the tokens that it has seen, for those that come behind them: the state of one
/// layer. Every rank has all of it, but of `chunk_states` its own blocks. An attention fills it in, and goes on with it
/// on the same ranks; a forward that throws leaves it unusable. Copies share the arrays.
template <class Real>
struct AttentionState {
  std::int64_t tokens = 0;     ///< of each sequence, seen so far
  std::int64_t key_row = 0;    ///< elements of `keys` for one token, those of the whole batch
  std::int64_t first_key = 0;  ///< `keys` are those of the tokens [first_key, tokens)
  /// [token][batch][key, value of all heads], and perhaps room for more tokens. Where they are packed each head's value
  /// follows its key: AttentionInput::packed.
  Array<Real*> keys;
  Array<std::uint8_t*> real;  ///< [token][batch], of the same tokens: 0 where it is padding; empty: all are real

  // linear, delta_net, gau: sums and states of segments (docs/architecture.md#across-ranks).
  Array<Real*> sums;  ///< [node][T, A]: of the nodes in the binary expansion of the number of whole segments, by level
  Array<Real*> states;  ///< [node][state]: the states behind these nodes
  Array<Real*> sum;     ///< [T, A] of the segment that has begun; empty if none has
  Array<Real*> state;   ///< the state before the step that has begun in it, or where u does not depend on it before it

  // bsbr. The arrays may have room for more chunks than there are.
  Array<Real*> chunk_states;                ///< [block of this rank][chunk][batch][width]: F of whole chunks
  Array<Real*> retrieval;                   ///< [chunk][batch][r, h]: of all that have begun
  Array<const std::uint8_t**> real_chunks;  ///< [batch, chunk]: of the same, 1 where a chunk has a real token
  /// What the chunk that has begun retrieves, g·G: [block][batch][width], with compression [batch][head][d²]. Empty
  /// where it is not known, and has to be mixed again: where none has begun, or several ranks share the sequence, or a
  /// sequence has no real token in it.
  Array<Real*> mixed_states;

  /// bsbr with router_key = mean, of a chunk that has begun: the sum of the attention's input over its real tokens,
  /// [batch][hidden_dim]. A Layer fills it in, which forms h.
  Array<Real*> router_sums;
};

/// What a forward keeps of one layer for its gradient, besides its input and output. A forward that is given a record
/// allocates the arrays that its attention needs, and fills them in.
template <class Real>
struct AttentionRecord {
  /// standard, hopfield, sliding_window: log₂ Σ_s exp(score_ts) of each query that this rank has worked on, [batch,
  /// heads, queries].
  Array<Real***> log_sums;

  /// linear, delta_net: what their rules keep of each token, [batch, local tokens, elements].
  Array<Real***> kept;

  /// linear, gau with output_norm: what is divided by its root mean square, [batch, local tokens, num_heads ·
  /// head_dim].
  Array<Real***> unnormed;

  // bsbr
  Array<Real*> states;  ///< F of this rank's blocks, all chunks: [rank][block][chunk of that rank][batch][width]
  Array<Real*> mixed;   ///< G of the local chunks, [block][local chunk][batch][width]
  Array<Real*> mixing_log_sums;  ///< log₂ Σ_j exp(r_i·h_j / √d) of the local chunks, [block][local chunk][batch]
};

/// The gradient of a loss with respect to what an attention is given: arrays of the shapes of AttentionInput. An
/// attention writes all of query, key, value and, where it has them, gate, retrieval and the projections of states.
///
/// Gradients of the weights among that are sums over all chunks of the batch. So that their bits do not depend on the
/// number of ranks, an attention sums over leaves only: `leaf_chunks` chunks of one sequence, counted from its first
/// one; the last leaf may have fewer. Each rank's part of a sequence begins with a leaf (Sequence's chunks_together is
/// a multiple of leaf_chunks). The rank's leaves are in the order sequence by sequence of the batch; the caller adds
/// them up, in an order that is a function of their number.
template <class Real>
struct AttentionGradient {
  Strided<Real***> query;            ///< [batch, local tokens, num_heads · head_dim]
  Strided<Real***> key;              ///< the same shape; 0 where a token is padding
  Strided<Real***> value;            ///< the same shape; 0 where a token is padding
  Strided<Real***> gate;             ///< gau: the same shape; else empty
  Strided<Real***> retrieval_query;  ///< bsbr: [batch, local chunks, num_heads · head_dim]; else empty
  Strided<Real***> retrieval_key;    ///< bsbr: the same shape; else empty

  Array<Real***> compress_weight;    ///< bsbr with compression: [batch · local leaves, S, d²]; else empty
  Array<Real***> decompress_weight;  ///< bsbr with compression: [batch · local leaves, d², S]; else empty
  Array<Real**> compress_bias;       ///< bsbr with compression: [batch · local leaves, S]; else empty
  Array<Real**> decompress_bias;     ///< bsbr with compression: [batch · local leaves, d²]; else empty
  Array<Real**> null_logit;          ///< bsbr with null_chunk: [batch · local leaves, num_heads]; else empty
  Array<Real**> retrieval_gate;      ///< bsbr with retrieval_gate: [batch · local leaves, num_heads]; else empty
  std::int64_t leaf_chunks = 1;  ///< bsbr with any of these: chunks of a leaf; 1 or more. With compression the first
                                 ///< gradient with so many allocates rows for one leaf, num_heads · (S + d²)
                                 ///< elements a chunk
};

/// The attention of one architecture for one shape of sequence. Its workspace is allocated once and used by every call
/// of forward, so create one attention and use it for all layers.
template <class Real>
class Attention {
 public:
  /// Creates the attention of config.architecture. Not collective.
  /// \param config a valid configuration
  /// \param sequence the shape of the batch; it may be divided among ranks
  /// \param rounding of queries, keys and values, which may then be packed; with compression, also of the rows that
  /// compress_weight and decompress_weight, rounded as well, are multiplied by
  /// \throws ConfigError if the configuration is not valid
  /// \throws ShapeError if the chunk size of the sequence is not that of the configuration
  /// \throws MemoryError if there is not enough memory
  static std::unique_ptr<Attention> create(const ModelConfig& config, const Sequence& sequence,
                                           Rounding rounding = Rounding::none);

  virtual ~Attention() = default;

  /// Makes it one for another sequence with as many ranks, sequences, and tokens and chunks on this rank, as the next
  /// token of a stream is. What it has allocated serves again, as far as that needs as much. Not collective.
  /// \throws MemoryError if there is not enough memory; it is of no use then
  virtual void move_to(const Sequence& sequence) = 0;

  /// Computes the heads' results, before out_proj. Collective over the sequence's communicator.
  /// \param execution where the kernels are enqueued
  /// \param mask the padding mask of the sequence
  /// \param input projections of this rank's tokens; its arrays may be the same, or overlap each other
  /// \param output [batch, local tokens, num_heads · head_dim]; shares no element with any array of the input, whatever
  /// the architecture and the sizes, unless AttentionInput::overwrite_key says that it is the key. It may lie between
  /// rows of the input
  /// \param profile times and bytes are added to it; may be null
  /// \param state of the tokens before the sequence's origin; it becomes that of all tokens up to the sequence's end.
  /// May be null where the origin is 0: then nothing is kept
  /// \param record becomes what the backward of this forward needs; null: nothing is recorded
  /// \throws ShapeError if extents do not fit, or the output overlaps the input, or is not the key where overwrite_key
  /// says so, or the state is not that of the tokens before the origin
  /// \throws CommunicationError if MPI fails or a rank does not respond in time
  virtual void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                       const Array<Real***>& output, Profile* profile = nullptr, AttentionState<Real>* state = nullptr,
                       AttentionRecord<Real>* record = nullptr) = 0;

  /// Computes the gradient of the input from that of the output. Collective over the sequence's communicator.
  /// \param execution where the kernels are enqueued
  /// \param mask the padding mask of the sequence, as in the forward
  /// \param input what the forward was given; not overwritten since
  /// \param record what the forward has kept of it
  /// \param output what the forward has computed; unless gradient_reads_output(), any array of that shape
  /// \param output_gradient [batch, local tokens, num_heads · head_dim]; unless gradient_reads_output(), it may be the
  /// output's array
  /// \param gradient written, not added to; shares no element with any other array
  /// \param profile times and bytes are added to it; may be null
  /// \throws ShapeError if extents do not fit, or a rank's part does not begin with a leaf
  virtual void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                        const AttentionRecord<Real>& record, const Array<Real***>& output,
                        const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                        Profile* profile = nullptr) = 0;

  /// Whether AttentionInput::overwrite_key may be set. It depends on the configuration: bsbr with chunks of at most 256
  /// tokens, mostly.
  virtual bool output_may_be_key() const { return false; }

  /// Whether backward reads the forward's output. It depends on the configuration: not with bsbr, delta_net, and linear
  /// without a normaliser, so that one array serves for the output and then for its gradient.
  virtual bool gradient_reads_output() const { return true; }

  /// The mask that is used: `given`, or one without padding where the mechanism ignores padding (BSBR's reference
  /// causality). Project r and h at the last real tokens of this mask.
  virtual const PaddingMask& effective_mask(const PaddingMask& given) const { return given; }

  /// Bytes that `create` has allocated on this rank.
  virtual std::int64_t workspace_bytes() const = 0;

 protected:
  Attention() = default;
};

}  // namespace bsbr
