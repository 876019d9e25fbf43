// Gradients of scans: against plain loops, which are checked by central differences, and the same bits however tokens
// are shared out.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>

#include "architectures/delta_net/rule.hpp"
#include "architectures/gau/rule.hpp"
#include "architectures/linear/rule.hpp"
#include "attention/running_state.hpp"
#include "attention/state_gradient.hpp"
#include "support/allocations.hpp"
#include "support/device_arrays.hpp"
#include "support/kept_results.hpp"
#include "support/naive_state_gradients.hpp"

namespace bsbr::testing {
namespace {

/// A state that decays, in each head in its own way.
template <class Real>
struct DecayRule {
  static constexpr bool sees_own_step = true, corrects_state = false;
  KOKKOS_FUNCTION int extra_columns() const { return 0; }
  KOKKOS_FUNCTION Real decay(std::int64_t head) const { return head == 0 ? Real(0.75) : Real(0.96875); }
  KOKKOS_FUNCTION bool maps() const { return false; }
  template <class Wanted>
  KOKKOS_FUNCTION void map(const kernels::Team&, std::int64_t, const kernels::TileRows<Real>&, const Wanted&) const {}
  template <class Tile>
  KOKKOS_FUNCTION void prepare(const kernels::Team&, const Tile&, int) const {}
  KOKKOS_FUNCTION auto store(std::int64_t, std::int64_t, std::int64_t, int, const Real* row, Real* output) const {
    return [=](const int i) { output[i] = row[i]; };
  }
};

struct Shape {
  std::int64_t batch, length, heads, width, chunk_size;

  std::int64_t columns() const { return heads * width; }
  std::string name() const {
    return std::to_string(batch) + " sequences of " + std::to_string(length) + " tokens, " + std::to_string(heads) +
           " heads of " + std::to_string(width) + ", chunks of " + std::to_string(chunk_size);
  }
};

/// Rows [batch, tokens, heads · width], and the mask [batch, tokens]: 1 = real; empty: all are.
struct ScanNumbers {
  std::vector<double> query, key, value, output_gradient;
  std::vector<std::uint8_t> mask;

