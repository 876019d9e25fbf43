// HDF5's handles, closed at the end of their scope, and its errors as exceptions.
#pragma once

#include <hdf5.h>

#include <memory>
#include <string>
#include <utility>

#include "bsbr/error.hpp"

namespace bsbr::io {

/// Something is wrong with a file, said without the file's name: reading() and writing() add it, and make this a
/// FileError or an OutputError.
class ContentError : public Error {
  using Error::Error;
};

/// What to do about a file that is, or may be, in a newer format than this HDF5 reads.
std::string newer_format_hint();

/// "<doing>: <the most specific thing that HDF5 has to say about its last failed call on this thread>", with a hint
/// where HDF5 may be too old for the file.
ContentError hdf5_error(const std::string& doing);

/// Throws hdf5_error() if an HDF5 call's answer is negative, and returns the answer otherwise.
template <class Answer>
Answer check_hdf5(Answer answer, const std::string& doing) {
  if (answer < 0) throw hdf5_error(doing);
  return answer;
}

/// While this lives, HDF5 prints no errors of this thread and loads no plugins. Put it before the handles that it
/// covers. As it was before is restored when the last one that a thread has made is gone, in whatever order they go.
class LibraryScope {
 public:
  LibraryScope();
  LibraryScope(const LibraryScope&) = delete;
  LibraryScope& operator=(const LibraryScope&) = delete;
  ~LibraryScope();

 private:
  class Quiet;
  int m_exceptions;
  std::shared_ptr<const Quiet> m_quiet;
};

/// Owns one HDF5 identifier.
class Handle {
 public:
  using Close = herr_t (*)(hid_t);

  /// Throws ContentError "<doing>: <reason>" if `id` is the answer of a failed call.
  Handle(hid_t id, Close closer, const std::string& doing) : m_id(check_hdf5(id, doing)), m_close(closer) {}
  Handle(Handle&& other) noexcept : m_id(std::exchange(other.m_id, H5I_INVALID_HID)), m_close(other.m_close) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(m_id, other.m_id);
    std::swap(m_close, other.m_close);
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() {
    if (m_id >= 0) m_close(m_id);
  }

  operator hid_t() const { return m_id; }

  /// Closes now, and throws ContentError if that fails: for files that are written, where closing is writing.
  void close(const std::string& doing) { check_hdf5(m_close(std::exchange(m_id, H5I_INVALID_HID)), doing); }

 private:
  hid_t m_id;
  Close m_close;
};

/// Runs `work`, which reads the file `path`. ContentError and ConfigError become a FileError that begins with the
/// file's name.
template <class Work>
decltype(auto) reading(const std::string& path, Work&& work);

/// Runs `work`, which writes the file `path`. ContentError becomes an OutputError that begins with the file's name.
template <class Work>
decltype(auto) writing(const std::string& path, Work&& work);

/// "<path>: <message>", with the path made printable.
std::string named(const std::string& path, const char* message);

template <class Work>
decltype(auto) reading(const std::string& path, Work&& work) {
  try {
    return work();
  } catch (const ContentError& error) {
    throw FileError(named(path, error.what()), error.hint());
  } catch (const ConfigError& error) {
    throw FileError(named(path, error.what()), error.hint());
  }
}

template <class Work>
decltype(auto) writing(const std::string& path, Work&& work) {
  try {
    return work();
  } catch (const ContentError& error) {
    throw OutputError(named(path, error.what()), error.hint());
  }
}

}  // namespace bsbr::io
