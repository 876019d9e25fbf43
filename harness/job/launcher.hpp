// What the launcher (mpirun, mpiexec, srun) says of this process in its environment, known before MPI is set up.
#pragma once

namespace bsbr::harness {

enum class LauncherKind { none, open_mpi, slurm, other };

struct Launcher {
  int rank = 0;   ///< of all processes that were started together
  int ranks = 1;  ///< 1 if nothing says otherwise
  bool alone =
      true;  ///< MPI has nobody to ask for other processes: no launcher, or Slurm or Flux with one task and no PMI
  LauncherKind kind = LauncherKind::none;  ///< who can bind this process to processors
};

Launcher find_launcher();

}  // namespace bsbr::harness
