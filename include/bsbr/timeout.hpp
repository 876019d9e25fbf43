// How long to wait for other ranks.
#pragma once

#include <mpi.h>

namespace bsbr {

/// From now on the library, when it waits for other ranks on `comm` or on what is duplicated from it later (a Sequence's communicator),
/// throws CommunicationError that names the ranks that have not answered for so many seconds: stopped, cut off, or busy with something else
/// all the time. 0: waits for ever, as without this call. After that error the communicators must not be used any more.
///
/// Collective; all ranks give the same number. Duplicates `comm` once, until MPI_Finalize. Throws ConfigError unless seconds is finite and
/// not negative.
void set_timeout(MPI_Comm comm, double seconds);

}  // namespace bsbr
