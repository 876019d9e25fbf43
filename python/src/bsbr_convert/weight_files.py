"""Files of weights: PyTorch's, safetensors, and model files of bsbr; and state_dicts in memory.

Nothing in a file is believed before it is checked, and nothing is unpickled but tensors and plain values. safetensors are read and written
here, not by their own library: that one is missing in Debian 12, has no NumPy type for bfloat16, and a header in JSON is all there is to
the format.
"""
import contextlib
import json
import math
import os
import pickle
import pickletools
import re
import sys
import warnings
import zipfile
from typing import Any

import numpy as np

from . import model_config
from .architectures import FIELDS
from .errors import InputError, NoPackage

FORMAT, FORMAT_VERSION = "bsbr-model", 1
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
CONFIG_KEY = "bsbr_config"  # in the metadata of the safetensors that are written here: the configuration, as JSON

# Types of safetensors -> bits of one element; and those that weights may have, as NumPy reads them.
SAFETENSORS_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16,
                    "U8": 8, "BOOL": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64}
REALS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
LARGEST_HEADER = 100_000_000  # as safetensors itself has it

# What a folder of transformers' save_pretrained holds its weights in, the first that is there.
MODEL_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


class Tensors:
    """Tensors by name: `shapes`, and the elements of one of them at a time."""

    def __init__(self, path, shapes, load, config=None, beside=(), settings=None, files=None):
        self.path, self.shapes, self._load = path, shapes, load
        self.config = config  # the configuration that the file holds, if it does
        self.beside = beside  # names of what else the file holds
        self.settings = settings or {}  # by name, the dicts of plain values among that
        self.files = [path] if files is None else files  # all that are read

    def read(self, name):
        """float32 or float64, in C order; half precision becomes float32. InputError unless all elements are finite."""
        array = self._load(name)
        finite = np.isfinite(array)
        if not finite.all():
            place = [int(index) for index in np.argwhere(~finite)[0]]
            raise InputError(self.path, f"{name} {place} is {array[tuple(place)]}, weights are finite numbers")
        return np.ascontiguousarray(array)


def open_tensors(path, index=True):
    """The Tensors of a file of any kind, by its content, not by its name; of a folder, those of the model in it. An index of several
    files is not taken without `index`."""
    with reading(path):
        if os.path.isdir(path):
            return open_tensors(model_in(path))
        if not os.path.isfile(path):
            raise InputError(path, "is not a file" if os.path.exists(path) else "there is no such file")
        with open(path, "rb") as file:
            start = file.read(64)
        size = os.path.getsize(path)
    if start.startswith(HDF5_SIGNATURE):
        return open_model(path)
    # Before PyTorch: the length of a header may begin with the byte that a pickle begins with.
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return open_safetensors(path)
    if start.startswith((b"PK\x03\x04", b"\x80")):
        return open_torch(path)
    if index and start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return open_index(path)
    if start.startswith(LFS_POINTER):
        raise InputError(path, "is a pointer of Git LFS, not the file itself", "git lfs pull gets the file")
    raise InputError(path, "is neither a file of PyTorch nor of safetensors nor a model file" if size else "is empty")


def model_in(folder):
    """The file of weights in a folder of save_pretrained."""
    for name in MODEL_NAMES:
        if os.path.isfile(path := os.path.join(folder, name)):
            return path
    raise InputError(folder, f"is a folder without {', '.join(MODEL_NAMES[:-1])} or {MODEL_NAMES[-1]}")


def is_model(path):
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(HDF5_SIGNATURE)) == HDF5_SIGNATURE
    return False


@contextlib.contextmanager
def reading(path):
    """Errors of the system within become InputErrors."""
    try:
        yield
    except OSError as error:
        raise InputError(path, f"cannot be read: {error.strerror or error}") from None


def read_json(path):
    with reading(path), open(path, encoding="utf-8-sig") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(path, f"is not JSON: {error}") from None


def one_line(error):
    return " ".join(str(error).split())[:200]


# ---- PyTorch --------------------------------------------------------------------------------------------------------------------------

# Where trainers put the state_dict among other things: PyTorch's own examples, Lightning, nanoGPT, DeepSpeed.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
SAVE_STATE_DICT = "torch.save(model.state_dict(), FILE) makes a file that can be read"


def open_torch(path):
    try:
        import torch
    except (ImportError, OSError) as error:
        raise NoPackage(f"{path}: is a file of PyTorch, which cannot be loaded: {error}", "torch", "numpy", "h5py") from None
    with reading(path), open(path, "rb") as file:
        content = load_torch(path, file, torch)
    return tensors_of(path, content)


