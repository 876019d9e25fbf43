// Messages of HeadGradient, and how their buffers are packed and unpacked.
#include "attention/head_gradient.hpp"

#include "attention/attention.hpp"
#include "attention/overlap.hpp"
#include "attention/rows_by_head.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {

/// Send and receive counts per rank, for allocation, prediction and messages.
template <class Real>
struct HeadGradient<Real>::Sizes {
  std::vector<parallel::Slice> rows_to, rows_from, results_to, results_from;
  std::int64_t kept;  // elements of log-sums, and of δ

  Sizes(const ModelConfig& config, const Sequence& sequence, const parallel::Dealing& dealing) {
    const int mine = sequence.rank();
    const std::int64_t batch = sequence.batch(), width = config.head_dim();
    const auto heads = [&](int rank) { return dealing.item_count(rank); };
    const auto tokens = [&](int rank) { return sequence.first_token_of(rank + 1) - sequence.first_token_of(rank); };
    std::vector<std::int64_t> to, from, result_to, result_from;
    for (int rank = 0; rank < sequence.ranks(); ++rank) {
      to.push_back(tokens(mine) * batch * heads(rank) * (4 * width + 1));
      from.push_back(tokens(rank) * batch * heads(mine) * (4 * width + 1));
      result_to.push_back(dealt_tokens(dealing, sequence, rank, mine) * batch * heads(mine) * 3 * width);
      result_from.push_back(dealt_tokens(dealing, sequence, mine, rank) * batch * heads(rank) * 3 * width);
    }
    rows_to = one_after_another(to);
    rows_from = one_after_another(from);
    results_to = one_after_another(result_to);
    results_from = one_after_another(result_from);
    kept = batch * heads(mine) * sequence.length();
  }
};

template <class Real>
HeadGradient<Real>::HeadGradient(const ModelConfig& config, const Sequence& sequence)
    : m_config(config), m_sequence(sequence), m_dealing(heads_over_ranks(config, sequence)) {
  const Sizes sizes(config, sequence, m_dealing);
  m_rows_to = sizes.rows_to;
  m_rows_from = sizes.rows_from;
  m_results_to = sizes.results_to;
  m_results_from = sizes.results_from;
  m_own_rows = allocate<Real>("own_gradient_rows", total(m_rows_to));
  m_rows = allocate<Real>("gradient_rows", total(m_rows_from));
  m_results = allocate<Real>("gradient_results", total(m_results_to));
  m_own_results = allocate<Real>("own_gradient_results", total(m_results_from));
  const auto heads = m_dealing.item_count(sequence.rank());
  m_log_sums = Array<Real***>("bsbr::attention::log_sums_by_head", sequence.batch(), heads, sequence.length());
  m_deltas = Array<Real***>("bsbr::attention::deltas_by_head", sequence.batch(), heads, sequence.length());
}

template <class Real>
std::int64_t HeadGradient<Real>::bytes(const ModelConfig& config, const Sequence& sequence) {
  const Sizes sizes(config, sequence, heads_over_ranks(config, sequence));
  return (total(sizes.rows_to) + total(sizes.rows_from) + total(sizes.results_to) + total(sizes.results_from) +
          2 * sizes.kept) *
         static_cast<std::int64_t>(sizeof(Real));
}

template <class Real>
typename HeadGradient<Real>::Work HeadGradient<Real>::all_work(const Array<const std::uint8_t**>& real) const {
  const int mine = m_sequence.rank();
  const std::int64_t batch = m_sequence.batch(), length = m_sequence.length(), heads = m_dealing.item_count(mine);
  const std::int64_t width = heads * m_config.head_dim();
  const parallel::DealtRows dealt = m_dealing.rows(mine);
  const auto given = [&](int index) -> Strided<const Real***> {
    return rows_by_head(m_rows, batch, length, row(mine), index * width, width);
  };
  const auto result = [&](int index) {
    return rows_by_head(m_results, batch, dealt.before(length), 3 * width, index * width, width);
  };
  return {.heads = heads,
          .dealt = dealt,
          .first = 0,
          .last = dealt.before(length),
          .tokens = {given(0), given(3), m_log_sums, m_deltas, 0, {given(1), given(2), real, 0}},
          .query = result(0),
          .key = result(1),
          .value = result(2)};
}

