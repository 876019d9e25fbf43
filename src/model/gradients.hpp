// The gradient of a model's weights, and its sum over the leaves that a rank has.
//
// A leaf is a range of tokens, at a fixed place in the batch. Leaves are joined by a tree that is a function of their
// number alone (parallel/ordered_sum.hpp). A rank takes its leaves in order and keeps the nodes that it cannot join any
// further: like the digits of a binary counter, at most one of each level where its leaves begin the batch, else at
// most two.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bsbr/weights.hpp"
#include "parallel/ordered_sum.hpp"

namespace bsbr {

/// The gradient with respect to each weight, in the places of the weights.
template <class Real>
class Gradients : public WeightArray<Real> {
 public:
  /// All 0. Throws ConfigError if the configuration is not valid, MemoryError if there is not enough memory.
  explicit Gradients(const ModelConfig& config) : WeightArray<Real>(config, "gradients") {}

  void set_to_zero(const Execution& execution) const;
  /// this = this + right
  void add(const Execution& execution, const Gradients& right) const;
};

/// Sums the gradients of a rank's leaves in the order of the tree:
///
///     for each leaf: form its sum in leaf(), then join_leaf()
template <class Real>
class GradientTree {
 public:
  /// For the leaves from `first` on of `leaves` altogether. Arrays are allocated when they are needed.
  GradientTree(const Execution& execution, const ModelConfig& config, std::int64_t leaves, std::int64_t first = 0)
      : m_execution(execution),
        m_config(config),
        m_next(first),
        m_sum(parallel::OrderedTree(leaves), {execution, m_free}) {}

  /// Where the next leaf's sum is to be formed: all 0. Throws MemoryError if there is not enough memory, Error if there
  /// is no leaf left.
  const Gradients<Real>& leaf();

  /// The sum of that leaf is complete. Throws Error if it has not been begun.
  void join_leaf();

  /// What has been joined, from the first leaf to the last: each has a place and a value; a single one, the root, where
  /// the leaves were all.
  const auto& nodes() const { return m_sum.nodes(); }

 private:
  using Arrays = std::vector<Gradients<Real>>;

  /// left = left + right; right's array is free for another leaf.
  struct Join {
    Execution execution;
    std::shared_ptr<Arrays> free;

    void operator()(const Gradients<Real>& left, const Gradients<Real>& right) const {
      left.add(execution, right);
      free->push_back(right);
    }
  };

  Execution m_execution;
  ModelConfig m_config;
  std::int64_t m_next;
  std::shared_ptr<Arrays> m_free = std::make_shared<Arrays>();  // the last one is the next leaf's
  parallel::OrderedSum<Gradients<Real>, Join> m_sum;
};

}  // namespace bsbr
