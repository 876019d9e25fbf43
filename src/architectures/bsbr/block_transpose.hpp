// From "my chunks, all blocks" to "all chunks, my blocks" and back: how chunks' states are distributed over ranks to be
// mixed.
#pragma once

#include <memory>
#include <vector>

#include "bsbr/sequence.hpp"
#include "kernels/state_layout.hpp"
#include "parallel/dealing.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::attention {

/// Moves rows of `width` elements, one for each (block, chunk, sequence of the batch): states, or what else belongs to
/// them. They lie in three kinds of arrays:
///
///     local      [block][local chunk][batch][width]: all blocks, where the chunks are
///     gathered   [rank][own block][chunk of that rank][batch][width]: all chunks, where the blocks are mixed; with
///                one rank this may be the local array
///     mixed      [own block][chunk dealt to this rank][batch][width]: what mixing forms of some blocks
///
/// Where ranks share a block, each of them has all chunks of it, and forms results for the chunks that are dealt to it.
/// What comes back from them then is in another order than that of the local array, and is unpacked.
template <class Real>
class BlockTranspose {
 public:
  /// \param width of the rows; that of the blocks may be another
  BlockTranspose(const Sequence& sequence, const kernels::StateBlocks& blocks, const parallel::Dealing& dealing,
                 std::int64_t width);

  /// Where rows are in a gathered array.
  const kernels::GatheredStates& gathered() const { return m_gathered; }
  std::int64_t local_elements() const { return m_blocks.elements(m_blocks.blocks(), m_sequence.local_chunks()); }
  /// There is also room for what comes back.
  std::int64_t gathered_elements() const;
  std::int64_t mixed_elements(std::int64_t block_count) const;

  /// Whether a gathered array gets the mixed rows, by store(), and send_back sends these; else it sends mixed arrays.
  bool stores() const { return m_dealing.whole_items(); }

  /// Starts on their way: local → gathered. Not with one rank.
  std::unique_ptr<parallel::Exchange<Real>> send(const Execution& execution, const Array<Real*>& local,
                                                 const Array<Real*>& gathered) const;
  /// And gathered, or mixed → local; where ranks share blocks → gathered, to be unpacked when all has come.
  std::unique_ptr<parallel::Exchange<Real>> send_back(const Execution& execution, const Array<Real*>& gathered,
                                                      const Array<Real*>& mixed, const Array<Real*>& local) const;

  /// gathered = mixed, for `count` of this rank's blocks.
  void store(const Execution& execution, const Array<const Real*>& mixed, std::int64_t first_block, std::int64_t count,
             const Array<Real*>& gathered) const;
  /// local = what has come back into the gathered array, [rank][local chunk dealt to it][batch][width]: neighbouring
  /// ranks have formed the rows of one block.
  void unpack(const Execution& execution, const Array<const Real*>& gathered, const Array<Real*>& local) const;

 private:
  Sequence m_sequence;
  kernels::StateBlocks m_blocks;
  parallel::Dealing m_dealing;
  kernels::GatheredStates m_gathered;

  // What goes to each rank and comes from it.
  std::vector<parallel::Slice> m_blocks_to;    // of a local array: the blocks that the rank mixes
  std::vector<parallel::Slice> m_chunks_from;  // of a gathered array: the chunks that the rank has
  // Where chunks are dealt out, on the way back, which begins with a mixed array and ends in a gathered one:
  std::vector<parallel::Slice> m_rows_to;    // chunks of that rank, dealt to this one
  std::vector<parallel::Slice> m_rows_from;  // chunks of this rank, dealt to that one
};

}  // namespace bsbr::attention
