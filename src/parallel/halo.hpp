// Rows of tokens that other ranks have: the halo in front of a rank's own rows, and behind them.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "bsbr/sequence.hpp"
#include "config/causality.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::parallel {

/// The first token of a sequence whose row a rank needs, at most its own first. Tokens up to there are the rank's own.
/// All ranks know what each needs.
using FirstNeeded = std::function<std::int64_t(int rank)>;

/// The token behind the last one whose row a rank needs, at least that behind its own last.
using EndNeeded = std::function<std::int64_t(int rank)>;

/// Which tokens each rank needs and has: the plan of a halo, without its memory.
class HaloPlan {
 public:
  HaloPlan(const Sequence& sequence, const FirstNeeded& first_needed);
  HaloPlan(const Sequence& sequence, const FirstNeeded& first_needed, const EndNeeded& end_needed);

  /// Whether some rank needs a row of another.
  bool moves_anything() const { return m_moves; }

  /// The first token that this rank needs of others or has itself.
  std::int64_t first_token() const { return m_first; }
  /// Rows of this rank: those of earlier ranks, its own, and those of later ranks.
  std::int64_t rows() const { return m_last - m_first; }
  std::int64_t rows_before() const { return m_own.begin - m_first; }
  std::int64_t own_rows() const { return m_own.end - m_own.begin; }

  /// What goes to each rank, counted from this rank's own first row, and what comes from each, counted from
  /// first_token(). In rows.
  std::vector<Slice> to() const { return m_to; }
  std::vector<Slice> from() const { return m_from; }

 private:
  std::int64_t m_first, m_last;
  Range m_own;
  std::vector<Slice> m_to, m_from;
  bool m_moves = false;
};

/// Room for the rows of a plan, [token][row], and their transfer.
template <class Number>
class Halo {
 public:
  /// row: elements of one token, those of a whole batch.
  Halo(const HaloPlan& plan, std::int64_t row);
  static std::int64_t bytes(const HaloPlan& plan, std::int64_t row) {
    return plan.rows() * row * static_cast<std::int64_t>(sizeof(Number));
  }

  /// All rows, [token · row]; the caller fills in its own, from own_offset() on.
  const Array<Number*>& data() const { return m_data; }
  std::int64_t own_offset() const { return m_plan.rows_before() * m_row; }

  /// Begins to fetch the others' rows and to give this rank's own; they are there after wait(). Collective.
  std::unique_ptr<Exchange<Number>> start(const Execution& execution, MPI_Comm comm) const;

 private:
  HaloPlan m_plan;
  std::int64_t m_row;
  Array<Number*> m_data;
};

}  // namespace bsbr::parallel
