// Translates the library's exceptions into those of bsbr_hpc.errors: same names, same texts.
#include <cstring>

#include "bsbr/error.hpp"
#include "module.hpp"

namespace bsbr::python {
namespace {

const char* name_of(const Error& error) {
  if (dynamic_cast<const ConfigError*>(&error) != nullptr) return "ConfigError";
  if (dynamic_cast<const ShapeError*>(&error) != nullptr) return "ShapeError";
  if (dynamic_cast<const FileError*>(&error) != nullptr) return "FileError";
  if (dynamic_cast<const OutputError*>(&error) != nullptr) return "OutputError";
  if (dynamic_cast<const MemoryError*>(&error) != nullptr) return "MemoryError";
  if (dynamic_cast<const CommunicationError*>(&error) != nullptr) return "CommunicationError";
  return "Error";
}

/// Texts may hold file names, which are bytes: what is not UTF-8 becomes "\xe9", as in the messages of Python itself.
nb::object text_of(const char* bytes) {
  return nb::steal(PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(std::strlen(bytes)), "backslashreplace"));
}

void translate(const std::exception_ptr& exception, void*) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    const nb::object type = nb::module_::import_("bsbr_hpc.errors").attr(name_of(error));
    const nb::object instance = type(text_of(error.what()), text_of(error.hint().c_str()));
    PyErr_SetObject(type.ptr(), instance.ptr());
  }
}

}  // namespace

void add_errors() { nb::register_exception_translator(translate); }

}  // namespace bsbr::python