def load_torch(path, file, torch):
    """What torch.save has put into a file, if that is tensors, plain values and containers of them."""
    try:
        with warnings.catch_warnings(), scalars_of_numpy(torch):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # torch has nearly all that there are for a damaged file
        if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower():
            raise InputError(path, f"holds more than tensors{refused_object(file, error)}, and other things are not unpickled, since that "
                             "could run any code", SAVE_STATE_DICT) from None
        if "TorchScript" in str(error):
            raise InputError(path, "is a program of TorchScript, not a state_dict", SAVE_STATE_DICT) from None
        raise InputError(path, f"is not a whole file of torch.save: {one_line(error)}") from None


def scalars_of_numpy(torch):
    """Within, scalars of NumPy are unpickled, too: trainers keep the best loss as one. They are plain values."""
    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):  # before PyTorch 2.6 they cannot be named
        return contextlib.nullcontext()
    make = np.float64(0).__reduce__()[0]
    types = {type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"}
    return torch.serialization.safe_globals([np.dtype, *types, (make, "numpy.core.multiarray.scalar"),
                                             (make, "numpy._core.multiarray.scalar")])


def refused_object(file, error):
    """": args (argparse.Namespace)": which object a file of torch.save was refused for, as far as the pickle tells."""
    if not (refused := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return ""
    key = None
    with contextlib.suppress(Exception):
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            for operation, argument, _ in pickletools.genops(archive.read(name)):
                if operation.name == "GLOBAL" and argument.replace(" ", ".") == refused[1]:
                    break
                key = argument if operation.name.endswith("UNICODE") else key
    return f": {key} ({refused[1]})" if key else f" ({refused[1]})"


def tensors_of(path: str, content: Any) -> Tensors:
    """The Tensors of what torch.save had or of a state_dict in memory: a dict of tensors, or one that holds such a dict."""
    found = state_dict(path, content)
    inside = found is not content
    others = {name: item for name, item in content.items() if item is not found} if inside else {}
    tensors = {str(name): item for name, item in found.items() if is_tensor(item)}
    beside = sorted([str(name) for name in others] + [str(name) for name, item in found.items() if not is_tensor(item)])
    settings = {str(name): item for name, item in others.items() if isinstance(item, dict)}
    if all(getattr(tensor, "is_meta", False) for tensor in tensors.values()):
        as_array(path, *next(iter(tensors.items())))  # which says so
    return Tensors(path, {name: shape_of(tensor) for name, tensor in tensors.items()},
                   lambda name: as_array(path, name, tensors[name]), beside=beside, settings=settings, files=[path])


def state_dict(path, content):
    """The dict of tensors: one of WRAPPERS in `content`, `content` itself, or the only one in it."""
    def holds_tensors(value):
        return isinstance(value, dict) and any(map(is_tensor, value.values()))

    if isinstance(content, dict):
        inner = {name: value for name, value in content.items() if holds_tensors(value)}
        for wrapper in WRAPPERS:
            if wrapper in inner:
                return inner[wrapper]
        if holds_tensors(content):
            return content
        if len(inner) == 1:
            return next(iter(inner.values()))
        if inner:
            raise InputError(path, f"holds tensors by name as each of {', '.join(sorted(map(str, inner)))}, must be one of them",
                             SAVE_STATE_DICT)
    raise InputError(path, f"holds no tensors by name, neither itself nor as one of {', '.join(WRAPPERS)}", SAVE_STATE_DICT)


def is_tensor(value):
    """An array of NumPy or a tensor of PyTorch, but no scalar of NumPy."""
    return isinstance(value, np.ndarray) or hasattr(type(value), "detach")


def shape_of(tensor):
    """Nested tensors and those that are not initialised have none: as_array refuses them."""
    try:
        return tuple(int(size) for size in tensor.shape)
    except Exception:
        return ()


def as_array(path: str, name: str, tensor: Any) -> Any:
    """float32 or float64 of a tensor of PyTorch or an array of NumPy; half precision becomes float32. InputError for others."""
    if isinstance(tensor, np.ndarray):
        if tensor.dtype.name in ("float16", "bfloat16"):
            return tensor.astype("f4")
        if tensor.dtype.name not in ("float32", "float64"):
            raise InputError(path, f"{name} is of {tensor.dtype}, weights are float64, 32, 16 or bfloat16")
        return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
    if getattr(tensor, "is_meta", False):
        raise InputError(path, f"{name} has no elements: it is on the device meta")
    dtype, layout = str(tensor.dtype).removeprefix("torch."), str(getattr(tensor, "layout", "torch.strided")).removeprefix("torch.")
    layout = "nested" if getattr(tensor, "is_nested", False) else layout
    if layout != "strided":
        raise InputError(path, f"{name} is {layout}, weights are dense")
    if dtype not in ("float64", "float32", "float16", "bfloat16"):
        raise InputError(path, f"{name} is of {dtype}, weights are float64, 32, 16 or bfloat16")
    try:
        tensor = tensor.detach().cpu()
        return (tensor if dtype == "float64" else tensor.float()).resolve_neg().numpy()
    except Exception as error:  # whatever else there is among subclasses of tensors
        if "allocate" in str(error):
            raise MemoryError from None
        raise InputError(path, f"{name} cannot be read: {one_line(error)}") from None


# ---- safetensors ----------------------------------------------------------------------------------------------------------------------


def open_safetensors(path):
    """8 bytes with the length of a header, the header in JSON, the data. The whole header is checked before anything is read."""
    with reading(path):
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LARGEST_HEADER:
                raise InputError(path, f"has a header of {length} bytes, must be at most {LARGEST_HEADER}")
            text = file.read(length)
    entries, metadata = safetensors_header(path, text)
    check_offsets(path, entries, size - 8 - length)

    def load(name):
        kind, shape, (begin, end) = entries[name]
        if kind not in REALS:
            raise InputError(path, f"{name} holds {kind[:40]}, weights are {', '.join(REALS)}")
        with reading(path):
            stored = np.fromfile(path, REALS[kind], math.prod(shape), offset=8 + length + begin).reshape(shape)
        if kind == "BF16":  # the upper half of a float32
            return (stored.astype("<u4") << 16).view("<f4")
        return stored.astype("=f8" if kind == "F64" else "=f4", copy=False)

    return Tensors(path, {name: shape for name, (_, shape, _) in entries.items()}, load, config_in(path, metadata))


def safetensors_header(path, text):
    """name -> (type, shape, offsets), and the metadata."""
    def unique(pairs):
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a name is there twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise InputError(path, f"is not a file of safetensors: its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise InputError(path, "is not a file of safetensors: its header is not an object")
    metadata = header.pop("__metadata__", {})
    return {name: safetensors_entry(path, name, entry) for name, entry in header.items()}, metadata


def safetensors_entry(path, name, entry):
    try:
        kind, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        raise InputError(path, f"{name} needs dtype, shape and two data_offsets in the header") from None
    if not isinstance(kind, str):
        raise InputError(path, f"{name} has dtype {str(kind)[:40]!r}, must be a name")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)) or begin > end:
        raise InputError(path, f"{name} has a shape or offset that is no size")
    # New types come with time. One that is not known here matters only if its tensor is used, and is refused then.
    if kind in SAFETENSORS_BITS and 8 * (end - begin) != (bits := math.prod(shape) * SAFETENSORS_BITS[kind]):
        raise InputError(path, f"{name} is {list(shape)} of {kind} in {end - begin} bytes, must be {-(-bits // 8)}")
    return kind, shape, (begin, end)


def check_offsets(path, entries, size):
    """The tensors lie one after the other and fill the file."""
    here = 0
    for begin, end, name in sorted((*offsets, name) for name, (_, _, offsets) in entries.items()):
        if begin != here:
            raise InputError(path, f"{name} begins at byte {begin} of the data, must be {here}")
        here = end
    if here != size:
        raise InputError(path, f"has {size} bytes of data, the header says {here}", "the file may be cut off" if size < here else None)


def config_in(path, metadata):
    """The configuration that write_safetensors has put there, or None."""
    text = metadata.get(CONFIG_KEY) if isinstance(metadata, dict) else None
    if text is None:
        return None
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(path, f"its metadata {CONFIG_KEY} is not an object in JSON")
    return config


def open_index(path):
    """A model in several files: model.safetensors.index.json or pytorch_model.bin.index.json, as transformers writes them."""
    content = read_json(path)
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise InputError(path, "has no weight_map of tensors and files, so it is not the index of a model in several files")
    parts = {}
    for file in sorted(set(places.values())):
        if file != os.path.basename(file) or file in ("", ".", ".."):
            raise InputError(path, f"names the file {file[:60]!r}, must be one in the same folder")
        parts[file] = open_tensors(os.path.join(os.path.dirname(path), file), index=False)
        if surplus := sorted(name for name in parts[file].shapes if places.get(name) != file):
            raise InputError(path, f"does not say that {surplus[0]} is in {file}")
    for name, file in places.items():
        if name not in parts[file].shapes:
            raise InputError(path, f"says that {name} is in {file}, which does not have it")
    return Tensors(path, {name: parts[file].shapes[name] for name, file in places.items()}, lambda name: parts[places[name]].read(name),
                   files=[path, *(part.path for part in parts.values())])


def write_safetensors(file, config, table, read):
    """All weights of the table, each by read(name), and the configuration in the metadata."""
    kinds = {np.dtype("f8"): "F64", np.dtype("f4"): "F32"}
    arrays = {name: read(name) for name in table}
    header, here = {"__metadata__": {"format": "pt", CONFIG_KEY: json.dumps(config)}}, 0
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # so that each begins at a multiple of its elements' size
    for name in order:
        array = arrays[name]
        header[name] = dict(dtype=kinds[array.dtype], shape=list(array.shape), data_offsets=[here, here + array.nbytes])
        here += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        file.write(arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False).data)


