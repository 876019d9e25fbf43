// How far several forward passes of the same work are, and how long they will take.
#include "progress/pace.hpp"

#include <algorithm>
#include <cmath>

#include "harness/format.hpp"

namespace bsbr::apps {

using namespace harness;

namespace {

constexpr double nearly_all = 0.99;    // of what takes longer than it should
constexpr double least_seconds = 0.5;  // of a forward, to tell from how long the rest takes

}  // namespace

void Pace::begin(std::int64_t number, std::int64_t count, double now) {
  m_last = number > 0 ? now - m_begin : 0;
  m_number = number;
  m_count = count;
  m_begin = m_layer_begin = now;
  m_progress = {};
}

bool Pace::update(const ForwardProgress& progress, double now) {
  const bool another = progress.layer != m_progress.layer;
  if (another) m_layer_begin = now;
  m_progress = progress;
  return another;
}

/// Whether a layer of this forward is done, and not all.
bool Pace::has_pace() const {
  return m_progress.layer > 0 && m_progress.layer < m_progress.num_layers && m_layer_begin > m_begin;
}

double Pace::seconds_per_layer() const { return (m_layer_begin - m_begin) / static_cast<double>(m_progress.layer); }

/// All forwards take as long, and so do all layers of one. In the first layer of the first forward there is nothing to
/// go by but operations.
double Pace::share_of_this(double now) const {
  if (m_last > 0) return std::min((now - m_begin) / m_last, nearly_all);
  if (!has_pace()) return m_progress.share;
  const auto layer = static_cast<double>(m_progress.layer), layers = static_cast<double>(m_progress.num_layers);
  return (layer + std::min((now - m_layer_begin) / seconds_per_layer(), nearly_all)) / layers;
}

double Pace::share(double now) const {
  return (static_cast<double>(m_number) + share_of_this(now)) / static_cast<double>(m_count);
}

std::optional<double> Pace::seconds_left(double now) const {
  const auto others = static_cast<double>(m_count - m_number - 1);
  if (m_last > 0) return std::max(m_last - (now - m_begin), 0.0) + others * m_last;
  if (!has_pace() || now - m_begin < least_seconds) return std::nullopt;
  const auto layers = static_cast<double>(m_progress.num_layers),
             to_come = layers - static_cast<double>(m_progress.layer) - 1;
  const double each = seconds_per_layer();
  return std::max(each - (now - m_layer_begin), 0.0) + (to_come + others * layers) * each;
}

std::string Pace::text(double now) const {
  std::string text = "forward " + std::to_string(m_number + 1) + " of " + std::to_string(m_count);
  if (m_progress.num_layers > 0) {
    const std::int64_t layer = std::min(m_progress.layer + 1, m_progress.num_layers);
    text += ", layer " + std::to_string(layer) + " of " + std::to_string(m_progress.num_layers);
    if (!m_progress.phase.empty()) text += " (" + m_progress.phase + ")";
    text += ", " + show_number("%.0f %%", std::floor(100 * share(now)));
  }
  const auto left = seconds_left(now);
  return text + (left ? ", " + show_duration(*left) + " left" : "");
}

std::string show_duration(double seconds) {
  if (seconds < 9.95) return show_number("%.1f s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600)
    return std::to_string(whole / 60) + " min " + show_number("%02.0f s", static_cast<double>(whole % 60));
  return show_count(whole / 3600) + " h " + show_number("%02.0f min", static_cast<double>(whole / 60 % 60));
}

}  // namespace bsbr::apps
