#include "bsbr/weights.hpp"

#include <cmath>
#include <numbers>
#include <type_traits>

#include "bsbr/error.hpp"
#include "config/splitmix64.hpp"
#include "config/weight_table.hpp"

namespace bsbr {
namespace {

/// What must be equal for two configurations to have the same weights. One layer tells of all.
bool same_table(ModelConfig a, ModelConfig b) {
  if (a.num_layers != b.num_layers) return false;
  a.num_layers = b.num_layers = 1;
  const auto left = weight_table(a), right = weight_table(b);
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].name != right[i].name || left[i].shape != right[i].shape) return false;
  }
  return true;
}

/// Where a weight's stream of random numbers starts: FNV-1a of its name, mixed with the seed.
std::uint64_t stream_of(const std::string& name, std::uint64_t seed) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return splitmix64(hash ^ splitmix64(seed));
}

/// Number `index` of a stream, in (0, 1).
double uniform(std::uint64_t stream, std::uint64_t index) {
  return (static_cast<double>(splitmix64(stream + index) >> 11) + 0.5) * 0x1p-53;
}

double draw(const WeightInfo& weight, std::uint64_t stream, std::uint64_t index) {
  switch (weight.initialisation) {
    case Initialisation::ones:
      return 1;
    case Initialisation::zeros:
      return 0;
    case Initialisation::uniform:
      return weight.scale * (2 * uniform(stream, index) - 1);
    case Initialisation::normal: {  // Box and Muller 1958
      const double radius = std::sqrt(-2 * std::log(uniform(stream, 2 * index)));
      return weight.scale * radius * std::cos(2 * std::numbers::pi * uniform(stream, 2 * index + 1));
    }
  }
  throw Error("no such initialisation of " + weight.name);
}

}  // namespace

template <class Real>
WeightArray<Real>::WeightArray(const ModelConfig& config, const std::string& what)
    : m_architecture(config.architecture) {
  require_kokkos();
  config.validate();
  m_layout = std::make_shared<const WeightLayout>(config);
  const std::int64_t count = parameter_count(config);
  try {
    m_data = Array<Real*>(Kokkos::view_alloc("bsbr::" + what, Kokkos::WithoutInitializing), count);
  } catch (const std::exception& error) {
    throw MemoryError("no memory for " + std::to_string(count) + " " + what + ": " + error.what());
  }
  Kokkos::deep_copy(m_data, Real(0));
}

template <class Real>
WeightPlace WeightArray<Real>::place(const std::string& name) const {
  const auto found = m_layout->find(name);
  if (!found) throw Error("a " + std::string(to_string(m_architecture)) + " model has no weight " + name);
  return *found;
}

template <class Real>
std::int64_t WeightArray<Real>::offset(const std::string& name) const {
  return place(name).offset;
}

template <class Real>
Array<Real**> WeightArray<Real>::matrix(const std::string& name, int count) const {
  const WeightPlace found = place(name);
  return Array<Real**>(m_data.data() + found.offset, static_cast<std::size_t>(count * found.rows),
                       static_cast<std::size_t>(found.columns));
}

template <class Real>
Array<Real*> WeightArray<Real>::vector(const std::string& name, int count) const {
  const WeightPlace found = place(name);
  return Array<Real*>(m_data.data() + found.offset, static_cast<std::size_t>(count * found.rows));
}

template <class Real>
void Weights<Real>::set_config(const ModelConfig& config) {
  config.validate();
  if (config.architecture != m_config.architecture || !same_table(config, m_config)) {
    throw ConfigError("these weights do not fit another configuration's table of weights");
  }
  m_config = config;
}

template <class Real>
void Weights<Real>::set_rounding(Rounding rounding) {
  if (rounding != Rounding::none && !std::is_same_v<Real, float>)
    throw ConfigError("bfloat16 products have sums in float: a model in double cannot have them");
  m_rounding = rounding;
}

template <class Real>
Weights<Real> random_weights(const ModelConfig& config, std::uint64_t seed) {
  Weights<Real> weights(config);
  const auto host = Kokkos::create_mirror_view(weights.data());
  WeightLayout(config).for_each([&](const WeightInfo& weight, std::int64_t offset) {
    const std::uint64_t stream = stream_of(weight.name, seed);
    Real* first = host.data() + offset;
    for (std::int64_t i = 0; i < weight.size(); ++i)
      first[i] = static_cast<Real>(draw(weight, stream, static_cast<std::uint64_t>(i)));
  });
  Kokkos::deep_copy(weights.data(), host);
  return weights;
}

template class WeightArray<float>;
template class WeightArray<double>;
template class Weights<float>;
template class Weights<double>;
template Weights<float> random_weights<float>(const ModelConfig&, std::uint64_t);
template Weights<double> random_weights<double>(const ModelConfig&, std::uint64_t);

}  // namespace bsbr