template <class Real>
void HeadGradient<Real>::backward(const Execution& execution, const AttentionInput<Real>& input,
                                  const Array<const std::uint8_t**>& real, const Array<Real***>& log_sums,
                                  const Array<Real***>& deltas, const Array<Real***>& output_gradient,
                                  const AttentionGradient<Real>& gradient, Profile* profile, const Form& of_queries,
                                  const Form& of_keys) {
  const MPI_Comm comm = m_sequence.comm();
  const int ranks = m_sequence.ranks();
  parallel::Exchange<Real> rows(execution, comm, m_own_rows, m_rows_to, m_rows, m_rows_from);
  {
    const Phase phase(execution, profile, "exchange");
    for (int rank = 0; rank < ranks; ++rank) pack(execution, input, deltas, output_gradient, rank);
    rows.send();
    share_log_sums(execution, log_sums, profile);
  }
  // Ranks receive in the order in which they send: these come last.
  parallel::Exchange<Real> results(execution, comm, m_results, m_results_to, m_own_results, m_results_from);
  Work work = all_work(real);
  const auto take = [&](int rank) {
    work.first = work.dealt.before(m_sequence.first_token_of(rank));
    work.last = work.dealt.before(m_sequence.first_token_of(rank + 1));
  };
  for (int rank = 0; rank < ranks; ++rank) {
    {
      const Phase phase(execution, profile, "exchange");
      rows.wait_for(rank);
      unpack_deltas(execution, m_sequence.first_token_of(rank), m_sequence.first_token_of(rank + 1));
    }
    take(rank);
    of_queries(work);
  }
  for (int rank = ranks - 1; rank >= 0; --rank) {
    take(rank);
    of_keys(work);
    const Phase phase(execution, profile, "exchange");
    results.send(rank);
    results.progress();
  }
  const Phase phase(execution, profile, "exchange");
  for (auto* messages : {&rows, &results}) finish(*messages, "heads", profile);
  for (int rank = 0; rank < ranks; ++rank) unpack(execution, gradient, rank);
}

/// Rows of all local tokens for a rank's heads.
template <class Real>
void HeadGradient<Real>::pack(const Execution& execution, const AttentionInput<Real>& input,
                              const Array<Real***>& deltas, const Array<Real***>& output_gradient, int rank) const {
  const std::int64_t batch = m_sequence.batch(), head_dim = m_config.head_dim(), heads = m_dealing.item_count(rank),
                     head = m_dealing.first_item(rank);
  const std::int64_t column = head * head_dim, width = heads * head_dim, elements = row(rank);
  const std::int64_t offset = m_rows_to[static_cast<std::size_t>(rank)].offset;
  const Array<Real*> rows = m_own_rows;
  const auto query = input.query, key = input.key, value = input.value;
  kernels::copy_rows(
      execution, "bsbr::attention::pack_gradient_rows", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / batch, sequence = i % batch;
        Real* target = rows.data() + offset + i * elements;
        return kernels::RowCopies<Real, 4>{{&query(sequence, t, column), &key(sequence, t, column),
                                            &value(sequence, t, column), &output_gradient(sequence, t, column)},
                                           {target, target + width, target + 2 * width, target + 3 * width}};
      });
  Kokkos::parallel_for(
      "bsbr::attention::pack_deltas",
      Kokkos::RangePolicy<Execution>(execution, 0, m_sequence.local_tokens() * batch * heads),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / heads / batch, sequence = i / heads % batch;
        rows(offset + i / heads * elements + 4 * width + i % heads) = deltas(sequence, head + i % heads, t);
      });
}

