#!/bin/sh
# The help of the program $BSBR_PROGRAM as help2man wants it: a usage on one line, each option with its whole description on one line, examples
# and exit codes that are paragraphs of their own.
set -e
help=$("$BSBR_PROGRAM" "$@")
printf '%s\n' "$help" | awk '
  /^[Uu]sage: / { usage = "U" substr($0, 2); next }
  usage != "" && /^ / { sub(/^ +/, " "); usage = usage $0; next }
  usage != "" { print usage; usage = "" }
  /^Files:/ { $0 = "Model file:" }  # of its options; a man page has something else under FILES
  /^Examples:/ { examples = 1 }
  examples && /^  / { print; print ""; next }
  /^Exit codes: / { examples = 0; sub(/^Exit codes: /, ""); print "*Exit status*\n" }
  { print }
  END { if (usage != "") print usage }
'
