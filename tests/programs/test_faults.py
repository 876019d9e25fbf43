"""Whatever breaks on one rank, the job ends: by itself, soon, with an exit code that is not 0, and one line that says what.

Each row of the tables below is a job with one fault. faults.c, preloaded into the ranks, lets a chosen call of a chosen rank fail, kill
the rank, stop it and so on; other faults are made by a shell that starts the program, by signals, or on the command line of the launcher.
Of every job must hold (Faults.check):

  - the fault was met;
  - launcher and ranks have ended within `seconds` of it, and no process is left;
  - the exit code is the one expected, or that of the launcher where a rank could say nothing any more;
  - the program has printed one error line, or none where the launcher speaks for it;
  - nothing stands under the result's name, unless the fault came after it was written; then it is whole;
  - no .part file is left, unless it was rank 0 that died, or the launcher with it: the other ranks do not touch what rank 0 has made.

ctest says in the environment where the preloaded library is (BSBR_FAULTS). It does not go together with sanitizers, which want to be
loaded first: then the exit code is 77, which ctest is told to take for skipped.
"""
import dataclasses
import functools
import os
import re
import signal
import subprocess
import sys
import types
import typing
import unittest

from jobs import LAUNCHER, Job
from programs import MPIEXEC, PROGRAMS, Case, hidden_states, ids_file, in_parallel, run

FAULTS = os.environ.get("BSBR_FAULTS", "build/release/tests/programs/libbsbr_faults.so")
USAGE, FILE, MEMORY, COMMUNICATION, OUTPUT, BUG, SKIPPED = 2, 3, 4, 5, 6, 70, 77
TOKENS = 3000
JOBS = 6  # at a time: they wait most of the time, for ranks that are stopped and for the launcher to end others
SIGNALS_TO_END = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNALS_OF_BATCH_SYSTEMS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)  # before the time is over


# ---- how jobs are started: (a rank's command, number of ranks) -> the whole command ----


def by_launcher(command, ranks):
    return [*MPIEXEC, str(ranks), *command]


def alone(command, _):
    return command


def last_differs(change):
    """The last rank is started with another command than the others."""
    return lambda command, ranks: [*by_launcher(command, ranks - 1), ":", MPIEXEC[-1], "1", *change(command)]


def instead(old, new):
    """A word, or the last name of a path."""
    return last_differs(lambda command: [re.sub(rf"(^|/){re.escape(old)}$", rf"\g<1>{new}", word) for word in command])


def further(*arguments):
    return last_differs(lambda command: [*command, *arguments])


def by_another_mpi(command, ranks):
    """As MPICH's launcher does it, of which Open MPI knows nothing: each rank takes itself for the only one."""
    script = """for rank in $(seq 0 %d); do TMPDIR=$(mktemp -d) PMI_SIZE=%d PMI_RANK=$rank "$@" & all="$all $!"; done
                for rank in $all; do wait $rank || code=$?; done; exit ${code:-0}""" % (ranks - 1, ranks)
    return ["sh", "-c", script, "sh", *command]


def on_small_disk(command, ranks):
    """The folder of the result is a disk of 256 KiB, which only this job sees: it lists what is left there itself."""
    script = 'mount -t tmpfs -o size=256k none results && { "$@"; code=$?; ls -A results > left; exit $code; }'
    return ["unshare", "-m", "sh", "-c", script, "sh", *by_launcher(command, ranks)]


# ---- the tables ----


@dataclasses.dataclass(eq=False)
class Row:
    name: str
    fault: dict = dataclasses.field(default_factory=dict)  # words of faults.c; none: something else than a call breaks
    code: typing.Optional[int] = None  # None: the launcher's, anything but 0
    says: tuple = ()  # patterns that the error line must hold; without a code of the program, all of stderr
    names: typing.Optional[int] = None  # the rank that the error line must name, or the launcher where that speaks
    ranks: int = 3
    model: str = "bsbr"
    program: str = "bsbr_forward"
    arguments: tuple = ()
    seconds: float = 10
    launch: typing.Callable = by_launcher
    before: tuple = ()  # (rank, shell commands that run before its program, "$@")
    signal: tuple = ()  # (signal, rank or LAUNCHER): sent when the fault, a sleeping rank, has been met
    may_stand: bool = False  # the result may be there: it was written by then
    tokens: str = "ids.txt"
    may_miss: bool = False  # it may be that there is no such call; then nothing breaks


def on(rank, action, call, **filters):
    return dict(rank=rank, action=action, call=call, **filters)


# Places in a run where a rank may break: name, model, and which call it is in, filters included. Halo and running states go in one
# direction: the first rank receives none and the last sends none.
def reading_model(rank):
    return dict(call="pread", path="bsbr.h5", least=1000) if rank == 0 else dict(call="MPI_Bcast,MPI_Ibcast", least=4096)


