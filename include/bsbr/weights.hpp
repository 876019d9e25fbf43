// The weights of a model, in one allocation.
#pragma once

#include <memory>
#include <string>

#include "bsbr/config.hpp"
#include "bsbr/rounding.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

class WeightLayout;
struct WeightPlace;

/// One element for each weight of a model, in one array in the order of weight_table(config): the weights themselves,
/// their gradient, or what else goes with them. Copies share the array.
template <class Real>
class WeightArray {
 public:
  /// Elements that are all 0. `what` they are: messages say so, and the array has the label "bsbr::<what>".
  /// \throws ConfigError if the configuration is not valid
  /// \throws MemoryError if there is not enough memory
  WeightArray(const ModelConfig& config, const std::string& what);

  /// All elements, [parameter_count].
  const Array<Real*>& data() const { return m_data; }

  /// Index of the first element of a weight in data().
  /// \throws Error if there is no weight of that name
  std::int64_t offset(const std::string& name) const;

  /// The weight of a linear layer, [out, in]; or `count` adjacent ones of the same shape as one matrix, [count·out,
  /// in]. \throws Error if there is no weight of that name
  Array<Real**> matrix(const std::string& name, int count = 1) const;

  /// A bias or the weight of a norm, [n]; or `count` adjacent ones of the same shape as one vector, [count·n].
  /// \throws Error if there is no weight of that name
  Array<Real*> vector(const std::string& name, int count = 1) const;

 private:
  WeightPlace place(const std::string& name) const;

  Architecture m_architecture;
  std::shared_ptr<const WeightLayout> m_layout;  // shared by all copies: each layer has one
  Array<Real*> m_data;
};

/// All weights of a model in one array, in the order of weight_table(config). Copies share the array.
template <class Real>
class Weights {
 public:
  /// Weights that are all 0.
  /// \throws ConfigError if the configuration is not valid
  /// \throws MemoryError if there is not enough memory
  explicit Weights(const ModelConfig& config) : m_config(config), m_array(config, "weights") {}

  /// The configuration that they belong to.
  const ModelConfig& config() const { return m_config; }

  /// Replaces the configuration by one with the same weight_table: another causality or chunk_size, for example.
  /// \throws ConfigError if `config` is not valid or has other weights
  void set_config(const ModelConfig& config);

  /// What the factors of products with these weights are rounded to. The elements stay as they are.
  Rounding rounding() const { return m_rounding; }

  /// \throws ConfigError if Real is double, and not Rounding::none
  void set_rounding(Rounding rounding);

  /// All elements, [parameter_count].
  const Array<Real*>& data() const { return m_array.data(); }

  /// Index of the first element of a weight in data().
  /// \throws Error if there is no weight of that name
  std::int64_t offset(const std::string& name) const { return m_array.offset(name); }

  /// The weight of a linear layer, [out, in]; or `count` adjacent ones of the same shape as one matrix, [count·out,
  /// in]. \throws Error if there is no weight of that name
  Array<const Real**> matrix(const std::string& name, int count = 1) const { return m_array.matrix(name, count); }

  /// A bias or the weight of a norm, [n]; or `count` adjacent ones of the same shape as one vector, [count·n].
  /// \throws Error if there is no weight of that name
  Array<const Real*> vector(const std::string& name, int count = 1) const { return m_array.vector(name, count); }

 private:
  ModelConfig m_config;
  WeightArray<Real> m_array;
  Rounding m_rounding = Rounding::none;
};

/// Random weights from the distributions that PyTorch uses for a new model: linear layers uniform in ±1/√in, the
/// embedding standard normal, norms 1 and 0. Each element depends only on the seed, the name of its weight and its
/// position in it (a counter-based generator), not on ranks, threads or the backend; float weights are the rounded
/// double ones. \throws ConfigError if the configuration is not valid \throws MemoryError if there is not enough memory
template <class Real>
Weights<Real> random_weights(const ModelConfig& config, std::uint64_t seed);

}  // namespace bsbr
