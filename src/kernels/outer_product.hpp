// The gradient of a linear layer's weight: weight_gradient [out, in] += output_gradientᵀ · input, over the rows of one
// leaf, with output_gradient [rows, out] and input [rows, in].
//
// Each element is one chain of multiply-adds over the rows in order, cut into blocks of HostSizes::product_depth rows
// from the leaf's first row on; sums of blocks are added in order. So a leaf may be given in pieces that begin at
// multiples of a block. On a host both factors are packed block by block, the rows of output_gradient turned into
// columns, and the register tile is that of the other products (product_kernel.hpp): a few rows of the gradient stay in
// the first-level cache while they meet a block of `input` in the second. On a GPU it is one call of the BLAS.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>
#include <type_traits>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/device_product.hpp"
#include "kernels/product_kernel.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/transpose.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Room for the packed factors of an outer product, and what a GPU's BLAS wants for itself.
template <class Real>
class OuterProductBuffers {
 public:
  OuterProductBuffers() = default;

  /// `elements`: the largest of elements(out, in) of the outer products that will use them. Throws MemoryError.
  explicit OuterProductBuffers(std::int64_t elements) : m_workspace(make_product_workspace()) {
    try {
      m_packed =
          Array<Real*>(Kokkos::view_alloc(std::string("bsbr::outer_product"), Kokkos::WithoutInitializing), elements);
    } catch (const std::exception& error) {
      throw MemoryError("no memory for " + std::to_string(elements) +
                        " packed elements of an outer product: " + error.what());
    }
  }

  /// What an outer product with a result [out, in] needs.
  static std::int64_t elements(std::int64_t out, std::int64_t in) { return on_host ? Packing(out, in).elements() : 0; }
  static std::int64_t bytes(std::int64_t elements) {
    return elements * static_cast<std::int64_t>(sizeof(Real)) + tuning::product_workspace_bytes;
  }

  const Array<Real*>& packed() const { return m_packed; }
  const ProductWorkspace& workspace() const { return m_workspace; }

  /// How a block of rows is packed: output_gradient as rows [out, depth], then `input` as tiles [depth, columns], the
  /// last of which ends in zeros.
  struct Packing {
    static constexpr std::int64_t depth = HostSizes::product_depth;
    /// Between rows, which are not a power of two apart: that would put all of them into the same few lines of a cache.
    static constexpr std::int64_t stride = depth + tuning::cache_line_bytes / static_cast<std::int64_t>(sizeof(Real));

    std::int64_t out, in, columns, tiles;  // columns: of a tile, a divisor of HostSizes::product_columns

    Packing(std::int64_t rows, std::int64_t width)
        : out(rows), in(width), columns(product_kernel<Real>().columns), tiles((in + columns - 1) / columns) {}

    std::int64_t row(std::int64_t index) const { return index * stride; }
    std::int64_t tile(std::int64_t index) const { return out * stride + index * columns * depth; }
    std::int64_t elements() const { return tile(tiles); }
  };

 private:
  Array<Real*> m_packed;
  ProductWorkspace m_workspace;
};

namespace detail {

/// Packs the rows [first, first + depth) of both factors: a thread takes some rows and columns of one of them, so that
/// it reads pieces of rows that are long.
template <class Real>
void pack_outer_factors(const Execution& execution, std::int64_t first, int depth,
                        const Array<const Real**>& output_gradient, const Array<const Real**>& input,
                        const typename OuterProductBuffers<Real>::Packing& packing, Real* packed) {
  constexpr std::int64_t rows = HostSizes::packed_rows, most = HostSizes::product_columns;
  const auto pieces = [](std::int64_t width) { return (width + most - 1) / most; };
  const std::int64_t parts = (depth + rows - 1) / rows, turned = pieces(packing.out) * parts;
  using Policy = Kokkos::RangePolicy<Execution, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for("bsbr::outer_product::pack", Policy(execution, 0, turned + pieces(packing.in) * parts),
                       [=](const std::int64_t index) {
                         const SerialTeam team{};
                         const std::int64_t row = index % parts * rows;  // of the block
                         const int count = static_cast<int>(std::min(rows, depth - row));
                         if (index < turned) {
                           const std::int64_t column = index / parts * most;
                           const int width = static_cast<int>(std::min(most, packing.out - column));
                           transpose_rows(
                               team, count, width, Real(1),
                               [&](int i) { return &output_gradient(first + row + i, column); },
                               packed + packing.row(column) + row, packing.stride);
                         } else {
                           const std::int64_t column = (index - turned) / parts * most, tile = column / packing.columns;
                           pack_tiles<Real>(
                               team, count, std::min(most, packing.in - column), static_cast<int>(packing.columns),
                               [&](int i) { return &input(first + row + i, column); },
                               [&](std::int64_t n) { return packed + packing.tile(tile + n) + row * packing.columns; });
                         }
                       });
}

/// Rows of the gradient that a thread takes through a block of `input`: fewer where there are few.
template <class Real>
std::int64_t outer_rows(const Execution& execution, std::int64_t out, std::int64_t column_blocks) {
  const std::int64_t wanted = tuning::teams_per_thread * std::int64_t{execution.concurrency()};
  std::int64_t rows = std::int64_t{HostSizes::outer_tiles} * product_kernel<Real>().rows;
  while (rows > product_kernel<Real>().rows && (out + rows - 1) / rows * column_blocks < wanted)
    rows -= product_kernel<Real>().rows;
  return rows;
}

/// weight_gradient [rows [begin, end), columns of the tile] += packed rows · packed tile.
template <class Real>
void add_outer_tile(const ProductKernel<Real>& kernel, const typename OuterProductBuffers<Real>::Packing& packing,
                    const Real* packed, int depth, std::int64_t row, int height, std::int64_t tile,
                    Real* weight_gradient) {
  const std::int64_t column = tile * packing.columns, width = std::min(packing.columns, packing.in - column);
  const Real *left = packed + packing.row(row), *right = packed + packing.tile(tile);
  Real* target = weight_gradient + row * packing.in + column;
  if (width == packing.columns) {
    return kernel.tile(height, depth, left, packing.stride, right, target, packing.in, true, {});
  }
  Real sums[ProductKernel<Real>::most_rows * ProductKernel<Real>::most_columns];  // a kernel writes whole tiles
  kernel.tile(height, depth, left, packing.stride, right, sums, packing.columns, false, {});
  for (int i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j) target[i * packing.in + j] += sums[i * packing.columns + j];
  }
}

