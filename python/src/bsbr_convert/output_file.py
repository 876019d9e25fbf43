"""A file that a program writes: what has its name is whole."""
import contextlib
import os

from .command_line import BAD_OUTPUT, Failure


def write_whole(path, inputs, writer):
    """By way of PATH.part, which is renamed when it is complete; writer(file) writes it, and may read it. Failure if it cannot be written.

    An existing file is replaced, but none of `inputs`, which are the files that are read.
    """
    output = os.path.realpath(path) if os.path.islink(path) else path
    part = output + ".part"
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(0, "is there and is not a file")
        for name in inputs:
            if is_same_file(name, path):
                raise OSError(0, f"is the input {name}")
            if is_same_file(name, part):
                raise OSError(0, f"{part}, by way of which it is written, is the input {name}")
        with new_file(part) as file:
            try:
                writer(file)
                file.flush()
                os.fsync(file.fileno())
                if not has_name(file, part):
                    raise OSError(0, f"{part} is not the file of this run any more: another run writes the same output")
                os.replace(part, output)
            except BaseException:
                if has_name(file, part):
                    os.remove(part)
                raise
        flush_folder(os.path.dirname(output) or ".")
    except (OSError, RuntimeError) as error:  # h5py has both for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(BAD_OUTPUT, f"{path}: cannot be written: {reason}") from None


def new_file(path):
    """A file of this run alone, in the place of what a killed run may have left; never what a link points to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), "w+b")


def is_same_file(one, other):
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def has_name(file, path):
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def flush_folder(path):
    """So that the new name, too, outlives a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
