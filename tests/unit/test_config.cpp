// The configuration: each rule with its message, names, the weight table, counts of parameters and of FLOPs.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <set>
#include <type_traits>

#include "architectures/traits.hpp"
#include "bsbr/config.hpp"
#include "bsbr/error.hpp"

namespace bsbr {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN(), infinity = std::numeric_limits<double>::infinity();

/// A valid configuration whose sizes are all different.
ModelConfig config_of(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocab_size = 50;
  config.hidden_dim = 24;
  config.num_layers = 3;
  config.num_heads = traits(architecture).has_one_head ? 1 : 4;
  config.ff_dim = 31;
  config.chunk_size = 7;
  config.expansion_factor = 2;
  return config;
}

std::string message_of(const ModelConfig& config) {
  try {
    config.validate();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::string hint_of(const ModelConfig& config) {
  try {
    config.validate();
  } catch (const ConfigError& error) {
    return error.hint();
  }
  return "";
}

// ---- Rules ----------------------------------------------------------------------------------------------------------

struct Rule {
  std::string name;
  std::optional<Architecture> architecture;  // empty: all of them
  std::function<void(ModelConfig&)> break_it;
  std::string message;
};

[[maybe_unused]] void PrintTo(const Rule& rule, std::ostream* out) { *out << rule.name; }

std::vector<Rule> rules() {
  using enum Architecture;
  return {
      {"vocab_size_0", {}, [](auto& c) { c.vocab_size = 0; }, "vocab_size = 0 is below 1"},
      {"vocab_size_huge",
       {},
       [](auto& c) { c.vocab_size = std::int64_t{1} << 62; },
       "vocab_size = 4611686018427387904 is above 1073741824"},
      {"hidden_dim_0", {}, [](auto& c) { c.hidden_dim = 0; }, "hidden_dim = 0 is below 1"},
      {"hidden_dim_huge",
       {},
       [](auto& c) { c.hidden_dim = std::int64_t{1} << 40; },
       "hidden_dim = 1099511627776 is above 1073741824"},
      {"num_layers_0", {}, [](auto& c) { c.num_layers = 0; }, "num_layers = 0 is below 1"},
      {"num_layers_negative", {}, [](auto& c) { c.num_layers = -1; }, "num_layers = -1 is below 1"},
      {"num_layers_huge", {}, [](auto& c) { c.num_layers = 65537; }, "num_layers = 65537 is above 65536"},
      {"num_heads_0", {}, [](auto& c) { c.num_heads = 0; }, "num_heads = 0 is below 1"},
      {"ff_dim_0", {}, [](auto& c) { c.ff_dim = 0; }, "ff_dim = 0 is below 1"},
      {"chunk_size_0", {}, [](auto& c) { c.chunk_size = 0; }, "chunk_size = 0 is below 1"},
      {"chunk_size_least",
       {},
       [](auto& c) { c.chunk_size = std::numeric_limits<std::int64_t>::min(); },
       "chunk_size = -9223372036854775808 is below 1"},
      {"chunk_size_most",
       {},
       [](auto& c) { c.chunk_size = std::numeric_limits<std::int64_t>::max(); },
       "chunk_size = 9223372036854775807 is above 1073741824"},
      {"dropout_nan", {}, [](auto& c) { c.dropout = nan; }, "dropout = nan is not a number"},
      {"dropout_minus_nan", {}, [](auto& c) { c.dropout = -nan; }, "dropout = nan is not a number"},
      {"dropout_negative", {}, [](auto& c) { c.dropout = -0.5; }, "dropout = -0.5 is below 0"},
      {"dropout_above_1", {}, [](auto& c) { c.dropout = 1.5; }, "dropout = 1.5 is above 1"},
      {"head_unknown", {}, [](auto& c) { c.head = static_cast<Head>(5); }, "head = 5 is none of none, tied, separate"},
      {"architecture_unknown",
       {},
       [](auto& c) { c.architecture = static_cast<Architecture>(99); },
       "architecture = 99 is none of " + list_of_names<Architecture>()},
      {"heads_do_not_divide", standard,
       [](auto& c) {
         c.num_heads = 7;
         c.hidden_dim = 512;
       },
       "num_heads = 7 does not divide hidden_dim = 512"},
      {"more_heads_than_columns", bsbr, [](auto& c) { c.num_heads = 48; },
       "num_heads = 48 does not divide hidden_dim = 24"},
      {"gau_heads", gau, [](auto& c) { c.num_heads = 2; }, "num_heads = 2 is not 1, and gau has one head"},
      {"null_chunk_2", bsbr, [](auto& c) { c.null_chunk = 2; }, "null_chunk = 2 is above 1"},
      {"retrieval_gate_negative", bsbr, [](auto& c) { c.retrieval_gate = -1; }, "retrieval_gate = -1 is below 0"},
      {"output_norm_2", linear, [](auto& c) { c.output_norm = 2; }, "output_norm = 2 is above 1"},
      {"output_norm_of_gau_negative", gau, [](auto& c) { c.output_norm = -1; }, "output_norm = -1 is below 0"},
      {"state_scale_unknown", gau, [](auto& c) { c.state_scale = static_cast<StateScale>(3); },
       "state_scale = 3 is none of sum, mean"},
      {"router_key_unknown", bsbr, [](auto& c) { c.router_key = static_cast<RouterKey>(3); },
       "router_key = 3 is none of last, mean"},
      {"compression_negative", bsbr, [](auto& c) { c.compression_factor = -2; }, "compression_factor = -2 is below 0"},
      {"compression_above_hidden_dim", bsbr, [](auto& c) { c.compression_factor = 25; },
       "compression_factor = 25 is above hidden_dim = 24"},
      {"causality_unknown", bsbr, [](auto& c) { c.causality = static_cast<Causality>(7); },
       "causality = 7 is none of causal, block_causal, bidirectional, reference"},
      {"window_negative", sliding_window, [](auto& c) { c.window_size = -1; }, "window_size = -1 is below 0"},
      {"window_huge", sliding_window, [](auto& c) { c.window_size = 4000000000000000001; },
       "window_size = 4000000000000000001 is above 4000000000000000000"},
      {"temperature_nan", hopfield, [](auto& c) { c.temperature = nan; }, "temperature = nan is not a number"},
      {"temperature_0", hopfield, [](auto& c) { c.temperature = 0; }, "temperature = 0 is below 1.17549e-38"},
      {"temperature_infinite", hopfield, [](auto& c) { c.temperature = infinity; },
       "temperature = inf is above 3.40282e+38"},
      {"beta_nan", delta_net, [](auto& c) { c.beta = nan; }, "beta = nan is not a number"},
      {"beta_negative", delta_net, [](auto& c) { c.beta = -0.1; }, "beta = -0.1 is below 0"},
      {"beta_above_2", delta_net, [](auto& c) { c.beta = 2.5; }, "beta = 2.5 is above 2"},
      {"expansion_0", gau, [](auto& c) { c.expansion_factor = 0; }, "expansion_factor = 0 is below 1"},
      {"expansion_too_wide", gau,
       [](auto& c) {
         c.expansion_factor = 1 << 20;
         c.hidden_dim = 1025;
       },
       "expansion_factor = 1048576 times hidden_dim = 1025 is above 1073741824"},
      {"feature_map_unknown", linear, [](auto& c) { c.feature_map = static_cast<FeatureMap>(2); },
       "feature_map = 2 is none of none, elu"},
      {"parameters", standard,
       [](auto& c) {
         c.vocab_size = c.hidden_dim = c.ff_dim = 1 << 30;
         c.num_layers = 1 << 16;
       },
       "the configuration calls for 453347183502490501447680 parameters, more than 35184372088832"},
      {"parameters_of_compression", bsbr,
       [](auto& c) {
         c.hidden_dim = 1 << 30;
         c.num_heads = 1;
         c.compression_factor = 1;
         c.num_layers = 1 << 16;
       },
       "the configuration calls for 162259276829288870519308492800000 parameters, more than 35184372088832"},
  };
}

class Config : public ::testing::TestWithParam<Architecture> {};

TEST_P(Config, good_one_validates) {
  EXPECT_EQ(message_of(config_of(GetParam())), "");
  ModelConfig defaults;
  defaults.architecture = GetParam();
  if (traits(GetParam()).has_one_head) defaults.num_heads = 1;
  EXPECT_EQ(message_of(defaults), "");
}

TEST_P(Config, broken_rule_is_named_with_field_and_value) {
  for (const auto& rule : rules()) {
    if (rule.architecture && rule.architecture != GetParam()) continue;
    SCOPED_TRACE(rule.name);
    auto config = config_of(GetParam());
    rule.break_it(config);
    const auto message = message_of(config);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    if (rule.name.find("parameters") == std::string::npos) {
      EXPECT_EQ(message, rule.message);
    } else {
      EXPECT_EQ(message.rfind("the configuration calls for ", 0), 0u) << message;
      EXPECT_NE(message.find(" parameters, more than 35184372088832"), std::string::npos) << message;
    }
  }
}

/// What a configuration has in a field.
template <class Value>
Value value_of(const ModelConfig& config, const Field& field) {
  Value found{};
  for_each_field(config, [&](const Field& other, const auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, Value>) {
      if (other.name == field.name) found = value;
    }
  });
  return found;
}

TEST_P(Config, fields_of_other_architectures_do_not_matter) {
  const auto good = config_of(GetParam());
  for (const auto& rule : rules()) {
    if (!rule.architecture || rule.architecture == GetParam()) continue;
    auto broken = good;
    rule.break_it(broken);
    auto config = good;
    for_each_field(config, [&](const Field& field, auto& value) {
      if (!field.belongs_to(GetParam())) value = value_of<std::remove_reference_t<decltype(value)>>(broken, field);
    });
    EXPECT_EQ(message_of(config), "") << rule.name;
  }
}

TEST_P(Config, ends_of_the_ranges_are_allowed) {
  auto config = config_of(GetParam());
  config.vocab_size = config.hidden_dim = config.num_layers = config.num_heads = config.ff_dim = config.chunk_size = 1;
  config.dropout = 1;
  config.compression_factor = 1;
  config.window_size = 0;
  config.temperature = std::numeric_limits<float>::min();
  config.beta = 0;
  config.expansion_factor = 1;
  EXPECT_EQ(message_of(config), "");
  config.chunk_size = 1 << 30;
  config.window_size = 4000000000000000000;
  config.temperature = std::numeric_limits<float>::max();
  config.beta = 2;
  EXPECT_EQ(message_of(config), "");
}

TEST(ConfigHint, names_the_numbers_of_heads_next_to_the_wrong_one) {
  auto config = config_of(Architecture::bsbr);
  config.hidden_dim = 512;
  config.num_heads = 7;
  EXPECT_EQ(hint_of(config), "hidden_dim = 512 can have 4 or 8 heads");
  config.num_heads = 1000;
  EXPECT_EQ(hint_of(config), "hidden_dim = 512 can have 512 heads");
}

TEST(ConfigHint, is_there_where_it_helps) {
  auto config = config_of(Architecture::gau);
  config.num_heads = 4;
  EXPECT_NE(hint_of(config), "");
  config = config_of(Architecture::bsbr);
  config.compression_factor = 1000;
  EXPECT_NE(hint_of(config), "");
}

TEST(ConfigLimit, parameters_are_counted_without_overflow) {
  auto config = config_of(Architecture::standard);
  config.vocab_size = 1 << 30;
  config.hidden_dim = 1 << 15;  // 2^45 for the embedding alone
  config.num_heads = 1;
  EXPECT_EQ(message_of(config), "the configuration calls for " + std::to_string(parameter_count(config)) +
                                    " parameters, more than 35184372088832");
  config.vocab_size = 1 << 29;
  EXPECT_EQ(message_of(config), "");
}

// ---- Names ----------------------------------------------------------------------------------------------------------

template <class Enumeration>
void expect_round_trip() {
  std::set<std::string_view> names;
  for (const auto& [value, name] : names_of<Enumeration>()) {
    EXPECT_EQ(to_string(value), name);
    EXPECT_EQ(from_string<Enumeration>(name), value);
    EXPECT_TRUE(names.insert(name).second) << name;
  }
  EXPECT_EQ(from_string<Enumeration>("sideways"), std::nullopt);
  EXPECT_EQ(from_string<Enumeration>(""), std::nullopt);
}

TEST(Names, make_the_round_trip) {
  expect_round_trip<Architecture>();
  expect_round_trip<Causality>();
  expect_round_trip<FeatureMap>();
  expect_round_trip<Head>();
  expect_round_trip<StateScale>();
  expect_round_trip<RouterKey>();
  expect_round_trip<Precision>();
}

TEST(Names, are_listed) { EXPECT_EQ(list_of_names<Causality>(), "causal, block_causal, bidirectional, reference"); }

TEST(Names, of_fields_are_different) {
  const ModelConfig config;
  std::set<std::string_view> names;
  for_each_field(config,
                 [&](const Field& field, const auto&) { EXPECT_TRUE(names.insert(field.name).second) << field.name; });
  EXPECT_EQ(names.size(), 21u);
}

// ---- The weight table -----------------------------------------------------------------------------------------------

std::int64_t index_of(const std::vector<WeightInfo>& table, const std::string& name) {
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i].name == name) return static_cast<std::int64_t>(i);
  }
  return -1000;
}

