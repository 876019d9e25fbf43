#!/usr/bin/env python3
"""Draws what bsbr_compare has measured, and writes a report of it; or draws losses of bsbr_evaluate by position.

    analyze_results.py RESULTS.json --output-dir DIR
    analyze_results.py POSITIONS.json... --output-dir DIR

It needs Python from 3.9, numpy and matplotlib from 3.5. docs/programs.md explains the pictures, the report and the exit codes.
"""
import contextlib
import json
import os
import re
import sys

from command_line import BAD_INPUT, USAGE, Failure, Parser, exit_code, program_name, unusable
from comparison_data import (FAILURE_NAMES, InputError, counted, read_comparison, read_json, show_bytes, show_count, show_number,
                             show_seconds)
from output_folder import fill
from position_losses import FORMAT as POSITIONS_FORMAT
from position_losses import read_losses
from run_names import names_of

PROGRAM = program_name(__file__)
EXAMPLE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "example_data", "comparison.json")
REPORT = "report.md"


def main(arguments):
    return exit_code(PROGRAM, lambda: run(arguments))


def run(arguments):
    options = parse(arguments)
    contents = [read(path) for path in options.results]
    if all(is_by_position(data) for data in contents):
        draw_positions(contents, options)
    elif len(contents) > 1:
        raise Failure(USAGE, "several files must all be what bsbr_evaluate --by-position wrote", "a comparison is drawn alone")
    else:
        draw_comparison(contents[0], options)


def parse(arguments):
    parser = Parser(prog=PROGRAM, description="Draws what bsbr_compare has measured, and writes a report of it: report.md, and pictures as "
                    "PNG and SVG. Of what bsbr_evaluate --by-position wrote, one file or several, it draws loss against the length of the "
                    "context.", allow_abbrev=False)
    parser.add_argument("results", nargs="*", metavar="RESULTS.json", help="what bsbr_compare --json wrote, or bsbr_evaluate --by-position")
    parser.add_argument("--use-example-data", action="store_true", help="instead of a file: a comparison that comes with this program")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder for what is written; made if it is not there")
    options = parser.parse_args(arguments)
    if options.use_example_data and options.results:
        parser.error("RESULTS.json and --use-example-data exclude each other")
    if not options.use_example_data and not options.results:
        parser.error("RESULTS.json or --use-example-data is needed")
    if len(set(options.results)) < len(options.results):
        parser.error("a RESULTS.json is there twice")
    if not options.output_dir:
        parser.error("--output-dir is empty, must be a folder")
    options.results = [EXAMPLE] if options.use_example_data else options.results
    return options


def read(path):
    """What a file of JSON holds."""
    with failures_of(path):
        return read_json(path)


@contextlib.contextmanager
def failures_of(path):
    """Turns into a Failure what is wrong with the content of a file, and what is missing to draw it."""
    try:
        yield
    except InputError as error:
        raise Failure(BAD_INPUT, f"{path}: {error}", error.hint) from None
    except ImportError as error:
        raise unusable(error, "numpy", "matplotlib") from None


def is_by_position(data):
    return isinstance(data, dict) and data.get("format") == POSITIONS_FORMAT


# ---- losses by position ---------------------------------------------------------------------------------------------------------------


def draw_positions(contents, options):
    """One picture of all evaluations."""
    runs = []
    for path, name, data in zip(options.results, names_of(options.results), contents):
        with failures_of(path):
            runs.append(read_losses(data, name))
    with failures_of(options.results[0]):
        from position_plots import pictures  # matplotlib takes a second: bad input is told before
    names = fill(options.output_dir, lambda folder: write_pictures(pictures(runs), folder))
    print(f"{options.output_dir}: {counted(len(names), 'picture')} of {counted(len(runs), 'evaluation')}")


def write_pictures(pictures, folder):
    from comparison_plots import save

    for name, figure in pictures:
        for kind in ("png", "svg"):
            save(figure, os.path.join(folder, f"{name}.{kind}"))


# ---- a comparison ---------------------------------------------------------------------------------------------------------------------


def draw_comparison(data, options):
    """Report and pictures of one comparison."""
    (path,) = options.results
    with failures_of(path):
        comparison = read_comparison(data)
        from comparison_plots import pictures
    write(comparison, pictures, os.path.basename(path), options.output_dir)


def write(comparison, pictures, source, folder):
    names = fill(folder, lambda temporary: write_files(comparison, pictures, source, temporary))
    print(f"{os.path.join(folder, REPORT)}: {counted(len(comparison.results), 'result')}, {len(names) - 1} pictures beside it")


