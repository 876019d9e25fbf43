// The number of threads changes no bit of a gradient. Threads are fixed when Kokkos starts, so ctest runs this program
// several times: once with one thread, which keeps its results, then with more, which are compared with them.
#include <gtest/gtest.h>

#include "kernels/adamw.hpp"
#include "kernels/embedding.hpp"
#include "kernels/outer_product.hpp"
#include "kernels/panel_chain.hpp"
#include "kernels/row_sums.hpp"
#include "kernels/square_sums.hpp"
#include "kernels/token_loss_gradient.hpp"
#include "support/device_arrays.hpp"
#include "support/kept_results.hpp"
#include "support/random_model.hpp"

namespace bsbr::testing {
namespace {

constexpr std::int64_t rows = kernels::HostSizes::product_depth + 70, width = 150, vocab = 1200;

template <class Real>
Array<Real**> random_array(std::int64_t height, std::int64_t columns, std::uint64_t seed) {
  return to_device<Real**>(random_matrix(height, columns, seed).values, height, columns);
}

/// dy [rows, 530] · W [530, width]
template <class Real>
Array<Real**> transposed_product() {
  const kernels::ProductWeight<Real> weight(random_array<Real>(530, width, 1), kernels::Transpose::yes);
  const auto result = Array<Real**>("test::result", rows, width), dy = random_array<Real>(rows, 530, 2);
  const auto load = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t row, Real* data) {
    kernels::copy(team, 530, &dy(row, 0), data);
  };
  const auto store = KOKKOS_LAMBDA(const kernels::Team& team, std::int64_t, std::int64_t row, const Real* data) {
    kernels::copy(team, static_cast<int>(width), data, &result(row, 0));
  };
  kernels::panel_chain(Execution(), "test::product", {1, rows}, kernels::PanelBuffers<Real>(530), load,
                       kernels::Stage{weight, store});
  return result;
}

template <class Real>
class GradientThreads : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::on_host) GTEST_SKIP() << "promised on a host only: elsewhere teams and the BLAS decide";
    if (!keeps_results()) GTEST_SKIP() << no_results_kept;
    this->RecordProperty("threads", Execution().concurrency());
  }

  void check(const std::string& name, const Array<Real**>& result) {
    Execution().fence();
    compare_with_kept(name, to_host(result), static_cast<std::int64_t>(result.extent(1)));
  }
  void check(const std::string& name, const Array<Real*>& result) {
    Execution().fence();
    compare_with_kept(name, to_host(result), 1);
  }
};
TYPED_TEST_SUITE(GradientThreads, Reals, RealNames);

TYPED_TEST(GradientThreads, change_no_bit_of_a_product_with_a_transposed_weight) {
  this->check("transposed_product", transposed_product<TypeParam>());
}

TYPED_TEST(GradientThreads, change_no_bit_of_an_outer_product) {
  const auto result = random_array<TypeParam>(width, 300, 3);
  const kernels::OuterProductBuffers<TypeParam> buffers(kernels::OuterProductBuffers<TypeParam>::elements(width, 300));
  kernels::add_outer_product(Execution(), buffers, random_array<TypeParam>(rows, width, 4),
                             random_array<TypeParam>(rows, 300, 5), result);
  this->check("outer_product", result);
}

TYPED_TEST(GradientThreads, change_no_bit_of_sums_over_rows) {
  const auto x = random_array<TypeParam>(rows, width, 6), dy = random_array<TypeParam>(rows, width, 7),
             dx = random_array<TypeParam>(rows, width, 8);
  const auto weight = to_device<TypeParam*>(random_matrix(1, width, 9).values, width);
  const Array<TypeParam*> bias_gradient("test::bias", width), norm_weight("test::weight", width),
      norm_bias("test::norm_bias", width);
  const kernels::RowSumBuffers<TypeParam> buffers(rows, 2 * width);
  kernels::add_bias_gradient(Execution(), buffers, dy, bias_gradient);
  kernels::add_norm_gradients(Execution(), buffers, x, weight, dy, dx, norm_weight, norm_bias);
  this->check("bias", bias_gradient);
  this->check("norm_dx", dx);
  this->check("norm_weight", norm_weight);
  this->check("norm_bias", norm_bias);
}

TYPED_TEST(GradientThreads, change_no_bit_of_the_embedding_s) {
  const auto result = random_array<TypeParam>(vocab, width, 10);
  kernels::add_embedding_gradient(Execution(), to_device<std::int32_t*>(random_ids(rows, 20, 11), rows),
                                  random_array<TypeParam>(rows, width, 12), result);
  this->check("embedding", result);
}

TYPED_TEST(GradientThreads, change_no_bit_of_the_head_s) {
  const auto weight = random_array<TypeParam>(vocab, width, 13);
  const auto head = kernels::vocabulary_blocks<TypeParam>(weight),
             transposed = kernels::vocabulary_blocks<TypeParam>(weight, kernels::Transpose::yes);
  const kernels::PanelBuffers<TypeParam> panels(kernels::token_loss_width(vocab, width));
  const kernels::OuterProductBuffers<TypeParam> outer(
      kernels::OuterProductBuffers<TypeParam>::elements(kernels::tuning::vocabulary_block, width));
  const auto dy = random_array<TypeParam>(rows, width, 14), d_weight = random_array<TypeParam>(vocab, width, 15);
  const kernels::LossTokens tokens{to_device<std::int32_t*>(random_ids(rows, vocab, 16), rows),
                                   to_device<double*>(std::vector<double>(rows, 40.0), rows)};
  kernels::add_token_loss_gradient(Execution(), panels, outer, kernels::LogitGradientBuffer<TypeParam>(rows, vocab),
                                   head, transposed, random_array<TypeParam>(rows, width, 17), tokens, 0.25, dy,
                                   d_weight);
  this->check("head_dy", dy);
  this->check("head_weight", d_weight);
}

TYPED_TEST(GradientThreads, change_no_bit_of_the_squares_of_a_gradient) {
  const std::int64_t count = 9 * kernels::norm_block + 123;
  const Array<double*> sums("test::sums", kernels::norm_blocks(count));
  kernels::square_sums<TypeParam>(Execution(), to_device<TypeParam*>(random_matrix(1, count, 18).values, count), sums);
  Execution().fence();
  compare_with_kept(sizeof(TypeParam) == 4 ? "squares_of_floats" : "squares_of_doubles", to_host(sums), 1);
}

TYPED_TEST(GradientThreads, change_no_bit_of_a_step_of_adamw) {
  const std::int64_t count = 5 * kernels::HostSizes::thread_elements + 77;
  const auto numbers = [&](std::uint64_t seed) {
    return to_device<TypeParam*>(random_matrix(1, count, seed).values, count);
  };
  const auto starts = to_device<std::int64_t*>(std::vector<std::int64_t>{0, 5000, 5003, count}, 4);
  const auto weights = numbers(19), first_moments = numbers(20), second_moments = numbers(21);
  Kokkos::deep_copy(second_moments, TypeParam(0.5));
  const kernels::AdamWStep<TypeParam> step{TypeParam(0.3),  TypeParam(0.9),  TypeParam(0.1), TypeParam(0.2),
                                           TypeParam(0.95), TypeParam(0.05), TypeParam(0.1), TypeParam(1e-8),
                                           TypeParam(0.1),  TypeParam(0.01)};
  kernels::adamw<TypeParam>(Execution(), step, starts, true, numbers(22), weights, first_moments, second_moments);
  this->check("adamw_weights", weights);
  this->check("adamw_first_moments", first_moments);
  this->check("adamw_second_moments", second_moments);
}

}  // namespace
}  // namespace bsbr::testing
