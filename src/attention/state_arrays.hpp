// What the arrays of an AttentionState are after so many tokens: the one list from which their sizes are predicted, and
// by which they are written and read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "bsbr/attention.hpp"
#include "parallel/dealing.hpp"

namespace bsbr::attention {

/// Far more than any machine holds. Files may claim anything.
inline constexpr std::int64_t most_elements = std::int64_t{1} << 60;

/// An array of numbers, as all ranks together have it. In memory it has one dimension.
template <class Real>
struct StateArray {
  const char* name;
  Array<Real*> AttentionState<Real>::*member;
  std::vector<std::int64_t> shape;

  /// Of its blocks, the first dimension, a rank has those that it mixes; else every rank has all of it.
  bool by_block = false;
  /// The dimension of tokens or chunks, for more of which than there are the array may have room; −1: there is none.
  int growing = -1;

  /// Elements of all dimensions from `first` on; most_elements, if there are more than that.
  std::int64_t elements(std::size_t first = 0) const {
    __int128 product = 1;
    for (std::size_t i = first; i < shape.size(); ++i) product = std::min<__int128>(product * shape[i], most_elements);
    return static_cast<std::int64_t>(product);
  }

  /// The blocks that a rank has, and whether it is the first of those that have them.
  std::int64_t first_block(int rank, int ranks) const { return dealing(ranks).first_item(rank); }
  std::int64_t block_count(int rank, int ranks) const { return by_block ? dealing(ranks).item_count(rank) : 1; }
  bool is_first_with_block(int rank, int ranks) const { return dealing(ranks).rows(rank).index == 0; }

  /// The elements that a rank has.
  std::int64_t elements_of(int rank, int ranks) const {
    return by_block ? block_count(rank, ranks) * elements(1) : elements();
  }

 private:
  parallel::Dealing dealing(int ranks) const { return {shape[0], ranks, 1}; }
};

/// The arrays of a state, and the tokens and chunks that it has marks of.
template <class Real>
struct StateArrays {
  std::int64_t first_key = 0, kept_tokens = 0;  // `keys` and `real` are of the tokens [first_key, first_key + kept)
  std::int64_t key_row = 0;                     // elements of one token's
  std::int64_t marked_chunks = 0;               // `real_chunks`
  std::int64_t mixed_elements = 0;              // `mixed_states` of one rank alone, which no file has
  std::vector<StateArray<Real>> arrays;         // those that have elements

  /// Keys and values from first_key on are kept of `tokens` tokens, `numbers` of each: key_elements().
  StateArrays(std::int64_t batch, std::int64_t tokens, std::int64_t first, std::int64_t numbers)
      : first_key(first), kept_tokens(tokens - first), key_row(batch * numbers) {
    add({.name = "keys", .member = &AttentionState<Real>::keys, .shape = {kept_tokens, batch, numbers}, .growing = 0});
  }

  void add(StateArray<Real> array) {
    if (array.elements() > 0) arrays.push_back(std::move(array));
  }
};

/// Those of one layer. config: of a causal model, and valid.
template <class Real>
StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens, Rounding rounding);

}  // namespace bsbr::attention
