// Whether Kokkos has been initialised.
#include "bsbr/error.hpp"
#include "bsbr/types.hpp"

namespace bsbr {

void require_kokkos() {
  if (Kokkos::is_initialized()) return;
  throw Error("Kokkos is not initialised",
              "call Kokkos::initialize before using bsbr, and Kokkos::finalize after its last use");
}

}  // namespace bsbr
