#include "parallel/mpi.hpp"

#include <array>
#include <string>

#include "bsbr/error.hpp"

namespace bsbr::parallel {

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw CommunicationError(std::string(call) + ": " + text.data());
}

void require_mpi() {
  int initialised = 0, finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (initialised == 0 || finalised != 0) {
    throw CommunicationError("MPI is not initialised",
                             "call MPI_Init before using bsbr, and MPI_Finalize after its last use");
  }
}

int rank_in(MPI_Comm comm) {
  require_mpi();
  int rank = 0;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  return rank;
}

int ranks_of(MPI_Comm comm) {
  require_mpi();
  int ranks = 1;
  check(MPI_Comm_size(comm, &ranks), "MPI_Comm_size");
  return ranks;
}

bool same_comm(MPI_Comm a, MPI_Comm b) {
  int result = MPI_UNEQUAL;
  check(MPI_Comm_compare(a, b, &result), "MPI_Comm_compare");
  return result == MPI_IDENT;
}

}  // namespace bsbr::parallel
