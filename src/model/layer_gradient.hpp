// The gradient of a layer, which computes the layer again from its input first:
//
//     y = norm1(x);  q k v = y·Wqkvᵀ + b;  r h = (y at chunks' ends)·Wrhᵀ + b;  o = attention(q, k, v, r, h)
//     m = x + o·Woᵀ + b;  z = norm2(m);  a = z·W1ᵀ + b1;  result = m + gelu(a)·W2ᵀ + b2
//
// Rows are taken leaf by leaf, since the gradients of weights are sums over leaves (model/leaves.hpp).
#pragma once

#include <memory>
#include <vector>

#include "bsbr/model.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/row_sums.hpp"
#include "model/gradients.hpp"
#include "model/modules.hpp"
#include "parallel/ordered_sum.hpp"

namespace bsbr {

/// The tokens of one leaf, all of them on this rank: rows [first, first + count) of a sequence of the batch, counted
/// from this rank's first token; and its chunks likewise.
struct LeafRows {
  std::int64_t index;  // among all leaves of the batch
  std::int64_t batch, first, count;
  std::int64_t first_chunk, chunks;
};

/// The leaves of a rank, in their order, and how many there are altogether.
struct LocalLeaves {
  std::vector<LeafRows> rows;
  std::int64_t total;
  std::int64_t most_tokens, most_chunks;  // of a leaf
};

/// The sum over this rank's leaves of gradients [n], in the order of the tree: nodes that others have to join.
template <class Real>
struct AddArrays {
  void operator()(Array<Real*>& left, const Array<Real*>& right) const {
    const Array<Real*> to = left, from = right;
    Kokkos::parallel_for(
        "bsbr::model::join_gradients", Kokkos::RangePolicy<Execution>(Execution(), 0, to.extent(0)),
        KOKKOS_LAMBDA(const std::int64_t i) { to(i) += from(i); });
  }
};
template <class Real>
using GradientSum = parallel::OrderedSum<Array<Real*>, AddArrays<Real>>;

/// The buffers of a layer's gradient for one configuration and one shape of sequence. All layers share them.
template <class Real>
class GradientWorkspace {
 public:
  GradientWorkspace(const ModelConfig& config, const Sequence& sequence, const LocalLeaves& leaves);

  const Sequence& sequence() const { return m_sequence; }
  const LocalLeaves& leaves() const { return m_leaves; }

  std::unique_ptr<Attention<Real>> attention;
  AttentionRecord<Real> record;
  Array<Real****> projections, projection_gradients;  // [3 or 4, batch, local tokens, attention_dim]
  Array<Real****> retrieval, retrieval_gradients;     // bsbr: [2, batch, local chunks, hidden_dim]
  Array<Real***> heads, heads_gradients;              // [batch, local tokens, attention_dim]

  // Of one leaf.
  Array<Real**> normed, normed_gradient, middle;  // [tokens, hidden_dim]: z or y, and what it was normed from
  Array<Real**> expanded, activated;              // [tokens, ff_dim]: a, later its gradient; gelu(a)
  Array<Real**> chunk_ends;                       // [chunks, hidden_dim]: y at the last real tokens
  kernels::PanelBuffers<Real> panels;
  kernels::OuterProductBuffers<Real> outer;
  kernels::RowSumBuffers<Real> sums;

 private:
  Sequence m_sequence;
  LocalLeaves m_leaves;
};

/// The gradient of one layer.
template <class Real>
class LayerGradient {
 public:
  /// Of layer `index` with these weights. On CPUs its matrices are repacked once more, the other way round.
  LayerGradient(const Weights<Real>& weights, const Layer<Real>& layer, std::int64_t index);

  /// Where this layer's weights begin among all, and how many elements they have.
  std::int64_t offset() const { return m_offset; }
  std::int64_t elements() const { return m_elements; }

  /// Collective over the sequence's communicator.
  /// \param x [batch, local tokens, hidden_dim]: the input of the layer; it stays as it is
  /// \param gradient [batch, local tokens, hidden_dim]: that of the layer's result, which becomes that of x
  /// \returns the gradients of this layer's weights: the sums of this rank's leaves, [elements]
  GradientSum<Real> backward(const Execution& execution, const PaddingMask& mask, GradientWorkspace<Real>& workspace,
                             const Array<Real***>& x, const Array<Real***>& gradient, Profile* profile) const;

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void forward_again(const Execution& execution, const PaddingMask& mask, GradientWorkspace<Real>& workspace,
                     const Array<Real***>& x, Profile* profile) const;
  void expand(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
              const Array<Real***>& x) const;
  void contract_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                         const Array<Real***>& gradient) const;
  void heads_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                      const Array<Real***>& gradient) const;
  void finish_gradient(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                       const Array<Real***>& x, const Array<Real***>& gradient, const Array<Real*>& sums) const;
  void norm_rows(const Execution& execution, const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                 const Array<Real***>& x) const;
  void project_gradient(const Execution& execution, const PaddingMask& mask, const GradientWorkspace<Real>& workspace,
                        const LeafRows& leaf, const Array<Real***>& x, const Array<Real***>& gradient,
                        const Array<Real*>& sums) const;
  void chunk_ends_gradient(const Execution& execution, const PaddingMask& mask,
                           const GradientWorkspace<Real>& workspace, const LeafRows& leaf,
                           const Array<Real*>& sums) const;

 private:
  Array<Real**> matrix(const Array<Real*>& sums, const std::string& name) const;
  Array<Real*> vector(const Array<Real*>& sums, const std::string& name) const;

  Weights<Real> m_weights;
  std::string m_prefix;
  std::int64_t m_offset, m_elements;
  std::shared_ptr<const LayerModules<Real>> m_modules;
  kernels::ProductWeight<Real> m_project, m_out, m_expand, m_contract, m_project_chunk_ends;  // transposed
};

}  // namespace bsbr
