// Second kernel family: states of chunks.
//
//     F_j = Σ_{s in chunk j} key_sᵀ value_s        [key width, value width] of one head
//     output_t += query_t · G_{c(t)}
//     query gradient_t += output gradient_t · G_{c(t)}ᵀ, and the like: the same, with the state transposed
//
// Sums over a long chunk run in two levels, tiles of tokens and then the tiles' sums, so that float loses little.
#pragma once

#include <Kokkos_Core.hpp>

#include "kernels/scratch.hpp"
#include "kernels/state_layout.hpp"
#include "kernels/stored_row.hpp"
#include "kernels/tile_product.hpp"
#include "kernels/tokens.hpp"
#include "kernels/transpose.hpp"

namespace bsbr::kernels {

/// Scratch of one team that forms states.
template <class Real>
struct StateTile {
  Real* keys;    // [state_tile, padded key width]
  Real* values;  // [state_tile, padded value width]
  Real* state;   // [key width, padded value width]

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{tuning::state_tile} * padded<Real>(key_width)) +
           scratch_bytes<Real>(std::int64_t{tuning::state_tile} * padded<Real>(value_width)) +
           scratch_bytes<Real>(std::int64_t{key_width} * padded<Real>(value_width));
  }

  KOKKOS_INLINE_FUNCTION StateTile(Scratch& scratch, int key_width, int value_width)
      : keys(scratch.template take<Real>(std::int64_t{tuning::state_tile} * padded<Real>(key_width))),
        values(scratch.template take<Real>(std::int64_t{tuning::state_tile} * padded<Real>(value_width))),
        state(scratch.template take<Real>(std::int64_t{key_width} * padded<Real>(value_width))) {}
};

/// Scratch of one team that applies states: queries are read where they lie, unless they are packed.
template <class Real>
struct AppliedState {
  static constexpr bool has_queries = StoredRow<Real>::may_be_packed;

  Real* outputs;  // [state_tile, padded value width]
  Real* state;    // [key width, padded value width]
  Real* queries;  // [state_tile, padded key width], where they may be packed

  KOKKOS_INLINE_FUNCTION static std::int64_t bytes(int key_width, int value_width) {
    return scratch_bytes<Real>(std::int64_t{tuning::state_tile} * padded<Real>(value_width)) +
           scratch_bytes<Real>(std::int64_t{key_width} * padded<Real>(value_width)) +
           (has_queries ? scratch_bytes<Real>(std::int64_t{tuning::state_tile} * padded<Real>(key_width)) : 0);
  }

  KOKKOS_INLINE_FUNCTION AppliedState(Scratch& scratch, int key_width, int value_width)
      : outputs(scratch.template take<Real>(std::int64_t{tuning::state_tile} * padded<Real>(value_width))),
        state(scratch.template take<Real>(std::int64_t{key_width} * padded<Real>(value_width))),
        queries(has_queries ? scratch.template take<Real>(std::int64_t{tuning::state_tile} * padded<Real>(key_width))
                            : nullptr) {}
};

/// Columns of a state that a team of Tile, StateTile or AppliedState, has at a time: all of them on a host. A GPU
/// halves them until the team's scratch fits into shared memory; if no block of some columns does, it takes them all.
template <class Tile>
int state_columns(int key_width, int value_width) {
  if constexpr (!on_host) {
    for (int columns = value_width; columns >= gpu_tuning::least_state_columns; columns = (columns + 1) / 2) {
      if (scratch_level(Tile::bytes(key_width, columns)) == 0) return columns;
    }
  }
  return value_width;
}

/// tile[row, :] = rows of tokens [first, first + count), padded with zeros; rows of tokens that are not real are zeros.
/// mask: null = all real.
template <class Real>
KOKKOS_INLINE_FUNCTION void load_rows(const Team& team, const TokenRows<Real>& tokens, const std::uint8_t* mask,
                                      std::int64_t first, int count, Real* tile) {
  const auto source = [&](int row) -> StoredRow<Real> {
    const std::int64_t token = first + row;
    const StoredRow<Real> of_token = tokens.row(token);
    prefetch_next_head(of_token, tokens.width);  // it comes next
    return mask == nullptr || mask[token] != 0 ? of_token : nullptr;
  };
  load_padded_rows(team, count, source, tokens.width, tile, padded<Real>(tokens.width));
}

