// Fuzz target: the configuration, by the three ways in which one comes from outside: attributes of a model file, the
// command line, and the structure that a caller fills. One may be refused by a ConfigError, ContentError or UsageError.
// One that is taken must be sound: what is computed from it neither overflows nor contradicts itself, and written to a
// file it reads back as it was.
#include <fuzzer/FuzzedDataProvider.h>
#include <hdf5.h>
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <type_traits>
#include <vector>

#include "bsbr/error.hpp"
#include "fuzz_runtime.hpp"
#include "harness/job/failure.hpp"
#include "io/config_attributes.hpp"
#include "io/hdf5.hpp"
#include "memory/footprint.hpp"
#include "programs/init_options.hpp"

namespace {

using namespace bsbr;
using io::Handle;

void require(bool holds) {
  if (!holds) std::abort();
}

constexpr std::int64_t most_layers = 64;  // more would only take time

std::int64_t some_integer(FuzzedDataProvider& data) {
  if (data.ConsumeBool()) return data.ConsumeIntegralInRange<std::int64_t>(-1, 64);
  if (data.ConsumeBool())
    return (std::int64_t{1} << data.ConsumeIntegralInRange(0, 62)) + data.ConsumeIntegralInRange(-1, 1);
  return data.ConsumeIntegral<std::int64_t>();
}

double some_real(FuzzedDataProvider& data) {
  if (data.ConsumeBool()) return static_cast<double>(some_integer(data));
  return data.ConsumeBool() ? data.ConsumeFloatingPoint<double>()
                            : data.PickValueInArray<double>(
                                  {0.5, -0.0, 2.0, NAN, INFINITY, -INFINITY, 1e-38, 1e39, 9.3e18, 0x1p63, -0x1p63});
}

/// Mostly one of the names that exist.
std::string some_text(FuzzedDataProvider& data) {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& entry : architectures) all.emplace_back(entry.name);
    for (const auto& entry : causalities) all.emplace_back(entry.name);
    for (const auto& entry : feature_maps) all.emplace_back(entry.name);
    for (const auto& entry : head_kinds) all.emplace_back(entry.name);
    for (const auto& entry : state_scales) all.emplace_back(entry.name);
    for (const auto& entry : router_keys) all.emplace_back(entry.name);
    return all;
  }();
  if (data.ConsumeIntegralInRange(0, 7) == 0) return data.ConsumeRandomLengthString(80);
  return names[data.ConsumeIntegralInRange<std::size_t>(0, names.size() - 1)];
}

// ---- attributes of a file -------------------------------------------------------------------------------------------

Handle file_in_memory() {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "HDF5");
  H5Pset_fapl_core(access, 1 << 14, false);
  return {H5Fcreate("fuzz", H5F_ACC_TRUNC, H5P_DEFAULT, access), H5Fclose, "HDF5"};
}

