// Chains of matrix products in panels against plain loops; that ranges of rows keep their bits.
#include "kernels/panel_chain.hpp"

#include <gtest/gtest.h>

#include "support/device_arrays.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

using kernels::PanelBuffers;
using kernels::Rows;
using kernels::Stage;
using kernels::Team;
using reference::Matrix;

constexpr std::int64_t panel = kernels::tuning::panel_rows;

/// row = prologue(t);  row = after_1(row · W_1ᵀ);  …  Before the first product comes row = 2·input, after each but the
/// last row = leaky(row + bias[t]), after the last output[t] += row + bias[t]; bias[t] differs from row to row.
struct Chain {
  std::vector<Matrix> weights;  // [out, in]
  std::int64_t batch, length;
  std::vector<double> input;   // [batch, length, in of the first]
  std::vector<double> bias;    // [batch, length]
  std::vector<double> output;  // [batch, length, out of the last], what is there before

  Chain(std::vector<std::int64_t> widths, std::int64_t batch_size, std::int64_t rows)
      : batch(batch_size), length(rows) {
    for (std::size_t i = 1; i < widths.size(); ++i) {
      weights.push_back(random_matrix(widths[i], widths[i - 1], i, 1 / std::sqrt(static_cast<double>(widths[i - 1]))));
      weights.back().values = in_float(weights.back().values);
    }
    input = in_float(random_matrix(batch * length, widths.front(), 11).values);
    bias = in_float(random_matrix(batch, length, 12).values);
    output = in_float(random_matrix(batch * length, widths.back(), 13).values);
  }
  std::int64_t width_in() const { return weights.front().columns; }
  std::int64_t width_out() const { return weights.back().rows; }
  std::int64_t widest() const {
    std::int64_t most = width_in();
    for (const auto& weight : weights) most = std::max(most, weight.rows);
    return most;
  }
};

template <class Real>
KOKKOS_INLINE_FUNCTION Real leaky(Real x) {
  return x > 0 ? x : Real(0.25) * x;
}

// What a chain does before, between and after its products. Named types rather than lambdas: nvcc takes no lambda for
// the device out of a function whose type is deduced.

template <class Real>
struct Load {
  Array<const Real***> input;
  Array<int**> visits;
  std::int64_t first;

  KOKKOS_FUNCTION void operator()(const Team& team, std::int64_t row, std::int64_t t, Real* data) const {
    kernels::for_each(team, static_cast<int>(input.extent(2)),
                      [&](const int i) { data[i] = 2 * input(row, first + t, i); });
    kernels::for_each(team, 1, [&](int) { ++visits(row, first + t); });
  }
};

template <class Real>
struct Middle {
  Array<const Real**> bias;
  std::int64_t first;
  int width;

  KOKKOS_FUNCTION void operator()(const Team& team, std::int64_t row, std::int64_t t, Real* data) const {
    kernels::for_each(team, width, [&](const int i) { data[i] = leaky(data[i] + bias(row, first + t)); });
  }
};

template <class Real>
struct Store {
  Array<Real***> output;
  Array<const Real**> bias;
  Array<int**> visits;
  std::int64_t first;

  KOKKOS_FUNCTION void operator()(const Team& team, std::int64_t row, std::int64_t t, const Real* data) const {
    kernels::for_each(team, static_cast<int>(output.extent(2)),
                      [&](const int i) { output(row, first + t, i) += data[i] + bias(row, first + t); });
    kernels::for_each(team, 1, [&](int) { visits(row, first + t) += 100; });
  }
};

/// A chain's arrays on the device.
template <class Real>
struct DeviceChain {
  std::vector<kernels::ProductWeight<Real>> weights;
  std::int64_t batch, length;
  Array<const Real***> input;
  Array<const Real**> bias;
  Array<Real***> output;
  Array<int**> visits;  // how often each row was begun and ended

  explicit DeviceChain(const Chain& chain)
      : batch(chain.batch),
        length(chain.length),
        input(to_device<Real***>(chain.input, batch, length, chain.width_in())),
        bias(to_device<Real**>(chain.bias, batch, length)),
        output(to_device<Real***>(chain.output, batch, length, chain.width_out())),
        visits("test::visits", batch, length) {
    for (const auto& weight : chain.weights) {
      weights.emplace_back(Array<const Real**>(to_device<Real**>(weight.values, weight.rows, weight.columns)));
    }
  }