# ---- model files ----------------------------------------------------------------------------------------------------------------------


def load_h5py():
    global h5py
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # a file must not make HDF5 load filters from this machine; read when HDF5 is loaded
    try:
        import h5py
    except ImportError as error:
        raise NoPackage(f"{sys.executable} cannot load h5py: {error}", "numpy", "h5py") from None


def open_model(path):
    """A model file, as docs/formats.md has it."""
    load_h5py()
    try:
        with h5py.File(path, "r") as file:
            config = model_attributes(path, file)
            table = model_config.weight_table(config)
            check_weights(path, file, table)
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # h5py has nearly all that there are for a damaged file
        raise InputError(path, f"cannot be read: {one_line(error)}") from None

    def load(name):
        try:
            with h5py.File(path, "r") as file:
                return file["weights"][name].astype("=f8" if file["weights"][name].dtype.itemsize == 8 else "=f4")[()]
        except MemoryError:
            raise
        except Exception as error:
            raise InputError(path, f"/weights/{name} cannot be read: {one_line(error)}") from None

    return Tensors(path, {name: weight.shape for name, weight in table.items()}, load, config)


def model_attributes(path, file):
    for name, wanted in (("format", FORMAT), ("format_version", FORMAT_VERSION)):
        if (found := attribute(file, name)) != wanted or isinstance(found, bool):
            raise InputError(path, f"attribute {name} is {model_config.show(found)}, must be {model_config.show(wanted)}")
    if not isinstance(file.get("weights"), h5py.Group):
        raise InputError(path, "/weights is missing or is not a group")
    config = {}
    try:
        config["architecture"] = model_config.checked(FIELDS["architecture"], attribute(file, "architecture"))
        for field in model_config.fields_of(config["architecture"]):
            value = attribute(file, field.name)
            config[field.name] = field.default if value is None and field.may_be_missing else model_config.checked(field, value)
        model_config.check(config)
    except model_config.ConfigError as error:
        raise InputError(path, f"attribute {error.field.name} is {error}") from None
    for field in FIELDS.values():
        if field.name not in config and field.name in file.attrs:
            raise InputError(path, f"attribute {field.name} belongs to {', '.join(field.owners)}, not to {config['architecture']}")
    if config["num_layers"] > len(file["weights"]):  # before a table of so many is made
        raise InputError(path, f"attribute num_layers is {config['num_layers']}, and /weights has {len(file['weights'])} datasets")
    return config


