// One attention on Views: the part to use in a model of your own.
#pragma once

#include <memory>

#include "bsbr/config.hpp"
#include "bsbr/mask.hpp"
#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// What an attention is given. Projections are the caller's: a Layer makes them from its weights.
template <class Real>
struct AttentionInput {
  Strided<const Real***> query;  ///< [batch, local tokens, num_heads · head_dim]; heads side by side
  Strided<const Real***> key;    ///< the same shape
  Strided<const Real***> value;  ///< the same shape
  Strided<const Real***> gate;   ///< gau: the same shape, before the sigmoid; else empty

  /// bsbr: meta_r_proj at the last real token of each local chunk, [batch, local chunks, num_heads · head_dim]. Where a chunk has no real
  /// token the row is not used.
  Strided<const Real***> retrieval_query;
  Strided<const Real***> retrieval_key;  ///< bsbr: meta_h_proj, in the same way

  Array<const Real**> compress_weight;    ///< bsbr with compression: compress_proj [S, d²], where S = config.state_size(); else empty
  Array<const Real**> decompress_weight;  ///< bsbr with compression: decompress_proj [d², S]; else empty
  Array<const Real*> compress_bias;       ///< bsbr with compression: [S]; else empty
  Array<const Real*> decompress_bias;     ///< bsbr with compression: [d²]; else empty
};

/// The attention of one architecture for one shape of sequence. Its workspace is allocated by the constructor and used by
/// every call of forward, so make one and use it for all layers.
template <class Real>
class Attention {
 public:
  /// Throws ConfigError, ShapeError if the sequence's chunks are not the configuration's, MemoryError. `sequence` may be split over ranks.
  static std::unique_ptr<Attention> create(const ModelConfig& config, const Sequence& sequence);

  virtual ~Attention() = default;

  /// output [batch, local tokens, num_heads · head_dim]: the heads' results, before out_proj. Collective over the sequence's communicator;
  /// work is enqueued on `execution`. `output` must not overlap the input, unless output_may_be_key(). Throws ShapeError,
  /// CommunicationError.
  virtual void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input, const Array<Real***>& output,
                       Profile* profile = nullptr) = 0;

  /// Whether `output` may be the array that `key` is, exactly: keys are then lost. Saves a fifth of a layer's memory.
  virtual bool output_may_be_key() const { return false; }

  /// The mask that counts: the one that is given, or one without padding where the mechanism ignores padding (BSBR's reference
  /// causality). Whoever projects r and h takes the chunks' last real tokens from this one.
  virtual const PaddingMask& effective_mask(const PaddingMask& given) const { return given; }

  /// What the constructor allocates on this rank.
  virtual std::int64_t workspace_bytes() const = 0;

 protected:
  Attention() = default;
};

}  // namespace bsbr
