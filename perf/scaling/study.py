"""Scaling studies: which cases there are, how each is started, and the line that is kept of each (schema.json)."""
import dataclasses
import datetime
import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))

from command_line import BAD_INPUT, BAD_OUTPUT, USAGE, Failure  # noqa: E402
from setups import ARCHITECTURES, Setup  # noqa: E402

FORMAT, FORMAT_VERSION = "bsbr-scaling", 1
LAUNCHERS = ("mpirun", "srun", "flux")
FAILED, NOT_STARTED, BY_SIGNAL = 1, 127, 128  # exit codes, as a shell has them; BY_SIGNAL + the signal's number
LINE_START = f'{{"format": "{FORMAT}"'
SUMMARY_FIELDS = ("architecture", "length", "ranks", "threads_per_rank", "precision", "seconds", "seconds_by_phase", "bytes_sent")
CLEAN = 0.05  # share of the cores that others may use in a run that is not disturbed

# Laptops have fewer cores than one wants ranks, and ranks that are bound to cores cannot share them. Other MPIs ignore these.
LOCAL_MPI = {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none",
             "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "PRTE_MCA_hwloc_default_binding_policy": "none"}

# Options of bsbr_init that not all architectures have, of those that a study sets.
OWN_OPTIONS = {name: [field.name for field in dataclasses.fields(Setup) if field.name in one.fields] for name, one in ARCHITECTURES.items()}


class Stopped(Exception):
    """A signal has told the study to end."""

    def __init__(self, number):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.code = BY_SIGNAL + number


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of a study: the study that it belongs to, what is run, and where."""

    study: str  # strong, weak or calibration
    setup: Setup
    nodes: int
    cores: int  # of all nodes
    repeat: int

    def fields(self):
        own = {name: getattr(self, name) for name in ("study", "nodes", "cores", "repeat")}
        return {**own, **dataclasses.asdict(self.setup)}

    @classmethod
    def of(cls, fields):
        names = [field.name for field in dataclasses.fields(Setup)]
        return cls(fields["study"], Setup(**{name: fields[name] for name in names if name in fields}), fields["nodes"], fields["cores"], fields["repeat"])


def disturbed(entry):
    """Whether others used more of the machine during a run than leaves its time as it is."""
    return entry.get("cores_used_by_others", 0) > CLEAN * entry["cores"]


def nodes_for(launcher, setup, cores):
    """Nodes of so many cores that hold the ranks, with a core for every thread; mpirun stays on this machine."""
    return 1 if launcher == "mpirun" else math.ceil(setup.ranks / max(1, cores // setup.threads_per_rank))


def cores_here():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor():
    """The model of this machine's CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [text.partition(":")[2].strip() for text in file if text.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


# ---- commands -------------------------------------------------------------------------------------------------------------------------


def program(folder, name):
    return os.path.join(folder, name) if folder else name


def model_fields(setup):
    """Fields that a model file depends on. The chunk size is an option of bsbr_forward, too, and not among them."""
    return ("hidden_dim", "num_layers", "num_heads", "ff_dim", "precision", *OWN_OPTIONS[setup.architecture])


def model_name(setup):
    return "-".join([setup.architecture, *(str(getattr(setup, name)) for name in model_fields(setup))]) + ".h5"


def init_command(programs, setup, path):
    options = [part for name in model_fields(setup) for part in ("--" + name.replace("_", "-"), str(getattr(setup, name)))]
    return [program(programs, "bsbr_init"), "--output", path, "--architecture", setup.architecture, *options]


def forward_command(programs, case, path):
    """Its summary goes to stdout; it writes no file."""
    setup = case.setup
    return [program(programs, "bsbr_forward"), "--model", path, "--random-tokens", str(setup.length), "--batch", str(setup.batch),
            "--chunk-size", str(setup.chunk_size), "--precision", setup.precision, "--repeat", str(case.repeat), "--progress", "off",
            "--quiet", "--json", "-"]


def launch_command(launcher, options, case):
    """What comes before the program."""
    ranks, threads = case.setup.ranks, case.setup.threads_per_rank
    if launcher == "mpirun":
        return ["mpirun", "-n", str(ranks), *options]
    if launcher == "srun":
        return ["srun", f"--nodes={case.nodes}", f"--ntasks={ranks}", f"--cpus-per-task={threads}", "--hint=nomultithread",
                "--kill-on-bad-exit=1", *options]
    return ["flux", "run", f"--nodes={case.nodes}", f"--ntasks={ranks}", f"--cores-per-task={threads}", *options]


def environment(launcher, case):
    """What the ranks need in their environment besides what is there."""
    threads = {"OMP_NUM_THREADS": str(case.setup.threads_per_rank), "OMP_PROC_BIND": "false"}
    return {**threads, **(LOCAL_MPI if launcher == "mpirun" else {})}


# ---- lines ----------------------------------------------------------------------------------------------------------------------------


def line(kind, **fields):
    """An object of a study file."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, "created": now, **fields}


def line_of(case, code, output, errors="", used_by_others=None):
    """The line of a case that has ended: a run with its summary, or a failure with its reason."""
    if code == 0:
        summary, wrong = summary_of(case, output)
        if not wrong:
            others = {} if used_by_others is None else {"cores_used_by_others": round(used_by_others, 3)}
            return line("run", **case.fields(), **others, summary=summary)
        return failure_of(case, FAILED, wrong)
    return failure_of(case, code, reason_of(code, errors))


def failure_of(case, code, reason):
    return line("failure", **case.fields(), exit_code=code, reason=reason)


def summary_of(case, output):
    """The summary that a program wrote to stdout, and what is wrong with it, or None. Launchers and MPIs may write lines around it."""
    begin = re.search(r"^\{", output, re.MULTILINE)
    try:
        summary, _ = json.JSONDecoder().raw_decode(output, begin.start() if begin else 0)
    except ValueError:
        summary = None
    if not isinstance(summary, dict):
        begin = " ".join(output.split())[:60]
        return None, "it ended with exit code 0 but wrote no summary" + (f"; its output begins with {begin!r}" if begin else "")
    missing = [name for name in SUMMARY_FIELDS if name not in summary]
    if missing:
        return None, f"its summary has no {missing[0]}"
    for name in ("ranks", "threads_per_rank"):
        if summary[name] != getattr(case.setup, name):
            return None, f"it ran with {name} = {summary[name]}, must be {getattr(case.setup, name)}"
    return summary, None


def reason_of(code, errors):
    """On one line: the error of the program, else that of the launcher, else the last words of either."""
    words = [text for text in errors.splitlines() if text.strip(" -")]
    for pattern in (r"\bbsbr_\w+: error: (.*)", r": error: (.*)"):
        told = [found.group(1) for found in (re.search(pattern, text) for text in words) if found]
        if told:
            return " ".join(told[0].split())
    ended = f"ended by {signal_name(code - BY_SIGNAL)}" if signal_name(code - BY_SIGNAL) else f"ended with exit code {code}"
    return " ".join((words[-1:] or [ended])[0].split())


def signal_name(number):
    return signal.Signals(number).name if number in set(signal.Signals) else None


class Lines:
    """Where lines go: to the end of a file, or to stdout. Each is there as a whole before the next run begins."""

    def __init__(self, path):
        self.path = path
        self.file = None
        if path:
            self.file = self._tried(lambda: open(path, "ab", buffering=0))
            self._tried(self._end_cut_line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.file:
            self.file.close()

    def write(self, entry):
        text = json.dumps(entry) + "\n"
        if self.path:
            self._tried(lambda: self._append(text.encode()))
        else:
            self._tried(lambda: print(text, end="", flush=True))

    def _end_cut_line(self):
        """A killed study may have left a line without its end; the next one must not go on there."""
        if os.path.isfile(self.path) and os.path.getsize(self.path) > 0:
            with open(self.path, "rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":
                    self._append(b"\n")

    def _append(self, data):
        while data:
            data = data[self.file.write(data):]
        os.fsync(self.file.fileno())

    def _tried(self, action):
        try:
            return action()
        except OSError as error:
            raise Failure(BAD_OUTPUT, f"{self.path or 'stdout'}: cannot be written: {error.strerror or error}") from None


def read_lines(paths):
    """All lines of study files. A line that was cut short, as a killed study leaves it, is passed over."""
    lines = []
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                texts = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(BAD_INPUT, f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'is not text'}") from None
        for number, text in enumerate(texts, 1):
            try:
                entry = json.loads(text)
            except ValueError:
                if text.startswith(LINE_START) or number == len(texts) > 1:
                    continue
                raise Failure(BAD_INPUT, f"{path}: line {number} is not JSON") from None
            if not isinstance(entry, dict) or (entry.get("format"), entry.get("format_version")) != (FORMAT, FORMAT_VERSION):
                raise Failure(BAD_INPUT, f'{path}: line {number} has not format = "{FORMAT}" and format_version = {FORMAT_VERSION}')
            for missing in missing_fields(entry):
                raise Failure(BAD_INPUT, f"{path}: line {number} has no {missing}")
            lines.append(entry)
    return lines


def missing_fields(entry):
    """Fields that a line of this kind must have, and has not: those of schema.json, and what is used of a summary."""
    yield from (name for name in required_fields(entry.get("kind")) if name not in entry)
    if entry["kind"] == "run":
        summary = entry["summary"] if isinstance(entry["summary"], dict) else {}
        yield from (f"summary.{name}" for name in SUMMARY_FIELDS if name not in summary)


def required_fields(kind):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "schema.json"), encoding="utf-8") as file:
        kinds = json.load(file)["$defs"]
    own = kinds.get(kind, kinds["line"])
    parts = [kinds[part["$ref"].rsplit("/", 1)[1]] for part in own.get("allOf", ())]
    return [name for part in (*parts, own) for name in part["required"]]


# ---- running --------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Runner:
    """Runs cases one after the other. Models are made once for each architecture and size, in a folder that is removed at the end."""

    programs: str
    launcher: str
    options: list
    limit: float
    patience: float = 0
    model_dir: str = None

    def __enter__(self):
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="bsbr-scaling-", dir=self.model_dir)
        except OSError as error:
            where = self.model_dir or tempfile.gettempdir()
            raise Failure(BAD_OUTPUT, f"{where}: no folder for models can be made there: {error.strerror}", "--model-dir names another") from None
        return self

    def __exit__(self, *_):
        self._folder.cleanup()

    def run(self, case):
        """The line of the case. With patience it is run again while others disturb it; the least disturbed run counts."""
        path = os.path.join(self._folder.name, model_name(case.setup))
        if not os.path.exists(path):
            code, output, errors = self._started(init_command(self.programs, case.setup, path), {})
            if code != 0:
                return failure_of(case, code, reason_of(code, errors))
        best, end = None, time.monotonic() + self.patience
        while best is None or (disturbed(best) and time.monotonic() < end):
            wait_for_others(CLEAN * case.cores, end)
            found = self._attempt(case, path)
            if found["kind"] == "failure":
                return found
            if best is None or found["cores_used_by_others"] < best["cores_used_by_others"]:
                best = found
        return best

    def _attempt(self, case, path):
        single = case.setup.ranks == 1 and self.launcher == "mpirun"  # needs no launcher
        command = [] if single else launch_command(self.launcher, self.options, case)
        before = busy_seconds()
        code, output, errors = self._started([*command, *forward_command(self.programs, case, path)], environment(self.launcher, case))
        after = busy_seconds()
        return line_of(case, code, output, errors, cores_of_others(before, after) if before and self.launcher == "mpirun" else None)

    def _started(self, command, settings):
        """exit code, stdout, stderr of a command, which is ended after the limit with all that it has started."""
        try:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                     env={**os.environ, **settings}, start_new_session=True, text=True, errors="replace")
        except OSError as error:
            hint = "--programs names their folder" if command[0].endswith(("bsbr_init", "bsbr_forward")) else "--launcher names another"
            raise Failure(USAGE, f"{command[0]} cannot be started: {error.strerror}", hint) from None
        try:
            output, errors = child.communicate(timeout=self.limit)
            code = child.returncode if child.returncode >= 0 else BY_SIGNAL - child.returncode
            return code, output, errors
        except subprocess.TimeoutExpired:
            self._end(child)
            return FAILED, "", f"not done after {self.limit:g} seconds"
        except BaseException:
            self._end(child)
            raise

    @staticmethod
    def _end(child):
        """A launcher that is asked ends its ranks; what remains of its group is killed."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(child.pid, number)
                child.communicate(timeout=5)
            except (OSError, subprocess.TimeoutExpired):
                pass


@dataclasses.dataclass
class Busy:
    wall: float
    others: float  # seconds of cores that were used, but not by this process and what it has started and waited for


def busy_seconds():
    """None where the system does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(number) for number in file.readline().split()[1:]]
    except (OSError, ValueError):
        return None
    used = (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")
    own = os.times()
    return Busy(time.monotonic(), used - sum(own[:4]))


def wait_for_others(cores, end, step=0.5):
    """Returns when others use no more than these cores, or at the time `end`."""
    while time.monotonic() < end:
        before = busy_seconds()
        time.sleep(step)
        after = busy_seconds()
        if before is None or cores_of_others(before, after) <= cores:
            return


def cores_of_others(before, after):
    """Cores, on average between two looks."""
    return max(0, after.others - before.others) / max(1e-3, after.wall - before.wall)
