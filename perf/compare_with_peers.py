#!/usr/bin/env python3
"""How fast bsbr is on this machine against its peers in Python: a forward, or loss and gradients, in turn, with the same number of threads.

    perf/compare_with_peers.py
    perf/compare_with_peers.py --gradients
    perf/compare_with_peers.py --precisions bfloat16

Needs the built programs and Python from 3.9; PyTorch, h5py, numpy and the Python package bsbr 0.1.1 are installed into an environment of
their own, build/peers, unless they are there. Five comparisons, all of models of the same size:

    package      bsbr against the model of the Python package bsbr 0.1.1, as it is
    transformer  bsbr against a pre-norm transformer in PyTorch with torch.nn.functional.scaled_dot_product_attention(is_causal=True)
    plain        bsbr against the same function, written plainly in PyTorch
    standard     standard attention, the same function as that transformer
    hopfield     hopfield, the same function as that transformer with hopfield's scale

Each is made in float and in bfloat16, except for `package`, which is only made in float. In bfloat16, PyTorch has all
weights and activations in bfloat16, as .to(torch.bfloat16) makes them; bsbr_forward --precision bfloat16 rounds what
matrix products multiply, and keeps the rest in float. Which kernels each of them used is told, too: bsbr's by its
summary; PyTorch's by what MKL and oneDNN log about one linear layer and one attention, since PyTorch itself does not
tell which library it calls.

Before anything is timed, both must give the same numbers for the same weights on a short sequence, in float and in the
precision that is timed. In `package` that is bsbr with the causality `reference`; what is timed is the causal one,
which --verify has compared with the plain reference. In `transformer` it is standard attention that is compared, since
the transformer is another function than bsbr.

With --gradients, in float only, it is bsbr_evaluate --gradients against autograd: the mean loss of the next token, and
its gradients with respect to all weights, of models with a head of their own. Loss and gradients are compared before
they are timed; there is no `package`, whose model has no head and no causal mode.

A round is one run of each in each precision, since the speed of a machine drifts; the median of the rounds' ratios is
what counts. Most of the time is PyTorch's at 65,536 tokens, where one forward may take minutes on few cores: --tokens
4096,16384 leaves them out. In bfloat16 PyTorch is slow on CPUs without instructions for it.

Exit codes are those of docs/programs.md; 1: the environment cannot be made or used; 70 also where numbers differ.
"""
import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))

from command_line import BAD_OUTPUT, BUG, NO_MEMORY, USAGE, Failure, Parser, report_error  # noqa: E402
from command_line import UNUSABLE as NO_ENVIRONMENT  # noqa: E402

PROGRAM = "compare_with_peers.py"

COMPARISONS = ("package", "transformer", "plain", "standard", "hopfield")
PRECISIONS = ("float", "bfloat16")
LIBRARIES, PACKAGE = ["numpy", "h5py", "torch"], "bsbr==0.1.1"
CONVERTER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python", "src")  # of bsbr_convert
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"

VOCABULARY, TEMPERATURE = 256, 0.7
SIZES = dict(vocab_size=VOCABULARY, hidden_dim=512, num_heads=8, num_layers=4, ff_dim=2048, chunk_size=128)
LONGEST_OF_PACKAGE = 5000  # tokens: its table of positions ends there
WARM_UP_TOKENS = 4096  # of PyTorch, before the first round: enough to load what it needs, also where a forward takes minutes
CHECKED_TOKENS = 500  # with a ragged last chunk
TOKENS, STANDARD_TOKENS, TOKENS_OF_GRADIENTS = (4096, 16384, 65536), (8192,), (4096, 16384)  # unless the command line says which
TOLERANCES = {  # of hidden states, which have variance 1
    "float": 2e-4,  # rounding costs some 1e-6 here, in the package's positions some 1e-5
    "bfloat16": 0.3,  # rounding costs up to a tenth here, another function mostly more than 1
}
GRADIENT_TOLERANCE = 1e-3  # of loss and gradients, as gradient_difference() has it; float32 costs some 1e-5


def main(arguments):
    try:
        options = parse(arguments)
        if options.inside:
            compare(options)
        else:
            restart(interpreter(options), arguments, options.threads)
    except Failure as failure:
        return fail(failure, failure.code, failure.hint)
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # whatever it is, it is told in one line
        return fail(f"{type(error).__name__}: {error}", BUG)
    return 0


