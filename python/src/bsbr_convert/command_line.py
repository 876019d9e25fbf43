"""What the Python programs of this project share on the command line: exit codes, the program's name, and how it ends with an error."""
import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from typing import Optional

UNUSABLE, USAGE, BAD_INPUT, NO_MEMORY, BAD_OUTPUT, BUG = 1, 2, 3, 4, 6, 70  # UNUSABLE: a package that is needed cannot be loaded
NOT_IN_DEBIAN = {"tokenizers"}


class Failure(Exception):
    """The program ends with this code and this message."""

    code: int
    hint: Optional[str]

    def __init__(self, code: int, message: object, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code, self.hint = code, hint


class HelpFormatter(argparse.HelpFormatter):
    """Breaks lines at spaces only: argparse also breaks them after hyphens, within --an-option."""

    def _split_lines(self, text, width):
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text, width, indent):
        return textwrap.fill(" ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


class Parser(argparse.ArgumentParser):
    """Every program makes one before it prints anything: from then on stdout and stderr take any text."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **{"formatter_class": HelpFormatter, **options})
        escape_unencodable()

    def parse_known_args(self, args=None, namespace=None):
        """Nothing is unknown to a command and left to its parent, whose --help does not list the command's options."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown

    def error(self, message):
        raise Failure(USAGE, message, f"{self.prog} --help lists the options")


def escape_unencodable():
    """stdout and stderr show a letter that their encoding lacks as \\u2026 and the like, in place of an exception."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not a text file, or closed
            stream.reconfigure(errors="backslashreplace")


def program_name(script):
    """The name that the user typed: `bsbr-scaling` and the like in an installed tree, else the script's own."""
    typed = os.path.basename(sys.argv[0])
    return typed if typed.startswith("bsbr-") else os.path.basename(script)


def report_error(program, message, hint=None):
    """One line that says what is wrong, and one that says what may help."""
    print(f"{program}: error: {' '.join(str(message).split())}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def exit_code(program, action):
    """Runs action(): 0, or the code of the Failure that ended it, which is reported; 130 after Ctrl-C."""
    try:
        action()
    except Failure as failure:
        report_error(program, failure, failure.hint)
        return failure.code
    except KeyboardInterrupt:
        return 130
    return 0


def unusable(error, *modules):
    """The Failure for a package that cannot be loaded. Its hint names another Python of this machine that has all `modules`, if there is one."""
    name = getattr(error, "name", None) or modules[0]
    python = python_with(modules)
    debian, pip = " ".join(f"python3-{module}" for module in modules), f"python3 -m pip install {' '.join(modules)}"
    if python:
        hint = f"{python} has it: run the program with that Python"
    elif NOT_IN_DEBIAN.intersection(modules):
        hint = f"{pip}, in an environment that `python3 -m venv` makes"
    else:
        hint = f"on Debian and Ubuntu: apt-get install {debian}; elsewhere: {pip}"
    return Failure(UNUSABLE, f"{sys.executable} cannot load {name.partition('.')[0]}: {error}", hint)


def python_with(modules):
    """Path of the first python3 in PATH, or of the system's, that can import these modules; None if there is none."""
    folders = [*os.get_exec_path(), "/usr/bin"]
    for python in dict.fromkeys(filter(None, (shutil.which("python3", path=folder) for folder in folders))):
        try:
            done = subprocess.run([python, "-c", f"import {', '.join(modules)}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return python
    return None
