// The big matrix products, and what rides on them.
//
// A chain takes rows through one or more products, with a function of one row before the first and after each:
//
//     row = prologue(t);  row = after_1(row · W_1ᵀ);  row = after_2(row · W_2ᵀ);  …
//
// Rows are rounded before they are multiplied, if the weight is (product.hpp).
//
// On a host each thread takes a panel of rows through the whole chain, in buffers that stay in its cache. Where rows
// are few, as when a model decodes token by token, all threads go through the chain together, and share out the columns
// of each product, so that a weight is read once. On a GPU each step is one launch, or one BLAS call, over a slab of
// rows. On a host a row's bits do not depend on the panel that it is in, nor on its place there.
#pragma once

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/poison.hpp"
#include "kernels/product.hpp"
#include "kernels/scratch.hpp"
#include "kernels/spin_barrier.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Rows of each of `batch` sequences of rows: tokens, or chunks.
struct Rows {
  std::int64_t batch, count;
};

/// One product and what is done to each row of it: after(team, batch, row, data) changes data [weight's rows] in place.
template <class Real, class After>
struct Stage {
  ProductWeight<Real> weight;  // [out, in]
  After after;
};
template <class Real, class After>
Stage(ProductWeight<Real>, After) -> Stage<Real, After>;

/// Room for the rows that are under way: two buffers for each thread (host) or altogether (GPU), which the products
/// read and write in turn; and what a GPU's BLAS wants for itself.
template <class Real>
class PanelBuffers {
 public:
  PanelBuffers() = default;

  /// `width`: the widest row of any chain that will use them.
  explicit PanelBuffers(std::int64_t width)
      : m_data(Kokkos::view_alloc(std::string("bsbr::panels"), Kokkos::WithoutInitializing), count(), 2,
               elements(width)),
        m_workspace(make_product_workspace()),
        m_width(width) {}

  static std::int64_t bytes(std::int64_t width) {
    return count() * 2 * elements(width) * static_cast<std::int64_t>(sizeof(Real)) + tuning::product_workspace_bytes;
  }

  /// Buffer 0 or 1 of a thread.
  KOKKOS_FUNCTION Real* get(int thread, int which) const {
    return m_data.data() + (thread * 2 + which) * m_data.extent(2);
  }
  std::int64_t width() const { return m_width; }
  const ProductWorkspace& workspace() const { return m_workspace; }
  void poison(const Execution& execution) const { kernels::poison(execution, m_data); }

 private:
  static std::int64_t count() { return on_host ? Kokkos::Experimental::UniqueToken<Execution>().size() : 1; }
  static std::int64_t elements(std::int64_t width) {
    return tuning::panel_rows * ProductWeight<Real>::row_stride(width);
  }

  Array<Real***> m_data;
  ProductWorkspace m_workspace;
  std::int64_t m_width = 0;
};

