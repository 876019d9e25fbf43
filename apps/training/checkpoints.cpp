#include "training/checkpoints.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
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
#include "training/settings.hpp"

namespace bsbr::apps {
namespace {

constexpr const char* kept_steps = "kept_steps";  // attributes of /training
constexpr const char* keep = "keep";

/// model-step-500.h5, of "500" and model.h5.
std::filesystem::path kept_name(const std::filesystem::path& output, const std::string& step) {
  std::filesystem::path path = output;
  return path.replace_filename(output.stem().string() + "-step-" + step + output.extension().string());
}

bool are_same(double one, double other) { return one == other || (std::isnan(one) && std::isnan(other)); }

/// Whether they are two moments of one run: the last step that both have logged went the same way.
bool are_of_one_run(const TrainingRecord& one, const TrainingRecord& other) {
  const std::size_t both = std::min(one.log.size(), other.log.size());
  if (both == 0) return false;
  const LoggedStep &of_one = one.log[both - 1], &of_other = other.log[both - 1];
  return of_one.step == of_other.step && are_same(of_one.loss, of_other.loss) &&
         are_same(of_one.gradient_norm, of_other.gradient_norm);
}

/// The validation loss of a best checkpoint; empty unless it is one of this run and of the same validation. Collective.
std::optional<double> loss_of_best(const std::string& best, const TrainingRecord& before, const Attributes& attributes,
                                   MPI_Comm comm) {
  const bool is_there = parallel::rank_in(comm) == 0 && !best.empty() && std::filesystem::exists(best);
  if (parallel::all_reduce(is_there ? 1 : 0, MPI_MAX, comm) == 0) return std::nullopt;
  try {
    const TrainingRecord record = read_training_record(best, comm);
    if (!are_of_one_run(record, before) || !has_same_validation(record.attributes, attributes)) return std::nullopt;
    const double loss = record.log.back().validation_loss;
    return std::isfinite(loss) ? std::optional(loss) : std::nullopt;
  } catch (const FileError&) {  // a file of others, which the first validation replaces
    return std::nullopt;
  }
}

}  // namespace

Checkpoints::Checkpoints(CheckpointFiles files) : m_files(std::move(files)) {}

Checkpoints::Checkpoints(CheckpointFiles files, const std::string& resumed, const TrainingRecord& before,
                         const Attributes& attributes, MPI_Comm comm)
    : m_files(std::move(files)), m_best_loss(loss_of_best(m_files.best, before, attributes, comm)) {
  std::error_code unknown;
  const bool is_own = parallel::rank_in(comm) == 0 && std::filesystem::equivalent(resumed, m_files.output, unknown);
  if (parallel::all_reduce(is_own ? 1 : 0, MPI_MAX, comm) == 0) return;
  m_last = before.step;
  const auto found = before.attributes.find(kept_steps);
  if (found == before.attributes.end()) return;
  if (const auto* steps = std::get_if<std::vector<std::int64_t>>(&found->second)) m_kept = *steps;
}

bool Checkpoints::would_be_best(double validation_loss) const {
  return !m_files.best.empty() && std::isfinite(validation_loss) && (!m_best_loss || validation_loss < *m_best_loss);
}

std::string Checkpoints::name_of(std::int64_t step) const {
  return kept_name(m_files.output, std::to_string(step)).string();
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
  const bool is_made =
      ::link(io::target_of(m_files.output).c_str(), second.c_str()) == 0 && ::rename(second.c_str(), name.c_str()) == 0;
  const int error = errno;
  ::unlink(second.c_str());  // rename leaves it where both are names of one file already
  if (!is_made)
    throw OutputError(name + ": cannot be made: " + io::system_text(error), "--keep 1 needs no second name");
}

void Checkpoints::remove(const std::vector<std::int64_t>& steps) const {
  for (const std::int64_t step : steps) {
    const std::string name = name_of(step);
    if (::unlink(name.c_str()) != 0 && errno != ENOENT)
      throw OutputError(name + ": cannot be removed: " + io::system_text(errno));
  }
}

template <class Real>
SavingProblems Checkpoints::save(const Trainer<Real>& trainer, const TrainingRecord& record) {
  const MPI_Comm comm = trainer.grid().comm();
  SavingProblems problems;
  const auto write = [&](const std::string& path, const TrainingRecord& its_record) {
    try {
      write_checkpoint(path, trainer, its_record);
      return true;
    } catch (const OutputError& error) {
      if (!problems.failure) problems.failure = error;
      return false;
    }
  };
  const auto first_rank_does = [&](const std::function<void()>& work) {
    try {
      parallel::agree(comm, [&] {
        if (parallel::rank_in(comm) == 0) work();
      });
      return true;
    } catch (const OutputError& error) {
      problems.others.emplace_back(error.what());
      return false;
    }
  };
  // The best one first: a run that ends between the two makes it again.
  const double loss = record.log.empty() ? NAN : record.log.back().validation_loss;
  if (would_be_best(loss) && write(m_files.best, record)) m_best_loss = loss;
  std::vector<std::int64_t> kept = kept_with(record.step);
  if (kept.size() > m_kept.size() && !first_rank_does([&] { keep_last(); })) kept = m_kept;
  const auto too_many = std::max<std::int64_t>(0, static_cast<std::int64_t>(kept.size()) - (m_files.keep - 1));
  const std::vector<std::int64_t> removed(kept.begin(), kept.begin() + too_many);
  kept.erase(kept.begin(), kept.begin() + too_many);
  TrainingRecord with_kept = record;
  if (m_files.keep > 1) with_kept.attributes[keep] = m_files.keep;
  if (!kept.empty()) with_kept.attributes[kept_steps] = kept;
  if (write(m_files.output, with_kept)) {
    m_kept = kept;
    m_last = record.step;
    first_rank_does([&] { remove(removed); });
  }
  return problems;
}

template SavingProblems Checkpoints::save(const Trainer<float>&, const TrainingRecord&);
template SavingProblems Checkpoints::save(const Trainer<double>&, const TrainingRecord&);

std::int64_t checkpoints_to_keep(const TrainingRecord& record) {
  const auto found = record.attributes.find(keep);
  const auto* count = found == record.attributes.end() ? nullptr : std::get_if<std::int64_t>(&found->second);
  return count == nullptr ? 1 : std::max<std::int64_t>(1, *count);
}

bool is_name_of_kept(const std::string& path, const std::string& output) {
  const auto normal = [](const std::string& name) { return std::filesystem::absolute(name).lexically_normal(); };
  const std::string stem = std::filesystem::path(path).stem().string(), step = stem.substr(stem.rfind('-') + 1);
  return !step.empty() && step.find_first_not_of("0123456789") == std::string::npos &&
         normal(path) == kept_name(normal(output), step);
}

}  // namespace bsbr::apps