def write_files(comparison, pictures, source, folder):
    write_pictures(pictures(comparison), folder)
    with open(os.path.join(folder, REPORT), "w", encoding="utf-8", newline="\n") as file:
        file.write(report(comparison, source))


# ---- report ---------------------------------------------------------------------------------------------------------------------------


def report(comparison, source):
    """Markdown, with the pictures beside it."""
    common = comparison.common_length()
    parts = [
        "# Comparison of architectures",
        f"From {code(source)}. One forward pass each; times are medians over the repeats.",
        "## In short",
        *conclusions(comparison),
        "## Time",
        picture("time", "Time of one forward against length, log-log, with the slope of each architecture"),
        "The slopes and the pale lines are fits of c·Lᵃ; bars reach from the fastest to the slowest repeat. A slope in grey with a question mark "
        "is uncertain: there are fewer than three lengths, or the repeats or points scatter too much to tell how the time grows.",
        picture("relative", "Times slower than the fastest, for each architecture and length"),
        "## Memory",
        picture("memory", "Memory of one forward against length, log-log, with the slope of each architecture"),
        picture("time_memory", f"Time against memory at {counted(common, 'token')}, areas as the numbers of parameters"),
        "## Throughput",
        picture("throughput", "Tokens per second against length"),
        "## Fits",
        *fits_table(comparison),
        "## Models",
        *models_table(comparison, common),
        "## Results by length",
        *length_tables(comparison),
        "## Failures",
        *failures_table(comparison),
        "## What ran where",
        *provenance_table(comparison),
    ]
    return "\n\n".join(parts) + "\n"


def conclusions(comparison):
    """The comparison in sentences: who is fastest where, how time grows, what could not be measured."""
    common, names = comparison.common_length(), list(comparison.fits)
    at_common = sorted((name for name in names if (name, common) in comparison.results), key=lambda name: comparison.relative(name, common))
    fastest, others = at_common[0], at_common[1:]
    seconds = show_seconds(comparison.results[fastest, common]["seconds"])
    sentences = [f"At {counted(common, 'token')} {text(fastest)} takes {seconds} for a forward."]
    if others:
        sentences = [f"At {counted(common, 'token')} {text(fastest)} is the fastest of {len(at_common)}: {seconds} for a forward."]
        sentences.append(enumeration([f"{text(name)} {show_number(comparison.relative(name, common))}" for name in others]) +
                         " times as long.")
        sentences[-1] = "The others take: " + sentences[-1]
    longest = comparison.lengths[-1]
    if longest != common:
        reach = [text(name) for name in names if (name, longest) in comparison.results]
        sentences.append(f"At {longest:,} tokens only {enumeration(reach)} could be measured.")
    yield " ".join(sentences)
    yield from [" ".join(part) for part in (growth(comparison), limits_reached(comparison)) if part]


def growth(comparison):
    """Sentences on how the time grows, by exponents that can be relied on."""
    known = {name: fit.time_exponent for name, fit in comparison.fits.items() if fit.time_exponent is not None and not fit.time_uncertain}
    linear = [text(name) for name, a in known.items() if 0.85 <= a <= 1.15]
    steeper = [f"{text(name)} (L^{a:.2f})" for name, a in known.items() if a > 1.15]
    flatter = [f"{text(name)} (L^{a:.2f})" for name, a in known.items() if a < 0.85]
    uncertain = [text(name) for name, fit in comparison.fits.items() if fit.time_uncertain]
    clauses = []
    if linear:
        clauses.append(f"about linearly with the length for {enumeration(linear)}.")
    if steeper:
        clauses.append(f"faster than linearly for {enumeration(steeper)}.")
    if flatter:
        clauses.append(f"more slowly than linearly for {enumeration(flatter)}, so these lengths are short for this machine.")
    sentences = [f"{'It' if index else 'The time'} grows {clause}" for index, clause in enumerate(clauses)]
    if uncertain:
        sentences.append(f"How the time grows for {enumeration(uncertain)} cannot be told from these measurements.")
    return sentences


def limits_reached(comparison):
    """Sentences on the cases that have no result: the shortest of each architecture stands for the longer ones."""
    first = {}
    for name, length in sorted(comparison.failures, key=lambda pair: pair[1]):
        first.setdefault(name, length)
    by_case = {}
    for name, length in first.items():
        by_case.setdefault((comparison.failure_names[name, length], length), []).append(text(name))
    return [f"From {length:,} tokens on, {enumeration(names)} {'was' if len(names) == 1 else 'were'} not measured ({reason})."
            for (reason, length), names in by_case.items()]