namespace detail {

/// Row number `row` of all sequences, one after the other.
template <class Function, class Real>
void call(const SerialTeam& team, const Function& function, const Rows& rows, std::int64_t row, Real* data) {
  function(team, row / rows.count, row % rows.count, data);
}

/// Makes a row that a function has filled a factor of the weight that comes next; without one it leaves the row alone.
struct NoFactor {
  template <class Team, class Real>
  KOKKOS_INLINE_FUNCTION void operator()(const Team&, Real*) const {}
};
template <class Real>
struct FactorOf {
  ProductWeight<Real> weight;
  template <class Team>
  KOKKOS_INLINE_FUNCTION void operator()(const Team& team, Real* row) const {
    weight.round_row(team, row);
  }
};

/// One of the two, of the stages that come next.
template <class Real>
NoFactor next_factor() {
  return {};
}
template <class Real, class First, class... Rest>
FactorOf<Real> next_factor(const Stage<Real, First>& next, const Rest&...) {
  return {next.weight};
}

/// The stages of a chain for rows [begin, end), which `input` holds: one thread of a host.
template <class Real>
void run_stages(const SerialTeam&, const Rows&, std::int64_t, std::int64_t, Real*, Real*) {}

template <class Real, class First, class... Rest>
void run_stages(const SerialTeam& team, const Rows& rows, std::int64_t begin, std::int64_t end, Real* input,
                Real* other, const Stage<Real, First>& stage, const Rest&... rest) {
  const ProductWeight<Real>& weight = stage.weight;
  const std::int64_t stride = weight.row_stride(weight.out());
  weight.multiply(end - begin, input, weight.row_stride(weight.in()), other, stride);
  const auto round = next_factor<Real>(rest...);
  for (std::int64_t row = begin; row < end; ++row) {
    Real* data = other + (row - begin) * stride;
    call(team, stage.after, rows, row, data);
    round(team, data);
  }
  run_stages(team, rows, begin, end, other, input, rest...);
}

/// Rows of a panel: no more than fit, as many panels for each thread, or nearly; whole tiles of the product, unless
/// that leaves a thread without a panel.
template <class Real>
std::int64_t panel_height(const Execution& execution, std::int64_t rows, Rounding rounding) {
  const std::int64_t threads = execution.concurrency(), step = product_kernel<Real>(rounding).rows;
  const std::int64_t panels = (rows + threads * tuning::panel_rows - 1) / (threads * tuning::panel_rows) * threads;
  const std::int64_t height = (rows + panels - 1) / panels;
  const std::int64_t whole = std::min<std::int64_t>((height + step - 1) / step * step, tuning::panel_rows);
  return (rows + whole - 1) / whole < panels ? height : whole;
}

template <class Real, class Prologue, class First, class... Rest>
void run_on_host(const Execution& execution, const std::string& label, const Rows& rows,
                 const PanelBuffers<Real>& buffers, const Prologue& prologue, const Stage<Real, First>& first,
                 const Rest&... rest) {
  const std::int64_t all = rows.batch * rows.count,
                     height = panel_height<Real>(execution, all, first.weight.rounding());
  const std::int64_t stride = first.weight.row_stride(first.weight.in());
  using Token = Kokkos::Experimental::UniqueToken<Execution>;
  const Token token;
  using Policy = Kokkos::RangePolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for(label, Policy(execution, 0, (all + height - 1) / height, Kokkos::ChunkSize(1)),
                       [=](const std::int64_t panel) {
                         const SerialTeam team{};
                         const std::int64_t begin = panel * height, end = std::min(begin + height, all);
                         const int thread = token.acquire();
                         Real *input = buffers.get(thread, 0), *other = buffers.get(thread, 1);
                         for (std::int64_t row = begin; row < end; ++row) {
                           Real* data = input + (row - begin) * stride;
                           call(team, prologue, rows, row, data);
                           first.weight.round_row(team, data);
                         }
                         run_stages(team, rows, begin, end, input, other, first, rest...);
                         token.release(thread);
                       });
}

/// Whether a host's threads share out columns rather than rows: where each would have less than two tiles of rows.
template <class Real>
bool are_few(const Execution& execution, const Rows& rows, Rounding rounding) {
  const std::int64_t threads = execution.concurrency(), all = rows.batch * rows.count;
  return threads > 1 && all <= tuning::panel_rows && all <= threads * 2 * product_kernel<Real>(rounding).rows;
}

template <class Real, class First, class... Rest>
Rounding rounding_of_first(const Stage<Real, First>& first, const Rest&...) {
  return first.weight.rounding();
}

/// One of the threads that go through a chain together.
struct ChainThread {
  int rank, threads;
  SpinBarrier* barrier;
  int waits = 0;

