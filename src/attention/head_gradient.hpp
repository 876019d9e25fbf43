// Gradients of attention that is distributed over ranks by heads: head_transpose.hpp.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "bsbr/attention.hpp"
#include "kernels/token_softmax_gradient.hpp"
#include "parallel/dealing.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {

/// Each rank sends queries, keys, values and gradients of results by head, so that it then has some heads of all
/// tokens, and gets the gradients of queries, keys and values back. With more ranks than heads each rank that shares a
/// head forms the gradients of the tokens that are dealt to it. A rank sends 7·(L/P)·D elements where P ≤ H, and δ,
/// less what is for itself.
template <class Real>
class HeadGradient {
 public:
  HeadGradient(const ModelConfig& config, const Sequence& sequence);
  static std::int64_t bytes(const ModelConfig& config, const Sequence& sequence);

  /// What a rank works on at a time: rows of its heads side by side. The tokens whose gradients are formed are those
  /// that were dealt to it, numbered without gaps.
  struct Work {
    std::int64_t heads;
    parallel::DealtRows dealt;
    std::int64_t first, last;  // of these tokens
    kernels::SoftmaxTokens<Real> tokens;
    Strided<Real***> query, key, value;  // [batch, dealt tokens, heads · head_dim]: the gradients
  };
  using Form = std::function<void(const Work&)>;

  /// Calls `of_queries` for the tokens of one rank after another, as soon as they and the tokens before them are there,
  /// and then `of_keys` for those of the last rank, then of the one before it, and so on; results go back meanwhile.
  /// Collective.
  /// \param log_sums [batch, heads of this rank, tokens dealt to it], \param deltas [batch, heads, local tokens]
  void backward(const Execution& execution, const AttentionInput<Real>& input, const Array<const std::uint8_t**>& real,
                const Array<Real***>& log_sums, const Array<Real***>& deltas, const Array<Real***>& output_gradient,
                const AttentionGradient<Real>& gradient, Profile* profile, const Form& of_queries, const Form& of_keys);

  // Steps. Public because CUDA's compiler wants functions that hold kernels to be.
  void pack(const Execution& execution, const AttentionInput<Real>& input, const Array<Real***>& deltas,
            const Array<Real***>& output_gradient, int rank) const;
  void unpack(const Execution& execution, const AttentionGradient<Real>& gradient, int rank) const;
  void unpack_deltas(const Execution& execution, std::int64_t first, std::int64_t last) const;
  void share_log_sums(const Execution& execution, const Array<Real***>& log_sums, Profile* profile) const;

 private:
  struct Sizes;

  std::int64_t row(int rank) const {  // elements of a token of one sequence: q, k, v, do, δ of a rank's heads
    return m_dealing.item_count(rank) * (4 * m_config.head_dim() + 1);
  }
  Work all_work(const Array<const std::uint8_t**>& real) const;

  ModelConfig m_config;
  Sequence m_sequence;
  parallel::Dealing m_dealing;
  std::vector<parallel::Slice> m_rows_to, m_rows_from, m_results_to, m_results_from;
  Array<Real*> m_own_rows;              // [rank][local token][batch][row of the rank's heads]
  Array<Real*> m_rows;                  // [token][batch][row of my heads]
  Array<Real*> m_results;               // [token dealt to me][batch][dq, dk, dv of my heads]
  Array<Real*> m_own_results;           // [rank][local token dealt to it][batch][dq, dk, dv of the rank's heads]
  Array<Real***> m_log_sums, m_deltas;  // [batch, my heads, token]
};

}  // namespace bsbr::attention
