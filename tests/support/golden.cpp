// Reads golden files with HDF5's own interface: none of the library's readers takes part.
#include "support/golden.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <type_traits>

#include "architectures/traits.hpp"

namespace bsbr::testing {
namespace {

/// An HDF5 object that is closed at the end of its scope; a failed call throws.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const std::string& what) : m_id(id), m_close(close) {
    if (id < 0) throw std::runtime_error("cannot open " + what);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { m_close(m_id); }
  operator hid_t() const { return m_id; }

 private:
  hid_t m_id;
  herr_t (*m_close)(hid_t);
};

void check(herr_t status, const std::string& what) {
  if (status < 0) throw std::runtime_error("cannot read " + what);
}

template <class Number>
hid_t native_type() {
  if constexpr (std::is_same_v<Number, double>)
    return H5T_NATIVE_DOUBLE;
  else if constexpr (std::is_same_v<Number, std::int64_t>)
    return H5T_NATIVE_INT64;
  else
    return H5T_NATIVE_UINT8;
}

template <class Number>
struct Data {
  std::vector<hsize_t> shape;
  std::vector<Number> values;
};

template <class Number>
Data<Number> read_data(hid_t file, const std::string& path) {
  const Handle dataset(H5Dopen2(file, path.c_str(), H5P_DEFAULT), H5Dclose, path);
  const Handle space(H5Dget_space(dataset), H5Sclose, path);
  Data<Number> data;
  data.shape.resize(static_cast<std::size_t>(H5Sget_simple_extent_ndims(space)));
  check(H5Sget_simple_extent_dims(space, data.shape.data(), nullptr), path);
  data.values.resize(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space)));
  check(H5Dread(dataset, native_type<Number>(), H5S_ALL, H5S_ALL, H5P_DEFAULT, data.values.data()), path);
  return data;
}

bool exists(hid_t file, const std::string& path) { return H5Lexists(file, path.c_str(), H5P_DEFAULT) > 0; }

template <class Number>
void read_attribute(hid_t file, const std::string& name, Number& value) {
  const Handle attribute(H5Aopen(file, name.c_str(), H5P_DEFAULT), H5Aclose, name);
  check(H5Aread(attribute, native_type<Number>(), &value), name);
}

/// A string of fixed length, as golden files have them.
void read_attribute(hid_t file, const std::string& name, std::string& value) {
  const Handle attribute(H5Aopen(file, name.c_str(), H5P_DEFAULT), H5Aclose, name);
  const Handle type(H5Aget_type(attribute), H5Tclose, name);
  value.assign(H5Tget_size(type), '\0');
  check(H5Aread(attribute, type, value.data()), name);
  value.resize(std::min(value.size(), value.find('\0')));
}

template <class Enumeration>
Enumeration parse(const std::string& name) {
  const auto value = from_string<Enumeration>(name);
  if (!value) throw std::runtime_error("golden files speak of '" + name + "', which has no such name here");
  return *value;
}

ModelConfig read_config(hid_t file) {
  ModelConfig config;
  for_each_field(config, [&](const Field& field, auto& value) {
    if (!field.belongs_to(config.architecture)) return;
    if (field.may_be_missing && H5Aexists(file, std::string(field.name).c_str()) == 0) return;
    if constexpr (std::is_enum_v<std::remove_reference_t<decltype(value)>>) {
      std::string text;
      read_attribute(file, std::string(field.name), text);
      value = parse<std::remove_reference_t<decltype(value)>>(text);
    } else {
      read_attribute(file, std::string(field.name), value);
    }
  });
  return config;
}

std::vector<std::string> names_in_group(hid_t file, const std::string& path) {
  const Handle group(H5Gopen2(file, path.c_str(), H5P_DEFAULT), H5Gclose, path);
  H5G_info_t info;
  check(H5Gget_info(group, &info), path);
  std::vector<std::string> names;
  for (hsize_t i = 0; i < info.nlinks; ++i) {
    char name[256];
    if (H5Lget_name_by_idx(group, ".", H5_INDEX_NAME, H5_ITER_INC, i, name, sizeof name, H5P_DEFAULT) < 0) {
      throw std::runtime_error("cannot list " + path);
    }
    names.emplace_back(name);
  }
  return names;
}

reference::WeightMap read_weights(hid_t file) {
  reference::WeightMap weights;
  for (const auto& name : names_in_group(file, "/weights")) {
    auto data = read_data<double>(file, "/weights/" + name);
    reference::Matrix matrix;
    matrix.rows = data.shape.size() == 2 ? static_cast<std::int64_t>(data.shape[0]) : 1;
    matrix.columns = static_cast<std::int64_t>(data.shape.back());
    matrix.values = std::move(data.values);
    weights[name] = std::move(matrix);
  }
  return weights;
}

GoldenOutput read_output(hid_t file, const ModelConfig& config, const std::string& group) {
  GoldenOutput output{config, read_data<double>(file, group + "/hidden_states").values, {}};
  if (exists(file, group + "/layers")) output.layers = read_data<double>(file, group + "/layers").values;
  return output;
}

std::vector<GoldenOutput> read_outputs(hid_t file, const ModelConfig& config) {
  if (!has_field(config.architecture, "causality")) return {read_output(file, config, "/expected")};
  std::vector<GoldenOutput> outputs;
  for (const auto& [causality, name] : causalities) {
    ModelConfig changed = config;
    changed.causality = causality;
    outputs.push_back(read_output(file, changed, "/expected/" + std::string(name)));
  }
  return outputs;
}

template <class Number>
std::vector<Number> row_of(const std::vector<Number>& values, std::int64_t row, std::int64_t length) {
  if (values.empty()) return {};
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row * length);
  return {begin, begin + static_cast<std::ptrdiff_t>(length)};
}

/// Where the files lie: BSBR_GOLDEN_DIR of the environment, for programs that run on another machine, or the folder in
/// the sources.
std::string golden_folder() {
  const char* folder = std::getenv("BSBR_GOLDEN_DIR");
  return folder != nullptr ? folder : BSBR_GOLDEN_DIR;
}

nlohmann::json read_index() {
  const std::string path = golden_folder() + "/index.json";
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot open " + path);
  return nlohmann::json::parse(file);
}

}  // namespace

std::vector<std::int64_t> GoldenCase::row_ids(std::int64_t row) const { return row_of(ids, row, length); }

reference::Mask GoldenCase::row_mask(std::int64_t row) const { return row_of(mask, row, length); }

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : read_index()) {
    const auto file = entry.at("file").get<std::string>();
    names.push_back(file.substr(0, file.rfind(".h5")));
  }
  if (names.empty()) throw std::runtime_error("no golden files are listed in " + golden_folder() + "/index.json");
  return names;
}

std::string golden_path(const std::string& name) { return golden_folder() + "/" + name + ".h5"; }

GoldenCase read_golden(const std::string& name) {
  const std::string path = golden_path(name);
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, path);
  GoldenCase golden;
  golden.name = name;
  golden.config = read_config(file);
  golden.weights = read_weights(file);
  auto ids = read_data<std::int64_t>(file, "/inputs/input_ids");
  golden.batch = static_cast<std::int64_t>(ids.shape.at(0));
  golden.length = static_cast<std::int64_t>(ids.shape.at(1));
  golden.ids = std::move(ids.values);
  if (exists(file, "/inputs/attention_mask"))
    golden.mask = read_data<std::uint8_t>(file, "/inputs/attention_mask").values;
  golden.outputs = read_outputs(file, golden.config);
  return golden;
}

}  // namespace bsbr::testing
