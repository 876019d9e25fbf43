#include "training/checkpoints.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <system_error>
#include <utility>
#include <variant>

#include <unistd.h>

#include "bsbr/error.hpp"
#include "bsbr/parallel.hpp"
#include "io/paths.hpp"
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

/// The steps of all checkpoints beside one of this step, before the oldest are removed.
std::vector<std::int64_t> Checkpoints::kept_with(std::int64_t step) const {
  std::vector<std::int64_t> kept = m_kept;
  if (m_files.keep > 1 && m_last > 0 && m_last != step) kept.push_back(m_last);
  return kept;
}

/// The last one gets a second name, so that it stays when the next one takes the first. A file of another run may have
/// that name, and a link is followed, as it is where the next one is written.
void Checkpoints::keep_last() const {
  const std::string name = name_of(m_last), second = name + ".part";
  ::unlink(second.c_str());
  if (::link(io::target_of(m_files.output).c_str(), second.c_str()) != 0 ||
      ::rename(second.c_str(), name.c_str()) != 0) {
    throw OutputError(name + ": cannot be made: " + io::system_text(errno), "--keep 1 needs no second name");
  }
}

void Checkpoints::remove(const std::vector<std::int64_t>& steps) const {
  for (const std::int64_t step : steps) {
    const std::string name = name_of(step);
    if (::unlink(name.c_str()) != 0 && errno != ENOENT)
      throw OutputError(name + ": cannot be removed: " + io::system_text(errno));
  }
}

template <class Real>
std::optional<OutputError> Checkpoints::save(const Trainer<Real>& trainer, const TrainingRecord& record, bool is_best) {
  const MPI_Comm comm = trainer.grid().comm();
  std::optional<OutputError> failure;
  const auto attempt = [&](const std::function<void()>& work) {
    try {
      work();
      return true;
    } catch (const OutputError& error) {
      if (!failure) failure = error;
      return false;
    }
  };
  const auto first_rank_does = [&](const std::function<void()>& work) {
    return attempt([&] {
      parallel::agree(comm, [&] {
        if (parallel::rank_in(comm) == 0) work();
      });
    });
  };
  std::vector<std::int64_t> kept = kept_with(record.step);
  if (kept.size() > m_kept.size() && !first_rank_does([&] { keep_last(); })) kept = m_kept;
  const auto too_many = std::max<std::int64_t>(0, static_cast<std::int64_t>(kept.size()) - (m_files.keep - 1));
  const std::vector<std::int64_t> removed(kept.begin(), kept.begin() + too_many);
  kept.erase(kept.begin(), kept.begin() + too_many);
  TrainingRecord with_kept = record;
  if (!kept.empty()) with_kept.attributes[kept_steps] = kept;
  if (attempt([&] { write_checkpoint(m_files.output, trainer, with_kept); })) {
    m_kept = kept;
    m_last = record.step;
    first_rank_does([&] { remove(removed); });
  }
  if (is_best && !m_files.best.empty()) attempt([&] { write_checkpoint(m_files.best, trainer, with_kept); });
  return failure;
}

template std::optional<OutputError> Checkpoints::save(const Trainer<float>&, const TrainingRecord&, bool);
template std::optional<OutputError> Checkpoints::save(const Trainer<double>&, const TrainingRecord&, bool);

}  // namespace bsbr::apps
