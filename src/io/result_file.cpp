// Result files: hidden states, or losses, of every token. Rank 0 lays the file out with HDF5 and closes it, all ranks
// put their rows of the one contiguous dataset where HDF5 wants them, and rank 0 finishes the file.
//
// The rows are written with the system's own calls, not through HDF5 and MPI-IO: a rank's part of a sequence is one
// piece of the file, so there is nothing that collective buffering could put together. In return an error stays where
// it is found, and no rank waits in a collective call for one that has given up; a full disk is told as such (Open
// MPI's ompio reports success from collective writes to one, or hangs); no H5Fclose can fail over it; and names with
// colons work (ROMIO takes what stands before one for a kind of file system).
#include <fcntl.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "bsbr/io.hpp"
#include "config/weight_table.hpp"
#include "io/attributes.hpp"
#include "io/config_attributes.hpp"
#include "io/datatype.hpp"
#include "io/descriptor.hpp"
#include "io/output_file.hpp"
#include "io/text.hpp"
#include "io/unfinished.hpp"
#include "io/weight_group.hpp"
#include "parallel/agree.hpp"
#include "parallel/collectives.hpp"

namespace bsbr {
namespace {

using namespace io;

constexpr std::int64_t format_version = 1;
constexpr const char* complete = "complete";
constexpr std::int64_t piece_bytes = 1 << 26;  // of elements on a device, which pass through a buffer of this size

/// Calls function(first row of the file, first row of the view, rows) for each piece of the file that this rank fills.
template <class Function>
void for_each_run(const Sequence& sequence, Function&& function) {
  const std::int64_t local = sequence.local_tokens();
  if (local == 0) return;
  if (local == sequence.length()) return function(0, 0, sequence.batch() * local);
  for (std::int64_t row = 0; row < sequence.batch(); ++row)
    function(row * sequence.length() + sequence.offset(), row * local, local);
}

template <class Real>
using Elements = Kokkos::View<const Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged>;

/// Writes `count` numbers of a view that may be on a device.
template <class Real>
void write_elements(const Descriptor& file, std::int64_t offset, const Elements<Real>& elements, std::int64_t begin,
                    std::int64_t count) {
  constexpr std::int64_t number = sizeof(Real), most = piece_bytes / number;
  for (std::int64_t done = 0; done < count; done += most) {
    const std::int64_t now = std::min(most, count - done);
    const Elements<Real> part(elements.data() + begin + done, static_cast<std::size_t>(now));
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), part);
    file.write(offset + done * number, host.data(), now * number);
  }
}

/// What a kind of result is called, and what its file holds besides the rows of tokens, which rank 0 writes.
struct Kind {
  std::string format, dataset, dimensions;
  std::int64_t more_datasets = 0, more_bytes = 0;
  std::function<void(hid_t file, const OutputFile& output)> write_more = [](hid_t, const OutputFile&) {};
};

/// The dataset: for each token a number, or a row of them.
struct Shape {
  std::vector<std::int64_t> extents;  ///< [batch, length] or [batch, length, width]
  std::int64_t width() const { return extents.size() > 2 ? extents[2] : 1; }
};

void write_attributes(hid_t file, const Kind& kind, const ModelConfig& config, const Attributes& attributes) {
  write_attribute(file, "format", kind.format);
  write_attribute(file, "format_version", format_version);
  write_attribute(file, complete, std::int64_t{0});
  write_config_attributes(file, config);
  for (const auto& [name, value] : attributes) {
    if (H5Aexists(file, name.c_str()) > 0) throw ContentError("attribute " + printable(name) + " is given twice");
    std::visit([&, &key = name](const auto& one) { write_attribute(file, key, one); }, value);
  }
}

std::int64_t bytes_of(const Shape& shape, std::size_t number) {
  __int128 bytes = static_cast<__int128>(number);
  for (const auto extent : shape.extents) {
    bytes *= extent;
    if (bytes > std::int64_t{1} << 62)
      throw ContentError("a result of " + bracketed(shape.extents) + " is larger than any file");
  }
  return static_cast<std::int64_t>(bytes);
}

/// What the ranks must know of the file that rank 0 has made.
struct Layout {
  std::int64_t offset = 0, bytes = 0, identity = 0;  // of the first number, of the whole file, of the file
};

/// Writes everything but the elements.
template <class Real>
Layout lay_out(OutputFile& output, const Kind& kind, const Shape& shape, const ModelConfig& config,
               const Attributes& attributes) {
  Handle file = output.open();
  write_attributes(file, kind, config, attributes);
  kind.write_more(file, output);
  Handle dataset = create_dataset(file, kind.dataset, shape.extents, native_real<Real>());
  write_attribute(dataset, "dimensions", kind.dimensions);
  const haddr_t offset = H5Dget_offset(dataset);  // undefined for an empty one
  dataset.close("cannot be written");
  output.close(file);
  const std::int64_t bytes = Descriptor(output.part(), O_RDONLY, "cannot be written").size();
  return {static_cast<std::int64_t>(offset), bytes, output.identity()};
}

void finish(OutputFile& output) {
  Handle file = output.open();
  change_attribute(file, complete, 1);
  output.close(file);
  output.commit();
}

