// The kernels and messages of BSBR, step by step.
#include "architectures/bsbr/attention.hpp"

#include <algorithm>
#include <vector>

#include "architectures/bsbr/chunk_states.hpp"
#include "architectures/bsbr/gradient_buffers.hpp"
#include "attention/attention_class.hpp"
#include "attention/kept_keys.hpp"
#include "attention/overlap.hpp"
#include "bsbr/error.hpp"
#include "config/causality.hpp"
#include "kernels/rows.hpp"
#include "kernels/softmax.hpp"
#include "kernels/softmax_gradient.hpp"
#include "parallel/agree.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {
namespace {

constexpr std::int64_t most_mixed_elements = kernels::tuning::mixed_bytes / static_cast<std::int64_t>(sizeof(double));

/// Blocks over ranks. Where several share a block, the chunks that it is mixed for are dealt out in tiles. Small ones
/// balance the causal triangle, large ones go back in fewer messages; a softmax takes the same time with either.
parallel::Dealing dealing_of(const kernels::StateBlocks& blocks, const Sequence& sequence) {
  const std::int64_t sharers = (sequence.ranks() + blocks.blocks() - 1) / blocks.blocks();
  const std::int64_t tile = std::clamp(sequence.num_chunks() / (sharers * kernels::tuning::mixing_rounds),
                                       std::int64_t{1}, std::int64_t{kernels::tuning::query_tile});
  return {blocks.blocks(), sequence.ranks(), tile};
}

/// Blocks of states, and which rank mixes which.
kernels::StateBlocks blocks_of(const ModelConfig& config, std::int64_t batch) {
  return {config.state_size(), config.num_heads, batch};
}
kernels::StateBlocks blocks_of(const ModelConfig& config, const Sequence& sequence) {
  return blocks_of(config, sequence.batch());
}

template <class Real>
BlockTranspose<Real> transpose_of(const kernels::StateBlocks& blocks, const Sequence& sequence) {
  return {sequence, blocks, dealing_of(blocks, sequence), blocks.width};
}

/// Elements of AttentionState::mixed_states.
std::int64_t mixed_elements(const ModelConfig& config, const kernels::StateBlocks& blocks) {
  return config.compression_factor == 0 ? blocks.elements(blocks.blocks(), 1)
                                        : blocks.batch * blocks.heads * config.head_dim() * config.head_dim();
}

/// Sizes of what the constructor allocates: one list for allocation and prediction.
struct Sizes {
  std::int64_t round_blocks;  // blocks that are mixed at a time
  std::int64_t local, states, mixed, retrieval, panel_width;
  template <class Real>
  Sizes(const ModelConfig& config, const Sequence& sequence, const BlockTranspose<Real>& transpose)
      : local(transpose.local_elements()),
        states(sequence.ranks() > 1 ? transpose.gathered_elements() : 0),
        retrieval(sequence.num_chunks() * sequence.batch() * 2 * config.hidden_dim),
        panel_width(config.compression_factor > 0 ? std::max(config.head_dim() * config.head_dim(), config.state_size())
                                                  : 0) {
    const std::int64_t block = transpose.gathered().blocks.elements(1, sequence.num_chunks());
    round_blocks = std::clamp(most_mixed_elements / std::max<std::int64_t>(1, block), std::int64_t{1},
                              transpose.gathered().block_count);
    mixed = transpose.mixed_elements(round_blocks);
  }
};

/// The first token of the chunk that a rank's first token is in.
parallel::FirstNeeded chunk_begin(const Sequence& sequence) {
  return [=](int rank) { return sequence.first_token_of(rank) / sequence.chunk_size() * sequence.chunk_size(); };
}

}  // namespace

template <class Real>
Bsbr<Real>::Bsbr(const ModelConfig& config, const Sequence& sequence, Rounding rounding)
    : m_config(config),
      m_sequence(sequence),
      m_rounding(rounding),
      m_blocks(blocks_of(config, sequence)),
      m_dealing(dealing_of(m_blocks, sequence)),
      m_transpose(transpose_of<Real>(m_blocks, sequence)),
      m_keys(config, sequence, packs_rows<Real>(config, rounding), chunk_begin(sequence)),
      m_log_sums(sequence, m_blocks, m_dealing, 1) {
  const Sizes sizes(config, sequence, m_transpose);
  reserve_states();
  if (config.compression_factor > 0) {
    m_panels = kernels::PanelBuffers<Real>(sizes.panel_width);
    m_compress = kernels::ProductWeight<Real>(config.state_size(), config.head_dim() * config.head_dim());
    m_decompress = kernels::ProductWeight<Real>(config.head_dim() * config.head_dim(), config.state_size());
  }
  if (config.causality == Causality::reference) m_no_padding.emplace(Execution(), sequence);
}