def exit_code(program, run):
    """Calls run(), all that a program does which measures with this one's help. -> its exit code; reports a failure."""
    try:
        run()
    except Failure as failure:
        sys.stdout.flush()
        report_error(program, failure, failure.hint)
        return failure.code
    except KeyboardInterrupt:
        return 130
    return 0


def fail(message, code, hint=None):
    sys.stdout.flush()
    report_error(PROGRAM, message, hint)
    return code


# ---- the command line -----------------------------------------------------------------------------------------------------------------


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    add = parser.add_argument
    add("--programs", default="build/release/apps", metavar="DIR",
        help="folder of bsbr_init, bsbr_forward and bsbr_evaluate; default %(default)s")
    add("--gradients", action="store_true", help="time loss and gradients, by bsbr_evaluate, instead of a forward")
    add("--comparisons", type=comparisons, metavar="A,B,...",
        help=f"which of {','.join(COMPARISONS)}; default all, with --gradients all but package")
    add("--precisions", type=precisions, default=list(PRECISIONS), metavar="A,B",
        help="which of float,bfloat16; default both. package and --gradients are only made in float")
    add("--tokens", type=counts, metavar="N,N,...", help="of transformer and plain; default 4096,16384, and 65536 without --gradients")
    add("--standard-tokens", type=counts, metavar="N,N,...",
        help="of standard and hopfield; default 8192, with --gradients 4096,16384")
    add("--package-tokens", type=counts, default=[4096], metavar="N,N,...", help=f"of package, {LONGEST_OF_PACKAGE} at most; default 4096")
    add("--repeat", type=count, default=5, metavar="N", help="rounds; default %(default)s")
    add("--threads", type=count, default=cores(), metavar="N", help="of both; default all cores, %(default)s")
    add("--json", metavar="FILE", help="the raw numbers")
    add("--environment", default="build/peers", metavar="DIR", help="of the Python environment, made if missing; default %(default)s")
    add("--torch-index", default=CPU_BUILDS, metavar="URL",
        help="where to look for PyTorch before pip's own index, which has larger builds; default %(default)s; empty: only pip's own")
    add("--python", metavar="FILE", help="use this interpreter and what it has, and make no environment")
    add("--inside", action="store_true", help=argparse.SUPPRESS)  # the second start, with the interpreter of the environment
    options = parser.parse_args(arguments)
    options.program = "bsbr_evaluate" if options.gradients else "bsbr_forward"
    options.tokens = options.tokens or (TOKENS_OF_GRADIENTS if options.gradients else TOKENS)
    options.standard_tokens = options.standard_tokens or (TOKENS_OF_GRADIENTS if options.gradients else STANDARD_TOKENS)
    options.comparisons = options.comparisons or [name for name in COMPARISONS if name != "package" or not options.gradients]
    options.precisions = [precision for precision in options.precisions
                          if any(can_be_made(name, precision, options) for name in options.comparisons)]
    check(options, parser)
    return options


def can_be_made(comparison, precision, options):
    return precision == "float" or not (comparison == "package" or options.gradients)


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def count(text):
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 2**31):
        raise argparse.ArgumentTypeError(f"{text!r}, must be a whole number from 1 on")
    return int(text)


def counts(text):
    return [count(part) for part in text.split(",")]


def comparisons(text):
    return some_of(COMPARISONS, text)


def precisions(text):
    return some_of(PRECISIONS, text)


def some_of(names, text):
    """Those that the text lists, in the order of the names."""
    chosen = text.split(",")
    for name in chosen:
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name!r}, must be of {', '.join(names)}")
    return [name for name in names if name in chosen]


def check(options, parser):
    """What can be known before anything is installed or run."""
    if "package" in options.comparisons and options.gradients:
        parser.error("argument --comparisons: package cannot be compared with --gradients")
    if not options.precisions:
        parser.error("argument --precisions: package and --gradients are only made in float")
    if "package" in options.comparisons and max(options.package_tokens) > LONGEST_OF_PACKAGE:
        parser.error(f"argument --package-tokens: {max(options.package_tokens)}, must be at most {LONGEST_OF_PACKAGE}")
    for program in ("bsbr_init", options.program):
        if not os.access(os.path.join(options.programs, program), os.X_OK):
            raise Failure(USAGE, f"argument --programs: {options.programs} has no {program}",
                          "cmake --preset release && cmake --build --preset release makes build/release/apps")
    if options.json is not None:
        write_json(options.json, None)


# ---- the environment ------------------------------------------------------------------------------------------------------------------