/// Of one value or none or two.
void put(hid_t file, const std::string& name, hid_t stored, hid_t given, const void* values, FuzzedDataProvider& data) {
  const hsize_t two = 2;
  const int kind = data.ConsumeIntegralInRange(0, 31);
  const hid_t space = kind == 0   ? H5Screate(H5S_NULL)
                      : kind == 1 ? H5Screate_simple(1, &two, nullptr)
                                  : H5Screate(H5S_SCALAR);
  const Handle owned(space, H5Sclose, "HDF5");
  const Handle attribute(H5Acreate2(file, name.c_str(), stored, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
  if (kind != 0) H5Awrite(attribute, given, values);
}

void put_integer(hid_t file, const std::string& name, FuzzedDataProvider& data) {
  const std::int64_t value = some_integer(data);
  const std::int64_t values[]{value, value};
  const hid_t types[]{H5T_STD_I64LE, H5T_STD_I32BE, H5T_STD_U64LE, H5T_STD_U8LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE};
  const hid_t type = data.PickValueInArray(types);
  put(file, name, type, type == H5T_STD_U64LE ? H5T_NATIVE_UINT64 : H5T_NATIVE_INT64, values, data);
}

void put_real(hid_t file, const std::string& name, FuzzedDataProvider& data) {
  const double value = some_real(data);
  const double values[]{value, value};
  put(file, name, data.ConsumeBool() ? H5T_IEEE_F64LE : H5T_IEEE_F32LE, H5T_NATIVE_DOUBLE, values, data);
}

void put_text(hid_t file, const std::string& name, FuzzedDataProvider& data) {
  const std::string text = some_text(data);
  const bool variable = data.ConsumeBool();
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "HDF5");
  H5Tset_size(type, variable ? H5T_VARIABLE : text.size() + 1);
  H5Tset_strpad(type, data.ConsumeBool() ? H5T_STR_SPACEPAD : H5T_STR_NULLTERM);
  const std::string twice = text + '\0' + text + '\0';
  const char* const pointers[]{text.c_str(), text.c_str()};
  put(file, name, type, type, variable ? static_cast<const void*>(pointers) : twice.data(), data);
}

ModelConfig from_attributes(FuzzedDataProvider& data) {
  const io::LibraryScope scope;
  const Handle file = file_in_memory();
  const ModelConfig names;
  for_each_field(names, [&](const Field& field, const auto& value) {
    const int kind = data.ConsumeIntegralInRange(0, 15);  // mostly of the right type, and mostly only where it belongs
    if (kind == 0 || (!field.is_shared() && data.ConsumeBool())) return;
    constexpr bool is_name = std::is_enum_v<std::remove_cvref_t<decltype(value)>>;
    constexpr bool is_real = std::is_same_v<std::remove_cvref_t<decltype(value)>, double>;
    if (kind == 1 || (kind > 3 && is_name)) return put_text(file, std::string(field.name), data);
    if (kind == 2 || is_real) return put_real(file, std::string(field.name), data);
    put_integer(file, std::string(field.name), data);
  });
  return io::read_config_attributes(file);
}

// ---- the command line, and a caller's structure ---------------------------------------------------------------------

ModelConfig from_command_line(FuzzedDataProvider& data) {
  std::vector<std::string> words{"bsbr_init", "--output", "m.h5", "--architecture", some_text(data)};
  const ModelConfig names;
  for_each_field(names, [&](const Field& field, const auto&) {
    if (data.ConsumeBool()) return;
    std::string option = "--" + std::string(field.name);
    std::replace(option.begin(), option.end(), '_', '-');
    words.push_back(option);
    const int kind = data.ConsumeIntegralInRange(0, 7);
    words.push_back(kind < 4   ? std::to_string(some_integer(data))
                    : kind < 6 ? some_text(data)
                               : std::to_string(some_real(data)));
  });
  std::vector<const char*> pointers;
  for (const auto& word : words) pointers.push_back(word.c_str());
  return apps::parse_init_options(static_cast<int>(pointers.size()), pointers.data()).config;
}

ModelConfig from_structure(FuzzedDataProvider& data) {
  ModelConfig config;
  for_each_field(config, [&](const Field&, auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (std::is_enum_v<Value>)
      value = static_cast<Value>(data.ConsumeIntegralInRange(-1, 8));
    else if constexpr (std::is_same_v<Value, double>)
      value = some_real(data);
    else
      value = some_integer(data);
  });
  config.validate();
  return config;
}

ModelConfig some_config(FuzzedDataProvider& data) {
  const int way = data.ConsumeIntegralInRange(0, 2);
  return way == 0 ? from_attributes(data) : way == 1 ? from_command_line(data) : from_structure(data);
}

// ---- what must hold of one that is taken ----------------------------------------------------------------------------

void check_weights(ModelConfig config) {
  const std::int64_t parameters = parameter_count(config);
  require(parameters > 0 && parameters <= std::int64_t{1} << 45);
  config.num_layers = std::min(config.num_layers, most_layers);
  std::int64_t sum = 0;
  for (const WeightInfo& weight : weight_table(config)) {
    require(weight.size() > 0);
    sum += weight.size();
  }
  require(sum == parameter_count(config));
}

void check_work(const ModelConfig& config, FuzzedDataProvider& data) {
  const auto batch = data.ConsumeIntegralInRange<std::int64_t>(0, std::int64_t{1} << 45);
  const auto length = data.ConsumeIntegralInRange<std::int64_t>(0, std::int64_t{1} << 45);
  const double flops = forward_flops(config, batch, length);
  require(std::isfinite(flops) && flops >= 0);
  if (batch != 0 && length > (std::int64_t{1} << 62) / batch) return;  // the programs refuse these
  try {
    const Sequence sequence(MPI_COMM_SELF, batch, length, config.chunk_size);
    require(apps::predict_footprint<double>(config, sequence, {true, true, true}).added >= 0);
  } catch (const MemoryError&) {
  } catch (const ConfigError&) {
  }
}

void check_round_trip(const ModelConfig& config) {
  const io::LibraryScope scope;
  const Handle file = file_in_memory();
  io::write_config_attributes(file, config);
  ModelConfig copy = io::read_config_attributes(file);
  std::vector<double> one, other;
  const auto list = [&config](std::vector<double>& values) {
    return [&](const Field& field, const auto& value) {
      if (field.belongs_to(config.architecture)) values.push_back(static_cast<double>(value));
    };
  };
  for_each_field(config, list(one));
  for_each_field(copy, list(other));
  require(one == other);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  hostile::start_runtime();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  FuzzedDataProvider data(bytes, size);
  ModelConfig config;
  try {
    config = some_config(data);
  } catch (const ConfigError&) {  // a UsageError is one, too
    return 0;
  } catch (const io::ContentError&) {
    return 0;
  }
  check_weights(config);
  check_work(config, data);
  check_round_trip(config);
  return 0;
}
