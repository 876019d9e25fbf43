"""The exceptions of the library, with its texts: one line that names the thing, its value and the rule."""

from __future__ import annotations

import builtins
import sys


class Error(Exception):
    """Base of all errors of the library. `hint` says what to do about it, and may be empty."""

    hint: str

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        if hint and sys.version_info >= (3, 11):
            self.add_note(f"hint: {hint}")


class ConfigError(Error, ValueError):
    """A configuration that no model can have, such as 7 heads for a hidden size of 512; a loss of a model without a head."""


class ShapeError(Error, ValueError):
    """Arrays whose shapes do not fit; ids and targets outside the vocabulary; mask values other than 0 and 1."""


class FileError(Error, OSError):
    """A file that cannot be read, or whose content is not what it should be."""


class OutputError(Error, OSError):
    """A file that cannot be written."""


class MemoryError(Error, builtins.MemoryError):
    """Not enough memory."""


class CommunicationError(Error, RuntimeError):
    """MPI failed, the ranks disagree, or a communicator cannot be used."""
