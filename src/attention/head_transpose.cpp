// Messages of HeadTranspose, and how their buffers are packed and unpacked.
#include "attention/head_transpose.hpp"

#include "attention/attention.hpp"
#include "attention/mask_rows.hpp"
#include "attention/overlap.hpp"
#include "attention/rows_by_head.hpp"
#include "kernels/rows.hpp"

namespace bsbr::attention {
/// Send and receive counts per rank, for allocation, prediction and messages.
template <class Real>
struct HeadTranspose<Real>::Sizes {
  std::vector<parallel::Slice> keys_to, keys_from, queries_to, queries_from;

  Sizes(const ModelConfig& config, const Sequence& sequence, bool packed, const parallel::Dealing& dealing) {
    const std::int64_t row = sequence.batch() * config.head_dim(), key_row = packed ? row : 2 * row;
    const auto tokens = [&](int rank) { return sequence.first_token_of(rank + 1) - sequence.first_token_of(rank); };
    const auto dealt = [&](int owner, int worker) { return dealt_tokens(dealing, sequence, owner, worker); };
    std::vector<std::int64_t> to, from, query_to, query_from;
    const int mine = sequence.rank();
    for (int rank = 0; rank < sequence.ranks(); ++rank) {
      to.push_back(tokens(mine) * key_row * dealing.item_count(rank));
      from.push_back(tokens(rank) * key_row * dealing.item_count(mine));
      query_to.push_back(dealt(mine, rank) * row * dealing.item_count(rank));
      query_from.push_back(dealt(rank, mine) * row * dealing.item_count(mine));
    }
    keys_to = one_after_another(to);
    keys_from = one_after_another(from);
    queries_to = one_after_another(query_to);
    queries_from = one_after_another(query_from);
  }
};

template <class Real>
HeadTranspose<Real>::HeadTranspose(const ModelConfig& config, const Sequence& sequence, bool packed)
    : m_config(config), m_sequence(sequence), m_is_packed(packed), m_dealing(heads_over_ranks(config, sequence)) {
  const Sizes sizes(config, sequence, packed, m_dealing);
  m_keys_to = sizes.keys_to;
  m_keys_from = sizes.keys_from;
  m_queries_to = sizes.queries_to;
  m_queries_from = sizes.queries_from;
  m_own_keys = allocate<Real>("own_keys", total(m_keys_to));
  m_keys = allocate<Real>("keys", total(m_keys_from));
  m_own_queries = allocate<Real>("own_queries", total(m_queries_to));
  m_results = allocate<Real>("results", total(m_queries_to));
  m_queries = allocate<Real>("queries", total(m_queries_from));
  m_real_rows = allocate<std::uint8_t>("mask_rows", sequence.length() * sequence.batch());
  m_real = Array<std::uint8_t**>("bsbr::attention::mask", sequence.batch(), sequence.length());
}

template <class Real>
std::int64_t HeadTranspose<Real>::own_log_sums(const ModelConfig& config, const Sequence& sequence) {
  const parallel::Dealing dealing = heads_over_ranks(config, sequence);
  return dealing.item_count(sequence.rank()) * dealing.rows(sequence.rank()).before(sequence.length());
}

template <class Real>
std::int64_t HeadTranspose<Real>::bytes(const ModelConfig& config, const Sequence& sequence, bool packed) {
  const Sizes sizes(config, sequence, packed, heads_over_ranks(config, sequence));
  const std::int64_t elements =
      total(sizes.keys_to) + total(sizes.keys_from) + 2 * total(sizes.queries_to) + total(sizes.queries_from);
  return elements * static_cast<std::int64_t>(sizeof(Real)) + 2 * sequence.length() * sequence.batch();
}

template <class Real>
Array<const std::uint8_t**> HeadTranspose<Real>::gather_mask(const Execution& execution, const PaddingMask& mask,
                                                             Profile* profile) const {
  if (!mask.has_padding()) return {};
  pack_mask(execution, mask, m_real_rows, m_sequence.first_token() * m_sequence.batch());
  std::vector<parallel::Slice> tokens;
  for (int rank = 0; rank < m_sequence.ranks(); ++rank) {
    const std::int64_t first = m_sequence.first_token_of(rank);
    tokens.push_back({first, m_sequence.first_token_of(rank + 1) - first});
  }
  parallel::Gather<std::uint8_t> gather(execution, m_sequence.comm(), m_real_rows, m_sequence.batch(), tokens);
  finish(gather, "mask", profile);
  unpack_mask(execution, m_real_rows, m_sequence.length(), m_real);
  return m_real;
}

template <class Real>
typename HeadTranspose<Real>::Work HeadTranspose<Real>::all_work(const Array<const std::uint8_t**>& real) const {
  const int mine = m_sequence.rank();
  const std::int64_t batch = m_sequence.batch(), length = m_sequence.length(), heads = m_dealing.item_count(mine);
  const std::int64_t width = heads * m_config.head_dim();
  const parallel::DealtRows dealt = m_dealing.rows(mine);
  const auto queries = rows_by_head(m_queries, batch, dealt.before(length), width, 0, width);
  const auto keys = [&]() -> kernels::KeysAndValues<Real> {
    if (m_is_packed) return {rows_by_head(m_keys, batch, length, width, 0, width), {}, real, 0, true};
    return {rows_by_head(m_keys, batch, length, 2 * width, 0, width),
            rows_by_head(m_keys, batch, length, 2 * width, width, width), real, 0};
  };
  return {.heads = heads,
          .dealt = dealt,
          .first = 0,
          .last = dealt.before(length),
          .query = queries,
          .keys = keys(),
          .output = queries};
}

/// Three messages from each rank to each:
///
///                my tokens, all heads                      all tokens, my heads
///     keys       m_own_keys      ─────── to all ranks ───▶ m_keys
///     queries    m_own_queries   ────────────────────────▶ m_queries
///                                                          attend: results take the queries' place
///     results    m_results       ◀──────────────────────── m_queries
///
/// Queries of rank 0 see the keys of rank 0 only, those of rank 1 the keys of ranks 0 and 1, and so on. So the ranks'
/// tokens are worked on in their order, each as soon as its keys and queries have come; later ones, and results, are
/// under way meanwhile.
template <class Real>
void HeadTranspose<Real>::forward(const Execution& execution, const PaddingMask& mask,
                                  const AttentionInput<Real>& input, const Array<Real***>& output, Profile* profile,
                                  const Attend& attend) {
  const MPI_Comm comm = m_sequence.comm();
  const int ranks = m_sequence.ranks();
  parallel::Exchange<Real> keys(execution, comm, m_own_keys, m_keys_to, m_keys, m_keys_from);
  parallel::Exchange<Real> queries(execution, comm, m_own_queries, m_queries_to, m_queries, m_queries_from);
  parallel::Exchange<Real> results(execution, comm, m_queries, m_queries_from, m_results, m_queries_to);
  Work work;
  {
    const Phase phase(execution, profile, "exchange");
    for (int rank = 0; rank < ranks; ++rank) pack(execution, input, rank);
    keys.send();
    queries.send();
    work = all_work(gather_mask(execution, mask, profile));
  }
  for (int rank = 0; rank < ranks; ++rank) {
    {
      const Phase phase(execution, profile, "exchange");
      keys.wait_for(rank);
      queries.wait_for(rank);
    }
    work.first = work.dealt.before(m_sequence.first_token_of(rank));
    work.last = work.dealt.before(m_sequence.first_token_of(rank + 1));
    attend(work);
    const Phase phase(execution, profile, "exchange");
    results.send(rank);
    results.progress();
  }
  const Phase phase(execution, profile, "exchange");
  for (auto* messages : {&keys, &queries, &results}) finish(*messages, "heads", profile);
  for (int rank = 0; rank < ranks; ++rank) unpack(execution, output, rank);
}

/// Keys and values of all local tokens for a rank's heads, and queries of those that are dealt to it.
template <class Real>
void HeadTranspose<Real>::pack(const Execution& execution, const AttentionInput<Real>& input, int rank) const {
  if (input.packed) return pack_packed(execution, input, rank);
  const std::int64_t batch = m_sequence.batch(), first = m_sequence.first_token(), head_dim = m_config.head_dim();
  const std::int64_t column = m_dealing.first_item(rank) * head_dim, width = m_dealing.item_count(rank) * head_dim;
  const std::int64_t key_offset = m_keys_to[static_cast<std::size_t>(rank)].offset;
  const std::int64_t query_offset = m_queries_to[static_cast<std::size_t>(rank)].offset;
  const parallel::DealtRows dealt = m_dealing.rows(rank);
  const std::int64_t dealt_before = dealt.before(first);
  const Array<Real*> keys = m_own_keys, queries = m_own_queries;
  const auto query = input.query, key = input.key, value = input.value;
  kernels::copy_rows(
      execution, "bsbr::attention::pack_heads", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / batch, row = i % batch;
        Real* of_keys = keys.data() + key_offset + i * 2 * width;
        Real* of_queries =
            queries.data() + query_offset + ((dealt.before(first + t) - dealt_before) * batch + row) * width;
        return kernels::RowCopies<Real, 3>{{&key(row, t, column), &value(row, t, column), &query(row, t, column)},
                                           {of_keys, of_keys + width, dealt.has(first + t) ? of_queries : nullptr}};
      });
}

