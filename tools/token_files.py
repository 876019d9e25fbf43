"""Token files (docs/formats.md): writing them piece by piece, and reading them so. Used by tokens.py.

Ids come and go as arrays of NumPy, one after another, so that files may be larger than memory. The dataset of an HDF5 file has attributes
that tell what its ids are: `tokenizer`, as token_coders.py names it, and `vocab_size`.
"""
import itertools
import os
import re
import sys
from contextlib import contextmanager

import numpy as np
from command_line import BAD_INPUT, Failure, unusable

CHUNK = 2**18  # ids in a chunk of a dataset; fewer if there are no more
BLOCK = 2**16  # ids, or bytes of text, that are read at a time
HDF5_SIGNATURE, NPY_SIGNATURE = b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"
DATASETS = ("/inputs/input_ids", "/input_ids")  # where ids are looked for if no dataset is named
NPY_HEADER = 128  # bytes: room for any number of ids, which is known last


def load_hdf5():
    global h5py
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # a file must not make HDF5 load filters from this machine; read when HDF5 is loaded
    try:
        import h5py
    except ImportError as error:
        raise unusable(error, "h5py") from None


def id_type(vocab_size):
    """The smallest type that holds all ids: uint8, uint16, or int32."""
    return np.dtype("<u1" if vocab_size <= 2**8 else "<u2" if vocab_size <= 2**16 else "<i4")


# ---- writing --------------------------------------------------------------------------------------------------------------------------


class Guarded:
    """A file for HDF5 that keeps errors of writing from it, since it does not recover from them; check() raises the first."""

    def __init__(self, file):
        self._file, self._error = file, None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell

    def _guard(self, action, *arguments):
        try:
            if self._error is None:
                action(*arguments)
        except OSError as error:
            self._error = error

    def write(self, data):
        self._guard(self._file.write, data)
        return len(data)

    def truncate(self, size):
        self._guard(self._file.truncate, size)

    def flush(self):
        self._guard(self._file.flush)

    def check(self):
        if self._error is not None:
            raise self._error


def write_hdf5(file, arrays, dtype, dataset, attributes):
    """One dataset [sequence] of the ids in all arrays. -> how many there are."""
    guarded, chunks, count = Guarded(file), in_chunks(arrays, dtype), 0
    first = next(chunks)
    with h5py.File(guarded, "w") as hdf5:
        ids = hdf5.create_dataset(dataset, (0,), dtype, maxshape=(None,), chunks=(max(len(first), 1),))
        ids.attrs.update(attributes)
        for chunk in itertools.chain([first], chunks):
            ids.resize((count + len(chunk),))
            ids[count:] = chunk
            guarded.check()
            count += len(chunk)
    guarded.check()
    return count


def in_chunks(arrays, dtype):
    """The same ids, CHUNK of them in an array, fewer in the last one."""
    rest = np.empty(0, dtype)
    for ids in arrays:
        rest = np.concatenate([rest, ids.astype(dtype, copy=False)])
        while len(rest) > CHUNK:
            yield rest[:CHUNK]
            rest = rest[CHUNK:]
    yield rest


def write_npy(file, arrays, dtype):
    """The same as a file of NumPy, which has no place for attributes."""
    count = 0
    file.write(bytes(NPY_HEADER))
    for ids in arrays:
        file.write(ids.astype(dtype, copy=False).tobytes())
        count += len(ids)
    file.seek(0)
    about = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}".encode()
    start = NPY_SIGNATURE + b"\x01\x00" + (NPY_HEADER - 10).to_bytes(2, "little") + about
    file.write(start.ljust(NPY_HEADER - 1) + b"\n")
    return count


# ---- reading --------------------------------------------------------------------------------------------------------------------------


class TokenFile:
    """Ids that are read: `path`, the `attributes` that tell what they are, and `rows()` of arrays of them."""

    def __init__(self, path, rows, attributes=None):
        self.path, self.rows, self.attributes = path, rows, attributes or {}


def open_tokens(source):
    """The TokenFile of FILE or FILE:/dataset, by the content of the file; of "-", standard input, which is text with one id a line."""
    if source == "-":
        return TokenFile("standard input", lambda: [ids_of_text("standard input", sys.stdin.buffer)])
    path, dataset = split_source(source)
    with reading(path), open(path, "rb") as file:
        start = file.read(len(HDF5_SIGNATURE))
    if start == HDF5_SIGNATURE:
        return open_hdf5(path, dataset)
    if dataset:
        raise Failure(BAD_INPUT, f"{path}: is not an HDF5 file, so it has no dataset {dataset}")
    if start.startswith(NPY_SIGNATURE):
        return open_npy(path)
    return TokenFile(path, lambda: [ids_of_file(path)])


