// Targets, the head, and the sums of its losses.
#include "bsbr/loss.hpp"

#include <cmath>
#include <limits>
#include <numbers>
#include <string>

#include "bsbr/error.hpp"
#include "bsbr/piece_loss.hpp"
#include "kernels/token_loss.hpp"
#include "model/allocate.hpp"
#include "model/stages.hpp"
#include "model/targets.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"
#include "parallel/neighbours.hpp"
#include "parallel/ordered_sum.hpp"

namespace bsbr {
namespace {

using parallel::OrderedSumOfDoubles;
using parallel::OrderedTree;

/// Throws ShapeError unless an array is [batch, local tokens], whatever follows.
template <class View>
void require_tokens(const char* name, const View& array, const Sequence& sequence) {
  const auto batch = static_cast<std::int64_t>(array.extent(0)), tokens = static_cast<std::int64_t>(array.extent(1));
  if (batch == sequence.batch() && tokens == sequence.local_tokens()) return;
  throw ShapeError(std::string(name) + " are [" + std::to_string(batch) + ", " + std::to_string(tokens) +
                   "], this rank's part of the sequence [" + std::to_string(sequence.batch()) + ", " +
                   std::to_string(sequence.local_tokens()) + "]");
}

// ---- Targets --------------------------------------------------------------------------------------------------------

/// The first id of each sequence on this rank, no_target where that is padding; on the host, [batch].
std::vector<std::int32_t> first_targets(const Execution& execution, const Sequence& sequence,
                                        const Array<const std::int32_t**>& ids,
                                        const Array<const std::uint8_t**>& mask) {
  std::vector<std::int32_t> targets(static_cast<std::size_t>(sequence.batch()), no_target);
  if (sequence.local_tokens() == 0) return targets;
  const bool has_mask = mask.data() != nullptr;
  const Array<std::int32_t*> first("bsbr::loss::first_targets", sequence.batch());
  Kokkos::parallel_for(
      "bsbr::loss::first_targets", Kokkos::RangePolicy<Execution>(execution, 0, sequence.batch()),
      KOKKOS_LAMBDA(const std::int64_t row) { first(row) = has_mask && mask(row, 0) == 0 ? no_target : ids(row, 0); });
  const HostArray<std::int32_t*> host(targets.data(), targets.size());
  Kokkos::deep_copy(execution, host, first);
  execution.fence();
  return targets;
}

/// Those of the next rank that has tokens; of the last one, and of a rank without tokens, none.
std::vector<std::int32_t> of_next_rank(const Sequence& sequence, const std::vector<std::int32_t>& mine) {
  std::vector<std::int32_t> all(mine.size() * static_cast<std::size_t>(sequence.ranks()));
  const std::size_t bytes = mine.size() * sizeof(std::int32_t);
  parallel::all_gather(mine.data(), static_cast<std::int64_t>(bytes), all.data(), sequence.comm());
  const int next = parallel::Neighbours(sequence).next;
  if (next < 0) return std::vector<std::int32_t>(mine.size(), no_target);
  const auto begin = all.begin() + next * static_cast<std::ptrdiff_t>(mine.size());
  return {begin, begin + static_cast<std::ptrdiff_t>(mine.size())};
}

/// targets(row, t) = ids(row, t + 1), and behind the last token `behind`.
void shift(const Execution& execution, const Array<const std::int32_t**>& ids, const Array<const std::uint8_t**>& mask,
           const Array<const std::int32_t*>& behind, const Array<std::int32_t**>& targets) {
  const auto tokens = static_cast<std::int64_t>(targets.extent(1));
  const bool has_mask = mask.data() != nullptr;
  const Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>> all(
      execution, 0, static_cast<std::int64_t>(targets.extent(0)) * tokens);
  Kokkos::parallel_for(
      "bsbr::loss::next_tokens", all, KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i / tokens, t = i % tokens;
        const bool is_last = t + 1 == tokens;
        const bool padding = has_mask && (mask(row, t) == 0 || (!is_last && mask(row, t + 1) == 0));
        targets(row, t) = padding ? no_target : is_last ? behind(row) : ids(row, t + 1);
      });
}

}  // namespace

