// Softmax attention of packed queries, keys and values by a kernel that multiplies matrices of bfloat16 (AMX), which
// does many times as many products as multiply-adds of vectors can. Of a host; softmax_tiles but for the two products:
//
//     scores [key, query]     = scale · keys [key, width] · queriesᵀ [width, query]
//     output [column, query] += valuesᵀ [column, key] · weights [key, query],    weights ≈ high + low
//
// Keys, queries and values are bfloat16 already. A weight is not: it counts as the sum of two numbers of bfloat16,
// which have the upper 16 of its 24 binary digits, and is multiplied as two. Sums lie transposed, so that weights are
// factors as they are formed, and values are turned once for all queries of a team.
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

namespace bsbr::kernels {

namespace detail {

/// Scratch of softmax_tiles, with packed numbers in the place of its floats. A pair is two numbers of bfloat16 in 32
/// bits, the first one in the lower half.
struct MatrixTile {
  using Tile = SoftmaxTile<float, 1>;
  using Queries = QueryTile<float>;
  static constexpr int query_count = Tile::query_count, key_count = Tile::key_count;

  const ProductKernel<float>& kernel;
  const Tile& tile;
  bool overflows = false;  // some value of the tile of keys is not finite

  /// keys [key, key_width]
  std::uint16_t* keys() const { return reinterpret_cast<std::uint16_t*>(tile.keys); }
  /// values [column, key]: as factors of the products, with 0 for what is not finite
  std::uint16_t* values() const { return reinterpret_cast<std::uint16_t*>(tile.values); }
  /// The pairs that they are made of, [key / 2][column].
  std::uint32_t* value_pairs() const {
    return reinterpret_cast<std::uint32_t*>(tile.values) + key_count / 2 * tile.value_width;
  }
  /// Pairs along the depth, [block of kernel.columns queries][depth / 2][query].
  static std::uint32_t* pairs(const Queries& queries) { return reinterpret_cast<std::uint32_t*>(queries.queries); }
};

/// queries → their pairs, and the beginning of their sums.
template <class Problem>
inline void start_matrix_queries(const Problem& problem, std::int64_t group, const MatrixTile& matrix,
                                 const QueryTile<float>& queries) {
  const int columns = matrix.kernel.columns, width = problem.key_width / 2;
  const auto row = [&](int q) -> const Bfloat16* {
    const std::int64_t t = queries.first + q;
    if (q >= queries.count || !problem.has_query(group, t)) return nullptr;
    const auto query = problem.query(group, t);
    if (problem.neighbours > 1) prefetch(query + problem.key_width, problem.key_width);
    return query.packed_elements();
  };
  for (int first = 0; first < MatrixTile::query_count; first += columns) {
    transpose_words(
        columns, width, [&](int q) { return row(first + q); }, MatrixTile::pairs(queries) + first * width, columns);
  }
  start_sums_of_tile<MatrixTile::query_count>(SerialTeam{}, problem, group, queries);
}

/// Elements of a vector of words: 0, instead of what is not finite, which `overflows` then says.
inline Vector<std::uint32_t> finite_pairs(Vector<std::uint32_t> pairs, Lanes<float>& overflows) {
  constexpr std::uint32_t exponent = 0x7f80U;
  const auto low = (pairs & exponent) == exponent, high = (pairs & exponent << 16) == exponent << 16;
  overflows |= low | high;
  pairs = low ? pairs & 0xffff0000U : pairs;
  return high ? pairs & 0xffffU : pairs;
}

/// The keys [begin, end) of the tile from `first` on, and their values; zeros where there is none. Those of the next
/// tile, before `last`, and of the neighbour are asked for.
template <class Problem>
inline void load_matrix_keys(const Problem& problem, std::int64_t group, std::int64_t first, int begin, int end,
                             std::int64_t last, MatrixTile& matrix) {
  constexpr int n = lanes<float>, count = MatrixTile::key_count;
  const int key_width = problem.key_width, value_width = problem.value_width;
  const Bfloat16* values[count] = {};
  for (int s = begin; s < end; ++s) {
    const auto key = problem.key(group, first + s), value = problem.value(group, first + s);
    std::uint16_t* row = matrix.keys() + s * key_width;
    const auto bytes = static_cast<std::size_t>(key_width) * sizeof(*row);
    if (problem.has_key(group, first + s)) {
      std::memcpy(row, key.packed_elements(), bytes);
      values[s] = value.packed_elements();
    } else {
      std::memset(row, 0, bytes);
    }
    if (problem.neighbours > 1) {
      prefetch_next_head(key, key_width);
      prefetch_next_head(value, value_width);
    }
    if (first + s + count >= last) continue;
    prefetch(problem.key(group, first + s + count), key_width);
    prefetch(problem.value(group, first + s + count), value_width);
  }
  Lanes<float> overflows = {};
  const auto halves = [&](int s, int i) {  // values [s][i … i + n)
    return values[s] == nullptr ? Vector<std::uint32_t>{} : load_words<Vector<std::uint32_t>>(values[s] + i);
  };
  for (int s = 0; s < count; s += 2) {
    for (int i = 0; i < value_width; i += n) {
      const auto pairs = finite_pairs(halves(s, i) | halves(s + 1, i) << 16, overflows);
      store(matrix.value_pairs() + s / 2 * value_width + i, pairs);
    }
  }
  transpose_words(
      count / 2, value_width, [&](int pair) { return matrix.value_pairs() + pair * value_width; },
      reinterpret_cast<std::uint32_t*>(matrix.values()), count / 2);
  matrix.overflows = false;
  for (int i = 0; i < n; ++i) matrix.overflows = matrix.overflows || overflows[i] != 0;
}

/// function(first query) for each block of kernel.columns queries of a tile that has any.
template <class Function>
inline void for_each_block(const MatrixTile& matrix, const QueryTile<float>& queries, const Function& function) {
  for (int first = 0; first < queries.count; first += matrix.kernel.columns) function(first);
}

/// scores[s, q] = scale · key_s · query_q, in units of log₂ e
template <class Problem>
inline void form_matrix_scores(const Problem& problem, const RowsOfTile& keys, const QueryTile<float>& queries,
                               const MatrixTile& matrix) {
  constexpr int stride = MatrixTile::query_count;
  const ProductKernel<float>& kernel = matrix.kernel;
  const int width = problem.key_width;
  for (int s = keys.begin; s < keys.end; s += kernel.rows) {
    const int rows = keys.end - s < kernel.rows ? keys.end - s : kernel.rows;
    for_each_block(matrix, queries, [&](int first) {
      kernel.tile(rows, width, matrix.keys() + s * width, width, MatrixTile::pairs(queries) + first * (width / 2),
                  matrix.tile.scores + s * stride + first, stride, false, {});
    });
  }
  const auto scale = static_cast<float>(problem.scale * log2_e);
  for (int s = keys.begin; s < keys.end; ++s) {
    float* row = matrix.tile.scores + s * stride;
    for (int q = 0; q < queries.count; q += lanes<float>) store(row + q, scale * load<Vector<float>>(row + q));
  }
}

/// The weights [key, query] of a tile as pairs, 0 where a query does not see the key: the numbers of bfloat16 next to
/// them, and next to what these leave. [block of kernel.columns queries][key / 2][query]
struct WeightPairs {
  static constexpr int count = MatrixTile::key_count / 2 * MatrixTile::query_count;
  alignas(HostSizes::cache_line_bytes) std::uint32_t high[count];
  alignas(HostSizes::cache_line_bytes) std::uint32_t low[count];

