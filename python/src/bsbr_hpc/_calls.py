"""What calls of the library have in common: names of files, and errors that are those of all ranks."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import sys
from typing import Any, Callable, TypeVar, Union

from . import _core, errors

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Result = TypeVar("Result")


def path_of(path: Path) -> bytes:
    """A name is bytes to the system, and need not be text."""
    name = os.fsencode(path)
    if b"\0" in name:
        raise ValueError("a path has a byte 0")
    return name


def hdf5_lock() -> contextlib.AbstractContextManager[Any]:
    """h5py's: with an h5py of the same HDF5 library, which is rarely thread-safe, other threads may be in it."""
    lock: contextlib.AbstractContextManager[Any] = getattr(sys.modules.get("h5py._objects"), "phil", contextlib.nullcontext())
    return lock


def agreed(comm: Any, call: Callable[[], Result]) -> Result:
    """call(), or on all ranks the error of the lowest rank on which it raised one. Collective, so that no rank waits for another."""
    text, result = "", None
    try:
        result = call()
    except (errors.Error, TypeError, ValueError) as error:
        if comm is None:
            raise
        kind = type(error).__name__ if hasattr(errors, type(error).__name__) or type(error) in (TypeError, ValueError) else "ValueError"
        text = json.dumps([kind, str(error), getattr(error, "hint", "")])
    text = text if comm is None else _core.agree(comm, text)
    if text:
        kind, message, hint = json.loads(text)
        found = getattr(errors, kind, None)
        raise found(message, hint) if found else getattr(builtins, kind)(message)
    return result  # type: ignore[return-value]
