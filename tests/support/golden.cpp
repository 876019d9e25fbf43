// Reads golden files with HDF5's own interface: none of the library's readers takes part.
#include "support/golden.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
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

/// The datasets of a group, such as "/weights".
reference::WeightMap read_matrices(hid_t file, const std::string& group) {
  reference::WeightMap weights;
  for (const auto& name : names_in_group(file, group)) {
    auto data = read_data<double>(file, std::string(group).append("/").append(name));
    reference::Matrix matrix;
    matrix.rows = data.shape.size() == 2 ? static_cast<std::int64_t>(data.shape[0]) : 1;
    matrix.columns = static_cast<std::int64_t>(data.shape.back());
    matrix.values = std::move(data.values);
    weights[name] = std::move(matrix);
  }
  return weights;
}

void read_output(hid_t file, const std::string& group, GoldenOutput& output) {
  output.hidden_states = read_data<double>(file, group + "/hidden_states").values;
  if (exists(file, group + "/layers")) output.layers = read_data<double>(file, group + "/layers").values;
}

void read_output(hid_t file, const std::string& group, GoldenGradients& output) {
  output.loss = read_data<double>(file, group + "/loss").values.at(0);
  output.token_loss = read_data<double>(file, group + "/token_loss").values;
  output.gradients = read_matrices(file, group + "/gradients");
}

GoldenAdamW read_adamw(hid_t file) {
  GoldenAdamW adamw;
  const Handle group(H5Gopen2(file, "/adamw", H5P_DEFAULT), H5Gclose, "/adamw");
  read_attribute(group, "beta1", adamw.beta1);
  read_attribute(group, "beta2", adamw.beta2);
  read_attribute(group, "epsilon", adamw.epsilon);
  read_attribute(group, "weight_decay", adamw.weight_decay);
  read_attribute(group, "clip", adamw.clip);
  read_attribute(group, "learning_rate", adamw.learning_rate);
  read_attribute(group, "min_learning_rate", adamw.min_learning_rate);
  read_attribute(group, "warmup_steps", adamw.warmup_steps);
  read_attribute(group, "decay_steps", adamw.decay_steps);
  read_attribute(group, "steps", adamw.steps);
  adamw.ids = read_data<std::int64_t>(file, "/adamw/input_ids").values;
  adamw.losses = read_data<double>(file, "/adamw/losses").values;
  adamw.gradient_norms = read_data<double>(file, "/adamw/gradient_norms").values;
  adamw.weights = read_matrices(file, "/adamw/weights");
  return adamw;
}

template <class Output>
std::vector<Output> read_outputs(hid_t file, const ModelConfig& config) {
  std::vector<Output> outputs;
  const auto read = [&](const ModelConfig& changed, const std::string& group) {
    outputs.emplace_back().config = changed;
    read_output(file, group, outputs.back());
  };
  if (!has_field(config.architecture, "causality")) {
    read(config, "/expected");
    return outputs;
  }
  for (const auto& [causality, name] : causalities) {
    ModelConfig changed = config;
    changed.causality = causality;
    read(changed, "/expected/" + std::string(name));
  }
  return outputs;
}

void read_model(hid_t file, GoldenModel& golden) {
  golden.config = read_config(file);
  golden.weights = read_matrices(file, "/weights");
  auto ids = read_data<std::int64_t>(file, "/inputs/input_ids");
  golden.batch = static_cast<std::int64_t>(ids.shape.at(0));
  golden.length = static_cast<std::int64_t>(ids.shape.at(1));
  golden.ids = std::move(ids.values);
  if (exists(file, "/inputs/attention_mask"))
    golden.mask = read_data<std::uint8_t>(file, "/inputs/attention_mask").values;
}

template <class Number>
std::vector<Number> row_of(const std::vector<Number>& values, std::int64_t row, std::int64_t length) {
  if (values.empty()) return {};
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(row * length);
  return {begin, begin + static_cast<std::ptrdiff_t>(length)};
}

/// Where the files of tests/golden lie: BSBR_GOLDEN_DIR of the environment, for programs that run on another machine,
/// or the folder in the sources.
std::string golden_folder() {
  const char* folder = std::getenv("BSBR_GOLDEN_DIR");
  return folder != nullptr ? folder : BSBR_GOLDEN_DIR;
}

/// tests/golden_gradients and tests/golden_learning lie beside it.
std::vector<std::string> folders_with_states() { return {golden_folder(), golden_folder() + "_learning"}; }
std::vector<std::string> folders_with_gradients() {
  return {golden_folder() + "_gradients", golden_folder() + "_learning"};
}

/// The names of the cases that a folder's index.json lists.
std::vector<std::string> names_in_index(const std::string& folder) {
  const std::string path = folder + "/index.json";
  std::ifstream index(path);
  if (!index) throw std::runtime_error("cannot open " + path);
  std::vector<std::string> names;
  for (const auto& entry : nlohmann::json::parse(index)) {
    const auto file = entry.at("file").get<std::string>();
    names.push_back(file.substr(0, file.rfind(".h5")));
  }
  if (names.empty()) throw std::runtime_error("no golden files are listed in " + path);
  return names;
}

/// The cases of all these folders.
std::vector<std::string> names_in(const std::vector<std::string>& folders) {
  std::vector<std::string> all;
  for (const auto& folder : folders) {
    const auto names = names_in_index(folder);
    all.insert(all.end(), names.begin(), names.end());
  }
  return all;
}

/// The file of a case, which is in one of these folders.
std::string path_in(const std::vector<std::string>& folders, const std::string& name) {
  for (const auto& folder : folders) {
    const std::string path = folder + "/" + name + ".h5";
    if (std::filesystem::exists(path)) return path;
  }
  throw std::runtime_error("there is no golden file " + name + ".h5");
}

/// Calls read(open file, golden) for a golden file.
template <class Golden, class Read>
Golden read_file(const std::string& path, const std::string& name, const Read& read) {
  const Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, path);
  Golden golden;
  golden.name = name;
  read_model(file, golden);
  read(file, golden);
  return golden;
}

}  // namespace

std::vector<std::int64_t> GoldenModel::row_ids(std::int64_t row) const { return row_of(ids, row, length); }

reference::Mask GoldenModel::row_mask(std::int64_t row) const { return row_of(mask, row, length); }

double GoldenGradients::largest() const {
  double largest = 0;
  for (const auto& [name, gradient] : gradients) {
    for (const double element : gradient.values) largest = std::max(largest, std::abs(element));
  }
  return largest;
}

std::vector<std::string> golden_names() { return names_in(folders_with_states()); }

std::vector<std::string> golden_gradient_names() { return names_in(folders_with_gradients()); }

std::string golden_path(const std::string& name) { return path_in(folders_with_states(), name); }

GoldenCase read_golden(const std::string& name) {
  return read_file<GoldenCase>(golden_path(name), name, [](hid_t file, GoldenCase& golden) {
    golden.outputs = read_outputs<GoldenOutput>(file, golden.config);
  });
}

GoldenGradientCase read_golden_gradients(const std::string& name) {
  const std::string path = path_in(folders_with_gradients(), name);
  return read_file<GoldenGradientCase>(path, name, [](hid_t file, GoldenGradientCase& golden) {
    golden.targets = read_data<std::int64_t>(file, "/inputs/targets").values;
    golden.outputs = read_outputs<GoldenGradients>(file, golden.config);
    if (exists(file, "/adamw")) golden.adamw = read_adamw(file);
  });
}

}  // namespace bsbr::testing
