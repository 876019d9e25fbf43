"""Arrays of NumPy and others, as the library takes them: the same memory if type and layout fit, else a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .errors import ShapeError

_NO_ID = np.iinfo(np.int32).max  # outside of any vocabulary: the library counts and refuses it
_NO_MASK = 2


def as_array(name: str, value: Any) -> NDArray[Any]:
    """The NumPy array of something that is one, has __dlpack__ on the CPU, or is nested lists of numbers."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return np.asarray(value)
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError) as error:
        raise TypeError(f"{name}, of type {type(value).__name__}, cannot be taken by DLPack: {error}") from error


def _as_taken(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    return np.require(array, dtype, ("C_CONTIGUOUS", "ALIGNED"))


def integers(name: str, value: Any, kinds: str = "iu") -> NDArray[Any]:
    """[batch, tokens] of any integer type; [tokens] is a batch of one."""
    array = as_array(name, value)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} are of type {array.dtype}, integers are taken")
    if array.ndim not in (1, 2):
        raise ShapeError(f"{name} are {list(array.shape)}, taken are [tokens] and [batch, tokens]")
    return np.atleast_2d(array)


def as_ids(array: NDArray[Any]) -> NDArray[np.int32]:
    """int32. Ids beyond it become one that is outside of any vocabulary, too."""
    if not np.can_cast(array.dtype, np.int32):
        fits = (array >= 0) & (array <= _NO_ID)
        array = np.where(fits, array, np.array(_NO_ID, array.dtype))
    return _as_taken(array, np.int32)


def as_mask(array: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8. Values other than 0 and 1 stay such."""
    if array.dtype.itemsize == 1:
        return _as_taken(array, array.dtype).view(np.uint8)
    return np.where((array == 0) | (array == 1), array, np.array(_NO_MASK, array.dtype)).astype(np.uint8)


def as_weight(name: str, value: Any) -> NDArray[Any]:
    """float32 or float64, whichever it is."""
    array = as_array(name, value)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} is of type {array.dtype}, weights are float32 or float64")
    return _as_taken(array, array.dtype.newbyteorder("="))