  bool is_real(std::size_t row) const { return mask.empty() || mask[row] != 0; }
};

/// Normal numbers that float holds; `padding`: the share of tokens that are. Keys and values of padding are not
/// numbers.
ScanNumbers random_numbers(const Shape& shape, double padding, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  const auto rows = static_cast<std::size_t>(shape.batch * shape.length);
  const auto columns = static_cast<std::size_t>(shape.columns());
  const auto draw = [&] {
    std::vector<double> numbers(rows * columns);
    for (double& number : numbers) number = static_cast<double>(static_cast<float>(normal(engine)));
    return numbers;
  };
  ScanNumbers numbers{draw(), draw(), draw(), draw(), {}};
  for (std::size_t row = 0; padding > 0 && row < rows; ++row) {
    numbers.mask.push_back(std::uniform_real_distribution<>()(engine) < padding ? 0 : 1);
    for (std::size_t i = 0; i < columns && !numbers.is_real(row); ++i)
      numbers.key[row * columns + i] = numbers.value[row * columns + i] = std::nan("");
  }
  return numbers;
}

/// Rows as a kernel or a rank has them, or plain loops.
template <class Real>
struct Gradients {
  std::vector<Real> output, query, key, value;  // [batch, tokens, heads · width]
};

/// What a rule does in plain loops; by head, as states may decay in different ways.
struct Kind {
  std::string name;
  std::function<NaiveScan(std::int64_t head, const Shape& shape)> naive;
};

template <class Real>
Gradients<Real> plain_gradients(const Kind& kind, const Shape& shape, const ScanNumbers& numbers) {
  const auto columns = static_cast<std::size_t>(shape.columns()), width = static_cast<std::size_t>(shape.width);
  const auto tokens = static_cast<std::size_t>(shape.length);
  Gradients<Real> all;
  all.output = all.query = all.key = all.value = std::vector<Real>(numbers.query.size());
  for (std::size_t sequence = 0; sequence < static_cast<std::size_t>(shape.batch); ++sequence) {
    for (std::size_t head = 0; head < static_cast<std::size_t>(shape.heads); ++head) {
      const auto at = [&](std::size_t t) { return (sequence * tokens + t) * columns + head * width; };
      const auto rows = [&](const std::vector<double>& from) {
        NaiveRows<Real> result;
        for (std::size_t t = 0; t < tokens; ++t) {
          result.emplace_back();
          for (std::size_t i = 0; i < width; ++i) result.back().push_back(static_cast<Real>(from[at(t) + i]));
        }
        return result;
      };
      NaiveHead<Real> of_head{rows(numbers.query), rows(numbers.key), rows(numbers.value), {}};
      for (std::size_t t = 0; t < tokens; ++t) of_head.real.push_back(numbers.is_real(sequence * tokens + t));
      const NaiveStateGradient<Real> plain(kind.naive(static_cast<std::int64_t>(head), shape), of_head,
                                           rows(numbers.output_gradient));
      const auto put = [&](const NaiveRows<Real>& from, std::vector<Real>& to) {
        for (std::size_t t = 0; t < tokens; ++t)
          std::copy_n(from[t].begin(), width, to.begin() + static_cast<std::ptrdiff_t>(at(t)));
      };
      put(plain.output, all.output);
      put(plain.query, all.query);
      put(plain.key, all.key);
      put(plain.value, all.value);
    }
  }
  return all;
}

ModelConfig config_of(const Shape& shape) {
  ModelConfig config;
  config.architecture = Architecture::linear;
  config.num_heads = shape.heads;
  config.hidden_dim = shape.columns();
  config.chunk_size = shape.chunk_size;
  return config;
}

/// The elements of this rank's tokens, of `width` for each.
template <class Number>
std::vector<Number> of_rank(const Sequence& sequence, const std::vector<Number>& all, std::int64_t width) {
  std::vector<Number> part;
  for (std::int64_t row = 0; row < sequence.batch(); ++row) {
    const auto rows = rows_of(all, width, row * sequence.length() + sequence.first_token(), sequence.local_tokens());
    part.insert(part.end(), rows.begin(), rows.end());
  }
  return part;
}

/// The gradients of this rank's tokens, after a forward that keeps what they need. step: of a rule that has steps.
/// Collective.
template <class Real, class Rule>
Gradients<Real> gradients(const ModelConfig& config, Rule rule, const Shape& shape, const ScanNumbers& numbers,
                          std::int64_t step = 0, MPI_Comm comm = MPI_COMM_SELF) {
  const Execution execution;
  const Sequence sequence(comm, shape.batch, shape.length, shape.chunk_size);
  const std::int64_t tokens = sequence.local_tokens(), columns = shape.columns();
  const auto rows = [&](const std::vector<double>& all) {
    return Strided<const Real***>(to_device<Real***>(of_rank(sequence, all, columns), shape.batch, tokens, columns));
  };
  const auto empty = [&](const char* label, std::int64_t width) {
    const Array<Real***> array(std::string(label), shape.batch, tokens, width);
    Kokkos::deep_copy(array, std::numeric_limits<Real>::quiet_NaN());  // all of it must be written
    return array;
  };
  const PaddingMask mask = numbers.mask.empty()
                               ? PaddingMask(execution, sequence)
                               : PaddingMask(execution, sequence,
                                             Array<const std::uint8_t**>(to_device<std::uint8_t**>(
                                                 of_rank(sequence, numbers.mask, 1), shape.batch, tokens)));
  const Array<Real***> output = empty("test::output", columns), query = empty("test::query", columns),
                       key = empty("test::key", columns), value = empty("test::value", columns);
  attention::StateGradientInput<Real> input{.query = rows(numbers.query),
                                            .key = rows(numbers.key),
                                            .value = rows(numbers.value),
                                            .output_gradient = rows(numbers.output_gradient),
                                            .output = output,
                                            .kept = {}};
  if constexpr (Rule::sees_own_step) {
    if constexpr (requires { Rule::kept_elements(config); }) {
      input.kept = empty("test::kept", Rule::kept_elements(config));
      rule.keep_in(input.kept);
    }
    AttentionInput<Real> given;
    given.query = input.query;
    given.key = input.key;
    given.value = input.value;
    attention::RunningState<Real> state(config, sequence, Rounding::none,
                                        kernels::tokens_of_scan_tile<Real>(rule, static_cast<int>(shape.width)), rule);
    const auto keys = state.keys(execution, mask, given, nullptr, nullptr);
    state.scan(execution, mask, given, keys, rule, output, nullptr, nullptr);
  }
  using StateGradient = attention::StateGradient<Real, Rule>;
  std::optional<StateGradient> gradient;
  {
    const AllocationRecorder recorder;
    gradient.emplace(config, sequence, rule, step);
    expect_predicted(StateGradient::bytes(config, sequence, rule, step), recorder.without({}));
  }
  gradient->form(execution, mask, input, {query, key, value}, nullptr);
  execution.fence();
  return {to_host(output), to_host(query), to_host(key), to_host(value)};
}

/// check(kind, run) for all rules; run(shape, numbers, comm): the gradients by the kernels.
template <class Real, class Check>
void for_each_rule(const Check& check) {
  const auto run = [&](const Kind& kind, const auto& make_rule) {
    SCOPED_TRACE(kind.name);
    check(kind, [&](const Shape& shape, const ScanNumbers& numbers, MPI_Comm comm) {
      ModelConfig config = config_of(shape);
      const auto rule = make_rule(config);
      return gradients<Real>(config, rule, shape, numbers, shape.chunk_size, comm);
    });
  };
  run({"linear", [](std::int64_t, const Shape&) { return NaiveScan(); }},
      [](const ModelConfig& config) { return attention::LinearRule<Real>(config); });
  run({"linear with elu",
       [](std::int64_t, const Shape&) { return NaiveScan{.kind = NaiveScan::Kind::normalised_sums}; }},
      [](ModelConfig& config) {
        config.feature_map = FeatureMap::elu;
        return attention::LinearRule<Real>(config);
      });
  for (const double beta : {0.9, 0.5}) {
    run({"delta_net of " + std::to_string(beta),
         [=](std::int64_t, const Shape&) { return NaiveScan{.kind = NaiveScan::Kind::delta_rule, .beta = beta}; }},
        [=](ModelConfig& config) {
          config.beta = beta;
          return attention::DeltaNetRule<Real>(config);
        });
  }
  run({"gau between chunks", [](std::int64_t, const Shape& shape) { return NaiveScan{.step = shape.chunk_size}; }},
      [](const ModelConfig&) { return attention::GauRule<Real>(); });
  run({"a state that decays",
       [](std::int64_t head, const Shape&) { return NaiveScan{.decay = head == 0 ? 0.75 : 0.96875}; }},
      [](const ModelConfig&) { return DecayRule<Real>(); });
}

template <class Real>
class ScanGradient : public ::testing::Test {
 protected:
  using Rows = std::vector<Real> Gradients<Real>::*;
  static constexpr std::pair<const char*, Rows> gradients_of[3] = {// nvcc does not count them
                                                                   {"dq", &Gradients<Real>::query},
                                                                   {"dk", &Gradients<Real>::key},
                                                                   {"dv", &Gradients<Real>::value}};

