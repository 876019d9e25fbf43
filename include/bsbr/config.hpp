// What a model is: its architecture and its sizes. No Kokkos, MPI or HDF5 here.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace bsbr {

/// The seven architectures. `architectures` below lists them for everything that goes over all of them.
enum class Architecture { bsbr, standard, linear, delta_net, sliding_window, hopfield, gau };

/// Which tokens and chunks see which, in BSBR: docs/mathematics.md, "Causality".
enum class Causality { causal, block_causal, bidirectional, reference };

/// What linear attention applies to queries and keys.
enum class FeatureMap { none, elu };

/// Of weights, states and results.
enum class Precision { float32, float64 };

/// A value of an enumeration and the name that files and command lines give it.
template <class Value>
struct Named {
  Value value;            ///< of the enumeration
  std::string_view name;  ///< in files and on command lines
};

/// All architectures, and their names.
inline constexpr auto architectures = std::to_array<Named<Architecture>>({{Architecture::bsbr, "bsbr"},
                                                                          {Architecture::standard, "standard"},
                                                                          {Architecture::linear, "linear"},
                                                                          {Architecture::delta_net, "delta_net"},
                                                                          {Architecture::sliding_window, "sliding_window"},
                                                                          {Architecture::hopfield, "hopfield"},
                                                                          {Architecture::gau, "gau"}});
/// All causalities, and their names.
inline constexpr auto causalities = std::to_array<Named<Causality>>({{Causality::causal, "causal"},
                                                                     {Causality::block_causal, "block_causal"},
                                                                     {Causality::bidirectional, "bidirectional"},
                                                                     {Causality::reference, "reference"}});
/// All feature maps, and their names.
inline constexpr auto feature_maps = std::to_array<Named<FeatureMap>>({{FeatureMap::none, "none"}, {FeatureMap::elu, "elu"}});
/// Both precisions, and their names.
inline constexpr auto precisions = std::to_array<Named<Precision>>({{Precision::float32, "float"}, {Precision::float64, "double"}});

/// The list of an enumeration's values and names.
template <class Value>
constexpr const auto& names_of() {
  if constexpr (std::is_same_v<Value, Architecture>)
    return architectures;
  else if constexpr (std::is_same_v<Value, Causality>)
    return causalities;
  else if constexpr (std::is_same_v<Value, FeatureMap>)
    return feature_maps;
  else
    return precisions;
}

