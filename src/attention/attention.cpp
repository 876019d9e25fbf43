// The list of attentions that are built: the one place where an architecture's class is named.
#include "attention/attention.hpp"

#include "attention/bsbr.hpp"
#include "bsbr/error.hpp"

namespace bsbr {
namespace {

[[noreturn]] void refuse(Architecture architecture) {
  throw ConfigError("architecture = " + std::string(to_string(architecture)) + " is not built in this version, only bsbr is",
                    "models that this version makes of the other architectures are for later ones");
}

}  // namespace

template <class Real>
std::unique_ptr<Attention<Real>> Attention<Real>::create(const ModelConfig& config, const Sequence& sequence) {
  require_kokkos();
  config.validate();
  switch (config.architecture) {
    case Architecture::bsbr:
      return std::make_unique<attention::Bsbr<Real>>(config, sequence);
    default:
      refuse(config.architecture);
  }
}

namespace attention {

template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence) {
  switch (config.architecture) {
    case Architecture::bsbr:
      return Bsbr<Real>::workspace_bytes(config, sequence);
    default:
      refuse(config.architecture);
  }
}

namespace {

std::string extents(const std::string& name, std::int64_t batch, std::int64_t rows, std::int64_t columns) {
  return name + " is [" + std::to_string(batch) + ", " + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace

template <class Real>
void require_rows(const std::string& name, const Strided<const Real***>& rows, std::int64_t batch, std::int64_t count, std::int64_t width) {
  const auto extent = [&](int i) { return static_cast<std::int64_t>(rows.extent(static_cast<std::size_t>(i))); };
  if (extent(0) != batch || extent(1) != count || extent(2) != width) {
    throw ShapeError(extents(name, extent(0), extent(1), extent(2)) + ", " + extents("it", batch, count, width) + " that is needed");
  }
  if (rows.size() > 0 && width > 1 && rows.stride(2) != 1)
    throw ShapeError(name + " has stride " + std::to_string(rows.stride(2)) + " in its last index, which must be 1");
}

template std::int64_t workspace_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t workspace_bytes<double>(const ModelConfig&, const Sequence&);
template void require_rows<float>(const std::string&, const Strided<const float***>&, std::int64_t, std::int64_t, std::int64_t);
template void require_rows<double>(const std::string&, const Strided<const double***>&, std::int64_t, std::int64_t, std::int64_t);

}  // namespace attention

template class Attention<float>;
template class Attention<double>;

}  // namespace bsbr
