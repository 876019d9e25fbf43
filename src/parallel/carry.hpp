// A running state that goes from rank to rank, in the order of the sequence.
#pragma once

#include "bsbr/profile.hpp"
#include "bsbr/sequence.hpp"
#include "parallel/exchange.hpp"

namespace bsbr::parallel {

/// The ranks before and after this one that have tokens; −1 if there is none, or if this one has none itself.
struct Neighbours {
  explicit Neighbours(const Sequence& sequence);
  int before = -1, after = -1;
};

/// Waits for the state of the rank before, if there is one. Returns whether there is.
template <class Real>
bool receive_state(const Execution& execution, const Sequence& sequence, const Array<Real*>& state);

/// Gives the state to the rank after, if there is one. The state may be changed when this returns.
template <class Real>
void send_state(const Execution& execution, const Sequence& sequence, const Array<const Real*>& state, Profile* profile);

}  // namespace bsbr::parallel
