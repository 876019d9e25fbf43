// The states before the segments of a scan, from the sums of the segments: a prefix over the whole sequence, whose
// order depends on the segments' indices only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention.hpp"
#include "attention/kept_keys.hpp"
#include "bsbr/sequence.hpp"
#include "kernels/segment_sums.hpp"
#include "parallel/messages.hpp"
#include "parallel/neighbours.hpp"
#include "parallel/prefix_tree.hpp"
#include "parallel/tree_level.hpp"

namespace bsbr::attention {

/// How a sequence is cut into segments, and which of them a rank sums: those whose last tokens it has. The last segment
/// of the sequence needs no sum, unless a state is kept for tokens behind it.
///
/// From the last token to the first, for a gradient, segments and tokens are numbered as a ScanOrder has it: by the
/// borders of the same segments, so that the first one may lack its first tokens. Such a sequence must begin at 0.
class Segments {
 public:
  Segments(const Sequence& sequence, std::int64_t tokens, bool mirrored = false)
      : m_sequence(sequence), m_tokens(tokens), m_mirrored(mirrored) {
    if (m_sequence.local_tokens() == 0) return;
    m_first = first_of(m_sequence.first_token(), m_sequence.local_tokens());
    m_end = m_first + m_sequence.local_tokens();
  }

  std::int64_t tokens() const { return m_tokens; }
  kernels::ScanOrder order() const {
    return {m_mirrored ? (m_sequence.end() + m_tokens - 1) / m_tokens * m_tokens : 0};
  }

  /// The numbers of the sequence's first token, and of that behind its last one; of this rank's, if it has any.
  std::int64_t origin() const { return first_of(m_sequence.origin(), m_sequence.length()); }
  std::int64_t sequence_end() const { return origin() + m_sequence.length(); }
  std::int64_t first_token() const { return m_first; }
  std::int64_t end_token() const { return m_end; }

  /// Up to the sequence's end, and whole ones up to its origin and to its end.
  std::int64_t count() const { return (sequence_end() + m_tokens - 1) / m_tokens; }
  std::int64_t earlier() const { return origin() / m_tokens; }
  std::int64_t whole() const { return sequence_end() / m_tokens; }
  /// Segments that have a sum, from the first of all on. keeps: a state for tokens behind the sequence.
  std::int64_t leaves(bool keeps) const {
    return keeps ? whole() : std::min(whole(), std::max<std::int64_t>(0, count() - 1));
  }

  std::int64_t first() const { return m_first / m_tokens; }
  std::int64_t last() const { return m_end / m_tokens; }

  /// Whether this rank's first token begins a segment, or this one has begun on an earlier rank; and whether the last
  /// one goes on on a later rank.
  bool begins() const { return has_tokens() && !joins_previous(); }
  bool joins_previous() const { return has_tokens() && m_first % m_tokens != 0 && !(m_mirrored && begins_sequence()); }
  bool joins_next() const { return has_tokens() && m_end % m_tokens != 0 && m_end < sequence_end(); }
  /// Whether the first token of this rank is that of the sequence: what is before it, if anything, is in a state.
  bool begins_sequence() const { return has_tokens() && m_first == origin(); }
  bool ends_sequence() const { return has_tokens() && m_end == sequence_end(); }

  /// Whether this rank has all tokens, and they are within a segment that has begun before them and goes on behind
  /// them: no state of whole segments is read, and none added.
  bool goes_on_within_one() const {
    return begins_sequence() && ends_sequence() && joins_previous() && whole() == earlier();
  }

  parallel::PrefixTree tree(bool keeps) const {
    const std::int64_t all = leaves(keeps), begin = std::min(has_tokens() ? first() : all, all);
    return {all, begin, has_tokens() ? std::clamp(last(), begin, all) : begin};
  }

