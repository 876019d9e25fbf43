#include "programs/recompute_option.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// Of a value of --recompute: besides all and none, auto.
std::optional<Recompute> recompute_of(const std::string& name, const std::string& text) {
  if (text == "auto") return std::nullopt;
  for (const auto& [value, known] : recomputations) {
    if (text == known) return value;
  }
  throw UsageError(name + " " + text + " is none of auto, all, none");
}

}  // namespace

void add_recompute_option(CommandLine& line, std::optional<Recompute>& recompute) {
  line.add(
      "--recompute", "auto|all|none",
      "what the backward pass computes again of each layer: all, which takes least memory; none: results of attentions "
      "and products are kept; auto: none where memory is enough (default). The numbers are the same",
      [&recompute](const std::string& name, const std::string& text) { recompute = recompute_of(name, text); });
}

}  // namespace bsbr::apps
