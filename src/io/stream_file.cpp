// State files: the arrays of all layers' states, in an order that knows of no ranks.
#include "bsbr/stream_file.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "attention/attention.hpp"
#include "attention/state_arrays.hpp"
#include "bsbr/partition.hpp"
#include "config/difference.hpp"
#include "io/attributes.hpp"
#include "io/config_attributes.hpp"
#include "io/dataset.hpp"
#include "io/datatype.hpp"
#include "io/file_format.hpp"
#include "io/input_file.hpp"
#include "io/same_file.hpp"
#include "io/shared_file.hpp"
#include "io/text.hpp"
#include "parallel/agree.hpp"

namespace bsbr {
namespace {

using namespace io;
using attention::StateArray, attention::StateArrays;

constexpr FileFormat stream_format{"bsbr-stream", "a state file", 1};
constexpr const char *stream_group = "/stream", *batch_name = "batch", *tokens_name = "tokens",
                     *precision_name = "precision", *hash_name = "model_hash",
                     *last_states_path = "/stream/last_states", *last_real_name = "last_real";
constexpr const char *real_name = "real", *real_chunks_name = "real_chunks";  // marks of a layer

/// Sequences may have so many tokens: as on the command lines of the programs.
constexpr std::int64_t most_tokens = std::int64_t{1} << 45;

template <class Real>
Precision precision_of(const Weights<Real>& weights) {
  if (weights.rounding() == Rounding::bfloat16) return Precision::bfloat16;
  return std::is_same_v<Real, float> ? Precision::float32 : Precision::float64;
}

std::string layer_group(std::size_t layer) { return std::string(stream_group) + "/layers." + std::to_string(layer); }

/// Hidden states of the last tokens, [batch, hidden_dim]; of a stream of no token there are none.
std::int64_t last_states_of(const ModelConfig& config, std::int64_t batch, std::int64_t tokens) {
  return tokens == 0 ? 0 : batch * config.hidden_dim;
}

std::string show_hash(std::uint64_t hash) {
  std::string digits(16, '0');
  for (std::size_t i = digits.size(); i-- > 0; hash /= 16) digits[i] = "0123456789abcdef"[hash % 16];
  return digits;
}

std::optional<std::uint64_t> parse_hash(const std::string& text) {
  std::uint64_t hash = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), hash, 16);
  if (text.size() != 16 || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return hash;
}

// ---- Writing --------------------------------------------------------------------------------------------------------

Handle make_group(hid_t file, const std::string& path) {
  return {H5Gcreate2(file, path.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, path};
}

template <class Real>
void write_head(hid_t file, const Stream<Real>& stream, Precision precision, std::uint64_t hash,
                const Attributes& attributes) {
  write_format(file, stream_format);
  write_config_attributes(file, stream.config());
  write_attributes(file, attributes);
  const Handle group = make_group(file, stream_group);
  write_attribute(group, batch_name, stream.batch());
  write_attribute(group, tokens_name, stream.tokens());
  write_attribute(group, precision_name, std::string(to_string(precision)));
  write_attribute(group, hash_name, show_hash(hash));
  if (stream.tokens() == 0) return;
  std::vector<std::uint8_t> real = stream.last_real();
  if (real.empty()) real.assign(static_cast<std::size_t>(stream.batch()), 1);
  write_dataset(group, last_real_name, {stream.batch()}, H5T_NATIVE_UINT8, real.data());
}

/// Marks [rows, columns] behind `skipped` other rows: 1 where something is real. None, and all is.
template <class View>
void write_marks(hid_t group, const char* name, std::int64_t rows, std::int64_t columns, const View& marks,
                 std::int64_t skipped = 0) {
  if (rows * columns == 0) return;
  std::vector<std::uint8_t> all(static_cast<std::size_t>(rows * columns), 1);
  if (marks.size() > 0) {
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), marks);
    std::copy_n(host.data() + skipped * columns, all.size(), all.begin());
  }
  write_dataset(group, name, {rows, columns}, H5T_NATIVE_UINT8, all.data());
}

