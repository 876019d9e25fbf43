// The big matrix products: rows [rows, in] · weightᵀ, with weight [out, in].
//
// On a host a weight is packed once, in the order in which the products read it, and one thread multiplies some rows
// with it at a time. The loops are those of Goto and van de Geijn (2008), with the weight in the place of their packed
// b: a block of it stays in the second-level cache while all rows meet it, a few rows stay in the first-level cache
// while they meet the block, a tile of results in registers. On a GPU the product is one call of the BLAS
// (device_product.hpp).
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/device_product.hpp"
#include "kernels/product_kernel.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// A weight [out, in] as the products read it.
template <class Real>
class ProductWeight {
 public:
  ProductWeight() = default;

  /// Room for one; on a GPU none is needed. Throws MemoryError.
  ProductWeight(std::int64_t out, std::int64_t in) : m_out(out), m_in(in) {
    if constexpr (!on_host) return;
    try {
      m_packed = Array<Real*>(Kokkos::view_alloc(std::string("bsbr::packed_weight"), Kokkos::WithoutInitializing),
                              Packing(out, in).elements());
    } catch (const std::exception& error) {
      throw MemoryError("no memory for a packed weight [" + std::to_string(out) + ", " + std::to_string(in) +
                        "]: " + error.what());
    }
  }

  /// Of a weight: on a host a copy, on a GPU the array itself.
  explicit ProductWeight(const Array<const Real**>& weight) : ProductWeight(weight.extent(0), weight.extent(1)) {
    assign(Execution(), weight);
  }

  /// A weight [out(), in()] takes the place of the one before.
  void assign([[maybe_unused]] const Execution& execution, const Array<const Real**>& weight) {
    if constexpr (on_host) {
      pack(execution, weight);
    } else {
      m_plain = weight;
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
    const ProductKernel<Real> kernel = product_kernel<Real>();
    const Packing packing(m_out, m_in);
    const std::int64_t block_tiles = std::max<std::int64_t>(1, HostSizes::product_columns / packing.columns);
    // product[row …, columns of the tile] = Σ input[row …, k …] · weight[columns of the tile, k …], or += after the
    // first part of the sum
    const auto multiply_tile = [&](std::int64_t row, std::int64_t k, std::int64_t tile) {
      const int height = static_cast<int>(std::min<std::int64_t>(kernel.rows, rows - row)),
                depth = static_cast<int>(packing.depth(k));
      kernel.tile(height, depth, input + row * in_stride + k, in_stride, m_packed.data() + packing.offset(k, tile),
                  product + row * out_stride + tile * packing.columns, out_stride, k > 0);
    };
    for (std::int64_t k = 0; k < m_in; k += packing.step) {
      for (std::int64_t first = 0; first < packing.tiles; first += block_tiles) {
        const std::int64_t last = std::min(first + block_tiles, packing.tiles);
        for (std::int64_t row = 0; row < rows; row += kernel.rows) {
          for (std::int64_t tile = first; tile < last; ++tile) multiply_tile(row, k, tile);
        }
      }
    }
  }

  /// product [rows, out] = input [rows, in] · weightᵀ on a GPU, rows one after the other, in the order of `execution`.
  void multiply(const Execution& execution, std::int64_t rows, const Real* input, Real* product,
                const ProductWorkspace& workspace) const {
    device_product<Real>(execution, {rows, m_out, m_in, m_plain.data(), input, product}, workspace);
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

    /// Of the part that begins at k.
    std::int64_t depth(std::int64_t k) const { return std::min(step, in - k); }
    /// Where the block of this part and a tile begins.
    std::int64_t offset(std::int64_t k, std::int64_t tile) const { return (k * tiles + tile * depth(k)) * columns; }
    std::int64_t padded_out() const { return tiles * columns; }
    std::int64_t elements() const { return padded_out() * in; }
  };

  void pack(const Execution& execution, const Array<const Real**>& weight) {
    const Packing packing(m_out, m_in);
    const std::int64_t columns = packing.columns, out = m_out;
    Real* packed = m_packed.data();
    const Kokkos::RangePolicy<Execution> policy(execution, 0, packing.tiles);
    Kokkos::parallel_for("bsbr::kernels::pack_weight", policy, [=](const std::int64_t tile) {
      for (std::int64_t first = 0; first < packing.in; first += packing.step) {
        Real* block = packed + packing.offset(first, tile);
        for (std::int64_t column = 0; column < columns; ++column) {
          const std::int64_t row = tile * columns + column;
          for (std::int64_t k = 0; k < packing.depth(first); ++k)
            block[k * columns + column] = row < out ? weight(row, first + k) : Real(0);
        }
      }
    });
    execution.fence();
  }

  Array<const Real**> m_plain;
  Array<Real*> m_packed;
  std::int64_t m_out = 0, m_in = 0;
};

}  // namespace bsbr::kernels