TEST_P(Config, weight_names_are_unique_and_sizes_add_up) {
  for (const auto& head : head_kinds) {
    for (const std::int64_t compression : {0, 5}) {
      auto config = config_of(GetParam());
      config.head = head.value;
      if (has_field(GetParam(), "compression_factor")) config.compression_factor = compression;
      std::set<std::string> names;
      std::int64_t sum = 0;
      for (const auto& weight : weight_table(config)) {
        EXPECT_TRUE(names.insert(weight.name).second) << weight.name;
        sum += weight.size();
      }
      EXPECT_EQ(parameter_count(config), sum);
    }
  }
}

TEST_P(Config, fused_weights_are_neighbours) {
  const auto table = weight_table(config_of(GetParam()));
  const auto names = input_projections(GetParam());
  EXPECT_GE(names.size(), 3u);
  const auto count = static_cast<std::int64_t>(names.size());
  const auto first = index_of(table, "layers.1.attention.q_proj.weight");
  for (std::int64_t i = 0; i < count; ++i) {
    const auto name = "layers.1.attention." + names[static_cast<std::size_t>(i)];
    EXPECT_EQ(index_of(table, name + ".weight"), first + i) << name;
    EXPECT_EQ(index_of(table, name + ".bias"), first + count + i) << name;
  }
  EXPECT_EQ(table.front().name, "embedding.weight");
  EXPECT_EQ(table.back().name, "layer_norm.bias");
}

