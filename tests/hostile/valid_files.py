"""Small valid files, from which bad ones are made: models, tokens and results, in the ways in which HDF5 can store them.

Each is (name, how it is read, arguments of bsbr_forward that read it), and must be taken by bsbr_forward.
"""
import dataclasses
import os
import shutil
import sys

import h5py
import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "programs"))
import programs  # noqa: E402 - for those who import this, too

SMALL = dict(vocab_size=16, hidden_dim=4, num_layers=1, num_heads=2, ff_dim=4, chunk_size=4)
MODEL, TOKENS, RESULT = "model", "tokens", "result"

# How h5py is asked to store a dataset. Scale-offset without loss is for integers; of real numbers it would keep few digits.
LAYOUTS = {
    "contiguous": {},
    "chunked": dict(chunks=True),
    "deflated": dict(chunks=True, compression="gzip", shuffle=True, fletcher32=True),
}
VERSIONS = ("earliest", "latest")


@dataclasses.dataclass
class File:
    path: str
    kind: str

    @property
    def name(self):
        return os.path.basename(self.path)


def made_model(path, architecture, precision="float"):
    fields = {**SMALL, **programs.OWN_FIELDS[architecture], "architecture": architecture}
    done = programs.run("bsbr_init", "--output", path, "--precision", precision, *programs.init_options(fields))
    if done.code != 0:
        raise RuntimeError(done.err)
    return File(path, MODEL)


def stored(source, target, version, layout, open_new=h5py.File):
    """The same content in another form: a file that h5py writes with this version of the format and this layout of datasets."""
    with h5py.File(source) as old, open_new(target, "w", libver=version) as new:
        new.attrs.update(old.attrs)

        def copy(name, thing):
            if isinstance(thing, h5py.Dataset):
                new.create_dataset(name, data=thing[()], **LAYOUTS[layout])

        old.visititems(copy)
    return target


def narrow_file(path, *_, **__):
    """A new file after a user block, with metadata of 4-byte numbers."""
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_userblock(1024)
    creation.set_sizes(4, 4)
    return h5py.File(h5py.h5f.create(path.encode(), h5py.h5f.ACC_TRUNC, creation))


def with_huge_numbers(source, target):
    """Weights that are finite, but with which no sum is: the result is NaN, and nothing worse."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as file:
        for dataset in file["weights"].values():
            dataset[...] = np.where(np.arange(dataset.size).reshape(dataset.shape) % 3, 3e38, -3e38)
    return File(target, MODEL)


def tokens(path, version, layout, rows=None, mask=False, kind="i8"):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, SMALL["vocab_size"], 24 if rows is None else (rows, 24)).astype(kind)
    with h5py.File(path, "w", libver=version) as file:
        file.create_dataset("inputs/input_ids", data=ids, **LAYOUTS[layout])
        if mask:
            file.create_dataset("inputs/attention_mask", data=rng.random(ids.shape) < 0.8, **LAYOUTS[layout])
    return File(path, TOKENS)


def npy_tokens(path, order):
    ids = np.random.default_rng(2).integers(0, SMALL["vocab_size"], (3, 24)).astype("<u2")
    np.save(path, np.asarray(ids, order=order))
    return File(path, TOKENS)


def make(folder):
    """Writes all of them into the folder -> list of File."""
    path = lambda name: os.path.join(folder, name)  # noqa: E731
    files = [made_model(path("model_%s.h5" % architecture), architecture) for architecture in programs.OWN_FIELDS]
    files.append(made_model(path("model_double.h5"), "bsbr", "double"))
    files += [with_huge_numbers(file.path, file.path.replace("model_", "model_huge_")) for file in files[: len(programs.OWN_FIELDS)]]
    for version in VERSIONS:
        for layout in LAYOUTS:
            name = "%s_%s.h5" % (version, layout)
            files.append(File(stored(path("model_bsbr.h5"), path("model_" + name), version, layout), MODEL))
            files.append(tokens(path("tokens_" + name), version, layout, rows=2, mask=True))
    files.append(File(stored(path("model_bsbr.h5"), path("model_narrow.h5"), "earliest", "contiguous", narrow_file), MODEL))
    files.append(tokens(path("tokens_sequence.h5"), "earliest", "contiguous", kind=">u2"))
    files += [npy_tokens(path("tokens_%s.npy" % order), order) for order in "CF"]
    done = programs.run("bsbr_forward", "--model", path("model_bsbr.h5"), "--random-tokens", 12, "--output", path("result.h5"))
    if done.code != 0:
        raise RuntimeError(done.err)
    files.append(File(path("result.h5"), RESULT))
    return files
