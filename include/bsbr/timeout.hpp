// How long to wait for other ranks.
#pragma once

#include <mpi.h>

namespace bsbr {

/// Limits how long the library waits for other ranks on `comm` and its future duplicates (a Sequence's communicator).
/// After `seconds` it throws CommunicationError with the ranks that did not respond: they have stopped, lost their
/// connection, or are busy with something else. After that error the communicators must not be used any more. 0, the
/// default, waits for ever.
///
/// Collective; all ranks pass the same number. Duplicates `comm` once, until MPI_Finalize.
/// \throws ConfigError if `seconds` is negative or not finite
void set_timeout(MPI_Comm comm, double seconds);

}  // namespace bsbr