TEST(WeightTable, of_bsbr_with_compression_is_complete) {
  auto config = config_of(Architecture::bsbr);  // D = 24, d = 6
  config.num_layers = 1;
  config.compression_factor = 5;
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> expected{
      {"embedding.weight", {50, 24}},
      {"layers.0.attention.q_proj.weight", {24, 24}},
      {"layers.0.attention.k_proj.weight", {24, 24}},
      {"layers.0.attention.v_proj.weight", {24, 24}},
      {"layers.0.attention.q_proj.bias", {24}},
      {"layers.0.attention.k_proj.bias", {24}},
      {"layers.0.attention.v_proj.bias", {24}},
      {"layers.0.attention.meta_r_proj.weight", {24, 24}},
      {"layers.0.attention.meta_h_proj.weight", {24, 24}},
      {"layers.0.attention.meta_r_proj.bias", {24}},
      {"layers.0.attention.meta_h_proj.bias", {24}},
      {"layers.0.attention.compress_proj.weight", {4, 36}},
      {"layers.0.attention.compress_proj.bias", {4}},
      {"layers.0.attention.decompress_proj.weight", {36, 4}},
      {"layers.0.attention.decompress_proj.bias", {36}},
      {"layers.0.attention.out_proj.weight", {24, 24}},
      {"layers.0.attention.out_proj.bias", {24}},
      {"layers.0.layer_norm1.weight", {24}},
      {"layers.0.layer_norm1.bias", {24}},
      {"layers.0.layer_norm2.weight", {24}},
      {"layers.0.layer_norm2.bias", {24}},
      {"layers.0.ff.0.weight", {31, 24}},
      {"layers.0.ff.0.bias", {31}},
      {"layers.0.ff.3.weight", {24, 31}},
      {"layers.0.ff.3.bias", {24}},
      {"layer_norm.weight", {24}},
      {"layer_norm.bias", {24}},
  };
  const auto table = weight_table(config);
  ASSERT_EQ(table.size(), expected.size());
  for (std::size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(table[i].name, expected[i].first);
    EXPECT_EQ(table[i].shape, expected[i].second) << table[i].name;
  }
}

