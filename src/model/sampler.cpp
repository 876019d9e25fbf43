// Draws from the softmax of a row of logits, on the host: docs/mathematics.md#choosing-the-next-token.
#include <algorithm>
#include <cmath>
#include <string>

#include "bsbr/sampling.hpp"
#include "config/messages.hpp"
#include "config/require_number.hpp"
#include "kernels/philox.hpp"

namespace bsbr {
namespace {

/// (n + ½) / 2⁵², n of 52 random bits: in (0, 1), and exact.
double uniform_number(std::uint64_t seed, std::int64_t position, std::int64_t sequence) {
  const auto lower = [](std::int64_t number) { return static_cast<std::uint32_t>(number); };
  const auto upper = [](std::int64_t number) { return static_cast<std::uint32_t>(number >> 32); };
  const kernels::PhiloxWords bits =
      kernels::philox({{lower(position), upper(position), lower(sequence), upper(sequence)}}, seed);
  const std::uint64_t n = (std::uint64_t{bits.word[1]} << 32 | bits.word[0]) >> 12;
  return (static_cast<double>(n) + 0.5) * 0x1p-52;
}

/// The id of the largest logit, the smallest if there are several.
template <class Real>
std::size_t largest_of(std::span<const Real> logits) {
  if (logits.empty()) throw ShapeError("a token is to be chosen of no logits");
  std::size_t largest = 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    if (!std::isfinite(logits[id])) {
      throw NonfiniteLogitError("the logit of id " + std::to_string(id) + " is " +
                                show(static_cast<double>(logits[id])) + ": no token can be chosen");
    }
    if (logits[id] > logits[largest]) largest = id;
  }
  return largest;
}

}  // namespace

void SamplingOptions::validate() const {
  require_number(temperature >= 0, "temperature", temperature, "below 0",
                 "logits are divided by it: 1 leaves them as they are, 0 takes the largest one");
  require_number(top_k >= 0, "top_k", top_k, "below 0", "so many of the largest logits are kept: 0 keeps all");
  require_number(top_p > 0 && top_p <= 1, "top_p", top_p, top_p > 1 ? "above 1" : "not above 0",
                 "it is the probability that the tokens which are kept have together: 1 keeps all, 0.9 is usual");
}

Sampler::Sampler(const SamplingOptions& options) : m_options(options) { m_options.validate(); }

template <class Real>
std::int32_t Sampler::choose(std::span<const Real> logits, std::int64_t position, std::int64_t sequence) {
  const std::size_t largest = largest_of(logits);
  if (m_options.temperature == 0) return static_cast<std::int32_t>(largest);
  m_candidates.clear();
  for (std::size_t id = 0; id < logits.size(); ++id)
    m_candidates.push_back({static_cast<double>(logits[id]), 0, static_cast<std::int32_t>(id)});
  keep_top_k();
  weigh(static_cast<double>(logits[largest]));
  keep_top_p();
  return draw(uniform_number(m_options.seed, position, sequence));
}

bool Sampler::more_probable(const Candidate& one, const Candidate& other) {
  return one.logit > other.logit || (one.logit == other.logit && one.id < other.id);
}

void Sampler::keep_top_k() {
  const auto k = static_cast<std::size_t>(m_options.top_k);
  if (k == 0 || k >= m_candidates.size()) return;
  std::nth_element(m_candidates.begin(), m_candidates.begin() + m_options.top_k, m_candidates.end(), more_probable);
  keep_first(k);
}

void Sampler::weigh(double largest) {
  for (Candidate& candidate : m_candidates)
    candidate.weight = std::exp((candidate.logit - largest) / m_options.temperature);
}

/// The fewest of the most probable ones whose weights, added up in this order, reach p of the sum of all. Only as many
/// are sorted as are needed, or twice as many.
void Sampler::keep_top_p() {
  constexpr std::size_t sorted_at_first = 64;
  if (m_options.top_p == 1) return;
  const double enough = m_options.top_p * total();
  const auto place = [&](std::size_t i) { return m_candidates.begin() + static_cast<std::ptrdiff_t>(i); };
  double sum = 0;
  std::size_t kept = 0, sorted = 0;
  while (kept < m_candidates.size() && sum < enough) {
    if (kept == sorted) {
      sorted = std::min(std::max(2 * sorted, sorted_at_first), m_candidates.size());
      std::nth_element(place(kept), place(sorted), m_candidates.end(), more_probable);
      std::sort(place(kept), place(sorted), more_probable);
    }
    sum += m_candidates[kept++].weight;
  }
  keep_first(kept);
}

/// Of candidates in any order, as they come by id again.
void Sampler::keep_first(std::size_t count) {
  m_candidates.resize(count);
  std::sort(m_candidates.begin(), m_candidates.end(),
            [](const Candidate& one, const Candidate& other) { return one.id < other.id; });
}

double Sampler::total() const {
  double sum = 0;
  for (const Candidate& candidate : m_candidates) sum += candidate.weight;
  return sum;
}

/// The first id at which the sum of weights reaches its share of the total. One does: the last sum is the total.
std::int32_t Sampler::draw(double uniform) const {
  const double reached = uniform * total();
  double sum = 0;
  auto candidate = m_candidates.begin();
  while ((sum += candidate->weight) < reached) ++candidate;
  return candidate->id;
}

template std::int32_t Sampler::choose(std::span<const float>, std::int64_t, std::int64_t);
template std::int32_t Sampler::choose(std::span<const double>, std::int64_t, std::int64_t);

}  // namespace bsbr
