// How the tokens of a run are stored, for summaries and results.
#pragma once

#include <map>
#include <string>

#include "bsbr/io.hpp"

namespace bsbr::apps {

struct StoredTokens {
  std::string path;  ///< of the file; empty for random tokens
  TokenShape shape;
};

/// "ids.h5:/inputs/input_ids, int32, with a mask", "ids.npy, uint16", "book.txt, its bytes", "random".
std::string describe(const StoredTokens& tokens);

/// The fields of a summary and the attributes of a result that say so: input_format, and input_type and input_dataset
/// where there are such.
std::map<std::string, std::string> fields_of(const StoredTokens& tokens);

}  // namespace bsbr::apps
