// The environment as Kokkos and OpenMP will read it: checked beforehand, since they abort, crash or guess where it is
// wrong.
#include <Kokkos_Core.hpp>
#ifdef KOKKOS_ENABLE_OPENMP
#include <omp.h>
#endif

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <climits>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "bsbr/error.hpp"
#include "bsbr/kokkos.hpp"

// The classes that have MAX_THREAD_COUNT, in one version of Kokkos or another: those that this one lacks stay
// incomplete.
namespace Kokkos::Impl {
struct OpenMPTraits;
class OpenMPExec;
class ThreadsInternal;
class ThreadsExec;
}  // namespace Kokkos::Impl

namespace bsbr {
namespace {

constexpr int usual_room = 512;  // of all versions of the OpenMP backend so far

template <class Table>
constexpr int room_of() {
  if constexpr (requires { Table::MAX_THREAD_COUNT; })
    return static_cast<int>(Table::MAX_THREAD_COUNT);
  else
    return 0;
}

/// OpenMP, where it is enabled, is the default host backend; Threads is otherwise.
constexpr int room() {
  using namespace Kokkos::Impl;
  for (const int threads :
       {room_of<OpenMPTraits>(), room_of<OpenMPExec>(), room_of<ThreadsInternal>(), room_of<ThreadsExec>()}) {
    if (threads > 0) return threads;
  }
  return usual_room;
}

/// Threads that would start if nothing said how many: the processors that this process may use.
int available_threads() {
#ifdef KOKKOS_ENABLE_OPENMP
  return omp_get_max_threads();
#else
  return static_cast<int>(std::thread::hardware_concurrency());
#endif
}

int thread_limit() {
#ifdef KOKKOS_ENABLE_OPENMP
  return omp_get_thread_limit();  // OMP_THREAD_LIMIT
#else
  return INT_MAX;
#endif
}

[[noreturn]] void refuse(const std::string& variable, const std::string& value, const std::string& rule) {
  throw ConfigError(variable + " is '" + value + "', " + rule, "unset it for the default");
}

std::string_view trimmed(std::string_view text) {
  const auto is_space = [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

/// A whole number that is not negative; too large a one is LONG_MAX.
std::optional<long> whole_number(std::string_view text) {
  text = trimmed(text);
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  long value = LONG_MAX;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

[[noreturn]] void refuse_too_many(const std::string& variable, const std::string& value) {
  refuse(variable, value, "Kokkos supports at most " + std::to_string(room()) + " threads");
}

/// "4", or "4,2" for nested levels, of which Kokkos uses the first.
void check_omp_num_threads(const std::string& value) {
  std::string_view rest = value;
  for (bool first = true, more = true; more; first = false) {
    const std::size_t comma = rest.find(',');
    const std::optional<long> threads = whole_number(rest.substr(0, comma));
    if (!threads || *threads == 0)
      refuse("OMP_NUM_THREADS", value, "must be a whole number of at least 1, or a list of these");
    if (first && *threads > room()) refuse_too_many("OMP_NUM_THREADS", value);
    more = comma != std::string_view::npos;
    if (more) rest.remove_prefix(comma + 1);
  }
}

void check_kokkos_num_threads(const std::string& value) {
  const std::optional<long> threads = whole_number(value);
  if (!threads || *threads == 0) refuse("KOKKOS_NUM_THREADS", value, "must be a whole number of at least 1");
  if (*threads > room()) refuse_too_many("KOKKOS_NUM_THREADS", value);
  if (*threads > thread_limit()) {
    refuse("KOKKOS_NUM_THREADS", value, "OMP_THREAD_LIMIT allows " + std::to_string(thread_limit()) + " threads");
  }
}

/// A number of Kokkos' other variables; what it means for a GPU, Kokkos itself says.
void check_number(const std::string& variable, const std::string& value, long least) {
  const std::optional<long> number = whole_number(value);
  if (number && *number >= least && *number <= INT_MAX) return;
  refuse(variable, value, "must be a whole number of at least " + std::to_string(least));
}

void check_switch(const std::string& variable, const std::string& value) {
  std::string lower(trimmed(value));
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 8> known{"1", "on", "true", "yes", "0", "off", "false", "no"};
  if (std::find(known.begin(), known.end(), lower) != known.end()) return;
  refuse(variable, value, "must be 1, on, true, yes, 0, off, false or no");
}

/// Libraries of Kokkos Tools, with ';' between them. Kokkos goes on without one that cannot be loaded, and nothing is
/// measured.
void check_tools(const std::string& variable, const std::string& value) {
  for (std::size_t begin = 0; begin <= value.size();) {
    const std::size_t end = std::min(value.find(';', begin), value.size());
    const std::string library = value.substr(begin, end - begin);
    begin = end + 1;
    if (!library.empty() && ::dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
      refuse(variable, value, std::string("which cannot be loaded: ") + ::dlerror());
    }
  }
}

void check_environment() {
  const auto check = [](const char* variable, auto&& rule) {
    if (const char* value = std::getenv(variable); value != nullptr) rule(std::string(value));
  };
  check("OMP_NUM_THREADS", check_omp_num_threads);
  check("KOKKOS_NUM_THREADS", check_kokkos_num_threads);
  for (const char* variable : {"KOKKOS_NUMA", "KOKKOS_NUM_DEVICES", "KOKKOS_RAND_DEVICES"}) {
    check(variable, [&](const std::string& value) { check_number(variable, value, 1); });
  }
  for (const char* variable : {"KOKKOS_DEVICE_ID", "KOKKOS_SKIP_DEVICE"}) {
    check(variable, [&](const std::string& value) { check_number(variable, value, 0); });
  }
  for (const char* variable : {"KOKKOS_DISABLE_WARNINGS", "KOKKOS_TUNE_INTERNALS", "KOKKOS_PRINT_CONFIGURATION"}) {
    check(variable, [&](const std::string& value) { check_switch(variable, value); });
  }
  for (const char* variable : {"KOKKOS_PROFILE_LIBRARY", "KOKKOS_TOOLS_LIBS"}) {
    check(variable, [&](const std::string& value) { check_tools(variable, value); });
  }
}

/// Sets KOKKOS_NUM_THREADS where nobody has said how many threads there should be and not all processors are this
/// process' own.
std::string choose_threads(int sharing) {
  if (std::getenv("KOKKOS_NUM_THREADS") != nullptr || std::getenv("OMP_NUM_THREADS") != nullptr) return "";
  const int available = available_threads(), share = std::max(1, available / sharing);
  const int threads = std::min({share, room(), thread_limit()});
  if (threads < available) setenv("KOKKOS_NUM_THREADS", std::to_string(threads).c_str(), 1);
  if (threads == share || threads < room()) return "";
  return std::to_string(threads) + " threads on " + std::to_string(share) +
         " processors, as Kokkos supports no more; use more ranks";
}

/// The variables of Kokkos that are set, for a message.
std::string kokkos_variables() {
  std::string list;
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with("KOKKOS_") && !text.starts_with("KOKKOS_DISABLE_WARNINGS="))
      list += (list.empty() ? "" : ", ") + std::string(text);
  }
  return list;
}

/// Kokkos' text without what it adds to all of them: where it was thrown, and that there is no traceback.
std::string reason_of(const std::runtime_error& error) {
  std::string text = error.what();
  if (text.starts_with("Error: ")) text.erase(0, 7);
  for (const char* tail : {". Raised by", "Traceback"}) text = text.substr(0, text.find(tail));
  return std::string(trimmed(text));
}

}  // namespace

int most_threads() { return room(); }

std::string initialize_kokkos(const std::string& program, int sharing) {
  check_environment();
  std::string note = choose_threads(std::max(1, sharing));
  setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND and the like: stderr is for errors
  std::string name = program;                 // Kokkos takes some arguments for its own: it is shown none
  std::array<char*, 2> arguments{name.data(), nullptr};
  int count = 1;
#ifdef KOKKOS_ENABLE_OPENMP
  omp_set_dynamic(0);  // with OMP_DYNAMIC, fewer threads may start than Kokkos has been told, and it aborts
#endif
  try {
    Kokkos::initialize(count, arguments.data());
  } catch (const std::runtime_error& error) {
    const std::string variables = kokkos_variables();
    if (variables.empty()) throw;
    throw ConfigError("Kokkos does not start: " + reason_of(error), "check its variables: " + variables);
  }
  return note;
}

}  // namespace bsbr