def giving_name(rank):
    """Rank 0 renames, the others wait for it."""
    waiting = dict(call="MPI_Allreduce,MPI_Iallreduce", number=2, after="fsync", path=".part")
    return dict(call="rename", path=".part") if rank == 0 else waiting


TO_NEXT = dict(call="MPI_Isend,MPI_Irecv", least=4)
PLACES = [
    ("at the start", "bsbr", dict(call="MPI_Init_thread")),
    ("before Kokkos", "bsbr", dict(call="MPI_Comm_dup")),
    ("reading tokens", "bsbr", dict(call="pread", path="ids.txt", least=500)),
    ("reading the model", "bsbr", reading_model),
    ("sending states", "bsbr", dict(call="MPI_Isend", least=4)),
    ("gathering", "bsbr", dict(call="MPI_Iallgatherv")),
    ("waiting for states", "bsbr", dict(call="MPI_Testall,MPI_Waitall", after="MPI_Isend")),
    ("exchanging heads", "standard", dict(call="MPI_Irecv", least=4, number=2)),
    ("exchanging the halo", "sliding_window", TO_NEXT),
    ("passing a state on", "linear", TO_NEXT),
    ("passing a state of gau on", "gau", TO_NEXT),
    ("writing rows", "bsbr", dict(call="pwrite", path=".part", least=10000)),
    ("syncing", "bsbr", dict(call="fsync", path=".part")),
    ("giving the name", "bsbr", giving_name),
    ("at the end", "bsbr", dict(call="MPI_Finalize")),
]
# Where MPI itself waits, the others do not know for whom.
NAMELESS = ("at the start", "before Kokkos", "at the end")
# Where the result may be written already.
LATE = ("giving the name", "at the end")


def place(name, rank):
    """-> model, and the words of the call."""
    model, call = next((model, call) for known, model, call in PLACES if known == name)
    return model, call(rank) if callable(call) else call


# What a launcher says of a rank that died: here Open MPI; others are not asked for words.
DEATHS = {"kill": "signal 9", "segv": "signal 11", "abort": "signal 6", "exit": r"Exit code: +3", "exit0": "exiting improperly"}


def died(name, rank, action, ranks=3, **changes):
    model, call = place(name, rank)
    return Row(f"rank {rank} of {ranks} {action} {name}", dict(rank=rank, action=action, **call), says=(DEATHS[action],), names=rank,
               ranks=ranks, model=model, **{"may_stand": name == "at the end" or name in LATE and rank > 0, **changes})


def killed_rows():
    actions = list(DEATHS)
    rows = [died(name, rank, actions[(number + rank) % len(actions)]) for number, (name, _, _) in enumerate(PLACES) for rank in range(3)]
    rows += [died("sending states", rank, "kill", ranks=2) for rank in range(2)]
    rows += [died("exchanging heads", 3, "kill", ranks=4), died("writing rows", 2, "segv", ranks=4)]
    return rows + [
        died("passing a state on", 1, "abort", arguments=("--repeat", "3")),
        died("writing rows", 0, "exit", arguments=("--precision", "double")),
        Row("rank 1 killed comparing", on(1, "kill", "MPI_Isend", least=4), says=(DEATHS["kill"],), names=1, program="bsbr_compare"),
    ]


TIMEOUT = ("--timeout", "3")
TIMED_OUT = 9  # seconds, of which Open MPI takes 2 for a stopped process, and rank 1 2.5 more if rank 0 cannot speak for MPI
NOT_STARTED = "MPI has not (started|ended) on all ranks after 3 s"


def silent(name, rank, action="stop", ranks=3, **changes):
    model, call = place(name, rank)
    says = (NOT_STARTED,) if name in NAMELESS else (rf"rank {rank} does not answer, others have waited for 3 s",)
    return Row(f"rank {rank} of {ranks} {action} {name}", dict(rank=rank, action=action, **call), COMMUNICATION, says, ranks=ranks,
               model=model, arguments=TIMEOUT, seconds=TIMED_OUT, **{"may_stand": name in LATE, **changes})


def stopped_rows():
    rows = [silent(name, number % 3) for number, (name, _, _) in enumerate(PLACES)]
    others = [("sending states", 0), ("writing rows", 0), ("writing rows", 1), ("reading the model", 2)]
    rows += [silent(name, rank) for name, rank in others]
    rows += [silent("gathering", 1, ranks=2), silent("waiting for states", 3, ranks=4)]
    # Not stopped, but busy with something that never ends.
    rows += [silent("passing a state on", 1, "sleep"), silent("syncing", 2, "sleep")]
    return rows + [
        Row("ranks 1 and 2 of 4 stopped", on("1,2", "stop", "MPI_Isend", least=4), COMMUNICATION,
            ("ranks 1 and 2 do not answer, others have waited for 3 s",), ranks=4, arguments=TIMEOUT, seconds=TIMED_OUT),
        Row("rank 2 stopped comparing", on(2, "stop", "MPI_Isend", least=4), COMMUNICATION, ("rank 2 does not answer, others have waited for 3 s",),
            program="bsbr_compare", arguments=TIMEOUT, seconds=TIMED_OUT),
    ]


