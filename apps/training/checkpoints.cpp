#include "training/checkpoints.hpp"

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>
#include <variant>

#include <unistd.h>

#include "bsbr/error.hpp"
#include "bsbr/parallel.hpp"
#include "io/text.hpp"

namespace bsbr::apps {
namespace {

constexpr const char* kept_steps = "kept_steps";  // attribute of /training

}  // namespace

Checkpoints::Checkpoints(CheckpointFiles files) : m_files(std::move(files)) {}

Checkpoints::Checkpoints(CheckpointFiles files, const std::string& resumed, const TrainingRecord& record)
    : m_files(std::move(files)) {
  std::error_code unknown;
  if (!std::filesystem::equivalent(resumed, m_files.output, unknown)) return;
  m_last = record.step;
  const auto found = record.attributes.find(kept_steps);
  if (found == record.attributes.end()) return;
  if (const auto* steps = std::get_if<std::vector<std::int64_t>>(&found->second)) m_kept = *steps;
}

std::string Checkpoints::name_of(std::int64_t step) const {
  std::filesystem::path path(m_files.output);
  path.replace_filename(path.stem().string() + "-step-" + std::to_string(step) + path.extension().string());
  return path.string();
}

/// The last one gets a second name, so that it stays when the next one takes the first.
void Checkpoints::keep_last() const {
  if (m_files.keep == 1 || m_last == 0) return;
  const std::string name = name_of(m_last);
  if (::link(m_files.output.c_str(), name.c_str()) != 0 && errno != EEXIST)
    throw OutputError(name + ": cannot be made: " + io::system_text(errno), "--keep 1 needs no second name");
}

void Checkpoints::remove(const std::vector<std::int64_t>& steps) const {
  for (const std::int64_t step : steps) {
    const std::string name = name_of(step);
    if (::unlink(name.c_str()) != 0 && errno != ENOENT)
      throw OutputError(name + ": cannot be removed: " + io::system_text(errno));
  }
}

template <class Real>
std::string Checkpoints::save(const Trainer<Real>& trainer, const TrainingRecord& record, bool is_best) {
  const MPI_Comm comm = trainer.grid().comm();
  const bool is_first_rank = parallel::rank_in(comm) == 0;
  std::vector<std::int64_t> kept = m_kept, too_many;
  if (m_files.keep > 1 && m_last > 0) kept.push_back(m_last);
  while (static_cast<std::int64_t>(kept.size()) >= m_files.keep) {
    too_many.push_back(kept.front());
    kept.erase(kept.begin());
  }
  TrainingRecord with_kept = record;
  if (!kept.empty()) with_kept.attributes[kept_steps] = kept;
  try {
    parallel::agree(comm, [&] {
      if (is_first_rank) keep_last();
    });
    write_checkpoint(m_files.output, trainer, with_kept);
    m_kept = kept;
    m_last = record.step;
    parallel::agree(comm, [&] {
      if (is_first_rank) remove(too_many);
    });
    if (is_best && !m_files.best.empty()) write_checkpoint(m_files.best, trainer, with_kept);
  } catch (const OutputError& error) {
    return error.what();
  }
  return "";
}

template std::string Checkpoints::save(const Trainer<float>&, const TrainingRecord&, bool);
template std::string Checkpoints::save(const Trainer<double>&, const TrainingRecord&, bool);

}  // namespace bsbr::apps
