// The gradient of a layer, which computes the layer again from its input first:
//
//     y = norm1(x);  q k v = y·Wqkvᵀ + b;  r h = (y at chunks' ends)·Wrhᵀ + b;  o = attention(q, k, v, r, h)
//     m = x + o·Woᵀ + b;  z = norm2(m);  a = z·W1ᵀ + b1;  result = m + gelu(a)·W2ᵀ + b2
//
// In training, what W2 and Wo give may go through a dropout before it is added. Its gradient goes through the same one.
// Rows are taken leaf by leaf, since the gradients of weights are sums over leaves (parallel/leaves.hpp).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bsbr/gradient.hpp"
#include "bsbr/model.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/row_sums.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "model/gradient_parts.hpp"
#include "model/modules.hpp"
#include "parallel/leaf_sums.hpp"

namespace bsbr {

/// The tokens of one leaf, all of them on this rank: rows [first, first + count) of a sequence of the batch, counted
/// from this rank's first token; and its chunks likewise.
struct LeafRows {
  std::int64_t index;  // among all leaves, of the first batch if there are several
  std::int64_t batch, first, count;
  std::int64_t first_chunk, chunks;
};

/// A leaf's part of an array [batch, rows], or of one [batch, rows, width].
template <class Number>
Array<Number*> leaf_rows(const Array<Number**>& rows, const LeafRows& leaf) {
  return Array<Number*>(rows.data() + leaf.batch * static_cast<std::int64_t>(rows.extent(1)) + leaf.first,
                        static_cast<std::size_t>(leaf.count));
}
template <class Number>
Array<Number**> leaf_rows(const Array<Number***>& rows, const LeafRows& leaf) {
  const auto width = static_cast<std::int64_t>(rows.extent(2)), count = static_cast<std::int64_t>(rows.extent(1));
  return Array<Number**>(rows.data() + (leaf.batch * count + leaf.first) * width, static_cast<std::size_t>(leaf.count),
                         static_cast<std::size_t>(width));
}

/// Rows as a batch of one sequence.
template <class Number>
Array<Number**> one_sequence(const Array<Number*>& rows) {
  return Array<Number**>(rows.data(), 1, rows.extent(0));
}
template <class Number>
Array<Number***> one_sequence(const Array<Number**>& rows) {
  return Array<Number***>(rows.data(), 1, rows.extent(0), rows.extent(1));
}

/// The leaves of a batch that this rank has, in their order.
std::vector<LeafRows> local_leaves(const Sequence& sequence, const parallel::Leaves& leaves);

/// What of a layer's forward its gradient needs, besides the layer's input.
template <class Real>
struct LayerActivations {
  Array<Real****> projections;  // [3 or 4, batch, local tokens, attention_dim]: q, k, v and, for gau, the gate
  Array<Real****> retrieval;    // bsbr: [2, batch, local chunks, hidden_dim]: r and h
  Array<Real***> heads;         // [batch, local tokens, attention_dim]: o
  AttentionRecord<Real> record;
  FeedForwardRows<Real> feed_forward;  // m and a, with Recompute::none; empty where they are computed again

  /// Throws MemoryError. The record's arrays are allocated by the first forward.
  LayerActivations(const ModelConfig& config, const Sequence& sequence, Recompute recompute);
  /// With them.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, Recompute recompute);
};

/// The buffers of a layer's gradient for one configuration and one shape of sequence. All layers share them.
template <class Real>
class GradientWorkspace {
 public:
  GradientWorkspace(const ModelConfig& config, const Sequence& sequence, const std::vector<LeafRows>& leaves);
  /// With what the attention allocates in its first gradient.
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, const std::vector<LeafRows>& leaves);

  const Sequence& sequence() const { return m_sequence; }
  const std::vector<LeafRows>& leaves() const { return m_leaves; }

  /// Room for the rows of a leaf, [tokens, hidden_dim], until attention_backward() writes the gradients of projections.
  Array<Real**> spare_rows(std::int64_t tokens) const {
    return Array<Real**>(projection_gradients.data(), static_cast<std::size_t>(tokens), normed.extent(1));
  }

  std::unique_ptr<Attention<Real>> attention;
  Array<Real****> projection_gradients, retrieval_gradients;  // as of LayerActivations
  AttentionGradient<Real> gradient;                           // views of these, and what else the attention has

  /// do: the array of o where the attention's gradient does not read that.
  const Array<Real***>& heads_gradients(const LayerActivations<Real>& activations) const {
    return m_heads_gradients ? *m_heads_gradients : activations.heads;
  }

  // Of one leaf.
  Array<Real**> normed, normed_gradient, middle;  // [tokens, hidden_dim]: z or y, and what it was normed from
  Array<Real**> expanded, activated;              // [tokens, ff_dim]: a, later its gradient; gelu(a)
  Array<Real**> chunk_ends;                       // [chunks, hidden_dim]: y at the last real tokens, and means of y
  kernels::PanelBuffers<Real> panels;
  kernels::OuterProductBuffers<Real> outer;
  kernels::RowSumBuffers<Real> sums;
  kernels::LogitGradientBuffer<Real> logits;  // of a model with a head
  Array<double*> log_sums;                    // [tokens]; likewise

