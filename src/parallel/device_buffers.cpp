#include "parallel/device_buffers.hpp"

#include <dlfcn.h>
#include <mpi.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "bsbr/types.hpp"
#include "config/environment_switch.hpp"
#include "kernels/backend.hpp"
#include "parallel/mpi.hpp"

namespace bsbr::parallel {
namespace {

/// Asks by the names that MPIs have for it. They are looked up at run time, since few headers declare any of them.
bool mpi_says_so() {
  for (const char* name : {"MPIX_Query_cuda_support", "MPIX_Query_rocm_support"}) {  // Open MPI and those made from it
    using Query = int (*)();
    const auto query = reinterpret_cast<Query>(::dlsym(RTLD_DEFAULT, name));
    if (query != nullptr && query() == 1) return true;
  }
  using Query = int (*)(int, int*);
  if (const auto query = reinterpret_cast<Query>(::dlsym(RTLD_DEFAULT, "MPIX_GPU_query_support"));
      query != nullptr) {               // MPICH 4
    for (const int kind : {0, 1, 2}) {  // CUDA, ZE, HIP
      int supported = 0;
      if (query(kind, &supported) == MPI_SUCCESS && supported != 0) return true;
    }
  }
  const char* cray = std::getenv("MPICH_GPU_SUPPORT_ENABLED");
  return cray != nullptr && std::string(cray) == "1";
}

/// Sends elements in the device's memory to this process itself, in one small message and one that is not.
bool buffers_arrive() {
  for (const int count : {8, 1 << 20}) {
    const Array<std::int32_t*> source("bsbr::parallel::probe", count), target("bsbr::parallel::probe", count);
    const auto expected = Kokkos::create_mirror(Kokkos::HostSpace(), source);
    for (int i = 0; i < count; ++i) expected(i) = i + 1;
    Kokkos::deep_copy(source, expected);
    Kokkos::fence();
    check(MPI_Sendrecv(source.data(), count, MPI_INT32_T, 0, 0, target.data(), count, MPI_INT32_T, 0, 0, MPI_COMM_SELF,
                       MPI_STATUS_IGNORE),
          "MPI_Sendrecv");
    const auto arrived = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), target);
    for (int i = 0; i < count; ++i) {
      if (arrived(i) != i + 1) return false;
    }
  }
  return true;
}

bool decide() {
  if (const std::optional<bool> said = environment_switch("BSBR_GPU_AWARE_MPI"); said) return *said;
  return kernels::on_host ||
         (mpi_says_so() && buffers_arrive());  // with a GPU's bodies as on one, so that staging is tested
}

}  // namespace

bool mpi_takes_device_buffers() {
  static const bool takes = decide();
  return takes;
}

}  // namespace bsbr::parallel
