// The kernels and messages of BSBR, step by step.
#include "architectures/bsbr/attention.hpp"

#include <algorithm>
#include <vector>

#include "architectures/bsbr/chunk_states.hpp"
#include "attention/attention_class.hpp"
#include "attention/kept_keys.hpp"
#include "attention/overlap.hpp"
#include "bsbr/error.hpp"
#include "config/causality.hpp"
#include "kernels/rows.hpp"
#include "kernels/softmax_tiles.hpp"
#include "kernels/token_softmax.hpp"
#include "parallel/agree.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {
namespace {

using kernels::KeyRange;

/// The chunk at whose last real token r_i is taken; −1 if there is none. nearest_real: that of PaddingMask.
KOKKOS_INLINE_FUNCTION std::int64_t retrieval_source(Causality causality,
                                                     const Array<const std::int64_t**>& nearest_real, std::int64_t row,
                                                     std::int64_t i) {
  const std::int64_t latest = latest_retrieval_source(causality, i);
  return latest < 0 ? -1 : nearest_real(row, latest);
}

/// Retrieval: attention with chunks for tokens, r for queries, h for keys, and one block of all states for values.
/// Groups are (batch, block); the blocks are those of one round, `first_block` and the next ones of this rank's.
/// Queries are the chunks of the sequence that were dealt to this rank, numbered without gaps; keys are all chunks, the
/// earlier ones first.
template <class Real>
struct Retrieval {
  Real scale;
  int key_width, value_width;
  std::int64_t groups, first, last;
  static constexpr std::int64_t neighbours = 1, unit = 1;
  EarlierChunks<Real> earlier;
  Array<const Real*> retrieval;  // [chunk of the sequence][batch][r, h]
  Array<const Real*> states;
  Array<Real*> mixed;  // [block of the round][query][batch][width]
  kernels::GatheredStates gathered;
  parallel::DealtRows dealt;
  std::int64_t first_block, round_blocks;
  ChunkMarks marks;
  Causality causality;
  std::int64_t hidden;

  KOKKOS_FUNCTION KeyRange range(std::int64_t query) const {
    return chunks_seen(causality, chunk(query), earlier.count + gathered.chunks.items);
  }
  KOKKOS_FUNCTION std::int64_t chunk(std::int64_t query) const { return earlier.count + dealt.row(query); }
  KOKKOS_FUNCTION std::int64_t source(std::int64_t row, std::int64_t query) const {
    return retrieval_source(causality, marks.nearest_real, row, chunk(query));
  }
  KOKKOS_FUNCTION int null_keys(std::int64_t) const { return 0; }
  KOKKOS_FUNCTION std::int64_t row(std::int64_t group) const { return group / round_blocks; }
  KOKKOS_FUNCTION std::int64_t block(std::int64_t group) const {
    return first_block + group % round_blocks;
  }  // among this rank's
  KOKKOS_FUNCTION const Real* vector(std::int64_t group, std::int64_t chunk, std::int64_t offset) const {
    const std::int64_t head = (gathered.first_block + block(group)) / gathered.blocks.per_head;
    const std::int64_t element = row(group) * 2 * hidden + offset + head * key_width;
    const std::int64_t chunk_row = gathered.blocks.batch * 2 * hidden;
    return chunk < earlier.count ? &earlier.retrieval(chunk * chunk_row + element)
                                 : &retrieval((chunk - earlier.count) * chunk_row + element);
  }
  KOKKOS_FUNCTION bool has_query(std::int64_t group, std::int64_t i) const { return source(row(group), i) >= 0; }
  KOKKOS_FUNCTION bool has_key(std::int64_t group, std::int64_t j) const { return marks.real(row(group), j) != 0; }
  KOKKOS_FUNCTION const Real* query(std::int64_t group, std::int64_t i) const {
    return vector(group, source(row(group), i), 0);
  }
  KOKKOS_FUNCTION const Real* key(std::int64_t group, std::int64_t j) const { return vector(group, j, hidden); }
  KOKKOS_FUNCTION const Real* value(std::int64_t group, std::int64_t j) const {
    return j < earlier.count ? &earlier.states(gathered.blocks.offset(block(group), j, row(group), earlier.room))
                             : &states(gathered.offset(block(group), j - earlier.count, row(group)));
  }
  KOKKOS_FUNCTION Real* output(std::int64_t group, std::int64_t i) const {
    return &mixed(gathered.blocks.offset(group % round_blocks, i, row(group), last));
  }
};

constexpr std::int64_t most_mixed_elements = kernels::tuning::mixed_bytes / static_cast<std::int64_t>(sizeof(double));

/// Blocks over ranks. Where several share a block, the chunks that it is mixed for are dealt out in tiles. Small ones
/// balance the causal triangle, large ones go back in fewer messages; a softmax takes the same time with either.
parallel::Dealing dealing_of(const kernels::StateBlocks& blocks, const Sequence& sequence) {
  const std::int64_t sharers = (sequence.ranks() + blocks.blocks() - 1) / blocks.blocks();
  const std::int64_t tile = std::clamp(sequence.num_chunks() / (sharers * kernels::tuning::mixing_rounds),
                                       std::int64_t{1}, std::int64_t{kernels::tuning::query_tile});
  return {blocks.blocks(), sequence.ranks(), tile};
}

/// Sizes of what the constructor allocates: one list for allocation and prediction.
struct Sizes {
  std::int64_t round_blocks;  // blocks that are mixed at a time
  std::int64_t local, states, mixed, retrieval, panel_width;
  Sizes(const ModelConfig& config, const Sequence& sequence, const kernels::StateBlocks& blocks,
        const parallel::Dealing& dealing)
      : local(blocks.elements(blocks.blocks(), sequence.local_chunks())),
        retrieval(sequence.num_chunks() * sequence.batch() * 2 * config.hidden_dim),
        panel_width(config.compression_factor > 0 ? std::max(config.head_dim() * config.head_dim(), config.state_size())
                                                  : 0) {
    const std::int64_t own_blocks = dealing.item_count(sequence.rank()), chunks = sequence.num_chunks();
    round_blocks = std::clamp(most_mixed_elements / std::max<std::int64_t>(1, blocks.elements(1, chunks)),
                              std::int64_t{1}, own_blocks);
    states = sequence.ranks() > 1 ? blocks.elements(own_blocks, chunks) : 0;
    if (!dealing.whole_items()) states = std::max(states, local);  // what comes back goes there, too
    mixed = blocks.elements(round_blocks, dealing.rows(sequence.rank()).before(chunks));
  }
};

/// What goes to each rank and comes from it.
struct MixingSlices {
  std::vector<parallel::Slice> blocks_to;    // of m_local: the blocks that the rank mixes
  std::vector<parallel::Slice> chunks_from;  // of m_states: the chunks that the rank has
  // Where chunks are dealt out, on the way back, which begins with m_mixed and ends in m_states:
  std::vector<parallel::Slice> rows_to;    // chunks of that rank, dealt to this one
  std::vector<parallel::Slice> rows_from;  // chunks of this rank, dealt to that one

