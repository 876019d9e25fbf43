// Turns the phases of a forward pass into its progress.
#include "model/progress.hpp"

#include <algorithm>

namespace bsbr {

ProgressReports::ProgressReports(const ModelConfig& config, const Sequence& sequence, Profile* profile) {
  if (profile == nullptr || !profile->progress) return;
  m_profile = profile;
  m_now.num_layers = config.num_layers;
  m_shares = forward_flops_by_phase(config, sequence.batch(), sequence.length());
  const double all =
      forward_flops(config, sequence.batch(), sequence.length()) * static_cast<double>(config.num_layers);
  for (auto& phase : m_shares) phase.second /= all;
  m_profile->phase_begins = [this](const char* phase) { begin(phase); };
}

ProgressReports::~ProgressReports() {
  if (m_profile != nullptr) m_profile->phase_begins = nullptr;
}

void ProgressReports::start_layer(std::int64_t layer) {
  if (m_profile == nullptr) return;
  m_now.layer = layer;
  m_now.share = static_cast<double>(layer) / static_cast<double>(m_now.num_layers);
  m_left = m_shares;
  m_running.clear();
}

/// A phase with operations is done when another one with operations begins. One that is split, with exchanges in
/// between, counts as a whole after its first stretch.
void ProgressReports::begin(const char* phase) {
  if (phase != m_running && m_left.count(phase) > 0) {
    if (const auto done = m_left.find(m_running); done != m_left.end()) {
      m_now.share = std::min(1.0, m_now.share + done->second);
      m_left.erase(done);
    }
    m_running = phase;
  }
  report(phase);
}

void ProgressReports::finish() {
  if (m_profile == nullptr) return;
  start_layer(m_now.num_layers);
  report("");
}

void ProgressReports::report(const std::string& phase) {
  m_now.phase = phase;
  m_profile->progress(m_now);
}

}  // namespace bsbr