PART = dict(path=".part")
ROWS = dict(path=".part", least=10000)
LONG = ("--random-tokens", "65536")  # 8 MiB of hidden states
DISK = [
    Row("no file on rank 0", on(0, "ENOSPC", "open", **PART), OUTPUT, ("out.h5",)),
    Row("no right to a file on rank 0", on(0, "EACCES", "open", **PART), OUTPUT, ("out.h5",)),
    Row("no file on rank 1", on(1, "EACCES", "open", **PART), OUTPUT, ("out.h5", "rank 1")),
    Row("too many files on rank 2", on(2, "EMFILE", "open", **PART), OUTPUT, ("out.h5", "rank 2")),
    Row("no blocks", on(0, "ENOSPC", "fallocate", **PART), OUTPUT, ("out.h5", "no space left")),
    Row("no blocks within the quota", on(0, "EDQUOT", "fallocate", **PART), OUTPUT, ("out.h5", "quota")),
    Row("first write on rank 0", on(0, "EIO", "pwrite", **PART), OUTPUT, ("out.h5",)),
    Row("metadata on rank 0", on(0, "EIO", "pwrite", number=2, always=1, **PART), OUTPUT, ("out.h5",)),
    Row("rows on rank 0", on(0, "ENOSPC", "pwrite", always=1, **ROWS), OUTPUT, ("out.h5", "rank 0", "No space left")),
    Row("rows on rank 1", on(1, "EIO", "pwrite", **ROWS), OUTPUT, ("out.h5", "rank 1", "Input/output error")),
    Row("rows on rank 2", on(2, "EDQUOT", "pwrite", **ROWS), OUTPUT, ("out.h5", "rank 2", "quota")),
    Row("half of the rows on rank 1", on(1, "short", "pwrite", **ROWS), OUTPUT, ("out.h5", "rank 1", "No space left")),
    Row("half of the rows of two", on(1, "short", "pwrite", **ROWS), OUTPUT, ("out.h5", "rank 1", "No space left"), ranks=2),
    Row("all ranks at once", on("0,1,2", "ENOSPC", "pwrite", **ROWS), OUTPUT, ("out.h5", "No space left")),
    Row("syncing on rank 0", on(0, "EIO", "fsync", **PART), OUTPUT, ("out.h5", "Input/output error")),
    Row("syncing on rank 1", on(1, "EIO", "fsync", **PART), OUTPUT, ("out.h5", "rank 1", "Input/output error")),
    Row("syncing on rank 3", on(3, "ENOSPC", "fsync", **PART), OUTPUT, ("out.h5", "rank 3", "No space left"), ranks=4),
    Row("last sync on rank 0", on(0, "EIO", "fsync", number=2, **PART), OUTPUT, ("out.h5", "Input/output error")),
    *(Row(f"closing {number} on rank 0", on(0, "EDQUOT", "close", number=number, always=1, **PART), OUTPUT, ("out.h5", "quota"), may_miss=True)
      for number in range(1, 6)),
    Row("closing in one process", on(0, "EDQUOT", "close", always=1, **PART), OUTPUT, ("out.h5", "quota"), ranks=1, launch=alone),
    Row("metadata in one process", on(0, "ENOSPC", "pwrite", number=2, always=1, **PART), OUTPUT, ("out.h5", "No space left"), ranks=1, launch=alone),
    Row("cutting on rank 0", on(0, "EIO", "ftruncate", **PART), OUTPUT, ("out.h5", "Input/output error")),
    Row("closing on rank 2", on(2, "EDQUOT", "close", **PART), OUTPUT, ("out.h5", "rank 2", "quota")),
    Row("the name", on(0, "EACCES", "rename", **PART), OUTPUT, ("out.h5", "cannot be given its name")),
    Row("the name on a broken disk", on(0, "EIO", "rename", **PART), OUTPUT, ("out.h5", "cannot be given its name")),
    Row("the summary", on(0, "ENOSPC", "pwrite", path=".json"), OUTPUT, ("summary.json",),
        arguments=("--json", "results/summary.json"), may_stand=True),
    # The files of MPI are within this limit, the rows of the last rank are not: ulimit counts in blocks of 512 bytes.
    Row("a limit of files on rank 2", {}, OUTPUT, ("out.h5", "rank 2"), before=(2, "ulimit -f 12288"), arguments=LONG),
    Row("a limit of files on rank 0", {}, OUTPUT, ("out.h5",), before=(0, "ulimit -f 12288"), arguments=LONG),
    Row("stdout is closed", {}, OUTPUT, ("stdout",), before=(0, 'exec "$@" >&-'), arguments=("--json", "-"), may_stand=True),
    Row("stdout is full", {}, OUTPUT, ("stdout",), before=(0, 'exec "$@" > /dev/full'), arguments=("--json", "-"), may_stand=True),
]

