// Rows before and behind the scans of a gradient (scan_gradient.hpp): as a rule maps them, and through the derivatives
// of what it does to queries, keys and results.
#pragma once

#include <Kokkos_Core.hpp>
#include <string>

#include "kernels/scan_rule.hpp"
#include "kernels/scratch.hpp"
#include "kernels/tuning.hpp"

namespace bsbr::kernels {

/// target = rows as the rule maps them; both [batch, tokens, heads · width]. A team for each tile of tokens and head.
template <class Real, class Rule>
void map_rows(const Execution& execution, const std::string& label, const Rule& rule, std::int64_t heads,
              const Strided<const Real***>& rows, const Array<Real***>& target) {
  constexpr int most = tuning::state_tile;
  const auto batch = static_cast<std::int64_t>(rows.extent(0)), tokens = static_cast<std::int64_t>(rows.extent(1));
  const auto width = static_cast<int>(static_cast<std::int64_t>(rows.extent(2)) / heads);
  const std::int64_t tiles = (tokens + most - 1) / most;
  if (batch * tiles == 0) return;
  Kokkos::parallel_for(
      label, team_policy(execution, batch * tiles * heads, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const std::int64_t head = member.league_rank() % heads, tile = member.league_rank() / heads % tiles;
        const std::int64_t sequence = member.league_rank() / heads / tiles, first = tile * most;
        const int count = tokens - first < most ? static_cast<int>(tokens - first) : most;
        const auto team = as_team(member);
        Real* to = &target(sequence, first, head * width);
        const auto stride = static_cast<std::int64_t>(target.stride(1));
        for_each_in_rows(team, count, width, [&](const int row) {
          const Real* from = &rows(sequence, first + row, head * width);
          Real* mapped = to + row * stride;
          return [=](const int i) { mapped[i] = from[i]; };
        });
        rule.map(team, head, TileRows<Real>{to, count, width, stride, 1}, EveryRow());
      });
}

/// row(team, batch, token, head) for all of them: one team for each token.
template <class Row>
void for_each_head(const Execution& execution, const std::string& label, std::int64_t batch, std::int64_t tokens,
                   std::int64_t heads, const Row& row) {
  if (batch * tokens == 0) return;
  Kokkos::parallel_for(
      label, team_policy(execution, batch * tokens, 0), KOKKOS_LAMBDA(const TeamMember& member) {
        const auto team = as_team(member);
        for (std::int64_t head = 0; head < heads; ++head)
          row(team, member.league_rank() / tokens, member.league_rank() % tokens, head);
      });
}

/// gradient, of mapped rows → gradient of the rows; 0 where `real` is 0. All [batch, tokens, heads · width].
template <class Real, class Rule>
void unmap_gradient(const Execution& execution, const std::string& label, const Rule& rule, std::int64_t heads,
                    const Strided<const Real***>& rows, const Array<const std::uint8_t**>& real,
                    const Strided<Real***>& gradient) {
  const auto batch = static_cast<std::int64_t>(rows.extent(0)), tokens = static_cast<std::int64_t>(rows.extent(1));
  const auto width = static_cast<int>(static_cast<std::int64_t>(rows.extent(2)) / heads);
  const auto of_row = KOKKOS_LAMBDA(const Team& team, std::int64_t sequence, std::int64_t token, std::int64_t head) {
    Real* of_mapped = &gradient(sequence, token, head * width);
    if (real.data() != nullptr && real(sequence, token) == 0) {
      for_each(team, width, [&](const int i) { of_mapped[i] = 0; });
    } else {
      rule.map_gradient(team, width, &rows(sequence, token, head * width), of_mapped);
    }
  };
  for_each_head(execution, label, batch, tokens, heads, of_row);
}

/// target [batch, tokens, heads · (width + extra columns)] = the gradients of what the rule's store() was given.
template <class Real, class Rule>
void unstore_gradient(const Execution& execution, const std::string& label, const Rule& rule, std::int64_t heads,
                      const Strided<const Real***>& output_gradient, const Strided<const Real***>& output,
                      const Array<Real***>& target) {
  const auto batch = static_cast<std::int64_t>(output.extent(0)), tokens = static_cast<std::int64_t>(output.extent(1));
  const auto width = static_cast<int>(static_cast<std::int64_t>(output.extent(2)) / heads);
  const auto of_row = KOKKOS_LAMBDA(const Team& team, std::int64_t sequence, std::int64_t token, std::int64_t head) {
    rule.store_gradient(team, sequence, token, head, width, &output_gradient(sequence, token, head * width),
                        &output(sequence, token, head * width),
                        &target(sequence, token, head * (width + rule.extra_columns())));
  };
  for_each_head(execution, label, batch, tokens, heads, of_row);
}

}  // namespace bsbr::kernels
