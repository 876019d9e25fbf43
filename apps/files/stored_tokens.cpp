#include "files/stored_tokens.hpp"

namespace bsbr::apps {

std::string describe(const StoredTokens& tokens) {
  const TokenShape& shape = tokens.shape;
  if (tokens.path.empty()) return "random";
  if (shape.format == TokenFormat::bytes) return tokens.path + ", its bytes";
  return tokens.path + (shape.dataset.empty() ? "" : ":" + shape.dataset) + ", " + shape.type +
         (shape.has_mask ? ", with a mask" : "");
}

std::map<std::string, std::string> fields_of(const StoredTokens& tokens) {
  const TokenShape& shape = tokens.shape;
  if (tokens.path.empty()) return {{"input_format", "random"}};
  std::map<std::string, std::string> fields{{"input_format", std::string(to_string(shape.format))},
                                            {"input_type", shape.type}};
  if (!shape.dataset.empty()) fields["input_dataset"] = shape.dataset;
  return fields;
}

}  // namespace bsbr::apps
