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
  if (sequence.chunk_size() != config.chunk_size) {
    throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                     ", the configuration has chunk_size = " + std::to_string(config.chunk_size));
  }
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

template <class Real>
std::int64_t scratch_bytes(const ModelConfig& config) {
  switch (config.architecture) {
    case Architecture::bsbr:
      return Bsbr<Real>::scratch_bytes(config);
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

void require_mask(const PaddingMask& mask, const Sequence& sequence) {
  const auto require = [](const char* name, const auto& array, std::int64_t batch, std::int64_t count) {
    const auto rows = static_cast<std::int64_t>(array.extent(0)), columns = static_cast<std::int64_t>(array.extent(1));
    if (rows == batch && columns == count) return;
    throw ShapeError("the padding mask was made for another sequence: its " + std::string(name) + " are [" + std::to_string(rows) + ", " +
                     std::to_string(columns) + "], not [" + std::to_string(batch) + ", " + std::to_string(count) + "]");
  };
  require("chunks", mask.real_chunks(), sequence.batch(), sequence.num_chunks());
  require("local chunks", mask.last_real(), sequence.batch(), sequence.local_chunks());
  if (mask.has_padding()) require("local tokens", mask.tokens(), sequence.batch(), sequence.local_tokens());
}

template std::int64_t workspace_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t workspace_bytes<double>(const ModelConfig&, const Sequence&);
template std::int64_t scratch_bytes<float>(const ModelConfig&);
template std::int64_t scratch_bytes<double>(const ModelConfig&);
template void require_rows<float>(const std::string&, const Strided<const float***>&, std::int64_t, std::int64_t, std::int64_t);
template void require_rows<double>(const std::string&, const Strided<const double***>&, std::int64_t, std::int64_t, std::int64_t);

}  // namespace attention

template class Attention<float>;
template class Attention<double>;

}  // namespace bsbr