SMALL_DISK = [Row("a full disk", {}, OUTPUT, ("out.h5", "no space left"), launch=on_small_disk)]
ANOTHER_FOLDER = [
    Row(f"rank {rank} sees another folder", {}, OUTPUT, ("out.h5", f"rank {rank}"),
        before=(rank, "exec unshare -m sh -c 'mount -t tmpfs none results && exec \"$@\"' sh \"$@\"")) for rank in (1, 2)
]
# The name of the shorter file that a rank sees in its place.
SHORTER = [
    Row(f"rank {rank} sees shorter tokens", {}, FILE, ("ids.txt", f"rank {rank}", "3000", "2000"),
        before=(rank, "exec unshare -m sh -c 'mount --bind ../short.txt ../ids.txt && exec \"$@\"' sh \"$@\"")) for rank in (1, 2)
]

IDS = dict(path="ids.txt")
FILES = [
    Row("tokens cannot be opened by rank 1", on(1, "EACCES", "open", **IDS), FILE, ("ids.txt", "rank 1", "Permission denied")),
    Row("tokens cannot be opened again by rank 2", on(2, "EIO", "open", number=3, **IDS), FILE, ("ids.txt", "rank 2")),
    Row("tokens cannot be read by rank 0", on(0, "EIO", "pread", least=500, **IDS), FILE, ("ids.txt", "rank 0", "Input/output error")),
    Row("tokens cannot be read by rank 1", on(1, "EIO", "pread", least=500, **IDS), FILE, ("ids.txt", "rank 1", "Input/output error")),
    Row("tokens cannot be read by any", on("0,1,2", "EIO", "pread", least=500, **IDS), FILE, ("ids.txt", "Input/output error")),
    Row("tokens become shorter for rank 2", on(2, "short", "pread", least=500, **IDS), FILE, ("ids.txt", "rank 2", "shorter")),
    Row("the model cannot be opened", on(0, "EIO", "open", path="bsbr.h5"), FILE, ("bsbr.h5",)),
    Row("the model cannot be opened again", on(0, "EACCES", "open", path="bsbr.h5", number=2), FILE, ("bsbr.h5",)),
    Row("a weight cannot be read", on(0, "EIO", "pread", path="bsbr.h5", least=1000), FILE, ("bsbr.h5",)),
]

# What a rank asks for in one piece of the system: its weights, workspace and hidden states, and what Kokkos takes for the scratch of teams.
ALLOCATE = dict(call="malloc,posix_memalign,aligned_alloc", **{"from": "bsbr_forward,bsbr_evaluate,libkokkos,libstdc++"}, after="open",
                path="ids.txt", least=50000)
ALLOCATIONS = [*((1, number) for number in range(1, 13)), (0, 1), (0, 4), (2, 3), (2, 6)]  # (rank, which)
MEMORY_LIMIT = [
    # The prediction is too much for that one rank; nothing is allocated.
    Row("a limit of memory on rank 1", {}, MEMORY, ("memory", "rank 1", "ulimit"), before=(1, "ulimit -v 1200000"),
        arguments=("--random-tokens", "4000000")),
    # MPI itself cannot start, and says so in one of many ways, or crashes: what counts is that the job ends, and leaves nothing.
    Row("a limit of memory on rank 2, too low to start", before=(2, "ulimit -v 60000"), arguments=TIMEOUT),
]

MPI_ERROR = "MPI_ERR_OTHER"
FAILED_CALL = "MPI_ERR_OTHER|[Oo]ther MPI error"
MPI = [
    Row("MPI_Init_thread fails on rank 1", on(1, MPI_ERROR, "MPI_Init_thread"), COMMUNICATION, ("MPI_Init_thread",), names=1),
    *(Row(f"{call} fails on rank {rank}", on(rank, MPI_ERROR, call, **filters), COMMUNICATION, (FAILED_CALL,),
          names=rank, model=model)
      for rank, model, call, filters in [
          (2, "bsbr", "MPI_Comm_dup", {}),
          (0, "bsbr", "MPI_Bcast,MPI_Ibcast", dict(least=4096)),
          (2, "bsbr", "MPI_Bcast,MPI_Ibcast", dict(least=4096)),
          (0, "bsbr", "MPI_Isend", {}),
          (1, "bsbr", "MPI_Isend", {}),
          (2, "standard", "MPI_Irecv", {}),
          (1, "bsbr", "MPI_Iallgatherv", {}),
          (1, "bsbr", "MPI_Testall,MPI_Waitall", dict(after="MPI_Isend")),
          (2, "bsbr", "MPI_Test,MPI_Wait,MPI_Testall,MPI_Waitall", dict(after="MPI_Iallgatherv")),
          (1, "linear", "MPI_Isend,MPI_Irecv", {}),
          (1, "bsbr", "MPI_Allreduce,MPI_Iallreduce", dict(after="pread", path="ids.txt")),
          (2, "bsbr", "MPI_Allreduce,MPI_Iallreduce", dict(after="pwrite", path=".part")),
      ]),
    *(Row(f"an exception on rank {rank} of {ranks}", on(rank, "throw", call), BUG, ("internal error", "injected"), names=rank, ranks=ranks)
      for rank, ranks, call in [(0, 3, "MPI_Isend"), (1, 3, "MPI_Isend"), (3, 4, "MPI_Iallgatherv"), (1, 2, "pwrite")]),
]

