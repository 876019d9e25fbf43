#include "generation/token_output.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "bsbr/error.hpp"
#include "io/text_file.hpp"

namespace bsbr::apps {

TokenOutput::TokenOutput(TokenOutputOptions options)
    : m_options(std::move(options)), m_texts(static_cast<std::size_t>(m_options.batch)) {
  struct sigaction ignored {};
  ignored.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignored, &m_before);
}

TokenOutput::~TokenOutput() { ::sigaction(SIGPIPE, &m_before, nullptr); }

/// Without a buffer, which the end of the process would try to write again.
void TokenOutput::write_stdout(std::string_view text) {
  while (!text.empty() && !m_is_closed) {
    const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
    if (count >= 0)
      text.remove_prefix(static_cast<std::size_t>(count));
    else if (errno == EPIPE)
      m_is_closed = true;
    else if (errno != EINTR)
      throw OutputError(std::string("stdout cannot be written: ") + std::strerror(errno));
  }
}

std::string TokenOutput::text_of(std::int32_t id) const {
  return m_options.bytes ? std::string(1, static_cast<char>(id)) : std::to_string(id) + "\n";
}

void TokenOutput::add(const std::vector<std::int32_t>& ids) {
  if (writes_at_once()) return write_stdout(m_characters.add(text_of(ids.front())));
  for (std::size_t sequence = 0; sequence < ids.size(); ++sequence) m_texts[sequence] += text_of(ids[sequence]);
}

void TokenOutput::finish() {
  if (writes_at_once()) return write_stdout(m_options.on_terminal && m_options.bytes ? "\n" : m_characters.rest());
  std::string all;
  for (const std::string& text : m_texts) all += text + (m_options.batch > 1 ? "\n" : "");
  if (m_options.path == "-")
    write_stdout(all);
  else
    io::write_text_file(m_options.path, all);
}

}  // namespace bsbr::apps
