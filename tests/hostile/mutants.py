"""Mutants of valid files: bytes changed anywhere, and structures changed through h5py. Mutant `number` of a seed is always the same.

Most are refused, some are still valid, and none may do harm; judge.py says what harm is.
"""
import os
import random
import shutil

import h5py
import numpy as np

from valid_files import MODEL, programs

# Where the metadata of a file is, which says how to read the rest.
SIGNATURES = [b"\211HDF", b"TREE", b"SNOD", b"HEAP", b"GCOL", b"OHDR", b"OCHK", b"FRHP", b"FHDB", b"FHIB", b"BTHD", b"BTLF", b"FAHD",
              b"FADB", b"EAHD", b"EAIB"]
WORDS = [0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32,
         1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


# ---- bytes ----


def place(content, choose):
    """Half of the time in or after a block of metadata."""
    if choose.random() < 0.5:
        found = [at for signature in SIGNATURES for at in positions(content, signature)]
        if found:
            return min(choose.choice(found) + choose.randrange(200), len(content) - 1)
    return choose.randrange(len(content))


def positions(content, signature):
    at = content.find(signature)
    while at >= 0:
        yield at
        at = content.find(signature, at + 1)


def flip_bits(content, choose, _):
    for _ in range(choose.choice([1, 1, 1, 2, 4, 16])):
        content[place(content, choose)] ^= 1 << choose.randrange(8)


def set_word(content, choose, _):
    size = choose.choice([1, 2, 4, 8])
    at = place(content, choose)
    word = choose.choice([*WORDS, len(content), len(content) - 8, at]) % (1 << (8 * size))
    content[at : at + size] = word.to_bytes(size, "little")


def set_random_bytes(content, choose, _):
    at, size = place(content, choose), choose.randrange(1, 32)
    content[at : at + size] = choose.randbytes(size)


def fill_range(content, choose, _):
    at, size = place(content, choose), choose.choice([8, 64, 512, 4096])
    content[at : at + size] = bytes([choose.choice([0, 255])]) * len(content[at : at + size])


def copy_range(content, choose, _):
    """A piece of metadata in the place of another."""
    source, target, size = place(content, choose), place(content, choose), choose.choice([8, 24, 40, 512])
    piece = content[source : source + size]
    content[target : target + len(piece)] = piece


def splice(content, choose, other):
    source, target, size = place(other, choose), place(content, choose), choose.choice([16, 128, 1024])
    piece = other[source : source + size]
    content[target : target + len(piece)] = piece


def cut(content, choose, _):
    del content[choose.randrange(len(content)) :]


def cut_out(content, choose, _):
    at = place(content, choose)
    del content[at : at + choose.choice([1, 8, 512])]


def insert(content, choose, _):
    at = place(content, choose)
    content[at:at] = choose.randbytes(choose.choice([1, 8, 512]))


BYTE_CHANGES = [flip_bits] * 6 + [set_word] * 6 + [set_random_bytes, fill_range, copy_range, copy_range, splice, cut, cut_out, insert]


def change_bytes(files, file, path, choose):
    with open(file.path, "rb") as stream:
        content = bytearray(stream.read())
    with open(choose.choice(files).path, "rb") as stream:
        other = stream.read()
    for _ in range(choose.choice([1, 1, 1, 2, 3])):
        if content:
            choose.choice(BYTE_CHANGES)(content, choose, other)
    with open(path, "wb") as stream:
        stream.write(content)


# ---- structures ----


def some_name(file, choose, kind=h5py.Dataset):
    names = []
    file.visititems(lambda name, thing: names.append(name) if isinstance(thing, kind) else None)
    return choose.choice(sorted(names))


def some_type(choose):
    return choose.choice(["f2", "f4", "f8", ">f4", ">f8", "f16", "i1", "i4", ">i8", "u8", "u1", "?", "c8", "S3", "V5", "i4,f4", h5py.string_dtype(),
                          h5py.vlen_dtype("f4"), h5py.ref_dtype, h5py.enum_dtype({"A": 0, "B": 1}, "i4"), np.dtype(("f4", (2,)))])


def some_shape(file, name, choose):
    shape = list(file[name].shape or ())
    what = choose.randrange(6)
    if what == 0 and shape:
        shape[choose.randrange(len(shape))] = choose.choice([0, 1, 5, 1 << 31, 1 << 60])
    elif what == 1:
        shape.append(choose.choice([1, 2]))
    elif what == 2 and shape:
        shape.pop()
    elif what == 3:
        shape.reverse()
    return tuple(shape)


def some_value(choose):
    return choose.choice([
        0, 1, -1, 2, 3, 4, 8, 1 << 30, (1 << 31) - 1, 1 << 62, np.uint64((1 << 64) - 1), np.int8(-128), 0.5, 1e-310, 1e300, float("nan"),
        float("inf"), *programs.ARCHITECTURES, "causal", "bidirectional", "elu", "",
        "\x1b[0m", "x" * 5000, b"bsbr-model", [4, 4], [], h5py.Empty("f8"), True, 1j, np.zeros(3, "i4,f8")])


def delete(file, choose):
    del file[some_name(file, choose, (h5py.Dataset, h5py.Group))]


def replace_by_link(file, choose):
    name, target = some_name(file, choose), some_name(file, choose, (h5py.Dataset, h5py.Group))
    del file[name]
    file[name] = choose.choice([h5py.SoftLink("/" + target), h5py.SoftLink("/" + name), h5py.ExternalLink("pipe", "/" + name),
                                h5py.ExternalLink(file.filename, "/" + target)])


def replace_by_alias(file, choose):
    name, target = some_name(file, choose), some_name(file, choose, (h5py.Dataset, h5py.Group))
    thing = file[target]
    if target != name:
        del file[name]
        file[name] = thing


def add_something(file, choose):
    parent = choose.choice([file, file[some_name(file, choose, h5py.Group)]])
    parent[choose.choice(["more", "x" * 300, "\x07", "layers.0.more"])] = choose.choice(
        [np.zeros(3), np.dtype("f4"), h5py.SoftLink("/"), file["/"]])


def replace_by_other_type(file, choose):
    name = some_name(file, choose)
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, some_type(choose))


