// The exceptions of the library. Every message names the thing, its value and the rule it breaks.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace bsbr {

/// Base of all errors of the library.
/// `what()` is one line; `hint()` says what to do about it and may be empty.
class Error : public std::runtime_error {
 public:
  /// `message` is what `what()` returns, `hint` what `hint()` returns.
  explicit Error(const std::string& message, std::string hint = {})
      : std::runtime_error(message), m_hint(std::move(hint)) {}

  /// What to do about it, on one line; may be empty.
  const std::string& hint() const noexcept { return m_hint; }

 private:
  std::string m_hint;
};

/// An invalid configuration, such as 7 heads for a hidden_dim of 512.
class ConfigError : public Error {
  using Error::Error;
};

/// Arrays whose extents do not fit each other or the configuration, or that overlap where they must not; ids outside
/// the vocabulary; mask values other than 0 and 1.
class ShapeError : public Error {
  using Error::Error;
};

/// A file that cannot be read or has invalid contents.
class FileError : public Error {
  using Error::Error;
};

/// A file that cannot be written.
class OutputError : public Error {
  using Error::Error;
};

/// Not enough memory, detected before or while allocating.
class MemoryError : public Error {
  using Error::Error;
};

/// MPI failed or is not initialised, the ranks disagree, or a rank did not respond in time.
class CommunicationError : public Error {
  using Error::Error;
};

}  // namespace bsbr