  /// function(row) for this thread's rows of `count`; returns when all threads have done theirs.
  template <class Function>
  void for_rows(std::int64_t count, const Function& function) {
    for (std::int64_t row = rank; row < count; row += threads) function(row);
    barrier->wait(waits);
  }
};

/// The stages of a chain for all rows, which `input` holds: some threads together.
template <class Real>
void run_stages_together(ChainThread&, const Rows&, Real*, Real*) {}

template <class Real, class First, class... Rest>
void run_stages_together(ChainThread& thread, const Rows& rows, Real* input, Real* other,
                         const Stage<Real, First>& stage, const Rest&... rest) {
  const SerialTeam team{};
  const std::int64_t all = rows.batch * rows.count, in_stride = stage.weight.row_stride(stage.weight.in()),
                     out_stride = stage.weight.row_stride(stage.weight.out());
  stage.weight.multiply_part(thread.rank, thread.threads, all, input, in_stride, other, out_stride);
  thread.barrier->wait(thread.waits);
  const auto round = next_factor<Real>(rest...);
  thread.for_rows(all, [&](std::int64_t row) {
    call(team, stage.after, rows, row, other + row * out_stride);
    round(team, other + row * out_stride);
  });
  run_stages_together(thread, rows, other, input, rest...);
}

/// A few rows, with all threads together, or as many as Kokkos allows (64): a team of them, so that they run at the
/// same time.
template <class Real, class Prologue, class First, class... Rest>
void run_together(const Execution& execution, const std::string& label, const Rows& rows,
                  const PanelBuffers<Real>& buffers, const Prologue& prologue, const Stage<Real, First>& first,
                  const Rest&... rest) {
  using OneTeam = Kokkos::TeamPolicy<Execution, Kokkos::Schedule<Kokkos::Static>>;
  const auto any_body = [](const typename OneTeam::member_type&) {};
  const int largest_team = OneTeam(execution, 1, 1).team_size_max(any_body, Kokkos::ParallelForTag());
  const int threads = std::min(static_cast<int>(execution.concurrency()), largest_team);
  const std::int64_t stride = first.weight.row_stride(first.weight.in());
  Real *input = buffers.get(0, 0), *other = buffers.get(0, 1);
  SpinBarrier barrier(threads);
  Kokkos::parallel_for(label, OneTeam(execution, 1, threads),
                       [=, shared = &barrier](const OneTeam::member_type& member) {
                         const SerialTeam team{};
                         ChainThread thread{member.team_rank(), threads, shared};
                         thread.for_rows(rows.batch * rows.count, [&](std::int64_t row) {
                           call(team, prologue, rows, row, input + row * stride);
                           first.weight.round_row(team, input + row * stride);
                         });
                         run_stages_together(thread, rows, input, other, first, rest...);
                       });
}

/// function(team, batch, row, data + (index − first) · width) for the rows of all sequences with elements [first, first
/// + count), one team a row; then round(team, row).
template <class Real, class Function, class Factor>
void for_rows(const Execution& execution, const std::string& label, const Rows& rows, std::int64_t first,
              std::int64_t count, std::int64_t width, Real* data, const Function& function, const Factor& round) {
  const std::int64_t rows_of_one = rows.count;
  Kokkos::parallel_for(
      label, team_policy(execution, count, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t index = first + member.league_rank();
        Real* row = data + member.league_rank() * width;
        function(as_team(member), index / rows_of_one, index % rows_of_one, row);
        round(as_team(member), row);
      });
}

template <class Real>
void run_slab_stages(const Execution&, const std::string&, const Rows&, std::int64_t, std::int64_t, Real*, Real*,
                     const ProductWorkspace&) {}

template <class Real, class First, class... Rest>
void run_slab_stages(const Execution& execution, const std::string& label, const Rows& rows, std::int64_t first,
                     std::int64_t count, Real* input, Real* other, const ProductWorkspace& workspace,
                     const Stage<Real, First>& stage, const Rest&... rest) {
  stage.weight.multiply(execution, count, input, other, workspace);
  for_rows(execution, label, rows, first, count, stage.weight.out(), other, stage.after, next_factor<Real>(rest...));
  run_slab_stages(execution, label, rows, first, count, other, input, workspace, rest...);
}

template <class Real, class Prologue, class First, class... Rest>
void run_on_device(const Execution& execution, const std::string& label, const Rows& rows,
                   const PanelBuffers<Real>& buffers, const Prologue& prologue, const Stage<Real, First>& stage,
                   const Rest&... rest) {
  constexpr std::int64_t height = tuning::panel_rows;
  const std::int64_t all = rows.batch * rows.count;
  for (std::int64_t first = 0; first < all; first += height) {
    const std::int64_t count = std::min(height, all - first);
    for_rows(execution, label, rows, first, count, stage.weight.in(), buffers.get(0, 0), prologue,
             next_factor<Real>(stage));
    run_slab_stages(execution, label, rows, first, count, buffers.get(0, 0), buffers.get(0, 1), buffers.workspace(),
                    stage, rest...);
  }
}

}  // namespace detail

/// Runs the chain for every row; prologue(team, batch, row, data) fills data [first weight's columns]. Rows are
/// independent: the functions may read and write what belongs to their own row only.
template <class Real, class Prologue, class... Stages>
void panel_chain(const Execution& execution, const std::string& label, const Rows& rows,
                 const PanelBuffers<Real>& buffers, const Prologue& prologue, const Stages&... stages) {
  if (rows.batch == 0 || rows.count == 0) return;
  const std::int64_t widest = std::max({std::max(stages.weight.out(), stages.weight.in())...});
  if (widest > buffers.width())
    throw ShapeError("a row of " + label + " has " + std::to_string(widest) + " elements, its buffer room for " +
                     std::to_string(buffers.width()));
  if constexpr (on_host) {
    if (detail::are_few<Real>(execution, rows, detail::rounding_of_first(stages...)))
      detail::run_together(execution, label, rows, buffers, prologue, stages...);
    else
      detail::run_on_host(execution, label, rows, buffers, prologue, stages...);
  } else {
    detail::run_on_device(execution, label, rows, buffers, prologue, stages...);
  }
}

}  // namespace bsbr::kernels