std::int64_t count_targets(const Execution& execution, const Sequence& sequence,
                           const Array<const std::int32_t**>& targets, std::int64_t vocab_size) {
  require_tokens("targets", targets, sequence);
  const std::int64_t tokens = sequence.local_tokens();
  std::int64_t counted = 0, others = 0;
  Kokkos::parallel_reduce(
      "bsbr::loss::count_targets",
      Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>>(execution, 0, sequence.batch() * tokens),
      KOKKOS_LAMBDA(const std::int64_t i, std::int64_t& ids, std::int64_t& wrong) {
        const std::int32_t target = targets(i / tokens, i % tokens);
        ids += target >= 0 && target < vocab_size ? 1 : 0;
        wrong += target < no_target || target >= vocab_size ? 1 : 0;
      },
      counted, others);
  if (others > 0) {
    throw ShapeError(std::to_string(others) + " targets are neither " + std::to_string(no_target) +
                     " nor within 0 to " + std::to_string(vocab_size - 1));
  }
  return counted;
}

void require_head(const ModelConfig& config) {
  if (config.head != Head::none) return;
  throw ConfigError("the model has no head (head = none): it gives hidden states, and no logits",
                    "bsbr_init --head tied, or separate, makes a model that has one");
}

Array<const std::int32_t**> next_tokens(const Execution& execution, const Sequence& sequence,
                                        const Array<const std::int32_t**>& ids,
                                        const std::optional<Array<const std::uint8_t**>>& mask) {
  const Array<const std::uint8_t**> padding = mask.value_or(Array<const std::uint8_t**>());
  std::vector<std::int32_t> mine;
  Array<std::int32_t**> targets;
  parallel::agree(sequence.comm(), [&] {
    require_kokkos();
    require_tokens("ids", ids, sequence);
    if (mask) require_tokens("values of the mask", padding, sequence);
    targets = allocate<std::int32_t**>("loss::targets", sequence.batch(), sequence.local_tokens());
    mine = first_targets(execution, sequence, ids, padding);
  });
  const std::vector<std::int32_t> next = of_next_rank(sequence, mine);
  const HostArray<const std::int32_t*> host(next.data(), next.size());
  const auto behind = Kokkos::create_mirror_view_and_copy(Memory(), host);
  shift(execution, ids, padding, behind, targets);
  execution.fence();
  return targets;
}

// ---- The head -------------------------------------------------------------------------------------------------------

template <class Real>
struct OutputLayer<Real>::Modules {
  std::vector<kernels::ProductWeight<Real>> blocks;
  kernels::PanelBuffers<Real> panels;
};

template <class Real>
OutputLayer<Real>::OutputLayer(const Weights<Real>& weights) : m_weights(weights) {
  const ModelConfig& config = weights.config();
  const Array<const Real**> head = head_matrix(weights);
  const std::int64_t width = kernels::token_loss_width(config.vocab_size, config.hidden_dim);
  try {
    m_modules = std::make_shared<const Modules>(
        Modules{kernels::vocabulary_blocks<Real>(head, kernels::Transpose::no, weights.rounding()),
                kernels::PanelBuffers<Real>(width)});
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw MemoryError("no memory for the buffers of a head: " + std::string(error.what()));
  }
}

template <class Real>
TokenLosses OutputLayer<Real>::losses(const Execution& execution, const Sequence& sequence,
                                      const Array<const Real***>& hidden_states,
                                      const Array<const std::int32_t**>& targets, Profile* profile) const {
  const ModelConfig& config = m_weights.config();
  TokenLosses losses;
  parallel::agree(execution, sequence, profile, [&] {
    require_tokens("hidden states", hidden_states, sequence);
    if (static_cast<std::int64_t>(hidden_states.extent(2)) != config.hidden_dim) {
      throw ShapeError("hidden states have " + std::to_string(hidden_states.extent(2)) + " elements each, the model " +
                       std::to_string(config.hidden_dim));
    }
    count_targets(execution, sequence, targets, config.vocab_size);
    losses = {allocate<double**>("loss::losses", sequence.batch(), sequence.local_tokens()),
              allocate<double**>("loss::log_sums", sequence.batch(), sequence.local_tokens())};
  });
  const Phase phase(execution, profile, "head");
  m_modules->panels.poison(execution);
  kernels::token_losses<Real>(execution, m_modules->blocks, m_modules->panels, hidden_states, targets, losses.loss,
                              losses.log_sum);
  execution.fence();
  return losses;
}

