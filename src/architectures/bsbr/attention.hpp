// Block sparse attention with block retrieval: softmax attention within each chunk, and a retrieval of whole chunks'
// states between them.
#pragma once

#include <memory>
#include <optional>

#include "architectures/bsbr/block_transpose.hpp"
#include "architectures/bsbr/chunk_states.hpp"
#include "architectures/bsbr/earlier_chunks.hpp"
#include "architectures/bsbr/mixing.hpp"
#include "attention/key_halo.hpp"
#include "attention/state_arrays.hpp"
#include "bsbr/attention.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/state_layout.hpp"
#include "kernels/token_softmax.hpp"
#include "kernels/tokens.hpp"
#include "parallel/dealing.hpp"

namespace bsbr::attention {

/// o_t = local_t + q_t G_{c(t)},  G_i = Σ_j softmax_j(r_i·h_j/√d) F_j,  F_j = Σ_s k_sᵀ v_s, and what options make of
/// it: docs/mathematics.md.
///
/// Across ranks: each forms its own chunks' states; they are sent by blocks of columns ("transpose"), so that each rank
/// has some columns of all chunks; it mixes those, and sends the mixed ones back. With more ranks than blocks several
/// ranks have the same columns, and each mixes the rows, chunks, that are dealt to it. r and h of all chunks go to all
/// ranks. Meanwhile each rank computes its within-chunk attention.
template <class Real>
class Bsbr : public Attention<Real> {
 public:
  Bsbr(const ModelConfig& config, const Sequence& sequence, Rounding rounding);