template <class Real>
void Bsbr<Real>::move_to(const Sequence& sequence) {
  m_sequence = sequence;
  m_dealing = dealing_of(m_blocks, sequence);
  m_transpose = transpose_of<Real>(m_blocks, sequence);
  m_keys.move_to(sequence, chunk_begin(sequence));
  m_log_sums = BlockTranspose<Real>(sequence, m_blocks, m_dealing, 1);
  reserve_states();
  m_gradient.reset();
  if (m_no_padding) m_no_padding.emplace(Execution(), sequence);
}

template <class Real>
void Bsbr<Real>::reserve_states() {
  const Sizes sizes(m_config, m_sequence, m_transpose);
  if (m_sequence.ranks() == 1) m_states = {};  // it is m_local
  attention::reserve(m_local, "local_states", sizes.local);
  if (m_sequence.ranks() > 1)
    attention::reserve(m_states, "states", sizes.states);
  else
    m_states = m_local;
  attention::reserve(m_mixed, "mixed_states", sizes.mixed);
  m_round_blocks = sizes.round_blocks;
  attention::reserve(m_retrieval, "retrieval", sizes.retrieval);
}

template <class Real>
std::int64_t Bsbr<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
  const Sizes sizes(config, sequence, transpose_of<Real>(blocks_of(config, sequence), sequence));
  return (sizes.local + sizes.states + sizes.mixed + sizes.retrieval) * static_cast<std::int64_t>(sizeof(Real)) +
         (config.compression_factor > 0
              ? kernels::PanelBuffers<Real>::bytes(sizes.panel_width) +
                    kernels::ProductWeight<Real>::bytes(config.state_size(), config.head_dim() * config.head_dim()) +
                    kernels::ProductWeight<Real>::bytes(config.head_dim() * config.head_dim(), config.state_size())
              : 0) +
         KeyHalo<Real>::bytes(config, sequence, packs_rows<Real>(config, rounding), chunk_begin(sequence));
}

template <class Real>
StateArrays<Real> Bsbr<Real>::state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens,
                                           Rounding rounding) {
  using State = AttentionState<Real>;
  const kernels::StateBlocks blocks = blocks_of(config, batch);
  const std::int64_t whole = tokens / config.chunk_size, begun = tokens % config.chunk_size == 0 ? 0 : 1;
  StateArrays<Real> arrays(batch, tokens, whole * config.chunk_size,
                           key_elements(config, packs_rows<Real>(config, rounding)));
  arrays.marked_chunks = whole + begun;
  arrays.add({.name = "chunk_states",
              .member = &State::chunk_states,
              .shape = {blocks.blocks(), whole, batch, blocks.width},
              .by_block = true,
              .growing = 1});
  arrays.add({.name = "retrieval",
              .member = &State::retrieval,
              .shape = {whole + begun, batch, 2 * config.hidden_dim},
              .growing = 0});
  arrays.mixed_elements = begun * mixed_elements(config, blocks);
  if (averages_router_keys(config)) arrays.add({"router_sums", &State::router_sums, {begun, batch, config.hidden_dim}});
  return arrays;
}