  MixingSlices(const Sequence& sequence, const kernels::StateBlocks& blocks, const parallel::Dealing& dealing) {
    const int mine = sequence.rank();
    const Partition& chunks = sequence.chunks();
    const std::int64_t block = blocks.elements(1, chunks.size(mine)), row = blocks.elements(1, 1);
    chunks_from = parallel::slices_of(chunks, blocks.elements(dealing.item_count(mine), 1));
    std::int64_t received = 0;
    for (int rank = 0; rank < sequence.ranks(); ++rank) {
      blocks_to.push_back({dealing.first_item(rank) * block, dealing.item_count(rank) * block});
      if (dealing.whole_items()) continue;
      const auto dealt = [&](int worker, int owner) {
        const parallel::DealtRows rows = dealing.rows(worker);
        const std::int64_t first = rows.before(chunks.begin(owner));
        return parallel::Slice{first * row, (rows.before(chunks.end(owner)) - first) * row};
      };
      rows_to.push_back(dealt(mine, rank));
      rows_from.push_back({received, dealt(rank, mine).count});
      received += rows_from.back().count;
    }
  }
};

/// The first token of the chunk that a rank's first token is in.
parallel::FirstNeeded chunk_begin(const Sequence& sequence) {
  return [=](int rank) { return sequence.first_token_of(rank) / sequence.chunk_size() * sequence.chunk_size(); };
}

}  // namespace

