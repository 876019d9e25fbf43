#include "programs/loss_by_position.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "bsbr/parallel.hpp"
#include "report/json_output.hpp"

namespace bsbr::apps {

void write_by_position(const harness::Runtime& runtime, const std::string& path,
                       const std::vector<PositionLoss>& ranges) {
  nlohmann::ordered_json json{{"format", "bsbr-loss-by-position"}, {"format_version", 1}};
  json["ranges"] = nlohmann::ordered_json::array();
  for (const PositionLoss& range : ranges) {
    nlohmann::ordered_json one{{"begin", range.begin}, {"end", range.end}};
    add_loss(one, range.mean);
    json["ranges"].push_back(std::move(one));
  }
  parallel::agree(runtime.comm(), [&] {
    if (runtime.is_first()) write_json(path, json);
  });
}

}  // namespace bsbr::apps
