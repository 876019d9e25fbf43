// The big matrix products: rows [rows, in] · weightᵀ, with weight [out, in]; and backwards, rows [rows, out] · weight.
//
// On a host a weight is packed once, in the order in which the products read it, and one thread multiplies some rows
// with it at a time. The loops are those of Goto and van de Geijn (2008), with the weight in the place of their packed
// b: a block of it stays in the second-level cache while all rows meet it, a few rows stay in the first-level cache
// while they meet the block, a tile of results in registers. Few rows are not enough for all threads: these share out
// the columns of the product instead, so that the weight is read once. An element is the same chain of multiply-adds
// either way. On a GPU the product is one call of the BLAS (device_product.hpp).
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "bsbr/partition.hpp"
#include "kernels/compat.hpp"
#include "kernels/device_product.hpp"
#include "kernels/huge_pages.hpp"
#include "kernels/product_kernel.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/transpose.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// A weight [out, in] as the products read it. It may be the transpose of the matrix that it is made from: a layer's
/// matrix W takes inputs x to x·Wᵀ, and transposed takes gradients dy to dy·W. Copies share the packed elements.
template <class Real>
class ProductWeight {
 public:
  ProductWeight() = default;

  /// Room for one; on a GPU none is needed. Throws MemoryError.
  ProductWeight(std::int64_t out, std::int64_t in, Transpose transpose = Transpose::no)
      : m_out(out), m_in(in), m_transpose(transpose) {
    if constexpr (!on_host) return;
    try {
      m_packed = allocate_in_huge_pages<Real>("bsbr::packed_weight", Packing(out, in).elements());
    } catch (const std::exception& error) {
      throw MemoryError("no memory for a packed weight [" + std::to_string(out) + ", " + std::to_string(in) +
                        "]: " + error.what());
    }
  }

  /// Of a matrix, or of its transpose: on a host a copy, on a GPU the array itself.
  explicit ProductWeight(const Array<const Real**>& matrix, Transpose transpose = Transpose::no)
      : ProductWeight(matrix.extent(transpose == Transpose::no ? 0 : 1),
                      matrix.extent(transpose == Transpose::no ? 1 : 0), transpose) {
    assign(Execution(), matrix);
  }

  /// A matrix of the same shape takes the place of the one before. On a host that holds for all copies.
  void assign([[maybe_unused]] const Execution& execution, const Array<const Real**>& matrix) {
    if constexpr (on_host) {
      pack(execution, matrix);
    } else {
      m_plain = matrix;
    }
  }

  std::int64_t out() const { return m_out; }
  std::int64_t in() const { return m_in; }

  /// Bytes that it takes besides the array that it is made from.
  static std::int64_t bytes(std::int64_t out, std::int64_t in) {
    return on_host ? Packing(out, in).elements() * static_cast<std::int64_t>(sizeof(Real)) : 0;
  }

  /// product [rows, out] = input [rows, in] · weightᵀ by this thread of a host. Rows lie `in_stride` and `out_stride`
  /// elements apart; those of the product have room for whole tiles: row_stride(out()).
  void multiply(std::int64_t rows, const Real* input, std::int64_t in_stride, Real* product,
                std::int64_t out_stride) const {
    multiply_part(0, 1, rows, input, in_stride, product, out_stride);
  }

  /// The same of some of the columns only: of one of `parts` parts that are about equal.
  void multiply_part(int part, int parts, std::int64_t rows, const Real* input, std::int64_t in_stride, Real* product,
                     std::int64_t out_stride) const {
    const Partition tiles{Packing(m_out, m_in).tiles, parts};
    multiply_tiles(tiles.begin(part), tiles.end(part), rows, input, in_stride, product, out_stride);
  }

  /// product [rows, out] = input [rows, in] · weightᵀ, in the order of `execution`: by one call of a GPU's BLAS, or by
  /// all threads of a host, which share out the columns, for a few rows. Rows of the product are row_stride apart.
  void multiply(const Execution& execution, std::int64_t rows, const Real* input, Real* product,
                [[maybe_unused]] const ProductWorkspace& workspace) const {
    if constexpr (on_host) {
      const ProductWeight weight = *this;
      const std::int64_t in_stride = m_in, out_stride = row_stride(m_out);
      const int parts = execution.concurrency();
      Kokkos::parallel_for("bsbr::kernels::multiply_few_rows", Kokkos::RangePolicy<Execution>(execution, 0, parts),
                           [=](const int part) {
                             [[maybe_unused]] const SerialTeam team{};
                             weight.multiply_part(part, parts, rows, input, in_stride, product, out_stride);
                           });
    } else {
      const Transpose of_matrix = m_transpose == Transpose::no ? Transpose::yes : Transpose::no;
      device_product<Real>(execution,
                           {rows, m_out, m_in, {input, Transpose::no}, {m_plain.data(), of_matrix}, product, false},
                           workspace);
    }
  }

  /// Elements from one row to the next where rows of this width are products and factors. A host's are whole tiles, and
  /// not a power of two apart, which would put all of them into the same few lines of a cache.
  static std::int64_t row_stride(std::int64_t width) {
    if constexpr (!on_host) return width;
    return Packing(width, 0).padded_out() + tuning::cache_line_bytes / static_cast<std::int64_t>(sizeof(Real));
  }