  /// The rows [first, first + count) of all of them.
  void run(std::int64_t first, std::int64_t count, const PanelBuffers<Real>& buffers) const {
    const Rows rows{batch, count};
    const Load<Real> load{input, visits, first};
    const Store<Real> store{output, bias, visits, first};
    const auto middle = [&](std::size_t stage) {
      return Middle<Real>{bias, first, static_cast<int>(weights[stage].out())};
    };
    const std::string label = "test::panel_chain";
    const Execution execution;
    if (weights.size() == 1) {
      kernels::panel_chain(execution, label, rows, buffers, load, Stage{weights[0], store});
    } else if (weights.size() == 2) {
      kernels::panel_chain(execution, label, rows, buffers, load, Stage{weights[0], middle(0)},
                           Stage{weights[1], store});
    } else {
      kernels::panel_chain(execution, label, rows, buffers, load, Stage{weights[0], middle(0)},
                           Stage{weights[1], middle(1)}, Stage{weights[2], store});
    }
    execution.fence();
  }
};

/// The rows [first, first + count) of the chain by plain loops.
template <class Real>
std::vector<Real> plain_loops(const Chain& chain, std::int64_t first, std::int64_t count) {
  std::vector<Real> output(chain.output.begin(), chain.output.end());
  for (std::int64_t batch = 0; batch < chain.batch; ++batch) {
    for (std::int64_t t = first; t < first + count; ++t) {
      const auto index = static_cast<std::size_t>(batch * chain.length + t);
      const double* source = &chain.input[index * static_cast<std::size_t>(chain.width_in())];
      std::vector<Real> row(source, source + chain.width_in());
      for (Real& number : row) number *= 2;
      for (std::size_t stage = 0; stage < chain.weights.size(); ++stage) {
        const Matrix& weight = chain.weights[stage];
        std::vector<Real> product(static_cast<std::size_t>(weight.rows), static_cast<Real>(chain.bias[index]));
        for (std::int64_t i = 0; i < weight.rows; ++i) {
          Real sum = 0;
          for (std::int64_t k = 0; k < weight.columns; ++k)
            sum += static_cast<Real>(weight(i, k)) * row[static_cast<std::size_t>(k)];
          product[static_cast<std::size_t>(i)] += sum;
        }
        row = product;
        if (stage + 1 == chain.weights.size()) break;
        for (Real& number : row) number = leaky(number);
      }
      for (std::size_t i = 0; i < row.size(); ++i) output[index * row.size() + i] += row[i];
    }
  }
  return output;
}

template <class Real>
void expect_right(const Chain& chain, std::int64_t first, std::int64_t count) {
  const DeviceChain<Real> device(chain);
  device.run(first, count, PanelBuffers<Real>(chain.widest()));
  const auto exact = plain_loops<double>(chain, first, count);
  const std::vector<std::int64_t> shape{chain.batch, chain.length, chain.width_out()};
  EXPECT_TRUE(
      all_close({to_host(device.output), shape}, {exact, shape}, bound(exact, plain_loops<Real>(chain, first, count))))
      << chain.weights.size() << " stages; rows " << first << " to " << first + count;
  const auto visits = to_host(device.visits);
  for (std::size_t i = 0; i < visits.size(); ++i) {
    const auto t = static_cast<std::int64_t>(i) % chain.length;
    ASSERT_EQ(visits[i], t >= first && t < first + count ? 101 : 0) << "row " << t;
  }
}

const std::vector<std::vector<std::int64_t>> stages{{7, 12},     {12, 1},         {33, 80, 5},
                                                    {1, 19, 64}, {12, 36, 5, 12}, {64, 31, 128, 7}};

template <class Real>
class PanelChain : public ::testing::Test {};
TYPED_TEST_SUITE(PanelChain, Reals, RealNames);

TYPED_TEST(PanelChain, one_to_three_products_are_those_of_plain_loops) {
  for (const auto& widths : stages) expect_right<TypeParam>(Chain(widths, 1, panel + 17), 0, panel + 17);
}

TYPED_TEST(PanelChain, rows_need_not_fit_panels) {
  const Chain chain({12, 19, 5}, 1, 3 * panel + 5);
  for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1}, panel / 2 + 3, panel - 1, panel, 2 * panel + 1}) {
    for (const std::int64_t count : {std::int64_t{1}, panel - 1, panel, panel + 1})
      expect_right<TypeParam>(chain, first, count);
  }
}

TYPED_TEST(PanelChain, rows_of_a_batch_are_taken_each_by_itself) {
  for (const auto& widths : stages) expect_right<TypeParam>(Chain(widths, 3, panel + 11), panel / 2 - 1, panel / 2 + 9);
}

