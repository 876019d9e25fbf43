// The end of the HDF5 library, where it has lost something.
#pragma once

namespace bsbr::io {

/// HDF5 loses memory of its own over some damaged files, and over files that it could not close, and complains on
/// stderr ("infinite loop closing library") when it is closed: by MPI_Finalize, or at the end of the program. After
/// this call it does not.
void keep_quiet_at_the_end();

}  // namespace bsbr::io