template <class Real>
std::int64_t output_layer_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
  const std::int64_t tokens = sequence.batch() * sequence.local_tokens();
  const std::int64_t width = kernels::token_loss_width(config.vocab_size, config.hidden_dim);
  return kernels::vocabulary_bytes<Real>(config.vocab_size, config.hidden_dim, kernels::Transpose::no, rounding) +
         kernels::PanelBuffers<Real>::bytes(width) +
         tokens * static_cast<std::int64_t>(2 * sizeof(double) + sizeof(std::int32_t));
}

// ---- Sums -----------------------------------------------------------------------------------------------------------

double MeanLoss::bits_per_token() const { return loss / std::numbers::ln2; }

double MeanLoss::perplexity() const { return std::exp(loss); }

namespace {

/// Where the range of a position ends that begins one: ranges grow with a quarter of their positions' power of two.
std::int64_t end_of_range(std::int64_t begin) {
  std::int64_t step = 1;
  while (begin / step >= 8) step *= 2;
  return begin + step;
}

}  // namespace

// Members of classes that are known outside: not in the anonymous namespace, which a unity build would warn of.

/// The sum over some positions [begin, end) of all sequences.
struct RangeSum {
  std::int64_t begin, end;
  std::int64_t counted = 0;  // on this rank
  // Of leaves [sequence, position]: one for all sequences, or one for each, since leaves are added in their order.
  std::vector<OrderedSumOfDoubles> sums;

  RangeSum(std::int64_t first, std::int64_t last, std::int64_t sequences, std::int64_t count)
      : begin(first),
        end(last),
        sums(static_cast<std::size_t>(count), OrderedSumOfDoubles(OrderedTree(sequences * (last - first)))) {}

  /// `row`: among all sequences.
  void add(std::int64_t row, std::int64_t position, double value, bool counts) {
    counted += counts ? 1 : 0;
    OrderedSumOfDoubles& sum = sums[sums.size() == 1 ? 0 : static_cast<std::size_t>(row)];
    sum.add(row * (end - begin) + position - begin, counts ? value : 0.0);
  }

  MeanLoss mean(MPI_Comm comm) const {
    OrderedSumOfDoubles all(sums.front().tree());
    for (const OrderedSumOfDoubles& sum : sums) {
      for (const auto& node : sum.nodes()) all.add(node.place, node.value);
    }
    const double total = parallel::sum_of_ranks(all, comm);
    const std::int64_t count = parallel::all_reduce(counted, MPI_SUM, comm);
    return {count == 0 ? 0 : total / static_cast<double>(count), count};
  }
};

/// Those over all positions, and over each range of them.
struct RangeSums {
  std::int64_t sequences, length;
  RangeSum all;
  std::vector<RangeSum> ranges;

  /// by_row: tokens of a sequence are added after some of later ones.
  RangeSums(std::int64_t count, std::int64_t tokens, bool by_row)
      : sequences(checked(count, tokens)),
        length(tokens),
        all(0, tokens, count, by_row ? std::max<std::int64_t>(1, count) : 1) {
    for (std::int64_t begin = 0; begin < tokens;) {
      const std::int64_t end = std::min(end_of_range(begin), tokens);
      ranges.emplace_back(begin, end, count, static_cast<std::int64_t>(all.sums.size()));
      begin = end;
    }
  }

  static std::int64_t checked(std::int64_t sequences, std::int64_t length) {
    if (sequences >= 0 && length >= 0 &&
        (length == 0 || sequences <= std::numeric_limits<std::int64_t>::max() / 2 / length))
      return sequences;
    throw ConfigError("losses of " + std::to_string(sequences) + " sequences of " + std::to_string(length) +
                      " tokens cannot be summed up");
  }

  /// Sequences from `first` on, of which this rank's tokens begin at `position`.
  void add(std::int64_t first, std::int64_t position, const Array<const double**>& losses,
           const Array<const std::int32_t**>& targets) {
    const auto loss = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), losses);
    const auto target = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), targets);
    const auto rows = static_cast<std::int64_t>(loss.extent(0)), tokens = static_cast<std::int64_t>(loss.extent(1));
    for (std::int64_t row = 0; row < rows; ++row) {
      auto range = ranges.begin();
      for (std::int64_t t = 0; t < tokens; ++t) {
        while (range->end <= position + t) ++range;
        const bool counts = target(row, t) != no_target;
        all.add(first + row, position + t, loss(row, t), counts);
        range->add(first + row, position + t, loss(row, t), counts);
      }
    }
  }

  std::vector<PositionLoss> by_position(MPI_Comm comm) const {
    std::vector<PositionLoss> means;
    for (const RangeSum& range : ranges) means.push_back({range.begin, range.end, range.mean(comm)});
    return means;
  }
};