# Gradients of head and embedding on their way to those that add them up, and back: a window's keys, which sliding_window sends, are smaller.
SUMMING = dict(call="MPI_Isend,MPI_Irecv", least=8000)


def differentiating(name, *broken, **changes):
    return Row(f"gradients: {name}", *broken, program="bsbr_evaluate", **changes)


def in_sums(rank, action, number, *rest, **changes):
    return differentiating(f"rank {rank} {action} in message {number} of sums", on(rank, action, number=number, **SUMMING), *rest,
                           model="sliding_window", **changes)


GRADIENTS = [
    *(in_sums(rank, action, number, says=(DEATHS[action],), names=rank)
      for rank, action, number in [(0, "kill", 1), (1, "segv", 4), (2, "exit0", 6), (0, "abort", 11), (2, "kill", 16)]),
    *(in_sums(rank, "stop", number, COMMUNICATION, (f"rank {rank} does not answer, others have waited for 3 s",), arguments=TIMEOUT,
              seconds=TIMED_OUT) for rank, number in [(0, 2), (1, 9), (2, 13)]),
    *(in_sums(rank, MPI_ERROR, number, COMMUNICATION, (FAILED_CALL,), names=rank) for rank, number in [(0, 12), (1, 3), (2, 5)]),
    in_sums(1, "throw", 6, BUG, ("internal error", "injected"), names=1),
    # The messages of a backward pass follow those of the forward pass: among 40 there are some of each.
    *(differentiating(f"{model}, message {number}", on(rank, MPI_ERROR, "MPI_Isend,MPI_Irecv", least=4, number=number), COMMUNICATION,
                      (FAILED_CALL,), names=rank, model=model)
      for model, rank in [("bsbr", 1), ("standard", 2), ("linear", 0), ("gau", 1), ("delta_net", 2)] for number in (10, 25, 40)),
    differentiating("another way to compute on rank 2", {}, USAGE, ("rank 2", "--recompute"), launch=further("--recompute", "all")),
    differentiating("no room on the disk", on(0, "ENOSPC", "pwrite", always=1, **ROWS), OUTPUT, ("out.h5", "No space left")),
    differentiating("no room for the losses of rank 2", on(2, "ENOSPC", "pwrite", always=1, path=".part", least=4000), OUTPUT,
                    ("out.h5", "rank 2", "No space left")),
    differentiating("a folder that rank 1 may not open", on(1, "EACCES", "open", **PART), OUTPUT, ("out.h5", "rank 1")),
    # As with a forward pass, nothing is allocated. 4 million tokens are far more than this with all recomputed, too.
    differentiating("a limit of memory on rank 1", {}, MEMORY, ("not enough memory", "rank 1", "ulimit"), before=(1, "ulimit -v 1200000"),
                    tokens="long.txt"),
    differentiating("a limit of memory alone", {}, MEMORY, ("not enough memory", "rank 0", "ulimit"), before=(0, "ulimit -v 1200000"),
                    tokens="long.txt", ranks=1, launch=alone),
]

