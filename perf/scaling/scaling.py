#!/usr/bin/env python3
"""Strong and weak scaling of bsbr_forward: runs studies, models them, draws them.

    scaling.py run strong|weak    runs a study, or writes a batch script for it with --dry-run
    scaling.py calibrate          measures what the model needs to know of this machine
    scaling.py check              holds the model against measured runs
    scaling.py predict            modelled time by phase for any ranks, lengths and chunk sizes
    scaling.py draw               pictures of studies and of the model

It needs Python from 3.9 and numpy, for `draw` matplotlib from 3.5 too. docs/scaling.md explains it, schema.json what it writes.
"""
import argparse
import dataclasses
import json
import math
import os
import signal
import statistics
import sys

try:
    from model import ARCHITECTURES, PHASES, Machine, Setup, best_chunk_size, predict, rule_of_thumb
except ImportError as missing:
    sys.exit(f"scaling.py: error: numpy cannot be loaded: {missing}\nhint: on Debian and Ubuntu: apt-get install python3-numpy")

from study import (BAD_INPUT, FAILED, LAUNCHERS, USAGE, Case, Failure, Lines, Runner, batch_script, cores_here, disturbed, nodes_for,
                   read_lines, record)

PROGRAM = "scaling.py"
CAUSALITIES = ("causal", "block_causal", "bidirectional", "reference")
CHUNK_SIZES = tuple(2**n for n in range(5, 15))


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(USAGE, message, f"{PROGRAM} --help lists the options")