def replace_by_other_shape(file, choose):
    name = some_name(file, choose)
    shape, kind = some_shape(file, name, choose), file[name].dtype
    del file[name]
    chunks = choose.choice([None, tuple(min(max(extent, 1), choose.choice([1, 2, 1000])) for extent in shape) or None])
    how = {} if chunks is None else dict(chunks=chunks, compression=choose.choice([None, "gzip", "lzf"]))
    file.create_dataset(name, shape, kind, **how)


def replace_storage(file, choose):
    """The same numbers, stored in another way."""
    name = some_name(file, choose)
    data = file[name][()]
    del file[name]
    how = choose.choice([dict(chunks=True, compression="gzip", compression_opts=9), dict(chunks=True, shuffle=True), dict(chunks=(1,) * data.ndim),
                         dict(chunks=True, fletcher32=True), dict(chunks=True, scaleoffset=3), dict(chunks=True, compression="lzf"),
                         dict(chunks=tuple(2 * extent for extent in data.shape), maxshape=(None,) * data.ndim)])
    file.create_dataset(name, data=data, **how)


def move_to_external_storage(file, choose):
    name = some_name(file, choose)
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    file.create_dataset(name, shape, kind, external=[("pipe", 0, h5py.h5f.UNLIMITED)])


def replace_chunk(file, choose):
    """A chunk that is not what the filters make."""
    name = some_name(file, choose)
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    made = file.create_dataset(name, shape, kind, chunks=shape, compression="gzip", shuffle=choose.random() < 0.5, fletcher32=choose.random() < 0.3)
    content = choose.choice([b"", b"x", choose.randbytes(40), b"x\x9c\x03\x00\x00\x00\x00\x01", bytes(1000)])
    made.id.write_direct_chunk((0,) * len(shape), content, choose.choice([0, 1, 3]))


def make_virtual(file, choose):
    name = some_name(file, choose)
    shape, kind = file[name].shape, file[name].dtype
    del file[name]
    layout = h5py.VirtualLayout(shape=shape, dtype=kind)
    layout[...] = h5py.VirtualSource(choose.choice([".", "pipe", file.filename]), some_name(file, choose), shape=shape)
    file.create_virtual_dataset(name, layout)


def change_number(file, choose):
    data = file[some_name(file, choose)]
    at = tuple(choose.randrange(extent) for extent in data.shape)
    values = [0, 1, -1, 15, 16, 127] if data.dtype.kind in "iu" else [1e300, -1e38, 1e-310, float("nan"), float("inf"), 0]
    data[at] = choose.choice([True] if data.dtype.kind == "b" else values)


def change_attribute(file, choose):
    holder = choose.choice([file, file, file, file[some_name(file, choose)]])
    known = sorted(holder.attrs) or ["x"]
    name = choose.choice(known)
    if choose.random() < 0.2:
        del holder.attrs[name]
    else:
        holder.attrs[name] = some_value(choose)


STRUCTURE_CHANGES = [delete, replace_by_link, replace_by_alias, add_something, replace_by_other_type, replace_by_other_shape, replace_storage,
                     move_to_external_storage, replace_chunk, make_virtual, change_number, change_attribute, change_attribute, change_attribute]


def change_structure(_, file, path, choose):
    shutil.copy(file.path, path)
    with h5py.File(path, "r+") as opened:
        for _ in range(choose.choice([1, 1, 1, 2, 3])):
            change = choose.choice(STRUCTURE_CHANGES)
            try:
                change(opened, choose)
            except (ValueError, TypeError, KeyError, IndexError, OSError, RuntimeError):
                pass  # h5py does not make everything of everything, and a name may be gone by now
            if change is replace_chunk:
                break  # the next change might read it, and HDF5 would do here what is to be found out elsewhere


def make(files, number, seed, folder):
    """Writes one mutant -> (path, kind)"""
    choose = random.Random("%d %d" % (seed, number))
    file = choose.choice(files)
    path = os.path.join(folder, "%s_%d.h5" % (file.kind, number))
    (change_bytes if number % 2 == 0 or file.name.endswith(".npy") else change_structure)(files, file, path, choose)
    kind = MODEL if file.kind == "result" and choose.random() < 0.5 else file.kind
    return path, kind
