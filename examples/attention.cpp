// One attention in a model of your own: the projections are yours, the attention is computed on your Views. What comes
// out is compared with the formula in docs/mathematics.md, written as plain loops.
#include <bsbr/bsbr.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr std::int64_t length = 1000;

bsbr::ModelConfig make_config() {
  bsbr::ModelConfig config;  // bsbr, causal
  config.hidden_dim = 64;
  config.num_heads = 4;
  config.chunk_size = 96;
  return config;
}

/// What your model makes of this rank's tokens; heads lie side by side.
struct Projections {
  bsbr::Array<float***> qkv;   ///< [batch, local tokens, 3 · hidden_dim]: queries, keys and values in one buffer
  bsbr::Array<float***> r, h;  ///< [batch, local chunks, hidden_dim]
};

/// Stands for projections of your own: numbers that depend on the token's place in the whole sequence, whichever rank
/// has it. This model retrieves with the query and the key of each chunk's last token.
Projections project(const bsbr::Execution& execution, const bsbr::ModelConfig& config, const bsbr::Sequence& sequence) {
  const std::int64_t tokens = sequence.local_tokens(), chunks = sequence.local_chunks();
  const std::int64_t hidden = config.hidden_dim, chunk_size = config.chunk_size, first = sequence.first_token();
  const bsbr::Array<float***> qkv("my_model::qkv", 1, tokens, 3 * hidden);
  const bsbr::Array<float***> r("my_model::r", 1, chunks, hidden), h("my_model::h", 1, chunks, hidden);
  using Range = Kokkos::RangePolicy<bsbr::Execution>;
  Kokkos::parallel_for(
      "my_model::project", Range(execution, 0, tokens), KOKKOS_LAMBDA(std::int64_t t) {
        for (std::int64_t c = 0; c < 3 * hidden; ++c)
          qkv(0, t, c) = float(((first + t) * 7919 + c * c * 31) % 1009) / 1009 - 0.5F;
      });
  Kokkos::parallel_for(
      "my_model::retrieval", Range(execution, 0, chunks), KOKKOS_LAMBDA(std::int64_t j) {
        const std::int64_t last = ((j + 1) * chunk_size < tokens ? (j + 1) * chunk_size : tokens) - 1;
        for (std::int64_t c = 0; c < hidden; ++c) {
          r(0, j, c) = qkv(0, last, c);
          h(0, j, c) = qkv(0, last, hidden + c);
        }
      });
  return {qkv, r, h};
}

/// The heads' results for this rank's tokens, on the host: [batch, local tokens, hidden_dim].
bsbr::HostArray<float***> attend(const bsbr::ModelConfig& config, const bsbr::Sequence& sequence) {
  const bsbr::Execution execution;
  const Projections projections = project(execution, config, sequence);
  const auto columns = [&](std::int64_t i) {
    return Kokkos::subview(projections.qkv, Kokkos::ALL, Kokkos::ALL,
                           Kokkos::make_pair(i * config.hidden_dim, (i + 1) * config.hidden_dim));
  };
  bsbr::AttentionInput<float> input;
  input.query = columns(0);  // Views into your buffer: nothing is copied
  input.key = columns(1);
  input.value = columns(2);
  input.retrieval_query = projections.r;
  input.retrieval_key = projections.h;

  const auto attention = bsbr::Attention<float>::create(config, sequence);  // once, for all layers
  const bsbr::PaddingMask mask(execution, sequence);                        // no padding
  const bsbr::Array<float***> output("my_model::heads", 1, sequence.local_tokens(), config.hidden_dim);
  attention->forward(execution, mask, input, output);
  execution.fence();
  return Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), output);
}

/// One head of causal BSBR for the whole sequence, as plain loops. Rows of qkv: query, key, value of a token.
class PlainHead {
 public:
  PlainHead(const bsbr::ModelConfig& config, std::int64_t head, const bsbr::HostArray<const float***>& qkv)
      : m_dim(config.head_dim()),
        m_chunk_size(config.chunk_size),
        m_hidden(config.hidden_dim),
        m_head(head),
        m_qkv(qkv) {}