template <class Real>
std::int64_t Bsbr<Real>::record_bytes(const ModelConfig& config, const Sequence& sequence) {
  const kernels::StateBlocks blocks = blocks_of(config, sequence);
  const auto transpose = transpose_of<Real>(blocks, sequence);
  const std::int64_t states = sequence.ranks() > 1 ? transpose.gathered_elements() : transpose.local_elements(),
                     log_sums =
                         BlockTranspose<Real>(sequence, blocks, dealing_of(blocks, sequence), 1).local_elements();
  return (states + transpose.local_elements() + log_sums) * static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
std::int64_t Bsbr<Real>::gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
  const kernels::StateBlocks blocks = blocks_of(config, sequence);
  const parallel::Dealing dealing = dealing_of(blocks, sequence);
  std::int64_t bytes = GradientBuffers::bytes(config, sequence, blocks, dealing);
  if (sequence.ranks() == 1) return bytes;
  const BlockTranspose<Real> log_sums(sequence, blocks, dealing, 1);
  return bytes + (log_sums.mixed_elements(log_sums.gathered().block_count) + log_sums.gathered_elements()) *
                     static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
std::int64_t Bsbr<Real>::gradient_scratch_bytes(const ModelConfig& config) {
  const auto head = static_cast<int>(config.head_dim());
  const auto block = static_cast<int>(kernels::StateBlocks(config.state_size(), config.num_heads, 1).width);
  return std::max({scratch_bytes(config), kernels::softmax_gradient_scratch_bytes<Real>(head, head),
                   kernels::softmax_gradient_scratch_bytes<Real>(head, block)});
}

template <class Real>
std::int64_t Bsbr<Real>::scratch_bytes(const ModelConfig& config) {
  const auto head = static_cast<int>(config.head_dim());
  const auto block = static_cast<int>(kernels::StateBlocks(config.state_size(), config.num_heads, 1).width);
  const int columns = kernels::state_columns<kernels::StateTile<Real>>(head, head);
  const std::int64_t state = config.compression_factor == 0 ? kernels::StateTile<Real>::bytes(head, columns) : 0;
  return std::max(
      {state, kernels::softmax_scratch_bytes<Real>(head, head), kernels::softmax_scratch_bytes<Real>(head, block)});
}

template <class Real>
bool Bsbr<Real>::output_may_be_key(const ModelConfig& config) {
  const auto head = static_cast<int>(config.head_dim());
  return config.chunk_size <= kernels::most_queries_of_team<Real>(head, head);
}

template <class Real>
void Bsbr<Real>::require_retrieval(const AttentionInput<Real>& input) const {
  const std::int64_t batch = m_sequence.batch(), hidden = m_config.hidden_dim;
  require_rows<Real>("retrieval_query", input.retrieval_query, batch, m_sequence.local_chunks(), hidden);
  require_rows<Real>("retrieval_key", input.retrieval_key, batch, m_sequence.local_chunks(), hidden);
  const auto require_heads = [&](const char* name, const Array<const Real*>& array) {
    if (static_cast<std::int64_t>(array.extent(0)) == m_config.num_heads) return;
    throw ShapeError(std::string(name) + " is [" + std::to_string(array.extent(0)) + "], not [" +
                     std::to_string(m_config.num_heads) + "]");
  };
  if (has_null_chunk(m_config)) require_heads("null_logit", input.null_logit);
  if (gates_retrieval(m_config)) require_heads("retrieval_gate", input.retrieval_gate);
  if (m_config.compression_factor == 0) return;
  const auto state = static_cast<std::size_t>(m_config.state_size()),
             full = static_cast<std::size_t>(m_config.head_dim() * m_config.head_dim());
  if (input.compress_weight.extent(0) != state || input.compress_weight.extent(1) != full ||
      input.compress_bias.extent(0) != state || input.decompress_weight.extent(0) != full ||
      input.decompress_weight.extent(1) != state || input.decompress_bias.extent(0) != full) {
    throw ShapeError("compress_weight and decompress_weight must be [" + std::to_string(state) + ", " +
                     std::to_string(full) + "] and its transpose, with biases of their rows");
  }
}

/// Throws unless the state is that of the chunks before the sequence.
template <class Real>
void Bsbr<Real>::require_state(const AttentionState<Real>& state) const {
  if (m_config.causality != Causality::causal) {
    throw ShapeError("bsbr has a state with causality = causal only: in the others, earlier tokens see later ones",
                     "forward the whole sequence at once");
  }
  require_kept_keys(m_sequence, key_elements(m_config, packs_rows<Real>(m_config, m_rounding)),
                    chunk_begin(m_sequence)(0), state);
  require_chunks(m_sequence, m_transpose.gathered(), m_blocks.batch * 2 * m_config.hidden_dim, state);
}

template <class Real>
void Bsbr<Real>::forward(const Execution& execution, const PaddingMask& given_mask, const AttentionInput<Real>& input,
                         const Array<Real***>& output, Profile* profile, AttentionState<Real>* state,
                         AttentionRecord<Real>* record) {
  const PaddingMask& mask = effective_mask(given_mask);
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, packs_rows<Real>(m_config, m_rounding), mask, input, output, state);
    require_retrieval(input);
    if (state != nullptr) require_state(*state);
    if (record != nullptr) reserve(*record);
  });
  if (m_sequence.length() == 0) return;
  poison_written(execution, input, output, m_local, m_states, m_mixed, m_retrieval);
  const bool compressed = m_config.compression_factor > 0;
  const kernels::KeysAndValues<Real> keys = m_keys.start(execution, mask, input, state, profile);
  m_keys.finish(execution, profile);
  const bool is_mixed = state != nullptr && has_mixed_states(mask, *state);
  const ChunkMarks marks =
      is_mixed ? ChunkMarks{state->real_chunks, {}} : chunk_marks(execution, m_sequence, mask, state);
  {
    const Phase phase(execution, profile, "states");
    pack_retrieval(execution, mask, input, state);
    if (!is_mixed || m_sequence.end() % m_config.chunk_size == 0) {  // else no state is needed yet
      if (compressed) {
        m_compress.assign(execution, input.compress_weight);
        form_compressed_states(execution, keys, input);
      } else {
        const LocalChunks local(m_sequence);
        form_states(execution, "bsbr::attention::form_states", m_blocks, local, keys, m_local);
        if (averages_states(m_config)) average_states(execution, m_blocks, local, keys, m_local);
      }
    }
  }
  if (record != nullptr) clear_padding(execution, m_blocks, LocalChunks(m_sequence), m_local);
  const auto keep_keys = [&] {
    const std::int64_t whole = m_sequence.end() / m_config.chunk_size * m_config.chunk_size;
    m_keys.keep(execution, mask, input, whole, *state, profile);
  };
  if (state != nullptr && !m_keys.are_appended()) keep_keys();  // before the output may take the key's place
  if (m_sequence.ranks() == 1) {
    {
      const Phase phase(execution, profile, "within_chunk");
      attend_within(execution, keys, input, output, 0, 1);
    }
    const Phase phase(execution, profile, "mixing");
    if (is_mixed)
      go_on_in_chunk(execution, marks, *state);
    else
      mix(execution, marks, input, state, record);
  } else {
    mix_across_ranks(execution, keys, marks, input, output, state, record, profile);
  }
  if (state != nullptr) state->tokens = m_sequence.end();
  if (record != nullptr) Kokkos::deep_copy(execution, record->mixed, m_local);
  if (state != nullptr && m_keys.are_appended()) keep_keys();  // not before they have been read
  const Phase phase(execution, profile, "retrieval");
  if (!is_mixed) {
    if (compressed) m_decompress.assign(execution, input.decompress_weight);
    gate_states(execution, input);
    retrieve(execution, marks, input, m_local, output);
    if (state != nullptr) keep_mixed_states(execution, marks, input, *state);
    return;
  }
  if (compressed)
    retrieve_decompressed(execution, marks, input, state->mixed_states, output);
  else
    retrieve(execution, marks, input, state->mixed_states, output);
  if (m_sequence.end() % m_config.chunk_size == 0) state->mixed_states = {};
}

