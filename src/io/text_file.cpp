#include "io/text_file.hpp"

#include "io/hdf5.hpp"
#include "io/part_file.hpp"

namespace bsbr::io {

void write_text_file(const std::string& path, const std::string& text) {
  writing(path, [&] {
    PartFile file(path);
    file.descriptor().write(0, text.data(), static_cast<std::int64_t>(text.size()));
    file.commit();
  });
}

}  // namespace bsbr::io
