"""What the programs in this folder have in common on the command line: exit codes, and how one ends with an error."""
import argparse
import sys

UNUSABLE, USAGE, BAD_INPUT, NO_MEMORY, BAD_OUTPUT = 1, 2, 3, 4, 6  # UNUSABLE: a package that is needed cannot be loaded


class Failure(Exception):
    """The program ends with this code and this message."""

    def __init__(self, code, message, hint=None):
        super().__init__(message)
        self.code, self.hint = code, hint


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(USAGE, message, f"{self.prog} --help lists the options")


def report_error(program, message, hint=None):
    """One line that says what is wrong, and one that says what may help."""
    print(f"{program}: error: {' '.join(str(message).split())}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