def interpreter(options):
    """Path of a Python that has all that is needed."""
    wanted = LIBRARIES + ([PACKAGE] if "package" in options.comparisons else [])
    if options.python is not None:
        python = shutil.which(options.python)
        if not python:
            raise Failure(USAGE, f"argument --python: {options.python} is no program")
        if absent := missing(python, wanted):
            hint = "without --python an environment is made that has all"
            raise Failure(NO_ENVIRONMENT, f"{options.python} lacks {', '.join(absent)}", hint)
        return python
    python = make_environment(options.environment)
    for name in missing(python, wanted):
        install(python, name, options)
    return python


def missing(python, wanted):
    """Which of the wanted packages this interpreter does not have, or not in the version that is wanted."""
    look = """if True:
        import importlib.metadata, sys
        for wanted in sys.argv[1:]:
            name, _, version = wanted.partition("==")
            try:
                there = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                there = None
            if there is None or version not in ("", there):
                print(wanted)"""
    done = execute([python, "-c", look, *wanted])
    if done.returncode:
        raise Failure(NO_ENVIRONMENT, f"{python} cannot be used: {last_line(done)}")
    return done.stdout.split()


def make_environment(folder):
    python = os.path.join(os.path.abspath(folder), "bin", "python")
    if os.path.exists(python) and execute([python, "-m", "pip", "--version"]).returncode == 0:
        return python
    if os.path.exists(folder) and not os.path.exists(os.path.join(folder, "pyvenv.cfg")) and (os.path.isfile(folder) or os.listdir(folder)):
        raise Failure(USAGE, f"argument --environment: {folder} is there, but is no Python environment")
    print(f"making a Python environment in {folder}", flush=True)
    done = execute([sys.executable, "-m", "venv", folder])
    if done.returncode:
        raise Failure(NO_ENVIRONMENT, f"the environment {folder} cannot be made: {last_line(done)}",
                      "on Debian and Ubuntu this needs: apt-get install python3-venv")
    return python


def install(python, name, options):
    print(f"installing {name} in {options.environment}", flush=True)
    if name == "torch" and options.torch_index:
        if pip(python, name, "--index-url", options.torch_index, "--timeout", "15", "--retries", "1").returncode == 0:
            return
        print(f"  not from {options.torch_index}: from pip's own index, where it may be several GB", flush=True)
    # The package asks for Python 3.12 and for libraries that draw; its model needs neither.
    done = pip(python, name, *["--no-deps", "--ignore-requires-python"] if name == PACKAGE else [])
    if done.returncode:
        raise Failure(NO_ENVIRONMENT, f"{name} cannot be installed in {options.environment}: {last_line(done)}",
                      "--python FILE uses an interpreter that has it")


def pip(python, *arguments):
    return execute([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments])


def execute(command, environment=None):
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    except OSError as error:
        raise Failure(NO_ENVIRONMENT, f"{command[0]} cannot be started: {error.strerror}") from None


def last_line(done):
    """The last line that says what went wrong."""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or [f"exit code {done.returncode}"])[-1].strip()


def restart(python, arguments, threads):
    """This script again with that interpreter; all that it starts gets the same settings of threads."""
    sys.stdout.flush()
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_PROC_BIND="false")
    os.execve(python, [python, os.path.abspath(__file__), *arguments, "--inside"], environment)


# ---- from here on with the interpreter of the environment -----------------------------------------------------------------------------


def load_libraries(threads):
    global h5py, np, torch, weight_files
    sys.path.insert(0, CONVERTER)
    try:
        import h5py
        import numpy as np
        import torch
        from bsbr_convert import weight_files
    except (ImportError, OSError) as error:
        raise Failure(NO_ENVIRONMENT, f"{sys.executable} cannot load what it needs: {error}") from None
    torch.set_num_threads(threads)


def compare(options):
    load_libraries(options.threads)
    print("width {hidden_dim}, {num_heads} heads, {num_layers} layers, feed-forward of {ff_dim}, chunks of {chunk_size}".format(**SIZES))
    print(f"{options.threads} {plural('thread', options.threads)}, PyTorch {torch.__version__}")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        programs = Programs(folder, options)
        for name in options.comparisons:
            results += compare_one(name, programs, options)
    kernels = {precision: dict(bsbr=programs.kernels[precision], python=kernels_of_pytorch(precision))
               for precision in options.precisions}
    print_table(results, options.program)
    print_kernels(kernels, programs.about)
    if options.json is not None:
        write_json(options.json, document(results, kernels, programs.about, options))


