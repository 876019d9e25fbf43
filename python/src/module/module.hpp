// What the files of the module share: the runtime, and what each adds to the module.
#pragma once

#include <mpi.h>
#include <nanobind/nanobind.h>

#include "bsbr/config.hpp"

namespace bsbr::python {

namespace nb = nanobind;

/// Starts MPI and Kokkos unless they are running, and arranges for their end. Throws Error in any thread but the one
/// that called it first, and in a process forked after MPI or Kokkos was started.
void start();

/// Whether this process was forked from one that had started MPI or Kokkos: neither can be used here, nor what depends
/// on them freed.
bool is_forked();

/// The handle of an mpi4py communicator; of None, this process alone. Throws TypeError for other objects,
/// CommunicationError for a communicator of another MPI. Starts MPI and Kokkos.
MPI_Comm communicator(nb::handle comm);

/// A configuration made of a base and the fields that are named, checked. Throws ConfigError.
ModelConfig with_fields(ModelConfig config, const nb::dict& fields);

/// Throws ConfigError, naming the field and both values, if the weights of `stored` do not fit `changed`.
void require_same_weights(const ModelConfig& stored, const ModelConfig& changed);

void add_errors();
void add_runtime(nb::module_& module);
void add_config(nb::module_& module);
void add_model(nb::module_& module);
void add_stream(nb::module_& module);  // after the class Sequence

}  // namespace bsbr::python