/// Everything but the numbers; the places of all arrays, layer after layer, and of the last tokens' hidden states.
template <class Real>
Places lay_out(hid_t file, const Stream<Real>& stream, const StateArrays<Real>& shape) {
  Places places;
  for (std::size_t layer = 0; layer < stream.states().size(); ++layer) {
    const AttentionState<Real>& state = stream.states()[layer];
    const Handle group = make_group(file, layer_group(layer));
    for (const StateArray<Real>& array : shape.arrays)
      places.push_back(place_of(create_dataset(group, array.name, array.shape, native_real<Real>())));
    write_marks(group, real_name, shape.kept_tokens, stream.batch(), state.real, shape.first_key - state.first_key);
    write_marks(group, real_chunks_name, stream.batch(), shape.marked_chunks, state.real_chunks);
  }
  const ModelConfig& config = stream.config();
  if (last_states_of(config, stream.batch(), stream.tokens()) > 0)
    places.push_back(
        place_of(create_dataset(file, last_states_path, {stream.batch(), config.hidden_dim}, native_real<Real>())));
  return places;
}

/// This rank's share of the numbers [first, first + count), which all ranks have, of what lies at `place`.
template <class Real>
void fill_share(const Descriptor& file, std::int64_t place, const Elements<Real>& numbers, std::int64_t first,
                std::int64_t count, int rank, int ranks) {
  const Partition shares{count, ranks};
  write_elements<Real>(file, place + shares.begin(rank) * static_cast<std::int64_t>(sizeof(Real)), numbers,
                       first + shares.begin(rank), shares.size(rank));
}

/// This rank's part of an array that lies at `place`: of one that all ranks have a share, of others its blocks.
/// skipped: rows of the first dimension in front of those of the file.
template <class Real>
void fill_array(const Descriptor& file, std::int64_t place, const StateArray<Real>& array,
                const Array<const Real*>& numbers, std::int64_t skipped, int rank, int ranks) {
  const Elements<Real> elements(numbers.data(), numbers.size());
  if (!array.by_block)
    return fill_share<Real>(file, place, elements, skipped * array.elements(1), array.elements(), rank, ranks);
  if (!array.is_first_with_block(rank, ranks)) return;
  const auto write = [&](std::int64_t at, std::int64_t from, std::int64_t count) {
    write_elements<Real>(file, place + at * static_cast<std::int64_t>(sizeof(Real)), elements, from, count);
  };
  const std::int64_t count = array.block_count(rank, ranks), first = array.first_block(rank, ranks);
  const std::int64_t block = array.elements(1), with_room = static_cast<std::int64_t>(numbers.size()) / count;
  for (std::int64_t i = 0; i < count; ++i) write((first + i) * block, i * with_room, block);
}

template <class Real>
std::int64_t bytes_of(const Stream<Real>& stream, const StateArrays<Real>& shape) {
  std::int64_t bytes = stream.batch() * (shape.kept_tokens + shape.marked_chunks + 1);
  for (const StateArray<Real>& array : shape.arrays)
    bytes += array.elements() * static_cast<std::int64_t>(sizeof(Real));
  return bytes * static_cast<std::int64_t>(stream.states().size()) +
         last_states_of(stream.config(), stream.batch(), stream.tokens()) * static_cast<std::int64_t>(sizeof(Real));
}

// ---- Reading --------------------------------------------------------------------------------------------------------

AttributeValue read_value(hid_t group, const char* name) {
  const auto found = read_attribute(group, name);
  if (!found) throw ContentError(std::string(stream_group) + ": attribute " + name + " is missing");
  return *found;
}

[[noreturn]] void refuse_value(const char* name, const AttributeValue& value, const std::string& rule) {
  throw ContentError(std::string(stream_group) + ": attribute " + name + " is " + show(value) + ", " + rule);
}

std::int64_t read_count(hid_t group, const char* name, std::int64_t most) {
  const AttributeValue value = read_value(group, name);
  const auto number = whole_number(value);
  if (!number || *number < 0 || *number > most)
    refuse_value(name, value, "must be a whole number from 0 to " + std::to_string(most));
  return *number;
}

