"""How a conversion fails: a message, a hint, and the exit code of the command."""

from typing import Optional

UNUSABLE, USAGE, BAD_INPUT, NO_MEMORY, BAD_OUTPUT, BUG = 1, 2, 3, 4, 6, 70  # UNUSABLE: a package that is needed cannot be loaded


class Failure(Exception):
    """Base of all errors. The command ends with `code` and this message."""

    code: int
    hint: Optional[str]

    def __init__(self, code: int, message: object, hint: Optional[str] = None) -> None:
        super().__init__(message)
        self.code, self.hint = code, hint


class InputError(Failure):
    """A file, or what is in it, cannot be used: which, what, value and rule, and what may help."""

    def __init__(self, path, message, hint=None):
        super().__init__(BAD_INPUT, f"{path}: {message}", hint)


class NoPackage(Failure):
    """A Python package is needed and cannot be loaded."""

    def __init__(self, message, hint=None):
        super().__init__(UNUSABLE, message, hint)
