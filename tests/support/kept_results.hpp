// Results that one run of a test keeps in files, and other runs of it, with other numbers of threads, are compared
// with.
#pragma once

#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "support/bits.hpp"

namespace bsbr::testing {

inline std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

template <class Real>
void write_results(const std::string& path, const std::vector<Real>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(Real)));
  EXPECT_TRUE(file.good()) << path;
}

template <class Real>
std::vector<Real> read_results(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  EXPECT_TRUE(file.good()) << path << " is missing: run this test through ctest";
  if (!file) return {};
  std::vector<Real> values(static_cast<std::size_t>(file.tellg()) / sizeof(Real));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(Real)));
  return values;
}

/// Writes the bits, or compares them with those that were written, as the environment asks.
template <class Real>
void compare_with_kept(const std::string& name, const std::vector<Real>& actual, std::int64_t width) {
  const std::string file = "/" + name + (sizeof(Real) == 4 ? ".float" : ".double");
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0 && !variable("BSBR_WRITE_RESULTS").empty())
    write_results(variable("BSBR_WRITE_RESULTS") + file, actual);
  const std::string folder = variable("BSBR_COMPARE_RESULTS");
  if (folder.empty()) return;
  EXPECT_TRUE(same_bits(actual, read_results<Real>(folder + file), width)) << name;
}

inline bool keeps_results() {
  return !variable("BSBR_WRITE_RESULTS").empty() || !variable("BSBR_COMPARE_RESULTS").empty();
}

inline constexpr const char* no_results_kept =
    "neither BSBR_WRITE_RESULTS nor BSBR_COMPARE_RESULTS is set: run this test through ctest";

}  // namespace bsbr::testing
