// The buffers of a layer: one list of their sizes for allocating and for saying beforehand how much that will be.
#include <algorithm>

#include "attention/attention.hpp"
#include "bsbr/error.hpp"
#include "bsbr/model.hpp"
#include "kernels/panel_chain.hpp"

namespace bsbr {
namespace {

/// Numbers in each buffer of Workspace, and in x.
struct Sizes {
  std::int64_t batch, tokens, chunks;
  std::int64_t projections, heads, retrieval;  // numbers in a row
  std::int64_t panel_width;                    // the widest row of a product

  Sizes(const ModelConfig& config, const Sequence& sequence)
      : batch(sequence.batch()),
        tokens(sequence.local_tokens()),
        chunks(sequence.local_chunks()),
        projections(static_cast<std::int64_t>(input_projections(config.architecture).size()) * config.attention_dim()),
        heads(config.attention_dim()),
        retrieval(config.architecture == Architecture::bsbr ? 2 * config.hidden_dim : 0),
        panel_width(std::max({projections, config.hidden_dim, retrieval, config.ff_dim})) {}
};

template <class Real>
Array<Real***> allocate(const char* label, std::int64_t batch, std::int64_t rows, std::int64_t width) {
  try {
    return Array<Real***>(Kokkos::view_alloc(std::string(label), Kokkos::WithoutInitializing), batch, rows, width);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::string(label) + " [" + std::to_string(batch) + ", " + std::to_string(rows) + ", " +
                      std::to_string(width) + "]: " + error.what());
  }
}

}  // namespace

template <class Real>
Workspace<Real>::Workspace(const ModelConfig& config, const Sequence& sequence) : m_sequence(sequence) {
  attention = Attention<Real>::create(config, sequence);
  const Sizes sizes(config, sequence);
  projections = allocate<Real>("bsbr::layer::projections", sizes.batch, sizes.tokens, sizes.projections);
  heads = allocate<Real>("bsbr::layer::heads", sizes.batch, sizes.tokens, sizes.heads);
  retrieval = allocate<Real>("bsbr::layer::retrieval", sizes.batch, sizes.chunks, sizes.retrieval);
  try {
    panels = std::make_unique<kernels::PanelBuffers<Real>>(sizes.panel_width);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for panels of width " + std::to_string(sizes.panel_width) + ": " + error.what());
  }
}

template <class Real>
Workspace<Real>::~Workspace() = default;

template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence) {
  const Sizes sizes(config, sequence);
  const std::int64_t numbers =
      sizes.batch * (sizes.tokens * (config.hidden_dim + sizes.projections + sizes.heads) + sizes.chunks * sizes.retrieval);
  return numbers * static_cast<std::int64_t>(sizeof(Real)) + kernels::PanelBuffers<Real>::bytes(sizes.panel_width) +
         attention::workspace_bytes<Real>(config, sequence);
}

template class Workspace<float>;
template class Workspace<double>;
template std::int64_t workspace_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t workspace_bytes<double>(const ModelConfig&, const Sequence&);

}  // namespace bsbr
