#include "parallel/staging.hpp"

#include <algorithm>
#include <list>
#include <mutex>
#include <string>

namespace bsbr::parallel {
namespace {

/// The buffers that no message uses. A list, since its elements change hands without an allocation.
class FreeBuffers {
 public:
  using Buffers = std::list<StagingBuffer>;

  FreeBuffers() {
    Kokkos::push_finalize_hook([this] { m_free.clear(); });
  }

  /// One buffer: the smallest that is large enough. If none is, a new one takes the place of the largest.
  Buffers take(std::size_t bytes) {
    const std::lock_guard lock(m_mutex);
    const auto smaller = [](const StagingBuffer& a, const StagingBuffer& b) { return a.size() < b.size(); };
    m_free.sort(smaller);
    auto found =
        std::find_if(m_free.begin(), m_free.end(), [&](const StagingBuffer& buffer) { return buffer.size() >= bytes; });
    Buffers taken;
    if (found != m_free.end()) {
      taken.splice(taken.begin(), m_free, found);
    } else {
      if (!m_free.empty()) m_free.pop_back();
      taken.emplace_back(Kokkos::view_alloc(std::string("bsbr::parallel::staged"), Kokkos::WithoutInitializing), bytes);
    }
    return taken;
  }

  void give_back(Buffers& buffers) {
    const std::lock_guard lock(m_mutex);
    m_free.splice(m_free.end(), buffers);
  }

 private:
  std::mutex m_mutex;
  Buffers m_free;
};

/// Never destroyed: Kokkos is gone by the time that objects of static duration are.
FreeBuffers& free_buffers() {
  static auto* const buffers = new FreeBuffers;
  return *buffers;
}

/// Buffers of the list above for as long as a message uses them.
struct Loan {
  FreeBuffers::Buffers buffers;

  explicit Loan(std::int64_t bytes) : buffers(free_buffers().take(static_cast<std::size_t>(bytes))) {}
  Loan(const Loan&) = delete;
  Loan& operator=(const Loan&) = delete;
  ~Loan() { free_buffers().give_back(buffers); }
};

}  // namespace

std::shared_ptr<const StagingBuffer> take_staging_buffer(std::int64_t bytes) {
  const auto loan = std::make_shared<const Loan>(bytes);
  return {loan, &loan->buffers.front()};
}

}  // namespace bsbr::parallel
