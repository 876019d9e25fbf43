// The BLAS whose sgemm is the limit: which it is, and starting again with better kernels where OpenBLAS has picked slow
// ones.
#include "blas_kernel.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

namespace bsbr::perf {
namespace {

constexpr const char* chosen_kernels = "OPENBLAS_CORETYPE";
constexpr const char* started_again =
    "BSBR_STARTED_AGAIN";  // so that this happens once, whatever OpenBLAS makes of the request

/// What kernels use of a CPU.
enum class Level { old, avx2, avx512 };

/// The kernels that OpenBLAS runs, empty if the BLAS is another one.
std::string openblas_kernels() {
  const auto name = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "openblas_get_corename"));
  return name == nullptr ? "" : name();
}

/// A name that is not known here belongs to a newer OpenBLAS, which knows better.
Level level_of(std::string kernels) {
  using namespace std::string_view_literals;
  constexpr std::array avx2{"haswell"sv, "zen"sv, "excavator"sv};
  constexpr std::array old{
      "generic"sv, "katmai"sv,       "coppermine"sv, "northwood"sv, "prescott"sv,    "banias"sv,     "atom"sv,
      "core2"sv,   "penryn"sv,       "dunnington"sv, "nehalem"sv,   "sandybridge"sv, "nano"sv,       "athlon"sv,
      "opteron"sv, "opteron_sse3"sv, "barcelona"sv,  "bobcat"sv,    "bulldozer"sv,   "piledriver"sv, "steamroller"sv};
  std::transform(kernels.begin(), kernels.end(), kernels.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (std::find(old.begin(), old.end(), kernels) != old.end()) return Level::old;
  return std::find(avx2.begin(), avx2.end(), kernels) != avx2.end() ? Level::avx2 : Level::avx512;
}

Level level_of_cpu() {
#if defined(__x86_64__) && !defined(__HIP_DEVICE_COMPILE__)  // with HIP, Clang compiles this for the GPU, too
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return Level::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Level::avx2;
#endif
  return Level::old;
}

/// Under "ld.so program" the running file is the loader, which would take our arguments for its own.
bool run_by_loader() {
  std::array<char, 4096> path{};
  const ssize_t size = readlink("/proc/self/exe", path.data(), path.size());
  const std::string_view name(path.data(), size > 0 ? static_cast<std::size_t>(size) : 0);
  return name.empty() || name.substr(name.rfind('/') + 1).starts_with("ld-");
}

}  // namespace

void use_fast_blas_kernels(char** argv) {
  if (std::getenv(started_again) != nullptr) return;
  const std::string kernels = openblas_kernels();
  const Level best = level_of_cpu();
  if (kernels.empty() || level_of(kernels) >= best || run_by_loader()) return;
  setenv(chosen_kernels, best == Level::avx512 ? "SkylakeX" : "Haswell", 1);
  setenv(started_again, "1", 1);
  execv("/proc/self/exe", argv);
}

std::string blas_name() {
  const std::string kernels = openblas_kernels();
  if (!kernels.empty()) return "OpenBLAS " + kernels;
  if (dlsym(RTLD_DEFAULT, "mkl_get_version") != nullptr) return "MKL";
  if (dlsym(RTLD_DEFAULT, "bli_info_get_version_str") != nullptr) return "BLIS";
  return "unknown";
}

}  // namespace bsbr::perf
