#include "generation/token_output.hpp"

#include <cstdio>
#include <utility>

#include "bsbr/error.hpp"
#include "io/text_file.hpp"

namespace bsbr::apps {
namespace {

void write_stdout(const std::string& text) {
  if (text.empty()) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    throw OutputError("stdout cannot be written");
}

}  // namespace

TokenOutput::TokenOutput(TokenOutputOptions options)
    : m_options(std::move(options)), m_texts(static_cast<std::size_t>(m_options.batch)) {}

std::string TokenOutput::text_of(std::int32_t id) const {
  return m_options.bytes ? std::string(1, static_cast<char>(id)) : std::to_string(id) + "\n";
}

void TokenOutput::add(const std::vector<std::int32_t>& ids) {
  if (writes_at_once()) return write_stdout(m_characters.add(text_of(ids.front())));
  for (std::size_t sequence = 0; sequence < ids.size(); ++sequence) m_texts[sequence] += text_of(ids[sequence]);
}

void TokenOutput::finish() {
  if (writes_at_once()) return write_stdout(m_characters.rest() + (m_options.bytes && m_options.ends_line ? "\n" : ""));
  std::string all;
  for (const std::string& text : m_texts) all += text + (m_options.batch > 1 ? "\n" : "");
  if (m_options.path == "-")
    write_stdout(all);
  else
    io::write_text_file(m_options.path, all);
}

}  // namespace bsbr::apps