def compare_one(name, programs, options):
    """The results of one comparison, one for each length and precision."""
    print(f"\n{name}", flush=True)
    try:
        # Both are compared in float whatever is timed: rounding to bfloat16 hides small differences, even those that
        # hopfield's scale makes.
        get_ready = prepare_gradients if options.gradients else prepare
        pairs = {precision: get_ready(name, programs, precision)
                 for precision in PRECISIONS if can_be_made(name, precision, options)}
        pairs = {precision: pair for precision, pair in pairs.items() if precision in options.precisions}
        lengths = dict(package=options.package_tokens, standard=options.standard_tokens, hopfield=options.standard_tokens)
        return [dict(comparison=name, **result) for tokens in lengths.get(name, options.tokens)
                for result in time_all(options.program, pairs, tokens, options.repeat)]
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            raise Failure(NO_MEMORY, f"{name}: not enough memory for PyTorch: {error}") from None
        raise


def prepare(name, programs, precision):
    """ours(tokens) -> seconds of a forward, theirs(ids), and by how much both were found to differ."""
    if name == "package":
        model = programs.make_model("bsbr")
        forward = package_forward(model)
        checks = same_numbers(programs, model, forward, precision, "--causality", "reference")
        checks.update(verified(programs, model, precision))
    else:
        model, same = programs.make_models(name)
        forward = peer(same, precision).forward
        checks = same_numbers(programs, same, forward, precision)
        if name == "transformer":
            checks.update(verified(programs, model, precision))
    return lambda tokens: programs.seconds(model, tokens, precision), without_gradients(forward), checks


def prepare_gradients(name, programs, precision):
    """ours(tokens) -> seconds of loss and gradients, theirs(ids), and by how much both were found to differ."""
    model, same = programs.make_models(name, "--head", "separate")
    theirs = peer(same, precision)
    checks = same_gradients(programs, same, theirs)
    if model != same:
        of_bsbr = same_gradients(programs, model, peer(model, precision))
        checks["largest_difference_of_bsbr"] = of_bsbr["largest_difference"]
    return lambda tokens: programs.gradient_seconds(model, tokens), theirs.loss_and_gradients, checks


def same_numbers(programs, model, forward, precision, *how):
    ids, tolerance = random_ids(1, CHECKED_TOKENS), TOLERANCES[precision]
    theirs = without_gradients(forward)(torch.from_numpy(ids)).float().numpy()
    ours = programs.hidden_states(model, ids, "--precision", precision, *how)
    difference = float(np.abs(ours - theirs).max())
    what = ", ".join([os.path.splitext(os.path.basename(model))[0], *how[1::2], precision])
    print(f"  {what}: the largest difference between both is {difference:.1e} in {CHECKED_TOKENS} tokens", flush=True)
    if not difference < tolerance:  # NaN, too
        raise Failure(BUG, f"{what}: the numbers of both differ by {difference:.1e}, must be below {tolerance:.0e}: "
                           "not timed")
    return dict(largest_difference=difference)


def same_gradients(programs, model, theirs):
    what, ids = os.path.splitext(os.path.basename(model))[0], random_ids(1, CHECKED_TOKENS)
    ours = programs.loss_and_gradients(model, ids)
    loss = theirs.loss_and_gradients(torch.from_numpy(ids)).item()
    difference = gradient_difference(ours, (loss, theirs.gradients()))
    print(f"  {what}: loss and gradients of both differ by {difference:.1e} of the largest at most in {CHECKED_TOKENS} tokens", flush=True)
    if not difference < GRADIENT_TOLERANCE:  # NaN, too
        raise Failure(BUG, f"{what}: gradients of both differ by {difference:.1e}, must be below {GRADIENT_TOLERANCE:.0e}: not timed")
    return dict(largest_difference=difference)


def gradient_difference(ours, theirs):
    """The largest difference of two (loss, gradients by name): of a loss relative to it, of an element relative to the largest of its
    weight, but at least to a thousandth of the largest of all, since some are 0 but for rounding, as those of a key's bias."""
    (loss, gradients), (their_loss, their_gradients) = ours, theirs
    if gradients.keys() != their_gradients.keys():
        raise Failure(BUG, f"gradients of other weights: {', '.join(sorted(gradients.keys() ^ their_gradients.keys()))}")
    largest = {name: np.abs(gradient).max() for name, gradient in gradients.items()}
    least = max(largest.values()) / 1000
    differences = [np.abs(gradients[name] - their_gradients[name]).max() / max(largest[name], least) for name in gradients]
    return float(np.max([abs(loss - their_loss) / loss, *differences]))  # NaN if one is