  WeightPairs(const RowsOfTile& keys, int depth, const QueryTile<float>& queries, const MatrixTile& matrix) {
    using Bits = Vector<std::uint32_t>;
    const int columns = matrix.kernel.columns;
    for_each_block(matrix, queries, [&](int first) {
      for (int q = first; q < first + columns; q += lanes<float>) {
        const auto taken = q < queries.count ? ColumnVector<float>(queries, q, keys).taken : RowsTaken<int>{};
        const auto weight_of = [&](int s) {
          const bool is_taken = taken.begin <= s && s < taken.end;
          return is_taken ? load<Vector<float>>(matrix.tile.scores + s * MatrixTile::query_count + q) : Vector<float>{};
        };
        for (int s = 0; s < depth; s += 2) {
          Bits of_high[2], of_low[2];
          for (int i = 0; i < 2; ++i) {
            const Vector<float> weight = weight_of(s + i);
            of_high[i] = bits_as_bfloat16(__builtin_bit_cast(Bits, weight));
            const Vector<float> rest = weight - __builtin_bit_cast(Vector<float>, of_high[i]);
            of_low[i] = bits_as_bfloat16(__builtin_bit_cast(Bits, rest));
          }
          const int at = first * (MatrixTile::key_count / 2) + s / 2 * columns + q - first;
          store(high + at, of_high[0] >> 16 | of_high[1]);
          store(low + at, of_low[0] >> 16 | of_low[1]);
        }
      }
    });
  }

