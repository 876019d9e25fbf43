#include "io/virtual_driver.hpp"

#include <algorithm>
#include <array>

namespace bsbr::io {

H5FD_class_t make_driver_class(const char* name, [[maybe_unused]] int value, std::size_t access_size) {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 0)
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(value);
#endif
  driver.name = name;
  driver.maxaddr = (haddr_t{1} << 63U) - 1;
  driver.fc_degree = H5F_CLOSE_WEAK;
  driver.fapl_size = access_size;
  const std::array<H5FD_mem_t, H5FD_MEM_NTYPES> dichotomy = H5FD_FLMAP_DICHOTOMY;
  std::ranges::copy(dichotomy, driver.fl_map);
  return driver;
}

void set_driver(hid_t access, Driver& driver, const void* driver_access) {
  if (H5Iis_valid(driver.id) <= 0) driver.id = check_hdf5(H5FDregister(&driver.functions), "HDF5");
  check_hdf5(H5Pset_driver(access, driver.id, driver_access), "HDF5");
}

}  // namespace bsbr::io