  /// The rank that sums a segment, of those from earlier() on.
  int owner(std::int64_t leaf) const {
    const std::int64_t chunk = order().token((leaf + 1) * m_tokens - 1) / m_sequence.chunk_size();
    return m_sequence.chunks().part_of(chunk - m_sequence.earlier_chunks());
  }

  /// The ranks with the tokens before and behind this one's.
  parallel::Neighbours neighbours() const {
    parallel::Neighbours ranks(m_sequence);
    if (m_mirrored) std::swap(ranks.previous, ranks.next);
    return ranks;
  }

 private:
  bool has_tokens() const { return m_sequence.local_tokens() > 0; }
  /// The number of the first of `count` tokens from `token` on, as they are numbered.
  std::int64_t first_of(std::int64_t token, std::int64_t count) const {
    return m_mirrored ? order().mirror - token - count : token;
  }

  Sequence m_sequence;
  std::int64_t m_tokens;
  bool m_mirrored;
  std::int64_t m_first = 0, m_end = 0;
};

/// Sums of this rank's segments, in whose places the states behind them come. A node b is V(b) and then S(b) of
/// parallel/prefix_tree.hpp: a segment as kernels/segment_sums.hpp has it, T and A.
template <class Real>
class SegmentStates {
 public:
  /// `slots`: room for so many segments of this rank. elements: of one segment.
  SegmentStates(const Segments& segments, const kernels::ScanParts& parts, std::int64_t elements, std::int64_t slots)
      : m_segments(segments), m_parts(parts), m_elements(elements), m_tree(segments.tree(true)) {
    move_to(segments, slots);
  }

  /// The segments of another sequence.
  void move_to(const Segments& segments, std::int64_t slots) {
    m_segments = segments;
    m_tree = segments.tree(true);
    reserve(m_nodes, "segments", m_elements * slots);
    reserve(m_left, "left_segments", m_elements * levels(segments));
    reserve(m_outgoing, "outgoing_segments", m_elements * outgoing(m_tree));
    reserve(m_before, "states_before", m_parts.total() * levels(segments));
  }

  static std::int64_t bytes(const Segments& segments, const kernels::ScanParts& parts, std::int64_t elements,
                            std::int64_t slots) {
    return (elements * (slots + levels(segments) + outgoing(segments.tree(true))) + parts.total() * levels(segments)) *
           static_cast<std::int64_t>(sizeof(Real));
  }

  /// Throws ShapeError unless the state has the nodes that the sequence goes on from.
  void require_state(const AttentionState<Real>& state) const {
    std::int64_t nodes = 0;
    for_nodes_before(m_segments.earlier(), [&](std::int64_t) { ++nodes; });
    const auto sums = static_cast<std::int64_t>(state.sums.size()),
               states = static_cast<std::int64_t>(state.states.size());
    if (sums != nodes * m_elements || states != nodes * m_parts.total())
      refuse_state("it has " + std::to_string(sums) + " elements of sums, not " + std::to_string(nodes * m_elements));
  }

  /// Begins a scan. state: of the tokens before the sequence; null: it begins, and save() will not be called.
  void start(const Execution& execution, const AttentionState<Real>* state) {
    m_keeps = state != nullptr;
    m_tree = m_segments.tree(m_keeps);
    if (m_segments.goes_on_within_one()) return;
    std::int64_t i = 0;
    for_nodes_before(m_segments.earlier(), [&](std::int64_t b) {
      Kokkos::deep_copy(execution, left(parallel::level_of(b)), piece(state->sums, i, m_elements));
      Kokkos::deep_copy(execution, before_others(b), piece(state->states, i++, m_parts.total()));
    });
  }

