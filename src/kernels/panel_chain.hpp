// The big matrix products, and what rides on them.
//
// A chain takes rows through one or more products, with a function of one row before the first and after each:
//
//     row = prologue(t);  row = after_1(row · W_1ᵀ);  row = after_2(row · W_2ᵀ);  …
//
// On a host each thread takes a panel of rows through the whole chain, in buffers that stay in its cache, with one single-threaded BLAS
// call a product. On a GPU each step is one launch, or one BLAS call, over a slab of rows.
//
// Equal bits for any number of ranks and threads (docs/architecture.md, "The same bits"): BLAS gives a row the same bits only in a panel of
// the same height, at the same place in it. So panels are cut at multiples of one height of the *global* row number, and a rank that owns
// part of a panel runs its full height, with its own rows in their places and zeros elsewhere.
#pragma once

#include <KokkosBlas3_gemm.hpp>
#include <Kokkos_Core.hpp>
#include <algorithm>
#include <string>

#include "bsbr/error.hpp"
#include "kernels/compat.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// Rows [first, first + count) of each of `batch` sequences of rows: tokens, or chunks. `first` is what makes the numbers global.
/// panel_rows, at most tuning::panel_rows: the height of a panel, the same for all calls that must give the same bits.
struct Rows {
  std::int64_t batch, first, count;
  std::int64_t panel_rows = tuning::panel_rows;
};

/// One product and what is done to each row of it: after(team, batch, local row, data) changes data [weight's rows] in place.
template <class Real, class After>
struct Stage {
  Array<const Real**> weight;  // [out, in]
  After after;
};
template <class Real, class After>
Stage(Array<const Real**>, After) -> Stage<Real, After>;

/// Room for the rows that are under way: two buffers for each thread (host) or altogether (GPU), which the products read and write in turn.
template <class Real>
class PanelBuffers {
 public:
  PanelBuffers() = default;

  /// `width`: the widest row of any chain that will use them.
  explicit PanelBuffers(std::int64_t width)
      : m_data(Kokkos::view_alloc(std::string("bsbr::panels"), Kokkos::WithoutInitializing), count(), 2, rows() * width) {}

  static std::int64_t bytes(std::int64_t width) { return count() * 2 * rows() * width * static_cast<std::int64_t>(sizeof(Real)); }

  /// Buffer 0 or 1 of a thread.
  KOKKOS_FUNCTION Real* get(int thread, int which) const { return m_data.data() + (thread * 2 + which) * m_data.extent(2); }
  std::int64_t width() const { return m_data.extent(2) / rows(); }

  static std::int64_t rows() { return on_host ? tuning::panel_rows : tuning::slab_rows; }

 private:
  static std::int64_t count() { return on_host ? Kokkos::Experimental::UniqueToken<Execution>().size() : 1; }

  Array<Real***> m_data;
};

namespace detail {

template <class Data>
using Unmanaged = Kokkos::View<Data, Kokkos::LayoutRight, Device, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;

/// product [rows, out] = input [rows, in] · weightᵀ
template <class Real>
struct Product {
  Unmanaged<const Real**> input, weight;
  Unmanaged<Real**> product;

  Product(const Real* input_data, const Array<const Real**>& weights, Real* product_data, std::int64_t rows)
      : input(input_data, rows, weights.extent(1)),
        weight(weights.data(), weights.extent(0), weights.extent(1)),
        product(product_data, rows, weights.extent(0)) {}

  /// On this thread of a host.
  void run() const { KokkosBlas::gemm("N", "T", Real(1), input, weight, Real(0), product); }

