#include "io/weight_group.hpp"

#include "config/weight_table.hpp"
#include "io/datatype.hpp"

namespace bsbr::io {

template <class Real>
void write_weight_group(hid_t file, const std::string& group, const OutputFile& output, const ModelConfig& config,
                        const Array<Real*>& elements) {
  const Handle target(H5Gcreate2(file, group.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), H5Gclose, group);
  WeightLayout(config).for_each([&](const WeightInfo& info, std::int64_t offset) {
    const Kokkos::View<Real*, Kokkos::LayoutRight, Device, Kokkos::MemoryUnmanaged> part(
        elements.data() + offset, static_cast<std::size_t>(info.size()));
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace(), part);
    write_dataset(target, info.name, info.shape, native_real<Real>(), host.data());
    output.require_written();
  });
}

template void write_weight_group(hid_t, const std::string&, const OutputFile&, const ModelConfig&,
                                 const Array<float*>&);
template void write_weight_group(hid_t, const std::string&, const OutputFile&, const ModelConfig&,
                                 const Array<double*>&);

}  // namespace bsbr::io