/// Whether G of these tokens is known: that of a chunk which has begun before them, in which all of them are.
template <class Real>
bool Bsbr<Real>::has_mixed_states(const PaddingMask& mask, const AttentionState<Real>& state) const {
  return m_sequence.ranks() == 1 && m_sequence.num_chunks() == 1 && m_sequence.origin() % m_config.chunk_size != 0 &&
         !mask.has_padding() && state.mixed_states.size() > 0;
}

/// What the state keeps of tokens of a chunk of which it knows G: r and h, and F if the chunk ends.
template <class Real>
void Bsbr<Real>::go_on_in_chunk(const Execution& execution, const ChunkMarks& marks,
                                AttentionState<Real>& state) const {
  if (m_sequence.end() % m_config.chunk_size == 0) {
    keep_chunks<Real>(execution, m_sequence, m_transpose.gathered(), m_states, m_retrieval, marks, state);
  } else {
    const parallel::Slice row{m_sequence.earlier_chunks() * static_cast<std::int64_t>(m_retrieval.size()),
                              static_cast<std::int64_t>(m_retrieval.size())};
    Kokkos::deep_copy(execution, parallel::range_of(state.retrieval, row), m_retrieval);
  }
}

/// g G of the chunk that has begun, if one has, in which every sequence has a real token: it goes on with the same
/// marks. m_local: g G of the local chunks, or M.
template <class Real>
void Bsbr<Real>::keep_mixed_states(const Execution& execution, const ChunkMarks& marks,
                                   const AttentionInput<Real>& input, AttentionState<Real>& state) const {
  state.mixed_states = {};
  if (m_sequence.ranks() > 1 || m_sequence.end() % m_config.chunk_size == 0) return;
  const kernels::StateBlocks blocks = m_blocks;
  const auto real = marks.real;
  const std::int64_t rows = blocks.batch, chunks = m_sequence.local_chunks(),
                     last = static_cast<std::int64_t>(real.extent(1)) - 1;
  std::int64_t real_rows = 0;
  Kokkos::parallel_reduce(
      "bsbr::attention::real_rows", Kokkos::RangePolicy<Execution>(execution, 0, rows),
      KOKKOS_LAMBDA(const std::int64_t row, std::int64_t& count) { count += real(row, last); }, real_rows);
  if (real_rows < rows) return;
  state.mixed_states = allocate<Real>("kept_mixed_states", mixed_elements(m_config, blocks));
  if (m_config.compression_factor > 0) return decompress_last(execution, input, state.mixed_states);
  const Array<const Real*> mixed = m_local;
  const Array<Real*> kept = state.mixed_states;
  kernels::copy_rows(
      execution, "bsbr::attention::keep_mixed_states", blocks.blocks() * rows, blocks.width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t block = i / rows, row = i % rows;
        return kernels::RowCopies<Real, 1>{{&mixed(blocks.offset(block, chunks - 1, row, chunks))},
                                           {&kept(blocks.offset(block, 0, row, 1))}};
      });
}