/// The same of packed rows.
template <class Real>
void HeadTranspose<Real>::pack_packed(const Execution& execution, const AttentionInput<Real>& input, int rank) const {
  const std::int64_t batch = m_sequence.batch(), first = m_sequence.first_token(), head_dim = m_config.head_dim();
  const std::int64_t first_head = m_dealing.first_item(rank), width = m_dealing.item_count(rank) * head_dim;
  const std::int64_t key_offset = m_keys_to[static_cast<std::size_t>(rank)].offset;
  const std::int64_t query_offset = m_queries_to[static_cast<std::size_t>(rank)].offset;
  const parallel::DealtRows dealt = m_dealing.rows(rank);
  const std::int64_t dealt_before = dealt.before(first);
  const Array<Real*> keys = m_own_keys, queries = m_own_queries;
  const auto key = input.key;
  const kernels::HeadRows<Real> query(input.query, true);
  kernels::copy_rows(
      execution, "bsbr::attention::pack_heads", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        return kernels::RowCopies<Real, 1>{{&key(i % batch, i / batch, first_head * head_dim)},
                                           {keys.data() + key_offset + i * width}};
      });
  Kokkos::parallel_for(
      "bsbr::attention::pack_queries",
      Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>>(execution, 0, m_sequence.local_tokens() * batch),
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / batch, row = i % batch;
        if (!dealt.has(first + t)) return;
        const auto of_heads = query.row(row, t, first_head, static_cast<int>(head_dim));
        Real* target = &queries(query_offset + ((dealt.before(first + t) - dealt_before) * batch + row) * width);
        for (std::int64_t k = 0; k < width; ++k) target[k] = of_heads[k];
      });
}

/// The results that came back from a rank.
template <class Real>
void HeadTranspose<Real>::unpack(const Execution& execution, const Array<Real***>& output, int rank) const {
  const std::int64_t batch = m_sequence.batch(), first = m_sequence.first_token(), head_dim = m_config.head_dim();
  const std::int64_t column = m_dealing.first_item(rank) * head_dim, width = m_dealing.item_count(rank) * head_dim;
  const std::int64_t offset = m_queries_to[static_cast<std::size_t>(rank)].offset;
  const parallel::DealtRows dealt = m_dealing.rows(rank);
  const std::int64_t dealt_before = dealt.before(first);
  const Array<const Real*> results = m_results;
  kernels::copy_rows(
      execution, "bsbr::attention::unpack_heads", m_sequence.local_tokens() * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t t = i / batch, row = i % batch;
        const Real* source = results.data() + offset + ((dealt.before(first + t) - dealt_before) * batch + row) * width;
        return kernels::RowCopies<Real, 1>{{source}, {dealt.has(first + t) ? &output(row, t, column) : nullptr}};
      });
}

template class HeadTranspose<float>;
template class HeadTranspose<double>;

}  // namespace bsbr::attention
