// How a program ends when something goes wrong: its exit code and its one line on stderr.
#pragma once

#include <exception>
#include <string>

#include "bsbr/error.hpp"

namespace bsbr::harness {

/// What was asked for on the command line cannot be done, whatever the files hold.
class UsageError : public ConfigError {
  using ConfigError::ConfigError;
};

/// The result is not what the reference computes: --verify.
class VerificationError : public Error {
  using Error::Error;
};

/// Numbers without which a run cannot go on are NaN or infinite.
class DivergenceError : public Error {
  using Error::Error;
};

enum ExitCode : int {
  done = 0,
  bad_usage = 2,
  bad_input = 3,
  no_memory = 4,
  no_communication = 5,
  no_output = 6,
  wrong_numbers = 7,
  bug = 70,
  stopped_early = 75  ///< in good order, to be resumed
};

struct Failure {
  ExitCode code = bug;
  std::string message, hint;
  bool on_all_ranks =
      false;  ///< the library has seen to it that every rank has this failure; otherwise it may be this rank's alone
};

/// What an exception means to the user.
Failure describe(const std::exception_ptr& exception);

/// "program: error: message", and a line "hint: …" if there is one.
void print(const std::string& program, const Failure& failure);

}  // namespace bsbr::harness