/// m_local: G → g G of the local chunks. With compression M stays, and g is applied where it is decompressed.
template <class Real>
void Bsbr<Real>::gate_states(const Execution& execution, const AttentionInput<Real>& input) const {
  if (!gates_retrieval(m_config) || m_config.compression_factor > 0) return;
  const Array<const Real*> gate = input.retrieval_gate;
  scale_states(
      execution, "bsbr::attention::gate_states", m_blocks, LocalChunks(m_sequence), m_local,
      KOKKOS_LAMBDA(std::int64_t, std::int64_t, std::int64_t head) { return gate(head); });
}

/// o_t += q_t (g G). states: g G of the local chunks, or M of them.
template <class Real>
void Bsbr<Real>::retrieve(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                          const Array<const Real*>& states, const Array<Real***>& output) const {
  const Array<const Real*> gate = gates_retrieval(m_config) ? input.retrieval_gate : Array<const Real*>();
  if (m_config.compression_factor > 0)
    return retrieve_compressed(execution, StateForm::plain, marks, input, gate, {input.query, input.packed}, states,
                               output);
  apply_states<StateForm::plain, Real>(execution, "bsbr::attention::retrieve", m_blocks, LocalChunks(m_sequence),
                                       m_sequence.first_token(), {input.query, input.packed}, {}, states, output);
}

/// F of this rank's chunks → G of them. Every rank mixes some blocks of all chunks:
///
///            my chunks, all blocks              all chunks, my blocks
///     r, h   m_retrieval  ─── to all ranks ──▶  m_retrieval    ╲ hidden by the first half of
///     F      m_local      ───────────────────▶  m_states       ╱ the within-chunk attention
///                                               mix: F → G, in place
///     G      m_local      ◀───────────────────  m_states         hidden by its second half
///
/// With more ranks than blocks a rank has one block, and shares it. F goes to all that share it, and each sends back
/// what it has mixed of my chunks. That comes in another order than m_local's, into m_states, whose F nobody needs any
/// more:
///
///     F      m_local      ── to all sharers ─▶  m_states
///                                               mix: F → G of the chunks dealt to me, in m_mixed
///     G      m_states     ◀───────────────────  m_mixed
///            unpack: m_states → m_local
template <class Real>
void Bsbr<Real>::mix_across_ranks(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                  const ChunkMarks& marks, const AttentionInput<Real>& input,
                                  const Array<Real***>& output, AttentionState<Real>* state,
                                  AttentionRecord<Real>* record, Profile* profile) const {
  constexpr int half = overlap_portions / 2;
  const auto attend = [&](int begin, int end, auto&... messages) {
    const Phase phase(execution, profile, "within_chunk");
    overlap(
        execution, begin, end,
        [&](int portion) { attend_within(execution, keys, input, output, portion, overlap_portions); }, messages...);
  };
  std::optional<parallel::Gather<Real>> retrieval;
  std::unique_ptr<parallel::Exchange<Real>> states, mixed;
  {
    const Phase phase(execution, profile, "exchange");
    retrieval.emplace(execution, m_sequence.comm(), m_retrieval, m_blocks.batch * 2 * m_config.hidden_dim,
                      parallel::slices_of(m_sequence.chunks()));
    states = m_transpose.send(execution, m_local, m_states);
  }
  attend(0, half, *retrieval, *states);
  {
    const Phase phase(execution, profile, "exchange");
    finish(*retrieval, "retrieval_vectors", profile);
    finish(*states, "states", profile);
  }
  {
    const Phase phase(execution, profile, "mixing");
    mix(execution, marks, input, state, record);
  }
  {
    const Phase phase(execution, profile, "exchange");
    mixed = m_transpose.send_back(execution, m_states, m_mixed, m_local);
    if (record != nullptr) send_log_sums(execution, *record, profile);
  }
  attend(half, overlap_portions, *mixed);
  const Phase phase(execution, profile, "exchange");
  finish(*mixed, "states", profile);
  if (!m_transpose.stores()) m_transpose.unpack(execution, m_states, m_local);
}

