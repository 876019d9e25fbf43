// What the launcher (mpirun, mpiexec, srun) says of this process in its environment, known before MPI is set up.
#pragma once

namespace bsbr::apps {

struct Launcher {
  int rank = 0;      ///< of all processes that were started together
  int ranks = 1;     ///< 1 if nothing says otherwise
  bool none = true;  ///< nothing in the environment hints at a launcher of any kind
};

Launcher find_launcher();

}  // namespace bsbr::apps
