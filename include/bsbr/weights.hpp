// The weights of a model, in one allocation.
#pragma once

#include <string>
#include <unordered_map>

#include "bsbr/config.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

/// All weights of a model, one after the other in the order of weight_table(config).
template <class Real>
class Weights {
 public:
  /// Zeros. Throws ConfigError (config.validate()), MemoryError.
  explicit Weights(const ModelConfig& config);

  /// What they are the weights of.
  const ModelConfig& config() const { return m_config; }

  /// Changes what does not change the table: causality and chunk_size. Throws ConfigError otherwise.
  void set_config(const ModelConfig& config);

  /// All numbers, [parameter_count].
  const Array<Real*>& data() const { return m_data; }

  /// Where a weight begins in data(). Throws Error if the table has no such name.
  std::int64_t offset(const std::string& name) const;

  /// A linear layer's weight [out, in], or `count` neighbours of the same shape as one: [count·out, in].
  Array<const Real**> matrix(const std::string& name, int count = 1) const;

  /// A bias or a norm's weight [n], or `count` neighbours as one: [count·n].
  Array<const Real*> vector(const std::string& name, int count = 1) const;

 private:
  struct Place {
    std::int64_t offset, rows, columns;  // columns = 0: a vector
  };
  const Place& place(const std::string& name) const;

  ModelConfig m_config;
  std::unordered_map<std::string, Place> m_places;
  Array<Real*> m_data;
};

/// Weights drawn as PyTorch draws them for a new model: linear layers uniform in ±1/√in, the embedding standard normal, norms 1 and 0.
/// Each number depends on the seed, its weight's name and its place in it only (a counter-based generator): not on ranks,
/// threads or the backend; float weights are the rounded double ones.
template <class Real>
Weights<Real> random_weights(const ModelConfig& config, std::uint64_t seed);

}  // namespace bsbr
