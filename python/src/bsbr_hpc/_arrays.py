"""Arrays of NumPy and others, as the library takes them: the same memory if type and layout fit, else a copy."""

from __future__ import annotations

import operator
from typing import Any, Iterable, Optional

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bsbr_convert.errors import InputError
from bsbr_convert.weight_files import as_array as as_real_array

from .errors import ShapeError

BYTES = 256  # the vocabulary of a model of bytes


def _verb(name: str) -> str:
    return "is" if name == "mask" else "are"


def as_array(name: str, value: Any) -> NDArray[Any]:
    """The NumPy array of something that is one, has __dlpack__ on the CPU, or is nested lists of numbers."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__dlpack__"):
        try:
            return np.asarray(value)
        except ValueError:  # NumPy's words for it, "inhomogeneous shape", name neither the array nor what to do
            raise ShapeError(f"{name} {_verb(name)} lists of different lengths", "bsbr_hpc.pad makes arrays of ids and mask of them") from None
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError) as error:
        raise TypeError(f"{name}, of type {type(value).__name__}, cannot be taken by DLPack: {error}") from error


def whole_number(name: str, value: Any) -> int:
    """The int of any integer type. TypeError for others, truth values among them."""
    if not isinstance(value, (bool, np.bool_)):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} is {value!r}, which is not a whole number")


def real_number(name: str, value: Any) -> float:
    """The float of any type of number. TypeError for others, truth values and text among them."""
    if not isinstance(value, (bool, np.bool_, str, bytes, bytearray)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise TypeError(f"{name} is {value!r}, which is not a number")


def _as_taken(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    return np.require(array, dtype, ("C_CONTIGUOUS", "ALIGNED"))


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes, bytearray))


def _bytes_of(value: Any) -> Any:
    """The ids of text or bytes for a model of bytes; anything else as it is."""
    return np.array(bytearray(value.encode() if isinstance(value, str) else value), np.uint8) if _is_text(value) else value


def _integers(name: str, value: Any, kinds: str, taken: str) -> NDArray[Any]:
    """[batch, tokens] of integers; [tokens] is a batch of one."""
    array = as_array(name, value)
    if array.size == 0 and not hasattr(value, "dtype"):
        raise ShapeError(f"{name} {_verb(name)} empty")
    beyond = array.dtype.kind == "O" and all(type(item) is int for item in array.flat)  # integers too large for any type of NumPy
    if array.dtype.kind not in kinds and not beyond:
        found = type(value).__name__ if array.dtype.kind == "O" and array.ndim == 0 else array.dtype
        raise TypeError(f"{name} must be {taken}, not {found}")
    if array.ndim not in (1, 2):
        raise ShapeError(f"{name} {_verb(name)} {list(array.shape)}, must be [tokens] or [batch, tokens]")
    return np.atleast_2d(array)


def ids_of(value: Any, vocab_size: int) -> NDArray[Any]:
    """[batch, tokens] of any integer type. Bytes and text, one or a list of them, are the ids of a model of bytes."""
    texts = [value] if _is_text(value) else value if isinstance(value, (list, tuple)) else []
    text = next((item for item in texts if _is_text(item)), None)
    if text is not None and vocab_size != BYTES:
        raise TypeError(f"ids must be integers, not {type(text).__name__}: the vocabulary is of {vocab_size} ids, not of the {BYTES} bytes")
    if text is not None:
        value = _bytes_of(value) if _is_text(value) else [_bytes_of(item) for item in value]
    if text is not None and not len(text):
        raise ShapeError("ids are empty")
    return _integers("ids", value, "iu", "integers")


def _beside_ids(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if array.shape != shape:
        raise ShapeError(f"{name} {_verb(name)} {list(array.shape)}, ids are {list(shape)}")
    return array


def mask_of(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """[batch, tokens] of bools or any integer type, for ids of that shape."""
    return _beside_ids("mask", _integers("mask", value, "iub", "bools or integers"), shape)


def targets_of(value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """[batch, tokens] of any integer type, for ids of that shape."""
    return _beside_ids("targets", _integers("targets", value, "iu", "integers"), shape)


def _first(array: NDArray[np.bool_]) -> tuple[int, int]:
    row, column = np.unravel_index(int(array.argmax()), array.shape)
    return int(row), int(column)


def _within(name: str, array: NDArray[Any], least: int, rule: str, vocab_size: int, first_token: int) -> NDArray[np.int32]:
    if array.size and (array.min() < least or array.max() >= vocab_size):
        outside = (array < least) | (array >= vocab_size)
        row, column = _first(outside)
        others = int(outside.sum()) - 1
        raise ShapeError(
            f"{name}[{row}, {first_token + column}] = {array[row, column]}, must be {rule}"
            + (f"; {others} more are outside" if others else "")
        )
    return _as_taken(array, np.int32)


def as_ids(array: NDArray[Any], vocab_size: int, first_token: int) -> NDArray[np.int32]:
    """int32. ShapeError if one is outside the vocabulary; `array` begins with token `first_token` of each sequence."""
    return _within("ids", array, 0, f"0 to {vocab_size - 1}", vocab_size, first_token)


def as_targets(array: NDArray[Any], vocab_size: int, first_token: int) -> NDArray[np.int32]:
    """The same for targets, which may also be −1 = none."""
    return _within("targets", array, -1, f"-1 (none) or 0 to {vocab_size - 1}", vocab_size, first_token)


def as_mask(array: NDArray[Any], first_token: int) -> NDArray[np.uint8]:
    """One byte each. ShapeError if a value is other than 0 and 1; `array` begins with token `first_token` of each sequence."""
    if array.dtype.kind != "b" and array.size and (array.min() < 0 or array.max() > 1):
        row, column = _first((array < 0) | (array > 1))
        raise ShapeError(f"mask[{row}, {first_token + column}] = {array[row, column]}, must be 0 or 1")
    return _as_taken(array, array.dtype if array.dtype.itemsize == 1 else np.uint8).view(np.uint8)


def as_weight(name: str, value: Any) -> NDArray[Any]:
    """float32 or float64, whichever it is; half precision becomes float32. Tensors of PyTorch may require gradients."""
    if not hasattr(value, "detach"):
        value = as_array(name, value)
    try:
        array: NDArray[Any] = as_real_array("weights", name, value)
    except InputError as error:
        raise TypeError(str(error).removeprefix("weights: ")) from None
    return _as_taken(array, array.dtype)


def pad(
    sequences: Iterable[Any], value: int = 0, length: Optional[int] = None, left: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pads sequences of different lengths at the end, for `Model.forward`; at the beginning, for `Model.generate`.

    Args:
        sequences: sequences of ids [tokens]: lists or arrays of integers, or bytes and text for a model of bytes.
        value: the id of padding. Any id of the vocabulary will do, since padding does not change the states of tokens.
        length: tokens of the result; that of the longest sequence if None.
        left: pads at the beginning, as prompts have to be: what follows a prompt follows its last token.

    Returns:
        ids [batch, length], int64, and mask [batch, length], True for a token and False for padding.

    Raises:
        ShapeError: there is no sequence, one is not [tokens], or one is longer than `length`.
        TypeError: ids are not integers.
    """
    rows = []
    for sequence in sequences:
        row = as_array("ids", _bytes_of(sequence))
        row = row.astype(np.int64) if row.shape == (0,) else row
        if row.ndim != 1:
            raise ShapeError(f"a sequence is {list(row.shape)}, must be [tokens]")
        if row.dtype.kind not in "iu":
            raise TypeError(f"ids must be integers, not {row.dtype}")
        rows.append(row)
    longest = max((row.size for row in rows), default=0)
    if not longest:
        raise ShapeError("ids are empty")
    if length is not None and longest > length:
        raise ShapeError(f"a sequence has {longest} tokens, length is {length}")
    ids = np.full((len(rows), longest if length is None else length), value, np.int64)
    mask = np.zeros(ids.shape, np.bool_)
    for index, row in enumerate(rows):
        first = ids.shape[1] - row.size if left else 0
        ids[index, first : first + row.size] = row
        mask[index, first : first + row.size] = True
    return ids, mask
