// The configuration of a model: its architecture and its sizes. No Kokkos, MPI or HDF5 here.
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

#include "bsbr/architecture.hpp"
#include "bsbr/rounding.hpp"

namespace bsbr {

/// Which tokens and chunks see which, in BSBR (docs/mathematics.md, "Causality").
enum class Causality {
  causal,         ///< a token sees no later token; a chunk retrieves from earlier chunks
  block_causal,   ///< a token sees its whole chunk; a chunk retrieves from itself and earlier chunks
  bidirectional,  ///< a token sees its whole chunk; a chunk retrieves from all chunks
  reference       ///< the reversed masks of the Python package bsbr 0.1.x; ignores padding
};

/// The function that linear attention applies to queries and keys.
enum class FeatureMap {
  none,  ///< the identity; the result is not normalised
  elu    ///< elu(z) + 1; the result is normalised
};

/// What a model computes from its last hidden states: nothing, or a logit for each token id. There is no bias.
enum class Head {
  none,     ///< nothing: hidden states are the result
  tied,     ///< logits = y Eᵀ, with the embedding E
  separate  ///< logits = y Wᵀ, with a weight of its own, lm_head.weight
};

/// What the state of a chunk is, of its tokens' products of key and value.
enum class StateScale {
  sum,  ///< their sum, which grows with the chunk
  mean  ///< their mean: the sum divided by the number of the chunk's real tokens
};

/// What the vector h is formed from by which a chunk is found, in BSBR.
enum class RouterKey {
  last,  ///< the attention's input at the last real token of the chunk
  mean   ///< its mean over the real tokens of the chunk
};

/// The numbers that a model computes in.
enum class Precision {
  float32,  ///< float
  float64,  ///< double
  bfloat16  ///< float, with the factors of matrix products rounded to bfloat16: Rounding
};

/// A value of an enumeration, and its name in files and on command lines.
template <class Value>
struct Named {
  Value value;            ///< the enumerator
  std::string_view name;  ///< its name
};

/// All architectures, and their names.
inline constexpr auto architectures = std::to_array<Named<Architecture>>({
#define BSBR_NAMED(name) {Architecture::name, #name},
    BSBR_ARCHITECTURES(BSBR_NAMED)
#undef BSBR_NAMED
});
/// All causalities, and their names.
inline constexpr auto causalities = std::to_array<Named<Causality>>({{Causality::causal, "causal"},
                                                                     {Causality::block_causal, "block_causal"},
                                                                     {Causality::bidirectional, "bidirectional"},
                                                                     {Causality::reference, "reference"}});
/// All feature maps, and their names.
inline constexpr auto feature_maps =
    std::to_array<Named<FeatureMap>>({{FeatureMap::none, "none"}, {FeatureMap::elu, "elu"}});
/// All kinds of head, and their names.
inline constexpr auto head_kinds =
    std::to_array<Named<Head>>({{Head::none, "none"}, {Head::tied, "tied"}, {Head::separate, "separate"}});
/// All scales of states, and their names.
inline constexpr auto state_scales =
    std::to_array<Named<StateScale>>({{StateScale::sum, "sum"}, {StateScale::mean, "mean"}});
/// All kinds of router key, and their names.
inline constexpr auto router_keys =
    std::to_array<Named<RouterKey>>({{RouterKey::last, "last"}, {RouterKey::mean, "mean"}});
/// All precisions, and their names.
inline constexpr auto precisions = std::to_array<Named<Precision>>(
    {{Precision::float32, "float"}, {Precision::float64, "double"}, {Precision::bfloat16, "bfloat16"}});

/// What is rounded in a precision.
constexpr Rounding rounding_of(Precision precision) {
  return precision == Precision::bfloat16 ? Rounding::bfloat16 : Rounding::none;
}

/// The array above that lists the values and names of the enumeration `Value`.
template <class Value>
constexpr const auto& names_of() {
  if constexpr (std::is_same_v<Value, Architecture>)
    return architectures;
  else if constexpr (std::is_same_v<Value, Causality>)
    return causalities;
  else if constexpr (std::is_same_v<Value, FeatureMap>)
    return feature_maps;
  else if constexpr (std::is_same_v<Value, Head>)
    return head_kinds;
  else if constexpr (std::is_same_v<Value, StateScale>)
    return state_scales;
  else if constexpr (std::is_same_v<Value, RouterKey>)
    return router_keys;
  else
    return precisions;
}

/// The name of an enumerator in files and on command lines.
template <class Value>
constexpr std::string_view to_string(Value value) {
  for (const auto& entry : names_of<Value>()) {
    if (entry.value == value) return entry.name;
  }
  return "?";
}

/// The enumerator with that name; empty if there is none.
template <class Value>
constexpr std::optional<Value> from_string(std::string_view name) {
  for (const auto& entry : names_of<Value>()) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

/// All names of an enumeration, "a, b, c", for help and messages.
template <class Value>
std::string list_of_names() {
  std::string list;
  for (const auto& entry : names_of<Value>()) list += (list.empty() ? "" : ", ") + std::string(entry.name);
  return list;
}

/// A model's architecture and sizes. The fields are also attributes of model files and options of bsbr_init;
/// `for_each_field` lists them with their ranges.
struct ModelConfig {
  Architecture architecture = Architecture::bsbr;  ///< the attention mechanism
  std::int64_t vocab_size = 256;                   ///< number of token ids; ids are 0 to vocab_size − 1
  std::int64_t hidden_dim = 512;                   ///< width D of the hidden states
  std::int64_t num_layers = 4;                     ///< number of transformer layers
  std::int64_t num_heads = 8;                      ///< number of heads H, a divisor of hidden_dim; 1 for gau
  std::int64_t ff_dim = 2048;                      ///< width of the feed-forward block
  std::int64_t chunk_size = 128;                   ///< tokens in a chunk, B
  double dropout = 0;                              ///< dropout in training; does nothing in a forward pass
  Head head = Head::none;                          ///< what is computed from the last hidden states

  std::int64_t compression_factor =
      0;  ///< bsbr: states are compressed to hidden_dim / compression_factor elements; 0: not at all
  Causality causality = Causality::causal;  ///< bsbr: which tokens and chunks see which
  std::int64_t window_size = 128;     ///< sliding_window: number of earlier tokens that a token sees besides itself
  double temperature = 1;             ///< hopfield: divides the scores
  double beta = 0.9;                  ///< delta_net: step size of the delta rule, 0 to 2
  std::int64_t expansion_factor = 1;  ///< gau: width of its one head, in units of hidden_dim
  FeatureMap feature_map = FeatureMap::none;  ///< linear: the function that is applied to queries and keys

  // Options that let a model learn to retrieve; the defaults are the architectures as published.
  StateScale state_scale = StateScale::sum;  ///< bsbr, gau: whether a chunk's state is a sum or a mean
  std::int64_t null_chunk = 0;      ///< bsbr, 1: a chunk may also retrieve nothing, by a learned logit for each head
  std::int64_t retrieval_gate = 0;  ///< bsbr, 1: what is retrieved is multiplied by a learned factor for each head
  RouterKey router_key = RouterKey::last;  ///< bsbr: what a chunk's h is formed from
  std::int64_t output_norm = 0;            ///< linear, gau, 1: each head's result is divided by its root mean square

  /// Checks that a model can be built from this configuration.
  /// \throws ConfigError with the field, its value and the rule it breaks
  void validate() const;

  /// A one-line warning about legal settings that are probably a mistake; empty if there is none.
  std::string warning() const;

  /// Width of queries, keys and values, all heads together: hidden_dim, for gau times expansion_factor.
  std::int64_t attention_dim() const;

  /// Width of one head, d.
  std::int64_t head_dim() const { return attention_dim() / num_heads; }

  /// Elements in the state of one chunk and head of BSBR: head_dim², or hidden_dim / compression_factor.
  std::int64_t state_size() const {
    return compression_factor == 0 ? head_dim() * head_dim() : hidden_dim / compression_factor;
  }
};

/// Describes one field of ModelConfig.
struct Field {
  std::string_view name;  ///< name in ModelConfig, model files and the JSON summary, such as "hidden_dim"
  std::string_view help;  ///< description for help texts
  double least = 0;       ///< smallest allowed value, of a number
  double most = 0;        ///< largest allowed value, of a number
  /// Whether a model file may lack it: then it has the value that ModelConfig gives it, as in files that are older than
  /// the field.
  bool may_be_missing = false;

  /// The architectures that use this field; empty: all do.
  std::vector<Architecture> owners() const;
  /// Their names, "a, b".
  std::string names_of_owners() const;
  /// Whether all architectures use this field.
  bool is_shared() const { return owners().empty(); }
  /// Whether `architecture` uses this field.
  bool belongs_to(Architecture architecture) const;
};

/// The largest size that a configuration may have. Far beyond any machine; products of three fit in 128 bits, and no
/// sum overflows.
inline constexpr double largest_size = 1 << 30;

/// Calls visit(Field, value&) for every field, in the order of files and help texts. `Config` is ModelConfig or const
/// ModelConfig.
template <class Config, class Visitor>
void for_each_field(Config& config, Visitor&& visit) {
  visit(Field{"architecture", "attention of the model"}, config.architecture);
  visit(Field{"vocab_size", "number of token ids", 1, largest_size}, config.vocab_size);
  visit(Field{"hidden_dim", "width D of the hidden states", 1, largest_size}, config.hidden_dim);
  visit(Field{"num_layers", "number of layers", 1, 1 << 16}, config.num_layers);
  visit(Field{"num_heads", "number of attention heads H, a divisor of hidden_dim; 1 for gau", 1, largest_size},
        config.num_heads);
  visit(Field{"ff_dim", "width of the feed-forward block", 1, largest_size}, config.ff_dim);
  visit(Field{"chunk_size", "tokens in a chunk, B", 1, largest_size}, config.chunk_size);
  visit(Field{"dropout", "dropout in training; does nothing in a forward pass", 0, 1, true}, config.dropout);
  visit(Field{.name = "head",
              .help = "logits: none, of the embedding, or of a weight of their own",
              .may_be_missing = true},
        config.head);
  visit(Field{"compression_factor", "states are compressed to D / this many elements; 0: not at all", 0, largest_size},
        config.compression_factor);
  visit(Field{"causality", "which tokens see which"}, config.causality);
  visit(Field{"window_size", "tokens seen before the token itself", 0, 4e18}, config.window_size);
  visit(
      Field{"temperature", "divides the scores", std::numeric_limits<float>::min(), std::numeric_limits<float>::max()},
      config.temperature);
  visit(Field{"beta", "step of the delta rule", 0, 2}, config.beta);
  visit(Field{"expansion_factor", "width of the one head / D", 1, 1 << 20}, config.expansion_factor);
  visit(Field{"feature_map", "what is applied to queries and keys"}, config.feature_map);
  visit(Field{.name = "state_scale",
              .help = "states of chunks are sums or means over their tokens",
              .may_be_missing = true},
        config.state_scale);
  visit(Field{"null_chunk", "1: a chunk may retrieve nothing, by a learned logit", 0, 1, true}, config.null_chunk);
  visit(Field{"retrieval_gate", "1: retrieval times a learned factor, 0 at first", 0, 1, true}, config.retrieval_gate);
  visit(Field{.name = "router_key", .help = "token, or mean, that a chunk is found by", .may_be_missing = true},
        config.router_key);
  visit(Field{"output_norm", "1: heads' results are divided by their root mean square", 0, 1, true},
        config.output_norm);
}

/// How random_weights draws a weight.
enum class Initialisation {
  uniform,  ///< uniform from −scale to scale
  normal,   ///< normal with standard deviation scale
  ones,     ///< 1
  zeros     ///< 0
};

/// One weight of a model.
struct WeightInfo {
  std::string name;                 ///< name in PyTorch's state_dict
  std::vector<std::int64_t> shape;  ///< [out, in] for a linear layer, [n] for a bias or a norm
  Initialisation initialisation;    ///< how random_weights draws it
  double scale;                     ///< parameter of the distribution

  /// Number of elements.
  std::int64_t size() const;
};

/// Every weight of a model, in the order in which they lie in memory. Weights of the same input (q, k, v; meta_r,
/// meta_h) are adjacent, so that one product computes all of them. Allocation, files and initialisation all use this
/// table. `config` must be valid.
std::vector<WeightInfo> weight_table(const ModelConfig& config);

/// Names of the projections of a layer's input: "q_proj", "k_proj", "v_proj" and, for gau, "gate_proj".
std::vector<std::string> input_projections(Architecture architecture);

/// Number of parameters: the sum of the sizes in weight_table.
std::int64_t parameter_count(const ModelConfig& config);

/// Floating-point operations of one forward pass over `batch` sequences of `length` tokens; a multiply-add counts as
/// two. Only useful work counts: the causal half of a triangle, no padding; the matrix products of projections,
/// feed-forward, attention, states and mixing, but not norms, GELU, softmax and embedding. A forward pass ends with the
/// hidden states: what a head computes from them is not in it.
double forward_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length);

/// The same for the logits that the model's head computes of their hidden states; 0 if it has none.
double head_flops(const ModelConfig& config, std::int64_t batch, std::int64_t length);

/// forward_flops by phase of Profile: phase → operations.
std::map<std::string, double> forward_flops_by_phase(const ModelConfig& config, std::int64_t batch,
                                                     std::int64_t length);

}  // namespace bsbr