TEST(WeightTable, of_gau_is_as_wide_as_its_head) {
  const auto table = weight_table(config_of(Architecture::gau));  // e = 48
  const auto gate = index_of(table, "layers.0.attention.gate_proj.weight"),
             out = index_of(table, "layers.0.attention.out_proj.weight");
  ASSERT_GE(gate, 0);
  ASSERT_GE(out, 0);
  EXPECT_EQ(table[static_cast<std::size_t>(gate)].shape, (std::vector<std::int64_t>{48, 24}));
  EXPECT_EQ(table[static_cast<std::size_t>(out)].shape, (std::vector<std::int64_t>{24, 48}));
}

TEST_P(Config, only_a_separate_head_has_a_weight_and_it_is_the_last) {
  auto config = config_of(GetParam());
  const auto without = weight_table(config);
  config.head = Head::tied;
  EXPECT_EQ(weight_table(config).size(), without.size());
  EXPECT_EQ(weight_table(config).back().name, "layer_norm.bias");
  config.head = Head::separate;
  const auto with = weight_table(config);
  ASSERT_EQ(with.size(), without.size() + 1);
  EXPECT_EQ(with.back().name, "lm_head.weight");
  EXPECT_EQ(with.back().shape, (std::vector<std::int64_t>{50, 24}));
}

