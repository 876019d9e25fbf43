#include "io/text_file.hpp"

#include <fcntl.h>

#include "io/descriptor.hpp"
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

void end_text_file(const std::string& path, std::int64_t size, const std::string& text) {
  writing(path, [&] {
    Descriptor file(path, O_WRONLY | O_CREAT, "cannot be written");
    const auto bytes = static_cast<std::int64_t>(text.size());
    file.write(size, text.data(), bytes);
    file.resize(size + bytes);
    file.close();
  });
}

}  // namespace bsbr::io
