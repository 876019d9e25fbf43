// The big matrix products: rows [rows, in] · weightᵀ, with weight [out, in]; and backwards, rows [rows, out] · weight.
//
// On a host a weight is packed once, in the order in which the products read it, and one thread multiplies some rows
// with it at a time. The loops are those of Goto and van de Geijn (2008), with the weight in the place of their packed
// b: a block of it stays in the second-level cache while all rows meet it, a few rows stay in the first-level cache
// while they meet the block, a tile of results in registers. Few rows are not enough for all threads: these share out
// the columns of the product instead, so that the weight is read once. An element is the same chain of multiply-adds
// either way. On a GPU the product is one call of the BLAS (device_product.hpp).
//
// Factors may be rounded to bfloat16: the weight when it is packed, rows by round_row(), whose result has a form that
// the kernel of this CPU reads. Sums are in float either way.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "bsbr/partition.hpp"
#include "kernels/bfloat16.hpp"
#include "kernels/cache_blocks.hpp"
#include "kernels/compat.hpp"
#include "kernels/device_product.hpp"
#include "kernels/huge_pages.hpp"
#include "kernels/product_kernel.hpp"
#include "kernels/stored_row.hpp"
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

  /// Room for one; on a GPU none is needed, unless it is rounded. Throws MemoryError.
  ProductWeight(std::int64_t out, std::int64_t in, Transpose transpose = Transpose::no,
                Rounding rounding = Rounding::none)
      : m_out(out), m_in(in), m_transpose(transpose), m_rounding(rounding) {
    const std::int64_t count = bytes(out, in, rounding) / static_cast<std::int64_t>(sizeof(Real));
    if (count == 0) return;
    try {
      m_packed = allocate_in_huge_pages<Real>("bsbr::packed_weight", count);
    } catch (const std::exception& error) {
      throw MemoryError("no memory for a packed weight [" + std::to_string(out) + ", " + std::to_string(in) +
                        "]: " + error.what());
    }
  }

  /// Of a matrix, or of its transpose: on a host a copy, on a GPU the array itself, if it is not rounded.
  explicit ProductWeight(const Array<const Real**>& matrix, Transpose transpose = Transpose::no,
                         Rounding rounding = Rounding::none)
      : ProductWeight(matrix.extent(transpose == Transpose::no ? 0 : 1),
                      matrix.extent(transpose == Transpose::no ? 1 : 0), transpose, rounding) {
    assign(Execution(), matrix);
  }

  /// A matrix of the same shape takes the place of the one before. On a host that holds for all copies.
  void assign([[maybe_unused]] const Execution& execution, const Array<const Real**>& matrix) {
    if constexpr (!on_host) {
      m_plain = m_rounding == Rounding::none ? matrix : rounded(execution, matrix);
    } else if (m_rounding == Rounding::none) {
      pack(execution, matrix);
    } else {
      pack_pairs(execution, matrix);
    }
  }

  std::int64_t out() const { return m_out; }
  std::int64_t in() const { return m_in; }
  Rounding rounding() const { return m_rounding; }

  /// Bytes that it takes besides the array that it is made from: whole numbers of Real.
  static std::int64_t bytes(std::int64_t out, std::int64_t in, Rounding rounding = Rounding::none) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(Real));
    if constexpr (!on_host) return rounding == Rounding::none ? 0 : out * in * size;
    const Packing packing(out, in, rounding);
    return (packing.elements() * packing.element_bytes + size - 1) / size * size;
  }

  /// Makes numbers [in] a row that this is multiplied with, in their place; there is room for row_stride(in). Where
  /// nothing is rounded they are one.
  template <class AnyTeam>
  KOKKOS_INLINE_FUNCTION void round_row([[maybe_unused]] const AnyTeam& team, [[maybe_unused]] Real* row) const {
    if constexpr (std::is_same_v<Real, float>) {
      if (m_rounding == Rounding::none) return;
      if constexpr (on_host) {
        product_kernel<Real>(m_rounding).prepare(m_in, row);
      } else {
        for_each(team, static_cast<int>(m_in), [&](const int i) { row[i] = as_bfloat16(row[i]); });
      }
    }
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
    const Partition tiles{Packing(m_out, m_in, m_rounding).tiles, parts};
    multiply_tiles(tiles.begin(part), tiles.end(part), rows, input, in_stride, product, out_stride);
  }

  /// product [rows, out] = input [rows, in] · weightᵀ, in the order of `execution`: by one call of a GPU's BLAS, or by
  /// all threads of a host, which share out the columns, for a few rows. Rows of the product are row_stride apart, and
  /// so are those of the input if they are rounded.
  void multiply(const Execution& execution, std::int64_t rows, const Real* input, Real* product,
                [[maybe_unused]] const ProductWorkspace& workspace) const {
    if constexpr (on_host) {
      const ProductWeight weight = *this;
      const std::int64_t in_stride = m_rounding == Rounding::none ? m_in : row_stride(m_in),
                         out_stride = row_stride(m_out);
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

  /// Elements from one row to the next where rows of this width are products and factors. A host's are whole tiles of
  /// any kernel, and not a power of two apart, which would put all of them into the same few lines of a cache.
  static std::int64_t row_stride(std::int64_t width) {
    if constexpr (!on_host) return width;
    constexpr std::int64_t columns = ProductKernel<Real>::most_columns;
    return (width + columns - 1) / columns * columns +
           tuning::cache_line_bytes / static_cast<std::int64_t>(sizeof(Real));
  }

 private:
  /// How a weight is packed: for each part of the sum, for each tile of columns of the product, a block [depth,
  /// columns], or of pairs, [depth / 2][columns][2]. Parts are of equal size, no larger than fits; columns of the last
  /// tile beyond `out` are zeros, and so is what a depth lacks of the kernel's unit.
  struct Packing {
    std::int64_t in, step, columns, tiles;  // step: depth of each part but the last; columns: of a tile
    std::int64_t element_bytes;

    Packing(std::int64_t out, std::int64_t depth, Rounding rounding) {
      const ProductKernel<Real>& kernel = product_kernel<Real>(rounding);
      const auto whole = [&](std::int64_t some) {
        return (some + kernel.depth_unit - 1) / kernel.depth_unit * kernel.depth_unit;
      };
      in = whole(depth);
      columns = kernel.columns;
      tiles = (out + columns - 1) / columns;
      element_bytes = static_cast<std::int64_t>(sizeof(Real)) / kernel.together;
      const std::int64_t parts =
          std::max<std::int64_t>(1, (in + HostSizes::product_depth - 1) / HostSizes::product_depth);
      step = whole((in + parts - 1) / parts);
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
    const ProductKernel<Real>& kernel = product_kernel<Real>(m_rounding);
    const Packing packing(m_out, m_in, m_rounding);
    const auto* weight = reinterpret_cast<const char*>(m_packed.data());
    const auto* factors = reinterpret_cast<const char*>(input);
    const std::int64_t a_stride = in_stride * static_cast<std::int64_t>(sizeof(Real)) / kernel.a_bytes;
    // product[row …, columns of the tile] = Σ input[row …, k …] · weight[columns of the tile, k …], or += after the
    // first part of the sum
    const auto multiply_tile = [&](std::int64_t row, std::int64_t k, std::int64_t tile, const ReadAhead& ahead) {
      const int height = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - row)),
                depth = static_cast<int>(packing.depth(k));
      kernel.tile(height, depth, factors + (row * a_stride + k) * kernel.a_bytes, a_stride,
                  weight + packing.offset(k, tile) * packing.element_bytes,
                  product + row * out_stride + tile * packing.columns, out_stride, k > 0, ahead);
    };
    // Few rows meet a tile of the weight before the next one, for which they ask meanwhile, each tile of rows for its
    // share: so memory is read all the time.
    const std::int64_t row_tiles = (rows + kernel.rows - 1) / kernel.rows;
    const bool few = row_tiles <= HostSizes::few_row_tiles;
    const auto ahead = [&](std::int64_t row, std::int64_t k, std::int64_t tile) -> ReadAhead {
      const bool is_last = tile + 1 == last_tile;
      const std::int64_t next = is_last ? first_tile : tile + 1, part = is_last ? k + packing.step : k;
      if (!few || part >= packing.in) return {};
      const std::int64_t share = (packing.columns + row_tiles - 1) / row_tiles, begin = row / kernel.rows * share;
      if (begin >= packing.columns) return {};
      return {weight + (packing.offset(part, next) + begin * packing.depth(part)) * packing.element_bytes,
              share * static_cast<std::int64_t>(sizeof(Real))};
    };
    if (kernel.widen != nullptr && !few) {
      multiply_widened(first_tile, last_tile, rows, input, in_stride, product, out_stride);
      return;
    }
    const std::int64_t tile_bytes = packing.step * packing.columns * packing.element_bytes;
    const std::int64_t block_tiles = few ? 1 : std::max<std::int64_t>(1, weight_block_bytes() / tile_bytes);
    if (kernel.begin != nullptr) kernel.begin();
    for (std::int64_t k = 0; k < packing.in; k += packing.step) {
      for (std::int64_t first = first_tile; first < last_tile; first += block_tiles) {
        const std::int64_t last = std::min(first + block_tiles, last_tile);
        for (std::int64_t row = 0; row < rows; row += kernel.rows) {
          for (std::int64_t tile = first; tile < last; ++tile) multiply_tile(row, k, tile, ahead(row, k, tile));
        }
      }
    }
    if (kernel.end != nullptr) kernel.end();
  }

  /// The same for many rows by a kernel that widens: each tile of the weight once, rather than for each tile of rows.
  void multiply_widened(std::int64_t first_tile, std::int64_t last_tile, std::int64_t rows, const Real* input,
                        std::int64_t in_stride, Real* product, std::int64_t out_stride) const {
    const ProductKernel<Real>& kernel = product_kernel<Real>(m_rounding);
    const Packing packing(m_out, m_in, m_rounding);
    const auto* weight = reinterpret_cast<const char*>(m_packed.data());
    alignas(HostSizes::cache_line_bytes) Real numbers[HostSizes::product_depth * ProductKernel<Real>::most_columns];
    for (std::int64_t k = 0; k < packing.in; k += packing.step) {
      const int depth = static_cast<int>(packing.depth(k));
      for (std::int64_t tile = first_tile; tile < last_tile; ++tile) {
        kernel.widen(depth, weight + packing.offset(k, tile) * packing.element_bytes, numbers);
        for (std::int64_t row = 0; row < rows; row += kernel.rows) {
          const int height = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - row));
          kernel.tile_of_widened(height, depth, input + row * in_stride + k, in_stride, numbers,
                                 product + row * out_stride + tile * packing.columns, out_stride, k > 0, {});
        }
      }
    }
  }

  /// The blocks of a matrix, or of its transpose, in pairs of bfloat16.
  void pack_pairs(const Execution& execution, const Array<const Real**>& matrix) {
    const Packing packing(m_out, m_in, m_rounding);
    const std::int64_t out = m_out, in = m_in;
    const bool transposed = m_transpose == Transpose::yes;
    auto* packed = reinterpret_cast<std::uint16_t*>(m_packed.data());
    const Kokkos::RangePolicy<Execution> policy(execution, 0, packing.parts() * packing.tiles);
    Kokkos::parallel_for("bsbr::kernels::pack_pairs", policy, [=](const std::int64_t index) {
      const std::int64_t k = index / packing.tiles * packing.step, tile = index % packing.tiles;
      const std::int64_t columns = packing.columns, first = tile * columns;
      std::uint16_t* block = packed + packing.offset(k, tile);  // [depth / 2][columns][2]
      for (std::int64_t i = 0; i < packing.depth(k); ++i) {
        std::uint16_t* row = block + i / 2 * columns * 2 + i % 2;
        for (std::int64_t column = 0; column < columns; ++column) {
          const bool is_element = k + i < in && first + column < out;
          const Real number = !is_element  ? Real(0)
                              : transposed ? matrix(k + i, first + column)
                                           : matrix(first + column, k + i);
          row[column * 2] = Bfloat16(static_cast<float>(number)).bits;
        }
      }
    });
    execution.fence();
  }

  /// For a GPU: the matrix, rounded, in the memory of the packed weight.
  Array<const Real**> rounded(const Execution& execution, const Array<const Real**>& matrix) const {
    const Array<Real**> target(m_packed.data(), matrix.extent(0), matrix.extent(1));
    round_matrix(execution, matrix, target);
    return target;
  }

 public:  // CUDA's compiler wants functions that hold kernels to be
  static void round_matrix(const Execution& execution, const Array<const Real**>& matrix, const Array<Real**>& target) {
    const auto width = static_cast<std::int64_t>(matrix.extent(1));
    Kokkos::parallel_for(
        "bsbr::kernels::round_weight",
        Kokkos::RangePolicy<Execution>(execution, 0, static_cast<std::int64_t>(matrix.size())),
        KOKKOS_LAMBDA(const std::int64_t i) {
          target(i / width, i % width) =
              static_cast<Real>(as_bfloat16(static_cast<float>(matrix(i / width, i % width))));
        });
    execution.fence();  // others may use it in another order of execution
  }

 private:
  void pack(const Execution& execution, const Array<const Real**>& matrix) {
    const Packing packing(m_out, m_in, m_rounding);
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
  Rounding m_rounding = Rounding::none;
};

}  // namespace bsbr::kernels
