#include "programs/evaluate_pieces.hpp"

#include <Kokkos_Core.hpp>
#include <algorithm>
#include <optional>
#include <vector>

#include "bsbr/io.hpp"
#include "bsbr/loss.hpp"
#include "bsbr/model.hpp"
#include "bsbr/nonfinite.hpp"
#include "bsbr/parallel.hpp"
#include "bsbr/piece_loss.hpp"
#include "bsbr/stream.hpp"
#include "bsbr/stream_file.hpp"
#include "bsbr/token_pieces.hpp"
#include "harness/format.hpp"
#include "kernels/backend.hpp"
#include "measure/measurement.hpp"
#include "memory/footprint.hpp"
#include "programs/evaluation_input.hpp"
#include "programs/loss_by_position.hpp"
#include "programs/model_run.hpp"
#include "progress/progress.hpp"
#include "report/summary.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

/// What is fed: all sequences of the input together, `piece` tokens of each at a time.
struct PieceJob {
  const Runtime& runtime;
  const EvaluateOptions& options;
  TokenSource source;
  std::int64_t batch = 0, length = 0, piece = 0;
  std::int64_t origin = 0;  ///< tokens that the stream has read before

  std::int64_t pieces() const { return (length + piece - 1) / piece; }
  std::int64_t size(std::int64_t number) const { return std::min(piece, length - number * piece); }

  /// At most so many tokens of a sequence does a rank get, of all pieces: with fewer chunks in a piece than ranks some
  /// get none, and others always one.
  std::int64_t most_local_tokens(std::int64_t chunk_size, int ranks) const {
    const std::int64_t chunks = piece / chunk_size + 2;  // that a piece may be in
    const std::int64_t of_piece = (chunks / ranks + 1) * chunk_size;
    return of_piece < length / pieces() ? of_piece * pieces() : length;
  }
};

/// Sums of losses, and if they are wanted those of all tokens.
class PieceLosses {
 public:
  /// most_kept: losses that this rank may get to keep.
  PieceLosses(const PieceJob& job, bool keeps, std::int64_t most_kept) : m_keeps(keeps), m_sum(job.batch, job.length) {
    if (keeps) m_of_tokens.reserve(static_cast<std::size_t>(most_kept));
  }

  /// Of the tokens of each sequence from `first` on.
  void add(const Batch& piece, std::int64_t first, const Array<double**>& losses) {
    m_sum.add(piece.sequence, losses, piece.targets);
    if (!m_keeps) return;
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), losses);
    m_ranges.push_back({first + piece.sequence.offset(), piece.sequence.local_tokens()});
    m_of_tokens.insert(m_of_tokens.end(), host.data(), host.data() + host.size());
  }

  const PieceLossSum& sum() const { return m_sum; }
  const std::vector<TokenRange>& ranges() const { return m_ranges; }
  const std::vector<double>& of_tokens() const { return m_of_tokens; }

 private:
  bool m_keeps;
  PieceLossSum m_sum;
  std::vector<TokenRange> m_ranges;
  std::vector<double> m_of_tokens;
};

/// Throws unless a saved stream can go on with this model and input, and returns how many tokens it has read.
std::int64_t origin_of(const Runtime& runtime, const EvaluateOptions& options, const ModelConfig& config,
                       const TokenShape& shape) {
  if (options.state_in.empty()) return 0;
  const StreamInfo info = read_stream_info(options.state_in, runtime.comm());
  if (options.chunk_size && *options.chunk_size != info.config.chunk_size) {
    throw UsageError("--chunk-size " + show_count(*options.chunk_size) + ": the stream of " + options.state_in +
                     " has chunks of " + show_count(info.config.chunk_size));
  }
  require_stream_of(options.state_in, info, config, options.precision);
  if (info.batch == shape.batch) return info.tokens;
  throw FileError(options.state_in + ": is of " + show_several(info.batch, "sequence") + ", the input has " +
                  show_count(shape.batch));
}

/// Feeds all pieces, and sums up their losses.
template <class Real>
void compute_losses(const PieceJob& job, const Weights<Real>& weights, Stream<Real>& stream, PieceLosses& losses,
                    Progress& progress, Summary& summary) {
  const MPI_Comm comm = job.runtime.comm();
  const Execution execution;
  Model<Real> model(weights);
  std::optional<OutputLayer<Real>> head;
  parallel::agree(comm, [&] {
    head.emplace(weights);
    stream.reserve(job.origin + job.length);
  });
  for (std::int64_t number = 0; number < job.pieces(); ++number) {
    const std::int64_t first = number * job.piece;
    const Batch piece =
        read_piece(job.source, stream.next(job.size(number)), first, job.length, summary.config.vocab_size);
    Array<Real***> states;
    Array<double**> of_tokens;
    summary.measurement.add(measure(comm, 1, [&](std::int64_t, Profile& profile) {
      profile.progress = progress.forward("", number, job.pieces());
      states = stream.feed(execution, model, piece.sequence, piece.device->ids, piece.device->mask, &profile);
      of_tokens = head->losses(execution, piece.sequence, states, piece.targets, &profile).loss;
    }));
    summary.add(find_nonfinite<Real>(execution, piece.sequence, states), {0, first});
    parallel::agree(comm, [&] { losses.add(piece, first, of_tokens); });
  }
}

