"""What the Python programs of this project share on the command line: exit codes, the program's name, and how it ends with an error."""
import argparse
import os
import shutil
import subprocess
import sys
from typing import Optional

UNUSABLE, USAGE, BAD_INPUT, NO_MEMORY, BAD_OUTPUT, BUG = 1, 2, 3, 4, 6, 70  # UNUSABLE: a package that is needed cannot be loaded


class Failure(Exception):
    """The program ends with this code and this message."""

    code: int
    hint: Optional[str]

    def __init__(self, code: int, message: object, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code, self.hint = code, hint


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(USAGE, message, f"{self.prog} --help lists the options")


def program_name(script):
    """The name that the user typed: `bsbr-scaling` and the like in an installed tree, else the script's own."""
    typed = os.path.basename(sys.argv[0])
    return typed if typed.startswith("bsbr-") else os.path.basename(script)


def report_error(program, message, hint=None):
    """One line that says what is wrong, and one that says what may help."""
    print(f"{program}: error: {' '.join(str(message).split())}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)


def unusable(error, *modules):
    """The Failure for a package that cannot be loaded. Its hint names another Python of this machine that has all `modules`, if there is one."""
    name = getattr(error, "name", None) or modules[0]
    python = python_with(modules)
    packages = " ".join(f"python3-{module}" for module in modules)
    hint = f"{python} has it: run the program with that Python" if python else (
        f"on Debian and Ubuntu: apt-get install {packages}; elsewhere: python3 -m pip install {' '.join(modules)}")
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