  /// o_t = Σ_s softmax_s(q_t·k_s / √d) v_s + Σ_j softmax_j(r_i·h_j / √d) Σ_s (q_t·k_s) v_s: s in t's chunk i up to t; j
  /// < i, s in chunk j. r_i is the query of the last token of chunk i − 1, h_j the key of the last one of chunk j.
  std::vector<double> operator()(std::int64_t t) const {
    const std::int64_t begin = t / m_chunk_size * m_chunk_size;
    std::vector<double> output(m_dim, 0);
    const auto within = softmax(t, begin, t + 1, 1);
    for (std::int64_t s = begin; s <= t; ++s) add(output, within[s - begin], s);
    if (begin == 0) return output;
    const auto between = softmax(begin - 1, m_chunk_size - 1, begin, m_chunk_size);
    for (std::int64_t s = 0; s < begin; ++s) add(output, between[s / m_chunk_size] * dot(t, s), s);
    return output;
  }

 private:
  double at(std::int64_t token, int what, std::int64_t c) const {
    return m_qkv(0, token, what * m_hidden + m_head * m_dim + c);
  }

  /// q_t·k_s
  double dot(std::int64_t t, std::int64_t s) const {
    double sum = 0;
    for (std::int64_t c = 0; c < m_dim; ++c) sum += at(t, 0, c) * at(s, 1, c);
    return sum;
  }

  void add(std::vector<double>& output, double weight, std::int64_t s) const {
    for (std::int64_t c = 0; c < m_dim; ++c) output[c] += weight * at(s, 2, c);
  }

  /// Weights of the keys begin, begin + step, … below end for the query of token t.
  std::vector<double> softmax(std::int64_t t, std::int64_t begin, std::int64_t end, std::int64_t step) const {
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t s = begin; s < end; s += step) {
      weights.push_back(std::exp(dot(t, s) / std::sqrt(double(m_dim))));
      sum += weights.back();
    }
    for (double& weight : weights) weight /= sum;
    return weights;
  }

  std::int64_t m_dim, m_chunk_size, m_hidden, m_head;
  bsbr::HostArray<const float***> m_qkv;
};

/// The largest difference between the library and the plain loops, over this rank's tokens.
double compare(const bsbr::ModelConfig& config, const bsbr::Sequence& sequence,
               const bsbr::HostArray<float***>& heads) {
  const bsbr::Sequence whole(MPI_COMM_SELF, 1, length, config.chunk_size);
  const auto qkv =
      Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), project(bsbr::Execution(), config, whole).qkv);
  double largest = 0;
  for (std::int64_t head = 0; head < config.num_heads; ++head) {
    const PlainHead plain(config, head, qkv);
    for (std::int64_t t = 0; t < sequence.local_tokens(); ++t) {
      const auto expected = plain(sequence.first_token() + t);
      for (std::int64_t c = 0; c < config.head_dim(); ++c) {
        largest = std::fmax(largest, std::abs(heads(0, t, head * config.head_dim() + c) - expected[c]));
      }
    }
  }
  return largest;
}

double run(MPI_Comm comm) {
  const bsbr::ModelConfig config = make_config();
  const bsbr::Sequence sequence(comm, 1, length, config.chunk_size);
  double difference = compare(config, sequence, attend(config, sequence));
  MPI_Allreduce(MPI_IN_PLACE, &difference, 1, MPI_DOUBLE, MPI_MAX, comm);
  if (sequence.rank() == 0) {
    std::printf("heads: %d, tokens: %d, ranks: %d, largest difference to plain loops: %.1e\n", int(config.num_heads),
                int(length), sequence.ranks(), difference);
  }
  return difference;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  setenv("KOKKOS_DISABLE_WARNINGS", "1", 0);  // about OMP_PROC_BIND, from every rank
  Kokkos::initialize(argc, argv);
  const double difference = run(MPI_COMM_WORLD);
  Kokkos::finalize();
  MPI_Finalize();
  return difference < 1e-4 ? 0 : 1;
}