TEST(WeightTable, of_bsbr_has_a_null_logit_and_a_gate_for_each_head_if_asked_and_both_start_at_0) {
  auto config = config_of(Architecture::bsbr);
  const auto without = weight_table(config);
  config.null_chunk = config.retrieval_gate = 1;
  const auto with = weight_table(config);
  EXPECT_EQ(with.size(), without.size() + 2 * static_cast<std::size_t>(config.num_layers));
  for (const char* name : {"layers.0.attention.null_logit", "layers.1.attention.retrieval_gate"}) {
    EXPECT_LT(index_of(without, name), 0) << name;
    ASSERT_GE(index_of(with, name), 0) << name;
    const WeightInfo& weight = with[static_cast<std::size_t>(index_of(with, name))];
    EXPECT_EQ(weight.shape, std::vector<std::int64_t>{config.num_heads}) << name;
    EXPECT_EQ(weight.initialisation, Initialisation::zeros) << name;
  }
  config.architecture = Architecture::standard;  // which has no such fields
  EXPECT_LT(index_of(weight_table(config), "layers.0.attention.null_logit"), 0);
}

TEST_P(Config, weights_start_as_in_pytorch) {
  auto config = config_of(GetParam());
  config.head = Head::separate;
  for (const auto& weight : weight_table(config)) {
    SCOPED_TRACE(weight.name);
    const bool norm = weight.name.find("layer_norm") != std::string::npos, bias = weight.shape.size() == 1;
    if (weight.name == "embedding.weight") {
      EXPECT_EQ(weight.initialisation, Initialisation::normal);
      EXPECT_EQ(weight.scale, 1);
    } else if (norm) {
      EXPECT_EQ(weight.initialisation, weight.name.ends_with(".weight") ? Initialisation::ones : Initialisation::zeros);
    } else {
      EXPECT_EQ(weight.initialisation, Initialisation::uniform);
      std::int64_t in = bias ? config.hidden_dim : weight.shape[1];
      if (weight.name.ends_with("out_proj.bias")) in = config.attention_dim();
      if (weight.name.ends_with("ff.3.bias")) in = config.ff_dim;
      EXPECT_DOUBLE_EQ(weight.scale, 1 / std::sqrt(static_cast<double>(in)));
    }
  }
}