 private:
  /// How a weight is packed: for each part of the sum, for each tile of columns of the product, a block [depth,
  /// columns]. Parts are of equal size, no larger than fits; columns of the last tile beyond `out` are zeros.
  struct Packing {
    std::int64_t in, step, columns, tiles;  // step: depth of each part but the last; columns: of a tile

    Packing(std::int64_t out, std::int64_t depth)
        : in(depth), columns(product_kernel<Real>().columns), tiles((out + columns - 1) / columns) {
      const std::int64_t parts =
          std::max<std::int64_t>(1, (in + HostSizes::product_depth - 1) / HostSizes::product_depth);
      step = (in + parts - 1) / parts;
    }

    std::int64_t parts() const { return in == 0 ? 0 : (in + step - 1) / step; }
    /// Of the part that begins at k.
    std::int64_t depth(std::int64_t k) const { return std::min(step, in - k); }
    /// Where the block of this part and a tile begins.
    std::int64_t offset(std::int64_t k, std::int64_t tile) const { return (k * tiles + tile * depth(k)) * columns; }
    std::int64_t padded_out() const { return tiles * columns; }
    std::int64_t elements() const { return padded_out() * in; }
  };

  /// The columns of the tiles [first_tile, last_tile) of a product, by this thread of a host.
  void multiply_tiles(std::int64_t first_tile, std::int64_t last_tile, std::int64_t rows, const Real* input,
                      std::int64_t in_stride, Real* product, std::int64_t out_stride) const {
    const ProductKernel<Real> kernel = product_kernel<Real>();
    const Packing packing(m_out, m_in);
    // product[row …, columns of the tile] = Σ input[row …, k …] · weight[columns of the tile, k …], or += after the
    // first part of the sum
    const auto multiply_tile = [&](std::int64_t row, std::int64_t k, std::int64_t tile, const ReadAhead<Real>& ahead) {
      const int height = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - row)),
                depth = static_cast<int>(packing.depth(k));
      kernel.tile(height, depth, input + row * in_stride + k, in_stride, m_packed.data() + packing.offset(k, tile),
                  product + row * out_stride + tile * packing.columns, out_stride, k > 0, ahead);
    };
    // Few rows meet a tile of the weight before the next one, for which they ask meanwhile, each tile of rows for its
    // share: so memory is read all the time.
    const std::int64_t row_tiles = (rows + kernel.rows - 1) / kernel.rows;
    const bool few = row_tiles <= HostSizes::few_row_tiles;
    const auto ahead = [&](std::int64_t row, std::int64_t k, std::int64_t tile) -> ReadAhead<Real> {
      const bool is_last = tile + 1 == last_tile;
      const std::int64_t next = is_last ? first_tile : tile + 1, part = is_last ? k + packing.step : k;
      if (!few || part >= m_in) return {};
      const std::int64_t share = (packing.columns + row_tiles - 1) / row_tiles, begin = row / kernel.rows * share;
      if (begin >= packing.columns) return {};
      return {m_packed.data() + packing.offset(part, next) + begin * packing.depth(part), share};
    };
    const std::int64_t block_tiles = few ? 1 : std::max<std::int64_t>(1, HostSizes::product_columns / packing.columns);
    for (std::int64_t k = 0; k < m_in; k += packing.step) {
      for (std::int64_t first = first_tile; first < last_tile; first += block_tiles) {
        const std::int64_t last = std::min(first + block_tiles, last_tile);
        for (std::int64_t row = 0; row < rows; row += kernel.rows) {
          for (std::int64_t tile = first; tile < last; ++tile) multiply_tile(row, k, tile, ahead(row, k, tile));
        }
      }
    }
  }

  void pack(const Execution& execution, const Array<const Real**>& matrix) {
    const Packing packing(m_out, m_in);
    const std::int64_t out = m_out;
    const bool transposed = m_transpose == Transpose::yes;
    Real* packed = m_packed.data();
    const std::int64_t groups = (packing.tiles + HostSizes::packed_tiles - 1) / HostSizes::packed_tiles;
    const Kokkos::RangePolicy<Execution> policy(execution, 0, packing.parts() * groups);
    Kokkos::parallel_for("bsbr::kernels::pack_weight", policy, [=](const std::int64_t index) {
      const SerialTeam team{};
      const std::int64_t k = index / groups * packing.step, first = index % groups * HostSizes::packed_tiles;
      const std::int64_t last = std::min(first + HostSizes::packed_tiles, packing.tiles);
      const int columns = static_cast<int>(packing.columns), depth = static_cast<int>(packing.depth(k));
      const auto block = [&](std::int64_t tile) { return packed + packing.offset(k, tile); };  // [depth, columns]
      if (transposed) {
        const auto row = [&](int i) { return &matrix(k + i, first * columns); };
        pack_tiles<Real>(team, depth, std::min(last * columns, out) - first * columns, columns, row,
                         [&](std::int64_t n) { return block(first + n); });
      } else {
        for (std::int64_t tile = first; tile < last; ++tile) {
          const auto column = [&](int i) {
            const std::int64_t row = tile * columns + i;
            return row < out ? &matrix(row, k) : nullptr;
          };
          transpose_rows(team, columns, depth, Real(1), column, block(tile), columns);
        }
      }
    });
    execution.fence();
  }

  Array<const Real**> m_plain;
  Array<Real*> m_packed;
  std::int64_t m_out = 0, m_in = 0;
  Transpose m_transpose = Transpose::no;  // of the matrix
};

}  // namespace bsbr::kernels
