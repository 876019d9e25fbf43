#include "io/weight_group.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/attributes.hpp"
#include "io/datatype.hpp"
#include "io/shared_file.hpp"
#include "io/text.hpp"

namespace bsbr::io {
namespace {

Handle make_group(hid_t file, const std::string& name) {
  return {H5Gcreate2(file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, name};
}

struct Search {
  const WeightLayout& expected;
  std::string surplus;
};

/// Ends the iteration at the first name that is not expected.
herr_t compare_name(hid_t, const char* name, const H5L_info_t*, void* data) noexcept {
  auto& search = *static_cast<Search*>(data);
  if (search.expected.find(name)) return 0;
  search.surplus = name;
  return 1;
}

/// Elements of a matrix or a vector, counted row by row: the rest of a row that has begun, whole rows, the beginning of
/// one.
template <class Real>
void read_elements(const Dataset& dataset, std::int64_t first, std::int64_t count, Real* target) {
  const bool is_vector = dataset.shape().size() == 1;
  const std::int64_t columns = dataset.shape().back();
  while (count > 0) {
    const std::int64_t row = first / columns, column = first % columns;
    const bool are_rows_whole = column == 0 && count >= columns;
    const std::int64_t rows = are_rows_whole ? count / columns : 1,
                       width = are_rows_whole ? columns : std::min(count, columns - column);
    dataset.read(native_real<Real>(), is_vector ? Extents{column} : Extents{row, column},
                 is_vector ? Extents{width} : Extents{rows, width}, target);
    first += rows * width;
    target += rows * width;
    count -= rows * width;
  }
}

}  // namespace

template <class Real>
void write_weight_group(hid_t file, const std::string& group, const OutputFile& output, const ModelConfig& config,
                        const Array<Real*>& elements) {
  const Handle target = make_group(file, group);
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t offset) {
    const Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged> part(
        elements.data() + offset, static_cast<std::size_t>(info.size()));
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), part);
    write_dataset(target, info.name, info.shape, native_real<Real>(), host.data());
    output.require_written();
  });
}

template <class Real>
std::vector<std::int64_t> create_weight_group(hid_t file, const std::string& group, const ModelConfig& config) {
  const Handle target = make_group(file, group);
  std::vector<std::int64_t> places;
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t) {
    places.push_back(place_of(create_dataset(target, info.name, info.shape, native_real<Real>())));
  });
  return places;
}

void WeightGroup::check() const {
  const auto group = find_object(*m_file, m_kind.path);
  if (!group) throw ContentError(std::string(m_kind.path) + " is missing");
  if (H5Iget_type(*group) != H5I_GROUP) throw ContentError(std::string(m_kind.path) + " is not a group");
  m_layout.for_each([&](const WeightInfo& weight, std::int64_t) { find(weight); });
  const std::string other = surplus();
  if (other.empty()) return;
  throw ContentError(std::string(m_kind.path) + '/' + other + " is not a weight of this configuration");
}

/// The name of something in the group that the configuration does not call for; empty if there is none.
std::string WeightGroup::surplus() const {
  Search search{m_layout, {}};
  const auto group = find_object(*m_file, m_kind.path);
  if (!group) return {};
  check_hdf5(H5Literate(*group, H5_INDEX_NAME, H5_ITER_INC, nullptr, compare_name, &search),
             std::string(m_kind.path) + " cannot be read");
  return printable(search.surplus, 200);
}

Dataset WeightGroup::find(const WeightInfo& weight) const {
  auto dataset = Dataset::find(*m_file, path_of(weight));
  if (!dataset) {
    const std::string other = surplus();
    throw ContentError(path_of(weight) + " is missing, the configuration needs it as " + bracketed(weight.shape),
                       other.empty() ? ""
                                     : "there is " + std::string(m_kind.path) + '/' + other +
                                           ", which the configuration has no place for");
  }
  if (!is_real(dataset->type())) {
    throw ContentError(dataset->path() + " holds " + describe(dataset->type()) + ", " + m_kind.elements +
                       " are float32 or float64");
  }
  if (dataset->shape() != weight.shape) {
    throw ContentError(dataset->path() + " is " + bracketed(dataset->shape()) + ", the configuration needs " +
                       bracketed(weight.shape));
  }
  dataset->check_storage();
  return std::move(*dataset);
}

template <class Real>
void WeightGroup::read(const WeightInfo& weight, std::int64_t first, std::int64_t count, Real* target) const {
  const Dataset dataset = find(weight);
  read_elements(dataset, first, count, target);
  const auto* bad = std::find_if(target, target + count, [&](Real value) {
    return !std::isfinite(value) || (value < 0 && !m_kind.may_be_negative);
  });
  if (bad != target + count) refuse_number(dataset, first + (bad - target), *bad);
}

/// Says whether the file holds the bad number or float cannot hold the file's.
template <class Real>
void WeightGroup::refuse_number(const Dataset& dataset, std::int64_t index, Real value) const {
  std::vector<std::int64_t> place(dataset.shape().size());
  for (std::size_t i = place.size(); i-- > 0; index /= dataset.shape()[i]) place[i] = index % dataset.shape()[i];
  double stored = static_cast<double>(value);
  dataset.read(H5T_NATIVE_DOUBLE, place, std::vector<std::int64_t>(place.size(), 1), &stored);
  const std::string what = dataset.path() + ' ' + bracketed(place) + " is " + show(stored);
  if (!std::isfinite(stored)) throw ContentError(what + ", " + m_kind.elements + " are finite numbers");
  if (stored < 0 && !m_kind.may_be_negative) throw ContentError(what + ", " + m_kind.elements + " are not negative");
  throw ContentError(what + ", too large for float", "read the model in double precision");
}

template void write_weight_group(hid_t, const std::string&, const OutputFile&, const ModelConfig&,
                                 const Array<float*>&);
template void write_weight_group(hid_t, const std::string&, const OutputFile&, const ModelConfig&,
                                 const Array<double*>&);
template std::vector<std::int64_t> create_weight_group<float>(hid_t, const std::string&, const ModelConfig&);
template std::vector<std::int64_t> create_weight_group<double>(hid_t, const std::string&, const ModelConfig&);
template void WeightGroup::read(const WeightInfo&, std::int64_t, std::int64_t, float*) const;
template void WeightGroup::read(const WeightInfo&, std::int64_t, std::int64_t, double*) const;

}  // namespace bsbr::io
