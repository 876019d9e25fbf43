// bsbr_hpc._core: the compiled module behind the package's Python files.
#include "module.hpp"

#include <nanobind/stl/string.h>

#include "bsbr/version.hpp"

NB_MODULE(_core, module) {
  namespace nb = nanobind;
  module.doc() = "The compiled part of bsbr_hpc; use it through that package.";
  bsbr::python::add_errors();
  bsbr::python::add_runtime(module);
  bsbr::python::add_config(module);
  bsbr::python::add_model(module);
  module.def("version", &bsbr::version,
             "The release, and the commit it was built from where that is known: 0.1.0+g1a2b3c4.");
  module.def("git_commit", &bsbr::git_commit, "The commit alone, or unknown.");
}