  void move_to(const Sequence& sequence) override;
  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
               AttentionRecord<Real>* record) override;
  void backward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                const AttentionRecord<Real>& record, const Array<Real***>& output,
                const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient,
                Profile* profile) override;

  const PaddingMask& effective_mask(const PaddingMask& given) const override {
    return m_no_padding ? *m_no_padding : given;
  }

  std::int64_t workspace_bytes() const override { return workspace_bytes(m_config, m_sequence, m_rounding); }
  static std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding);
  static std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence);
  static std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence);
  static StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                        Rounding rounding);
  static std::int64_t scratch_bytes(const ModelConfig& config);
  static std::int64_t gradient_scratch_bytes(const ModelConfig& config);

  // The steps, in their order. Public because CUDA's compiler wants functions that hold kernels to be.
  void pack_retrieval(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                      const AttentionState<Real>* state) const;
  void form_compressed_states(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                              const AttentionInput<Real>& input) const;
  void attend_within(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                     const AttentionInput<Real>& input, const Array<Real***>& output, int portion, int portions) const;
  void mix_across_ranks(const Execution& execution, const kernels::KeysAndValues<Real>& keys, const ChunkMarks& marks,
                        const AttentionInput<Real>& input, const Array<Real***>& output, AttentionState<Real>* state,
                        AttentionRecord<Real>* record, Profile* profile) const;
  void mix(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
           AttentionState<Real>* state, AttentionRecord<Real>* record) const;
  void go_on_in_chunk(const Execution& execution, const ChunkMarks& marks, AttentionState<Real>& state) const;
  void keep_mixed_states(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                         AttentionState<Real>& state) const;
  void decompress_last(const Execution& execution, const AttentionInput<Real>& input, const Array<Real*>& kept) const;
  void retrieve_decompressed(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                             const Array<const Real*>& states, const Array<Real***>& output) const;
  void send_log_sums(const Execution& execution, const AttentionRecord<Real>& record, Profile* profile) const;
  void gate_states(const Execution& execution, const AttentionInput<Real>& input) const;
  void retrieve(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                const Array<const Real*>& states, const Array<Real***>& output) const;
  void retrieve_compressed(const Execution& execution, StateForm form, const ChunkMarks& marks,
                           const AttentionInput<Real>& input, const Array<const Real*>& gate,
                           const kernels::HeadRows<Real>& tokens, const Array<const Real*>& mixed,
                           const Strided<Real***>& results) const;

  // Those of the gradient.
  void prepare_within_chunk(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                            const AttentionInput<Real>& input, const Array<Real***>& output_gradient,
                            const AttentionGradient<Real>& gradient) const;
  void within_chunk_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                             const AttentionInput<Real>& input, const Array<Real***>& output_gradient,
                             const AttentionGradient<Real>& gradient, int portion, int portions) const;
  void gate_gradient(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                     const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                     const AttentionGradient<Real>& gradient) const;
  void null_chunk_gradient(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                           const AttentionGradient<Real>& gradient) const;
  void form_mixed_gradients(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                            const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                            const AttentionGradient<Real>& gradient) const;
  void mix_gradients(const Execution& execution, const ChunkMarks& marks, const AttentionRecord<Real>& record) const;
  void mix_gradients_across_ranks(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                  const ChunkMarks& marks, const AttentionInput<Real>& input,
                                  const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                                  const AttentionGradient<Real>& gradient, Profile* profile) const;
  void add_parts(const Execution& execution, const AttentionGradient<Real>& gradient) const;
  void add_sources(const Execution& execution, const ChunkMarks& marks, const AttentionGradient<Real>& gradient) const;
  void retrieval_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys, const ChunkMarks& marks,
                          const AttentionInput<Real>& input, const AttentionRecord<Real>& record,
                          const Array<Real***>& output_gradient, const AttentionGradient<Real>& gradient) const;

  // And those with compression.
  void decompression_gradient(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                              const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                              const AttentionGradient<Real>& gradient) const;
  void compression_gradient(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                            const AttentionGradient<Real>& gradient) const;

  bool output_may_be_key() const override { return output_may_be_key(m_config); }
  bool gradient_reads_output() const override { return gradient_reads_output(m_config); }

  /// Results within chunks are formed anew.
  static bool gradient_reads_output(const ModelConfig&) { return false; }

  /// Chunks that one team takes as a whole. States have been formed by then, and nothing reads keys later.
  static bool output_may_be_key(const ModelConfig& config);

 private:
  struct GradientBuffers;

  kernels::WithinChunk visible() const { return {m_config.causality, m_config.chunk_size, m_sequence.end()}; }
  void reserve_states();
  void reserve(AttentionRecord<Real>& record);
  Range tokens_of(int portion, int portions) const;
  Mixing<Real> mixing_of(const ChunkMarks& marks, const EarlierChunks<Real>& earlier, std::int64_t first_block,
                         std::int64_t count) const;
  void require_retrieval(const AttentionInput<Real>& input) const;
  void require_leaves(const AttentionGradient<Real>& gradient) const;
  void require_projection_leaves(const AttentionGradient<Real>& gradient, std::int64_t leaf_count) const;
  void require_state(const AttentionState<Real>& state) const;
  bool has_mixed_states(const PaddingMask& mask, const AttentionState<Real>& state) const;

  ModelConfig m_config;
  Sequence m_sequence;
  Rounding m_rounding;
  kernels::StateBlocks m_blocks;
  parallel::Dealing m_dealing;  // of blocks, and of the chunks for which they are mixed
  BlockTranspose<Real> m_transpose;
  KeyHalo<Real> m_keys;  // of a chunk that has begun with earlier tokens

  Array<Real*> m_local;   // [block][local chunk][batch][width]: F of this rank's chunks, later G of them
  Array<Real*> m_states;  // the blocks of this rank, all chunks: F, later G. With one rank this is m_local. Where ranks
                          // share blocks: F, later what they send back
  Array<Real*> m_mixed;   // [block of a round][chunk dealt to this rank][batch][width]: G of some blocks
  std::int64_t m_round_blocks = 1;
  Array<Real*> m_retrieval;              // [chunk][batch][r, h]: of all chunks
  kernels::PanelBuffers<Real> m_panels;  // with compression, and what it multiplies with
  kernels::ProductWeight<Real> m_compress, m_decompress;
  std::shared_ptr<GradientBuffers> m_gradient;  // where there has been a gradient
  BlockTranspose<Real> m_log_sums;              // of a record: one for each block and chunk
  Array<Real*> m_mixed_log_sums, m_gathered_log_sums;
  std::optional<PaddingMask> m_no_padding;  // reference: there the mask is ignored
};

}  // namespace bsbr::attention