  /// What tokens behind the sequence need of its whole segments, on all ranks. After the results. Collective.
  void save(const Execution& execution, AttentionState<Real>& state, const Sequence& sequence) const {
    if (m_segments.whole() == m_segments.earlier()) return;  // it has them already
    std::int64_t count = 0;
    for_nodes_before(m_segments.whole(), [&](std::int64_t) { ++count; });
    const Array<Real*> sums("bsbr::attention::kept_sums", count * m_elements);
    const Array<Real*> states("bsbr::attention::kept_states", count * m_parts.total());
    std::int64_t i = 0;
    for_nodes_before(m_segments.whole(), [&](std::int64_t b) {
      const Array<Real*> sum = left(parallel::level_of(b)), behind = before_others(b);
      if (m_tree.owns(b)) Kokkos::deep_copy(execution, behind, this->state(b));
      if (sequence.ranks() > 1 && b > m_segments.earlier()) {
        parallel::broadcast(execution, sequence.comm(), m_segments.owner(b - 1), sum);
        parallel::broadcast(execution, sequence.comm(), m_segments.owner(b - 1), behind);
      }
      Kokkos::deep_copy(execution, piece(sums, i, m_elements), sum);
      Kokkos::deep_copy(execution, piece(states, i++, m_parts.total()), behind);
    });
    state.sums = sums;
    state.states = states;
  }

  const parallel::PrefixTree& tree() const { return m_tree; }
  std::int64_t elements() const { return m_elements; }

  /// The slots are those of segments [begin, end) of this rank, which is alone: the first ones, or those behind the
  /// ones before. Of these the sums and states are kept that the others go on with.
  void go_on_with(const Execution& execution, std::int64_t begin, std::int64_t end) {
    if (begin > m_segments.earlier()) keep_states(execution);  // not before the results that begin with older ones
    m_tree = {m_segments.leaves(m_keeps), begin, end};
  }

  /// Where the sum of a segment goes.
  Real* sum(std::int64_t segment) const { return node(segment + 1).data(); }

  /// The state before a segment whose predecessor has a slot, or which is the first after those.
  const Real* before(std::int64_t segment) const {
    if (segment == 0) return nullptr;
    return m_tree.owns(segment) ? node(segment).data() : before_others(segment).data();
  }

  /// Posts the receives of what compose() needs of other ranks.
  void post_receives(parallel::Messages<Real>& messages) {
    m_left_messages.assign(static_cast<std::size_t>(m_tree.levels()), 0);
    m_before_messages.assign(static_cast<std::size_t>(m_tree.levels()), 0);
    for (int level = 0; level < m_tree.levels(); ++level) {
      if (const std::int64_t b = left_half_of_others(level); b > 0)
        m_left_messages[index(level)] = messages.receive(m_segments.owner(b - 1), sum_tag + level, left(level));
    }
    for (const std::int64_t b : states_of_others()) {
      if (b <= m_segments.earlier()) continue;  // start() has it
      m_before_messages[index(parallel::level_of(b))] =
          messages.receive(m_segments.owner(b - 1), state_tag + parallel::level_of(b), before_others(b));
    }
  }

  /// Sums of segments → states before them. messages: those of post_receives(); null: one rank has all segments, and
  /// what earlier ones without slots leave is kept from before. next: the rank with the token behind this one's last;
  /// −1: none.
  template <class Rule>
  void compose(const Execution& execution, const Rule& rule, parallel::Messages<Real>* messages = nullptr,
               int next = -1) {
    int sent = 0;
    for (int level = 0; level < m_tree.levels(); ++level) {  // V(b) ← V(b − 2^level) then V(b)
      const std::int64_t b = m_tree.merge_with_others(level);
      if (messages != nullptr) sent += send_sum(execution, *messages, level, sent);
      put_before<kernels::LeftOperand::segment>(execution, rule, level, m_tree.merges(level));
      if (messages != nullptr && left_half_of_others(level) > 0) messages->wait_for(m_left_messages[index(level)]);
      if (b > 0) put_before<kernels::LeftOperand::segment>(execution, rule, level, {b, 1, 1}, left(level));
    }
    if (messages == nullptr || m_keeps) keep_sums(execution);
    for (int level = m_tree.levels() - 1; level >= 0; --level) {  // S(b) ← S(b − 2^level) then V(b)
      const std::int64_t b = m_tree.prefix_with_others(level), earlier = b - parallel::leaves_of(level);
      if (messages != nullptr) send_state(*messages, level);
      if (messages != nullptr && b > 0) wait_for_state(*messages, earlier);
      if (b > 0) put_before<kernels::LeftOperand::state>(execution, rule, level, {b, 1, 1}, before_others(earlier));
      put_before<kernels::LeftOperand::state>(execution, rule, level, m_tree.prefixes(level));
    }
    if (messages != nullptr) exchange_first_states(*messages, next);
  }