template <class Real>
Bsbr<Real>::Bsbr(const ModelConfig& config, const Sequence& sequence)
    : m_config(config),
      m_sequence(sequence),
      m_blocks(config.state_size(), config.num_heads, sequence.batch()),
      m_dealing(dealing_of(m_blocks, sequence)),
      m_gathered{m_blocks, sequence.chunks(), m_dealing.first_item(sequence.rank()),
                 m_dealing.item_count(sequence.rank())},
      m_keys(config, sequence, chunk_begin(sequence)) {
  const Sizes sizes(config, sequence, m_blocks, m_dealing);
  m_local = allocate<Real>("local_states", sizes.local);
  m_states = sequence.ranks() > 1 ? allocate<Real>("states", sizes.states) : m_local;
  m_mixed = allocate<Real>("mixed_states", sizes.mixed);
  m_round_blocks = sizes.round_blocks;
  m_retrieval = allocate<Real>("retrieval", sizes.retrieval);
  if (config.compression_factor > 0) {
    m_panels = kernels::PanelBuffers<Real>(sizes.panel_width);
    m_compress = kernels::ProductWeight<Real>(config.state_size(), config.head_dim() * config.head_dim());
    m_decompress = kernels::ProductWeight<Real>(config.head_dim() * config.head_dim(), config.state_size());
  }
  if (config.causality == Causality::reference) m_no_padding.emplace(Execution(), sequence);
}

template <class Real>
std::int64_t Bsbr<Real>::workspace_bytes(const ModelConfig& config, const Sequence& sequence) {
  const kernels::StateBlocks blocks(config.state_size(), config.num_heads, sequence.batch());
  const Sizes sizes(config, sequence, blocks, dealing_of(blocks, sequence));
  return (sizes.local + sizes.states + sizes.mixed + sizes.retrieval) * static_cast<std::int64_t>(sizeof(Real)) +
         (config.compression_factor > 0
              ? kernels::PanelBuffers<Real>::bytes(sizes.panel_width) +
                    kernels::ProductWeight<Real>::bytes(config.state_size(), config.head_dim() * config.head_dim()) +
                    kernels::ProductWeight<Real>::bytes(config.head_dim() * config.head_dim(), config.state_size())
              : 0) +
         KeyHalo<Real>::bytes(config, sequence, chunk_begin(sequence));
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
  require_kept_keys(m_sequence, m_config.attention_dim(), chunk_begin(m_sequence)(0), state);
  require_chunks(m_sequence, m_gathered, m_blocks.batch * 2 * m_config.hidden_dim, state);
}

