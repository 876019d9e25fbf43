// Exceptions turned into exit codes and error lines.
#include "harness/job/failure.hpp"

#include <algorithm>
#include <cstdio>
#include <new>

namespace bsbr::harness {
namespace {

Failure library_failure(ExitCode code, const Error& error) { return {code, error.what(), error.hint(), true}; }

Failure bug_failure(const char* what) {
  return {bug, std::string("internal error: ") + what + "; please report it", "", false};
}

/// An error is one line, whatever a file's name or another library's text holds.
std::string one_line(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}

}  // namespace

Failure describe(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const UsageError& error) {
    return library_failure(bad_usage, error);
  } catch (const ConfigError& error) {  // of a model file: what the command line asks for is a UsageError
    return library_failure(bad_input, error);
  } catch (const FileError& error) {
    return library_failure(bad_input, error);
  } catch (const MemoryError& error) {
    return library_failure(no_memory, error);
  } catch (const OutputError& error) {
    return library_failure(no_output, error);
  } catch (const VerificationError& error) {
    return library_failure(wrong_numbers, error);
  } catch (const DivergenceError& error) {
    return library_failure(wrong_numbers, error);
  } catch (const CommunicationError& error) {
    return {no_communication, error.what(), error.hint(), false};  // MPI may have failed on this rank only
  } catch (const std::bad_alloc&) {
    return {no_memory, "not enough memory", "", false};
  } catch (const std::exception& error) {
    const std::string text = error.what();
    // Kokkos 3.4 has no type of its own for this.
    if (text.starts_with("Allocation of size"))
      return {no_memory, "not enough memory: " + text.substr(0, text.find(',')), "", false};
    return bug_failure(error.what());
  } catch (...) {
    return bug_failure("an exception of unknown type");
  }
}

void print(const std::string& program, const Failure& failure) {
  std::string text = program + ": error: " + one_line(failure.message) + "\n";
  if (!failure.hint.empty()) text += "hint: " + one_line(failure.hint) + "\n";
  std::fflush(stdout);
  std::fputs(text.c_str(), stderr);  // in one piece, so that ranks' lines do not mix
  std::fflush(stderr);
}

}  // namespace bsbr::harness
