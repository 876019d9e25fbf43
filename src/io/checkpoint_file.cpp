// Checkpoints: each rank writes, and reads, what it owns of weights and moments.
#include "bsbr/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bsbr/error.hpp"
#include "config/weight_table.hpp"
#include "io/input_file.hpp"
#include "io/model_layout.hpp"
#include "io/same_file.hpp"
#include "io/shared_file.hpp"
#include "io/training_record.hpp"
#include "io/weight_group.hpp"
#include "parallel/agree.hpp"

namespace bsbr {
namespace {

using namespace io;

constexpr WeightGroupKind first_moments{"/training/first_moment", "moments", true},
    second_moments{"/training/second_moment", "moments of squares", false};

/// In the order of Owned::elements().
constexpr std::array groups{model_weights, first_moments, second_moments};

/// Of a weight, elements [first, first + count) that this rank owns; in its range from `begin` on.
template <class Real>
struct Piece {
  const WeightInfo& weight;
  std::int64_t number, first, count;  // number: of the weight among all
  const OwnedWeights<Real>& range;
  std::int64_t begin;
};

/// Calls visit(Piece) for all that this rank owns, in the order of the weights.
template <class Real, class Visit>
void for_each_piece(const WeightLayout& layout, const std::vector<OwnedWeights<Real>>& ranges, const Visit& visit) {
  const auto end_of = [](const OwnedWeights<Real>& range) {
    return range.offset + static_cast<std::int64_t>(range.weights.extent(0));
  };
  auto range = ranges.begin();
  std::int64_t number = 0;
  layout.for_each([&](const WeightInfo& weight, std::int64_t offset) {
    const std::int64_t end = offset + weight.size();
    for (; range != ranges.end() && range->offset < end; ++range) {
      const std::int64_t first = std::max(range->offset, offset), last = std::min(end_of(*range), end);
      if (first < last) visit(Piece<Real>{weight, number, first - offset, last - first, *range, first - range->offset});
      if (end_of(*range) > end) break;  // the next weight has the rest of it
    }
    ++number;
  });
}

/// Everything but the elements; the places of all weights, group after group.
template <class Real>
Places lay_out(hid_t file, const ModelConfig& config, const TrainingRecord& record) {
  write_model_attributes(file, config);
  write_record(file, record);
  Places places;
  for (const WeightGroupKind& group : groups) {
    const Places of_group = create_weight_group<Real>(file, group.path, config);
    places.insert(places.end(), of_group.begin(), of_group.end());
  }
  return places;
}

/// This rank's elements.
template <class Real>
void fill(const Descriptor& file, const Places& places, const WeightLayout& layout,
          const std::vector<OwnedWeights<Real>>& owned) {
  for_each_piece(layout, owned, [&](const Piece<Real>& piece) {
    const OwnedWeights<Real>& range = piece.range;
    const std::array<Array<const Real*>, 3> of_groups{range.weights, range.first_moments, range.second_moments};
    for (std::size_t group = 0; group < groups.size(); ++group) {
      const std::int64_t place =
          places[static_cast<std::size_t>(static_cast<std::int64_t>(group) * layout.count() + piece.number)];
      write_elements<Real>(file, place + piece.first * static_cast<std::int64_t>(sizeof(Real)),
                           Elements<Real>(of_groups[group].data(), of_groups[group].size()), piece.begin, piece.count);
    }
  });
}

/// Numbers of a weight, into memory that may be on a device.
template <class Real>
void read_elements(const WeightGroup& group, const Piece<Real>& piece, const Array<Real*>& target) {
  constexpr std::int64_t most = (std::int64_t{1} << 26) / static_cast<std::int64_t>(sizeof(Real));
  for (std::int64_t done = 0; done < piece.count; done += most) {
    const std::int64_t now = std::min(most, piece.count - done);
    const Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged> part(
        target.data() + piece.begin + done, static_cast<std::size_t>(now));
    const auto host = Kokkos::create_mirror_view(part);
    group.read(piece.weight, piece.first + done, now, host.data());
    Kokkos::deep_copy(part, host);
  }
}

/// Throws ContentError if the record is not this file's.
void check_step(const InputFile& file, const TrainingRecord& record) {
  const std::int64_t step = read_step(file);
  if (step == record.step) return;
  throw ContentError("is at step " + std::to_string(step) + ", its record is of step " + std::to_string(record.step),
                     "one run at a time can use a checkpoint");
}

/// Not collective. What is wrong with the groups as a whole is said by rank 0.
template <class Real>
void read_moments(const InputFile& file, const Trainer<Real>& trainer) {
  const ModelConfig& config = trainer.weights().config();
  const WeightGroup first(file, first_moments, config), second(file, second_moments, config);
  if (parallel::rank_in(trainer.grid().comm()) == 0) {
    first.check();
    second.check();
  }
  for_each_piece(WeightLayout(config), trainer.owned(), [&](const Piece<Real>& piece) {
    read_elements(first, piece, piece.range.first_moments);
    read_elements(second, piece, piece.range.second_moments);
  });
}

// ---- A record for all ranks -----------------------------------------------------------------------------------------

using Value = Attributes::mapped_type;

template <class Number>
void share(Number& number, MPI_Comm comm) {
  parallel::broadcast(&number, sizeof number, comm);
}

void share(std::string& text, MPI_Comm comm) { parallel::broadcast(text, comm); }

template <class Item>
void share(std::vector<Item>& items, MPI_Comm comm) {
  auto count = static_cast<std::int64_t>(items.size());
  share(count, comm);
  items.resize(static_cast<std::size_t>(count));
  parallel::broadcast(items.data(), count * static_cast<std::int64_t>(sizeof(Item)), comm);
}

/// A value of the kind that has this index.
Value empty_value(std::int64_t kind) {
  const std::array<Value, std::variant_size_v<Value>> kinds{std::string(), std::int64_t(), double(),
                                                            std::vector<std::int64_t>()};
  return kinds.at(static_cast<std::size_t>(kind));
}

void share(Attributes& attributes, MPI_Comm comm) {
  std::vector<std::pair<std::string, Value>> all(attributes.begin(), attributes.end());
  auto count = static_cast<std::int64_t>(all.size());
  share(count, comm);
  all.resize(static_cast<std::size_t>(count));
  for (auto& [name, value] : all) {
    share(name, comm);
    auto kind = static_cast<std::int64_t>(value.index());
    share(kind, comm);
    if (parallel::rank_in(comm) != 0) value = empty_value(kind);
    std::visit([&](auto& one) { share(one, comm); }, value);
  }
  attributes = Attributes(all.begin(), all.end());
}

}  // namespace

template <class Real>
void write_checkpoint(const std::string& path, const Trainer<Real>& trainer, const TrainingRecord& record) {
  const MPI_Comm comm = trainer.grid().comm();
  parallel::agree(comm, [&] {
    if (record.step == trainer.steps()) return;
    throw ConfigError("the record of a checkpoint is of step " + std::to_string(record.step) +
                      ", the trainer is at step " + std::to_string(trainer.steps()));
  });
  const ModelConfig& config = trainer.weights().config();
  const WeightLayout layout(config);
  const std::vector<OwnedWeights<Real>> owned = trainer.owned();
  constexpr auto count = static_cast<std::int64_t>(groups.size());
  write_shared(
      path, comm,
      {.datasets = count * layout.count() + record_datasets(),
       .bytes = count * parameter_count(config) * static_cast<std::int64_t>(sizeof(Real)) + record_bytes(record),
       .lay_out = [&](hid_t file, const OutputFile&) { return lay_out<Real>(file, config, record); },
       .fill = [&](const Descriptor& file, const Places& places) { fill(file, places, layout, owned); },
       .finish = {}});
}

TrainingRecord read_training_record(const std::string& path, MPI_Comm comm) {
  TrainingRecord record;
  parallel::agree(comm, [&] {
    if (parallel::rank_in(comm) != 0) return;
    reading(path, [&] {
      const InputFile file(path);
      const ModelConfig config = read_model_attributes(file.id());
      record = read_record(file);
      for (const WeightGroupKind& group : groups) WeightGroup(file, group, config).check();
    });
  });
  share(record.step, comm);
  share(record.tokens_seen, comm);
  share(record.attributes, comm);
  share(record.log, comm);
  return record;
}

template <class Real>
void read_training_state(const std::string& path, const TrainingRecord& record, Trainer<Real>& trainer) {
  const MPI_Comm comm = trainer.grid().comm();
  std::optional<InputFile> file;
  agree_on_file(path, comm, [&] {
    file.emplace(path);
    check_step(*file, record);
  });
  parallel::agree(comm, [&] { reading(path, [&] { read_moments(*file, trainer); }); });
  trainer.resume(record.step);
}

template void write_checkpoint(const std::string&, const Trainer<float>&, const TrainingRecord&);
template void write_checkpoint(const std::string&, const Trainer<double>&, const TrainingRecord&);
template void read_training_state(const std::string&, const TrainingRecord&, Trainer<float>&);
template void read_training_state(const std::string&, const TrainingRecord&, Trainer<double>&);

}  // namespace bsbr
