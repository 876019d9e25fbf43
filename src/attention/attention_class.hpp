// What the library asks of the class of an attention: src/architectures/<name>/attention.cpp names each architecture's.
#pragma once

#include <memory>

#include "architectures/traits.hpp"
#include "attention/attention.hpp"
#include "attention/state_arrays.hpp"

namespace bsbr::attention {

/// The functions of a class that are called without an object of it: see attention.hpp and state_arrays.hpp.
template <class Real>
struct AttentionClass {
  std::unique_ptr<Attention<Real>> (*create)(const ModelConfig&, const Sequence&, Rounding);
  std::int64_t (*workspace_bytes)(const ModelConfig&, const Sequence&, Rounding);
  std::int64_t (*record_bytes)(const ModelConfig&, const Sequence&);
  std::int64_t (*gradient_bytes)(const ModelConfig&, const Sequence&);
  std::int64_t (*scratch_bytes)(const ModelConfig&);
  std::int64_t (*gradient_scratch_bytes)(const ModelConfig&);
  StateArrays<Real> (*state_arrays)(const ModelConfig&, std::int64_t batch, std::int64_t tokens, Rounding);
  bool (*output_may_be_key)(const ModelConfig&);
  bool (*gradient_reads_output)(const ModelConfig&);
};

template <class Real, class Class>
AttentionClass<Real> class_of() {
  const auto create = [](const ModelConfig& config, const Sequence& sequence,
                         Rounding rounding) -> std::unique_ptr<Attention<Real>> {
    return std::make_unique<Class>(config, sequence, rounding);
  };
  const auto output_may_be_key = [](const ModelConfig& config) {
    if constexpr (requires { Class::output_may_be_key(config); }) return Class::output_may_be_key(config);
    return false;
  };
  const auto gradient_reads_output = [](const ModelConfig& config) {
    if constexpr (requires { Class::gradient_reads_output(config); }) return Class::gradient_reads_output(config);
    return true;
  };
  return {create,
          &Class::workspace_bytes,
          &Class::record_bytes,
          &Class::gradient_bytes,
          &Class::scratch_bytes,
          &Class::gradient_scratch_bytes,
          &Class::state_arrays,
          output_may_be_key,
          gradient_reads_output};
}

#define BSBR_DECLARE_CLASS(name) \
  template <class Real>          \
  AttentionClass<Real> attention_class(Tag<Architecture::name>);
BSBR_ARCHITECTURES(BSBR_DECLARE_CLASS)
#undef BSBR_DECLARE_CLASS

}  // namespace bsbr::attention