DISAGREEMENT = [
    Row("another chunk size on rank 1", {}, USAGE, ("rank 1", r"\b16\b", r"\b32\b"), ranks=2, arguments=("--chunk-size", "16"),
        launch=instead("16", "32")),
    Row("another repeat on rank 2", {}, USAGE, ("rank 2", r"\b5\b", r"\b7\b"), arguments=("--repeat", "5"), launch=instead("5", "7")),
    Row("another output on rank 2", {}, USAGE, ("rank 2", r"\bout\.h5", r"\bother\.h5"), launch=instead("out.h5", "other.h5")),
    Row("other tokens on rank 3", {}, USAGE, ("rank 3", r"\bids\.txt", r"\bshort\.txt"), ranks=4, launch=instead("ids.txt", "short.txt")),
    Row("one option more on rank 2", {}, USAGE, ("rank 2", "--max-tokens"), launch=further("--max-tokens", "100")),
    Row("a time limit on rank 2 only", {}, USAGE, ("rank 2", "--timeout"), launch=further("--timeout", "5")),
    Row("an option that rank 1 does not know", {}, USAGE, ("--frobnicate",), ranks=2, launch=further("--frobnicate")),
    Row("another version of HDF5 on rank 1", on(1, "version", "H5get_libversion", always=1), COMMUNICATION,
        ("rank 1", r"\d+\.\d+\.(?!99)\d+", r"\d+\.\d+\.99\b")),
    Row("another version of HDF5 on rank 3", on(3, "version", "H5get_libversion", always=1), COMMUNICATION,
        ("rank 3", r"\d+\.\d+\.(?!99)\d+", r"\d+\.\d+\.99\b"), ranks=4),
]

LAUNCHERS = [
    Row("a launcher of another MPI", {}, COMMUNICATION, ("3 ranks",), launch=by_another_mpi),
    Row("a launcher of another MPI, 2 ranks", {}, COMMUNICATION, ("2 ranks",), ranks=2, launch=by_another_mpi),
    # Of a rank that MPI does not know yet, Open MPI does not tell the number.
    Row("rank 1 leaves before MPI", {}, says=("non-zero exit code",), before=(1, "exit 3")),
    Row("rank 0 leaves before MPI", {}, says=("non-zero exit code",), before=(0, "exit 3")),
    Row("rank 1 has no program in its shell", {}, says=("absent", "non-zero exit code"), before=(1, "exec /absent/bsbr_forward")),
    Row("rank 2 has no program", {}, says=("absent",), launch=last_differs(lambda command: ["/absent/bsbr_forward"])),
    # Open MPI sees nothing wrong in these, and lets the others wait.
    Row("rank 2 leaves before MPI as if all were well", {}, COMMUNICATION, (NOT_STARTED,), before=(2, "exit 0"), arguments=TIMEOUT),
    Row("rank 0 is another program", {}, COMMUNICATION, (NOT_STARTED,), before=(0, "exec true"), arguments=TIMEOUT),
]


def asleep(rank):
    """A rank that is writing for as long as is needed to send a signal."""
    return on(rank, "sleep", "pwrite", **ROWS)


WRITING_SUMMARY = dict(fault=on(0, "sleep", "pwrite", path=".json"), arguments=("--json", "results/summary.json"), may_stand=True)


SIGNALS = [
    *(Row(f"{number.name} to the launcher", asleep(rank), signal=(number, LAUNCHER)) for rank, number in enumerate(SIGNALS_TO_END)),
    *(Row(f"{number.name} to the launcher, which passes it on", asleep(1), signal=(number, LAUNCHER)) for number in SIGNALS_OF_BATCH_SYSTEMS[:2]),
    *(Row(f"{number.name} to rank {to} while {rank} writes", asleep(rank), names=to, says=(f"signal {int(number)}",), signal=(number, to))
      for rank, number, to in [(1, signal.SIGTERM, 0), (0, signal.SIGINT, 0), (1, signal.SIGHUP, 0), (0, signal.SIGTERM, 1),
                               (2, signal.SIGTERM, 2), (1, signal.SIGINT, 2), (1, signal.SIGUSR1, 0), (2, signal.SIGUSR2, 2)]),
    # Then nobody is left whom anything could reach: Open MPI ends the ranks at once.
    Row("SIGKILL to the launcher", asleep(1), -signal.SIGKILL, signal=(signal.SIGKILL, LAUNCHER)),
    *(Row(f"{number.name} to a process alone", asleep(0), -number, ranks=1, launch=alone, signal=(number, LAUNCHER))
      for number in (*SIGNALS_TO_END, *SIGNALS_OF_BATCH_SYSTEMS, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM)),
    Row("SIGTERM to the launcher, while the summary is written", signal=(signal.SIGTERM, LAUNCHER), **WRITING_SUMMARY),
    Row("SIGINT to a process alone, while the summary is written", code=-signal.SIGINT, ranks=1, launch=alone,
        signal=(signal.SIGINT, LAUNCHER), **WRITING_SUMMARY),
]


# ---- running them ----


@functools.lru_cache(maxsize=None)
def launcher_is_open_mpi():
    said = subprocess.run([MPIEXEC[0], "--version"], capture_output=True, text=True).stdout
    return re.search("Open MPI|OpenRTE|PRRTE", said) is not None


@functools.lru_cache(maxsize=None)
def may_mount():
    try:
        return subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    except OSError:
        return False


