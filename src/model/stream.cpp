// Streams: pieces of sequences one after the other, through Model::forward with the states of all layers.
#include "bsbr/stream.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <type_traits>
#include <utility>

#include "architectures/traits.hpp"
#include "attention/attention.hpp"
#include "attention/state_arrays.hpp"
#include "config/difference.hpp"
#include "config/splitmix64.hpp"
#include "model/allocate.hpp"
#include "parallel/agree.hpp"
#include "parallel/message_buffer.hpp"
#include "parallel/messages.hpp"

namespace bsbr {
namespace {

/// Throws ConfigError unless tokens of such a model may come in pieces.
const ModelConfig& require_causal(const ModelConfig& config) {
  config.validate();
  if (traits(config.architecture).is_causal(config)) return config;
  throw ConfigError(std::string(to_string(config.architecture)) + " has streams with causality = causal only, not " +
                        std::string(to_string(config.causality)) + ": there earlier tokens see later ones",
                    "forward the whole sequence at once");
}

/// The same array with room for the tokens or chunks of `roomy`, which are its first dimension, or the second one.
template <class Real>
Array<Real*> with_room(const attention::StateArray<Real>& roomy, const Array<Real*>& array, std::int64_t blocks) {
  const std::int64_t outer = roomy.growing == 0 ? 1 : blocks;
  const auto dimension = static_cast<std::size_t>(roomy.growing);
  const std::int64_t wide = roomy.elements(dimension), narrow = static_cast<std::int64_t>(array.size()) / outer;
  if (wide <= narrow) return array;
  if (wide >= attention::most_elements / outer)
    throw MemoryError("no memory for " + std::string(roomy.name) + " of so many tokens");
  const Array<Real*> more = attention::allocate<Real>(roomy.name, outer * wide);
  for (std::int64_t i = 0; i < outer; ++i) {
    const auto from = std::make_pair(i * narrow, (i + 1) * narrow), to = std::make_pair(i * wide, i * wide + narrow);
    Kokkos::deep_copy(Kokkos::subview(more, to), Kokkos::subview(array, from));
  }
  return more;
}

/// Starts on their way: `own`, the blocks that each rank has, to `all` on rank 0.
template <class Real>
void gather_blocks(const Execution& execution, parallel::Messages<Real>& messages,
                   const attention::StateArray<Real>& array, const Array<Real*>& own, const Array<Real*>& all, int rank,
                   int ranks) {
  constexpr int tag = 1;
  const std::int64_t block = array.elements(1);
  for (int owner = 0; owner < ranks; ++owner) {
    if ((rank != 0 && rank != owner) || !array.is_first_with_block(owner, ranks)) continue;
    const std::int64_t count = array.block_count(owner, ranks), stride = static_cast<std::int64_t>(own.size()) / count;
    for (std::int64_t i = 0; i < count; ++i) {
      const parallel::Slice from{i * stride, block}, to{(array.first_block(owner, ranks) + i) * block, block};
      if (rank != owner)
        messages.receive(owner, tag, parallel::range_of(all, to));
      else if (rank != 0)
        messages.send(0, tag, parallel::range_of(own, from));
      else
        Kokkos::deep_copy(execution, parallel::range_of(all, to), parallel::range_of(own, from));
    }
  }
}

}  // namespace

template <class Real>
Stream<Real>::Stream(const ModelConfig& config, MPI_Comm comm, std::int64_t batch, std::optional<Rounding> rounding)
    : Stream(config, comm, batch, 0,
             std::vector<AttentionState<Real>>(static_cast<std::size_t>(require_causal(config).num_layers)), {}, {},
             rounding) {}

template <class Real>
Stream<Real>::Stream(const ModelConfig& config, MPI_Comm comm, std::int64_t batch, std::int64_t tokens,
                     std::vector<AttentionState<Real>> states, const Array<Real**>& last_states,
                     std::vector<std::uint8_t> last_real, std::optional<Rounding> rounding)
    : m_config(require_causal(config)),
      m_last(comm, batch, 0, config.chunk_size, tokens),
      m_states(std::move(states)),
      m_last_states(last_states),
      m_last_real(std::move(last_real)),
      m_rounding(rounding) {
  parallel::agree(m_last.comm(), [&] {
    const auto is_other = [&](const AttentionState<Real>& state) { return state.tokens != tokens; };
    if (static_cast<std::int64_t>(m_states.size()) != config.num_layers ||
        std::any_of(m_states.begin(), m_states.end(), is_other)) {
      throw ShapeError("the states are not those of " + std::to_string(config.num_layers) + " layers behind " +
                       std::to_string(tokens) + " tokens");
    }
    const auto rows = static_cast<std::int64_t>(last_states.extent(0)),
               width = static_cast<std::int64_t>(last_states.extent(1));
    if (!m_last_real.empty() && static_cast<std::int64_t>(m_last_real.size()) != batch) {
      throw ShapeError("last_real has " + std::to_string(m_last_real.size()) + " elements, there are " +
                       std::to_string(batch) + " sequences");
    }
    if (tokens == 0 || batch == 0 || (rows == batch && width == config.hidden_dim)) return;
    throw ShapeError("the last tokens' hidden states are [" + std::to_string(rows) + ", " + std::to_string(width) +
                     "], not [" + std::to_string(batch) + ", " + std::to_string(config.hidden_dim) + "]");
  });
}

template <class Real>
Sequence Stream<Real>::next(std::int64_t length) const {
  return m_last.next(length);
}

template <class Real>
Array<Real***> Stream<Real>::feed(const Execution& execution, Model<Real>& model, const Sequence& piece,
                                  const Array<const std::int32_t**>& ids,
                                  const std::optional<Array<const std::uint8_t**>>& mask, Profile* profile) {
  parallel::agree(m_last.comm(), [&] {
    if (!m_is_whole) throw ShapeError("an earlier piece of this stream has failed: it cannot go on");
    if (const std::string other = difference(model.config(), m_config); !other.empty())
      throw ShapeError("the model is another one than the stream's: its " + other);
    if (m_rounding && *m_rounding != model.weights().rounding())
      throw ShapeError("the model rounds the factors of its products differently from the one that the stream is of");
    if (piece.batch() != batch() || piece.origin() != tokens() || piece.ranks() != m_last.ranks()) {
      throw ShapeError("a piece of " + std::to_string(piece.batch()) + " sequences from token " +
                       std::to_string(piece.origin()) + " on is not the next one of " + std::to_string(batch()) +
                       " sequences of " + std::to_string(tokens()) + " tokens");
    }
    if (piece.length() > 0 && !m_last_states.is_allocated())
      m_last_states = allocate<Real**>("stream::last_states", batch(), m_config.hidden_dim);
  });
  m_is_whole = false;
  m_rounding = model.weights().rounding();
  const Array<Real***> hidden_states = model.forward(execution, piece, ids, mask, profile, &m_states);
  keep_last_tokens(execution, piece, hidden_states, mask);
  m_last = m_last.next(piece.length());
  m_is_whole = true;
  return hidden_states;
}

/// Hidden states and marks of the rank that has the last tokens, on all ranks.
template <class Real>
void Stream<Real>::keep_last_tokens(const Execution& execution, const Sequence& piece,
                                    const Array<Real***>& hidden_states,
                                    const std::optional<Array<const std::uint8_t**>>& mask) {
  if (piece.length() == 0) return;
  const int owner = piece.chunks().part_of(piece.num_chunks() - 1);
  const std::int64_t last = piece.local_tokens() - 1;
  if (piece.rank() == owner)
    Kokkos::deep_copy(execution, m_last_states, Kokkos::subview(hidden_states, Kokkos::ALL, last, Kokkos::ALL));
  if (piece.ranks() > 1)
    parallel::broadcast(execution, m_last.comm(), owner, Array<Real*>(m_last_states.data(), m_last_states.size()));
  execution.fence();
  m_last_real.clear();
  if (!mask) return;
  m_last_real.resize(static_cast<std::size_t>(batch()));
  if (piece.rank() == owner) {
    const auto real = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), *mask);
    for (std::size_t row = 0; row < m_last_real.size(); ++row) m_last_real[row] = real(row, last);
  }
  parallel::broadcast(m_last_real.data(), batch(), m_last.comm(), owner);
}

