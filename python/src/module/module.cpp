// bsbr_hpc._core: the library as Python sees it. The package's Python files are in front of it.
#include "module.hpp"

#include <nanobind/stl/string.h>

#include "bsbr/version.hpp"

NB_MODULE(_core, module) {
  namespace nb = nanobind;
  module.doc() = "The library of bsbr; use it by bsbr_hpc.";
  bsbr::python::add_errors();
  bsbr::python::add_config(module);
  bsbr::python::add_model(module);
  module.def("version", &bsbr::version, "The release, and the commit it was built from where that is known: 0.1.0+g1a2b3c4.");
  module.def("git_commit", &bsbr::git_commit, "The commit alone, or unknown.");
}
