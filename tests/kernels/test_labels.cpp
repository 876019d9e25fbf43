// Labels for Kokkos Tools: whoever profiles a program of theirs sees which kernels, arrays and regions are this
// library's.
#include <gtest/gtest.h>
#include <mpi.h>

#include <Kokkos_Core.hpp>
#include <mutex>
#include <ostream>
#include <set>

#include "support/run_model.hpp"
#include "support/variants.hpp"

namespace bsbr::testing {
namespace {

/// What Kokkos reports: its callbacks know no context. They may come from several threads at a time.
struct Seen {
  std::set<std::string> kernels, arrays, regions;
};
Seen seen;

void note(std::set<std::string>& labels, const char* label) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  labels.insert(label);
}

void note_kernel(const char* label, const std::uint32_t, std::uint64_t*) { note(seen.kernels, label); }
void note_array(const Kokkos::Tools::SpaceHandle, const char* label, const void*, const std::uint64_t) {
  note(seen.arrays, label);
}
void note_region(const char* label) { note(seen.regions, label); }

/// What is reported while function() runs.
template <class Function>
Seen report(Function&& function) {
  namespace tools = Kokkos::Tools::Experimental;
  const auto before = tools::get_callbacks();
  seen = {};
  tools::set_begin_parallel_for_callback(note_kernel);
  tools::set_begin_parallel_reduce_callback(note_kernel);
  tools::set_begin_parallel_scan_callback(note_kernel);
  tools::set_allocate_data_callback(note_array);
  tools::set_push_region_callback(note_region);
  function();
  tools::set_callbacks(before);
  return seen;
}

bool is_ours(const std::string& label) { return label.starts_with("bsbr::"); }

/// Kokkos fills arrays with kernels of its own: "Kokkos::View::initialization [bsbr::model::hidden_states]",
/// "Kokkos::ViewFill-1D".
bool fills_an_array_of_ours(const std::string& label) {
  if (!label.starts_with("Kokkos::View")) return false;
  const auto bracket = label.find('[');
  return bracket == std::string::npos || is_ours(label.substr(bracket + 1));
}

/// A variant, with padding or without.
struct Shape {
  ModelConfig config;
  bool masked;

  std::string name() const { return variant_name(config) + (masked ? "_masked" : ""); }
};

std::ostream& operator<<(std::ostream& out, const Shape& shape) { return out << shape.name(); }

class Labels : public ::testing::TestWithParam<Shape> {};

template <class Real>
Seen report_of_forward(const Shape& shape) {
  const ModelConfig& config = shape.config;
  const auto weights = random_weights<Real>(config, 1);
  const Sequence sequence(MPI_COMM_WORLD, 2, 23, config.chunk_size);
  const auto ids = local_part<std::int32_t>(sequence, random_ids(2 * 23, config.vocab_size, 2));
  std::optional<Array<const std::uint8_t**>> mask;
  if (shape.masked) mask = local_part<std::uint8_t>(sequence, random_mask(2 * 23, 0.3, 3));
  const auto forward = [&] { Model<Real>(weights).forward(Execution(), sequence, ids, mask); };
  forward();  // Kokkos' own scratch memory grows now, without a label
  return report(forward);
}

/// The kernels of an attention that whoever profiles it looks for: one of each phase whose operations are counted.
std::vector<std::string> steps_of(const ModelConfig& config) {
  const std::map<std::string, std::string> kernel_of{
      {"within_chunk", "within_chunk"},
      {"attention", "softmax"},
      {"scan", "scan"},
      {"states", compresses_states(config) ? "compress_states" : "form_states"},
      {"mixing", "mix_states"},
      {"retrieval", compresses_states(config) ? "decompress_states" : "retrieve"}};
  std::vector<std::string> steps;
  for (const auto& entry : traits(config.architecture).flops(config, FlopSizes(config, 23))) {
    if (entry.first != "project") steps.push_back(kernel_of.at(entry.first));
  }
  return steps;
}

template <class Real>
void expect_labels_of_ours(const Shape& shape) {
  const auto reported = report_of_forward<Real>(shape);
  EXPECT_GE(reported.kernels.size(), 5u) << ::testing::PrintToString(reported.kernels);
  for (const auto& label : reported.kernels)
    EXPECT_TRUE(is_ours(label) || fills_an_array_of_ours(label)) << "kernel '" << label << "'";
  EXPECT_GE(reported.arrays.size(), 5u) << ::testing::PrintToString(reported.arrays);
  for (const auto& label : reported.arrays) EXPECT_TRUE(is_ours(label)) << "array '" << label << "'";
  EXPECT_GE(reported.regions.size(), 5u) << ::testing::PrintToString(reported.regions);
  for (const auto& label : reported.regions)
    EXPECT_TRUE(is_ours(label) || label.starts_with("KokkosBlas::")) << "region '" << label << "'";
}

TEST_P(Labels, of_all_kernels_arrays_and_regions_of_a_forward_pass_begin_with_bsbr) {
  expect_labels_of_ours<float>(GetParam());
  expect_labels_of_ours<double>(GetParam());
}

TEST_P(Labels, name_the_steps_of_a_forward_pass) {
  const auto kernels = report_of_forward<float>(GetParam()).kernels;
  std::vector<std::string> steps{"bsbr::embedding::embed", "bsbr::layer::project", "bsbr::layer::finish",
                                 "bsbr::model::final_norm"};
  for (const auto& step : steps_of(GetParam().config)) steps.push_back("bsbr::attention::" + step);
  for (const auto& step : steps)
    EXPECT_EQ(kernels.count(step), 1u) << step << " is not among " << ::testing::PrintToString(kernels);
}

std::vector<Shape> shapes() {
  std::vector<Shape> all;
  for (const ModelConfig& config : variants(small_config(Architecture::bsbr))) {
    for (const bool masked : {false, true}) all.push_back({config, masked});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Shapes, Labels, ::testing::ValuesIn(shapes()),
                         [](const auto& test) { return test.param.name(); });

}  // namespace
}  // namespace bsbr::testing