def enumeration(words):
    """"a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def fits_table(comparison):
    def value(number, form):
        return "–" if number is None else format(number, form)

    rows = [(text(name), value(fit.time_exponent, ".3f"), value(fit.r_squared, ".4f"), value(fit.memory_exponent, ".3f"),
             value(fit.memory_r_squared, ".4f"), fit.points, "computed from the results" if fit.computed else "given",
             value(fit.time_uncertainty, ".3f") + (", uncertain" if fit.time_uncertain else ""))
            for name, fit in comparison.fits.items()]
    yield ("Time and memory as c·Lᵃ, by least squares of the logarithms. R² is the share of the logarithms' variance that a fit explains. "
           "± is how far the exponent of the time may be off, by the spread of the repeats and the scatter about the line.")
    yield table(["architecture", "time: a", "R²", "memory: a", "R²", "lengths", "fit", "time: ±"], rows)


def models_table(comparison, common):
    """Parameters, operations, and the fields that an architecture has of its own."""
    rows = []
    for name in comparison.fits:
        lengths = comparison.lengths_of(name)
        length = common if common in lengths else lengths[-1]
        result = comparison.results[name, length]
        flops = result.get("flops")
        batch = comparison.about.get("batch")
        tokens = length * batch if type(batch) is int and batch > 0 else None
        own = ", ".join(f"{text(field)} = {text(value)}" for field, value in (result.get("config") or {}).items())
        remarks = ". ".join(filter(None, [own, text(result.get("warning") or "")]))
        rows.append((text(name), f"{result['parameters']:,}", f"{length:,}", show_count(flops) if flops else "–",
                     show_count(flops / tokens) if flops and tokens else "–", remarks or "–"))
    yield "FLOPs of one forward at the length given, two for a multiply-add."
    yield table(["architecture", "parameters", "length", "FLOPs", "FLOPs per token", "own settings"], rows)


def length_tables(comparison):
    yield ("Memory is what one forward has allocated at its peak, resident the peak of the process; both of the largest rank. "
           "Relative is the time divided by that of the fastest at this length.")
    for length in comparison.lengths:
        yield f"### {counted(length, 'token')}"
        yield table(["architecture", "time", "repeats from – to", "tokens/s", "memory", "resident", "FLOP/s", "relative"],
                    [length_row(comparison, name, length) for name in comparison.architectures])


def length_row(comparison, name, length):
    result = comparison.results.get((name, length))
    if not result:
        return (text(name), comparison.failure_names.get((name, length), "–"), *["–"] * 6)
    beside = [other for (_, at), other in comparison.results.items() if at == length]
    times, sizes = [[other[field] for other in beside] for field in ("seconds", "memory_bytes")]
    residents = [other["resident_bytes"] for other in beside if other.get("resident_bytes")]
    repeats, resident, rate = result.get("seconds_by_repeat"), result.get("resident_bytes"), result.get("flops_per_second")
    return (text(name), show_seconds(result["seconds"], times),
            f"{show_seconds(min(repeats), times)} – {show_seconds(max(repeats), times)}" if repeats else "–",
            show_number(result["tokens_per_second"]), show_bytes(result["memory_bytes"], sizes),
            show_bytes(resident, residents) if resident else "–", show_count(rate) if rate else "–",
            f"{show_number(comparison.relative(name, length))}×")


def failures_table(comparison):
    if not comparison.failures:
        yield "None."
        return
    yield table(["architecture", "length", "reason"],
                [(text(name), f"{length:,}", text(reason)) for (name, length), reason in comparison.failures.items()])


def provenance_table(comparison):
    """All that the file says of itself, in its own order; the configuration's fields at the end."""
    fields = [(name, value) for name, value in comparison.about.items() if name != "config"]
    fields += (comparison.about.get("config") or {}).items()
    yield table(["field", "value"], [(text(name), text(value) or "–") for name, value in fields], numbers=False)


def picture(name, what):
    return f"![{what}]({name}.png)\n\n[SVG]({name}.svg)"


def table(heads, rows, numbers=True):
    """A Markdown table; columns of numbers are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    right = [numbers and column > 0 and all(is_figure(row[column]) for row in cells) for column in range(len(heads))]
    lines = [heads, ["--:" if here else ":--" for here in right], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def is_figure(cell):
    return cell in ("–", "failed", *FAILURE_NAMES.values()) or cell[:1].isdigit() or cell[:1] == "-" and cell[1:2].isdigit()


def text(value):
    """Any value of the file as a cell: on one line, and not taken for markup."""
    words = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    words = re.sub(r"[\\`*\[\]<>|$~#]", r"\\\g<0>", words)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", words)  # one within a word is no markup


def code(name):
    return "`" + name.replace("`", "'") + "`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
