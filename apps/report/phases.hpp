// The phases of a forward, for people who have not read the architecture page.
#pragma once

#include <string>

namespace bsbr::apps {

/// What a phase does, in at most 31 characters; empty for a name that is not known.
std::string meaning_of_phase(const std::string& phase);

}  // namespace bsbr::apps
