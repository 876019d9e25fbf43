// Segments of a scan one after the other, or several at a time, on one rank or on several.
#pragma once

#include <algorithm>
#include <optional>

#include "attention/attention.hpp"
#include "attention/overlap.hpp"
#include "attention/segment_states.hpp"
#include "bsbr/partition.hpp"
#include "kernels/state_scan.hpp"
#include "parallel/messages.hpp"
#include "parallel/neighbours.hpp"

namespace bsbr::attention {

/// A scan of kernels/state_scan.hpp, or one of a gradient, in two levels:
///
///     sums      T, and A, of all segments at once
///     states    S before each segment, by a tree over all of them (SegmentStates)
///     results   of all segments at once
///
/// One rank alone goes through the segments one after the other, each in one pass that forms results and sums, where
/// that occupies its threads, and else takes some at a time. The bits are the same, since both are sums over the same
/// tiles in the same order.
///
/// Across ranks only sums and states of segments move. Steps and segments are cut at global positions. A rank that
/// begins within a segment gets what the previous rank has summed of it, and the state from before its first step; the
/// tokens of that step that are not its own are the caller's to fetch. A sequence that goes on from earlier tokens
/// begins in the same way, with what an AttentionState has kept of them.
template <class Real>
class SegmentScan {
 public:
  /// elements: of the sums of one segment, kernels::segment_elements of the rule.
  SegmentScan(const Segments& segments, const Sequence& sequence, const kernels::ScanParts& parts,
              std::int64_t elements)
      : m_sequence(sequence),
        m_parts(parts),
        m_segments(segments),
        m_states(m_segments, m_parts, elements, slots(m_segments, m_parts, sequence)) {
    if (sequence.ranks() == 1) return;
    m_sum_from_previous = allocate<Real>("sum_from_previous", m_states.elements());
    m_sum_for_next = allocate<Real>("sum_for_next", m_states.elements());
    m_state_from_previous = allocate<Real>("state_from_previous", m_parts.total());
    m_state_for_next = allocate<Real>("state_for_next", m_parts.total());
  }

  /// The segments of another sequence with as many ranks.
  void move_to(const Segments& segments, const Sequence& sequence) {
    m_sequence = sequence;
    m_segments = segments;
    m_states.move_to(segments, slots(segments, m_parts, sequence));
  }

  static std::int64_t bytes(const Segments& segments, const Sequence& sequence, const kernels::ScanParts& parts,
                            std::int64_t elements) {
    const std::int64_t joints = sequence.ranks() == 1 ? 0 : 2 * (elements + parts.total());
    return SegmentStates<Real>::bytes(segments, parts, elements, slots(segments, parts, sequence)) +
           joints * static_cast<std::int64_t>(sizeof(Real));
  }

  const kernels::ScanParts& parts() const { return m_parts; }
  const Segments& segments() const { return m_segments; }

  /// Throws ShapeError unless the state is one of this scan, of the tokens before the sequence.
  void require_state(const AttentionState<Real>& state) const {
    m_states.require_state(state);
    if (m_sequence.origin() % m_segments.tokens() == 0) return;
    if (static_cast<std::int64_t>(state.sum.size()) != m_states.elements() ||
        static_cast<std::int64_t>(state.state.size()) != m_parts.total())
      refuse_state("it has no sum of the segment that has begun");
  }

  /// state: of the tokens before the sequence, whose sums and states become those of all up to its end; null: the
  /// sequence begins, and nothing is kept. Collective.
  template <class Tokens, class Rule>
  void scan(const Execution& execution, const Tokens& tokens, const Rule& rule, AttentionState<Real>* state,
            Profile* profile) {
    m_states.start(execution, state);
    // Where no step ends nothing is added to what the state has, and u of these tokens is formed anew with the next
    // ones.
    const bool stays = state != nullptr && m_sequence.ranks() == 1 && m_segments.goes_on_within_one() &&
                       tokens.end() == tokens.begin();
    const Kept kept = state != nullptr && m_sequence.end() % m_segments.tokens() != 0 && !stays
                          ? Kept(m_states.elements(), m_parts.total())
                          : Kept();
    m_sequence.ranks() == 1 ? scan_alone(execution, tokens, rule, state, kept, profile)
                            : scan_with_others(execution, tokens, rule, state, kept, profile);
    if (state == nullptr || stays) return;
    const Phase phase(execution, profile, "exchange");
    m_states.save(execution, *state, m_sequence);
    state->sum = kept.sum;
    state->state = kept.state;
    if (m_sequence.ranks() > 1 && kept.sum.size() > 0) {
      const int last = m_sequence.chunks().part_of(m_sequence.num_chunks() - 1);
      parallel::broadcast(execution, m_sequence.comm(), last, kept.sum);
      parallel::broadcast(execution, m_sequence.comm(), last, kept.state);
    }
  }