template <class Real>
void Bsbr<Real>::forward(const Execution& execution, const PaddingMask& given_mask, const AttentionInput<Real>& input,
                         const Array<Real***>& output, Profile* profile, AttentionState<Real>* state) {
  const PaddingMask& mask = effective_mask(given_mask);
  parallel::agree(execution, m_sequence, profile, [&] {
    require_input(m_config, m_sequence, mask, input, output, state);
    require_retrieval(input);
    if (state != nullptr) require_state(*state);
  });
  if (m_sequence.length() == 0) return;
  poison_written(execution, input, output, m_local, m_states, m_mixed, m_retrieval);
  const bool compressed = m_config.compression_factor > 0;
  const kernels::KeysAndValues<Real> keys = m_keys.start(execution, mask, input, state, profile);
  m_keys.finish(execution, profile);
  const ChunkMarks marks = chunk_marks(execution, m_sequence, mask, state);
  {
    const Phase phase(execution, profile, "states");
    if (compressed) {
      m_compress.assign(execution, input.compress_weight);
      m_decompress.assign(execution, input.decompress_weight);
    }
    pack_retrieval(execution, mask, input, state);
    compressed
        ? form_compressed_states(execution, keys, input)
        : form_states(execution, "bsbr::attention::form_states", m_blocks, LocalChunks(m_sequence), keys, m_local);
  }
  if (state != nullptr) {  // before the output may take the key's place
    const std::int64_t whole = m_sequence.end() / m_config.chunk_size * m_config.chunk_size;
    keep_keys(execution, m_sequence, mask, input, whole, *state, profile);
  }
  if (m_sequence.ranks() == 1) {
    {
      const Phase phase(execution, profile, "within_chunk");
      attend_within(execution, keys, input, output, 0, 1);
    }
    const Phase phase(execution, profile, "mixing");
    mix(execution, marks, state);
  } else {
    mix_across_ranks(execution, keys, marks, input, output, state, profile);
  }
  if (state != nullptr) state->tokens = m_sequence.end();
  const Phase phase(execution, profile, "retrieval");
  if (compressed) {
    retrieve_compressed(execution, marks, input, output);
  } else {
    apply_states<StateForm::plain, Real>(execution, "bsbr::attention::retrieve", m_blocks, LocalChunks(m_sequence),
                                         m_sequence.first_token(), input.query, {}, m_local, output);
  }
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
                                  const Array<Real***>& output, AttentionState<Real>* state, Profile* profile) const {
  constexpr int half = overlap_portions / 2;
  const auto attend = [&](int begin, int end, auto&... messages) {
    const Phase phase(execution, profile, "within_chunk");
    overlap(
        execution, begin, end,
        [&](int portion) { attend_within(execution, keys, input, output, portion, overlap_portions); }, messages...);
  };
  const MixingSlices slices(m_sequence, m_blocks, m_dealing);
  const MPI_Comm comm = m_sequence.comm();
  std::optional<parallel::Gather<Real>> retrieval;
  std::optional<parallel::Exchange<Real>> states, mixed;
  {
    const Phase phase(execution, profile, "exchange");
    retrieval.emplace(execution, comm, m_retrieval, m_blocks.batch * 2 * m_config.hidden_dim,
                      parallel::slices_of(m_sequence.chunks()));
    states.emplace(execution, comm, m_local, slices.blocks_to, m_states, slices.chunks_from);
    states->send();
  }
  attend(0, half, *retrieval, *states);
  {
    const Phase phase(execution, profile, "exchange");
    finish(*retrieval, "retrieval_vectors", profile);
    finish(*states, "states", profile);
  }
  {
    const Phase phase(execution, profile, "mixing");
    mix(execution, marks, state);
  }
  {
    const Phase phase(execution, profile, "exchange");
    if (m_dealing.whole_items())
      mixed.emplace(execution, comm, m_states, slices.chunks_from, m_local, slices.blocks_to);
    else
      mixed.emplace(execution, comm, m_mixed, slices.rows_to, m_states, slices.rows_from);
    mixed->send();
  }
  attend(half, overlap_portions, *mixed);
  const Phase phase(execution, profile, "exchange");
  finish(*mixed, "states", profile);
  if (!m_dealing.whole_items()) unpack_mixed(execution);
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
  const auto form = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const std::int64_t chunk = index / heads, head = index % heads;
    const Range tokens = local.rows(chunk, keys.origin);
    kernels::form_flat_state(team, keys.keys_of(row, head, width), keys.values_of(row, head, width), keys.mask(row),
                             tokens.begin, tokens.end, state);
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
  const LocalChunks local(m_sequence);
  const Partition chunks{m_sequence.local_chunks(), portions};
  if (chunks.size(portion) == 0) return;
  const std::int64_t origin = m_sequence.first_token();
  const std::int64_t begin = origin + local.rows(chunks.begin(portion), origin).begin,
                     end = origin + local.rows(chunks.end(portion) - 1, origin).end;
  const kernels::WithinChunk visible{m_config.causality, m_config.chunk_size, m_sequence.end()};
  const auto scale = kernels::score_scale<Real>(m_config.head_dim());
  kernels::token_softmax(execution, "bsbr::attention::within_chunk", m_config.num_heads, visible, scale, input.query,
                         keys, output, origin, begin, end, output_may_be_key() ? m_config.chunk_size : 1);
}

/// m_states: F → G, some blocks at a time, so that no second set of all states is needed. Where the chunks of a block
/// are dealt out, others need its F, too, and G stays in m_mixed.
/// state: of the earlier chunks, which gets these; may be null.
template <class Real>
void Bsbr<Real>::mix(const Execution& execution, const ChunkMarks& marks, AttentionState<Real>* state) const {
  const EarlierChunks<Real> earlier = earlier_chunks(m_sequence, m_gathered, state);
  if (state != nullptr)  // F, which G may take the place of
    keep_chunks<Real>(execution, m_sequence, m_gathered, m_states, m_retrieval, marks, *state);
  for (std::int64_t first = 0; first < m_gathered.block_count; first += m_round_blocks) {
    const std::int64_t count = std::min(m_round_blocks, m_gathered.block_count - first);
    mix_blocks(execution, marks, earlier, first, count);
    if (m_dealing.whole_items()) store_mixed(execution, first, count);
  }
}

/// m_mixed = G of some blocks, for the chunks that were dealt to this rank.
template <class Real>
void Bsbr<Real>::mix_blocks(const Execution& execution, const ChunkMarks& marks, const EarlierChunks<Real>& earlier,
                            std::int64_t first_block, std::int64_t count) const {
  const auto head_width = static_cast<int>(m_config.head_dim());
  const parallel::DealtRows dealt = m_dealing.rows(m_sequence.rank());
  const Retrieval<Real> problem{.scale = kernels::score_scale<Real>(head_width),
                                .key_width = head_width,
                                .value_width = static_cast<int>(m_blocks.width),
                                .groups = m_blocks.batch * count,
                                .first = 0,
                                .last = dealt.before(m_sequence.num_chunks()),
                                .earlier = earlier,
                                .retrieval = m_retrieval,
                                .states = m_states,
                                .mixed = m_mixed,
                                .gathered = m_gathered,
                                .dealt = dealt,
                                .first_block = first_block,
                                .round_blocks = count,
                                .marks = marks,
                                .causality = m_config.causality,
                                .hidden = m_config.hidden_dim};
  kernels::softmax_tiles<Real>(execution, "bsbr::attention::mix_states", problem);
}

