// The list that tests go over: no architecture and no option of one is missing.
#include "support/variants.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "architectures/traits.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

const ModelConfig sizes = small_config(Architecture::bsbr);

TEST(Variants, every_architecture_has_some) {
  for (const auto& [architecture, name] : architectures) EXPECT_FALSE(variants_of(architecture, sizes).empty()) << name;
}

TEST(Variants, are_valid_and_have_the_sizes_that_were_asked_for) {
  for (const ModelConfig& config : variants(sizes)) {
    SCOPED_TRACE(describe(config));
    EXPECT_NO_THROW(config.validate());
    for_each_field(config, [&](const Field& field, const auto& value) {
      if (!field.is_shared() || field.name == "architecture" || field.name == "num_heads") return;
      for_each_field(sizes, [&](const Field& other, const auto& wanted) {
        if constexpr (std::is_same_v<decltype(value), decltype(wanted)>) {
          if (other.name == field.name) {
            EXPECT_EQ(value, wanted) << field.name;
          }
        }
      });
    });
    EXPECT_EQ(config.num_heads, traits(config.architecture).has_one_head ? 1 : sizes.num_heads);
  }
}

TEST(Variants, have_names_of_their_own) {
  std::set<std::string> names;
  for (const ModelConfig& config : variants(sizes)) {
    EXPECT_TRUE(names.insert(variant_name(config)).second) << variant_name(config) << " is there twice";
  }
}

/// Fields with an owner are options, which the variants of the owner must differ in.
TEST(Variants, differ_in_every_option_of_an_architecture) {
  for (const auto& architecture : architectures) {
    std::map<std::string, std::set<std::string>> values;
    for (const ModelConfig& config : variants_of(architecture.value, sizes)) {
      for_each_field(config, [&](const Field& field, const auto& value) {
        if (!field.is_shared() && field.belongs_to(architecture.value))
          values[std::string(field.name)].insert(::testing::PrintToString(value));
      });
    }
    for (const auto& [field, found] : values) EXPECT_GT(found.size(), 1u) << field;
  }
}

TEST(Variants, compress_as_the_sizes_say) {
  ModelConfig other = sizes;
  other.compression_factor = 7;
  for (const ModelConfig& config : variants_of(Architecture::bsbr, other)) {
    EXPECT_TRUE(config.compression_factor == 0 || config.compression_factor == 7) << describe(config);
  }
}

}  // namespace
}  // namespace bsbr::testing
