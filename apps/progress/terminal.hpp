// The terminal that shows what a program writes to stderr.
#pragma once

namespace bsbr::apps {

/// Under a launcher stderr is a pipe to the launcher, which writes what comes out of it to its own stderr. (The stdout
/// of a rank tells nothing: Open MPI gives ranks a terminal of their own there, wherever its output goes.)
class Terminal {
 public:
  /// Looks for the terminal: stderr itself, else that of the launcher, if it runs on this node.
  Terminal();
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  /// False also where it cannot be told: with srun, or if the launcher is on another node or in another container.
  bool there() const { return m_descriptor >= 0; }

  /// Its width; 80 if it does not tell.
  int columns() const;

 private:
  int m_descriptor = -1;
};

}  // namespace bsbr::apps