/// m_states = m_mixed, for some blocks whose F is not needed any more.
template <class Real>
void Bsbr<Real>::store_mixed(const Execution& execution, std::int64_t first_block, std::int64_t count) const {
  const std::int64_t batch = m_blocks.batch, chunks = m_sequence.num_chunks(), width = m_blocks.width;
  const kernels::GatheredStates gathered = m_gathered;
  const Array<const Real*> mixed = m_mixed;
  const Array<Real*> states = m_states;
  kernels::copy_rows(
      execution, "bsbr::attention::store_mixed", count * chunks * batch, width, KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i % batch, chunk = i / batch % chunks, block = first_block + i / batch / chunks;
        return kernels::RowCopies<Real, 1>{{&mixed(i * width)}, {&states(gathered.offset(block, chunk, row))}};
      });
}

/// m_local = G of the local chunks from m_states, [rank][local chunk dealt to it][batch][width]: neighbouring ranks
/// have mixed the chunks of one block.
template <class Real>
void Bsbr<Real>::unpack_mixed(const Execution& execution) const {
  const std::int64_t batch = m_blocks.batch, width = m_blocks.width;
  const std::int64_t chunks = m_sequence.local_chunks(), first = m_sequence.first_chunk(), last = first + chunks;
  const parallel::Dealing dealing = m_dealing;
  const Array<const Real*> states = m_states;
  const Array<Real*> local = m_local;
  kernels::copy_rows(
      execution, "bsbr::attention::unpack_mixed", m_blocks.blocks() * chunks * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i % batch, chunk = i / batch % chunks, block = i / batch / chunks;
        const parallel::DealtRows dealt = dealing.rows_with(block, first + chunk);
        const std::int64_t earlier = dealt.of_earlier_ranks(last) - dealt.of_earlier_ranks(first) +
                                     dealt.before(first + chunk) - dealt.before(first);
        return kernels::RowCopies<Real, 1>{{&states(((block * chunks + earlier) * batch + row) * width)},
                                           {&local(i * width)}};
      });
}

/// decompress_proj → G_i, applied to its chunk's tokens at once: one row of the chain is the mixed state of one (chunk,
/// head).
template <class Real>
void Bsbr<Real>::retrieve_compressed(const Execution& execution, const ChunkMarks& marks,
                                     const AttentionInput<Real>& input, const Array<Real***>& output) const {
  const std::int64_t heads = m_config.num_heads, chunks = m_sequence.local_chunks();
  const std::int64_t origin = m_sequence.first_token();
  const LocalChunks local(m_sequence);
  const int width = static_cast<int>(m_config.head_dim()), compressed = static_cast<int>(m_config.state_size());
  const kernels::StateBlocks blocks = m_blocks;
  const Array<const Real*> states = m_local;
  const auto query = input.query;
  const Array<const Real*> bias = input.decompress_bias;
  const Causality causality = m_config.causality;
  const auto nearest = marks.nearest_real;
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const auto source = kernels::state_ref(states.data(), blocks, index / heads, row, index % heads, chunks);
    source.load(team, 0, compressed, state);
  };
  const auto apply = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t row, std::int64_t index, Real* state) {
    const std::int64_t chunk = index / heads, head = index % heads;
    // A chunk that has nothing to retrieve does not get the bias of decompress_proj either.
    if (retrieval_source(causality, nearest, row, local.first + chunk) < 0) return;
    kernels::for_each(team, width * width, [&](const int i) { state[i] += bias(i); });
    const Range tokens = local.rows(chunk, origin);
    kernels::apply_flat_state(team, kernels::token_rows(query, row, head * width, width), tokens.begin, tokens.end,
                              width, state, &output(row, 0, head * width), static_cast<std::int64_t>(output.stride(1)));
  };
  kernels::panel_chain(execution, "bsbr::attention::decompress_states", {blocks.batch, chunks * heads}, m_panels, load,
                       kernels::Stage{m_decompress, apply});
}

template <class Real>
AttentionClass<Real> attention_class(Tag<Architecture::bsbr>) {
  return class_of<Real, Bsbr<Real>>();
}

template AttentionClass<float> attention_class(Tag<Architecture::bsbr>);
template AttentionClass<double> attention_class(Tag<Architecture::bsbr>);

}  // namespace bsbr::attention
