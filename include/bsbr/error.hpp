// The exceptions that the library throws. Every message names the thing, its value and the rule it breaks.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace bsbr {

/// Base of all errors of the library.
/// `what()` is one line; `hint()` says what to do about it and may be empty.
class Error : public std::runtime_error {
 public:
  /// With what `what()` and `hint()` are to say.
  explicit Error(const std::string& message, std::string hint = {}) : std::runtime_error(message), m_hint(std::move(hint)) {}

  /// What to do about it, on one line; empty where there is nothing to say.
  const std::string& hint() const noexcept { return m_hint; }

 private:
  std::string m_hint;
};

/// A configuration that no model can have, such as 7 heads for a hidden size of 512.
class ConfigError : public Error {
  using Error::Error;
};

/// Views or arrays whose extents do not fit each other or the configuration.
class ShapeError : public Error {
  using Error::Error;
};

/// A file that cannot be read, or whose content is not what it should be.
class FileError : public Error {
  using Error::Error;
};

/// A result that cannot be written.
class OutputError : public Error {
  using Error::Error;
};

/// Not enough memory for what was asked, found before or while allocating.
class MemoryError : public Error {
  using Error::Error;
};

/// MPI failed, or was not initialised.
class CommunicationError : public Error {
  using Error::Error;
};

}  // namespace bsbr