StreamInfo read_info(const InputFile& file) {
  check_format(file.id(), stream_format);
  StreamInfo info;
  info.config = read_config_attributes(file.id());
  const auto group = find_object(file, stream_group);
  if (!group || H5Iget_type(*group) != H5I_GROUP)
    throw ContentError(std::string(stream_group) + " is missing, or is not a group");
  info.batch = read_count(*group, batch_name, file.bytes());  // each sequence has a byte at least
  info.tokens = read_count(*group, tokens_name, most_tokens);
  const AttributeValue precision = read_value(*group, precision_name), hash = read_value(*group, hash_name);
  const auto* precision_text = std::get_if<std::string>(&precision);
  const auto* hash_text = std::get_if<std::string>(&hash);
  const auto known = precision_text == nullptr ? std::nullopt : from_string<Precision>(*precision_text);
  const auto number = hash_text == nullptr ? std::nullopt : parse_hash(*hash_text);
  if (!known) refuse_value(precision_name, precision, "known are " + list_of_names<Precision>());
  if (!number) refuse_value(hash_name, hash, "must be 16 hexadecimal digits");
  info.precision = *known;
  info.model_hash = *number;
  return info;
}

/// The dataset of an array, which holds what the shape promises.
Dataset find_array(const InputFile& file, const std::string& path, const Extents& shape) {
  auto dataset = Dataset::find(file, path);
  if (!dataset) throw ContentError(path + " is missing, the stream needs it as " + bracketed(shape));
  if (dataset->shape() != shape)
    throw ContentError(path + " is " + bracketed(dataset->shape()) + ", the stream needs " + bracketed(shape));
  dataset->check_storage();
  return std::move(*dataset);
}

/// Rows [first, first + count) of the first dimension, some at a time, into memory that may be on a device.
template <class Real>
void read_rows(const Dataset& dataset, std::int64_t first, std::int64_t count, const Array<Real*>& target) {
  constexpr std::int64_t most = (std::int64_t{1} << 26) / static_cast<std::int64_t>(sizeof(Real));
  const std::int64_t row = static_cast<std::int64_t>(target.size()) / count,
                     rows = std::max<std::int64_t>(1, most / row);
  Extents begin(dataset.shape().size(), 0), extents = dataset.shape();
  for (std::int64_t done = 0; done < count; done += rows) {
    begin[0] = first + done;
    extents[0] = std::min(rows, count - done);
    const Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged> part(
        target.data() + done * row, static_cast<std::size_t>(extents[0] * row));
    const auto host = Kokkos::create_mirror_view(part);
    dataset.read(native_real<Real>(), begin, extents, host.data());
    Kokkos::deep_copy(part, host);
  }
}

/// The same of numbers in the precision of the stream.
template <class Real>
Dataset find_numbers(const InputFile& file, const std::string& path, const Extents& shape) {
  Dataset dataset = find_array(file, path, shape);
  if (is_real(dataset.type()) && H5Tget_size(dataset.type()) == sizeof(Real)) return dataset;
  throw ContentError(path + " holds " + describe(dataset.type()) + ", the stream needs " +
                     std::to_string(8 * sizeof(Real)) + "-bit ones");
}

template <class Real>
Array<Real*> read_array(const InputFile& file, const std::string& group, const StateArray<Real>& array, int rank,
                        int ranks) {
  const Dataset dataset = find_numbers<Real>(file, group + '/' + array.name, array.shape);
  const Array<Real*> numbers = attention::allocate<Real>(array.name, array.elements_of(rank, ranks));
  if (array.by_block)
    read_rows<Real>(dataset, array.first_block(rank, ranks), array.block_count(rank, ranks), numbers);
  else
    read_rows<Real>(dataset, 0, array.shape[0], numbers);
  return numbers;
}