def verified(programs, model, precision):
    """bsbr as it is timed, against the plain loops in double precision that are built into bsbr_forward."""
    summary = programs.forward(model, "--random-tokens", CHECKED_TOKENS, "--precision", precision, "--verify")
    difference, tolerance = summary["verify"]["largest_difference"], TOLERANCES[precision]
    print(f"  bsbr, causal, {precision}: the largest difference from the plain reference is {difference:.1e}",
          flush=True)
    if not difference < tolerance:
        raise Failure(BUG, f"bsbr differs from its reference by {difference:.1e}, must be below {tolerance:.0e}: "
                           "not timed")
    return dict(largest_difference_from_reference=difference)


def time_all(program, pairs, tokens, repeat):
    """The results of this length, one for each precision, with the seconds of one run of each in each round. pairs:
    precision -> what prepare() gives."""
    ids = torch.from_numpy(random_ids(2, tokens))
    for _, theirs, _ in pairs.values():
        seconds(theirs, ids[:WARM_UP_TOKENS])
    times = {precision: ([], []) for precision in pairs}
    for _ in range(repeat):
        for precision, (ours, theirs, _) in pairs.items():
            of_ours, of_theirs = times[precision]
            of_ours.append(ours(tokens))
            of_theirs.append(seconds(theirs, ids))
            print(f"  {tokens:,} tokens, {precision}: {program} {of_ours[-1]:.3f} s, Python {of_theirs[-1]:.3f} s, "
                  f"{of_theirs[-1] / of_ours[-1]:.2f} times as fast", flush=True)
    return [result(program, tokens, precision, checks, *times[precision])
            for precision, (_, _, checks) in pairs.items()]


def result(program, tokens, precision, checks, of_ours, of_theirs):
    ratios = [slow / fast for fast, slow in zip(of_ours, of_theirs)]
    return {"tokens": tokens, "precision": precision, **checks, f"seconds_of_{program}": of_ours,
            "seconds_of_python": of_theirs, "ratios": ratios, "median_ratio": statistics.median(ratios),
            "smallest_ratio": min(ratios), "largest_ratio": max(ratios)}


def random_ids(seed, tokens):
    return np.random.default_rng(seed).integers(0, VOCABULARY, tokens)


def seconds(work, ids):
    start = time.perf_counter()
    work(ids)
    return time.perf_counter() - start


# ---- ours -----------------------------------------------------------------------------------------------------------------------------


class Programs:
    """The programs, with files in a folder of their own."""

    def __init__(self, folder, options):
        self.path, self.folder, self.threads = os.path.abspath(options.programs), folder, options.threads
        self.about, self.kernels = {}, {}  # the kernels that matrix products ran on, by precision

    def run(self, program, *arguments):
        done = execute([os.path.join(self.path, program), *map(str, arguments)])
        if done.returncode < 0:
            raise Failure(128 - done.returncode, f"{program} was ended by signal {-done.returncode}")
        if done.returncode:
            raise Failure(done.returncode, last_line(done))
        return done.stdout

    def file(self, name):
        return os.path.join(self.folder, name)

    def make_models(self, comparison, *options):
        """The model to be timed, and the one whose numbers PyTorch's are compared with."""
        timed, compared = dict(transformer=("bsbr", "standard"), plain=("bsbr", "bsbr")).get(comparison, (comparison, comparison))
        return self.make_model(timed, *options), self.make_model(compared, *options)

    def make_model(self, architecture, *options):
        model = self.file(architecture + ".h5")
        own = dict(hopfield=dict(temperature=TEMPERATURE), gau=dict(num_heads=1))  # gau has one head, as published
        fields = {**SIZES, **own.get(architecture, {})}
        configuration = [word for name, value in fields.items() for word in ("--" + name.replace("_", "-"), value)]
        self.run("bsbr_init", "--output", model, "--architecture", architecture, "--seed", 1, *configuration, *options)
        return model

    def summary(self, program, model, *arguments):
        """What a run says of itself."""
        summary = json.loads(self.run(program, "--model", model, *arguments, "--json", "-"))
        if summary["ranks"] * summary["threads_per_rank"] != self.threads:
            raise Failure(USAGE, f"{program} ran with {summary['threads_per_rank']} threads, must be {self.threads} as in PyTorch")
        self.about = {name: summary[name] for name in ("version", "git_commit", "kokkos_version", "execution_space")}
        self.kernels[summary["precision"]] = summary["gemm"]
        return summary

    def forward(self, model, *arguments):
        return self.summary("bsbr_forward", model, *arguments)

    def evaluate(self, model, ids, *arguments):
        """Of loss and gradients, which are written to gradients.h5."""
        return self.summary("bsbr_evaluate", model, "--input", self.write(ids), "--gradients", self.file("gradients.h5"), *arguments)

    def write(self, ids):
        """ids [tokens] -> the name of a file that has them"""
        with h5py.File(self.file("ids.h5"), "w") as file:
            file["input_ids"] = ids
        return self.file("ids.h5")

    def hidden_states(self, model, ids, *how):
        """ids [tokens] -> [tokens, hidden]"""
        self.forward(model, "--input", self.write(ids), "--output", self.file("result.h5"), *how)
        with h5py.File(self.file("result.h5"), "r") as file:
            return file["hidden_states"][0]

    def seconds(self, model, tokens, precision):
        """Of one forward whose memory is set up: the second of two."""
        summary = self.forward(model, "--random-tokens", tokens, "--precision", precision, "--repeat", 2)
        return summary["seconds_by_repeat"][-1]

    def loss_and_gradients(self, model, ids):
        """ids [tokens] -> loss, gradients by name"""
        self.evaluate(model, ids)
        found = {}
        with h5py.File(self.file("gradients.h5"), "r") as file:
            file["gradients"].visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
            return float(file["loss"][()]), found

    def gradient_seconds(self, model, tokens):
        """The second of two, as of a forward."""
        return self.evaluate(model, random_ids(2, tokens), "--repeat", 2)["seconds_by_repeat"][-1]