def main(arguments):
    try:
        options = parse(arguments)
        return options.action(options) or 0
    except Failure as failure:
        print(f"{PROGRAM}: error: {' '.join(str(failure).split())}", file=sys.stderr)
        if failure.hint:
            print(f"hint: {failure.hint}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return 130


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


def listed(kind):
    return lambda text: [kind(item) for item in text.split(",")]


def architecture(text):
    if text not in ARCHITECTURES:
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(ARCHITECTURES)}")
    return text


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.split("\n\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name, action, **about):
        made = commands.add_parser(name, allow_abbrev=False, description=about["help"][0].upper() + about["help"][1:] + ".", **about)
        made.set_defaults(action=action)
        return made

    run = command("run", run_study, help="runs a study, one JSON object a line for each run")
    run.add_argument("study", choices=("strong", "weak"), help="strong: --tokens in all; weak: --tokens for each rank")
    add_model_options(run)
    add_running_options(run)
    run.add_argument("--tokens", type=listed(whole), default=[16384], metavar="N,…", help="of a sequence: in all, or for each rank")
    run.add_argument("--ranks", type=listed(whole), default=[1, 2], metavar="P,…")
    run.add_argument("--threads", type=whole, metavar="T", help="of each rank; default: cores of a node ÷ ranks, at least 1")
    run.add_argument("--launcher", choices=LAUNCHERS, default="mpirun")
    run.add_argument("--output", metavar="FILE", help="lines go to its end; default: stdout")
    run.add_argument("--dry-run", nargs="?", const="-", metavar="FILE", help="run nothing, write a batch script: to stdout or a file")
    run.add_argument("--minutes", type=whole, default=60, help="time limit in the batch script")

    calibrate = command("calibrate", run_calibration, help="measures what the model needs to know of this machine")
    add_running_options(calibrate)
    calibrate.add_argument("--precision", choices=("float", "double"), default="float")
    calibrate.add_argument("--rounds", type=whole, default=3, help="how often all is measured; the fastest counts")
    calibrate.add_argument("--output", metavar="FILE", help="lines go to its end, of the runs and the machine; runs that it has "
                           "already count too; default: stdout")

    check = command("check", check_model, help="holds the model against measured runs")
    add_machine_option(check)
    check.add_argument("studies", nargs="+", metavar="STUDY.jsonl")

    forecast = command("predict", show_prediction, help="modelled time by phase, bytes and efficiency")
    add_model_options(forecast)
    add_machine_option(forecast)
    add_network_options(forecast)
    forecast.add_argument("--tokens", type=listed(whole), default=[1 << 24], metavar="N,…", help="of a sequence, in all")
    forecast.add_argument("--ranks", type=listed(whole), default=[1, 4, 16, 64, 256, 1024], metavar="P,…")
    forecast.add_argument("--threads", type=whole, default=1, metavar="T", help="of each rank; default 1")
    forecast.add_argument("--best-chunk-size", action="store_true", help="the chunk size that takes the least time, of powers of two")

    draw = command("draw", draw_study, help="pictures of studies, measured and modelled, as PNG and SVG")
    add_machine_option(draw)
    add_network_options(draw)
    draw.add_argument("studies", nargs="+", metavar="STUDY.jsonl")
    draw.add_argument("--output-dir", required=True, metavar="DIR", help="made if it is not there")

    keep = command("record", keep_record, help="adds the line of a run whose summary comes on stdin; batch scripts use it")
    keep.add_argument("--case", required=True, type=json.loads, metavar="JSON")
    keep.add_argument("--output", metavar="FILE")
    return parser.parse_args(arguments)


def add_model_options(parser):
    parser.add_argument("--architectures", type=listed(architecture), default=["bsbr"], metavar="A,…", help=", ".join(ARCHITECTURES))
    parser.add_argument("--causality", choices=CAUSALITIES, default="causal", help="of bsbr")
    for name, default in (("hidden-dim", 512), ("num-heads", 8), ("num-layers", 4), ("ff-dim", 2048)):
        parser.add_argument(f"--{name}", type=whole, default=default, metavar="N", help=f"default {default}")
    parser.add_argument("--chunk-sizes", type=listed(whole), default=[128], metavar="B,…", help="default 128")
    parser.add_argument("--window-size", type=whole, default=128, metavar="N", help="of sliding_window; default 128")
    parser.add_argument("--precision", choices=("float", "double"), default="float")
    parser.add_argument("--batch", type=whole, default=1, metavar="N", help="sequences; default 1")


def add_running_options(parser):
    parser.add_argument("--programs", metavar="DIR", help="where bsbr_init and bsbr_forward are; default: those in PATH")
    parser.add_argument("--launcher-options", default="", metavar="TEXT", help='more options for the launcher: --launcher-options="…"')
    parser.add_argument("--repeat", type=whole, default=5, metavar="N", help="forwards in each run; the median counts; default 5")
    parser.add_argument("--limit", type=positive, default=600, metavar="SECONDS", help="a run is ended after that; default 600")
    parser.add_argument("--patience", type=positive, default=0, metavar="SECONDS", help="for each run: how long to wait, and to run it again, "
                        "while others use more than 5 %% of the cores (Linux, mpirun)")
    parser.add_argument("--cores", type=whole, default=cores_here(), metavar="N", help="of a node; default: of this one")
    parser.add_argument("--model-dir", metavar="DIR", help="for model files while the study runs; with several nodes all must see it; "
                        "default: mpirun: that for temporary files, else the current one")


def add_machine_option(parser):
    parser.add_argument("--machine", required=True, metavar="FILE", help="what `calibrate` wrote; of several lines the last counts")


def add_network_options(parser):
    parser.add_argument("--latency", type=positive, default=2e-6, metavar="SECONDS", help="of a message between nodes; default 2e-6")
    parser.add_argument("--bandwidth", type=positive, default=12e9, metavar="BYTES/S", help="of each rank; default 12e9")


def setups_of(options):
    """architecture, chunk size -> a Setup of each; the lengths and ranks are still to come."""
    for name in options.architectures:
        for chunk_size in options.chunk_sizes if name in ("bsbr", "gau") else options.chunk_sizes[:1]:
            heads = 1 if name == "gau" else options.num_heads
            if options.hidden_dim % heads:
                raise Failure(USAGE, f"--num-heads = {heads} does not divide --hidden-dim = {options.hidden_dim}")
            yield Setup(architecture=name, length=1, batch=options.batch, hidden_dim=options.hidden_dim, num_heads=heads,
                        num_layers=options.num_layers, ff_dim=options.ff_dim, chunk_size=chunk_size, causality=options.causality,
                        window_size=options.window_size, precision=options.precision)


# ---- run, calibrate, record -----------------------------------------------------------------------------------------------------------


def cases_of(options):
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
    return Runner(options.programs, launcher, options.launcher_options.split(), options.limit, options.patience, folder)


def run_study(options):
    cases, runner = list(cases_of(options)), runner_of(options, options.launcher)
    if options.dry_run:
        return write_script(batch_script(cases, runner, options.output, options.minutes), options.dry_run)
    lines, failed = Lines(options.output), 0
    with runner:
        for index, case in enumerate(cases, 1):
            entry = runner.run(case)
            lines.write(entry)
            failed += entry["kind"] == "failure"
            tell(f"{index}/{len(cases)} {describe(case.setup)}: {outcome(entry)}")
    if failed == len(cases):
        raise Failure(FAILED, f"all {failed} runs failed, the last one with: {entry['reason']}")


def write_script(text, path):
    if path == "-":
        print(text, end="")
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o755)
    except OSError as error:
        raise Failure(6, f"{path}: cannot be written: {error.strerror}") from None


def describe(setup):
    chunk = f", chunks of {setup.chunk_size}" if setup.architecture in ("bsbr", "gau") else ""
    return f"{setup.architecture}, {setup.length:,} tokens{chunk}, {setup.ranks} ranks of {setup.threads_per_rank}"