 private:
  /// What is kept of a segment that has begun when the sequence ends.
  struct Kept {
    Kept() = default;
    Kept(std::int64_t elements, std::int64_t states)
        : sum(allocate<Real>("kept_sum", elements)), state(allocate<Real>("kept_state", states)) {}
    Array<Real*> sum, state;
  };

  /// So many segments at a time as occupy all threads.
  template <class Tokens, class Rule>
  void scan_alone(const Execution& execution, const Tokens& tokens, const Rule& rule, const AttentionState<Real>* state,
                  const Kept& kept, Profile* profile) {
    const Phase phase(execution, profile, "scan");
    const std::int64_t at_once = kernels::segments_at_once(execution, m_parts);
    const std::int64_t leaves = m_segments.leaves(state != nullptr);
    for (std::int64_t first = m_segments.earlier(); first < m_segments.count(); first += at_once) {
      const std::int64_t count = std::min(at_once, m_segments.count() - first);
      const std::int64_t end = std::max(first, std::min(first + count, leaves));
      m_states.go_on_with(execution, first, end);
      auto memory = states(first);
      const bool begun = first == m_segments.earlier() && m_segments.joins_previous();
      if (begun) {
        memory.first_before = state->state.data();
        memory.first_sum = state->sum.data();
      }
      if (first + count == m_segments.count()) {
        memory.after = kept.state.data();
        keep_sum(execution, tokens, rule, begun && count == 1 ? memory.first_sum : nullptr, kept);
      }
      if (count == 1 && end > first) {
        memory.sums = m_states.sum(first);
        run<kernels::ScanPass::both>(execution, tokens, rule, segments(tokens, first, 1), memory);
      } else if (count == 1) {
        run<kernels::ScanPass::results>(execution, tokens, rule, segments(tokens, first, 1), memory);
      } else if (end > first) {
        auto summed = sums(first);
        summed.first_sum = memory.first_sum;
        run<kernels::ScanPass::sums>(execution, tokens, rule, segments(tokens, first, end - first), summed);
      }
      m_states.compose(execution, rule);
      if (count > 1) {
        const auto composed = states(first);
        memory.before = composed.before;
        if (!begun) memory.first_before = composed.first_before;
        run<kernels::ScanPass::results>(execution, tokens, rule, segments(tokens, first, count), memory);
      }
    }
  }

  /// The sum of the whole steps of a segment that goes on behind the sequence.
  template <class Tokens, class Rule>
  void keep_sum(const Execution& execution, const Tokens& tokens, const Rule& rule, const Real* first_sum,
                const Kept& kept) const {
    if (kept.sum.size() == 0) return;
    run<kernels::ScanPass::sums>(execution, tokens, rule, last_segment(tokens, tokens.end()),
                                 {.first_sum = first_sum, .sums = kept.sum.data()});
  }

