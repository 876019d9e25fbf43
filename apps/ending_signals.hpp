// Signals that end a program from outside, which then leaves nothing unfinished behind.
#pragma once

namespace bsbr::apps {

/// From now on SIGTERM, SIGINT, SIGHUP and SIGXCPU first remove the file that the library is making (<path>.part), and then do what they
/// did before. Launchers send SIGTERM to the other ranks when one has ended.
void remove_unfinished_file_on_signals();

}  // namespace bsbr::apps
