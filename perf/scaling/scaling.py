#!/usr/bin/env python3
"""Strong and weak scaling of bsbr_forward: runs studies, models them, draws them.

    scaling.py run strong|weak    runs a study, or writes a batch script for it with --dry-run
    scaling.py calibrate          measures the rates that the model needs of this machine
    scaling.py check              compares the model with measured runs
    scaling.py predict            modelled time by phase for any ranks, lengths and chunk sizes
    scaling.py draw               pictures of studies and of the model

It needs Python 3.9 or newer. `run` needs nothing else; the others need numpy, and `draw` matplotlib 3.5 or newer as well. docs/scaling.md
explains the program, schema.json describes what it writes.
"""
import argparse
import dataclasses
import math
import os
import shlex
import signal
import statistics
import sys

from setups import ARCHITECTURES, FIELDS, Setup, heads_of
from study import (BAD_INPUT, FAILED, LAUNCHERS, NOT_STARTED, USAGE, Case, Failure, Lines, Runner, Stopped, cores_here, disturbed,
                   failure_of, nodes_for, read_lines)

from command_line import Parser, program_name, report_error, unusable  # study has named its folder
from comparison_data import counted

PROGRAM = program_name(__file__)
CAUSALITIES = FIELDS["causality"].choices
CHUNK_SIZES = tuple(2**n for n in range(5, 15))
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")  # with which batch systems announce the end of a job


def main(arguments):
    try:
        options = parse(arguments)
        return options.action(options) or 0
    except Failure as failure:
        report_error(PROGRAM, failure, failure.hint)
        return failure.code
    except Stopped as stopped:
        return stopped.code
    except KeyboardInterrupt:
        return 130


def load_model():
    """The modules that need numpy, which `run` and --help do not."""
    try:
        import calibration
        import model
    except ImportError as error:
        raise unusable(error, "numpy") from None
    return model, calibration


# ---- command line ---------------------------------------------------------------------------------------------------------------------


def whole(text):
    if not text.isdecimal() or not 1 <= int(text) <= 2**53:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def positive(text):
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is no number above 0")
    return value


def shell_words(text):
    try:
        shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be split into words: {error}") from None
    return text


def listed(kind):
    return lambda text: [kind(item) for item in text.split(",")]


def architecture(text):
    if text not in ARCHITECTURES:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(ARCHITECTURES)}")
    return text


