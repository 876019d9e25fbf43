// What the files of the module share: the runtime, and what each adds to the module.
#pragma once

#include <mpi.h>
#include <nanobind/nanobind.h>

#include "bsbr/config.hpp"

namespace bsbr::python {

namespace nb = nanobind;

/// Starts MPI and Kokkos unless they are running, and sees to their end. Throws Error if it is another thread that started them.
void start();

/// The handle of an mpi4py communicator; of None, this process alone. Throws TypeError for other objects, CommunicationError for
/// a communicator of another MPI. Starts MPI and Kokkos.
MPI_Comm communicator(nb::handle comm);

/// A configuration made of a base and the fields that are named, checked. Throws ConfigError.
ModelConfig with_fields(ModelConfig config, const nb::dict& fields);

void add_errors();
void add_config(nb::module_& module);
void add_model(nb::module_& module);

}  // namespace bsbr::python