/// Room for what the gradient needs of a forward.
template <class Real>
void Bsbr<Real>::reserve(AttentionRecord<Real>& record) {
  const auto reserve_array = [](Array<Real*>& array, const char* label, std::size_t count) {
    if (array.size() != count) array = allocate<Real>(label, static_cast<std::int64_t>(count));
  };
  reserve_array(record.states, "recorded_states", m_states.size());
  reserve_array(record.mixed, "recorded_mixed_states", m_local.size());
  reserve_array(record.mixing_log_sums, "recorded_log_sums", static_cast<std::size_t>(m_log_sums.local_elements()));
  if (m_sequence.ranks() == 1) return;
  reserve_array(m_mixed_log_sums, "mixed_log_sums",
                static_cast<std::size_t>(m_log_sums.mixed_elements(m_log_sums.gathered().block_count)));
  reserve_array(m_gathered_log_sums, "gathered_log_sums", static_cast<std::size_t>(m_log_sums.gathered_elements()));
}

/// The log-sums of this rank's chunks from the ranks that have mixed them.
template <class Real>
void Bsbr<Real>::send_log_sums(const Execution& execution, const AttentionRecord<Real>& record,
                               Profile* profile) const {
  const std::int64_t blocks = m_log_sums.gathered().block_count;
  if (m_log_sums.stores()) m_log_sums.store(execution, m_mixed_log_sums, 0, blocks, m_gathered_log_sums);
  const auto messages = m_log_sums.send_back(execution, m_gathered_log_sums, m_mixed_log_sums, record.mixing_log_sums);
  finish(*messages, "mixing_weights", profile);
  if (!m_log_sums.stores()) m_log_sums.unpack(execution, m_gathered_log_sums, record.mixing_log_sums);
}

/// m_retrieval[first chunk + c][batch] = (r, h) of the local chunks. A chunk that has begun with earlier tokens keeps
/// those of its last real token before the sequence, if it has none in it.
template <class Real>
void Bsbr<Real>::pack_retrieval(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
                                const AttentionState<Real>* state) const {
  const std::int64_t batch = m_blocks.batch, hidden = m_config.hidden_dim, first = m_sequence.first_chunk();
  const Array<Real*> retrieval = m_retrieval;
  const auto r = input.retrieval_query, h = input.retrieval_key;
  const auto last_real = mask.last_real();
  const std::int64_t earlier = m_sequence.earlier_chunks();
  const bool goes_on = state != nullptr && first == 0 && m_sequence.origin() % m_config.chunk_size != 0;
  const Array<const Real*> kept = goes_on ? state->retrieval : Array<Real*>();
  kernels::copy_rows(
      execution, "bsbr::attention::pack_retrieval", m_sequence.local_chunks() * batch, hidden,
      KOKKOS_LAMBDA(const std::int64_t i) {
        Real* target = &retrieval((first * batch + i) * 2 * hidden);
        if (goes_on && i < batch && last_real(i, 0) < 0) {
          const Real* before = &kept((earlier * batch + i) * 2 * hidden);
          return kernels::RowCopies<Real, 2>{{before, before + hidden}, {target, target + hidden}};
        }
        return kernels::RowCopies<Real, 2>{{&r(i % batch, i / batch, 0), &h(i % batch, i / batch, 0)},
                                           {target, target + hidden}};
      });
}

/// F_j → compress_proj: one row of the chain is the state of one (chunk, head).
template <class Real>
void Bsbr<Real>::form_compressed_states(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                                        const AttentionInput<Real>& input) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const LocalChunks local(m_sequence);
  const int width = static_cast<int>(m_config.head_dim()), compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const Array<Real*> states = m_local;
  const Array<const Real*> bias = input.compress_bias;
  const bool averages = averages_states(m_config), rounds = m_rounding == Rounding::bfloat16;
  const auto form = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const std::int64_t chunk = index / heads, head = index % heads;
    const Range tokens = local.rows(chunk, keys.origin);
    kernels::form_flat_state(team, keys.keys_of(row, head, width), keys.values_of(row, head, width), keys.mask(row),
                             tokens.begin, tokens.end, state);
    if (averages) average_flat_state(team, keys, row, tokens, width, state);
    if (rounds) kernels::round_to_bfloat16(team, width * width, state);
  };
  const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const auto target = kernels::state_ref(states.data(), blocks, index / heads, row, index % heads, chunks);
    kernels::for_each(team, compressed, [&](const int i) { state[i] += bias(i); });
    target.store(team, 0, compressed, state);
  };
  kernels::panel_chain(execution, "bsbr::attention::compress_states", {blocks.batch, chunks * heads}, m_panels, form,
                       kernels::Stage{m_compress, store});
}

/// The within-chunk attention of one of `portions` portions of the local chunks.
template <class Real>
void Bsbr<Real>::attend_within(const Execution& execution, const kernels::KeysAndValues<Real>& keys,
                               const AttentionInput<Real>& input, const Array<Real***>& output, int portion,
                               int portions) const {
  const Range tokens = tokens_of(portion, portions);
  if (tokens.begin >= tokens.end) return;
  const auto scale = kernels::score_scale<Real>(m_config.head_dim());
  kernels::token_softmax(execution, "bsbr::attention::within_chunk", m_config.num_heads, visible(), scale,
                         {input.query, input.packed}, keys, output, m_sequence.first_token(), tokens.begin, tokens.end,
                         output_may_be_key() ? m_config.chunk_size : 1);
}

