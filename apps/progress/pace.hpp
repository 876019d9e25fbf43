// How far several forward passes of the same work are, and how long they will take.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "bsbr/profile.hpp"

namespace bsbr::apps {

/// Times are seconds of any one clock.
class Pace {
 public:
  /// The forward `number` of `count`, from 0, begins. Number 0 starts anew.
  void begin(std::int64_t number, std::int64_t count, double now);

  /// Returns whether another layer has begun.
  bool update(const ForwardProgress& progress, double now);

  /// Of all forwards: 0 to 1.
  double share(double now) const;

  /// Until the last forward ends; none before a layer is done, for operations say little of the time. While a layer or
  /// a forward takes longer than those before it, the time left stands still.
  std::optional<double> seconds_left(double now) const;

  /// "forward 2 of 3, layer 3 of 4 (finish), 57 %, 3 min 10 s left"
  std::string text(double now) const;

 private:
  bool has_pace() const;
  double seconds_per_layer() const;
  double share_of_this(double now) const;

  std::int64_t m_number = 0, m_count = 1;
  double m_begin = 0;        // of this forward
  double m_layer_begin = 0;  // of its layer
  double m_last = 0;         // seconds that the forward before took; 0: there is none
  ForwardProgress m_progress;
};

/// "0.4 s", "3 min 10 s", "2 h 05 min"
std::string show_duration(double seconds);

}  // namespace bsbr::apps