/// Marks [rows, columns], or [rows], on the host; none where there is nothing to be marked.
std::vector<std::uint8_t> read_marks(const InputFile& file, const std::string& path, const Extents& shape) {
  const std::int64_t columns = shape.size() == 1 ? 1 : shape[1];
  if (shape[0] * columns == 0) return {};
  const Dataset dataset = find_array(file, path, shape);
  if (!is_integer(dataset.type()))
    throw ContentError(path + " holds " + describe(dataset.type()) + ", must hold integers");
  std::vector<std::uint8_t> marks(static_cast<std::size_t>(shape[0] * columns));
  dataset.read(H5T_NATIVE_UINT8, Extents(shape.size(), 0), shape, marks.data());
  const auto bad = std::find_if(marks.begin(), marks.end(), [](std::uint8_t mark) { return mark > 1; });
  if (bad == marks.end()) return marks;
  Extents place{(bad - marks.begin()) / columns};
  if (shape.size() > 1) place.push_back((bad - marks.begin()) % columns);
  throw ContentError(path + ' ' + bracketed(place) + " is " + std::to_string(*bad) + ", must be 0 or 1");
}

template <class Real>
AttentionState<Real> read_layer(const InputFile& file, const std::string& group, const StateArrays<Real>& shape,
                                const StreamInfo& info, int rank, int ranks) {
  AttentionState<Real> state;
  state.tokens = info.tokens;
  state.key_row = shape.key_row;
  state.first_key = shape.first_key;
  for (const StateArray<Real>& array : shape.arrays) state.*array.member = read_array(file, group, array, rank, ranks);
  const auto real = read_marks(file, group + '/' + real_name, {shape.kept_tokens, info.batch});
  const auto chunks = read_marks(file, group + '/' + real_chunks_name, {info.batch, shape.marked_chunks});
  if (std::find(real.begin(), real.end(), 0) != real.end()) {
    state.real = attention::allocate<std::uint8_t>(real_name, static_cast<std::int64_t>(real.size()));
    Kokkos::deep_copy(state.real, HostArray<const std::uint8_t*>(real.data(), real.size()));
  }
  if (!chunks.empty()) {
    const Array<std::uint8_t**> marks("bsbr::stream::real_chunks", info.batch, shape.marked_chunks);
    Kokkos::deep_copy(marks, HostArray<const std::uint8_t**>(chunks.data(), marks.extent(0), marks.extent(1)));
    state.real_chunks = marks;
  }
  return state;
}

template <class Real>
Array<Real**> read_last_states(const InputFile& file, const StreamInfo& info) {
  if (last_states_of(info.config, info.batch, info.tokens) == 0) return {};
  const Dataset dataset = find_numbers<Real>(file, last_states_path, {info.batch, info.config.hidden_dim});
  const Array<Real**> states("bsbr::stream::last_states", info.batch, info.config.hidden_dim);
  read_rows<Real>(dataset, 0, info.batch, Array<Real*>(states.data(), states.size()));
  return states;
}

template <class Real>
void require_weights(const std::string& path, const StreamInfo& info, const Weights<Real>& weights) {
  require_stream_of(path, info, weights.config(), precision_of(weights));
  const std::uint64_t hash = weights_hash(weights);
  if (hash == info.model_hash) return;
  const std::string text = "is the stream of another model: of one whose weights have the hash " +
                           show_hash(info.model_hash) + ", not " + show_hash(hash);
  throw FileError(named(path, text.c_str()), "a stream goes on with the model that has read its tokens so far");
}

}  // namespace

