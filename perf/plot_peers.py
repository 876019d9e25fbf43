#!/usr/bin/env python3
"""Draws time against length: bsbr, standard attention and PyTorch on log-log axes.

    perf/plot_peers.py PEERS.json [SUMMARY.json …] --output PICTURE.svg [--caption TEXT]

PEERS.json is written by perf/compare_with_peers.py --json; its comparisons `transformer` and `standard` are drawn, medians over the rounds.
A result may lack PyTorch's times; docs/pictures/time_against_length.json has such.
SUMMARY.json is written by bsbr_forward --json, for lengths at which PyTorch would take hours. All files must be of the same machine and the
same model; the caption says which. Exit codes: 0, 1 without matplotlib, 2 usage, 3 bad input, 6 the picture cannot be written.
"""
import collections
import json
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tools"))

from command_line import BAD_INPUT, BAD_OUTPUT, UNUSABLE, Failure, Parser, report_error  # noqa: E402

PROGRAM = "plot_peers.py"
PYTORCH = "PyTorch, fused attention"
OURS = {"transformer": "bsbr", "bsbr": "bsbr", "standard": "standard"}  # comparison -> what of ours was timed in it
LABELS = {"bsbr": "bsbr", "standard": "standard (this library)", PYTORCH: PYTORCH}


def main(arguments):
    try:
        options = parse(arguments)
        times = read(options.files)
        draw(times, options.caption, options.output)
    except Failure as failure:
        report_error(PROGRAM, failure, failure.hint)
        return failure.code
    return 0


def parse(arguments):
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("files", nargs="+", metavar="FILE.json", help="results of compare_with_peers.py and summaries of bsbr_forward")
    parser.add_argument("--output", required=True, metavar="PICTURE", help="the picture to write; its ending, .svg or .png, is its format")
    parser.add_argument("--caption", default="", metavar="TEXT", help="line below the picture: machine, threads, model")
    options = parser.parse_args(arguments)
    if not options.output.endswith((".svg", ".png")):
        parser.error(f"argument --output: {options.output!r}, must end in .svg or .png")
    return options


def read(files):
    """name of the line -> {tokens: seconds}"""
    measured = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in files:
        try:
            with open(path, encoding="utf-8") as file:
                add(json.load(file), measured)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Failure(BAD_INPUT, f"{path}: neither a result of compare_with_peers.py nor a summary of bsbr_forward: {error}") from None
    return {name: {tokens: statistics.median(times) for tokens, times in sorted(lengths.items())} for name, lengths in measured.items()}


def add(document, measured):
    """Adds the seconds of one file to measured[name][tokens]."""
    if document.get("format") != "bsbr-peers":
        measured[document["architecture"]][document["tokens"]].append(document["seconds"])
        return
    for result in document["results"]:
        name, tokens = OURS.get(result["comparison"]), result["tokens"]
        if name and result.get("precision", "float") == "float":  # earlier files have float only, and do not say so
            measured[name][tokens] += result["seconds_of_bsbr_forward"]
            if "seconds_of_python" in result:
                measured[PYTORCH][tokens] += result["seconds_of_python"]


def draw(times, caption, path):
    try:
        from comparison_data import show_seconds
        from comparison_plots import FONT, INK, SMALL, STYLES, Style, decimal_ticks, limits, line_style, new_figure, save, set_axis, set_up
    except ImportError as error:
        raise Failure(UNUSABLE, f"matplotlib cannot be loaded: {error}", "on Debian and Ubuntu: apt-get install python3-matplotlib") from None
    set_up()
    styles = {**STYLES, PYTORCH: Style("#0072B2", "^", 7.0, True, (1, 1.2), 1.8)}
    figure = new_figure(6.4, 3.8)
    axes = figure.add_axes([0.125, 0.2, 0.82, 0.69])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    lengths = sorted({tokens for line in times.values() for tokens in line})
    set_axis(axes.xaxis, limits([lengths], 0.03), "length in tokens", (lengths[::-2], [f"{tokens:,}" for tokens in lengths[::-2]]))
    y_limits = limits([line.values() for line in times.values()], 0.05)
    set_axis(axes.yaxis, y_limits, "time of one forward", decimal_ticks(show_seconds)(*y_limits))
    for name, line in times.items():
        longest = max(line)
        axes.plot(list(line), list(line.values()), **line_style(styles[name]), zorder=3,
                  label=f"{LABELS.get(name, name)}: {show_seconds(line[longest])} at {longest:,} tokens")
    axes.legend(loc="lower right", frameon=False, fontsize=FONT, labelcolor=INK, handlelength=2.2, borderaxespad=0.2)
    figure.text(0.015, 0.985, "Time of one forward against length", ha="left", va="top", fontsize=FONT + 1, weight="bold")
    figure.text(0.015, 0.015, caption, ha="left", va="bottom", fontsize=SMALL, color="#555555")
    try:
        save(figure, path)
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"{path}: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
