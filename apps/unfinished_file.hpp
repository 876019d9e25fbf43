// What a program that is ended from outside does not leave behind.
#pragma once

#include <string>

namespace bsbr::apps {

/// While this lives: SIGTERM, SIGINT, SIGHUP and SIGXCPU, which end the process as ever, first remove <path>.part, in which a file is made
/// until it is whole. Launchers send SIGTERM to the other ranks when one has ended. An exception that passes removes it too, on any rank,
/// so that one which had been stopped cannot finish it afterwards. One at a time; an empty path is none.
class UnfinishedFile {
 public:
  explicit UnfinishedFile(const std::string& path);
  UnfinishedFile(const UnfinishedFile&) = delete;
  UnfinishedFile& operator=(const UnfinishedFile&) = delete;
  ~UnfinishedFile();

 private:
  int m_exceptions;
};

}  // namespace bsbr::apps