  /// Against plain loops in double, as far off as plain loops in Real allow.
  static void expect_right(const Kind& kind, const Shape& shape, const ScanNumbers& numbers,
                           const Gradients<Real>& actual) {
    SCOPED_TRACE(shape.name());
    const auto exact = plain_gradients<double>(kind, shape, numbers);
    const auto plain = sizeof(Real) == 4 ? plain_gradients<Real>(kind, shape, numbers) : Gradients<Real>();
    for (const auto& [name, rows] : gradients_of) {
      const std::vector<double> expected = exact.*of_double(rows);
      const double scale = 1 + largest_magnitude(expected);
      const double lost = sizeof(Real) == 4 ? largest_difference(widen(plain.*rows), expected) : 0;
      const double bound = sizeof(Real) == 4 ? 3 * lost + 1e-5 * scale : 1e-12 * scale;
      EXPECT_TRUE(all_close({actual.*rows, {shape.batch, shape.length, shape.columns()}},
                            {expected, {shape.batch, shape.length, shape.columns()}}, bound))
          << name;
    }
  }

  static void expect_same(const Gradients<Real>& actual, const Gradients<Real>& expected, std::int64_t columns) {
    for (const auto& [name, rows] : gradients_of) EXPECT_TRUE(same_bits(actual.*rows, expected.*rows, columns)) << name;
  }

