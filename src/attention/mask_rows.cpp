#include "attention/mask_rows.hpp"

namespace bsbr::attention {

void pack_mask(const Execution& execution, const PaddingMask& mask, const Array<std::uint8_t*>& rows,
               std::int64_t offset) {
  const auto tokens = mask.tokens();
  const auto batch = static_cast<std::int64_t>(tokens.extent(0)), count = static_cast<std::int64_t>(tokens.extent(1));
  Kokkos::parallel_for(
      "bsbr::attention::pack_mask", Kokkos::RangePolicy<Execution>(execution, 0, count * batch),
      KOKKOS_LAMBDA(const std::int64_t i) { rows(offset + i) = tokens(i % batch, i / batch); });
}

void unpack_mask(const Execution& execution, const Array<const std::uint8_t*>& rows, std::int64_t count,
                 const Array<std::uint8_t**>& real) {
  const auto batch = static_cast<std::int64_t>(real.extent(0));
  Kokkos::parallel_for(
      "bsbr::attention::unpack_mask", Kokkos::RangePolicy<Execution>(execution, 0, count * batch),
      KOKKOS_LAMBDA(const std::int64_t i) { real(i % batch, i / batch) = rows(i); });
}

}  // namespace bsbr::attention
