// Softmax attention of packed queries, keys and values by a kernel that multiplies matrices of bfloat16 (AMX), whose
// throughput is many times that of multiply-adds of vectors. Host only. Like softmax_tiles.hpp except for the two
// products:
//
//     scores [key, query]     = scale · keys [key, width] · queriesᵀ [width, query]
//     output [column, query] += valuesᵀ [column, key] · weights [key, query],    weights ≈ high + low
//
// Keys, queries and values are bfloat16 already. A weight is not: it counts as the sum of two numbers of bfloat16,
// which have the upper 16 of its 24 binary digits, and is multiplied as two. Sums lie transposed, so that weights are
// factors as they are formed, and values are transposed once for all queries of a team.
//
// Bits do not depend on how queries are cut into teams, pieces or ranks: each sum has the order of the instruction, in
// tiles of keys that are cut at multiples of their size. They are not those of softmax_tiles.
#pragma once

#include <Kokkos_Core.hpp>
#include <cstdint>
#include <cstring>
#include <string>

#include "kernels/product_kernel.hpp"
#include "kernels/softmax_tiles.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/transpose.hpp"

#if !defined(__CUDACC__) && !defined(__HIPCC__)  // a GPU has no packed rows, and its compilers other vectors
namespace bsbr::kernels {

namespace detail {

/// Scratch of softmax_tiles, with packed numbers in the place of its floats. A pair is two numbers of bfloat16 in 32
/// bits, the first one in the lower half. Queries are cut into groups of kernel.columns, which a product takes at once.
struct MatrixScratch {
  using Tile = SoftmaxTile<float, 1>;
  static constexpr int query_count = Tile::query_count, key_count = Tile::key_count;
  static_assert(query_count <= key_count, "output is transposed in the place of the values");

  const ProductKernel<float>& kernel;
  const Tile& tile;
  bool overflows = false;  // some value of the tile of keys is not finite

