// Messages of BlockTranspose, and how its arrays are packed and unpacked.
#include "architectures/bsbr/block_transpose.hpp"

#include <algorithm>

#include "kernels/rows.hpp"

namespace bsbr::attention {

template <class Real>
BlockTranspose<Real>::BlockTranspose(const Sequence& sequence, const kernels::StateBlocks& blocks,
                                     const parallel::Dealing& dealing, std::int64_t width)
    : m_sequence(sequence),
      m_blocks(blocks.with_width(width)),
      m_dealing(dealing),
      m_gathered{m_blocks, sequence.chunks(), dealing.first_item(sequence.rank()),
                 dealing.item_count(sequence.rank())} {
  const int mine = sequence.rank();
  const Partition& chunks = sequence.chunks();
  const std::int64_t block = m_blocks.elements(1, chunks.size(mine)), row = m_blocks.elements(1, 1);
  m_chunks_from = parallel::slices_of(chunks, m_blocks.elements(m_gathered.block_count, 1));
  std::int64_t received = 0;
  for (int rank = 0; rank < sequence.ranks(); ++rank) {
    m_blocks_to.push_back({dealing.first_item(rank) * block, dealing.item_count(rank) * block});
    if (dealing.whole_items()) continue;
    const auto dealt = [&](int worker, int owner) {
      const parallel::DealtRows rows = dealing.rows(worker);
      const std::int64_t first = rows.before(chunks.begin(owner));
      return parallel::Slice{first * row, (rows.before(chunks.end(owner)) - first) * row};
    };
    m_rows_to.push_back(dealt(mine, rank));
    m_rows_from.push_back({received, dealt(rank, mine).count});
    received += m_rows_from.back().count;
  }
}

template <class Real>
std::int64_t BlockTranspose<Real>::gathered_elements() const {
  const std::int64_t elements = m_blocks.elements(m_gathered.block_count, m_sequence.num_chunks());
  return m_dealing.whole_items() ? elements : std::max(elements, local_elements());
}

template <class Real>
std::int64_t BlockTranspose<Real>::mixed_elements(std::int64_t block_count) const {
  return m_blocks.elements(block_count, m_dealing.rows(m_sequence.rank()).before(m_sequence.num_chunks()));
}

template <class Real>
std::unique_ptr<parallel::Exchange<Real>> BlockTranspose<Real>::send(const Execution& execution,
                                                                     const Array<Real*>& local,
                                                                     const Array<Real*>& gathered) const {
  auto exchange = std::make_unique<parallel::Exchange<Real>>(execution, m_sequence.comm(), local, m_blocks_to, gathered,
                                                             m_chunks_from);
  exchange->send();
  return exchange;
}

template <class Real>
std::unique_ptr<parallel::Exchange<Real>> BlockTranspose<Real>::send_back(const Execution& execution,
                                                                          const Array<Real*>& gathered,
                                                                          const Array<Real*>& mixed,
                                                                          const Array<Real*>& local) const {
  auto exchange = stores() ? std::make_unique<parallel::Exchange<Real>>(execution, m_sequence.comm(), gathered,
                                                                        m_chunks_from, local, m_blocks_to)
                           : std::make_unique<parallel::Exchange<Real>>(execution, m_sequence.comm(), mixed, m_rows_to,
                                                                        gathered, m_rows_from);
  exchange->send();
  return exchange;
}

template <class Real>
void BlockTranspose<Real>::store(const Execution& execution, const Array<const Real*>& mixed, std::int64_t first_block,
                                 std::int64_t count, const Array<Real*>& gathered) const {
  const std::int64_t batch = m_blocks.batch, chunks = m_sequence.num_chunks(), width = m_blocks.width;
  const kernels::GatheredStates places = m_gathered;
  kernels::copy_rows(
      execution, "bsbr::attention::store_mixed", count * chunks * batch, width, KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i % batch, chunk = i / batch % chunks, block = first_block + i / batch / chunks;
        return kernels::RowCopies<Real, 1>{{&mixed(i * width)}, {&gathered(places.offset(block, chunk, row))}};
      });
}

template <class Real>
void BlockTranspose<Real>::unpack(const Execution& execution, const Array<const Real*>& gathered,
                                  const Array<Real*>& local) const {
  const std::int64_t batch = m_blocks.batch, width = m_blocks.width;
  const std::int64_t chunks = m_sequence.local_chunks(), first = m_sequence.first_chunk(), last = first + chunks;
  const parallel::Dealing dealing = m_dealing;
  kernels::copy_rows(
      execution, "bsbr::attention::unpack_mixed", m_blocks.blocks() * chunks * batch, width,
      KOKKOS_LAMBDA(const std::int64_t i) {
        const std::int64_t row = i % batch, chunk = i / batch % chunks, block = i / batch / chunks;
        const parallel::DealtRows dealt = dealing.rows_with(block, first + chunk);
        const std::int64_t earlier = dealt.of_earlier_ranks(last) - dealt.of_earlier_ranks(first) +
                                     dealt.before(first + chunk) - dealt.before(first);
        return kernels::RowCopies<Real, 1>{{&gathered(((block * chunks + earlier) * batch + row) * width)},
                                           {&local(i * width)}};
      });
}

template class BlockTranspose<float>;
template class BlockTranspose<double>;

}  // namespace bsbr::attention
