#include "report/phases.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace bsbr::apps {
namespace {

// In the order of a forward; docs/architecture.md has them at length.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> meanings{{
    {"embedding", "tokens and positions"},
    {"project", "norm; queries, keys, values"},
    {"agreement", "waiting for the slowest rank"},
    {"exchange", "communication that shows"},
    {"states", "states of the chunks"},
    {"within_chunk", "attention within chunks"},
    {"mixing", "mixing of the chunks' states"},
    {"retrieval", "retrieval from mixed states"},
    {"attention", "softmax attention"},
    {"scan", "state along the sequence"},
    {"finish", "output projection, feed-forward"},
    {"final_norm", "last layer norm"},
    {"head", "logits, losses of tokens"},
    {"other", "in none of these phases"},
}};

}  // namespace

std::string meaning_of_phase(const std::string& phase) {
  const auto found =
      std::find_if(meanings.begin(), meanings.end(), [&](const auto& entry) { return entry.first == phase; });
  return found == meanings.end() ? "" : std::string(found->second);
}

}  // namespace bsbr::apps