  /// Sums; states; results. What the next rank waits for comes first.
  template <class Tokens, class Rule>
  void scan_with_others(const Execution& execution, const Tokens& tokens, const Rule& rule,
                        const AttentionState<Real>* state, const Kept& kept, Profile* profile) {
    if (m_sequence.local_tokens() == 0) return;
    const parallel::Neighbours neighbours = m_segments.neighbours();
    parallel::Messages<Real> messages(execution, m_sequence.comm());
    Joints joints{.kept = kept, .keeps = state != nullptr};
    {
      const Phase phase(execution, profile, "exchange");
      if (m_segments.joins_previous() && m_segments.begins_sequence()) {
        Kokkos::deep_copy(execution, m_sum_from_previous, state->sum);
        Kokkos::deep_copy(execution, m_state_from_previous, state->state);
      } else if (m_segments.joins_previous()) {
        if (has_sum<Rule>(m_segments.first(), joints.keeps))
          joints.sum = messages.receive(neighbours.previous, sum_tag, m_sum_from_previous);
        if (has_state<Rule>(m_segments.first()))
          joints.state = messages.receive(neighbours.previous, state_tag, m_state_from_previous);
      }
      m_states.post_receives(messages);
    }
    form_sums(execution, tokens, rule, messages, joints, neighbours.next, profile);
    {
      const Phase phase(execution, profile, "exchange");
      m_states.compose(execution, rule, &messages, neighbours.next);
    }
    form_results(execution, tokens, rule, messages, joints, neighbours.next, profile);
    const Phase phase(execution, profile, "exchange");
    finish(messages, "state", profile);
  }

  /// Messages from the previous rank, if there are any; and what is kept of the last segment.
  struct Joints {
    Kept kept;
    bool keeps = false;
    std::optional<std::size_t> sum = std::nullopt, state = std::nullopt;
  };

  template <class Tokens, class Rule>
  void form_sums(const Execution& execution, const Tokens& tokens, const Rule& rule, parallel::Messages<Real>& messages,
                 const Joints& joints, int next, Profile* profile) const {
    const auto form = [&](const kernels::ScanSegments& some, const kernels::ScanMemory<Real>& memory) {
      const Phase phase(execution, profile, "scan");
      run<kernels::ScanPass::sums>(execution, tokens, rule, some, memory);
    };
    const std::int64_t first = m_segments.first(), last = m_segments.last(), end = m_states.tree().end();
    const bool keeps_last = m_segments.ends_sequence() && joints.kept.sum.size() > 0;
    const bool goes_on = m_segments.joins_next() || keeps_last;
    const bool within_one = m_segments.joins_previous() && goes_on && first == last;
    const auto form_last = [&](const Real* first_sum) {
      if (keeps_last) {
        const Phase phase(execution, profile, "scan");
        return keep_sum(execution, tokens, rule, first_sum, joints.kept);
      }
      if (!m_segments.joins_next() || !has_sum<Rule>(last, joints.keeps)) return;
      form(last_segment(tokens, tokens.end()), {.first_sum = first_sum, .sums = m_sum_for_next.data()});
      const Phase phase(execution, profile, "exchange");
      messages.send(next, sum_tag, m_sum_for_next);
    };
    if (!within_one) form_last(nullptr);
    const std::int64_t begin = m_segments.joins_previous() ? first + 1 : first;
    if (begin < end) form(segments(tokens, begin, end - begin), sums(begin));
    if (!m_segments.joins_previous() || !has_sum<Rule>(first, joints.keeps)) return;
    if (joints.sum) {
      const Phase phase(execution, profile, "exchange");
      messages.wait_for(*joints.sum);
    }
    if (within_one) return form_last(m_sum_from_previous.data());
    if (first >= end) return;
    auto memory = sums(first);
    memory.first_sum = m_sum_from_previous.data();
    form(segments(tokens, first, 1), memory);
  }