// ---- FLOPs ----------------------------------------------------------------------------------------------------------

/// Projections and feed-forward of one token in one layer; `wide`: projections between D and the attention's width.
double token_flops(const ModelConfig& config, double wide) {
  const auto D = static_cast<double>(config.hidden_dim), a = static_cast<double>(config.attention_dim()),
             F = static_cast<double>(config.ff_dim);
  return wide * 2 * D * a + 4 * D * F;
}

/// Counted one pair of tokens at a time: 4·D for each t and each s that `sees(t, s)`.
template <class Sees>
double pair_flops(const ModelConfig& config, std::int64_t length, Sees sees) {
  double flops = 0;
  for (std::int64_t t = 0; t < length; ++t) {
    for (std::int64_t s = 0; s < length; ++s) flops += sees(t, s) ? 4 * static_cast<double>(config.attention_dim()) : 0;
  }
  return flops;
}

TEST(Flops, of_phases_are_those_of_the_forward_together) {
  for (const auto& entry : architectures) {
    const auto config = config_of(entry.value);
    double sum = 0;
    for (const auto& [phase, flops] : forward_flops_by_phase(config, 2, 77)) {
      EXPECT_GT(flops, 0) << phase;
      sum += flops;
    }
    EXPECT_DOUBLE_EQ(sum, forward_flops(config, 2, 77)) << entry.name;
  }
}

TEST(Flops, of_a_forward_end_with_the_hidden_states) {
  auto config = config_of(Architecture::standard);
  const double without = forward_flops(config, 2, 77);
  EXPECT_EQ(head_flops(config, 2, 77), 0);
  for (const Head head : {Head::tied, Head::separate}) {
    config.head = head;
    EXPECT_EQ(forward_flops(config, 2, 77), without);
    EXPECT_EQ(head_flops(config, 2, 77), 2.0 * 50 * 24 * 2 * 77);
  }
}

TEST(Flops, of_causal_bsbr_follow_the_closed_formula) {
  auto config = config_of(Architecture::bsbr);
  config.hidden_dim = 512;
  config.num_heads = 8;
  config.ff_dim = 2048;
  config.chunk_size = 128;
  config.num_layers = 4;
  const double D = 512, F = 2048, B = 128, d = 64;
  for (const std::int64_t chunks : {1, 2, 8, 128, 8192}) {
    const auto C = static_cast<double>(chunks);
    const double token = 8 * D * D + 4 * D * D / B + 4 * D * F + 2 * D * (B + 1) + 4 * d * D + (C - 1) * d * D / B;
    EXPECT_DOUBLE_EQ(forward_flops(config, 1, chunks * 128), 4 * C * B * token);
    EXPECT_DOUBLE_EQ(forward_flops(config, 3, chunks * 128), 3 * 4 * C * B * token);
  }
}