template <class Real>
void Stream<Real>::reserve(std::int64_t tokens) {
  if (tokens <= this->tokens()) return;
  const int rank = m_last.rank(), ranks = m_last.ranks();
  const auto roomy = attention::state_arrays<Real>(m_config, batch(), tokens, m_rounding.value_or(Rounding::none));
  for (const auto& array : roomy.arrays) {
    if (array.growing < 0) continue;
    for (AttentionState<Real>& state : m_states) {
      Array<Real*>& member = state.*array.member;
      member = with_room(array, member, array.block_count(rank, ranks));
    }
  }
}

template <class Real>
std::int64_t Stream<Real>::bytes() const {
  std::int64_t numbers = 0, marks = 0;
  for (const AttentionState<Real>& state : m_states) {
    for (const auto* array : {&state.keys, &state.sums, &state.states, &state.sum, &state.state, &state.chunk_states,
                              &state.retrieval, &state.router_sums, &state.mixed_states})
      numbers += static_cast<std::int64_t>(array->size());
    marks += static_cast<std::int64_t>(state.real.size() + state.real_chunks.size());
  }
  return numbers * static_cast<std::int64_t>(sizeof(Real)) + marks;
}

template <class Real>
std::optional<Stream<Real>> gather_on_first(const Execution& execution, const Stream<Real>& stream) {
  const MPI_Comm comm = stream.comm();
  const int rank = parallel::rank_in(comm), ranks = parallel::ranks_of(comm);
  const auto shape = attention::state_arrays<Real>(stream.config(), stream.batch(), stream.tokens(),
                                                   stream.rounding().value_or(Rounding::none));
  std::vector<AttentionState<Real>> states = stream.states();
  parallel::agree(comm, [&] {
    if (!stream.is_whole()) throw ShapeError("a piece of this stream has failed: it cannot go on");
    for (const auto& array : shape.arrays) {
      if (rank != 0 || !array.by_block) continue;
      for (AttentionState<Real>& state : states)
        state.*array.member = attention::allocate<Real>(array.name, array.elements());
    }
  });
  for (std::size_t layer = 0; layer < states.size(); ++layer) {
    parallel::Messages<Real> messages(execution, comm);
    for (const auto& array : shape.arrays) {
      if (array.by_block)
        gather_blocks(execution, messages, array, stream.states()[layer].*array.member, states[layer].*array.member,
                      rank, ranks);
    }
    messages.wait();
  }
  execution.fence();
  if (rank != 0) return std::nullopt;
  return Stream<Real>(stream.config(), MPI_COMM_SELF, stream.batch(), stream.tokens(), std::move(states),
                      stream.last_states(), stream.last_real(), stream.rounding());
}