 private:
  static constexpr int sum_tag = 16, state_tag = sum_tag + 64;

  static std::size_t index(int level) { return static_cast<std::size_t>(level); }
  static std::int64_t levels(const Segments& segments) { return parallel::PrefixTree::levels(segments.whole()); }
  static std::int64_t outgoing(const parallel::PrefixTree& tree) {
    std::int64_t count = 0;
    for (int level = 0; level < tree.levels(); ++level) count += tree.left_half_for_others(level) > 0 ? 1 : 0;
    return count;
  }

  static Array<Real*> piece(const Array<Real*>& all, std::int64_t i, std::int64_t elements) {
    return parallel::range_of(all, {i * elements, elements});
  }
  Array<Real*> node(std::int64_t b) const { return piece(m_nodes, b - 1 - m_tree.begin(), m_elements); }
  Array<Real*> state(std::int64_t b) const { return parallel::range_of(node(b), {0, m_parts.total()}); }
  Array<Real*> left(int level) const { return piece(m_left, level, m_elements); }
  /// S(b) of a segment without a slot. Those that are of use have different levels.
  Array<Real*> before_others(std::int64_t b) const { return piece(m_before, parallel::level_of(b), m_parts.total()); }

  /// function(b) for the nodes in the binary expansion of a segment's number, by level.
  template <class Function>
  static void for_nodes_before(std::int64_t segment, const Function& function) {
    for (int level = 0; segment >> level > 0; ++level) {
      if ((segment >> level) % 2 == 1) function(segment >> level << level);
    }
  }

  /// The left half that is merged into one of this rank's nodes, and which another rank has; 0: none.
  std::int64_t left_half_of_others(int level) const {
    const std::int64_t b = m_tree.merge_with_others(level) - parallel::leaves_of(level);
    return b > m_segments.earlier() ? b : 0;
  }

  void wait_for_state(parallel::Messages<Real>& messages, std::int64_t b) const {
    if (b > m_segments.earlier()) messages.wait_for(m_before_messages[index(parallel::level_of(b))]);
  }

  /// The b of others whose S(b) this rank needs: to go on from, or since a segment begins with its first token.
  std::vector<std::int64_t> states_of_others() const {
    std::vector<std::int64_t> found;
    for (int level = m_tree.levels() - 1; level >= 0; --level) {
      const std::int64_t b = m_tree.prefix_with_others(level), earlier = b - parallel::leaves_of(level);
      if (b > 0 && (found.empty() || found.back() != earlier)) found.push_back(earlier);
    }
    const std::int64_t begin = m_tree.begin();
    const bool begins = begin > 0 && m_segments.begins();
    if (begins && (found.empty() || found.back() != begin)) found.push_back(begin);
    return found;
  }

  /// The rank that S(b) goes to at a level, or −1. One that needs it at several levels gets it at the highest.
  int receiver(std::int64_t b, int level) const {
    const std::int64_t leaf = b + parallel::leaves_of(level);
    return level < parallel::level_of(b) && leaf > m_tree.end() && leaf <= m_tree.leaves() ? m_segments.owner(leaf - 1)
                                                                                           : -1;
  }

