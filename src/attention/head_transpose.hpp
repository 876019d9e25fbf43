// From "my tokens, all heads" to "all tokens, my heads" and back: how standard and hopfield attention are distributed
// over ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bsbr/attention.hpp"
#include "kernels/tokens.hpp"
#include "parallel/dealing.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {

/// Each rank sends queries, keys and values by head, so that it then has some heads of all tokens, and gets results
/// back. With more ranks than heads the queries of a head are dealt out to several ranks, tile by tile. A rank sends
/// 4·(L/P)·D elements where P ≤ H, 3·(L/P)·D if keys and values are packed, less what is for itself.
template <class Real>
class HeadTranspose {
 public:
  /// packed: AttentionInput::packed of its input. Keys and values are sent as they are, queries as numbers, since their
  /// results take their places.
  HeadTranspose(const ModelConfig& config, const Sequence& sequence, bool packed);
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence, bool packed);

  /// What a rank works on at a time: rows of its heads side by side. Queries are those that were dealt to it, numbered
  /// without gaps.
  struct Work {
    std::int64_t heads;
    parallel::DealtRows dealt;
    std::int64_t first, last;           // of these queries
    Strided<const Real***> query;       // [batch, queries, heads · head_dim]
    kernels::KeysAndValues<Real> keys;  // of all tokens; those that these queries see are there
    Strided<Real***> output;            // takes the place of the queries
  };
  using Attend = std::function<void(const Work&)>;

  /// Calls `attend` for the queries of one rank after another, as soon as they and the keys of the tokens up to them
  /// are there; meanwhile later ones come, and results go back. Collective.
  void forward(const Execution& execution, const PaddingMask& mask, const AttentionInput<Real>& input,
               const Array<Real***>& output, Profile* profile, const Attend& attend);

  /// The mask of all tokens; empty if there is no padding. Collective.
  Array<const std::uint8_t**> gather_mask(const Execution& execution, const PaddingMask& mask, Profile* profile) const;

  /// Heads of this rank, and queries that are dealt to it.
  std::int64_t own_heads() const { return m_dealing.item_count(m_sequence.rank()); }
  std::int64_t own_queries() const { return m_dealing.rows(m_sequence.rank()).before(m_sequence.length()); }
  /// Their product, without an object.
  static std::int64_t own_log_sums(const ModelConfig& config, const Sequence& sequence);

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void pack(const Execution& execution, const AttentionInput<Real>& input, int rank) const;
  void pack_packed(const Execution& execution, const AttentionInput<Real>& input, int rank) const;
  void unpack(const Execution& execution, const Array<Real***>& output, int rank) const;

 private:
  struct Sizes;

  Work all_work(const Array<const std::uint8_t**>& real) const;

  ModelConfig m_config;
  Sequence m_sequence;
  bool m_is_packed;
  parallel::Dealing m_dealing;
  std::vector<parallel::Slice> m_keys_to, m_keys_from, m_queries_to, m_queries_from;
  Array<Real*> m_own_keys;           // [rank][local token][batch][key, value of the rank's heads]
  Array<Real*> m_keys;               // [token][batch][key, value of my heads]
  Array<Real*> m_own_queries;        // [rank][local token dealt to it][batch][query of the rank's heads]
  Array<Real*> m_results;            // the same places: what comes back
  Array<Real*> m_queries;            // [token dealt to me][batch][query of my heads], then results
  Array<std::uint8_t*> m_real_rows;  // [token][batch]
  Array<std::uint8_t**> m_real;      // [batch, token]
};

}  // namespace bsbr::attention