 private:
  Sequence m_sequence;
  std::vector<LeafRows> m_leaves;
  std::optional<Array<Real***>> m_heads_gradients;
};

/// The gradient of one layer.
template <class Real>
class LayerBackward {
 public:
  /// Of layer `index` with these weights. On CPUs its matrices are repacked once more, the other way round.
  LayerBackward(const Weights<Real>& weights, const Layer<Real>& layer, std::int64_t index);
  /// Of the repacked matrices.
  static std::int64_t bytes(const ModelConfig& config);

  /// The weights, which it was made from, have other values: takes them, but for those that it shares with the layer.
  void repack(const Execution& execution);

  /// The forward up to o. Collective over the sequence's communicator.
  /// \param x [batch, local tokens, hidden_dim]: the input of the layer
  void attend(const Execution& execution, const PaddingMask& mask, const GradientWorkspace<Real>& workspace,
              const Array<Real***>& x, LayerActivations<Real>& activations, Profile* profile) const;

  /// The rest of it: x, the input of the layer, becomes its result. Keeps what the activations have room for.
  void finish(const Execution& execution, const GradientWorkspace<Real>& workspace,
              const LayerActivations<Real>& activations, const Array<Real***>& x, Profile* profile,
              const LayerDropout& dropout = {}) const;

  /// The backward pass has three steps. This is the first: from the result to o.
  /// \param x [batch, local tokens, hidden_dim]: the input of the layer; it stays as it is
  /// \param activations of attend() with that input; of finish(), too, where they keep m and a, which are lost
  /// \param gradient [batch, local tokens, hidden_dim]: that of the layer's result, which becomes that of m
  /// \param sums gets those of PartKind::rest
  /// \param first_leaf the workspace's leaves are counted from here
  /// \param dropout as in finish()
  void finish_backward(const Execution& execution, const GradientWorkspace<Real>& workspace, const Array<Real***>& x,
                       const LayerActivations<Real>& activations, const Array<Real***>& gradient,
                       parallel::LeafSums<Real>& sums, std::int64_t first_leaf, Profile* profile,
                       const LayerDropout& dropout = {}) const;

  /// The second: from o to the projections. Collective over the sequence's communicator.
  void attention_backward(const Execution& execution, const PaddingMask& mask, const GradientWorkspace<Real>& workspace,
                          const LayerActivations<Real>& activations, Profile* profile) const;

  /// The third: from the projections to the layer's input.
  /// \param gradient of m, which becomes that of x
  /// \param sums gets those of PartKind::attention
  void project_backward(const Execution& execution, const PaddingMask& mask, const GradientWorkspace<Real>& workspace,
                        const Array<Real***>& x, const Array<Real***>& gradient, parallel::LeafSums<Real>& sums,
                        std::int64_t first_leaf, Profile* profile) const;

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void expand(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
              const Array<Real***>& heads, const Array<Real***>& x, const LayerDropout& dropout) const;
  void contract_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace,
                         const Array<Real**>& given, const Array<Real**>& expanded) const;
  void heads_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const Array<Real**>& given,
                      const Array<Real**>& target) const;
  void finish_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                       const LayerActivations<Real>& activations, const Array<Real***>& x,
                       const Array<Real***>& gradient, const Array<Real*>& sums, const LayerDropout& dropout) const;
  void norm_rows(const Execution& execution, const Norm<Real>& norm, const Array<Real**>& rows,
                 const Array<Real**>& normed) const;
  void project_gradient(const Execution& execution, const PaddingMask& mask, const GradientWorkspace<Real>& workspace,
                        const LeafRows& leaf, const Array<Real***>& x, const Array<Real***>& gradient,
                        const Array<Real*>& sums) const;
  void take_own_weights(const Execution& execution, const AttentionGradient<Real>& gradient, std::size_t leaf,
                        const Array<Real*>& sums) const;
  void chunk_ends_gradient(const Execution& execution, const PaddingMask& mask,
                           const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                           const Array<Real*>& sums) const;
  void chunk_means_gradient(const Execution& execution, const PaddingMask& mask,
                            const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                            const Array<Real*>& sums) const;

 private:
  template <class Visit>
  void for_each_matrix(const Visit& visit);
  /// Of a layer's weight the place in the sums of a part.
  Array<Real**> matrix(const GradientPart& part, const Array<Real*>& sums, const std::string& name) const;
  Array<Real*> vector(const GradientPart& part, const Array<Real*>& sums, const std::string& name) const;

  Weights<Real> m_weights;
  std::string m_prefix;
  GradientPart m_attention, m_rest;
  std::shared_ptr<const LayerModules<Real>> m_modules;
  kernels::ProductWeight<Real> m_project, m_out, m_expand, m_contract, m_project_chunk_ends,
      m_project_chunk_means;  // transposed
};

}  // namespace bsbr