/// `shape`: of the whole, of which `rows` are this rank's part.
template <class View>
void check_shape(const std::string& name, const Shape& shape, const Sequence& sequence, const View& rows) {
  std::vector<std::int64_t> needed = shape.extents, given;
  needed[1] = sequence.local_tokens();
  for (std::size_t i = 0; i < needed.size(); ++i) given.push_back(static_cast<std::int64_t>(rows.extent(i)));
  if (given != needed)
    throw ShapeError(name + " is " + bracketed(given) + ", the sequence and the configuration need " +
                     bracketed(needed));
  if (!rows.span_is_contiguous()) throw ShapeError(name + " is not contiguous");
}

/// Writes this rank's rows. Not collective.
template <class Real>
void write_rows(const std::string& part, const Layout& layout, const Sequence& sequence, std::int64_t width,
                const Elements<Real>& elements) {
  const std::string doing =
      "cannot be written" + (sequence.ranks() > 1 ? " by rank " + std::to_string(sequence.rank()) : "");
  Descriptor file(part, O_WRONLY, doing);
  if (file.size() != layout.bytes || file.identity() != layout.identity) {
    throw ContentError(doing + ", which sees another file under the name " + printable(part),
                       "the folder must be one that all nodes share, and one run at a time can write a file");
  }
  for_each_run(sequence, [&](std::int64_t file_row, std::int64_t row, std::int64_t rows) {
    const std::int64_t begin = layout.offset + file_row * width * static_cast<std::int64_t>(sizeof(Real));
    write_elements<Real>(file, begin, elements, row * width, rows * width);
  });
  file.sync();
  file.close();
}

/// Writes a whole file; `rows`: this rank's part of the dataset.
template <class Real, class View>
void write_file(const std::string& path, const Kind& kind, const Shape& shape, const ModelConfig& config,
                const Attributes& attributes, const Sequence& sequence, const View& rows) {
  const MPI_Comm comm = sequence.comm();
  parallel::agree(comm, [&] { check_shape(kind.dataset, shape, sequence, rows); });
  Kokkos::fence();  // whoever computes the rows may not be done
  std::optional<OutputFile> output;
  Layout layout;
  parallel::agree(comm, [&] {
    if (sequence.rank() != 0) return;
    writing(path, [&] {
      output.emplace(path, 1 + kind.more_datasets, bytes_of(shape, sizeof(Real)) + kind.more_bytes);
      layout = lay_out<Real>(*output, kind, shape, config, attributes);
    });
  });
  parallel::broadcast(&layout, sizeof layout, comm);
  std::string part = output ? output->part() : "";
  parallel::broadcast(part, comm);
  std::optional<UnfinishedFile>
      unfinished;  // of the other ranks: one that was stopped cannot finish what they have given up
  if (!output) unfinished.emplace(part, layout.identity);
  const Elements<Real> elements(rows.data(), rows.size());
  parallel::agree(comm,
                  [&] { writing(path, [&] { write_rows<Real>(part, layout, sequence, shape.width(), elements); }); });
  parallel::agree(comm, [&] {
    if (output) writing(path, [&] { finish(*output); });
  });
}

}  // namespace

template <class Real>
void write_result(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                  const Sequence& sequence, const Array<const Real***>& hidden_states) {
  const Shape shape{{sequence.batch(), sequence.length(), config.hidden_dim}};
  write_file<Real>(path, {"bsbr-result", "hidden_states", "batch, sequence, hidden"}, shape, config, attributes,
                   sequence, hidden_states);
}

void write_token_losses(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                        const Sequence& sequence, double loss, const Array<const double**>& token_losses) {
  const Shape shape{{sequence.batch(), sequence.length()}};
  const auto write_loss = [&](hid_t file, const OutputFile&) {
    write_dataset(file, "loss", {}, native_real<double>(), &loss);
  };
  write_file<double>(path, {"bsbr-gradients", "token_loss", "batch, sequence", 1, 0, write_loss}, shape, config,
                     attributes, sequence, token_losses);
}

template <class Real>
void write_gradients(const std::string& path, const ModelConfig& config, const Attributes& attributes,
                     const Sequence& sequence, double loss, const Array<const double**>& token_losses,
                     const WeightArray<Real>& gradients) {
  const Shape shape{{sequence.batch(), sequence.length()}};
  const auto write_more = [&](hid_t file, const OutputFile& output) {
    write_dataset(file, "loss", {}, native_real<double>(), &loss);
    write_weight_group(file, "gradients", output, config, gradients.data());
  };
  const std::int64_t datasets = 1 + WeightLayout(config).count(),
                     bytes = parameter_count(config) * static_cast<std::int64_t>(sizeof(Real));
  write_file<double>(path, {"bsbr-gradients", "token_loss", "batch, sequence", datasets, bytes, write_more}, shape,
                     config, attributes, sequence, token_losses);
}

void check_output_path(const std::string& path, MPI_Comm comm) {
  const int rank = parallel::rank_in(comm);
  parallel::agree(comm, [&] {
    if (rank == 0) writing(path, [&] { require_writable(path); });
  });
}

template void write_gradients<float>(const std::string&, const ModelConfig&, const Attributes&, const Sequence&, double,
                                     const Array<const double**>&, const WeightArray<float>&);
template void write_gradients<double>(const std::string&, const ModelConfig&, const Attributes&, const Sequence&,
                                      double, const Array<const double**>&, const WeightArray<double>&);
template void write_result<float>(const std::string&, const ModelConfig&, const Attributes&, const Sequence&,
                                  const Array<const float***>&);
template void write_result<double>(const std::string&, const ModelConfig&, const Attributes&, const Sequence&,
                                   const Array<const double***>&);

}  // namespace bsbr
