// Results of runs with different numbers of threads. Threads are fixed when Kokkos starts, so ctest runs a program
// several times: once with one thread and BSBR_WRITE_RESULTS naming a folder, then with more and BSBR_COMPARE_RESULTS
// naming the same.
#pragma once

#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdint>
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
void write(const std::string& path, const std::vector<Real>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(Real)));
  EXPECT_TRUE(file.good()) << path;
}

template <class Real>
std::vector<Real> read(const std::string& path) {
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
void check_threads(const std::string& name, const std::vector<Real>& actual, std::int64_t width) {
  const std::string file = "/" + name + (sizeof(Real) == 4 ? ".float" : ".double");
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0 && !variable("BSBR_WRITE_RESULTS").empty()) write(variable("BSBR_WRITE_RESULTS") + file, actual);
  const std::string folder = variable("BSBR_COMPARE_RESULTS");
  if (folder.empty()) return;
  EXPECT_TRUE(same_bits(actual, read<Real>(folder + file), width)) << name;
}

}  // namespace bsbr::testing