/// The tokens of one of `portions` portions of the local chunks.
template <class Real>
Range Bsbr<Real>::tokens_of(int portion, int portions) const {
  const LocalChunks local(m_sequence);
  const Partition chunks{local.count, portions};
  if (chunks.size(portion) == 0) return {0, 0};
  const std::int64_t origin = m_sequence.first_token();
  return {origin + local.rows(chunks.begin(portion), origin).begin,
          origin + local.rows(chunks.end(portion) - 1, origin).end};
}

/// m_states: F → G, some blocks at a time, so that no second set of all states is needed. Where the chunks of a block
/// are dealt out, others need its F, too, and G stays in m_mixed.
/// state: of the earlier chunks, which gets these; may be null.
/// record: gets F and the log-sums; may be null.
template <class Real>
void Bsbr<Real>::mix(const Execution& execution, const ChunkMarks& marks, const AttentionInput<Real>& input,
                     AttentionState<Real>* state, AttentionRecord<Real>* record) const {
  const Array<const Real*> null_logits = has_null_chunk(m_config) ? input.null_logit : Array<const Real*>();
  const EarlierChunks<Real> earlier = earlier_chunks(m_sequence, m_transpose.gathered(), state);
  if (state != nullptr)  // F, which G may take the place of
    keep_chunks<Real>(execution, m_sequence, m_transpose.gathered(), m_states, m_retrieval, marks, *state);
  if (record != nullptr) Kokkos::deep_copy(execution, record->states, m_states);
  const std::int64_t blocks = m_transpose.gathered().block_count;
  for (std::int64_t first = 0; first < blocks; first += m_round_blocks) {
    const std::int64_t count = std::min(m_round_blocks, blocks - first);
    // m_mixed = G of some blocks, for the chunks that were dealt to this rank.
    const Mixing<Real> mixing = mixing_of(marks, earlier, first, count);
    const Retrieval<Real> retrieval{mixing, 0, mixing.dealt.before(m_sequence.num_chunks()), m_mixed, null_logits};
    if (record == nullptr) {
      kernels::softmax<Real>(execution, "bsbr::attention::mix_states", retrieval);
    } else {
      const Array<Real*>& log_sums = m_sequence.ranks() == 1 ? record->mixing_log_sums : m_mixed_log_sums;
      kernels::softmax<Real>(execution, "bsbr::attention::mix_states", RetrievalWithLogSums<Real>{retrieval, log_sums});
    }
    if (m_transpose.stores()) m_transpose.store(execution, m_mixed, first, count, m_states);
  }
}

/// The mixing of some of this rank's blocks.
template <class Real>
Mixing<Real> Bsbr<Real>::mixing_of(const ChunkMarks& marks, const EarlierChunks<Real>& earlier,
                                   std::int64_t first_block, std::int64_t count) const {
  const auto head_width = static_cast<int>(m_config.head_dim());
  return {.scale = kernels::score_scale<Real>(head_width),
          .key_width = head_width,
          .value_width = static_cast<int>(m_blocks.width),
          .groups = m_blocks.batch * count,
          .earlier = earlier,
          .retrieval = m_retrieval,
          .states = m_states,
          .gathered = m_transpose.gathered(),
          .dealt = m_dealing.rows(m_sequence.rank()),
          .first_block = first_block,
          .round_blocks = count,
          .marks = marks,
          .causality = m_config.causality,
          .hidden = m_config.hidden_dim};
}

/// What makes g G, [d²], of a row of decompress_proj: its bias, and the gate.
template <class Real>
struct Decompressed {
  Array<const Real*> bias;  // [d²]
  Array<const Real*> gate;  // [heads]; empty: there is none

  KOKKOS_FUNCTION void finish(const kernels::Team& team, std::int64_t head, Real* state) const {
    const auto size = static_cast<int>(bias.extent(0));
    kernels::for_each(team, size, [&](const int i) { state[i] += bias(i); });
    if (gate.data() != nullptr) kernels::for_each(team, size, [&](const int i) { state[i] *= gate(head); });
  }
};