  /// keys [key, key_width]
  std::uint16_t* keys() const { return reinterpret_cast<std::uint16_t*>(tile.keys); }
  /// values [column, key]: factors of a product, with 0 for what is not finite
  std::uint16_t* values() const { return reinterpret_cast<std::uint16_t*>(tile.values); }
  /// The pairs that they are made of, [key / 2][column].
  std::uint32_t* value_pairs() const {
    return reinterpret_cast<std::uint32_t*>(tile.values) + key_count / 2 * tile.value_width;
  }
  /// Pairs of queries along their width, [group][key_width / 2][query].
  static std::uint32_t* query_pairs(const QueryTile<float>& queries) {
    return reinterpret_cast<std::uint32_t*>(queries.queries);
  }
  /// Room for a packed query.
  std::uint16_t* packed_query(const QueryTile<float>& queries, int q) const {
    return reinterpret_cast<std::uint16_t*>(queries.queries) + (query_count + q) * tile.key_width;
  }
};

/// function(first query) for each group of queries that has any.
template <class Function>
inline void for_each_group(const MatrixScratch& scratch, const QueryTile<float>& queries, const Function& function) {
  for (int first = 0; first < queries.count; first += scratch.kernel.columns) function(first);
}

/// Query q of a tile in pairs; null: there is none. A query in float has numbers of bfloat16 (results take the place of
/// queries that have been sent to other ranks, so that these are not packed), and is packed first.
template <class Problem>
inline const std::uint32_t* packed_query(const Problem& problem, std::int64_t group, const MatrixScratch& scratch,
                                         const QueryTile<float>& queries, int q) {
  const auto row = query_row(problem, group, queries, q);
  if (row == nullptr) return nullptr;
  if (row.is_packed()) return reinterpret_cast<const std::uint32_t*>(row.packed_elements());
  std::uint16_t* packed = scratch.packed_query(queries, q);
  for (int i = 0; i < problem.key_width; ++i) packed[i] = Bfloat16(row.elements()[i]).bits;
  return reinterpret_cast<const std::uint32_t*>(packed);
}

/// Loads the queries of a tile and starts their sums.
template <class Problem>
inline void start_matrix_queries(const SerialTeam& team, const Problem& problem, std::int64_t group,
                                 const MatrixScratch& scratch, const QueryTile<float>& queries) {
  const int width = problem.key_width / 2;
  for_each_group(scratch, queries, [&](int first) {
    transpose_rows<std::uint32_t>(
        team, scratch.kernel.columns, width, 1,
        [&](int q) { return packed_query(problem, group, scratch, queries, first + q); },
        MatrixScratch::query_pairs(queries) + first * width, scratch.kernel.columns);
  });
  start_sums_of_tile<MatrixScratch::query_count>(team, problem, group, queries);
}

/// The pairs with infinities and NaN replaced by 0; sets the lanes of `overflows` that had any.
template <class Pairs>
[[gnu::always_inline]] inline Pairs finite_pairs(Pairs pairs, Pairs& overflows) {
  constexpr std::uint32_t exponent = 0x7f80U;
  const Pairs low = __builtin_bit_cast(Pairs, (pairs & exponent) == exponent),
              high = __builtin_bit_cast(Pairs, (pairs & exponent << 16) == exponent << 16);
  overflows |= low | high;
  return pairs & ~((low & 0xffffU) | (high & 0xffff0000U));
}

/// Loads the keys [begin, end) of the tile from `first` on, and their values; zeros where there is none. Those of the
/// next tile, before `last`, and of the neighbour are prefetched.
template <class Problem>
inline void load_matrix_keys(const SerialTeam& team, const Problem& problem, std::int64_t group, std::int64_t first,
                             int begin, int end, std::int64_t last, MatrixScratch& scratch) {
  using Pairs = Vector<std::uint32_t>;
  constexpr int n = lanes<float>, count = MatrixScratch::key_count;
  const int key_width = problem.key_width, value_width = problem.value_width;
  const KeyRows source(problem, group);
  const Bfloat16* values[count] = {};
  for (int s = begin; s < end; ++s) {
    std::uint16_t* row = scratch.keys() + s * key_width;
    const auto bytes = static_cast<std::size_t>(key_width) * sizeof(*row);
    if (source.exists(first + s)) {
      std::memcpy(row, source.first(first + s).packed_elements(), bytes);
      values[s] = source.second(first + s).packed_elements();
    } else {
      std::memset(row, 0, bytes);
    }
    prefetch_after(source, first + s, count, last);
  }
  Pairs overflows = {};
  const auto elements = [&](int s, int i) {  // of value s, from column i on
    return values[s] == nullptr ? Pairs{} : load_words<Pairs>(values[s] + i);
  };
  for (int s = 0; s < count; s += 2) {
    for (int i = 0; i < value_width; i += n) {
      const Pairs pairs = finite_pairs<Pairs>(elements(s, i) | elements(s + 1, i) << 16, overflows);
      store(scratch.value_pairs() + s / 2 * value_width + i, pairs);
    }
  }
  transpose_rows<std::uint32_t>(
      team, count / 2, value_width, 1,
      [&](int pair) -> const std::uint32_t* { return scratch.value_pairs() + pair * value_width; },
      reinterpret_cast<std::uint32_t*>(scratch.values()), count / 2);
  scratch.overflows = false;
  for (int i = 0; i < n; ++i) scratch.overflows = scratch.overflows || overflows[i] != 0;
}

/// scores[s, q] = scale · key_s · query_q, in units of log₂ e
template <class Problem>
inline void form_matrix_scores(const Problem& problem, const RowsOfTile& keys, const QueryTile<float>& queries,
                               const MatrixScratch& scratch) {
  constexpr int stride = MatrixScratch::query_count;
  const ProductKernel<float>& kernel = scratch.kernel;
  const int width = problem.key_width;
  for (int s = keys.begin; s < keys.end; s += kernel.rows) {
    const int rows = keys.end - s < kernel.rows ? keys.end - s : kernel.rows;
    for_each_group(scratch, queries, [&](int first) {
      kernel.tile(rows, width, scratch.keys() + s * width, width,
                  MatrixScratch::query_pairs(queries) + first * (width / 2), scratch.tile.scores + s * stride + first,
                  stride, false, {});
    });
  }
  const auto scale = static_cast<float>(problem.scale * log2_e);
  for (int s = keys.begin; s < keys.end; ++s) {
    float* row = scratch.tile.scores + s * stride;
    for (int q = 0; q < queries.count; q += lanes<float>) store(row + q, scale * load<Vector<float>>(row + q));
  }
}

/// The weights [key, query] of a tile as pairs along the keys, 0 where a query does not see the key. high: the weight
/// rounded to bfloat16; low: the remainder, rounded. [group][key / 2][query]
struct WeightPairs {
  static constexpr int count = MatrixScratch::key_count / 2 * MatrixScratch::query_count;
  alignas(HostSizes::cache_line_bytes) std::uint32_t high[count];
  alignas(HostSizes::cache_line_bytes) std::uint32_t low[count];