/// weight_gradient += the product of the packed factors, `depth` deep.
template <class Real>
void add_packed_outer_product(const Execution& execution, int depth,
                              const typename OuterProductBuffers<Real>::Packing& packing, const Real* packed,
                              Real* weight_gradient) {
  const ProductKernel<Real> kernel = product_kernel<Real>();
  const std::int64_t block_tiles = std::max<std::int64_t>(1, HostSizes::product_columns / packing.columns);
  const std::int64_t blocks = (packing.tiles + block_tiles - 1) / block_tiles;
  const std::int64_t rows = outer_rows<Real>(execution, packing.out, blocks), groups = (packing.out + rows - 1) / rows;
  using Policy = Kokkos::RangePolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for("bsbr::outer_product::multiply", Policy(execution, 0, blocks * groups, Kokkos::ChunkSize(1)),
                       [=](const std::int64_t index) {
                         const SerialTeam team{};
                         const std::int64_t first = index / groups * block_tiles,
                                            last = std::min(first + block_tiles, packing.tiles);
                         const std::int64_t begin = index % groups * rows, end = std::min(begin + rows, packing.out);
                         for (std::int64_t row = begin; row < end; row += kernel.rows) {
                           const int height = static_cast<int>(std::min<std::int64_t>(kernel.rows, end - row));
                           for (std::int64_t tile = first; tile < last; ++tile)
                             add_outer_tile(kernel, packing, packed, depth, row, height, tile, weight_gradient);
                         }
                       });
}

}  // namespace detail

/// weight_gradient [out, in] += output_gradientᵀ · input over the rows of a leaf, or of a piece of it that begins at a
/// multiple of HostSizes::product_depth rows; output_gradient [rows, out], input [rows, in]. Throws ShapeError if
/// shapes do not fit each other, or the buffers.
template <class Real>
void add_outer_product(const Execution& execution, const OuterProductBuffers<Real>& buffers,
                       const std::type_identity_t<Array<const Real**>>& output_gradient,
                       const std::type_identity_t<Array<const Real**>>& input, const Array<Real**>& weight_gradient) {
  const auto rows = static_cast<std::int64_t>(input.extent(0)),
             out = static_cast<std::int64_t>(weight_gradient.extent(0)),
             in = static_cast<std::int64_t>(weight_gradient.extent(1));
  if (output_gradient.extent(0) != input.extent(0) || output_gradient.extent(1) != weight_gradient.extent(0) ||
      input.extent(1) != weight_gradient.extent(1) ||
      OuterProductBuffers<Real>::elements(out, in) > static_cast<std::int64_t>(buffers.packed().size())) {
    throw ShapeError("an outer product of [" + std::to_string(output_gradient.extent(0)) + ", " +
                     std::to_string(output_gradient.extent(1)) + "] and [" + std::to_string(rows) + ", " +
                     std::to_string(input.extent(1)) + "] does not fit [" + std::to_string(out) + ", " +
                     std::to_string(in) + "], or its buffers of " + std::to_string(buffers.packed().size()));
  }
  if (rows == 0 || out == 0 || in == 0) return;
  if constexpr (on_host) {
    const typename OuterProductBuffers<Real>::Packing packing(out, in);
    for (std::int64_t first = 0; first < rows; first += packing.depth) {
      const int depth = static_cast<int>(std::min(packing.depth, rows - first));
      detail::pack_outer_factors(execution, first, depth, output_gradient, input, packing, buffers.packed().data());
      detail::add_packed_outer_product(execution, depth, packing, buffers.packed().data(), weight_gradient.data());
    }
  } else {
    device_product<Real>(execution,
                         {out,
                          in,
                          rows,
                          {output_gradient.data(), Transpose::yes},
                          {input.data(), Transpose::no},
                          weight_gradient.data(),
                          true},
                         buffers.workspace());
  }
}

}  // namespace bsbr::kernels
