"""How a conversion fails."""
from .command_line import BAD_INPUT, UNUSABLE, Failure


class InputError(Failure):
    """A file, or what is in it, cannot be used: which, what, value and rule, and what may help."""

    def __init__(self, path, message, hint=None):
        super().__init__(BAD_INPUT, f"{path}: {message}", hint)


class NoPackage(Failure):
    """Python packages are needed and cannot be loaded; `packages` are all that the command needs."""

    def __init__(self, message, *packages):
        super().__init__(UNUSABLE, message)
        self.packages = packages