# ---- theirs ---------------------------------------------------------------------------------------------------------------------------


def without_gradients(forward):
    def run(ids):
        with torch.inference_mode():
            return forward(ids)
    return run


def read_model(path, precision="float"):
    """Configuration and weights of a model file, with PyTorch's names. A model computes in its weights' precision."""
    model = weight_files.open_tensors(path)
    weights = {name: torch.from_numpy(model.read(name)) for name in model.shapes}
    if precision == "bfloat16":
        weights = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
    return model.config, weights


def package_forward(model):
    """ids [tokens] -> hidden states [tokens, hidden] by the package's own model, with the weights of a model file of bsbr."""
    try:
        from bsbr import BSBRModel
    except ImportError as error:
        raise Failure(NO_ENVIRONMENT, f"{sys.executable} cannot load the package bsbr: {error}") from None
    package = BSBRModel(**SIZES).eval()
    keys = package.load_state_dict(read_model(model)[1], strict=False)
    if keys.unexpected_keys or keys.missing_keys != ["pos_encoding.pe"]:  # positions are no weights
        raise Failure(BUG, f"the package has other weights: without {keys.unexpected_keys}, with {keys.missing_keys}")
    return lambda ids: package(ids[None])[0]


def peer(model, precision):
    """The model of a file in PyTorch."""
    config, weights = read_model(model, precision)
    return (Bsbr if config["architecture"] == "bsbr" else Transformer)(config, weights)