  /// The left half that another rank needs at a level, the sent-th; how many that are.
  int send_sum(const Execution& execution, parallel::Messages<Real>& messages, int level, int sent) const {
    const std::int64_t b = m_tree.left_half_for_others(level);
    if (b == 0) return 0;
    const auto copy = piece(m_outgoing, sent, m_elements);  // S(b) takes the place of V(b) while this goes
    Kokkos::deep_copy(execution, copy, node(b));
    messages.send(m_segments.owner(b + parallel::leaves_of(level) - 1), sum_tag + level, copy);
    return 1;
  }

  void send_state(parallel::Messages<Real>& messages, int level) const {
    const std::int64_t b = m_tree.prefix_for_others(level);
    if (b > 0 && receiver(b, level) != receiver(b, level + 1))
      messages.send(receiver(b, level), state_tag + parallel::level_of(b), state(b));
  }

  /// The state before a segment that begins with the next rank's first token, and before one that begins with this
  /// one's.
  void exchange_first_states(parallel::Messages<Real>& messages, int next) const {
    const std::int64_t begin = m_tree.begin(), end = m_tree.end();
    if (m_tree.owns(end) && next >= 0 && !m_segments.joins_next() && receiver(end, 0) != next)
      messages.send(next, state_tag + parallel::level_of(end), state(end));
    if (begin > 0 && m_segments.begins()) wait_for_state(messages, begin);
  }

  /// Puts what belongs to b − 2^level before V(b), of some nodes; `left` is that of the first, which may have no slot.
  template <kernels::LeftOperand operand, class Rule>
  void put_before(const Execution& execution, const Rule& rule, int level, const parallel::TreeNodes& nodes,
                  const Array<Real*>& left) const {
    kernels::compose<operand>(execution, "bsbr::attention::compose_segments", m_parts, rule,
                              kernels::Compositions<Real>{.left = left.data(),
                                                          .left_stride = nodes.stride * m_elements,
                                                          .right = node(nodes.first).data(),
                                                          .right_stride = nodes.stride * m_elements,
                                                          .count = nodes.count,
                                                          .tokens = m_segments.tokens() << level});
  }
  template <kernels::LeftOperand operand, class Rule>
  void put_before(const Execution& execution, const Rule& rule, int level, const parallel::TreeNodes& nodes) const {
    if (nodes.count > 0)
      put_before<operand>(execution, rule, level, nodes, node(nodes.first - parallel::leaves_of(level)));
  }

  /// Of each level the last node, for the segments that get these slots next.
  void keep_sums(const Execution& execution) const {
    if (m_tree.end() == m_tree.leaves() && !m_keeps) return;
    for_last_nodes([&](std::int64_t b) { Kokkos::deep_copy(execution, left(parallel::level_of(b)), node(b)); });
  }
  void keep_states(const Execution& execution) const {
    for_last_nodes([&](std::int64_t b) { Kokkos::deep_copy(execution, before_others(b), state(b)); });
  }
  template <class Function>
  void for_last_nodes(const Function& function) const {
    for (int level = 0; level < m_tree.levels(); ++level) {
      const std::int64_t size = parallel::leaves_of(level), multiple = m_tree.end() / size;
      const std::int64_t b = (multiple % 2 == 1 ? multiple : multiple - 1) * size;
      if (b > 0 && m_tree.owns(b)) function(b);
    }
  }

  Segments m_segments;
  kernels::ScanParts m_parts;
  std::int64_t m_elements;
  parallel::PrefixTree m_tree;
  bool m_keeps = false;
  Array<Real*> m_nodes;     // [slot][segment]: V(b), then S(b), of b = the slot's segment + 1
  Array<Real*> m_left;      // [level][segment]: V(b) of segments without slots, level_of(b) = level
  Array<Real*> m_outgoing;  // [message][segment]
  Array<Real*> m_before;    // [level][state]: S(b) of the same
  std::vector<std::size_t> m_left_messages, m_before_messages;  // by level
};

}  // namespace bsbr::attention
