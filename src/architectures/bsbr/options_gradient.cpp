// The gradients of what options add to BSBR: the gate g of the retrieval, o_t = local_t + g q_t G, and the logit ν of
// the null chunk, one number for each head.
//
//     dg = Σ_t do_t·q_t G        over the tokens of a leaf, in their order
//     dν = −Σ_i w_i δ_i          over its chunks, δ_i = ⟨dG_i, G_i⟩, w_i the weight of the null chunk, whose value is 0
//
// The sums are those of leaves of some chunks (AttentionGradient).
#include <string>

#include "architectures/bsbr/attention.hpp"
#include "architectures/bsbr/chunk_leaves.hpp"
#include "architectures/bsbr/chunk_states.hpp"
#include "architectures/bsbr/gradient_buffers.hpp"
#include "bsbr/error.hpp"
#include "kernels/math.hpp"

namespace bsbr::attention {

/// Throws unless the gradients of weights are those of this rank's leaves.
template <class Real>
void Bsbr<Real>::require_leaves(const AttentionGradient<Real>& gradient) const {
  const std::int64_t leaf_chunks = gradient.leaf_chunks;
  if (leaf_chunks < 1) throw ShapeError("leaf_chunks = " + std::to_string(leaf_chunks) + " is below 1");
  if (m_sequence.local_chunks() > 0 && m_sequence.first_chunk() % leaf_chunks != 0) {
    throw ShapeError("the first chunk of rank " + std::to_string(m_sequence.rank()) + ", " +
                         std::to_string(m_sequence.first_chunk()) + ", does not begin a leaf of " +
                         std::to_string(leaf_chunks) + " chunks",
                     "create the sequence with a chunks_together that is a multiple of leaf_chunks");
  }
  const std::int64_t leaves = ChunkLeaves(m_sequence, leaf_chunks).count();
  if (m_config.compression_factor > 0) require_projection_leaves(gradient, leaves);
  const auto require_heads = [&](const char* name, const Array<Real**>& array) {
    if (static_cast<std::int64_t>(array.extent(0)) == leaves &&
        static_cast<std::int64_t>(array.extent(1)) == m_config.num_heads)
      return;
    throw ShapeError("the gradient of " + std::string(name) + " must be [" + std::to_string(leaves) + ", " +
                     std::to_string(m_config.num_heads) + "]");
  };
  if (has_null_chunk(m_config)) require_heads("null_logit", gradient.null_logit);
  if (gates_retrieval(m_config)) require_heads("retrieval_gate", gradient.retrieval_gate);
}

/// dg, and what do is for q_t G: g do, in m_gradient->term. Results q_t G are formed there first, as in the forward.
template <class Real>
void Bsbr<Real>::gate_gradient(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                               const AttentionRecord<Real>& record, const Array<Real***>& output_gradient,
                               const AttentionGradient<Real>& gradient) const {
  const LocalChunks local(m_sequence);
  const Array<Real***> term = m_gradient->term;
  Kokkos::deep_copy(execution, term, Real(0));
  if (m_config.compression_factor > 0) {
    retrieve_compressed(execution, StateForm::plain, marks, input, {}, input.query, record.mixed, term);
  } else {
    apply_states<StateForm::plain, Real>(execution, "bsbr::attention::retrieve", m_blocks, local,
                                         m_sequence.first_token(), input.query, {}, record.mixed, term);
  }
  const std::int64_t heads = m_config.num_heads, origin = m_sequence.first_token();
  const int width = static_cast<int>(m_config.head_dim());
  const Array<const Real*> gate = input.retrieval_gate;
  const Array<Real**> target = gradient.retrieval_gate;
  const ChunkLeaves leaves(m_sequence, gradient.leaf_chunks);
  Kokkos::parallel_for(
      "bsbr::attention::gate_gradient", kernels::team_policy(execution, leaves.count() * heads, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const ChunkLeaf leaf = leaves[member.league_rank() / heads];
        const std::int64_t head = member.league_rank() % heads, first = head * width;
        const std::int64_t begin = local.rows(leaf.first, origin).begin,
                           end = local.rows(leaf.first + leaf.chunks - 1, origin).end;
        Real total = 0;
        for (std::int64_t t = begin; t < end; ++t) {
          const Real* given = &output_gradient(leaf.row, t, first);
          Real* row = &term(leaf.row, t, first);
          total += kernels::sum<Real>(team, width, [&](const int i) { return given[i] * row[i]; });
          kernels::for_each(team, width, [&](const int i) { row[i] = gate(head) * given[i]; });
        }
        kernels::for_each(team, 1, [&](int) { target(leaf.index, head) = total; });
      });
}

/// dν from the log-sums and δ of the local chunks' blocks, in m_gradient->local_kept. A chunk that retrieves nothing
/// has no null chunk either.
template <class Real>
void Bsbr<Real>::null_chunk_gradient(const Execution& execution, const ChunkMarks& marks,
                                     const AttentionInput<Real>& input, const AttentionGradient<Real>& gradient) const {
  const LocalChunks local(m_sequence);
  const std::int64_t heads = m_config.num_heads, chunks = local.count, batch = m_blocks.batch,
                     per_head = m_blocks.per_head, first_chunk = m_sequence.first_chunk();
  const Array<const Real*> kept = m_gradient->local_kept, null_logit = input.null_logit;
  const Array<Real**> target = gradient.null_logit;
  const Causality causality = m_config.causality;
  const ChunkLeaves leaves(m_sequence, gradient.leaf_chunks);
  Kokkos::parallel_for(
      "bsbr::attention::null_chunk_gradient", kernels::team_policy(execution, leaves.count() * heads, 0),
      KOKKOS_LAMBDA(const kernels::TeamMember& member) {
        const auto team = kernels::as_team(member);
        const ChunkLeaf leaf = leaves[member.league_rank() / heads];
        const std::int64_t head = member.league_rank() % heads;
        const Real score = static_cast<Real>(null_logit(head) * kernels::detail::log2_e);
        Real total = 0;
        for (std::int64_t chunk = leaf.first; chunk < leaf.first + leaf.chunks; ++chunk) {
          if (retrieval_source(causality, marks.nearest_real, leaf.row, first_chunk + chunk) < 0) continue;
          const auto place = [&](std::int64_t block) {
            return (((head * per_head + block) * chunks + chunk) * batch + leaf.row) * kept_width;
          };
          Real delta = 0;
          for (std::int64_t block = 0; block < per_head; ++block) delta += kept(place(block) + 1);
          total -= kernels::exp2_nonpositive(score - kept(place(0))) * delta;
        }
        kernels::for_each(team, 1, [&](int) { target(leaf.index, head) = total; });
      });
}

template void Bsbr<float>::require_leaves(const AttentionGradient<float>&) const;
template void Bsbr<float>::gate_gradient(const Execution&, const ChunkMarks&, const AttentionInput<float>&,
                                         const AttentionRecord<float>&, const Array<float***>&,
                                         const AttentionGradient<float>&) const;
template void Bsbr<float>::null_chunk_gradient(const Execution&, const ChunkMarks&, const AttentionInput<float>&,
                                               const AttentionGradient<float>&) const;
template void Bsbr<double>::require_leaves(const AttentionGradient<double>&) const;
template void Bsbr<double>::gate_gradient(const Execution&, const ChunkMarks&, const AttentionInput<double>&,
                                          const AttentionRecord<double>&, const Array<double***>&,
                                          const AttentionGradient<double>&) const;
template void Bsbr<double>::null_chunk_gradient(const Execution&, const ChunkMarks&, const AttentionInput<double>&,
                                                const AttentionGradient<double>&) const;

}  // namespace bsbr::attention