TYPED_TEST(PanelChain, buffers_may_be_wider_than_the_rows) {
  const Chain chain({7, 12, 5}, 2, panel + 3);
  const DeviceChain<TypeParam> exact(chain), wide(chain);
  exact.run(0, chain.length, PanelBuffers<TypeParam>(12));
  wide.run(0, chain.length, PanelBuffers<TypeParam>(100));
  EXPECT_TRUE(same_bits(to_host(wide.output), to_host(exact.output), chain.width_out()));
}

TYPED_TEST(PanelChain, nothing_happens_without_rows) {
  expect_right<TypeParam>(Chain({7, 12}, 0, 5), 0, 5);
  expect_right<TypeParam>(Chain({7, 12}, 2, 5), 3, 0);
}

TYPED_TEST(PanelChain, buffers_that_are_too_narrow_are_refused) {
  for (const auto& widths :
       {std::vector<std::int64_t>{13, 12}, {12, 13}, {5, 13, 12}, {5, 13, 12, 6}, {5, 6, 12, 13}}) {
    const Chain chain(widths, 1, 9);
    const DeviceChain<TypeParam> device(chain);
    EXPECT_THROW(device.run(0, 9, PanelBuffers<TypeParam>(12)), ShapeError) << ::testing::PrintToString(widths);
    EXPECT_TRUE(same_bits(widen(to_host(device.output)), chain.output, chain.width_out()));
    EXPECT_NO_THROW(device.run(0, 9, PanelBuffers<TypeParam>(13)));
  }
}

TYPED_TEST(PanelChain, what_buffers_held_before_does_not_matter) {
  const Chain chain({7, 12, 5}, 1, panel + 3);
  const PanelBuffers<TypeParam> buffers(12);
  const std::int64_t bytes = PanelBuffers<TypeParam>::bytes(12) - kernels::tuning::product_workspace_bytes;
  const Array<TypeParam*> all(buffers.get(0, 0), static_cast<std::size_t>(bytes) / sizeof(TypeParam));
  Kokkos::deep_copy(all, std::numeric_limits<TypeParam>::quiet_NaN());
  const DeviceChain<TypeParam> device(chain), clean(chain);
  device.run(5, panel - 7, buffers);
  clean.run(5, panel - 7, PanelBuffers<TypeParam>(12));
  EXPECT_TRUE(same_bits(to_host(device.output), to_host(clean.output), chain.width_out()));
}

/// What ranks that own these parts of the rows compute, one after the other.
template <class Real>
std::vector<Real> in_parts(const Chain& chain, const std::vector<std::int64_t>& cuts) {
  const DeviceChain<Real> device(chain);
  const PanelBuffers<Real> buffers(chain.widest());
  for (std::size_t i = 1; i < cuts.size(); ++i) device.run(cuts[i - 1], cuts[i] - cuts[i - 1], buffers);
  return to_host(device.output);
}

/// Cuts in two, at places all over a panel and around its ends, and in many parts.
template <class Real>
void expect_equal_bits(const Chain& chain) {
  const std::int64_t length = chain.length;
  const auto whole = in_parts<Real>(chain, {0, length});
  for (std::int64_t cut = 1; cut < length; cut += cut < 14 || (cut > panel - 8 && cut < panel + 8) ? 1 : 97) {
    ASSERT_TRUE(same_bits(in_parts<Real>(chain, {0, cut, length}), whole, chain.width_out()))
        << "cut at " << cut << " of " << length;
  }
  for (const std::int64_t step : {std::int64_t{37}, panel / 3, panel / 2, panel - 1, panel, panel + 1}) {
    std::vector<std::int64_t> cuts{0};
    while (cuts.back() < length) cuts.push_back(std::min(cuts.back() + step, length));
    EXPECT_TRUE(same_bits(in_parts<Real>(chain, cuts), whole, chain.width_out())) << "cut every " << step;
  }
}

TYPED_TEST(PanelChain, any_split_of_the_rows_keeps_every_bit) {
  if (!kernels::on_host) GTEST_SKIP() << "promised on a host only: on a GPU the BLAS decides";
  for (const auto& widths : {std::vector<std::int64_t>{40, 72}, {33, 80, 5}, {64, 31, 128, 64}, {1030, 7}}) {
    expect_equal_bits<TypeParam>(Chain(widths, 2, 3 * panel + 17));
  }
}

}  // namespace
}  // namespace bsbr::testing