/// tile.state = Σ key_tᵀ value_t over the real ones of the tokens [begin, end), of one chunk: tiles are counted from
/// its beginning.
template <class Real>
KOKKOS_INLINE_FUNCTION void form_state(const Team& team, const TokenRows<Real>& keys, const TokenRows<Real>& values,
                                       const std::uint8_t* mask, std::int64_t begin, std::int64_t end,
                                       const StateTile<Real>& tile) {
  const int key_stride = padded<Real>(keys.width), value_stride = padded<Real>(values.width);
  Real* state = tile.state;
  for_each(team, keys.width * value_stride, [&](const int i) { state[i] = 0; });

  // S += Σ_t k_tᵀ v_t of a tile of tokens
  for (std::int64_t first = begin; first < end; first += tuning::state_tile) {
    const int count = end - first < tuning::state_tile ? static_cast<int>(end - first) : tuning::state_tile;
    load_rows(team, keys, mask, first, count, tile.keys);
    load_rows(team, values, mask, first, count, tile.values);
    add_product(team, keys.width, values.width, count, LeftFactor<Real>{tile.keys, 1, key_stride}, tile.values,
                value_stride, state, value_stride);
  }
}

/// tile.state[k, i] = S[k, first + i], i < count, of a state S [width, width]; zeros for i up to the next whole vector.
template <class Real>
KOKKOS_INLINE_FUNCTION void load_state(const Team& team, const StateRef<const Real>& source, int width, int first,
                                       int count, const AppliedState<Real>& tile) {
  const int stride = padded<Real>(count);
  source.load_columns(team, width, width, first, count, tile.state, stride);
  for_each_in_rows(team, width, stride - count, [&](const int key) {
    Real* surplus = tile.state + key * stride + count;
    return [=](const int i) { surplus[i] = 0; };
  });
}

/// tile.state[k, i] = S[first + i, k], i < count, of a state S [width, width]; zeros for i up to the next whole vector.
template <class Real>
KOKKOS_INLINE_FUNCTION void load_transposed_state(const Team& team, const StateRef<const Real>& source, int width,
                                                  int first, int count, const AppliedState<Real>& tile) {
  const int stride = padded<Real>(count);
  if constexpr (on_host) {  // by rows of S, as many as there is room for among the outputs
    for (int row = 0; row < count; row += tuning::state_tile) {
      const int rows = count - row < tuning::state_tile ? count - row : tuning::state_tile;
      for (int i = 0; i < rows; ++i)
        source.load(team, std::int64_t{first + row + i} * width, width, tile.outputs + i * width);
      transpose_rows(
          team, rows, width, Real(1), [&](int i) -> const Real* { return tile.outputs + i * width; }, tile.state + row,
          stride);
    }
  } else {
    for_each(team, width * stride, [&](const int i) {
      const int k = i / stride, column = i % stride;
      tile.state[i] = column < count ? source.at(std::int64_t{first + column} * width + k) : Real(0);
    });
  }
}

/// Rows [first, first + count) as the left factor of a product: where they lie, or if they are packed from `room`
/// [count, padded width].
template <class Real>
KOKKOS_INLINE_FUNCTION LeftFactor<Real> rows_as_factor(const Team& team, const TokenRows<Real>& rows,
                                                       std::int64_t first, int count, Real* room) {
  if (!rows.first.is_packed()) return {rows.row(first).elements(), rows.stride, 1};
  const int stride = padded<Real>(rows.width);
  load_padded_rows(
      team, count, [&](int row) { return rows.row(first + row); }, rows.width, room, stride);
  return {room, stride, 1};
}

/// output_t += query_t · tile.state for the tokens [begin, end) that are real. mask: null = all are. Row t of the
/// output is at output + t·output_stride.
template <class Real>
KOKKOS_INLINE_FUNCTION void apply_state(const Team& team, const TokenRows<Real>& queries, const std::uint8_t* mask,
                                        std::int64_t begin, std::int64_t end, int value_width, Real* output,
                                        std::int64_t output_stride, const AppliedState<Real>& tile) {
  const int value_stride = padded<Real>(value_width);
  Real* product = tile.outputs;

  // product_t = q_t S, output_t += product_t, of a tile of tokens
  for (std::int64_t first = begin; first < end; first += tuning::state_tile) {
    const int count = end - first < tuning::state_tile ? static_cast<int>(end - first) : tuning::state_tile;
    form_product(team, count, value_width, queries.width, rows_as_factor(team, queries, first, count, tile.queries),
                 tile.state, value_stride, product, value_stride);
    for_each_in_rows(team, count, value_width, [&](const int row) {
      Real* target = output + (first + row) * output_stride;
      const Real* source = product + row * value_stride;
      const bool real = mask == nullptr || mask[first + row] != 0;
      prefetch(queries.row(first + row) + queries.width, queries.width);  // of the next head
      prefetch(target + value_width, value_width);
      return [=](const int i) {
        if (real) target[i] += source[i];
      };
    });
  }
}

// ---- The same without scratch: for states that are rows of a panel --------------------------------------------------