template <class Real>
std::int64_t stream_bytes(const ModelConfig& config, std::int64_t batch, std::int64_t tokens, int ranks, int rank,
                          Rounding rounding) {
  const auto layer = attention::state_arrays<Real>(require_causal(config), batch, tokens, rounding);
  __int128 numbers = 0;
  for (const auto& array : layer.arrays) numbers += array.elements_of(rank, ranks);
  if (ranks == 1) numbers += layer.mixed_elements;
  const __int128 bytes = config.num_layers * (numbers * sizeof(Real) + __int128{layer.marked_chunks} * batch);
  return static_cast<std::int64_t>(std::min<__int128>(bytes, attention::most_elements));
}

template <class Real>
double stream_growth(const ModelConfig& config, std::int64_t batch, int ranks, int rank, Rounding rounding) {
  const Traits& kind = traits(require_causal(config).architecture);
  // Where a state is carried along, there are log₂ of the number of segments of them.
  if (kind.transfer == Transfer::state || kind.window_field != nullptr) return 0;
  const std::int64_t many = config.chunk_size;
  const std::int64_t more = stream_bytes<Real>(config, batch, 2 * many, ranks, rank, rounding) -
                            stream_bytes<Real>(config, batch, many, ranks, rank, rounding);
  return static_cast<double>(more) / static_cast<double>(many);
}

template <class Real>
std::uint64_t weights_hash(const Weights<Real>& weights) {
  using Bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), weights.data());
  const Real* numbers = host.data();
  std::uint64_t sum = 0;
  Kokkos::parallel_reduce(
      "bsbr::stream::weights_hash",
      Kokkos::RangePolicy<Kokkos::DefaultHostExecutionSpace, Kokkos::IndexType<std::int64_t>>(
          0, static_cast<std::int64_t>(host.size())),
      [=](const std::int64_t i, std::uint64_t& part) {
        part += splitmix64(std::bit_cast<Bits>(numbers[i]), static_cast<std::uint64_t>(i));
      },
      sum);
  return splitmix64(sum);
}

template class Stream<float>;
template class Stream<double>;
template std::optional<Stream<float>> gather_on_first(const Execution&, const Stream<float>&);
template std::optional<Stream<double>> gather_on_first(const Execution&, const Stream<double>&);
template std::int64_t stream_bytes<float>(const ModelConfig&, std::int64_t, std::int64_t, int, int, Rounding);
template std::int64_t stream_bytes<double>(const ModelConfig&, std::int64_t, std::int64_t, int, int, Rounding);
template double stream_growth<float>(const ModelConfig&, std::int64_t, int, int, Rounding);
template double stream_growth<double>(const ModelConfig&, std::int64_t, int, int, Rounding);
template std::uint64_t weights_hash(const Weights<float>&);
template std::uint64_t weights_hash(const Weights<double>&);

}  // namespace bsbr
