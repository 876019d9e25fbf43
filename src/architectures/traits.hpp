// What the library asks about an architecture instead of asking for its name. No Kokkos, MPI or HDF5 here.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "bsbr/config.hpp"
#include "bsbr/error.hpp"
#include "config/flops.hpp"

namespace bsbr {

/// What crosses ranks.
enum class Transfer {
  keys,         ///< keys and values of earlier tokens, or some heads of all tokens
  state,        ///< a state that is carried along the sequence
  chunk_states  ///< states of all chunks
};

/// All that is special about an architecture, but for its kernels and its reference. The folder of each architecture
/// defines one in traits.cpp; what is not set there is as here.
struct Traits {
  /// Fields of ModelConfig that not all architectures have.
  std::vector<std::string_view> fields = {};

  /// Linear layers that are applied to every token, of attention_dim outputs each: query, key, value, and gate if there
  /// is a fourth.
  std::vector<std::string> token_projections = {"q_proj", "k_proj", "v_proj"};

  /// Linear layers that are applied to the last real token of each chunk, of hidden_dim outputs each: r and h, if there
  /// are any.
  std::vector<std::string> chunk_projections = {};

  bool has_gate() const { return token_projections.size() > 3; }
  bool has_retrieval() const { return !chunk_projections.empty(); }

  bool has_one_head = false;         ///< num_heads is 1
  bool depends_on_chunks = false;    ///< the result depends on chunk_size
  bool depends_on_distance = false;  ///< the result depends on how far apart tokens are, padding counted
  Transfer transfer = Transfer::keys;

  /// The field that says how many tokens before itself a token sees; of those whose keys cross ranks. None: it sees
  /// all.
  std::int64_t ModelConfig::*window_field = nullptr;
  std::int64_t window(const ModelConfig& config) const {
    return window_field == nullptr ? std::numeric_limits<std::int64_t>::max() : config.*window_field;
  }

  /// Elements of the running state of one head.
  std::int64_t (*state_elements)(const ModelConfig&) = [](const ModelConfig& config) {
    return config.head_dim() * config.head_dim();
  };

  /// The field by which queries, keys and values, all heads together, are wider than hidden_dim. None: they are as
  /// wide.
  std::int64_t ModelConfig::*width_factor = nullptr;
  std::int64_t width(const ModelConfig& config) const {
    return width_factor == nullptr ? config.hidden_dim : config.hidden_dim * config.*width_factor;
  }

  /// Whether no token sees a later one.
  bool (*is_causal)(const ModelConfig&) = [](const ModelConfig&) { return true; };

  /// Whether padding tokens are left out.
  bool (*heeds_padding)(const ModelConfig&) = [](const ModelConfig&) { return true; };

  /// Throws ConfigError if fields that are within their ranges do not fit each other.
  void (*validate)(const ModelConfig&) = [](const ModelConfig&) {};

  /// A one-line warning about legal settings that are probably a mistake, or nothing.
  std::string (*warning)(const ModelConfig&) = [](const ModelConfig&) { return std::string(); };

  /// Weights of the attention besides those of projections and out_proj, in their order.
  std::vector<WeightInfo> (*weights)(const ModelConfig&) = [](const ModelConfig&) { return std::vector<WeightInfo>(); };

  /// Useful operations of the attention of one layer and sequence, by phase, without those of projections of tokens.
  Flops (*flops)(const ModelConfig&, const FlopSizes&) = nullptr;

  /// Elements of arrays larger than caches that each of these phases has to read and write for one token. a =
  /// attention_dim: queries, keys, values and gates have a elements each, results as well.
  std::map<std::string, double> (*elements_per_token)(const ModelConfig&) = nullptr;
};

/// The architecture as a type, so that overloads can be chosen by it.
template <Architecture architecture>
using Tag = std::integral_constant<Architecture, architecture>;

/// function(Tag<architecture>()). Throws ConfigError for a value that is none.
template <class Function>
decltype(auto) with_architecture(Architecture architecture, Function&& function) {
  switch (architecture) {
#define BSBR_CASE(name)    \
  case Architecture::name: \
    return function(Tag<Architecture::name>());
    BSBR_ARCHITECTURES(BSBR_CASE)
#undef BSBR_CASE
  }
  throw ConfigError("architecture = " + std::to_string(static_cast<int>(architecture)) + " is none of " +
                    list_of_names<Architecture>());
}

/// Each architecture's own, in src/architectures/<name>/traits.cpp.
#define BSBR_DECLARE_TRAITS(name) Traits make_traits(Tag<Architecture::name>);
BSBR_ARCHITECTURES(BSBR_DECLARE_TRAITS)
#undef BSBR_DECLARE_TRAITS

/// The traits of an architecture. Throws ConfigError for a value that is none.
const Traits& traits(Architecture architecture);

/// Whether the architecture has a field that not all have.
inline bool has_field(Architecture architecture, std::string_view field) {
  const auto& fields = traits(architecture).fields;
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}

/// Whether chunk states are compressed.
inline bool compresses_states(const ModelConfig& config) {
  return has_field(config.architecture, "compression_factor") && config.compression_factor > 0;
}

// Options of an architecture that has them.

/// Whether the states of chunks are means.
inline bool averages_states(const ModelConfig& config) {
  return has_field(config.architecture, "state_scale") && config.state_scale == StateScale::mean;
}

/// Whether a chunk may retrieve nothing, with the weight attention.null_logit.
inline bool has_null_chunk(const ModelConfig& config) {
  return has_field(config.architecture, "null_chunk") && config.null_chunk > 0;
}

/// Whether what is retrieved is multiplied by the weight attention.retrieval_gate.
inline bool gates_retrieval(const ModelConfig& config) {
  return has_field(config.architecture, "retrieval_gate") && config.retrieval_gate > 0;
}

/// Whether chunks are found by the mean of their tokens.
inline bool averages_router_keys(const ModelConfig& config) {
  return has_field(config.architecture, "router_key") && config.router_key == RouterKey::mean;
}

/// Whether heads' results are divided by their root mean square.
inline bool norms_results(const ModelConfig& config) {
  return has_field(config.architecture, "output_norm") && config.output_norm > 0;
}

}  // namespace bsbr
