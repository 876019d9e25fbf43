// Every kernel has work for many threads: at the default size of a model, 16,384 tokens on one rank. Threads are fixed
// when Kokkos starts: ctest starts this program with 128.
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "architectures/traits.hpp"
#include "kernels/embedding.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/softmax_tiles.hpp"
#include "kernels/state_layout.hpp"
#include "kernels/state_scan.hpp"
#include "support/attention.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t tokens = 16384, threads = 128;

ModelConfig default_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.num_heads = traits(architecture).has_one_head ? 1 : config.num_heads;
  return config;
}

/// As much of a softmax problem as decides how it is cut into teams.
struct Shape {
  std::int64_t groups, neighbours, unit, first, last;
  int key_width, value_width;
};

std::int64_t softmax_teams(const Shape& shape) { return kernels::query_teams<float, 1>(Execution(), shape).count(); }

std::int64_t panels(std::int64_t rows) {
  const std::int64_t height = kernels::detail::panel_height<float>(Execution(), rows, Rounding::none);
  return (rows + height - 1) / height;
}

/// Teams, or panels, of each kernel in a forward.
std::map<std::string, std::int64_t> teams_of(const ModelConfig& config) {
  const Traits& special = traits(config.architecture);
  const std::int64_t heads = config.num_heads, chunks = tokens / config.chunk_size;
  const auto width = static_cast<int>(config.head_dim());
  std::map<std::string, std::int64_t> teams{{"embed", kernels::position_tiles(0, tokens)},
                                            {"project, finish", panels(tokens)}};
  const auto softmax = [&](std::int64_t unit) { return softmax_teams({heads, heads, unit, 0, tokens, width, width}); };
  if (special.transfer == Transfer::keys) teams["attention"] = softmax(1);
  if (special.transfer == Transfer::chunk_states) {
    const kernels::StateBlocks blocks(config.state_size(), heads, 1);
    teams["project chunks"] = panels(chunks);
    teams["within_chunk"] = softmax(config.chunk_size);
    teams["states, retrieval"] = chunks * heads;
    teams["mixing"] = softmax_teams({blocks.blocks(), 1, 1, 0, chunks, width, static_cast<int>(blocks.width)});
  }
  if (special.transfer == Transfer::state) {
    const kernels::ScanParts parts{1, heads, width, 0};
    const std::int64_t step = special.depends_on_chunks ? config.chunk_size : kernels::tuning::state_tile;
    const std::int64_t segments = tokens / kernels::segment_tokens(step);
    teams["scan, its gradient"] = std::min(segments, kernels::segments_at_once(Execution(), parts)) * parts.count();
    teams["mapping for the gradient"] = tokens / kernels::tuning::state_tile * heads;
    if (special.depends_on_chunks) teams["within_chunk"] = softmax(1);
  }
  return teams;
}

TEST(Teams, are_enough_for_many_threads) {
  if (Execution().concurrency() < threads) GTEST_SKIP() << "for " << threads << " threads: run this test through ctest";
  for (const auto& entry : architectures) {
    for (const auto& [kernel, teams] : teams_of(default_config(entry.value)))
      EXPECT_GE(teams, threads) << kernel << " of " << entry.name;
  }
}

}  // namespace
}  // namespace bsbr::testing
