// The one file that this process is making, under the name <path>.part, so that it is not left behind whatever happens.
#pragma once

#include <cstdint>
#include <string>

namespace bsbr::io {

/// While this lives, remove_unfinished_file() of bsbr/io.hpp removes `part`, if it is still the file with this identity
/// (Descriptor's). An exception that passes removes it as well. One at a time.
class UnfinishedFile {
 public:
  UnfinishedFile(const std::string& part, std::int64_t identity);
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile();

 private:
  int m_exceptions;
};

}  // namespace bsbr::io