needs_mounts = unittest.skipUnless(may_mount(), "this user may not mount anything, not even for one process")


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.text("ids.txt", b"a" * TOKENS)
        self.text("short.txt", b"a" * 2000)
        self.text("long.txt", b"a" * (4 << 20))

    def arguments(self, row):
        if row.program == "bsbr_compare":
            small = ["--hidden-dim", "32", "--num-heads", "4", "--ff-dim", "48", "--num-layers", "1", "--chunk-size", "16"]
            return ["--architectures", "bsbr", "--seq-lengths", "512", "--repeat", "1", "--quiet", *small, *row.arguments]
        tokens = [] if "--random-tokens" in row.arguments else ["--input", self.path(row.tokens)]
        output = "--gradients" if row.program == "bsbr_evaluate" else "--output"
        return ["--model", self.path(row.model + ".h5"), *tokens, output, "results/out.h5", "--quiet", *row.arguments]

    def command(self, row, folder):
        command = [os.path.abspath(os.path.join(PROGRAMS, row.program)), *self.arguments(row)]
        if row.fault:
            fault = " ".join(f"{name}={value}" for name, value in row.fault.items())
            settings = ["LD_PRELOAD=" + os.path.abspath(FAULTS), "BSBR_FAULT=" + fault, "BSBR_FAULT_MARK=" + os.path.join(folder, "mark")]
            command = ["env", *settings, *command]
        if row.before:
            rank, shell = row.before
            script = 'if [ "${OMPI_COMM_WORLD_RANK:-${PMIX_RANK:-${PMI_RANK:-0}}}" = %d ]; then %s; fi; exec "$@"' % (rank, shell)
            command = ["sh", "-c", script, "sh", *command]
        return row.launch(command, row.ranks)

    def run_job(self, row):
        """Once; again, twice at most, where only Open MPI's launcher is left: a rank that does not reach PMIx_Fence when the others are
        aborted in it makes PMIx_server_finalize wait for its own lock in some runs out of a hundred (seen in PMIx 4.2.2)."""
        for number in range(3):
            done = self.run_job_once(row, self.path(re.sub(r"\W+", "_", row.name) + f"_{number}"))
            if row.ranks == 1 or done.stayed != [done.launcher] or not launcher_is_open_mpi():
                break
        return done

    def run_job_once(self, row, folder):
        os.makedirs(os.path.join(folder, "results"))
        job = Job(self.command(row, folder), folder)
        ended = False
        try:
            since = job.wait_for_marks(len(str(row.fault["rank"]).split(","))) if row.fault else job.start
            if since is not None:
                since = job.send(*row.signal) if row.signal else since
                ended = job.wait(job.has_ended, since + row.seconds)
        finally:
            stayed = job.clear()
        left = job.read("left").split() + os.listdir(job.path("results"))
        return types.SimpleNamespace(met=since is not None, ended=ended, stayed=stayed, left=left, launcher=job.launcher.pid,
                                     code=job.launcher.returncode, out=job.read("out"), err=job.read("err"), result=job.path("results/out.h5"))

    def check(self, row):
        """One row, and what holds of all. -> whether the fault was met."""
        done = self.run_job(row)
        if row.may_miss and not done.met and done.code == 0:
            return False
        what = f"{row.name}\nexit code {done.code}, processes that stayed: {done.stayed}, files: {done.left}\n{done.err}"
        self.assertTrue(done.met, f"the fault was not met: {what}")
        self.assertTrue(done.ended, f"still there after {row.seconds} s: {what}")
        self.assertNotEqual(done.code, 0, what)
        self.assertEqual(done.out, "", what)
        self.check_words(row, done, what)
        self.check_files(row, done, what)
        return True

    def check_words(self, row, done, what):
        errors = [line for line in done.err.splitlines() if line.startswith(row.program + ": error: ")]
        speaks = row.code is not None and row.code > 0  # not the launcher
        if row.code is not None:
            self.assertEqual(done.code, row.code, what)
        self.assertLessEqual(len(errors), 1, what)
        if speaks:
            self.assertEqual(len(errors), 1, what)
        elif not launcher_is_open_mpi():
            return  # it has other words
        names = () if row.names is None else (rf"\brank {row.names}\b|,{row.names}\]",)
        for pattern in (*row.says, *names):
            self.assertRegex(errors[0] if speaks else done.err, pattern, what)

    def check_files(self, row, done, what):
        dead = str(row.fault.get("rank")) == "0" and row.fault["action"] in DEATHS or row.code == -signal.SIGKILL
        allowed = (["out.h5.part"] if dead else []) + (["out.h5"] if row.may_stand else [])
        self.assertLessEqual(set(done.left), set(allowed), what)
        if os.path.exists(done.result):
            self.assertEqual(hidden_states(done.result).shape, (1, TOKENS, 32), what)

    def check_all(self, rows):
        """All rows; -> how many of the faults were met."""
        self.assertEqual(len({row.name for row in rows}), len(rows))
        for model in {row.model for row in rows}:
            self.model(model + ".h5", model, head="tied")
        met = []
        failed = in_parallel(lambda row: met.append(self.check(row)), rows, JOBS)
        if failed:
            self.fail(f"{len(failed)} of {len(rows)} rows\n\n" + "\n\n".join(map(str, failed.values())))
        return sum(met)

    def test_a_rank_that_dies_ends_the_job(self):
        self.check_all(killed_rows())

    def test_a_rank_that_does_not_answer_ends_the_job_after_the_timeout(self):
        self.check_all(stopped_rows())

    def test_a_result_that_cannot_be_written_is_none(self):
        self.check_all(DISK)

    @needs_mounts
    def test_a_full_disk_is_told_as_such(self):
        self.check_all(SMALL_DISK)

    @needs_mounts
    def test_a_rank_that_sees_another_folder_is_named(self):
        self.check_all(ANOTHER_FOLDER)

    def test_a_file_that_one_rank_cannot_read_is_named(self):
        self.check_all(FILES)

    @needs_mounts
    def test_a_rank_that_sees_other_tokens_is_named(self):
        self.check_all(SHORTER)

    def test_memory_that_is_limited_on_one_rank_is_said_so(self):
        self.check_all(MEMORY_LIMIT)

    def test_memory_that_one_rank_does_not_get_is_said_so(self):
        """Each large allocation, one in each job: how many there are is not known here."""
        rows = [Row(f"allocation {number} of rank {rank}", on(rank, "ENOMEM", number=number, **ALLOCATE), MEMORY, ("memory",), names=rank,
                    may_miss=True) for rank, number in ALLOCATIONS]
        self.assertGreaterEqual(self.check_all(rows), 8)

    def test_memory_that_one_rank_does_not_get_for_gradients_is_said_so(self):
        rows = [differentiating(f"allocation {number} of rank {number % 3}", on(number % 3, "ENOMEM", number=number, **{**ALLOCATE, "least": 20000}), MEMORY,
                                ("memory",), names=number % 3, may_miss=True) for number in range(1, 100)]
        self.assertGreaterEqual(self.check_all(rows), 20)

    def test_what_breaks_while_gradients_are_computed_ends_the_job(self):
        self.check_all(GRADIENTS)

    def test_an_error_of_mpi_or_one_that_nobody_foresaw_ends_the_job(self):
        self.check_all(MPI)

    def test_ranks_that_are_not_alike_are_told_so(self):
        self.check_all(DISAGREEMENT)

    def test_ranks_that_the_launcher_has_not_started_as_they_should_end_the_job(self):
        self.check_all(LAUNCHERS)

    def test_a_signal_leaves_nothing_half_written(self):
        self.check_all(SIGNALS)


