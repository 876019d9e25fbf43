// The buffers of a layer: one list of their sizes for allocating and for saying beforehand how much that will be.
#include <algorithm>

#include "architectures/traits.hpp"
#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/scratch.hpp"
#include "model/allocate.hpp"

namespace bsbr {
namespace {

/// Elements in each buffer of Workspace, and in x.
struct Sizes {
  std::int64_t batch, tokens, chunks, hidden, width;
  std::int64_t projections, heads, retrieval;  // arrays of rows of `width` elements; of chunks, of `hidden`
  std::int64_t packed_queries;                 // elements of a row
  std::int64_t panel_width;                    // the widest row of a product

  Sizes(const ModelConfig& config, const Sequence& sequence, bool packed, bool heads_are_separate)
      : batch(sequence.batch()),
        tokens(sequence.local_tokens()),
        chunks(sequence.local_chunks()),
        hidden(config.hidden_dim),
        width(config.attention_dim()),
        projections(static_cast<std::int64_t>(input_projections(config.architecture).size()) - (packed ? 2 : 0)),
        heads(heads_are_separate ? 1 : 0),
        retrieval(static_cast<std::int64_t>(traits(config.architecture).chunk_projections.size())),
        packed_queries(packed ? width / 2 : 0),
        panel_width(std::max({static_cast<std::int64_t>(input_projections(config.architecture).size()) * width, hidden,
                              retrieval * hidden, config.ff_dim})) {}
};

}  // namespace

template <class Real>
Workspace<Real>::Workspace(const ModelConfig& config, const Sequence& sequence, Rounding rounding)
    : m_config(config), m_sequence(sequence), m_rounding(rounding) {
  attention = Attention<Real>::create(config, sequence, rounding);
  const bool packed = packs_rows<Real>(config, rounding);
  const Sizes sizes(config, sequence, packed, !attention->output_may_be_key());
  projections = allocate<Real****>("layer::projections", sizes.projections, sizes.batch, sizes.tokens, sizes.width);
  if (packed)
    packed_queries = allocate<Real***>("layer::packed_queries", sizes.batch, sizes.tokens, sizes.packed_queries);
  m_separate_heads = allocate<Real****>("layer::heads", sizes.heads, sizes.batch, sizes.tokens, sizes.width);
  retrieval = allocate<Real****>("layer::retrieval", sizes.retrieval, sizes.batch, sizes.chunks, sizes.hidden);
  const std::size_t key = packed ? 0 : 1;
  const std::size_t elements = static_cast<std::size_t>(sizes.batch * sizes.tokens * sizes.width);
  heads = Array<Real***>(sizes.heads > 0 ? m_separate_heads.data() : projections.data() + key * elements, sizes.batch,
                         sizes.tokens, sizes.width);
  try {
    panels = std::make_unique<kernels::PanelBuffers<Real>>(sizes.panel_width);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for panels of width " + std::to_string(sizes.panel_width) + ": " + error.what());
  }
}

template <class Real>
void Workspace<Real>::move_to(const Sequence& sequence) {
  attention->move_to(sequence);
  m_sequence = sequence;
}

template <class Real>
Workspace<Real>::~Workspace() = default;

template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
  const Sizes sizes(config, sequence, packs_rows<Real>(config, rounding), !attention::output_may_be_key<Real>(config));
  const std::int64_t elements =
      sizes.batch *
      (sizes.tokens * (sizes.hidden + (sizes.projections + sizes.heads) * sizes.width + sizes.packed_queries) +
       sizes.chunks * sizes.retrieval * sizes.hidden);
  return elements * static_cast<std::int64_t>(sizeof(Real)) + kernels::PanelBuffers<Real>::bytes(sizes.panel_width) +
         attention::workspace_bytes<Real>(config, sequence, rounding) +
         kernels::scratch_in_device_memory(attention::scratch_bytes<Real>(config));
}

template class Workspace<float>;
template class Workspace<double>;
template std::int64_t workspace_bytes<float>(const ModelConfig&, const Sequence&, Rounding);
template std::int64_t workspace_bytes<double>(const ModelConfig&, const Sequence&, Rounding);

}  // namespace bsbr