class Transformer:
    """A model of standard or hopfield attention in PyTorch, where its weights are, with one product for q, k and v, and the fused causal
    attention."""

    def __init__(self, config, weights):
        self.weights = weights
        self.heads, self.layers, self.hidden = config["num_heads"], config["num_layers"], config["hidden_dim"]
        self.scale = 1 / (config.get("temperature", 1) * math.sqrt(self.hidden / self.heads))
        self.qkv = [tuple(torch.cat([self.weights[f"layers.{i}.attention.{name}_proj.{kind}"] for name in "qkv"])
                          for kind in ("weight", "bias")) for i in range(self.layers)]

    def parameters(self):
        """All weights by name, those of q, k and v in one."""
        single = {name: weight for name, weight in self.weights.items() if not re.search(r"\.[qkv]_proj\.", name)}
        return {**single, **{f"layers.{i}.attention.qkv_proj.{kind}": weight for i, both in enumerate(self.qkv)
                             for kind, weight in zip(("weight", "bias"), both)}}

    def loss_and_gradients(self, ids):
        """ids [tokens] -> the mean loss of the next token; its gradients are then those of parameters()."""
        for weight in self.parameters().values():
            weight.requires_grad_().grad = None
        logits = torch.nn.functional.linear(self.forward(ids), self.weights["lm_head.weight"])
        loss = torch.nn.functional.cross_entropy(logits[:-1], ids[1:])
        loss.backward()
        return loss

    def gradients(self):
        """Those of the last loss by name, as a model file has its weights."""
        found = {name: weight.grad.numpy() for name, weight in self.parameters().items()}
        for name in [name for name in found if ".qkv_proj." in name]:
            parts = np.split(found.pop(name), 3)
            found.update({name.replace(".qkv_proj.", f".{which}_proj."): part for which, part in zip("qkv", parts)})
        return found

    def forward(self, ids):
        """ids [tokens] -> hidden states [tokens, hidden]"""
        gelu = torch.nn.functional.gelu
        x = torch.nn.functional.embedding(ids, self.weights["embedding.weight"]) + self.positions(len(ids))
        for i in range(self.layers):
            layer = f"layers.{i}."
            x = x + self.attention(i, self.norm(layer + "layer_norm1", x))
            x = x + self.linear(layer + "ff.3", gelu(self.linear(layer + "ff.0", self.norm(layer + "layer_norm2", x))))
        return self.norm("layer_norm", x)

    def positions(self, tokens):
        """P [tokens, hidden], as docs/mathematics.md defines it, in the precision of the weights."""
        embedding = self.weights["embedding.weight"]
        where = dict(dtype=torch.float64, device=embedding.device)
        column = torch.arange(self.hidden, **where)
        angle = torch.arange(tokens, **where)[:, None] * 10000.0 ** (-2 * (column // 2) / self.hidden)
        return torch.where(column % 2 == 0, torch.sin(angle), torch.cos(angle)).to(embedding.dtype)

    def attention(self, index, x):
        """x [tokens, hidden] -> the same"""
        qkv = torch.nn.functional.linear(x, *self.qkv[index]).view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3)
        q, k, v = (part[None] for part in qkv)  # [1, heads, tokens, head_dim]
        heads = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return self.linear(f"layers.{index}.attention.out_proj", heads[0].transpose(0, 1).reshape(len(x), -1))

    def linear(self, name, x):
        return torch.nn.functional.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def norm(self, name, x):
        return torch.nn.functional.layer_norm(x, (self.hidden,), self.weights[name + ".weight"], self.weights[name + ".bias"], 1e-5)


class Bsbr(Transformer):
    """A model of bsbr, causal, in PyTorch: the fused attention within all chunks at once and over their states, products of whole arrays
    else."""

    def __init__(self, config, weights):
        super().__init__(config, weights)
        self.chunk = config["chunk_size"]

    def attention(self, index, x):
        """x [tokens, hidden] -> the same"""
        functional, chunks = torch.nn.functional, -(-len(x) // self.chunk)
        # The last chunk is filled up with zeros, which no earlier token sees.
        qkv = functional.pad(functional.linear(x, *self.qkv[index]), (0, 0, 0, chunks * self.chunk - len(x)))
        q, k, v = qkv.view(chunks, self.chunk, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [chunks, heads, chunk, head_dim]
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        heads = heads + q @ self.retrieved(f"layers.{index}.attention.", x, k.transpose(-1, -2) @ v)
        heads = heads.permute(0, 2, 1, 3).reshape(chunks * self.chunk, -1)[:len(x)]
        return self.linear(f"layers.{index}.attention.out_proj", heads)

    def retrieved(self, name, x, states):
        """states [chunks, heads, head_dim, head_dim] -> what chunks retrieve: a mix of all earlier ones, by r and h at chunks' ends"""
        earlier = len(states) - 1
        if earlier == 0:
            return torch.zeros_like(states)
        ends = x[self.chunk - 1::self.chunk][:earlier]
        r, h = (self.linear(f"{name}meta_{which}_proj", ends).view(earlier, self.heads, -1).transpose(0, 1)[None] for which in "rh")
        values = states[:earlier].flatten(2).transpose(0, 1)[None]  # [1, heads, earlier, head_dim²]
        mixed = torch.nn.functional.scaled_dot_product_attention(r, h, values, is_causal=True, scale=self.scale)
        mixed = mixed[0].transpose(0, 1).reshape(earlier, *states.shape[1:])
        return torch.nn.functional.pad(mixed, (0, 0, 0, 0, 0, 0, 1, 0))  # the first chunk retrieves nothing


# ---- which kernels PyTorch uses -------------------------------------------------------------------------------------------------------


def kernels_of_pytorch(precision):
    """Of a linear layer and of the fused attention. Each runs in a process of its own, to whose stdout MKL and oneDNN
    write their logs."""
    run = """if True:
        import sys, torch
        what, precision, tokens, hidden, ff, heads = sys.argv[1:3] + [int(number) for number in sys.argv[3:]]
        ones = lambda *shape: torch.ones(shape, dtype=dict(float=torch.float32, bfloat16=torch.bfloat16)[precision])
        with torch.inference_mode():
            if what == "linear":
                torch.nn.functional.linear(ones(tokens, hidden), ones(ff, hidden), ones(ff))
            else:
                q, k, v = (ones(1, heads, tokens, hidden // heads) for _ in "qkv")
                torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
                backend = torch._fused_sdp_choice(q, k, v, is_causal=True)
                print("attention", torch.nn.attention.SDPBackend(backend).name)"""
    sizes = [str(number) for number in (CHECKED_TOKENS, *map(SIZES.get, ("hidden_dim", "ff_dim", "num_heads")))]
    environment = dict(os.environ, MKL_VERBOSE="1", ONEDNN_VERBOSE="1")
    runs = {what: execute([sys.executable, "-c", run, what, precision, *sizes], environment)
            for what in ("linear", "attention")}
    # A PyTorch that cannot be asked like this can be timed all the same.
    return {what: "unknown" if done.returncode else kernel_names(done.stdout) for what, done in runs.items()}


def kernel_names(log):
    """What a log of MKL, oneDNN and the process above names, each once: 'flash_attention: MKL SGEMM'."""
    backend = re.search(r"^attention (\w+)$", log, re.MULTILINE)
    called = re.findall(r"^MKL_VERBOSE (\w+)\(|^(?:onednn|dnnl)_verbose,.*\bexec,cpu,(\w+),([^,]+),", log, re.MULTILINE)
    names = [f"MKL {function}" if function else f"oneDNN {primitive} {kernel}"
             for function, primitive, kernel in called]
    libraries = ", ".join(sorted(set(names))) or "PyTorch's own, neither MKL nor oneDNN"
    return f"{backend[1].lower()}: {libraries}" if backend else libraries


# ---- what is told ---------------------------------------------------------------------------------------------------------------------


def print_table(results, program):
    titles = ("comparison", "tokens", "precision", program, "Python", "times as fast", "min", "max")
    print("\n{:12} {:>9} {:>9} {:>14} {:>11} {:>14} {:>8} {:>8}".format(*titles))
    for result in results:
        ours, theirs = (statistics.median(result["seconds_of_" + who]) for who in (program, "python"))
        print(f"{result['comparison']:12} {result['tokens']:9,} {result['precision']:>9} {ours:12.3f} s "
              f"{theirs:9.3f} s {result['median_ratio']:14.2f} {result['smallest_ratio']:8.2f} "
              f"{result['largest_ratio']:8.2f}")
    rounds = len(results[0]["ratios"])
    print(f"medians of {rounds} {plural('round', rounds)}; times as fast: seconds of Python by seconds of {program} in the same round")


def print_kernels(kernels, about):
    capability = torch.backends.cpu.get_cpu_capability()
    print("bsbr {version}, {execution_space}; PyTorch for {capability}".format(**about, capability=capability))
    for precision, used in kernels.items():
        print(f"kernels in {precision}: {used['bsbr']}; PyTorch's linear layers: {used['python']['linear']}; "
              f"its attention: {used['python']['attention']}")


def plural(word, number):
    return word if number == 1 else word + "s"


def document(results, kernels, about, options):
    """Everything that was measured, and by what."""
    packages = dict(torch=torch.__version__, numpy=np.__version__)
    if "package" in options.comparisons:
        packages["bsbr"] = PACKAGE.split("==")[1]
    return dict(format="bsbr-peers", format_version=1, program=options.program, bsbr=about, python_packages=packages,
                created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), cpu_capability_of_torch=torch.backends.cpu.get_cpu_capability(),
                threads=options.threads, repeat=options.repeat, config=dict(SIZES, temperature=TEMPERATURE), checked_tokens=CHECKED_TOKENS,
                kernels=kernels, results=results)


def write_json(path, content):
    """By way of <path>.part, so that what has the name is whole. Without content: only whether it can be written."""
    part = path + ".part"
    try:
        if not path or os.path.isdir(path):
            raise IsADirectoryError(0, "must be the name of a file")
        with open(part, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
        if content is None:
            os.remove(part)
        else:
            os.replace(part, path)
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"argument --json: {path!r} cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
