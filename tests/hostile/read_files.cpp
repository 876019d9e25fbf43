// Reads files as bsbr_forward does, thousands in a minute: MPI and Kokkos are set up once, and each file is read by a
// child of this process, which ends with the exit code and the error line of bsbr_forward.
//
// On stdin one line for each file: "model <path>" or "tokens <path>[:/dataset]"; on stdout one line when it is done:
// "<wait status> <seconds of processor time> <peak KiB>". What the child prints is in <path>.err.
#include <fcntl.h>
#include <mpi.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include "bsbr/io.hpp"
#include "bsbr/model.hpp"
#include "fuzz_runtime.hpp"
#include "harness/job/failure.hpp"

namespace {

using namespace bsbr;

constexpr int vocab_size = 16;            // of valid_files.py
constexpr std::int64_t few = 5;           // tokens that a model runs over
constexpr std::int64_t most = 1 << 20;    // tokens that are read
constexpr rlim_t processor_seconds = 5;   // more than judge.py allows
constexpr unsigned seconds_to_wait = 60;  // for one that computes nothing: it has opened a pipe, for example

void read_model_and_run(const std::string& path) {
  const ModelConfig config = read_config(path, MPI_COMM_SELF);
  const Sequence sequence(MPI_COMM_SELF, 1, few, config.chunk_size);
  const Array<std::int32_t**> ids("ids", 1, few);
  for (std::int64_t i = 0; i < few; ++i) ids(0, i) = static_cast<std::int32_t>(i % config.vocab_size);
  Model<float> model(read_weights<float>(path, MPI_COMM_SELF));
  model.forward(Execution(), sequence, ids);
}

void read_all_tokens(const std::string& text) {
  const TokenSource source = TokenSource::parse(text);
  const TokenShape shape = read_token_shape(source, MPI_COMM_SELF);
  read_tokens(source, Sequence(MPI_COMM_SELF, shape.batch, std::min(shape.length, most), 16), vocab_size);
}

int read(const std::string& kind, const std::string& path) {
  try {
    if (kind == "model")
      read_model_and_run(path);
    else
      read_all_tokens(path);
    return harness::done;
  } catch (...) {
    const harness::Failure failure = harness::describe(std::current_exception());
    harness::print("read_files", failure);
    return failure.code;
  }
}

extern "C" void give_up(int) { std::abort(); }  // the sanitizer prints where

[[noreturn]] void be_child(const std::string& kind, const std::string& path) {
  const std::string file = kind == "model" ? path : TokenSource::parse(path).path;
  const int err = ::open((file + ".err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  ::dup2(err, STDERR_FILENO);
  const rlimit limit{processor_seconds, processor_seconds + 5}, none{0, 0};
  ::setrlimit(RLIMIT_CPU, &limit);
  ::setrlimit(RLIMIT_CORE, &none);
  std::signal(SIGXCPU, give_up);
  std::signal(SIGALRM, give_up);
  ::alarm(seconds_to_wait);
  std::_Exit(read(kind, path));
}

double seconds_of(const rusage& usage) {
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

int main() {
  hostile::start_runtime();
  std::string line;
  while (std::getline(std::cin, line)) {
    const std::size_t blank = line.find(' ');
    const pid_t child = ::fork();
    if (child == 0) be_child(line.substr(0, blank), line.substr(blank + 1));
    int status = 0;
    rusage usage{};
    if (child < 0 || ::wait4(child, &status, 0, &usage) != child) return EXIT_FAILURE;
    std::cout << status << ' ' << seconds_of(usage) << ' ' << usage.ru_maxrss << std::endl;
  }
}
