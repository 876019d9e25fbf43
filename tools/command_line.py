"""What the Python programs of this project share on the command line. It lies in the converter's package, which is also installed by itself."""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "python", "src"))

from bsbr_convert.command_line import (BAD_INPUT, BAD_OUTPUT, BUG, NO_MEMORY, UNUSABLE, USAGE, Failure, Parser, exit_code,  # noqa: E402
                                       program_name, python_with, report_error, unusable)

__all__ = ["BAD_INPUT", "BAD_OUTPUT", "BUG", "NO_MEMORY", "UNUSABLE", "USAGE", "Failure", "Parser", "exit_code", "program_name",
           "python_with", "report_error", "unusable"]
