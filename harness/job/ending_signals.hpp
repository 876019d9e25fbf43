// Signals that end a program from outside, which then leaves nothing unfinished behind.
#pragma once

namespace bsbr::harness {

/// From now on SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 and the other signals that end a process from outside first
/// remove the file that the library is making (<path>.part), and then do what they did before. Launchers send SIGTERM
/// to the other ranks when one has ended; batch systems send SIGUSR1 or SIGUSR2 before the time limit.
void remove_unfinished_file_on_signals();

}  // namespace bsbr::harness