 private:
  static std::vector<double> Gradients<double>::*of_double(Rows rows) {
    return rows == &Gradients<Real>::query ? &Gradients<double>::query
           : rows == &Gradients<Real>::key ? &Gradients<double>::key
                                           : &Gradients<double>::value;
  }
};
TYPED_TEST_SUITE(ScanGradient, Reals, RealNames);

TYPED_TEST(ScanGradient, is_that_of_the_recurrence_token_by_token) {
  for_each_rule<TypeParam>([&](const Kind& kind, const auto& run) {
    for (const std::int64_t width : {1, 3, 33, 64, 80}) {
      for (const std::int64_t length : {1, 63, 64, 65, 150}) {
        if (width > 33 && length != 65) continue;
        const Shape shape{1, length, 2, width, 70};
        const auto numbers = random_numbers(shape, 0, 31);
        this->expect_right(kind, shape, numbers, run(shape, numbers, MPI_COMM_SELF));
      }
    }
  });
}

TYPED_TEST(ScanGradient, is_that_of_the_recurrence_around_the_borders_of_segments) {
  for_each_rule<TypeParam>([&](const Kind& kind, const auto& run) {
    for (const std::int64_t length : {1023, 1024, 1025, 2600}) {
      const Shape shape{1, length, 1, length == 1025 ? 33 : 8, length % 2 == 0 ? 64 : 300};
      const auto numbers = random_numbers(shape, 0, 32);
      this->expect_right(kind, shape, numbers, run(shape, numbers, MPI_COMM_SELF));
    }
  });
}

TYPED_TEST(ScanGradient, leaves_out_padding_whatever_it_holds) {
  for_each_rule<TypeParam>([&](const Kind& kind, const auto& run) {
    for (const std::int64_t length : {5, 130, 1100}) {
      const Shape shape{2, length, 2, 6, 50};
      auto numbers = random_numbers(shape, 0.3, 33);
      for (std::size_t t = 0; t < 4; ++t) numbers.mask[t] = 0;  // tokens that see nothing
      this->expect_right(kind, shape, numbers, run(shape, numbers, MPI_COMM_SELF));
    }
  });
}

TYPED_TEST(ScanGradient, has_the_same_bits_for_each_sequence_of_a_batch) {
  for_each_rule<TypeParam>([&](const Kind&, const auto& run) {
    const Shape shape{2, 2100, 1, 20, 64}, alone{1, 2100, 1, 20, 64};  // alone: several segments at a time
    const auto numbers = random_numbers(shape, 0.2, 34);
    const auto all = run(shape, numbers, MPI_COMM_SELF);
    for (std::int64_t row = 0; row < shape.batch; ++row) {
      const auto part = [&](const auto& of, std::int64_t width) {
        return rows_of(of, width, row * shape.length, shape.length);
      };
      const auto columns = shape.columns();
      const ScanNumbers of_row{part(numbers.query, columns), part(numbers.key, columns), part(numbers.value, columns),
                               part(numbers.output_gradient, columns), part(numbers.mask, 1)};
      this->expect_same(run(alone, of_row, MPI_COMM_SELF),
                        {{}, part(all.query, columns), part(all.key, columns), part(all.value, columns)}, columns);
    }
  });
}

/// ctest runs this program once for each number of threads, see CMakeLists.txt: the run with one writes what the others
/// compare with.
TYPED_TEST(ScanGradient, has_the_same_bits_on_any_number_of_threads) {
  int number = 0;
  for_each_rule<TypeParam>([&](const Kind&, const auto& run) {
    const Shape shape{1, 2100, 3, 20, 64};
    const auto result = run(shape, random_numbers(shape, 0.2, 37), MPI_COMM_SELF);
    const std::string name = "scan_gradient_" + std::to_string(number++) + "_";
    for (const auto& [of, rows] : this->gradients_of) compare_with_kept(name + of, result.*rows, shape.columns());
  });
}

TYPED_TEST(ScanGradient, has_the_same_bits_on_any_number_of_ranks) {
  for_each_rule<TypeParam>([&](const Kind&, const auto& run) {
    for (const Shape& shape : {Shape{2, 20, 2, 5, 7}, Shape{1, 333, 2, 5, 7}, Shape{1, 1100, 1, 5, 64},
                               Shape{2, 1500, 1, 5, 100}, Shape{1, 2600, 2, 5, 700}}) {
      SCOPED_TRACE(shape.name());
      const auto numbers = random_numbers(shape, shape.chunk_size == 64 ? 0 : 0.3, 35);
      const Sequence sequence(MPI_COMM_WORLD, shape.batch, shape.length, shape.chunk_size);
      const auto whole = run(shape, numbers, MPI_COMM_SELF), part = run(shape, numbers, MPI_COMM_WORLD);
      const auto of_this = [&](const std::vector<TypeParam>& all) { return of_rank(sequence, all, shape.columns()); };
      this->expect_same(part, {{}, of_this(whole.query), of_this(whole.key), of_this(whole.value)}, shape.columns());
    }
  });
}

/// (loss with x + h − loss with x − h) / 2h of every number of queries, keys and values, loss = Σ do·o.
TEST(NaiveStateGradient, is_what_central_differences_say) {
  for_each_rule<double>([&](const Kind& kind, const auto&) {
    const Shape shape{1, 9, 2, 3, 4};
    auto numbers = random_numbers(shape, 0, 36);
    numbers.mask = {1, 1, 0, 1, 1, 0, 1, 1, 1};
    const auto gradients = plain_gradients<double>(kind, shape, numbers);
    const auto loss = [&] {
      const auto output = plain_gradients<double>(kind, shape, numbers).output;
      double sum = 0;
      for (std::size_t i = 0; i < output.size(); ++i) sum += output[i] * numbers.output_gradient[i];
      return sum;
    };
    const auto expect = [&](std::vector<double>& at, const std::vector<double>& gradient, const char* name) {
      for (std::size_t i = 0; i < at.size(); ++i) {
        const double x = at[i], h = 1e-5;
        at[i] = x + h;
        const double above = loss();
        at[i] = x - h;
        const double below = loss();
        at[i] = x;
        EXPECT_NEAR(gradient[i], (above - below) / (2 * h), 1e-7 * (1 + std::abs(gradient[i]))) << name << " " << i;
      }
    };
    expect(numbers.query, gradients.query, "query");
    expect(numbers.key, gradients.key, "key");
    expect(numbers.value, gradients.value, "value");
  });
}

}  // namespace
}  // namespace bsbr::testing