/// kept [batch][head][d²] = g G of the last local chunk. m_local: M of the local chunks.
template <class Real>
void Bsbr<Real>::decompress_last(const Execution& execution, const AttentionInput<Real>& input,
                                 const Array<Real*>& kept) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const int size = static_cast<int>(m_config.head_dim() * m_config.head_dim()),
            compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const Array<const Real*> mixed = m_local;
  const bool rounds = m_rounding == Rounding::bfloat16;
  const Decompressed<Real> decompressed{input.decompress_bias,
                                        gates_retrieval(m_config) ? input.retrieval_gate : Array<const Real*>()};
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t head, Real* state) {
    kernels::state_ref(mixed.data(), blocks, chunks - 1, row, head, chunks).load(team, 0, compressed, state);
    if (rounds) kernels::round_to_bfloat16(team, compressed, state);
  };
  const auto keep = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t head, Real* state) {
    decompressed.finish(team, head, state);
    kernels::copy(team, size, state, &kept((row * heads + head) * size));
  };
  kernels::panel_chain(execution, "bsbr::attention::decompress_last", {blocks.batch, heads}, m_panels, load,
                       kernels::Stage{m_decompress, keep});
}

/// o_t += q_t (g G) in the chunk that has begun. states: of decompress_last.
template <class Real>
void Bsbr<Real>::retrieve_decompressed(const Execution& execution, const ChunkMarks& marks,
                                       const AttentionInput<Real>& input, const Array<const Real*>& states,
                                       const Array<Real***>& output) const {
  const LocalChunks local(m_sequence);
  const std::int64_t origin = m_sequence.first_token(), heads = m_config.num_heads;
  const int width = static_cast<int>(m_config.head_dim());
  const kernels::HeadRows<Real> query(input.query, input.packed);
  const auto real = marks.real;
  for_each_state(
      execution, "bsbr::attention::retrieve_decompressed", m_blocks, local, 0,
      KOKKOS_LAMBDA(const kernels::Team& team, kernels::Scratch&, std::int64_t row, std::int64_t chunk,
                    std::int64_t head) {
        std::int64_t source = latest_retrieval_source(Causality::causal, local.first + chunk);
        while (source >= 0 && real(row, source) == 0) --source;
        if (source < 0) return;  // nothing to retrieve, without decompress_proj's bias either
        const Range range = local.rows(chunk, origin);
        kernels::apply_flat_state(team, query.of_head(row, head, width), nullptr, range.begin, range.end, width,
                                  &states((row * heads + head) * width * width), &output(row, 0, head * width),
                                  static_cast<std::int64_t>(output.stride(1)));
      });
}

/// M_i → decompress_proj → G_i, applied to its chunk's tokens at once: results_t += tokens_t G, or tokens_t Gᵀ. One row
/// of the chain is the mixed state of one (chunk, head).
/// \param gate [heads]: what G is multiplied by; empty: nothing
/// \param mixed M of the local chunks
template <class Real>
void Bsbr<Real>::retrieve_compressed(const Execution& execution, StateForm form, const ChunkMarks& marks,
                                     const AttentionInput<Real>& input, const Array<const Real*>& gate,
                                     const kernels::HeadRows<Real>& tokens, const Array<const Real*>& mixed,
                                     const Strided<Real***>& results) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const std::int64_t origin = m_sequence.first_token();
  const LocalChunks local(m_sequence);
  const int width = static_cast<int>(m_config.head_dim()), compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const bool rounds = m_rounding == Rounding::bfloat16;
  const Decompressed<Real> decompressed{input.decompress_bias, gate};
  const Causality causality = m_config.causality;
  const auto nearest = marks.nearest_real;
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const auto source = kernels::state_ref(mixed.data(), blocks, index / heads, row, index % heads, chunks);
    source.load(team, 0, compressed, state);
    if (rounds) kernels::round_to_bfloat16(team, compressed, state);
  };
  const auto apply = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const std::int64_t chunk = index / heads, head = index % heads;
    // A chunk that has nothing to retrieve does not get the bias of decompress_proj either.
    if (retrieval_source(causality, nearest, row, local.first + chunk) < 0) return;
    decompressed.finish(team, head, state);
    if (form == StateForm::transposed) kernels::transpose_flat_state(team, width, state);
    const Range range = local.rows(chunk, origin);
    kernels::apply_flat_state(team, tokens.of_head(row, head, width), nullptr, range.begin, range.end, width, state,
                              &results(row, 0, head * width), static_cast<std::int64_t>(results.stride(1)));
  };
  kernels::panel_chain(execution, "bsbr::attention::decompress_states", {blocks.batch, chunks * heads}, m_panels, load,
                       kernels::Stage{m_decompress, apply});
}

template class Bsbr<float>;
template class Bsbr<double>;

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::bsbr>) {
  return class_of<Real, Bsbr<Real>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::bsbr>);
template AttentionClass<double> attention_class(Tag<Architecture::bsbr>);

}  // namespace bsbr::attention