/// The name of an enumeration's value, as files and command lines spell it.
template <class Value>
constexpr std::string_view to_string(Value value) {
  for (const auto& entry : names_of<Value>()) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

/// The value with that name, or nothing.
template <class Value>
constexpr std::optional<Value> from_string(std::string_view name) {
  for (const auto& entry : names_of<Value>()) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

/// All names of an enumeration, "a, b, c": for help and messages.
template <class Value>
std::string list_of_names() {
  std::string list;
  for (const auto& entry : names_of<Value>()) list += (list.empty() ? "" : ", ") + std::string(entry.name);
  return list;
}

/// A model's architecture and sizes. The fields are also attributes of model files and options of bsbr_init:
/// `for_each_field` is the one list that says so.
struct ModelConfig {
  Architecture architecture = Architecture::bsbr;  ///< which attention
  std::int64_t vocab_size = 256;                   ///< number of token ids
  std::int64_t hidden_dim = 512;                   ///< width D of the hidden states
  std::int64_t num_layers = 4;                     ///< transformer layers
  std::int64_t num_heads = 8;                      ///< H, a divisor of hidden_dim; 1 for gau
  std::int64_t ff_dim = 2048;                      ///< width of the feed-forward block
  std::int64_t chunk_size = 128;                   ///< tokens in a chunk, B
  double dropout = 0;                              ///< does nothing in a forward pass

  std::int64_t compression_factor = 0;        ///< bsbr: states are compressed to hidden_dim / compression_factor numbers; 0: not at all
  Causality causality = Causality::causal;    ///< bsbr
  std::int64_t window_size = 128;             ///< sliding_window: tokens seen before the token itself
  double temperature = 1;                     ///< hopfield: scores are divided by it
  double beta = 0.9;                          ///< delta_net: step of the delta rule
  std::int64_t expansion_factor = 1;          ///< gau: width of its one head / hidden_dim
  FeatureMap feature_map = FeatureMap::none;  ///< linear

  /// Throws ConfigError, naming the field, its value and the rule, unless a model can be built from this.
  void validate() const;

  /// What is allowed but hardly meant, in one line; empty if there is nothing of the kind.
  std::string warning() const;

  /// Width of what attention works on, all heads together: hidden_dim, for gau times expansion_factor.
  std::int64_t attention_dim() const { return architecture == Architecture::gau ? hidden_dim * expansion_factor : hidden_dim; }

  /// Width of one head, d.
  std::int64_t head_dim() const { return attention_dim() / num_heads; }

  /// Numbers in the state of one chunk and head that BSBR retrieves: head_dim², or hidden_dim / compression_factor.
  std::int64_t state_size() const { return compression_factor == 0 ? head_dim() * head_dim() : hidden_dim / compression_factor; }
};

/// What is known of one field of ModelConfig besides its value.
struct Field {
  std::string_view name;              ///< as ModelConfig, model files and the JSON summary have it
  std::string_view help;              ///< what it is, for help texts
  std::optional<Architecture> owner;  ///< the one architecture that has it; empty: all have it
  double least = 0;                   ///< the smallest number that is allowed
  double most = 0;                    ///< the largest number that is allowed

  /// Whether that architecture has this field.
  bool belongs_to(Architecture architecture) const { return !owner || *owner == architecture; }
};

/// The largest size that a configuration may name. Far beyond any machine; products of three still fit in 128 bits and no sum overflows.
inline constexpr double largest_size = 1 << 30;

/// Calls visit(Field, value&) for every field, in the order of files and help. `Config` is ModelConfig or const ModelConfig.
template <class Config, class Visitor>
void for_each_field(Config& config, Visitor&& visit) {
  using enum Architecture;
  visit(Field{"architecture", "attention of the model", {}}, config.architecture);
  visit(Field{"vocab_size", "number of token ids", {}, 1, largest_size}, config.vocab_size);
  visit(Field{"hidden_dim", "width D of the hidden states", {}, 1, largest_size}, config.hidden_dim);
  visit(Field{"num_layers", "number of layers", {}, 1, 1 << 16}, config.num_layers);
  visit(Field{"num_heads", "number of attention heads H, a divisor of hidden_dim; 1 for gau", {}, 1, largest_size}, config.num_heads);
  visit(Field{"ff_dim", "width of the feed-forward block", {}, 1, largest_size}, config.ff_dim);
  visit(Field{"chunk_size", "tokens in a chunk, B", {}, 1, largest_size}, config.chunk_size);
  visit(Field{"dropout", "dropout in training; does nothing in a forward pass", {}, 0, 1}, config.dropout);
  visit(Field{"compression_factor", "states are compressed to D / this many numbers; 0: not at all", bsbr, 0, largest_size},
        config.compression_factor);
  visit(Field{"causality", "which tokens see which", bsbr}, config.causality);
  visit(Field{"window_size", "tokens seen before the token itself", sliding_window, 0, 4e18}, config.window_size);
  visit(Field{"temperature", "divides the scores", hopfield, std::numeric_limits<float>::min(), std::numeric_limits<float>::max()},
        config.temperature);
  visit(Field{"beta", "step of the delta rule", delta_net, 0, 2}, config.beta);
  visit(Field{"expansion_factor", "width of the one head / D", gau, 1, 1 << 20}, config.expansion_factor);
  visit(Field{"feature_map", "what is applied to queries and keys", linear}, config.feature_map);
}

/// How a weight starts in a random model.
enum class Initialisation { uniform, normal, ones, zeros };

/// One weight of a model: its name in PyTorch's state_dict, its shape ([out, in] for a linear layer, [n] for a bias or a norm).
struct WeightInfo {
  std::string name;                 ///< in PyTorch's state_dict
  std::vector<std::int64_t> shape;  ///< [out, in], or [n]
  Initialisation initialisation;    ///< in a random model
  double scale;                     ///< uniform: from −scale to scale; normal: standard deviation

  /// How many numbers it has.
  std::int64_t size() const;
};

/// Every weight of a model, in the order in which they lie in memory: weights that are multiplied together (q, k, v; meta_r, meta_h)
/// are neighbours, so that one product serves them. Allocation, files and initialisation all go by this table.
std::vector<WeightInfo> weight_table(const ModelConfig& config);

/// Names of the fused groups of weight_table: "q_proj", "k_proj", "v_proj" and, for gau, "gate_proj".
std::vector<std::string> input_projections(Architecture architecture);

/// Sum of the sizes of weight_table.
std::int64_t parameter_count(const ModelConfig& config);

/// Multiplications and additions of one forward, counted as useful work (the causal half of a triangle, no padding):
/// matrix products of projections, feed-forward, attention, states and mixing; norms, GELU, softmax and embedding are left out.
double forward_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length);

/// The same by the phase of Profile in which it is done; their sum is forward_flops.
std::map<std::string, double> forward_flops_by_phase(const ModelConfig& config, std::int64_t batch, std::int64_t length);

}  // namespace bsbr
