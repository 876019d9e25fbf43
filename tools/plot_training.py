#!/usr/bin/env python3
"""Draws the logs of training runs.

    plot_training.py LOG... --output-dir DIR

It needs Python from 3.9, numpy and matplotlib from 3.5. docs/programs.md explains the pictures and the exit codes.
"""
import os
import sys

from command_line import BAD_INPUT, Failure, Parser, exit_code, program_name, unusable
from comparison_data import InputError, counted
from output_folder import fill
from run_names import names_of
from training_log import load

PROGRAM = program_name(__file__)


def main(arguments):
    return exit_code(PROGRAM, lambda: run(arguments))


def run(arguments):
    options = parse(arguments)
    logs, pictures, save = read(options.logs)
    names = fill(options.output_dir, lambda folder: write_files(logs, pictures, save, folder))
    print(f"{options.output_dir}: {counted(len(names), 'picture')} of {counted(len(logs), 'run')}")


def parse(arguments):
    parser = Parser(prog=PROGRAM, description="Draws the logs of training runs: loss, validation loss, norm of the gradient, learning rate and "
                    "tokens a second, against steps and against tokens, as PNG and SVG.", allow_abbrev=False)
    parser.add_argument("logs", nargs="+", metavar="LOG", help="what bsbr_train --log wrote; several runs are drawn together")
    parser.add_argument("--output-dir", required=True, metavar="DIR", help="folder for what is written; made if it is not there")
    options = parser.parse_args(arguments)
    if not options.output_dir:
        parser.error("--output-dir is empty, must be a folder")
    if len(set(options.logs)) < len(options.logs):
        parser.error("a LOG is there twice")
    return options


def read(paths):
    """The TrainingLogs, and what draws and saves. matplotlib is loaded last: it takes a second, bad input is told at once."""
    logs = [read_log(path, name) for path, name in zip(paths, names_of(paths))]
    try:
        from training_plots import pictures, save
    except ImportError as error:
        raise unusable(error, "numpy", "matplotlib") from None
    return logs, pictures, save


def read_log(path, name):
    try:
        return load(path, name)
    except InputError as error:
        raise Failure(BAD_INPUT, f"{path}: {error}", error.hint) from None


def write_files(logs, pictures, save, folder):
    for name, figure in pictures(logs):
        for kind in ("png", "svg"):
            save(figure, os.path.join(folder, f"{name}.{kind}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
