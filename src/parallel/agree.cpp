#include "parallel/agree.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <new>
#include <stdexcept>

#include "bsbr/error.hpp"

namespace bsbr::parallel {
namespace {

enum class Kind : std::int64_t { none, config, shape, file, output, memory, communication, other };

struct Failure {
  Kind kind = Kind::none;
  std::string message, hint;
};

/// What `work` threw, if anything.
Failure caught(const std::function<void()>& work) {
  try {
    work();
    return {};
  } catch (const ConfigError& error) {
    return {Kind::config, error.what(), error.hint()};
  } catch (const ShapeError& error) {
    return {Kind::shape, error.what(), error.hint()};
  } catch (const FileError& error) {
    return {Kind::file, error.what(), error.hint()};
  } catch (const OutputError& error) {
    return {Kind::output, error.what(), error.hint()};
  } catch (const MemoryError& error) {
    return {Kind::memory, error.what(), error.hint()};
  } catch (const CommunicationError& error) {
    return {Kind::communication, error.what(), error.hint()};
  } catch (const std::bad_alloc&) {
    return {Kind::memory, "not enough memory", {}};
  } catch (const std::exception& error) {
    return {Kind::other, error.what(), {}};
  }
}

[[noreturn]] void rethrow(const Failure& failure) {
  switch (failure.kind) {
    case Kind::config:
      throw ConfigError(failure.message, failure.hint);
    case Kind::shape:
      throw ShapeError(failure.message, failure.hint);
    case Kind::file:
      throw FileError(failure.message, failure.hint);
    case Kind::output:
      throw OutputError(failure.message, failure.hint);
    case Kind::memory:
      throw MemoryError(failure.message, failure.hint);
    case Kind::communication:
      throw CommunicationError(failure.message, failure.hint);
    default:
      throw std::runtime_error(failure.message);
  }
}

void broadcast_from(int root, void* data, std::int64_t bytes, MPI_Comm comm) {
  constexpr std::int64_t piece = 1 << 30;
  auto* begin = static_cast<char*>(data);
  for (std::int64_t done = 0; done < bytes; done += piece) {
    check(MPI_Bcast(begin + done, static_cast<int>(std::min(piece, bytes - done)), MPI_BYTE, root, comm), "MPI_Bcast");
  }
}

void broadcast_from(int root, std::string& text, MPI_Comm comm) {
  auto size = static_cast<std::int64_t>(text.size());
  broadcast_from(root, &size, sizeof size, comm);
  text.resize(static_cast<std::size_t>(size));
  broadcast_from(root, text.data(), size, comm);
}

}  // namespace

void agree(MPI_Comm comm, const std::function<void()>& work) {
  Failure failure = caught(work);
  int rank = 0, ranks = 1;
  check(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(comm, &ranks), "MPI_Comm_size");
  const int mine = failure.kind == Kind::none ? ranks : rank;
  int first = ranks;
  check(MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, comm), "MPI_Allreduce");
  if (first == ranks) return;
  broadcast_from(first, &failure.kind, sizeof failure.kind, comm);
  broadcast_from(first, failure.message, comm);
  broadcast_from(first, failure.hint, comm);
  rethrow(failure);
}

void check(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw CommunicationError(std::string(call) + ": " + text.data());
}

void require_mpi() {
  int initialised = 0, finalised = 0;
  MPI_Initialized(&initialised);
  MPI_Finalized(&finalised);
  if (initialised == 0 || finalised != 0) {
    throw CommunicationError("MPI is not initialised", "call MPI_Init before using bsbr, and MPI_Finalize after its last use");
  }
}

void broadcast(void* data, std::int64_t bytes, MPI_Comm comm) { broadcast_from(0, data, bytes, comm); }

void broadcast(std::string& text, MPI_Comm comm) { broadcast_from(0, text, comm); }

}  // namespace bsbr::parallel
