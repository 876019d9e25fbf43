// Result files: hidden states, or losses, of every token, in one contiguous dataset that all ranks fill.
#include <functional>

#include "bsbr/io.hpp"
#include "bsbr/token_pieces.hpp"
#include "config/weight_table.hpp"
#include "io/attributes.hpp"
#include "io/config_attributes.hpp"
#include "io/datatype.hpp"
#include "io/output_file.hpp"
#include "io/shared_file.hpp"
#include "io/text.hpp"
#include "io/weight_group.hpp"
#include "parallel/agree.hpp"

namespace bsbr {
namespace {

using namespace io;

constexpr std::int64_t format_version = 1;
constexpr const char* complete = "complete";

/// Calls function(first row of the file, first row of the view, rows) for each piece of the file that this rank fills.
template <class Function>
void for_each_run(const Sequence& sequence, Function&& function) {
  const std::int64_t local = sequence.local_tokens();
  if (local == 0) return;
  if (local == sequence.length()) return function(0, 0, sequence.batch() * local);
  for (std::int64_t row = 0; row < sequence.batch(); ++row)
    function(row * sequence.length() + sequence.offset(), row * local, local);
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

void write_head(hid_t file, const Kind& kind, const ModelConfig& config, const Attributes& attributes) {
  write_attribute(file, "format", kind.format);
  write_attribute(file, "format_version", format_version);
  write_attribute(file, complete, std::int64_t{0});
  write_config_attributes(file, config);
  write_attributes(file, attributes);
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

/// Writes everything but the elements.
template <class Real>
Places lay_out(hid_t file, const OutputFile& output, const Kind& kind, const Shape& shape, const ModelConfig& config,
               const Attributes& attributes) {
  write_head(file, kind, config, attributes);
  kind.write_more(file, output);
  Handle dataset = create_dataset(file, kind.dataset, shape.extents, native_real<Real>());
  write_attribute(dataset, "dimensions", kind.dimensions);
  const std::int64_t place = place_of(dataset);  // undefined for an empty one
  dataset.close("cannot be written");
  return {place};
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

/// Writes a whole file. fill(descriptor, place of the dataset) writes this rank's part.
template <class Real, class Fill>
void write_file(const std::string& path, const Kind& kind, const Shape& shape, const ModelConfig& config,
                const Attributes& attributes, MPI_Comm comm, const Fill& fill) {
  std::int64_t bytes = 0;
  parallel::agree(comm, [&] { writing(path, [&] { bytes = bytes_of(shape, sizeof(Real)); }); });
  write_shared(path, comm,
               {.datasets = 1 + kind.more_datasets,
                .bytes = bytes + kind.more_bytes,
                .lay_out =
                    [&](hid_t file, const OutputFile& output) {
                      return lay_out<Real>(file, output, kind, shape, config, attributes);
                    },
                .fill = [&](const Descriptor& file, const Places& places) { fill(file, places[0]); },
                .finish = [](hid_t file) { change_attribute(file, complete, 1); }});
}

/// The same with `rows`, this rank's part of the dataset.
template <class Real, class View>
void write_file(const std::string& path, const Kind& kind, const Shape& shape, const ModelConfig& config,
                const Attributes& attributes, const Sequence& sequence, const View& rows) {
  parallel::agree(sequence.comm(), [&] { check_shape(kind.dataset, shape, sequence, rows); });
  const Elements<Real> elements(rows.data(), rows.size());
  const std::int64_t width = shape.width(), row_bytes = width * static_cast<std::int64_t>(sizeof(Real));
  write_file<Real>(path, kind, shape, config, attributes, sequence.comm(),
                   [&](const Descriptor& file, std::int64_t place) {
                     for_each_run(sequence, [&](std::int64_t file_row, std::int64_t row, std::int64_t count) {
                       write_elements<Real>(file, place + file_row * row_bytes, elements, row * width, count * width);
                     });
                   });
}

/// The kind of a file of losses, whose mean is `loss`; it must live as long as the kind.
Kind kind_of_losses(const double& loss) {
  return {"bsbr-gradients", "token_loss", "batch, sequence", 1, 0, [&loss](hid_t file, const OutputFile&) {
            write_dataset(file, "loss", {}, native_real<double>(), &loss);
          }};
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
  write_file<double>(path, kind_of_losses(loss), shape, config, attributes, sequence, token_losses);
}

void write_token_losses(const std::string& path, const ModelConfig& config, const Attributes& attributes, MPI_Comm comm,
                        std::int64_t batch, std::int64_t length, double loss, const std::vector<TokenRange>& ranges,
                        const std::vector<double>& token_losses) {
  constexpr auto number = static_cast<std::int64_t>(sizeof(double));
  parallel::agree(comm, [&] {
    std::int64_t tokens = 0;
    for (const TokenRange& range : ranges) tokens += range.count;
    const auto given = static_cast<std::int64_t>(token_losses.size());
    if (given == batch * tokens) return;
    throw ShapeError(std::to_string(given) + " losses are not those of " + std::to_string(tokens) + " tokens of " +
                     std::to_string(batch) + " sequences");
  });
  write_file<double>(path, kind_of_losses(loss), {{batch, length}}, config, attributes, comm,
                     [&](const Descriptor& file, std::int64_t place) {
                       const double* next = token_losses.data();
                       for (const TokenRange& range : ranges) {
                         for (std::int64_t row = 0; row < batch; ++row, next += range.count)
                           file.write(place + (row * length + range.first) * number, next, range.count * number);
                       }
                     });
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