def attribute(file, name):
    """Its value as one of Python's, None if it is not there or is not a single value."""
    value = file.attrs.get(name)
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    value = value.item() if isinstance(value, (np.generic, np.ndarray)) and np.size(value) == 1 else value
    return value if isinstance(value, (str, int, float)) else None


def check_weights(path, file, table):
    group = file["weights"]
    if surplus := sorted(set(group) - set(table)):
        raise InputError(path, f"/weights/{surplus[0][:60]} is not a weight of this configuration")
    for name, weight in table.items():
        where = f"/weights/{name}"
        if name not in group:
            raise InputError(path, f"{where} is missing, the configuration needs it as {list(weight.shape)}")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink) or not isinstance(group[name], h5py.Dataset):
            raise InputError(path, f"{where} must be a dataset of its own, not a link or a group")
        dataset = group[name]
        if dataset.shape != weight.shape or dataset.dtype.kind != "f" or dataset.dtype.itemsize not in (4, 8):
            raise InputError(path, f"{where} is {list(dataset.shape or [])} of {dataset.dtype}, must be {list(weight.shape)} of float32 or "
                             "float64")
        if dataset.is_virtual or dataset.external or dataset.id.get_storage_size() == 0:
            raise InputError(path, f"{where} has no elements in this file")


def write_model(file, config, table, read):
    """All weights of the table, each by read(name). Made in memory and written as a whole: on a full disk HDF5 itself would crash."""
    load_h5py()
    with h5py.File("image", "w", driver="core", block_size=2**24, backing_store=False) as image:
        image.attrs["format"], image.attrs["format_version"] = FORMAT, np.int64(FORMAT_VERSION)
        for field in model_config.fields_of(config["architecture"]):
            value = config[field.name]
            image.attrs[field.name] = value if field.kind is str else {int: np.int64, float: np.float64}[field.kind](value)
        group = image.create_group("weights")
        for name in table:
            group[name] = read(name)
        image.flush()
        file.write(image.id.get_file_image())
