// The library's exceptions become those of bsbr_hpc.errors, of the same name and with the same words.
#include "bsbr/error.hpp"

#include "module.hpp"

namespace bsbr::python {
namespace {

const char* name_of(const Error& error) {
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return "ConfigError";
  if (dynamic_cast<const ShapeError*>(&error) != nullptr) return "ShapeError";
  if (dynamic_cast<const FileError*>(&error) != nullptr) return "FileError";
  if (dynamic_cast<const MemoryError*>(&error) != nullptr) return "MemoryError";
  if (dynamic_cast<const CommunicationError*>(&error) != nullptr) return "CommunicationError";
  return "Error";
}

void translate(const std::exception_ptr& exception, void*) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    const nb::object type = nb::module_::import_("bsbr_hpc.errors").attr(name_of(error));
    const nb::object instance = type(error.what(), error.hint().c_str());
    PyErr_SetObject(type.ptr(), instance.ptr());
  }
}

}  // namespace

void add_errors() { nb::register_exception_translator(translate); }

}  // namespace bsbr::python
