// The mean loss of sequences that come in pieces.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/loss.hpp"

namespace bsbr {

/// LossSum of sequences all of which are added piece by piece: the same sums, with the same bits.
class PieceLossSum {
 public:
  /// sequences: how many there are; length: tokens of each.
  /// \throws ConfigError if a number is negative, or their product is too large
  PieceLossSum(std::int64_t sequences, std::int64_t length);
  PieceLossSum(PieceLossSum&&) noexcept;  ///< leaves the other one to be destroyed or assigned to only
  ~PieceLossSum();

  /// Adds the next tokens of all sequences, behind those that were added before. Not collective. All ranks add the same
  /// pieces, each its part.
  /// \param piece their shape, and this rank's part
  /// \param losses [batch, local tokens], as OutputLayer gives them
  /// \param targets [batch, local tokens]; where there is none the loss does not count
  /// \throws ShapeError if extents do not fit, or there are more tokens, or other sequences, than were announced
  void add(const Sequence& piece, const Array<const double**>& losses, const Array<const std::int32_t**>& targets);

  /// As of LossSum.
  MeanLoss mean(MPI_Comm comm) const;

  /// As of LossSum.
  std::vector<PositionLoss> by_position(MPI_Comm comm) const;

 private:
  struct Sums;
  std::unique_ptr<Sums> m_sums;
};

}  // namespace bsbr
