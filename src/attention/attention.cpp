// What does not depend on the architecture: creation by name, sizes, checks of the input.
#include "attention/attention.hpp"

#include "attention/attention_class.hpp"
#include "bsbr/error.hpp"
#include "kernels/stored_row.hpp"

namespace bsbr {
namespace {

template <class Real>
attention::AttentionClass<Real> class_for(const ModelConfig& config) {
  return with_architecture(config.architecture,
                           [](auto architecture) { return attention::attention_class<Real>(architecture); });
}

}  // namespace

template <class Real>
bool packs_rows(const ModelConfig& config, Rounding rounding) {
  return kernels::StoredRow<Real>::may_be_packed && rounding == Rounding::bfloat16 && config.head_dim() % 2 == 0;
}

template <class Real>
std::unique_ptr<Attention<Real>> Attention<Real>::create(const ModelConfig& config, const Sequence& sequence,
                                                         Rounding rounding) {
  require_kokkos();
  config.validate();
  if (sequence.chunk_size() != config.chunk_size) {
    throw ShapeError("the sequence has chunk_size = " + std::to_string(sequence.chunk_size()) +
                     ", the configuration has chunk_size = " + std::to_string(config.chunk_size));
  }
  return class_for<Real>(config).create(config, sequence, rounding);
}

namespace attention {

template <class Real>
std::int64_t workspace_bytes(const ModelConfig& config, const Sequence& sequence, Rounding rounding) {
  return class_for<Real>(config).workspace_bytes(config, sequence, rounding);
}

template <class Real>
std::int64_t record_bytes(const ModelConfig& config, const Sequence& sequence) {
  return class_for<Real>(config).record_bytes(config, sequence);
}

template <class Real>
std::int64_t gradient_bytes(const ModelConfig& config, const Sequence& sequence) {
  return class_for<Real>(config).gradient_bytes(config, sequence);
}

template <class Real>
std::int64_t scratch_bytes(const ModelConfig& config) {
  return class_for<Real>(config).scratch_bytes(config);
}

template <class Real>
std::int64_t gradient_scratch_bytes(const ModelConfig& config) {
  return class_for<Real>(config).gradient_scratch_bytes(config);
}

template <class Real>
StateArrays<Real> state_arrays(const ModelConfig& config, std::int64_t batch, std::int64_t tokens, Rounding rounding) {
  return class_for<Real>(config).state_arrays(config, batch, tokens, rounding);
}

template <class Real>
bool output_may_be_key(const ModelConfig& config) {
  return class_for<Real>(config).output_may_be_key(config);
}

template <class Real>
bool gradient_reads_output(const ModelConfig& config) {
  return class_for<Real>(config).gradient_reads_output(config);
}

namespace {

/// Whether an element of `rows` is one of `output`, too; the output may lie between the rows.
template <class Real>
bool overlaps(const Strided<const Real***>& rows, const Array<Real***>& output) {
  if (!share_elements(rows.data(), rows.size() == 0 ? 0 : rows.span(), output.data(), output.size())) return false;
  for (std::size_t batch = 0; batch < rows.extent(0); ++batch) {
    for (std::size_t t = 0; t < rows.extent(1); ++t) {
      const Real* row = rows.data() + batch * rows.stride(0) + t * rows.stride(1);
      if (share_elements(row, rows.extent(2), output.data(), output.size())) return true;
    }
  }
  return false;
}

/// Throws ShapeError if the output overlaps an array of the input, but for a key that is to be overwritten.
template <class Real>
void require_own_output(const ModelConfig& config, const AttentionInput<Real>& input, const Array<Real***>& output) {
  const auto refuse = [](const std::string& name) {
    throw ShapeError("output overlaps " + name + ": it must be an array of its own",
                     "AttentionInput::overwrite_key has the one exception");
  };
  const auto require_rows_apart = [&](const char* name, const Strided<const Real***>& rows) {
    if (overlaps(rows, output)) refuse(name);
  };
  const auto require_apart = [&](const char* name, const auto& array) {
    if (share_elements(array.data(), array.size(), static_cast<const Real*>(output.data()), output.size()))
      refuse(name);
  };
  require_rows_apart("query", input.query);
  if (!input.overwrite_key) require_rows_apart("key", input.key);
  require_rows_apart("value", input.value);
  require_rows_apart("gate", input.gate);
  require_rows_apart("retrieval_query", input.retrieval_query);
  require_rows_apart("retrieval_key", input.retrieval_key);
  require_apart("compress_weight", input.compress_weight);
  require_apart("decompress_weight", input.decompress_weight);
  require_apart("compress_bias", input.compress_bias);
  require_apart("decompress_bias", input.decompress_bias);
  require_apart("null_logit", input.null_logit);
  require_apart("retrieval_gate", input.retrieval_gate);
  if (!input.overwrite_key) return;
  if (!output_may_be_key<Real>(config))
    throw ShapeError("overwrite_key is set, but keys may still be read after results are written",
                     "see Attention::output_may_be_key()");
  const Strided<const Real***> written(output);
  if (output.size() == 0) return;
  if (input.key.data() != written.data() || input.key.stride(0) != written.stride(0) ||
      input.key.stride(1) != written.stride(1))
    throw ShapeError("overwrite_key is set, but output is not the array of the key");
}

std::string extents(const std::string& name, std::int64_t batch, std::int64_t rows, std::int64_t columns) {
  return name + " is [" + std::to_string(batch) + ", " + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

}  // namespace

template <class Real>
void require_rows(const std::string& name, const Strided<const Real***>& rows, std::int64_t batch, std::int64_t count,
                  std::int64_t width) {
  const auto extent = [&](int i) { return static_cast<std::int64_t>(rows.extent(static_cast<std::size_t>(i))); };
  if (extent(0) != batch || extent(1) != count || extent(2) != width) {
    throw ShapeError(extents(name, extent(0), extent(1), extent(2)) + ", " + extents("it", batch, count, width) +
                     " that is needed");
  }
  if (rows.size() > 0 && width > 1 && rows.stride(2) != 1)
    throw ShapeError(name + " has stride " + std::to_string(rows.stride(2)) + " in its last index, which must be 1");
}

template <class Real>
void require_input(const ModelConfig& config, const Sequence& sequence, bool packed, const PaddingMask& mask,
                   const AttentionInput<Real>& input, const Array<Real***>& output, const AttentionState<Real>* state) {
  const std::int64_t batch = sequence.batch(), tokens = sequence.local_tokens(), width = config.attention_dim();
  if (input.packed != packed)
    throw ShapeError(packed ? "queries, keys and values are numbers, not packed"
                            : "queries, keys and values are packed, not numbers",
                     "see packs_rows() of the rounding that the attention was created with");
  require_rows<Real>("query", input.query, batch, tokens, packed ? width / 2 : width);
  require_rows<Real>("key", input.key, batch, tokens, width);
  if (!packed) require_rows<Real>("value", input.value, batch, tokens, width);
  if (traits(config.architecture).has_gate()) require_rows<Real>("gate", input.gate, batch, tokens, width);
  require_rows<Real>("output", Strided<const Real***>(output), batch, tokens, width);
  require_own_output(config, input, output);
  require_mask(mask, sequence);
  const std::int64_t seen = state == nullptr ? 0 : state->tokens;
  if (seen != sequence.origin())
    throw ShapeError("the sequence begins at token " + std::to_string(sequence.origin()) + ", the state is of " +
                     std::to_string(seen) + " tokens");
}

void require_mask(const PaddingMask& mask, const Sequence& sequence) {
  const auto require = [](const char* name, const auto& array, std::int64_t batch, std::int64_t count) {
    const auto rows = static_cast<std::int64_t>(array.extent(0)), columns = static_cast<std::int64_t>(array.extent(1));
    if (rows == batch && columns == count) return;
    throw ShapeError("the padding mask was made for another sequence: its " + std::string(name) + " are [" +
                     std::to_string(rows) + ", " + std::to_string(columns) + "], not [" + std::to_string(batch) + ", " +
                     std::to_string(count) + "]");
  };
  require("chunks", mask.real_chunks(), sequence.batch(), sequence.num_chunks());
  require("local chunks", mask.last_real(), sequence.batch(), sequence.local_chunks());
  if (mask.has_padding()) require("local tokens", mask.tokens(), sequence.batch(), sequence.local_tokens());
}

template std::int64_t workspace_bytes<float>(const ModelConfig&, const Sequence&, Rounding);
template std::int64_t workspace_bytes<double>(const ModelConfig&, const Sequence&, Rounding);
template std::int64_t record_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t record_bytes<double>(const ModelConfig&, const Sequence&);
template std::int64_t gradient_bytes<float>(const ModelConfig&, const Sequence&);
template std::int64_t gradient_bytes<double>(const ModelConfig&, const Sequence&);
template std::int64_t scratch_bytes<float>(const ModelConfig&);
template std::int64_t scratch_bytes<double>(const ModelConfig&);
template std::int64_t gradient_scratch_bytes<float>(const ModelConfig&);
template std::int64_t gradient_scratch_bytes<double>(const ModelConfig&);
template StateArrays<float> state_arrays<float>(const ModelConfig&, std::int64_t, std::int64_t, Rounding);
template StateArrays<double> state_arrays<double>(const ModelConfig&, std::int64_t, std::int64_t, Rounding);
template bool output_may_be_key<float>(const ModelConfig&);
template bool output_may_be_key<double>(const ModelConfig&);
template bool gradient_reads_output<float>(const ModelConfig&);
template bool gradient_reads_output<double>(const ModelConfig&);
template void require_input<float>(const ModelConfig&, const Sequence&, bool, const PaddingMask&,
                                   const AttentionInput<float>&, const Array<float***>&, const AttentionState<float>*);
template void require_input<double>(const ModelConfig&, const Sequence&, bool, const PaddingMask&,
                                    const AttentionInput<double>&, const Array<double***>&,
                                    const AttentionState<double>*);
template void require_rows<float>(const std::string&, const Strided<const float***>&, std::int64_t, std::int64_t,
                                  std::int64_t);
template void require_rows<double>(const std::string&, const Strided<const double***>&, std::int64_t, std::int64_t,
                                   std::int64_t);

}  // namespace attention

template class Attention<float>;
template class Attention<double>;
template bool packs_rows<float>(const ModelConfig&, Rounding);
template bool packs_rows<double>(const ModelConfig&, Rounding);

}  // namespace bsbr