  template <class Tokens, class Rule>
  void form_results(const Execution& execution, const Tokens& tokens, const Rule& rule,
                    parallel::Messages<Real>& messages, const Joints& joints, int next, Profile* profile) const {
    const auto form = [&](const kernels::ScanSegments& some, const kernels::ScanMemory<Real>& memory) {
      const Phase phase(execution, profile, "scan");
      run<kernels::ScanPass::results>(execution, tokens, rule, some, memory);
    };
    const auto pass_on = [&] {
      const Phase phase(execution, profile, "exchange");
      if (m_segments.joins_next() && has_state<Rule>(m_segments.last()))
        messages.send(next, state_tag, m_state_for_next);
    };
    const std::int64_t first = m_segments.first(), last = m_segments.last();
    const std::int64_t begin = m_segments.joins_previous() ? first + 1 : first;
    const bool last_is_first = last < begin,
               goes_on = m_segments.joins_next() || last * m_segments.tokens() < tokens.last;
    const Array<Real*>& after = m_segments.joins_next() ? m_state_for_next : joints.kept.state;
    if (goes_on && !last_is_first) {
      auto memory = states(last);
      memory.after = after.data();
      form(last_segment(tokens, tokens.last), memory);
      pass_on();
    }
    const Partition whole{std::max<std::int64_t>(0, last - begin), overlap_portions};
    overlap(
        execution, 0, overlap_portions,
        [&](int portion) {
          if (whole.size(portion) == 0) return;
          const std::int64_t from = begin + whole.begin(portion);
          form(segments(tokens, from, whole.size(portion)), states(from));
        },
        messages);
    if (!m_segments.joins_previous()) return;
    kernels::ScanMemory<Real> memory;
    if (joints.state) {
      const Phase phase(execution, profile, "exchange");
      messages.wait_for(*joints.state);
    }
    if (has_state<Rule>(first)) memory.first_before = m_state_from_previous.data();
    if (!Rule::corrects_state) memory.first_sum = m_sum_from_previous.data();
    if (last_is_first) memory.after = after.data();
    form(segments(tokens, first, 1), memory);
    if (last_is_first) pass_on();
  }

  template <kernels::ScanPass pass, class Tokens, class Rule>
  static void run(const Execution& execution, const Tokens& tokens, const Rule& rule, const kernels::ScanSegments& some,
                  const kernels::ScanMemory<Real>& memory) {
    kernels::scan_segments<pass>(execution, "bsbr::attention::scan", tokens, rule, some, memory);
  }

  /// Segments [first, first + count), as far as this rank has them.
  template <class Tokens>
  kernels::ScanSegments segments(const Tokens& tokens, std::int64_t first, std::int64_t count) const {
    return {.first = first, .count = count, .begin = tokens.begin(), .end = tokens.last, .tokens = m_segments.tokens()};
  }
  /// The last one, up to a token.
  template <class Tokens>
  kernels::ScanSegments last_segment(const Tokens& tokens, std::int64_t end) const {
    return {.first = m_segments.last(), .count = 1, .begin = tokens.begin(), .end = end, .tokens = m_segments.tokens()};
  }

  /// Where sums of the segments from `first` on go.
  kernels::ScanMemory<Real> sums(std::int64_t first) const {
    return {.sums = m_states.sum(first), .stride = m_states.elements()};
  }
  /// Where the states before the segments from `first` on are.
  kernels::ScanMemory<Real> states(std::int64_t first) const {
    const Real* next = m_states.tree().owns(first + 1) ? m_states.before(first + 1) : nullptr;
    return {.first_before = m_states.before(first), .before = next, .stride = m_states.elements()};
  }

  /// Whether the sum of a segment that ranks share is of use: it is what the segments behind it begin with, and where u
  /// does not depend on the state also the later tokens of the segment.
  template <class Rule>
  bool has_sum(std::int64_t segment, bool keeps) const {
    return keeps || segment < m_segments.leaves(false) || !Rule::corrects_state;
  }

  /// Whether the later tokens of a segment that ranks share need a state from before: where u does not depend on it,
  /// those of the first segment have none.
  template <class Rule>
  static bool has_state(std::int64_t segment) {
    return segment > 0 || Rule::corrects_state;
  }

  static std::int64_t slots(const Segments& segments, const kernels::ScanParts& parts, const Sequence& sequence) {
    const parallel::PrefixTree tree = segments.tree(true);
    const std::int64_t own = tree.end() - tree.begin();
    return sequence.ranks() == 1 ? std::min(own, kernels::segments_at_once(Execution(), parts)) : own;
  }

  static constexpr int sum_tag = 2, state_tag = 3;

  Sequence m_sequence;
  kernels::ScanParts m_parts;
  Segments m_segments;
  SegmentStates<Real> m_states;
  Array<Real*> m_sum_from_previous, m_sum_for_next;      // of the segment that is shared; with several ranks
  Array<Real*> m_state_from_previous, m_state_for_next;  // as ScanMemory::after
};

}  // namespace bsbr::attention
