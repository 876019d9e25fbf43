"""Batch scripts: the request to the batch system, what the centre needs first, and the driver, which runs the study in the job.

The driver, not the script, starts and records each run, so that a study in a job behaves as it does by hand. The script lists
the commands as comments.
"""
import os
import shlex
import sys

from study import BAD_INPUT, BAD_OUTPUT, USAGE, Failure, forward_command, launch_command, model_name

DRIVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scaling.py")
DIRECTIVES = {"srun": "#SBATCH", "flux": "#flux:"}

# Options of `run` that the driver in the job gets as they are; those with paths are made absolute.
PASSED_ON = ("architectures", "causality", "hidden_dim", "num_heads", "num_layers", "ff_dim", "chunk_sizes",
             "window_size", "precision", "batch", "tokens", "threads", "launcher", "launcher_options", "repeat",
             "limit", "patience", "cores")
PATHS = ("programs", "model_dir")


def write_scripts(options, cases, runner):
    """One script for all cases, or with --split one for each number of nodes -> paths of what was written."""
    prologue, requests = read_prologue(options.prologue), requests_of(options.batch_options)
    parts, written = {}, []
    for case in cases:
        parts.setdefault(case.nodes if options.split else None, []).append(case)
    for nodes, of_part in parts.items():
        output = os.path.abspath(with_nodes(options.output or "scaling.jsonl", nodes))
        text = script(options, of_part, runner, output, requests, prologue)
        written.append(write_script(text, with_nodes(options.dry_run, nodes)))
    return written


def with_nodes(path, nodes):
    """study.sh -> study-4-nodes.sh"""
    if nodes is None:
        return path
    name, ending = os.path.splitext(path)
    return f"{name}-{nodes}-node{'s' * (nodes > 1)}{ending}"


def script(options, cases, runner, output, requests, prologue):
    about = [f"# Written by {os.path.basename(DRIVER)}. Each run leaves a line in the file that --output names.",
             "# The exit code is 0 only if all runs succeeded. The runs:"]
    lines = ["#!/bin/bash", *directives(cases, options, requests), *prologue, "", *about,
             *(f"#   {command}" for command in commands(cases, runner)), ""]
    return "\n".join([*lines, "exec " + shlex.join(driver_command(options, cases, output))]) + "\n"


def commands(cases, runner):
    programs = runner.programs and os.path.abspath(runner.programs)
    for case in cases:
        launcher = launch_command(runner.launcher, runner.options, case)
        yield shlex.join([*launcher, *forward_command(programs, case, model_name(case.setup))])


def driver_command(options, cases, output):
    """`scaling.py run` with the same options, for these cases."""
    given = {name: getattr(options, name) for name in PASSED_ON}
    given.update({name: getattr(options, name) and os.path.abspath(getattr(options, name)) for name in PATHS})
    given.update(ranks=list(dict.fromkeys(case.setup.ranks for case in cases)), output=output)
    return [sys.executable, DRIVER, "run", options.study,
            *(f"--{name.replace('_', '-')}={as_text(value)}" for name, value in given.items() if value)]


def as_text(value):
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


# ---- requests -------------------------------------------------------------------------------------------------------------------------


def directives(cases, options, requests):
    """Lines for the batch system: enough nodes for the largest case, then what --batch-options adds or replaces."""
    if options.launcher not in DIRECTIVES:
        return []
    most = max(cases, key=lambda case: (case.nodes, case.setup.ranks * case.setup.threads_per_rank))
    own = {
        "srun": ["--job-name=bsbr-scaling", f"--nodes={most.nodes}", f"--ntasks={most.setup.ranks}",
                 f"--cpus-per-task={most.setup.threads_per_rank}", "--hint=nomultithread", "--exclusive", "--mem=0",
                 f"--time={options.minutes}", "--signal=B:TERM@60"],
        "flux": ["--job-name=bsbr-scaling", f"--nodes={most.nodes}", "--exclusive", f"--time-limit={options.minutes}m"],
    }[options.launcher]
    replaced = {request.partition("=")[0].split()[0] for request in requests}
    return [f"{DIRECTIVES[options.launcher]} {request}"
            for request in [*(each for each in own if each.partition("=")[0] not in replaced), *requests]]


def requests_of(text):
    """"--account=a -p b" -> ["--account=a", "-p b"], each to stand on a line of its own."""
    if any(ord(letter) < 32 for letter in text):
        raise Failure(USAGE, f"--batch-options has a line break or another control character: {text!r}")
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Failure(USAGE, f"--batch-options cannot be split into words: {error}") from None
    requests = []
    for word in words:
        if word.startswith("-"):
            requests.append(shlex.quote(word))
        elif requests:
            requests[-1] += " " + shlex.quote(word)
        else:
            raise Failure(USAGE, f"--batch-options begins with {word!r}, must begin with an option",
                          '--batch-options="--account=… --partition=…"')
    return requests


# ---- files ----------------------------------------------------------------------------------------------------------------------------


def read_prologue(path):
    """Lines of the file that is put into the script, which ends where one of them fails."""
    if not path:
        return []
    try:
        with open(path, encoding="utf-8") as file:
            return ["", "set -e", *file.read().splitlines(), "set +e"]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise Failure(BAD_INPUT, f"--prologue: {path}: cannot be read: {reason}") from None


def write_script(text, path):
    """Names of files stay what they are, whatever the terminal's encoding."""
    data = text.encode("utf-8", "surrogateescape")
    if path == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return "stdout"
    try:
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o755)
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"{path}: cannot be written: {error.strerror}") from None
    return path