  /// Of the keys [0, depth).
  template <class Scratch>
  WeightPairs(const RowsOfTile& keys, int depth, const QueryTile<float>& queries, const Scratch& scratch) {
    const int columns = scratch.kernel.columns;
    for_each_group(scratch, queries, [&](int first) {
      for (int q = first; q < first + columns; q += lanes<float>) {
        const auto taken = q < queries.count ? ColumnVector<float>(queries, q, keys).taken : RowsTaken<int>{};
        for (int s = 0; s < depth; s += 2)
          split(scratch.tile.scores + q, s, taken, offset(first) + s / 2 * columns + q - first);
      }
    });
  }

  /// Of the group that begins with a query.
  static int offset(int first) { return first * (MatrixScratch::key_count / 2); }

 private:
  /// The weights of keys s and s + 1 and a vector of queries, of which `weights` has those of key 0, as pairs at `at`.
  void split(const float* weights, int s, const RowsTaken<int>& taken, int at) {
    using Bits = Vector<std::uint32_t>;
    Bits of_high[2], of_low[2];
    for (int i = 0; i < 2; ++i) {
      const bool is_taken = taken.begin <= s + i && s + i < taken.end;
      const auto weight =
          is_taken ? load<Vector<float>>(weights + (s + i) * MatrixScratch::query_count) : Vector<float>{};
      of_high[i] = bits_as_bfloat16<Bits>(__builtin_bit_cast(Bits, weight));
      const Vector<float> rest = weight - __builtin_bit_cast(Vector<float>, of_high[i]);
      of_low[i] = bits_as_bfloat16<Bits>(__builtin_bit_cast(Bits, rest));
    }
    store(high + at, of_high[0] >> 16 | of_high[1]);
    store(low + at, of_low[0] >> 16 | of_low[1]);
  }
};

/// output[column, q] *= rescale[q]
inline void rescale_matrix_output(const QueryTile<float>& queries, const MatrixScratch& scratch) {
  bool changes = false;
  for (int q = 0; q < queries.count; ++q) changes = changes || scratch.tile.rescale[q] != 1.0F;
  if (!changes) return;
  for (int i = 0; i < scratch.tile.value_width; ++i) {
    float* row = queries.output + i * MatrixScratch::query_count;
    for (int q = 0; q < queries.count; ++q) row[q] *= scratch.tile.rescale[q];
  }
}

/// output[column, q] += Σ_s weights[s, q] · value_s[column] over the values that are not finite, which the products
/// have left out: they may reach the queries that see them only.
template <class Problem>
inline void add_overflowing_values(const Problem& problem, std::int64_t group, std::int64_t first_key,
                                   const RowsOfTile& keys, const QueryTile<float>& queries,
                                   const MatrixScratch& scratch) {
  constexpr int stride = MatrixScratch::query_count;
  for (int s = keys.begin; s < keys.end; ++s) {
    if (!problem.has_key(group, first_key + s)) continue;
    const auto value = problem.value(group, first_key + s);
    for (int i = 0; i < problem.value_width; ++i) {
      const float number = value[i];
      if (number - number == 0) continue;  // finite
      for (int q = 0; q < queries.count; ++q) {
        const DepthRange taken = keys.taken_by(queries, q);
        if (taken.begin <= s && s < taken.end)
          queries.output[i * stride + q] += scratch.tile.scores[s * stride + q] * number;
      }
    }
  }
}

/// What one tile of queries sees of one tile of keys.
template <class Problem>
inline void attend_matrix_tile(const SerialTeam& team, const Problem& problem, std::int64_t group,
                               std::int64_t first_key, const QueryTile<float>& queries, const MatrixScratch& scratch) {
  constexpr int query_tile = MatrixScratch::query_count, key_tile = MatrixScratch::key_count;
  const ProductKernel<float>& kernel = scratch.kernel;
  const auto seen = rows_taken(queries, [&](std::int64_t t) { return problem.range(t); });
  const RowsOfTile keys(first_key, key_tile, seen, queries, query_tile);
  if (keys.empty()) return;
  form_matrix_scores(problem, keys, queries, scratch);
  form_weights(
      team, keys, [&](int s) { return problem.has_key(group, first_key + s); }, queries, scratch.tile);
  rescale_matrix_output(queries, scratch);
  const int depth = (keys.end + kernel.depth_unit - 1) / kernel.depth_unit * kernel.depth_unit;
  const WeightPairs weights(keys, depth, queries, scratch);
  for (int i = 0; i < problem.value_width; i += kernel.rows) {
    for_each_group(scratch, queries, [&](int first) {
      for (const std::uint32_t* pairs : {weights.high, weights.low}) {
        kernel.tile(kernel.rows, depth, scratch.values() + i * key_tile, key_tile, pairs + WeightPairs::offset(first),
                    queries.output + i * query_tile + first, query_tile, true, {});
      }
    });
  }
  if (scratch.overflows) add_overflowing_values(problem, group, first_key, keys, queries, scratch);
}

/// Writes the results of a tile of queries, whose sums [column, query] are transposed in the place of keys' values.
template <class Problem>
inline void write_matrix_results(const SerialTeam& team, const Problem& problem, std::int64_t group,
                                 const QueryTile<float>& queries, const MatrixScratch& scratch) {
  constexpr int stride = MatrixScratch::query_count;
  // −0, which a sum becomes where it is too small for a normal number, is +0 after more keys of weight 0: always +0.
  for (int i = 0; i < problem.value_width * stride; ++i) queries.output[i] += 0.0F;
  QueryTile<float> transposed = queries;
  transposed.output = scratch.tile.values;
  transpose_rows(
      team, problem.value_width, stride, 1.0F, [&](int i) -> const float* { return queries.output + i * stride; },
      transposed.output, padded<float>(problem.value_width));
  write_results(team, problem, group, transposed);
}

/// All of the queries [first, last) of one group, no more than the tiles hold.
template <class Problem>
inline void softmax_matrix_tile(const SerialTeam& team, const Problem& problem, std::int64_t group, std::int64_t first,
                                std::int64_t last, MatrixScratch scratch) {
  const auto queries = [&](int index) { return scratch.tile.query_tile(problem, first, last, index); };
  if (scratch.kernel.begin != nullptr) scratch.kernel.begin();
  pass_keys_by_queries<MatrixScratch::query_count, MatrixScratch::key_count>(
      problem, first, last, [&](int index) { start_matrix_queries(team, problem, group, scratch, queries(index)); },
      [&](std::int64_t keys, int begin, int end, std::int64_t last_key) {
        load_matrix_keys(team, problem, group, keys, begin, end, last_key, scratch);
      },
      [&](std::int64_t keys, int index) { attend_matrix_tile(team, problem, group, keys, queries(index), scratch); },
      [&](int index) { write_matrix_results(team, problem, group, queries(index), scratch); });
  if (scratch.kernel.end != nullptr) scratch.kernel.end();
}

}  // namespace detail

/// Whether softmax_matrices() can compute a problem of packed keys by a kernel: heads are whole tiles of products.
template <class Problem>
bool fits_matrices(const Problem& problem, const ProductKernel<float>& kernel) {
  using Tile = detail::MatrixScratch;
  const bool whole_tiles = Tile::query_count % kernel.columns == 0 && Tile::key_count % kernel.depth_unit == 0 &&
                           kernel.columns % lanes<float> == 0;
  const bool whole_heads = problem.key_width % kernel.depth_unit == 0 && problem.value_width % kernel.rows == 0;
  return kernel.multiplies_matrices && whole_tiles && whole_heads;
}

/// The kernel of this CPU for softmax_matrices(); null where softmax_tiles() is to compute the problem.
template <class Problem>
const ProductKernel<float>* kernel_of_matrices(const Problem& problem) {
  if (!problem.keys.packed) return nullptr;  // and does not ask the system for the registers of AMX
  const ProductKernel<float>& kernel = product_kernel<float>(Rounding::bfloat16);
  return fits_matrices(problem, kernel) ? &kernel : nullptr;
}

/// Computes every output row of a problem of softmax_tiles whose keys and values are packed, and whose queries are or
/// have numbers of bfloat16 in float, by a kernel that it fits.
template <class Problem>
void softmax_matrices(const Execution& execution, const std::string& label, const Problem& problem,
                      const ProductKernel<float>& kernel) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  for_query_teams<float, 1>(
      execution, label, problem,
      [=](const SerialTeam& team, const Problem& of, const ColumnTeams::Work& work, const SoftmaxTile<float, 1>& tile) {
        detail::softmax_matrix_tile(team, of, work.group, work.first, work.last, {kernel, tile});
      });
}

}  // namespace bsbr::kernels
#endif
