// main() of tests that use MPI and Kokkos. Rank 0 prints as googletest does, the others only failures; all ranks end
// with the same exit code, which is not 0 if a test failed on any of them.
#include <gtest/gtest.h>
#include <mpi.h>

#include <Kokkos_Core.hpp>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <sstream>

namespace {

/// Prints failures of this rank, each in one piece so that ranks do not mix.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : m_rank(rank) {}

  void OnTestStart(const ::testing::TestInfo& test) override {
    m_test = std::string(test.test_suite_name()) + "." + test.name();
  }

  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::ostringstream text;
    text << "rank " << m_rank << ", " << m_test << ": " << (result.file_name() != nullptr ? result.file_name() : "?")
         << ":" << result.line_number() << ": " << result.message() << "\n";
    std::cerr << text.str() << std::flush;
  }

 private:
  int m_rank;
  std::string m_test;
};

/// The part of googletest's output that one rank is enough for.
void listen(int rank) {
  if (rank == 0) return;
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  delete listeners.Release(listeners.default_xml_generator());
  listeners.Append(new FailurePrinter(rank));  // googletest deletes it
}

int run_tests() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  listen(rank);
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    ::testing::InitGoogleTest(&argc, argv);  // reads the lists that tests are parametrised over
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  Kokkos::initialize(argc, argv);
  const int failed = run_tests();
  Kokkos::finalize();
  MPI_Finalize();
  return failed;
}
