// Running the library's model on the ranks of a communicator: ids of a whole batch in, its hidden states out, on every
// rank.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <optional>
#include <type_traits>
#include <vector>

#include "bsbr/model.hpp"
#include "support/masks.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {

/// Ids and mask (1 = real token; empty: no padding) of a batch of equally long sequences, [batch, length] each.
struct Batch {
  std::int64_t batch = 0, length = 0;
  std::vector<std::int64_t> ids;
  std::vector<std::uint8_t> mask;

  std::vector<std::int64_t> row_ids(std::int64_t row) const { return part(ids, row, 0, length); }
  reference::Mask row_mask(std::int64_t row) const {
    return mask.empty() ? reference::Mask() : part(mask, row, 0, length);
  }

  /// One of the sequences as a batch of its own.
  Batch row(std::int64_t row) const { return {1, length, row_ids(row), row_mask(row)}; }

  /// The tokens [first, last) of each sequence.
  Batch piece(std::int64_t first, std::int64_t last) const {
    Batch shorter{batch, last - first, {}, {}};
    for (std::int64_t i = 0; i < batch; ++i) {
      const auto row_of_ids = part(ids, i, first, last - first);
      shorter.ids.insert(shorter.ids.end(), row_of_ids.begin(), row_of_ids.end());
      if (mask.empty()) continue;
      const auto row_of_mask = part(mask, i, first, last - first);
      shorter.mask.insert(shorter.mask.end(), row_of_mask.begin(), row_of_mask.end());
    }
    return shorter;
  }
  /// The first `tokens` tokens of each sequence.
  Batch prefix(std::int64_t tokens) const { return piece(0, tokens); }

 private:
  template <class Value>
  std::vector<Value> part(const std::vector<Value>& values, std::int64_t row, std::int64_t first,
                          std::int64_t count) const {
    const auto begin = values.begin() + row * length + first;
    return {begin, begin + count};
  }
};

inline Batch random_batch(const ModelConfig& config, std::int64_t batch, std::int64_t length, std::uint64_t seed,
                          Padding padding = Padding::none) {
  return {batch, length, random_ids(batch * length, config.vocab_size, seed),
          make_mask(padding, batch, length, config.chunk_size)};
}

/// The reference's weights as those of the library, rounded to Real.
template <class Real>
Weights<Real> to_weights(const ModelConfig& config, const reference::WeightMap& map) {
  Weights<Real> weights(config);
  const auto host = Kokkos::create_mirror_view(weights.data());
  for (const auto& weight : weight_table(config)) {
    Real* target = host.data() + weights.offset(weight.name);
    for (const double value : map.at(weight.name).values) *target++ = static_cast<Real>(value);
  }
  Kokkos::deep_copy(weights.data(), host);
  return weights;
}

/// A model with weights that make no term of it small.
template <class Real>
Model<Real> random_model(const ModelConfig& config, std::uint64_t seed = 1) {
  return Model<Real>(to_weights<Real>(config, random_weight_map(config, seed)));
}

/// This rank's part [batch, local tokens] of values [batch, length].
template <class To, class From>
Array<const To**> local_part(const Sequence& sequence, const std::vector<From>& values) {
  const std::int64_t batch = sequence.batch(), tokens = sequence.local_tokens();
  const Array<To**> part("test::part", batch, tokens);
  const auto host = Kokkos::create_mirror_view(part);
  for (std::int64_t row = 0; row < batch; ++row) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      host(row, t) = static_cast<To>(values[static_cast<std::size_t>(row * sequence.length() + sequence.offset() + t)]);
    }
  }
  Kokkos::deep_copy(part, host);
  return part;
}

/// The whole [batch, length, width] of the ranks' parts, on every rank. Collective; bits stay as they are.
template <class Real>
std::vector<Real> gather_tokens(const Sequence& sequence, const Array<Real***>& part) {
  using Bits = std::conditional_t<sizeof(Real) == 4, std::uint32_t, std::uint64_t>;
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), part);
  const auto width = static_cast<std::int64_t>(part.extent(2));
  std::vector<Real> whole(static_cast<std::size_t>(sequence.batch() * sequence.length() * width), Real(0));
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t) {
      for (std::int64_t i = 0; i < width; ++i) {
        whole[static_cast<std::size_t>(((row * sequence.length()) + sequence.offset() + t) * width + i)] =
            host(row, t, i);
      }
    }
  }
  // Each number has one owner, and zero has no bits set.
  const MPI_Datatype type = sizeof(Bits) == 4 ? MPI_UINT32_T : MPI_UINT64_T;
  MPI_Allreduce(MPI_IN_PLACE, whole.data(), static_cast<int>(whole.size()), type, MPI_BOR, sequence.comm());
  return whole;
}

/// Hidden states [batch, length, hidden_dim] of the whole batch, on every rank. Collective. origin, states: of tokens
/// before these.
template <class Real>
std::vector<Real> run_model(Model<Real>& model, MPI_Comm comm, const Batch& batch, Profile* profile = nullptr,
                            std::int64_t origin = 0, std::vector<AttentionState<Real>>* states = nullptr) {
  const Sequence sequence(comm, batch.batch, batch.length, model.config().chunk_size, origin);
  std::optional<Array<const std::uint8_t**>> mask;
  if (!batch.mask.empty()) mask = local_part<std::uint8_t>(sequence, batch.mask);
  const auto ids = local_part<std::int32_t>(sequence, batch.ids);
  return gather_tokens(sequence, model.forward(Execution(), sequence, ids, mask, profile, states));
}

/// The same with a model of its own, on this process alone.
template <class Real>
std::vector<Real> run_alone(const ModelConfig& config, const Batch& batch) {
  auto model = random_model<Real>(config);
  return run_model(model, MPI_COMM_SELF, batch);
}

}  // namespace bsbr::testing