/// Means and files.
template <class Real>
void finish(const PieceJob& job, const Weights<Real>& weights, const Stream<Real>& stream, const PieceLosses& losses,
            Progress& progress, Summary& summary) {
  const EvaluateOptions& options = job.options;
  const MPI_Comm comm = job.runtime.comm();
  summary.loss = losses.sum().mean(comm);
  summary.stream->bytes = largest(comm, stream.bytes());
  const auto write = [&](const std::string& path, const auto& work) {
    if (path.empty()) return;
    progress.step("writing " + path);
    work();
  };
  write(options.by_position,
        [&] { write_by_position(job.runtime, options.by_position, losses.sum().by_position(comm)); });
  write(options.token_losses, [&] {
    write_token_losses(options.token_losses, summary.config, result_attributes(options, summary), comm, job.batch,
                       job.length, summary.loss->loss, losses.ranges(), losses.of_tokens());
  });
  write(options.state_out,
        [&] { write_stream(options.state_out, stream, weights, result_attributes(options, summary)); });
}

/// The run itself, once it is known to be possible.
template <class Real>
void compute(const PieceJob& job, Summary& summary) {
  const EvaluateOptions& options = job.options;
  const MPI_Comm comm = job.runtime.comm();
  Progress progress(options.progress, job.runtime.is_first(), "bsbr_evaluate");
  progress.step("reading " + options.model);
  Weights<Real> weights = read_weights<Real>(options.model, comm);
  weights.set_config(summary.config);
  weights.set_rounding(rounding_of(options.precision));
  if (!options.state_in.empty()) progress.step("reading " + options.state_in);
  Stream<Real> stream = options.state_in.empty() ? Stream<Real>(summary.config, comm, job.batch, weights.rounding())
                                                 : read_stream<Real>(options.state_in, weights, comm);
  progress.step("reading " + options.input_name());
  const std::int64_t most_kept = job.batch * job.most_local_tokens(summary.config.chunk_size, parallel::ranks_of(comm));
  PieceLosses losses(job, !options.token_losses.empty(), most_kept);
  compute_losses(job, weights, stream, losses, progress, summary);
  finish(job, weights, stream, losses, progress, summary);
}

/// Of the largest piece, behind all others.
template <class Real>
Footprint footprint_of(const PieceJob& job, const ModelConfig& config, bool has_mask) {
  const Sequence last(job.runtime.comm(), job.batch, job.piece, config.chunk_size, job.origin + job.length - job.piece);
  Footprint footprint;
  parallel::agree(job.runtime.comm(), [&] {
    const std::int64_t stream = stream_bytes<Real>(config, job.batch, job.origin + job.length, last.ranks(),
                                                   last.rank(), rounding_of(job.options.precision));
    footprint = predict_footprint<Real>(
        config, last,
        {.mask = has_mask,
         .result = !job.options.token_losses.empty() || !job.options.state_out.empty(),
         .loss = true,
         .rounding = rounding_of(job.options.precision),
         .kept_losses = job.options.token_losses.empty()
                            ? 0
                            : job.batch * job.most_local_tokens(config.chunk_size, last.ranks())});
    if (kernels::host_memory) footprint.added += stream + stream / config.num_layers;  // one layer's grow in new arrays
  });
  return footprint;
}

}  // namespace

template <class Real>
void evaluate_pieces(const Runtime& runtime, const EvaluateOptions& options, const std::string& stdin_path,
                     const ModelConfig& config) {
  TokenShape shape = find_input_shape(options, stdin_path, config.vocab_size, runtime.comm());
  shape.length = std::min(shape.length, options.max_tokens.value_or(shape.length));
  const PieceJob job{.runtime = runtime,
                     .options = options,
                     .source = source_of(options, stdin_path),
                     .batch = shape.batch,
                     .length = shape.length,
                     .piece = std::min(shape.length, options.pieces.value_or(shape.length)),
                     .origin = origin_of(runtime, options, config, shape)};
  const Footprint footprint = footprint_of<Real>(job, config, shape.has_mask);
  const Sequence first(runtime.comm(), job.batch, job.piece, config.chunk_size, job.origin);
  Summary summary = begin_summary(runtime, options, config, shape);
  const std::int64_t held = stream_bytes<Real>(config, job.batch, job.origin + job.length, first.ranks(), first.rank(),
                                               rounding_of(options.precision));
  summary.stream = Streamed{job.origin, job.piece, largest(runtime.comm(), held)};
  summary.evaluates = true;
  summary.output = options.token_losses.empty() ? options.state_out : options.token_losses;
  run_and_report(runtime, options, first, footprint, summary, [&] { compute<Real>(job, summary); });
}

template void evaluate_pieces<float>(const Runtime&, const EvaluateOptions&, const std::string&, const ModelConfig&);
template void evaluate_pieces<double>(const Runtime&, const EvaluateOptions&, const std::string&, const ModelConfig&);

}  // namespace bsbr::apps