def outcome(entry):
    if entry["kind"] == "failure":
        return f"failed: {entry['reason']}"
    disturbing = f" (others used {disturbance(entry):.2f} cores)" if disturbed(entry) else ""
    return f"{entry['summary']['seconds']:.3g} s{disturbing}"


def tell(text):
    print(text, file=sys.stderr)


def run_calibration(options):
    from calibration import calibrate

    earlier = read_lines([options.output]) if options.output and os.path.exists(options.output) else []
    lines = Lines(options.output)
    with runner_of(options, "mpirun") as runner:
        for entry in calibrate(runner, options.cores, options.precision, options.rounds, options.repeat, earlier):
            lines.write(entry)
            if entry["kind"] != "machine":
                tell(f"{describe(Setup.of(entry))}: {outcome(entry)}")


def keep_record(options):
    try:
        entry = record(options.case, sys.stdin.read())
    except (KeyError, TypeError) as error:
        raise Failure(USAGE, f"--case is none that --dry-run writes: {error}") from None
    Lines(options.output).write(entry)


# ---- model ----------------------------------------------------------------------------------------------------------------------------


def machine_of(path):
    found = [entry for entry in read_lines([path]) if entry["kind"] == "machine"]
    if not found:
        raise Failure(BAD_INPUT, f"{path}: holds no line of kind \"machine\"", "`scaling.py calibrate` writes one")
    return Machine.of(found[-1])


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
    print(f"{'architecture':<15}{'tokens':>10}{'chunk':>7}{'ranks':>7}{'threads':>9}{'measured':>11}{'modelled':>11}{'error':>9}  bytes")
    for entry in runs:
        setup, measured = Setup.of(entry["summary"]), entry["summary"]["seconds"]
        found = predict(machine_for(machine, entry), setup)
        error = found["seconds"] / measured - 1
        errors.append((error, disturbed(entry)))
        same = "exact" if found["bytes_sent"]["total"] == entry["summary"]["bytes_sent"]["total"] else "DIFFERENT"
        print(f"{setup.architecture:<15}{setup.length:>10,}{setup.chunk_size:>7}{setup.ranks:>7}{setup.threads_per_rank:>9}"
              f"{measured:>9.4f} s{found['seconds']:>9.4f} s{error:>+8.1%}  {same}{', disturbed' * disturbed(entry)}")
    print()
    report_errors("all", [error for error, _ in errors])
    report_errors("undisturbed", [error for error, by_others in errors if not by_others])


def report_errors(which, errors):
    sizes = sorted(abs(error) for error in errors)
    if sizes:
        print(f"{which}: {len(sizes)} runs, error of the total time: median {statistics.median(sizes):.1%}, largest {sizes[-1]:.1%}")


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
    phases = [phase for phase in PHASES if phase in predict(machine, setup)["seconds_by_phase"]]
    chunk = f", chunks of {setup.chunk_size}" if not options.best_chunk_size else f", rule of thumb for chunks: {rule_of_thumb(setup)}"
    print(f"{setup.architecture}, {setup.length:,} tokens{chunk if setup.architecture in ('bsbr', 'gau') else ''}")
    print(f"{'ranks':>7}{'chunk':>7}{'time':>12}{'efficiency':>12}{'bytes sent':>12}" + "".join(f"{phase:>14}" for phase in phases))
    first = None
    for ranks in options.ranks:
        here = dataclasses.replace(setup, ranks=ranks)
        if options.best_chunk_size and setup.architecture == "bsbr":
            sizes = [size for size in CHUNK_SIZES if size <= setup.length]
            here = dataclasses.replace(here, chunk_size=best_chunk_size(machine, here, sizes)[0])
        found = predict(machine, here)
        first = first or found["seconds"] * ranks
        print(f"{ranks:>7}{here.chunk_size:>7}{found['seconds']:>10.4g} s{first / ranks / found['seconds']:>11.0%} "
              f"{found['bytes_sent']['total']:>12.3g}" + "".join(f"{found['seconds_by_phase'].get(p, 0):>12.4g} s" for p in phases))
    print()


def draw_study(options):
    try:
        import plots
    except ImportError as error:
        raise Failure(FAILED, f"matplotlib cannot be loaded: {error}", "on Debian and Ubuntu: apt-get install python3-matplotlib") from None
    machine, runs = machine_of(options.machine), runs_of(options.studies)
    written = plots.write(runs, lambda entry: machine_for(machine, entry), machine.cluster(options.latency, options.bandwidth),
                          options.output_dir)
    print(f"{options.output_dir}: {', '.join(written)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a batch system's; models are removed on the way out
    sys.exit(main(sys.argv[1:]))