/// δ of the tokens [first, last), as kernels want them.
template <class Real>
void HeadGradient<Real>::unpack_deltas(const Execution& execution, std::int64_t first, std::int64_t last) const {
  const std::int64_t batch = m_sequence.batch(), elements = row(m_sequence.rank()),
                     heads = m_dealing.item_count(m_sequence.rank()), width = heads * m_config.head_dim();
  const Array<const Real*> rows = m_rows;
  const Array<Real***> deltas = m_deltas;
  Kokkos::parallel_for(
      "bsbr::attention::unpack_deltas",
      Kokkos::RangePolicy<Execution>(execution, first * batch * heads, last * batch * heads),
      KOKKOS_LAMBDA(const std::int64_t i) {
        deltas(i / heads % batch, i % heads, i / heads / batch) = rows(i / heads * elements + 4 * width + i % heads);
      });
}

/// m_log_sums: of all tokens. Ranks that share a head have those of the tokens that are dealt to them.
template <class Real>
void HeadGradient<Real>::share_log_sums(const Execution& execution, const Array<Real***>& log_sums,
                                        Profile* profile) const {
  const int mine = m_sequence.rank(), ranks = m_sequence.ranks();
  const std::int64_t batch = m_sequence.batch(), length = m_sequence.length();
  if (m_dealing.whole_items()) return Kokkos::deep_copy(execution, m_log_sums, log_sums);
  const auto count = [&](int rank) { return batch * m_dealing.rows(rank).before(length); };
  std::vector<parallel::Slice> to, from;
  std::int64_t received = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const bool shares = m_dealing.first_item(rank) == m_dealing.first_item(mine);
    to.push_back({0, shares ? count(mine) : 0});
    from.push_back({received, shares ? count(rank) : 0});
    received += from.back().count;
  }
  const Array<Real*> own(log_sums.data(), log_sums.size());
  const Array<Real*> all("bsbr::attention::shared_log_sums", received);
  parallel::Exchange<Real> messages(execution, m_sequence.comm(), own, to, all, from);
  messages.send();
  finish(messages, "heads", profile);
  for (int rank = 0; rank < ranks; ++rank) {
    const parallel::Slice slice = from[static_cast<std::size_t>(rank)];
    if (slice.count == 0) continue;
    const parallel::DealtRows dealt = m_dealing.rows(rank);
    const std::int64_t tokens = dealt.before(length);
    const Array<Real***> target = m_log_sums;
    Kokkos::parallel_for(
        "bsbr::attention::unpack_log_sums", Kokkos::RangePolicy<Execution>(execution, 0, slice.count),
        KOKKOS_LAMBDA(const std::int64_t i) { target(i / tokens, 0, dealt.row(i % tokens)) = all(slice.offset + i); });
  }
  execution.fence();  // `all` is gone
}

/// The gradients that came back from a rank.
template <class Real>
void HeadGradient<Real>::unpack(const Execution& execution, const AttentionGradient<Real>& gradient, int rank) const {
  const std::int64_t batch = m_sequence.batch(), first = m_sequence.first_token(), head_dim = m_config.head_dim();
  const std::int64_t column = m_dealing.first_item(rank) * head_dim, width = m_dealing.item_count(rank) * head_dim;
  const std::int64_t offset = m_results_from[static_cast<std::size_t>(rank)].offset;
  const parallel::DealtRows dealt = m_dealing.rows(rank);
  const std::int64_t dealt_before = dealt.before(first);
  const Array<const Real*> results = m_own_results;
  const auto query = gradient.query, key = gradient.key, value = gradient.value;
  kernels::copy_rows(
      execution, "bsbr::attention::unpack_gradients", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / batch, sequence = i % batch;
        if (!dealt.has(first + t)) return kernels::RowCopies<Real, 3>{{}, {nullptr, nullptr, nullptr}};
        const Real* source =
            results.data() + offset + ((dealt.before(first + t) - dealt_before) * batch + sequence) * 3 * width;
        return kernels::RowCopies<Real, 3>{
            {source, source + width, source + 2 * width},
            {&query(sequence, t, column), &key(sequence, t, column), &value(sequence, t, column)}};
      });
}

template class HeadGradient<float>;
template class HeadGradient<double>;

}  // namespace bsbr::attention
