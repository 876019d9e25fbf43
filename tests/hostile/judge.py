"""Runs a program on a file that nobody vouches for, and says whether it ended as it should.

It should end with exit code 0, or with 3 and one error line; in LIMIT seconds of processor time; with no more memory than a valid file
takes, and some. If it does not, the stack that a sanitizer prints tells whose fault that is: ours, or that of the HDF5 library.
"""
import dataclasses
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import typing

from valid_files import MODEL, RESULT, TOKENS, programs

LIMIT = 2.0  # seconds of processor time: other processes on the machine do not count
PATIENCE = 30.0  # seconds on the clock, for one that waits and computes nothing: it has opened a pipe, for example
MEMORY = 192 << 20  # bytes beyond what a valid file takes; sanitizers keep much of what is freed
TAKEN, REFUSED = 0, 3
OURS, HDF5 = "ours", "HDF5"

ANALYZE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "analyze_results.py")
# HDF5 asks malloc for absurd sizes over damaged files, and copes with being refused: no valid file here needs so much in one piece. `new`
# that is refused ends the process all the same, so our own code must not ask.
SANITIZERS = dict(ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=128:handle_abort=1",
                  UBSAN_OPTIONS="print_stacktrace=1")


@dataclasses.dataclass
class Ending:
    code: int  # negative: by a signal
    err: str
    processor_seconds: float
    peak_bytes: int
    waited: bool = False  # it had to be ended


@dataclasses.dataclass
class Finding:
    whose: str
    what: str  # one line
    place: str  # the function where it was noticed, if that is known


def command(path, kind, model, dataset=""):
    """How a file is read. `model`: a valid one, for tokens."""
    forward = [os.path.join(programs.PROGRAMS, "bsbr_forward"), "--quiet"]
    if kind == MODEL:
        return [*forward, "--model", path, "--random-tokens", "5"]
    if kind in (TOKENS, RESULT):
        return [*forward, "--model", model, "--input", path + (":" + dataset if dataset else "")]
    return [sys.executable, "-B", ANALYZE, path, "--output-dir", path + ".pictures"]


def run(words):
    """-> Ending"""
    with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session, tempfile.TemporaryFile() as err:
        environment = {**os.environ, **SANITIZERS, **programs.mpi_session(session), "OMP_NUM_THREADS": "1"}
        # Twice the limit ends one that would compute for ever; SIGABRT makes a sanitizer print where it was.
        before = lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # noqa: E731
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err, env=environment, preexec_fn=before)
        late = threading.Event()
        timer = threading.Timer(PATIENCE, lambda: (late.set(), child.send_signal(signal.SIGABRT)))
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            timer.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        text = err.read().decode("utf-8", "replace")
    return Ending(child.returncode, text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, late.is_set())


class Reader:
    """read_files.cpp: the same as bsbr_forward, without the start of a program for each file."""

    def __init__(self, program):
        environment = {**os.environ, **SANITIZERS, "OMP_NUM_THREADS": "1"}  # threads would not be there in what it forks
        self.child = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)

    def run(self, path, kind, dataset=""):
        """-> Ending"""
        print("model" if kind == MODEL else "tokens", path + (":" + dataset if dataset else ""), file=self.child.stdin, flush=True)
        status, seconds, peak = self.child.stdout.readline().split()
        with open(path + ".err", errors="replace") as file:
            err = file.read()
        os.unlink(path + ".err")
        return Ending(os.waitstatus_to_exitcode(int(status)), err, float(seconds), int(peak) * 1024)

    def close(self):
        self.child.stdin.close()
        self.child.wait()


FRAME = re.compile(r"\s*#\d+ 0x[0-9a-f]+ (?:in (?P<function>.+?) )?\s*(?P<place>\(?/\S+|\S+:\d+)")
WATCHING = re.compile(r"fuzzer::|__(asan|ubsan|sanitizer|interceptor|sancov)|operator new|(malloc|calloc|realloc|free|(__)?mem(cpy|move|set|cmp)\w*|str\w+|raise|abort)$")
NOT_GUILTY = ("libasan", "libubsan", "libc.so", "libpthread", "libstdc++", "sanitizer_common", "compiler-rt", "libz.so", "nptl/", "signal/", "stdlib/", "sysdeps/")


def blame(err):
    """-> (whose, where it was noticed). HDF5 that writes over the end of memory of ours has been given too little."""
    whose, place = first_frame(err)
    allocated = re.search(r"(heap-buffer-overflow|heap-use-after-free).*allocated by thread \S+ here:\n(?P<stack>.*?)\n\n", err, re.DOTALL)
    if whose == HDF5 and allocated and first_frame(allocated["stack"])[0] == OURS:
        whose = OURS
    return whose, place


def first_frame(err):
    """Of the first stack, the first that is not of the C library or the sanitizer's: -> (whose, where)"""
    for line in err.splitlines():
        frame = FRAME.match(line)
        if frame is None:
            continue
        where, function = frame["place"], frame["function"] or "?"
        if WATCHING.match(function) or function == "give_up" or any(name in where for name in NOT_GUILTY):
            continue
        return (HDF5 if "libhdf5" in where else OURS), function
    return OURS, ""


def said(err):
    """The lines of the program: not what a sanitizer has to say of memory that it has refused."""
    return [line for line in err.splitlines() if line and "WARNING: AddressSanitizer failed to allocate" not in line]


def one_error_line(err):
    """What is printed of a refusal: one line, and perhaps a hint."""
    lines = said(err)
    if not lines or not re.match(r"\w+(\.py)?: error: ", lines[0]):
        return False
    return all(line.startswith("hint: ") for line in lines[1:]) and len(lines) <= 2


def judge(ending, usual_bytes) -> typing.Optional[Finding]:
    """None if it ended as it should. `usual_bytes`: the memory that a valid file takes."""
    whose, place = blame(ending.err)
    if ending.waited:
        return Finding(whose, "did not end", place)
    if ending.code not in (TAKEN, REFUSED):
        line = next((line for line in ending.err.splitlines() if "ERROR" in line or "error" in line), "")
        return Finding(whose, "exit code %d: %s" % (ending.code, line.strip()), place)
    if ending.code == REFUSED and not one_error_line(ending.err):
        return Finding(OURS, "not one error line: " + ending.err, "")
    if ending.code == TAKEN and said(ending.err):
        return Finding(OURS, "taken, but says: " + ending.err, "")
    if ending.processor_seconds > LIMIT:
        return Finding(OURS, "took %.1f s" % ending.processor_seconds, "")
    if ending.peak_bytes > usual_bytes + MEMORY:
        return Finding(OURS, "took %d MiB, a valid file %d MiB" % (ending.peak_bytes >> 20, usual_bytes >> 20), "")
    return None