  /// Of the block from a query on.
  static int block(int first) { return first * (MatrixTile::key_count / 2); }
};

/// output[column, q] *= rescale[q]
inline void rescale_matrix_output(const QueryTile<float>& queries, const MatrixTile& matrix) {
  bool changes = false;
  for (int q = 0; q < queries.count; ++q) changes = changes || matrix.tile.rescale[q] != 1.0F;
  if (!changes) return;
  for (int i = 0; i < matrix.tile.value_width; ++i) {
    float* row = queries.output + i * MatrixTile::query_count;
    for (int q = 0; q < queries.count; q += lanes<float>)
      store(row + q, load<Vector<float>>(row + q) * load<Vector<float>>(matrix.tile.rescale + q));
  }
}

/// output[column, q] += Σ_s weights[s, q] · value_s[column] over the values that are not finite, which the products
/// have left out: they may reach the queries that see them only.
template <class Problem>
inline void add_overflowing_values(const Problem& problem, std::int64_t group, std::int64_t first_key,
                                   const RowsOfTile& keys, const QueryTile<float>& queries, const MatrixTile& matrix) {
  constexpr int stride = MatrixTile::query_count;
  for (int s = keys.begin; s < keys.end; ++s) {
    if (!problem.has_key(group, first_key + s)) continue;
    const auto value = problem.value(group, first_key + s);
    for (int i = 0; i < problem.value_width; ++i) {
      const float number = value[i];
      if (number - number == 0) continue;  // finite
      for (int q = 0; q < queries.count; ++q) {
        const DepthRange taken = keys.taken_by(queries, q);
        if (taken.begin <= s && s < taken.end)
          queries.output[i * stride + q] += matrix.tile.scores[s * stride + q] * number;
      }
    }
  }
}

/// What one tile of queries sees of one tile of keys.
template <class Problem>
inline void attend_matrix_tile(const Problem& problem, std::int64_t group, std::int64_t first_key,
                               const QueryTile<float>& queries, const MatrixTile& matrix) {
  constexpr int query_tile = MatrixTile::query_count, key_tile = MatrixTile::key_count;
  const ProductKernel<float>& kernel = matrix.kernel;
  const auto seen = rows_taken(queries, [&](std::int64_t t) { return problem.range(t); });
  const RowsOfTile keys(first_key, key_tile, seen, queries, query_tile);
  if (keys.empty()) return;
  form_matrix_scores(problem, keys, queries, matrix);
  form_weights(
      SerialTeam{}, keys, [&](int s) { return problem.has_key(group, first_key + s); }, queries, matrix.tile);
  rescale_matrix_output(queries, matrix);
  const int depth = (keys.end + kernel.depth_unit - 1) / kernel.depth_unit * kernel.depth_unit;
  const WeightPairs weights(keys, depth, queries, matrix);
  for (int i = 0; i < problem.value_width; i += kernel.rows) {
    const int rows = problem.value_width - i < kernel.rows ? problem.value_width - i : kernel.rows;
    for_each_block(matrix, queries, [&](int first) {
      for (const std::uint32_t* pairs : {weights.high, weights.low}) {
        kernel.tile(rows, depth, matrix.values() + i * key_tile, key_tile, pairs + WeightPairs::block(first),
                    queries.output + i * query_tile + first, query_tile, true, {});
      }
    });
  }
  if (matrix.overflows) add_overflowing_values(problem, group, first_key, keys, queries, matrix);
}

/// Writes the results of a tile of queries, whose sums [column, query] are turned in the place of keys' values.
template <class Problem>
inline void write_matrix_output(const Problem& problem, std::int64_t group, const QueryTile<float>& queries,
                                const MatrixTile& matrix) {
  constexpr int stride = MatrixTile::query_count;
  QueryTile<float> turned = queries;
  turned.output = matrix.tile.values;
  transpose_rows(
      SerialTeam{}, problem.value_width, stride, 1.0F,
      [&](int i) -> const float* { return queries.output + i * stride; }, turned.output,
      padded<float>(problem.value_width));
  write_output(SerialTeam{}, problem, group, turned);
  if constexpr (keeps_log_sums<Problem>) write_log_sums(SerialTeam{}, problem, group, turned);
}

/// All of the queries [first, last) of one group, no more than the tiles hold.
template <class Problem>
inline void softmax_matrix_tile(const Problem& problem, std::int64_t group, std::int64_t first, std::int64_t last,
                                MatrixTile matrix) {
  constexpr int query_tile = MatrixTile::query_count, key_tile = MatrixTile::key_count;
  const int tiles = static_cast<int>((last - first + query_tile - 1) / query_tile);
  const auto queries = [&](int index) { return matrix.tile.query_tile(problem, first, last, index); };
  if (matrix.kernel.begin != nullptr) matrix.kernel.begin();
  for (int i = 0; i < tiles; ++i) start_matrix_queries(problem, group, matrix, queries(i));
  const KeyRange seen{problem.range(first).begin, problem.range(last - 1).end};
  for (std::int64_t keys = seen.begin / key_tile * key_tile; keys < seen.end; keys += key_tile) {
    const int begin = seen.begin > keys ? static_cast<int>(seen.begin - keys) : 0;
    const int end = seen.end - keys < key_tile ? static_cast<int>(seen.end - keys) : key_tile;
    load_matrix_keys(problem, group, keys, begin, end, seen.end, matrix);
    for (int i = 0; i < tiles; ++i) attend_matrix_tile(problem, group, keys, queries(i), matrix);
  }
  if (matrix.kernel.end != nullptr) matrix.kernel.end();
  for (int i = 0; i < tiles; ++i) write_matrix_output(problem, group, queries(i), matrix);
}

}  // namespace detail

/// Whether softmax_matrices() can compute a problem by a kernel: packed rows of whole units and vectors.
template <class Problem>
bool fits_matrices(const Problem& problem, const ProductKernel<float>& kernel) {
  return kernel.multiplies_matrices && problem.keys.packed && problem.key_width % kernel.depth_unit == 0 &&
         problem.value_width % lanes<float> == 0;
}

/// Computes every output row of a problem of softmax_tiles whose queries, keys and values are packed, by a kernel that
/// it fits.
template <class Problem>
void softmax_matrices(const Execution& execution, const std::string& label, const Problem& problem,
                      const ProductKernel<float>& kernel) {
  if (problem.groups == 0 || problem.first >= problem.last) return;
  for_query_teams<float, 1>(
      execution, label, problem,
      [=](const SerialTeam&, const Problem& of, const auto& work, const SoftmaxTile<float, 1>& tile) {
        detail::softmax_matrix_tile(of, work.group, work.first, work.last, {kernel, tile});
      });
}

}  // namespace bsbr::kernels