def split_source(source):
    """FILE and dataset of FILE:/dataset. A file whose whole name exists is taken by that name, colons included."""
    if not os.path.exists(source):
        for colon in reversed([found.start() for found in re.finditer(":", source)]):
            if os.path.exists(source[:colon]) and source[colon + 1:]:
                return source[:colon], "/" + source[colon + 1:].lstrip("/")
    return source, ""


@contextmanager
def reading(path):
    """Errors of the system, of HDF5 and of NumPy within become Failures that name the file."""
    try:
        yield
    except Failure:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:  # all of these for damaged files
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise Failure(BAD_INPUT, f"{path}: cannot be read: {reason}") from None


def open_hdf5(path, name):
    load_hdf5()
    with reading(path), h5py.File(path, "r") as file:
        name, ids = find_ids(path, file, [name] if name else DATASETS)
        check_dataset(path, name, ids)
        mask = find_dataset(file, name.rpartition("/")[0] + "/attention_mask")
        if mask is not None and mask.shape != ids.shape:
            raise Failure(BAD_INPUT, f"{path}: attention_mask is {list(mask.shape)}, {name} is {list(ids.shape)}")
        attributes = {key: text_or_number(ids.attrs[key]) for key in ("tokenizer", "vocab_size") if key in ids.attrs}
        rows = 1 if ids.ndim == 1 else ids.shape[0]
    return TokenFile(path, lambda: (row_of_hdf5(path, name, row, mask is not None) for row in range(rows)), attributes)


def find_ids(path, file, names):
    for name in names:
        if (ids := find_dataset(file, name)) is not None:
            return name, ids
    if len(names) > 1:
        raise Failure(BAD_INPUT, f"{path}: has neither {' nor '.join(names)}", "name the dataset of the ids after a colon: file.h5:/path")
    raise Failure(BAD_INPUT, f"{path}: has no dataset {names[0]}")


def find_dataset(file, name):
    """The dataset of that path, if it lies in this file; None if there is none."""
    item = file.get(name)
    return item if isinstance(item, h5py.Dataset) and item.file == file else None


def check_dataset(path, name, ids):
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
        raise Failure(BAD_INPUT, f"{path}: {name} is {list(ids.shape)} of {ids.dtype}, must be [sequence] or [batch, sequence] of integers")
    if ids.is_virtual or ids.external or (ids.size and ids.id.get_storage_size() == 0):
        raise Failure(BAD_INPUT, f"{path}: {name} has no elements in this file")


def text_or_number(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value


def row_of_hdf5(path, name, row, masked):
    """Arrays of the ids in one row, without padding."""
    with reading(path), h5py.File(path, "r") as file:
        ids = file[name]
        mask = file[name.rpartition("/")[0] + "/attention_mask"] if masked else None
        for begin in range(0, ids.shape[-1], BLOCK):
            block = (slice(begin, begin + BLOCK),) if ids.ndim == 1 else (row, slice(begin, begin + BLOCK))
            yield ids[block] if mask is None else ids[block][mask[block] != 0]


def open_npy(path):
    with reading(path):
        ids = np.load(path, mmap_mode="r", allow_pickle=False)
    if ids.dtype.kind not in "iu" or ids.ndim not in (1, 2):
        raise Failure(BAD_INPUT, f"{path}: is {list(ids.shape)} of {ids.dtype}, must be [sequence] or [batch, sequence] of integers")
    return TokenFile(path, lambda: ((row[begin:begin + BLOCK] for begin in range(0, len(row), BLOCK)) for row in np.atleast_2d(ids)))


def ids_of_file(path):
    with reading(path), open(path, "rb") as file:
        yield from ids_of_text(path, file)


def ids_of_text(path, file):
    """Arrays of the ids in a text with one a line."""
    line, rest = 1, b""
    with reading(path):
        while more := file.read1(BLOCK):
            whole, end, rest = (rest + more).rpartition(b"\n")
            if len(rest) > BLOCK:  # no id is so long
                whole, rest = whole + end + rest, b""
            yield ids_of_lines(path, line, whole)
            line += whole.count(b"\n") + len(end)
        yield ids_of_lines(path, line, rest)


def ids_of_lines(path, first, text):
    lines = text.split(b"\n")
    for number, line in enumerate(lines, first):
        if line.strip() and not re.fullmatch(rb"\s*[0-9]{1,18}\s*", line):
            shown = line.decode("utf-8", "replace").strip()[:40]
            raise Failure(BAD_INPUT, f"{path}: line {number} is {shown!r}, must be one token id",
                          "token files are HDF5, .npy, or text with one id a line")
    return np.array([int(line) for line in lines if line.strip()], np.int64)