def owners(field):
    return "of " + ", ".join(FIELDS[field].owners)


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.split("\n\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name, action, **about):
        made = commands.add_parser(name, allow_abbrev=False, description=about["help"][0].upper() + about["help"][1:] + ".", **about)
        made.set_defaults(action=action)
        return made

    run = command("run", run_study, help="runs a study and writes a line of JSON for each run")
    run.add_argument("study", choices=("strong", "weak"), help="strong: --tokens is the total; weak: --tokens is per rank")
    run.add_argument("--tokens", type=listed(whole), default=[16384], metavar="N,…", help="tokens of a sequence, in total or per rank; "
                     "default 16384")
    run.add_argument("--ranks", type=listed(whole), default=[1, 2], metavar="P,…", help="numbers of ranks; default 1,2")
    run.add_argument("--threads", type=whole, metavar="T", help="threads per rank; default: cores of a node ÷ ranks, at least 1")
    run.add_argument("--launcher", choices=LAUNCHERS, default="mpirun", help="default mpirun; srun and flux start the ranks within an "
                     "allocation")
    run.add_argument("--output", metavar="FILE", help="append the lines to this file; default: stdout")
    add_model_options(run)
    add_running_options(run)
    add_batch_options(run)

    calibrate = command("calibrate", run_calibration, help="measures the rates that the model needs of this machine")
    calibrate.add_argument("--precision", choices=("float", "double"), default="float", help="default float")
    calibrate.add_argument("--rounds", type=whole, default=3, metavar="N", help="repeat all measurements N times and keep the fastest; "
                           "default 3")
    calibrate.add_argument("--output", metavar="FILE", help="append the lines of the runs and of the machine to this file; runs that it "
                           "already holds count as well; default: stdout")
    add_running_options(calibrate)

    check = command("check", check_model, help="compares the model with measured runs")
    add_machine_option(check)
    check.add_argument("studies", nargs="+", metavar="STUDY.jsonl", help="what `run` wrote")

    forecast = command("predict", show_prediction, help="models time by phase, bytes and efficiency")
    add_machine_option(forecast)
    forecast.add_argument("--tokens", type=listed(whole), default=[1 << 24], metavar="N,…", help="tokens of a sequence, in total; "
                          "default 16777216")
    forecast.add_argument("--ranks", type=listed(whole), default=[1, 4, 16, 64, 256, 1024], metavar="P,…",
                          help="numbers of ranks; default 1,4,16,64,256,1024")
    forecast.add_argument("--threads", type=whole, default=1, metavar="T", help="threads per rank; default 1")
    forecast.add_argument("--best-chunk-size", action="store_true", help="use the fastest chunk size, of powers of two")
    forecast.add_argument("--vocab-size", type=whole, metavar="N", help="also the bytes of the loss and gradients of one sequence, with a "
                          "tied head for N ids and all layers computed again")
    add_network_options(forecast)
    add_model_options(forecast)

    draw = command("draw", draw_study, help="draws studies and the model, as PNG and SVG")
    add_machine_option(draw)
    add_network_options(draw)
    draw.add_argument("studies", nargs="+", metavar="STUDY.jsonl", help="what `run` wrote")
    draw.add_argument("--output-dir", required=True, metavar="DIR", help="folder for the pictures; created if missing")
    return parser.parse_args(arguments)


def add_model_options(parser):
    group = parser.add_argument_group("the model that is run")
    group.add_argument("--architectures", type=listed(architecture), default=["bsbr"], metavar="A,…", help=", ".join(ARCHITECTURES)
                       + "; default bsbr")
    group.add_argument("--causality", choices=CAUSALITIES, default=Setup.causality, metavar="MODE", help=f"{owners('causality')}: "
                       f"{', '.join(CAUSALITIES)}; default {Setup.causality}")
    for name in ("hidden_dim", "num_heads", "num_layers", "ff_dim"):
        default = getattr(Setup, name)
        group.add_argument(FIELDS[name].option, type=whole, default=default, metavar="N", help=f"default {default}")
    group.add_argument("--chunk-sizes", type=listed(whole), default=[Setup.chunk_size], metavar="B,…", help="tokens in a chunk; default "
                       f"{Setup.chunk_size}")
    group.add_argument("--window-size", type=whole, default=Setup.window_size, metavar="N", help=f"{owners('window_size')}; default "
                       f"{Setup.window_size}")
    group.add_argument("--precision", choices=("float", "double"), default="float", help="default float")
    group.add_argument("--batch", type=whole, default=1, metavar="N", help="sequences in a batch; default 1")


def add_running_options(parser):
    group = parser.add_argument_group("how it is run")
    group.add_argument("--programs", metavar="DIR", help="folder of bsbr_init and bsbr_forward; default: those in PATH")
    group.add_argument("--launcher-options", type=shell_words, default="", metavar="TEXT", help="more options for each mpirun, srun or "
                       'flux run, quoted as in a shell: --launcher-options="--distribution=block:block". For the job itself, see '
                       "--batch-options")
    group.add_argument("--repeat", type=whole, default=5, metavar="N", help="forwards in each run, of which the median counts; default 5")
    group.add_argument("--limit", type=positive, default=600, metavar="SECONDS", help="end a run that takes longer; default 600")
    group.add_argument("--patience", type=positive, default=0, metavar="SECONDS", help="for each run: how long to wait, and to repeat it, "
                       "while other processes use more than 5 %% of the cores (Linux, mpirun); default: not at all")
    group.add_argument("--cores", type=whole, default=cores_here(), metavar="N", help="cores of a node; default: of this one")
    group.add_argument("--model-dir", metavar="DIR", help="folder for the temporary model files. With several nodes, all must see it. "
                       "Default: the current folder; with mpirun the one for temporary files")


def add_batch_options(parser):
    group = parser.add_argument_group("batch scripts", "Relative paths are taken from the current folder and written as absolute ones.")
    group.add_argument("--dry-run", nargs="?", const="-", metavar="FILE", help="run nothing; write a batch script for the launcher's batch "
                       "system, to stdout or to FILE")
    group.add_argument("--minutes", type=whole, default=60, metavar="N", help="time limit of the job; default 60")
    group.add_argument("--batch-options", default="", metavar="TEXT", help="more options for sbatch or flux batch, quoted as in a shell: "
                       '--batch-options="--account=A --partition=P". They replace the script\'s own of the same name')
    group.add_argument("--prologue", metavar="FILE", help="shell commands to put into the script before the study, such as `module load`. If one fails, the "
                       "job ends")
    group.add_argument("--split", action="store_true", help="write one script for each number of nodes, so that no job holds nodes that it "
                       "does not use: FILE-N-nodes. --output is named alike")


def add_machine_option(parser):
    parser.add_argument("--machine", required=True, metavar="FILE", help="what `calibrate` wrote; its last machine counts")


def add_network_options(parser):
    group = parser.add_argument_group("the network that is assumed")
    group.add_argument("--latency", type=positive, default=2e-6, metavar="SECONDS", help="of a message between nodes; default 2e-6")
    group.add_argument("--bandwidth", type=positive, default=12e9, metavar="BYTES/S", help="of each rank; default 12e9")


def setups_of(options):
    """architecture, chunk size -> a Setup of each; the lengths and ranks are still to come."""
    for name in options.architectures:
        for chunk_size in options.chunk_sizes if ARCHITECTURES[name].depends_on_chunks else options.chunk_sizes[:1]:
            heads = heads_of(name, options.num_heads)
            if options.hidden_dim % heads:
                raise Failure(USAGE, f"--num-heads = {heads} does not divide --hidden-dim = {options.hidden_dim}")
            yield Setup(architecture=name, length=1, batch=options.batch, hidden_dim=options.hidden_dim, num_heads=heads,
                        num_layers=options.num_layers, ff_dim=options.ff_dim, chunk_size=chunk_size, causality=options.causality,
                        window_size=options.window_size, precision=options.precision)


# ---- run and calibrate ----------------------------------------------------------------------------------------------------------------


def cases_of(options):
    if options.launcher != "mpirun" and (options.threads or 1) > options.cores:
        raise Failure(USAGE, f"--threads = {options.threads} is above --cores = {options.cores}: a node has no core for each thread of a rank",
                      "--cores names the cores of a node on which the study will run; default: of this one")
    for setup in setups_of(options):
        for tokens in options.tokens:
            for ranks in options.ranks:
                threads = options.threads or max(1, options.cores // ranks)
                length = tokens * (ranks if options.study == "weak" else 1)
                setup = dataclasses.replace(setup, length=length, ranks=ranks, threads_per_rank=threads)
                nodes = nodes_for(options.launcher, setup, options.cores)
                yield Case(options.study, setup, nodes, nodes * options.cores, options.repeat)


def runner_of(options, launcher):
    folder = options.model_dir or (None if launcher == "mpirun" else ".")
    return Runner(options.programs, launcher, shlex.split(options.launcher_options), options.limit, options.patience, folder)


def run_study(options):
    cases, runner = list(cases_of(options)), runner_of(options, options.launcher)
    if options.dry_run:
        return write_batch_scripts(options, cases, runner)
    refuse_without_dry_run(options)
    failures = []
    with Lines(options.output) as lines, runner:
        for index, case in enumerate(cases, 1):
            entry, end = run_case(runner, case)
            tell(f"{index}/{len(cases)} {describe(case.setup)}: {outcome(entry)}")
            lines.write(entry)
            if entry["kind"] == "failure":
                failures.append(entry)
            if end:
                left = len(cases) - index
                rest = f": {left:,} of {counted(len(cases), 'run')} not started" if left else ""
                raise Failure(end.code, f"{end}{rest}", getattr(end, "hint", None))
    if failures:
        raise Failure(FAILED, f"{len(failures)} of {counted(len(cases), 'run')} failed, the last one with: {failures[-1]['reason']}")


def run_case(runner, case):
    """The line of a case, and what ends the study after it, or None."""
    try:
        return runner.run(case), None
    except Stopped as stopped:
        return failure_of(case, stopped.code, str(stopped)), stopped
    except Failure as failure:  # a program that cannot be started
        return failure_of(case, NOT_STARTED, str(failure)), failure


def write_batch_scripts(options, cases, runner):
    from batch import write_scripts

    if options.split and (options.dry_run == "-" or options.launcher == "mpirun"):
        raise Failure(USAGE, "--split needs --dry-run FILE, and srun or flux as --launcher")
    if options.batch_options and options.launcher == "mpirun":
        raise Failure(USAGE, "--batch-options needs srun or flux as --launcher", "--prologue FILE can hold the lines of another batch system")
    written = write_scripts(options, cases, runner)
    if options.split:
        tell(f"written: {', '.join(written)}")


def refuse_without_dry_run(options):
    for name in ("batch_options", "prologue", "split"):
        if getattr(options, name):
            raise Failure(USAGE, f"--{name.replace('_', '-')} is for a batch script, and needs --dry-run")


def describe(setup):
    chunk = f", chunks of {setup.chunk_size:,}" if setup.traits.depends_on_chunks else ""
    threads = counted(setup.threads_per_rank, "thread")
    return f"{setup.architecture}, {setup.length:,} tokens{chunk}, {counted(setup.ranks, 'rank')} of {threads}"


def outcome(entry):
    if entry["kind"] == "failure":
        return f"failed with exit code {entry['exit_code']}: {entry['reason']}"
    disturbing = f" (others used {disturbance(entry):.2f} cores)" if disturbed(entry) else ""
    return f"{entry['summary']['seconds']:.3g} s{disturbing}"


def tell(text):
    print(text, file=sys.stderr, flush=True)


def run_calibration(options):
    calibrate = load_model()[1].calibrate
    earlier = read_lines([options.output]) if options.output and os.path.exists(options.output) else []
    with Lines(options.output) as lines, runner_of(options, "mpirun") as runner:
        for entry in calibrate(runner, options.cores, options.precision, options.rounds, options.repeat, earlier):
            lines.write(entry)
            if entry["kind"] != "machine":
                tell(f"{describe(Setup.of(entry))}: {outcome(entry)}")


# ---- model ----------------------------------------------------------------------------------------------------------------------------


def machine_of(path):
    found = [entry for entry in read_lines([path]) if entry["kind"] == "machine"]
    if not found:
        raise Failure(BAD_INPUT, f"{path}: holds no line of kind \"machine\"", "`scaling.py calibrate` writes one")
    return load_model()[0].Machine.of(found[-1])


def runs_of(paths):
    """The runs of studies; of several of the same case the one that others disturbed least."""
    runs = {}
    for entry in read_lines(paths):
        if entry["kind"] == "run" and entry["study"] != "calibration":
            case = dataclasses.replace(Case.of(entry), repeat=0)  # however often it was repeated
            if case not in runs or disturbance(entry) <= disturbance(runs[case]):
                runs[case] = entry
    if not runs:
        raise Failure(BAD_INPUT, f"{', '.join(paths)}: there is no run")
    return list(runs.values())


def disturbance(entry):
    return entry.get("cores_used_by_others", 0)


def machine_for(machine, entry):
    """The machine with the cores that a run had."""
    if entry["summary"]["precision"] != machine.precision:
        raise Failure(BAD_INPUT, f"a run is in {entry['summary']['precision']}, the machine was calibrated in {machine.precision}")
    return dataclasses.replace(machine, cores=entry["cores"])


def check_model(options):
    machine, runs, errors = machine_of(options.machine), runs_of(options.studies), []
    predict = load_model()[0].predict
    print(f"{'architecture':<15}{'tokens':>10}{'chunk':>7}{'ranks':>7}{'threads':>9}{'measured':>11}{'modelled':>11}{'error':>9}  bytes")
    for entry in runs:
        setup, measured = Setup.of(entry["summary"]), entry["summary"]["seconds"]
        found = predict(machine_for(machine, entry), setup)
        error = found["seconds"] / measured - 1
        errors.append((error, disturbed(entry)))
        same = "exact" if found["bytes_sent"]["total"] == entry["summary"]["bytes_sent"]["total"] else "DIFFERENT"
        print(f"{setup.architecture:<15}{setup.length:>10,}{setup.chunk_size:>7,}{setup.ranks:>7,}{setup.threads_per_rank:>9}"
              f"{measured:>9.4f} s{found['seconds']:>9.4f} s{error:>+8.1%}  {same}{', disturbed' * disturbed(entry)}")
    print()
    report_errors("all", [error for error, _ in errors])
    report_errors("undisturbed", [error for error, by_others in errors if not by_others])


def report_errors(which, errors):
    sizes = sorted(abs(error) for error in errors)
    if sizes:
        print(f"{which}: {counted(len(sizes), 'run')}, error of the total time: median {statistics.median(sizes):.1%}, largest {sizes[-1]:.1%}")


def show_prediction(options):
    machine = machine_of(options.machine)
    if machine.precision != options.precision:
        raise Failure(BAD_INPUT, f"--precision is {options.precision}, the machine was calibrated in {machine.precision}")
    cluster = machine.cluster(options.latency, options.bandwidth)
    print(f"modelled: cores as measured, {options.latency:g} s a message, {options.bandwidth:g} bytes/s for each rank\n")
    for setup in setups_of(options):
        for tokens in options.tokens:
            show_table(cluster, dataclasses.replace(setup, length=tokens, threads_per_rank=options.threads), options)


def show_table(machine, setup, options):
    model = load_model()[0]
    phases = [phase for phase in model.PHASES if phase in model.predict(machine, setup)["seconds_by_phase"]]
    chunk = f", rule of thumb for chunks: {model.rule_of_thumb(setup):,}" if options.best_chunk_size else f", chunks of {setup.chunk_size:,}"
    print(f"{setup.architecture}, {setup.length:,} tokens{chunk if setup.traits.depends_on_chunks else ''}")
    print(f"{'ranks':>7}{'chunk':>7}{'time':>12}{'efficiency':>12}{'bytes sent':>12}"
          + (f"{'of a step':>12}{'gradients':>12}" if options.vocab_size else "") + "".join(f"{phase:>14}" for phase in phases))
    first = None
    for ranks in options.ranks:
        here = dataclasses.replace(setup, ranks=ranks)
        if options.best_chunk_size and "mixing" in setup.traits.phases:
            sizes = [size for size in CHUNK_SIZES if size <= setup.length]
            here = dataclasses.replace(here, chunk_size=model.best_chunk_size(machine, here, sizes)[0])
        found = model.predict(machine, here)
        first = first or found["seconds"] * ranks
        print(f"{ranks:>7,}{here.chunk_size:>7,}{found['seconds']:>10.4g} s{first / ranks / found['seconds']:>11.0%} "
              f"{found['bytes_sent']['total']:>12.3g}" + step_columns(here, options.vocab_size) + "".join(f"{found['seconds_by_phase'].get(p, 0):>12.4g} s" for p in phases))
    print()


def step_columns(setup, vocab_size):
    """Bytes of the rank that sends the most in a training step, and those that are sums of gradients."""
    if not vocab_size:
        return ""
    import step
    sent = step.bytes_sent(step.Step(**dataclasses.asdict(setup), vocab_size=vocab_size))
    return f"{sent['total']:>12.3g}{sent.get('gradients', 0):>12.3g}"


def draw_study(options):
    try:
        import plots
    except ImportError as error:
        raise unusable(error, "numpy", "matplotlib") from None
    machine, runs = machine_of(options.machine), runs_of(options.studies)
    written, notes = plots.write(runs, lambda entry: machine_for(machine, entry), machine.cluster(options.latency, options.bandwidth),
                                 options.output_dir)
    print(f"{options.output_dir}: {', '.join(written)}")
    for note in notes:
        print(note)


def stop(number, _):
    raise Stopped(number)


if __name__ == "__main__":
    for signal_number in (getattr(signal, name) for name in SIGNALS):
        if signal.getsignal(signal_number) is not signal.SIG_IGN:  # nohup
            signal.signal(signal_number, stop)
    sys.exit(main(sys.argv[1:]))