template <class Real>
void write_stream(const std::string& path, const Stream<Real>& stream, const Weights<Real>& weights,
                  const Attributes& attributes) {
  const MPI_Comm comm = stream.comm();
  parallel::agree(comm, [&] {
    if (!stream.is_whole()) throw ShapeError("a piece of this stream has failed: it cannot be saved");
    if (const std::string other = difference(weights.config(), stream.config()); !other.empty())
      throw ShapeError("the weights are not those of the stream's model: its " + other);
    if (stream.rounding() && *stream.rounding() != weights.rounding())
      throw ShapeError("the weights are not those of the stream's model: factors are rounded differently");
  });
  const auto shape =
      attention::state_arrays<Real>(stream.config(), stream.batch(), stream.tokens(), weights.rounding());
  parallel::agree(comm, [&] {
    for (const AttentionState<Real>& state : stream.states()) {
      if (state.tokens > 0 && state.key_row != shape.key_row)
        throw ShapeError("the weights are not those of the stream's model: keys are stored differently");
    }
  });
  const int rank = parallel::rank_in(comm), ranks = parallel::ranks_of(comm);
  const std::uint64_t hash = rank == 0 ? weights_hash(weights) : 0;
  write_shared(path, comm,
               {.datasets = static_cast<std::int64_t>((shape.arrays.size() + 2) * stream.states().size() + 2),
                .bytes = bytes_of(stream, shape),
                .lay_out =
                    [&](hid_t file, const OutputFile&) {
                      write_head(file, stream, precision_of(weights), hash, attributes);
                      return lay_out(file, stream, shape);
                    },
                .fill =
                    [&](const Descriptor& file, const Places& places) {
                      auto place = places.begin();
                      for (const AttentionState<Real>& state : stream.states()) {
                        for (const StateArray<Real>& array : shape.arrays) {
                          const bool are_keys = array.member == &AttentionState<Real>::keys;
                          const std::int64_t skipped = are_keys ? shape.first_key - state.first_key : 0;
                          fill_array<Real>(file, *place++, array, state.*array.member, skipped, rank, ranks);
                        }
                      }
                      const Elements<Real> last(stream.last_states().data(), stream.last_states().size());
                      if (place != places.end())
                        fill_share(file, *place, last, 0, static_cast<std::int64_t>(last.size()), rank, ranks);
                    },
                .finish = {}});
}

StreamInfo read_stream_info(const std::string& path, MPI_Comm comm) {
  StreamInfo info;
  parallel::agree(comm, [&] {
    if (parallel::rank_in(comm) == 0) reading(path, [&] { info = read_info(InputFile(path)); });
  });
  static_assert(std::is_trivially_copyable_v<StreamInfo>);
  parallel::broadcast(&info, sizeof info, comm);
  return info;
}

void require_stream_of(const std::string& path, const StreamInfo& info, const ModelConfig& config,
                       Precision precision) {
  const auto refuse = [&](const std::string& what) {
    throw FileError(named(path, ("is the stream of another model or configuration: " + what).c_str()),
                    "a stream goes on with the model that has read its tokens so far, with the same --chunk-size");
  };
  if (const std::string other = difference(info.config, config); !other.empty()) refuse("its " + other);
  if (info.precision == precision) return;
  throw FileError(named(path, ("is a stream of precision " + std::string(to_string(info.precision)) + ", not " +
                               std::string(to_string(precision)))
                                  .c_str()),
                  "--precision " + std::string(to_string(info.precision)));
}

template <class Real>
Stream<Real> read_stream(const std::string& path, const Weights<Real>& weights, MPI_Comm comm) {
  const StreamInfo info = read_stream_info(path, comm);
  parallel::agree(comm, [&] { require_weights(path, info, weights); });
  const int rank = parallel::rank_in(comm), ranks = parallel::ranks_of(comm);
  std::vector<AttentionState<Real>> states;
  Array<Real**> last_states;
  std::vector<std::uint8_t> last_real;
  agree_on_file(path, comm, [&] {
    const InputFile file(path);
    const auto shape = attention::state_arrays<Real>(info.config, info.batch, info.tokens, weights.rounding());
    for (std::size_t layer = 0; layer < static_cast<std::size_t>(info.config.num_layers); ++layer)
      states.push_back(read_layer(file, layer_group(layer), shape, info, rank, ranks));
    last_states = read_last_states<Real>(file, info);
    if (info.tokens > 0) last_real = read_marks(file, std::string(stream_group) + '/' + last_real_name, {info.batch});
  });
  return {weights.config(),  comm,        info.batch,           info.tokens,
          std::move(states), last_states, std::move(last_real), weights.rounding()};
}

template void write_stream(const std::string&, const Stream<float>&, const Weights<float>&, const Attributes&);
template void write_stream(const std::string&, const Stream<double>&, const Weights<double>&, const Attributes&);
template Stream<float> read_stream(const std::string&, const Weights<float>&, MPI_Comm);
template Stream<double> read_stream(const std::string&, const Weights<double>&, MPI_Comm);

}  // namespace bsbr