namespace detail {

/// form_flat_state() of a host, of keys and values that are stored as Element.
template <class Element, class Real>
inline void form_flat_state_of(const TokenRows<Real>& keys, const TokenRows<Real>& values, const std::uint8_t* mask,
                               std::int64_t begin, std::int64_t end, Real* state) {
  constexpr int block = HostSizes::flat_state_vectors * lanes<Real>;

  // S[row, column …] = Σ_tiles (Σ_t k_t[row] v_t[column …] of the tile), some columns at a time
  for (int row = 0; row < keys.width; ++row) {
    for (int column = 0; column < values.width; column += block) {
      const int columns = values.width - column < block ? values.width - column : block;
      Real total[block] = {};
      for (std::int64_t first = begin; first < end; first += tuning::state_tile) {
        const std::int64_t stop = end - first < tuning::state_tile ? end : first + tuning::state_tile;
        Real part[block] = {};
        for (std::int64_t t = first; t < stop; ++t) {
          if (mask != nullptr && mask[t] == 0) continue;
          const Real key = elements_of<Element>(keys.row(t))[row];
          const Element* value = elements_of<Element>(values.row(t)) + column;
          for (int i = 0; i < columns; ++i) part[i] += key * value[i];
        }
        for (int i = 0; i < columns; ++i) total[i] += part[i];
      }
      for (int i = 0; i < columns; ++i) state[row * values.width + column + i] = total[i];
    }
  }
}

}  // namespace detail

/// state [key width, value width], rows without padding, = Σ key_tᵀ value_t over the real ones of the tokens [begin,
/// end) of one chunk.
template <class Real>
inline void form_flat_state(const SerialTeam&, const TokenRows<Real>& keys, const TokenRows<Real>& values,
                            const std::uint8_t* mask, std::int64_t begin, std::int64_t end, Real* state) {
  if constexpr (StoredRow<Real>::may_be_packed) {
    if (keys.first.is_packed()) return detail::form_flat_state_of<Bfloat16>(keys, values, mask, begin, end, state);
  }
  detail::form_flat_state_of<Real>(keys, values, mask, begin, end, state);
}

template <class Real>
KOKKOS_INLINE_FUNCTION void form_flat_state(const TeamMember& team, const TokenRows<Real>& keys,
                                            const TokenRows<Real>& values, const std::uint8_t* mask, std::int64_t begin,
                                            std::int64_t end, Real* state) {
  // S[row, column] = Σ_tiles (Σ_t k_t[row] v_t[column] of the tile)
  for_each(team, keys.width * values.width, [&](const int i) {
    Real total = 0;
    for (std::int64_t first = begin; first < end; first += tuning::state_tile) {
      const std::int64_t stop = end - first < tuning::state_tile ? end : first + tuning::state_tile;
      Real part = 0;
      for (std::int64_t t = first; t < stop; ++t) {
        if (mask != nullptr && mask[t] == 0) continue;
        part += keys.row(t)[i / values.width] * values.row(t)[i % values.width];
      }
      total += part;
    }
    state[i] = total;
  });
}

/// state [width, width], rows without padding, becomes its transpose.
template <class AnyTeam, class Real>
KOKKOS_INLINE_FUNCTION void transpose_flat_state(const AnyTeam& team, int width, Real* state) {
  for_each_in_rows(team, width, width, [=](const int row) {
    return [=](const int column) {
      if (column >= row) return;
      const Real below = state[row * width + column];
      state[row * width + column] = state[column * width + row];
      state[column * width + row] = below;
    };
  });
}

/// output_t += query_t · state for the tokens [begin, end) that are real; mask: null = all are. State as above, row t
/// of the output at output + t·output_stride.
template <class Real>
inline void apply_flat_state(const SerialTeam&, const TokenRows<Real>& queries, const std::uint8_t* mask,
                             std::int64_t begin, std::int64_t end, int value_width, const Real* state, Real* output,
                             std::int64_t output_stride) {
  // output_t += Σ_k q_t[k] S[k, :]
  for (std::int64_t t = begin; t < end; ++t) {
    if (mask != nullptr && mask[t] == 0) continue;
    Real* target = output + t * output_stride;
    for (int k = 0; k < queries.width; ++k) {
      const Real query = queries.row(t)[k];
      for (int column = 0; column < value_width; ++column) target[column] += query * state[k * value_width + column];
    }
  }
}

template <class Real>
KOKKOS_INLINE_FUNCTION void apply_flat_state(const TeamMember& team, const TokenRows<Real>& queries,
                                             const std::uint8_t* mask, std::int64_t begin, std::int64_t end,
                                             int value_width, const Real* state, Real* output,
                                             std::int64_t output_stride) {
  const auto tokens = static_cast<int>(end - begin);

  // output_t[column] += Σ_k q_t[k] S[k, column]
  for_each(team, tokens * value_width, [&](const int i) {
    const std::int64_t t = begin + i / value_width;
    const int column = i % value_width;
    if (mask != nullptr && mask[t] == 0) return;
    Real* target = output + t * output_stride + column;
    for (int k = 0; k < queries.width; ++k) *target += queries.row(t)[k] * state[k * value_width + column];
  });
}

}  // namespace bsbr::kernels
