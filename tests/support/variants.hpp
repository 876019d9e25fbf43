// The variants: every architecture with its options, at any sizes. The one list that tests go over.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

#include "architectures/traits.hpp"
#include "bsbr/config.hpp"

namespace bsbr::testing {

/// Windows of the variants of sliding_window: none, some tokens, and more than any sequence of a test has.
inline constexpr std::int64_t small_window = 7, endless_window = std::int64_t{1} << 40;

/// The configurations of one architecture with these sizes (hidden_dim, num_heads, chunk_size and the like; gau has one
/// head), one for each of its options that computes something else; those that let a model learn to retrieve are all
/// off or all on. bsbr compresses by sizes.compression_factor, or by 4 where that is 0 and D allows it.
std::vector<ModelConfig> variants_of(Architecture architecture, const ModelConfig& sizes);

/// Those of all architectures.
std::vector<ModelConfig> variants(const ModelConfig& sizes);

/// Those of all architectures for which holds(config).
std::vector<ModelConfig> variants(const ModelConfig& sizes, const std::function<bool(const ModelConfig&)>& holds);

/// The architecture and the values of the fields that not all have, "sliding_window_7", and the names of options that
/// are on: as googletest wants names.
std::string variant_name(const ModelConfig& config);

/// Where a test is, for SCOPED_TRACE: the variant and its sizes.
std::string describe(const ModelConfig& config);

/// No token sees a later one.
bool is_causal(const ModelConfig& config);

/// Padding is left out.
bool heeds_padding(const ModelConfig& config);

/// The chunk size changes the result; else it is a tile of the computation, or how ranks share it out, and changes no
/// bit.
bool depends_on_chunks(const ModelConfig& config);

/// Goes a way of its own: other variants of its architecture that differ in a factor or a width only are not asked for.
/// For tests that take long, of what does not depend on numbers.
bool has_its_own_way(const ModelConfig& config);

}  // namespace bsbr::testing

namespace bsbr {

/// For googletest, which looks here.
void PrintTo(const ModelConfig& config, std::ostream* out);

}  // namespace bsbr
