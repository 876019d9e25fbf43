// Sums over the rows of one leaf: the gradients of biases, and of the weights and biases of norms.
//
//     target_i += (… (S_0 + S_1) + …)_i,  S_b = Σ of the rows of block b, in order
//
// Blocks of tuning::summed_rows rows are cut from the leaf's first row on, and target takes their sums one after the
// other: the order depends on the rows' places in the leaf only.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>
#include <type_traits>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/rows.hpp"
#include "kernels/scratch.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Room for the sums of the blocks of a leaf.
template <class Real>
class RowSumBuffers {
 public:
  RowSumBuffers() = default;

  /// For leaves of `rows` rows and sums of `width` elements at most; those of a norm have two for each of its own.
  /// Throws MemoryError.
  RowSumBuffers(std::int64_t rows, std::int64_t width) {
    try {
      m_sums = Array<Real*>(Kokkos::view_alloc(std::string("bsbr::row_sums"), Kokkos::WithoutInitializing),
                            blocks(rows) * width);
    } catch (const std::exception& error) {
      throw MemoryError("no memory for sums over " + std::to_string(rows) + " rows of " + std::to_string(width) + ": " +
                        error.what());
    }
  }

  static std::int64_t blocks(std::int64_t rows) { return (rows + tuning::summed_rows - 1) / tuning::summed_rows; }
  static std::int64_t bytes(std::int64_t rows, std::int64_t width) {
    return blocks(rows) * width * static_cast<std::int64_t>(sizeof(Real));
  }

  /// [blocks, width]. Throws ShapeError if there is not that much room.
  Array<Real**> sums(std::int64_t rows, std::int64_t width) const {
    if (blocks(rows) * width > static_cast<std::int64_t>(m_sums.size())) {
      throw ShapeError("sums over " + std::to_string(rows) + " rows of " + std::to_string(width) +
                       " do not fit their buffer of " + std::to_string(m_sums.size()) + " elements");
    }
    return Array<Real**>(m_sums.data(), blocks(rows), width);
  }

 private:
  Array<Real*> m_sums;
};

namespace detail {

/// target(i) += the sums of the blocks, in order, for i < width; target(i) is a pointer.
template <class Real, class Target>
void add_block_sums(const Execution& execution, const Array<const Real**>& sums, const Target& target) {
  const auto blocks = static_cast<std::int64_t>(sums.extent(0)), width = static_cast<std::int64_t>(sums.extent(1));
  constexpr std::int64_t columns = tuning::thread_columns;
  const Kokkos::RangePolicy<Execution> policy(execution, 0, (width + columns - 1) / columns);
  Kokkos::parallel_for(
      "bsbr::row_sums::add_blocks", policy, KOKKOS_LAMBDA(const std::int64_t index) {
        [[maybe_unused]] const auto team = as_team(LoneThread{});
        const std::int64_t first = index * columns, end = first + columns < width ? first + columns : width;
        for (std::int64_t block = 0; block < blocks; ++block) {
          for (std::int64_t i = first; i < end; ++i) *target(i) += sums(block, i);
        }
      });
}

}  // namespace detail

/// target(i) += Σ over the rows of a leaf, for i < width: add_row(team, row, sums) adds row `row` to sums [width] and
/// may do what else there is to do with that row. target(i) is a pointer.
template <class Real, class AddRow, class Target>
void add_row_sums(const Execution& execution, const std::string& label, const RowSumBuffers<Real>& buffers,
                  std::int64_t rows, std::int64_t width, const AddRow& add_row, const Target& target) {
  if (rows == 0 || width == 0) return;
  const Array<Real**> sums = buffers.sums(rows, width);
  Kokkos::parallel_for(
      label, team_policy(execution, buffers.blocks(rows), 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        const std::int64_t first = member.league_rank() * std::int64_t{tuning::summed_rows},
                           end = first + tuning::summed_rows < rows ? first + tuning::summed_rows : rows;
        Real* of_block = &sums(member.league_rank(), 0);
        for_each(team, static_cast<int>(width), [&](const int i) { of_block[i] = 0; });
        for (std::int64_t row = first; row < end; ++row) add_row(team, row, of_block);
      });
  detail::add_block_sums<Real>(execution, sums, target);
}

/// bias_gradient [width] += Σ of the rows of a leaf, output_gradient [rows, width].
template <class Real>
void add_bias_gradient(const Execution& execution, const RowSumBuffers<Real>& buffers,
                       const std::type_identity_t<Array<const Real**>>& output_gradient,
                       const Array<Real*>& bias_gradient) {
  const auto rows = static_cast<std::int64_t>(output_gradient.extent(0));
  const auto width = static_cast<int>(output_gradient.extent(1));
  const auto add_row = KOKKOS_LAMBDA(const Team& team, const std::int64_t row, Real* sums) {
    const Real* of_row = &output_gradient(row, 0);
    for_each(team, width, [&](const int i) { sums[i] += of_row[i]; });
  };
  const auto target = KOKKOS_LAMBDA(const std::int64_t i) { return &bias_gradient(i); };
  add_row_sums(execution, "bsbr::row_sums::bias_gradient", buffers, rows, width, add_row, target);
}

/// The gradient of a layer norm over the rows of a leaf: x and dy [rows, width] are what was normed and the gradient of
/// the result; dx [rows, width], weight_gradient and bias_gradient [width] are added to (add_layer_norm_gradient of
/// rows.hpp). The buffers have room for sums of 2·width elements.
template <class Real>
void add_norm_gradients(const Execution& execution, const RowSumBuffers<Real>& buffers,
                        const std::type_identity_t<Array<const Real**>>& x,
                        const std::type_identity_t<Array<const Real*>>& weight,
                        const std::type_identity_t<Array<const Real**>>& dy, const Array<Real**>& dx,
                        const Array<Real*>& weight_gradient, const Array<Real*>& bias_gradient) {
  const auto rows = static_cast<std::int64_t>(x.extent(0));
  const auto width = static_cast<int>(x.extent(1));
  const auto add_row = KOKKOS_LAMBDA(const Team& team, const std::int64_t row, Real* sums) {
    add_layer_norm_gradient(team, width, &x(row, 0), weight.data(), &dy(row, 0), &dx(row, 0), sums, sums + width);
  };
  const auto target = KOKKOS_LAMBDA(const std::int64_t i) {
    return i < width ? &weight_gradient(i) : &bias_gradient(i - width);
  };
  add_row_sums(execution, "bsbr::row_sums::norm_gradients", buffers, rows, 2 * width, add_row, target);
}

}  // namespace bsbr::kernels