  /// On a GPU, in the order of `execution`: older Kokkos Kernels cannot be told and have to be waited for.
  void run(const Execution& execution) const {
    if constexpr (requires { KokkosBlas::gemm(execution, "N", "T", Real(1), input, weight, Real(0), product); }) {
      KokkosBlas::gemm(execution, "N", "T", Real(1), input, weight, Real(0), product);
    } else {
      execution.fence();
      run();
      Kokkos::fence();
    }
  }
};

/// The stages of a chain on one panel, which `input` holds: one thread of a host.
template <class Real>
void run_stages(const Rows&, std::int64_t, std::int64_t, std::int64_t, std::int64_t, Real*, Real*) {}

template <class Real, class First, class... Rest>
void run_stages(const Rows& rows, std::int64_t batch, std::int64_t origin, std::int64_t begin, std::int64_t end, Real* input, Real* other,
                const Stage<Real, First>& stage, const Rest&... rest) {
  Product<Real>(input, stage.weight, other, rows.panel_rows).run();
  const std::int64_t width = stage.weight.extent(0);
  for (std::int64_t row = begin; row < end; ++row) stage.after(SerialTeam{}, batch, row - rows.first, other + (row - origin) * width);
  run_stages(rows, batch, origin, begin, end, other, input, rest...);
}

/// A whole panel: global rows [origin, origin + rows.panel_rows), of which this rank has [begin, end).
template <class Real, class Prologue, class First, class... Rest>
void run_panel(const Rows& rows, std::int64_t batch, std::int64_t panel, Real* input, Real* other, const Prologue& prologue,
               const Stage<Real, First>& first, const Rest&... rest) {
  const std::int64_t height = rows.panel_rows, origin = panel * height, width = first.weight.extent(1);
  const std::int64_t begin = std::max(origin, rows.first), end = std::min(origin + height, rows.first + rows.count);
  std::fill(input, input + (begin - origin) * width, Real(0));
  std::fill(input + (end - origin) * width, input + height * width, Real(0));
  for (std::int64_t row = begin; row < end; ++row) prologue(SerialTeam{}, batch, row - rows.first, input + (row - origin) * width);
  run_stages(rows, batch, origin, begin, end, input, other, first, rest...);
}

template <class Real, class Prologue, class... Stages>
void run_on_host(const Execution& execution, const std::string& label, const Rows& rows, const PanelBuffers<Real>& buffers,
                 const Prologue& prologue, const Stages&... stages) {
  const std::int64_t height = rows.panel_rows, first_panel = rows.first / height;
  const std::int64_t panels = (rows.first + rows.count + height - 1) / height - first_panel;
  using Token = Kokkos::Experimental::UniqueToken<Execution>;
  const Token token;
  using Policy = Kokkos::RangePolicy<Execution, Kokkos::Schedule<Kokkos::Dynamic>, Kokkos::IndexType<std::int64_t>>;
  Kokkos::parallel_for(label, Policy(execution, 0, rows.batch * panels, Kokkos::ChunkSize(1)), [=](const std::int64_t task) {
    const int thread = token.acquire();
    run_panel(rows, task / panels, first_panel + task % panels, buffers.get(thread, 0), buffers.get(thread, 1), prologue, stages...);
    token.release(thread);
  });
}

/// function(team, batch, row, data + (row − first) · width) for `count` rows from `first`, one team a row.
template <class Real, class Function>
void for_rows(const Execution& execution, const std::string& label, std::int64_t batch, std::int64_t first, std::int64_t count,
              std::int64_t width, Real* data, const Function& function) {
  Kokkos::parallel_for(
      label, TeamPolicy(execution, static_cast<int>(count), tuning::team_size, tuning::vector_length),
      KOKKOS_LAMBDA(const TeamMember& member) {
        function(as_team(member), batch, first + member.league_rank(), data + member.league_rank() * width);
      });
}

template <class Real>
void run_slab_stages(const Execution&, const std::string&, std::int64_t, std::int64_t, std::int64_t, Real*, Real*) {}

template <class Real, class First, class... Rest>
void run_slab_stages(const Execution& execution, const std::string& label, std::int64_t batch, std::int64_t first, std::int64_t count,
                     Real* input, Real* other, const Stage<Real, First>& stage, const Rest&... rest) {
  Product<Real>(input, stage.weight, other, count).run(execution);
  for_rows(execution, label, batch, first, count, stage.weight.extent(0), other, stage.after);
  run_slab_stages(execution, label, batch, first, count, other, input, rest...);
}

template <class Real, class Prologue, class First, class... Rest>
void run_on_device(const Execution& execution, const std::string& label, const Rows& rows, const PanelBuffers<Real>& buffers,
                   const Prologue& prologue, const Stage<Real, First>& stage, const Rest&... rest) {
  constexpr std::int64_t height = tuning::slab_rows;
  for (std::int64_t batch = 0; batch < rows.batch; ++batch) {
    for (std::int64_t first = 0; first < rows.count; first += height) {
      const std::int64_t count = std::min(height, rows.count - first);
      for_rows(execution, label, batch, first, count, stage.weight.extent(1), buffers.get(0, 0), prologue);
      run_slab_stages(execution, label, batch, first, count, buffers.get(0, 0), buffers.get(0, 1), stage, rest...);
    }
  }
}

}  // namespace detail

/// Runs the chain for every row; prologue(team, batch, local row, data) fills data [first weight's columns]. Rows are independent: the
/// functions may read and write what belongs to their own row only.
template <class Real, class Prologue, class... Stages>
void panel_chain(const Execution& execution, const std::string& label, const Rows& rows, const PanelBuffers<Real>& buffers,
                 const Prologue& prologue, const Stages&... stages) {
  if (rows.batch == 0 || rows.count == 0) return;
  const std::int64_t widest = std::max({std::max(stages.weight.extent(0), stages.weight.extent(1))...});
  if (widest > buffers.width())
    throw ShapeError("a row of " + label + " has " + std::to_string(widest) + " numbers, its buffer room for " +
                     std::to_string(buffers.width()));
  if constexpr (on_host) {
    detail::run_on_host(execution, label, rows, buffers, prologue, stages...);
  } else {
    detail::run_on_device(execution, label, rows, buffers, prologue, stages...);
  }
}

}  // namespace bsbr::kernels
