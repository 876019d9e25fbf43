#include "parallel/agree.hpp"

#include <cstdint>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "bsbr/error.hpp"
#include "parallel/collectives.hpp"

namespace bsbr::parallel {
namespace {

enum class Kind : std::int64_t { none, config, shape, file, output, memory, communication, other };

struct Failure {
  Kind kind = Kind::none;
  std::string message, hint;
};

/// Whether this is what Kokkos throws where it gets no memory: of no type of its own, so that only the words tell.
bool is_of_memory(const std::exception& error) {
  return std::string_view(error.what()).starts_with("Kokkos failed to allocate memory");
}

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
    return {is_of_memory(error) ? Kind::memory : Kind::other, error.what(), {}};
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

}  // namespace

void agree(MPI_Comm comm, const std::function<void()>& work) {
  Failure failure = caught(work);
  const std::int32_t ranks = ranks_of(comm);
  const int first = all_reduce(failure.kind == Kind::none ? ranks : rank_in(comm), MPI_MIN, comm);
  if (first == ranks) return;
  broadcast(&failure.kind, sizeof failure.kind, comm, first);
  broadcast(failure.message, comm, first);
  broadcast(failure.hint, comm, first);
  const bool is_of_a_process =
      failure.kind == Kind::memory || failure.kind == Kind::other;  // not of something that all ranks share
  if (is_of_a_process && ranks > 1 && failure.message.find("rank ") == std::string::npos)
    failure.message += ", on rank " + std::to_string(first);
  rethrow(failure);
}

void agree(const Execution& execution, const Sequence& sequence, Profile* profile, const std::function<void()>& work) {
  std::optional<Phase> phase;
  if (sequence.ranks() > 1) phase.emplace(execution, profile, "agreement");
  agree(sequence.comm(), work);
}

}  // namespace bsbr::parallel