class Survives(Case):
    """What breaks and does no harm, and bsbr_init."""

    @staticmethod
    def broken(action, call, **filters):
        """The environment of a process in which all such calls fail."""
        fault = " ".join("%s=%s" % word for word in on(0, action, call, always=1, **filters).items())
        return {"LD_PRELOAD": os.path.abspath(FAULTS), "BSBR_FAULT": fault}

    def test_files_are_read_where_the_file_system_has_no_locks(self):
        model, tokens = self.model(), ids_file(self.path("ids.h5"), range(100))
        for action in ("ENOLCK", "ENOTSUP", "ENOSYS", "EIO"):
            with self.subTest(action=action):
                self.forward("--model", model, "--input", tokens, "--output", self.path("out.h5"), "--quiet", environment=self.broken(action, "flock"))

    def test_what_was_read_may_fail_to_close(self):
        model, tokens = self.model(), ids_file(self.path("ids.h5"), range(100))
        for path in (model, tokens):
            self.forward("--model", model, "--input", tokens, "--quiet", environment=self.broken("EIO", "close", path=path))

    def test_a_model_that_cannot_be_written_is_one_error_and_no_crash(self):
        for call, action, words in (("close", "EDQUOT", "quota"), ("pwrite", "ENOSPC", "No space left"), ("ftruncate", "EIO", "Input/output error")):
            with self.subTest(call=call):
                done = run("bsbr_init", "--output", self.path("m.h5"), "--architecture", "bsbr", "--hidden-dim", 32, "--num-heads", 4,
                           environment=self.broken(action, call, path=".part", number=1 if call != "pwrite" else 2))
                self.check_failure(done, "bsbr_init", OUTPUT, ["m.h5", words])
                self.assertEqual(os.listdir(self.folder), [])


if __name__ == "__main__":
    if os.environ.get("BSBR_SANITIZED") == "1":
        print("sanitizers must be loaded before everything else: nothing can be preloaded")
        sys.exit(SKIPPED)
    for number in (*SIGNALS_TO_END, signal.SIGQUIT, signal.SIGPIPE):  # what a shell starts in the background ignores some, and so would the jobs
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    unittest.main()