struct LossSum::Sums {
  RangeSums sums;
  std::int64_t added = 0;  // sequences
  bool by_place = false;

  void require_all() const {
    if (by_place || added == sums.sequences) return;  // by place: others may have the rest
    throw ShapeError("losses of " + std::to_string(added) + " of " + std::to_string(sums.sequences) +
                     " sequences have been added");
  }
};

LossSum::LossSum(std::int64_t sequences, std::int64_t length)
    : m_sums(std::make_unique<Sums>(Sums{RangeSums(sequences, length, false)})) {}

LossSum::LossSum(LossSum&&) noexcept = default;
LossSum::~LossSum() = default;

void LossSum::add(const Sequence& sequence, const Array<const double**>& losses,
                  const Array<const std::int32_t**>& targets, std::optional<std::int64_t> first) {
  auto& [sums, added, by_place] = *m_sums;
  if (first && *first >= added) {
    added = *first;
    by_place = true;
  }
  require_tokens("losses", losses, sequence);
  require_tokens("targets", targets, sequence);
  if (sequence.length() != sums.length || added + sequence.batch() > sums.sequences || first.value_or(added) != added) {
    throw ShapeError(std::to_string(sequence.batch()) + " sequences of " + std::to_string(sequence.length()) +
                     " tokens are not among the " + std::to_string(sums.sequences) + " of " +
                     std::to_string(sums.length) + " whose losses are summed up");
  }
  sums.add(added, sequence.offset(), losses, targets);
  added += sequence.batch();
}

MeanLoss LossSum::mean(MPI_Comm comm) const {
  m_sums->require_all();
  return m_sums->sums.all.mean(comm);
}

std::vector<PositionLoss> LossSum::by_position(MPI_Comm comm) const {
  m_sums->require_all();
  return m_sums->sums.by_position(comm);
}

struct PieceLossSum::Sums {
  RangeSums sums;
  std::int64_t added = 0;  // tokens of each sequence

  void require_all() const {
    if (added == sums.length) return;
    throw ShapeError("losses of " + std::to_string(added) + " of " + std::to_string(sums.length) +
                     " tokens of each sequence have been added");
  }
};

PieceLossSum::PieceLossSum(std::int64_t sequences, std::int64_t length)
    : m_sums(std::make_unique<Sums>(Sums{RangeSums(sequences, length, true)})) {}

PieceLossSum::PieceLossSum(PieceLossSum&&) noexcept = default;
PieceLossSum::~PieceLossSum() = default;

void PieceLossSum::add(const Sequence& piece, const Array<const double**>& losses,
                       const Array<const std::int32_t**>& targets) {
  auto& [sums, added] = *m_sums;
  require_tokens("losses", losses, piece);
  require_tokens("targets", targets, piece);
  if (piece.batch() != sums.sequences || piece.length() > sums.length - added) {
    throw ShapeError(std::to_string(piece.length()) + " tokens of " + std::to_string(piece.batch()) +
                     " sequences are not the next ones of " + std::to_string(sums.sequences) + " sequences of " +
                     std::to_string(sums.length) + ", of which " + std::to_string(added) + " have been added");
  }
  sums.add(0, added + piece.offset(), losses, targets);
  added += piece.length();
}

MeanLoss PieceLossSum::mean(MPI_Comm comm) const {
  m_sums->require_all();
  return m_sums->sums.all.mean(comm);
}

std::vector<PositionLoss> PieceLossSum::by_position(MPI_Comm comm) const {
  m_sums->require_all();
  return m_sums->sums.by_position(comm);
}

MeanLoss mean_loss(const Sequence& sequence, const Array<const double**>& losses,
                   const Array<const std::int32_t**>& targets) {
  LossSum sum(sequence.batch(), sequence.length());
  parallel::agree(sequence.comm(), [&] { sum.add(sequence, losses, targets); });
  return sum.mean(sequence.comm());
}

template class OutputLayer<float>;
template class OutputLayer<double>;
template std::int64_t output_layer_bytes<float>(const ModelConfig&, const Sequence&, Rounding);
template std::int64_t output_layer_bytes<double>(const ModelConfig&, const Sequence&, Rounding);

}  // namespace bsbr