TEST(Flops, of_bsbr_count_what_each_causality_uses) {
  auto config = config_of(Architecture::bsbr);
  const std::int64_t B = config.chunk_size;
  const double D = 24, d = 6, H = 4;
  for (const std::int64_t length : {0, 1, 6, 7, 8, 30, 35}) {
    const auto L = static_cast<double>(length), C = std::ceil(L / 7);
    for (const std::int64_t compression : {0, 5}) {
      config.compression_factor = compression;
      const double S = compression == 0 ? d * d : 4;
      const double fixed =
          token_flops(config, 4) * L + 4 * D * D * C + 4 * d * D * L + (compression == 0 ? 0 : 4 * H * S * d * d * C);
      const auto expect = [&](Causality causality, double within, double pairs) {
        config.causality = causality;
        EXPECT_DOUBLE_EQ(forward_flops(config, 2, length), 2 * 3 * (fixed + within + 2 * H * S * pairs))
            << to_string(causality) << " " << length;
      };
      const double half = pair_flops(config, length, [&](auto t, auto s) { return t / B == s / B && s <= t; });
      const double whole = pair_flops(config, length, [&](auto t, auto s) { return t / B == s / B; });
      expect(Causality::causal, half, C * (C - 1) / 2);
      expect(Causality::block_causal, whole, C * (C + 1) / 2);
      expect(Causality::bidirectional, whole, C * C);
      expect(Causality::reference, half, C * (C + 1) / 2);
    }
  }
}

TEST(Flops, of_the_baselines_follow_their_formulas) {
  for (const std::int64_t length : {0, 1, 6, 7, 8, 30, 35}) {
    const auto L = static_cast<double>(length);
    const auto expect = [&](Architecture architecture, double wide, auto attention) {
      auto config = config_of(architecture);
      config.window_size = 9;
      EXPECT_DOUBLE_EQ(forward_flops(config, 2, length), 2 * 3 * (token_flops(config, wide) * L + attention(config)))
          << to_string(architecture) << " " << length;
    };
    const auto earlier = [&](const ModelConfig& c) {
      return pair_flops(c, length, [](auto t, auto s) { return s <= t; });
    };
    const auto chunk_half = [&](const ModelConfig& c) {
      return pair_flops(c, length, [&](auto t, auto s) { return s <= t && s / c.chunk_size == t / c.chunk_size; });
    };
    expect(Architecture::standard, 4, earlier);
    expect(Architecture::hopfield, 4, earlier);
    expect(Architecture::sliding_window, 4, [&](const ModelConfig& c) {
      return pair_flops(c, length, [&](auto t, auto s) { return t - c.window_size <= s && s <= t; });
    });
    expect(Architecture::linear, 4, [&](const ModelConfig&) { return 4 * 6 * 24 * L; });
    expect(Architecture::gau, 5, [&](const ModelConfig& c) { return chunk_half(c) + 4 * 48 * 48 * L; });
    expect(Architecture::delta_net, 4, [&](const ModelConfig&) { return 6 * 6 * 24 * L; });
  }
}

TEST(Flops, of_a_boundless_window_are_those_of_standard) {
  auto config = config_of(Architecture::sliding_window);
  config.window_size = 4000000000000000000;
  EXPECT_DOUBLE_EQ(forward_flops(config, 1, 1000), forward_flops(config_of(Architecture::standard), 1, 1000));
}

std::vector<Architecture> all_architectures() {
  std::vector<Architecture> all;
  for (const auto& entry : architectures) all.push_back(entry.value);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Architectures, Config, ::testing::ValuesIn(all_architectures()),
                         [](const auto& test) { return std::string(to_string(test.param)); });

}  // namespace
}  // namespace bsbr
