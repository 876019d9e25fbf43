#include "io/training_record.hpp"

#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "bsbr/version.hpp"
#include "io/attributes.hpp"
#include "io/dataset.hpp"
#include "io/datatype.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

const std::string log_group = std::string(training_group) + "/log";
constexpr const char *step = "step", *tokens_seen = "tokens_seen";

template <class Number>
struct Column {
  const char* name;
  Number LoggedStep::*member;
};

/// The columns of the log: datasets [steps in the log].
constexpr std::tuple columns{Column<std::int64_t>{"step", &LoggedStep::step}, Column<double>{"loss", &LoggedStep::loss},
                             Column<double>{"gradient_norm", &LoggedStep::gradient_norm},
                             Column<double>{"learning_rate", &LoggedStep::learning_rate},
                             Column<double>{"validation_loss", &LoggedStep::validation_loss}};

template <class Visit>
void for_each_column(const Visit& visit) {
  std::apply([&](const auto&... column) { (visit(column), ...); }, columns);
}

hid_t native_type(std::int64_t) { return H5T_NATIVE_INT64; }
hid_t native_type(double) { return H5T_NATIVE_DOUBLE; }
bool is_readable_as(std::int64_t, hid_t type) { return is_integer(type); }
bool is_readable_as(double, hid_t type) { return is_real(type); }
const char* name_of_type(std::int64_t) { return "integers"; }
const char* name_of_type(double) { return "float32 or float64"; }

// ---- What a record must be ------------------------------------------------------------------------------------------

[[noreturn]] void refuse_entry(const char* column, std::size_t index, const AttributeValue& value,
                               const std::string& rule) {
  throw ContentError(log_group + '/' + column + ' ' + bracketed({static_cast<std::int64_t>(index)}) + " is " +
                     show(value) + ", " + rule);
}

void check_count(const char* name, std::int64_t count) {
  if (count < 0) {
    throw ContentError(std::string(training_group) + ": attribute " + name + " is " + std::to_string(count) +
                       ", must not be negative");
  }
}

/// Losses and norms of steps that were not taken are whatever they are.
void check_record(const TrainingRecord& record) {
  check_count(step, record.step);
  check_count(tokens_seen, record.tokens_seen);
  std::int64_t before = 0;
  for (std::size_t i = 0; i < record.log.size(); ++i) {
    const LoggedStep& entry = record.log[i];
    if (entry.step <= before || entry.step > record.step) {
      refuse_entry("step", i, entry.step,
                   "must be from " + std::to_string(before + 1) + " to " + std::to_string(record.step));
    }
    before = entry.step;
    if (entry.gradient_norm < 0) refuse_entry("gradient_norm", i, entry.gradient_norm, "must not be negative");
    if (!std::isfinite(entry.learning_rate) || entry.learning_rate < 0)
      refuse_entry("learning_rate", i, entry.learning_rate, "must be finite and not negative");
  }
}

// ---- Reading --------------------------------------------------------------------------------------------------------

std::int64_t read_count(hid_t group, const char* name) {
  const std::string label = std::string(training_group) + ": attribute " + name;
  const auto found = read_attribute(group, name);
  if (!found) throw ContentError(label + " is missing");
  const auto number = whole_number(*found);
  if (!number) throw ContentError(label + " is " + show(*found) + ", which is not a whole number");
  return *number;
}

Handle find_training(const InputFile& file) {
  auto group = find_object(file, training_group);
  if (!group) {
    throw ContentError("is a model file without " + std::string(training_group) + ", so it is not a checkpoint",
                       "bsbr_train --resume takes checkpoints, which it has written; --model takes any model file");
  }
  if (H5Iget_type(*group) != H5I_GROUP) throw ContentError(std::string(training_group) + " is not a group");
  return std::move(*group);
}

/// One column. `rows`: of those before it, if any.
template <class Number>
void read_column(const InputFile& file, const Column<Number>& column, std::optional<std::int64_t>& rows,
                 std::vector<LoggedStep>& log) {
  const std::string path = log_group + '/' + column.name;
  auto dataset = Dataset::find(file, path);
  if (!dataset) throw ContentError(path + " is missing");
  if (!is_readable_as(Number(), dataset->type())) {
    throw ContentError(path + " holds " + describe(dataset->type()) + ", must hold " + name_of_type(Number()));
  }
  const Extents& shape = dataset->shape();
  if (shape.size() != 1) throw ContentError(path + " is " + bracketed(shape) + ", must have one dimension");
  dataset->check_storage();
  if (rows && shape.front() != *rows) {
    throw ContentError(path + " is " + bracketed(shape) + ", columns before it are " + bracketed({*rows}));
  }
  rows = shape.front();
  const auto count = static_cast<std::size_t>(*rows);
  log.resize(count);
  std::vector<Number> values(count);
  if (count > 0) dataset->read(native_type(Number()), {0}, shape, values.data());
  for (std::size_t i = 0; i < count; ++i) log[i].*column.member = values[i];
}

}  // namespace

void write_record(hid_t file, const TrainingRecord& record) {
  check_record(record);
  const Handle group(H5Gcreate2(file, training_group, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, training_group);
  write_attribute(group, step, record.step);
  write_attribute(group, tokens_seen, record.tokens_seen);
  Attributes attributes = record.attributes;
  attributes["version"] = version();
  write_attributes(group, attributes);
  const Handle log(H5Gcreate2(file, log_group.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, log_group);
  for_each_column([&]<class Number>(const Column<Number>& column) {
    std::vector<Number> values;
    for (const LoggedStep& entry : record.log) values.push_back(entry.*column.member);
    write_dataset(log, column.name, {static_cast<std::int64_t>(values.size())}, native_type(Number()), values.data());
  });
}

std::int64_t record_datasets() { return std::tuple_size_v<decltype(columns)>; }

std::int64_t record_bytes(const TrainingRecord& record) {
  return record_datasets() * static_cast<std::int64_t>(record.log.size() * sizeof(double));
}

TrainingRecord read_record(const InputFile& file) {
  const Handle group = find_training(file);
  TrainingRecord record;
  record.step = read_count(group, step);
  record.tokens_seen = read_count(group, tokens_seen);
  record.attributes = read_attributes(group);
  for (const char* own : {step, tokens_seen}) record.attributes.erase(own);
  std::optional<std::int64_t> rows;
  for_each_column([&](const auto& column) { read_column(file, column, rows, record.log); });
  check_record(record);
  return record;
}

std::int64_t read_step(const InputFile& file) { return read_count(find_training(file), step); }

}  // namespace bsbr::io
