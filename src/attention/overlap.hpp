// Work that hides messages.
#pragma once

#include "bsbr/profile.hpp"
#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::attention {

/// The work that hides messages is cut into so many portions, between which MPI is called: it moves large messages only
/// then.
inline constexpr int overlap_portions = kernels::tuning::overlapped_parts;

/// work(portion) for the portions [begin, end). After each the messages go on: once on a host, which has computed the
/// portion by then; on a GPU until it has.
template <class Work, class... Messages>
void overlap(const Execution& execution, int begin, int end, const Work& work, Messages&... messages) {
  for (int portion = begin; portion < end; ++portion) {
    work(portion);
    do (messages.progress(), ...);
    while (!kernels::is_idle(execution));
  }
}

/// Waits for messages, and counts what this rank has sent of that transfer.
template <class Messages>
void finish(Messages& messages, const char* transfer, Profile* profile) {
  messages.wait();
  if (profile != nullptr) profile->sent(transfer, messages.bytes_sent(), messages.messages_sent());
}

}  // namespace bsbr::attention
