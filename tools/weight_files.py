"""Files of weights: PyTorch's, safetensors, and model files of bsbr. Used by convert_weights.py and perf/compare_with_peers.py.

Nothing in a file is believed before it is checked, and nothing is unpickled but tensors. safetensors are read and written here, not by
their own library: that one is missing in Debian 12, has no NumPy type for bfloat16, and a header in JSON is all there is to the format.
"""
import contextlib
import json
import math
import os
import pickle

os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # a file must not make HDF5 load filters from this machine; read when HDF5 is loaded

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import model_config  # noqa: E402

FORMAT, FORMAT_VERSION = "bsbr-model", 1
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
CONFIG_KEY = "bsbr_config"  # in the metadata of the safetensors that are written here: the configuration, as JSON

# What safetensors call a type -> bytes of one number; and those that weights may have, as NumPy reads them.
SAFETENSORS_TYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1,
                     "BOOL": 1, "F8_E5M2": 1, "F8_E4M3": 1, "C64": 8}
REALS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
LARGEST_HEADER = 100_000_000  # as safetensors itself has it


class InputError(Exception):
    """A file cannot be used: which, what, value and rule, and what may help."""

    def __init__(self, path, message, hint=None):
        super().__init__(f"{path}: {message}")
        self.hint = hint


class NoTorch(Exception):
    """PyTorch is needed and cannot be loaded."""


class Tensors:
    """The tensors of a file: `shapes` by name, and the numbers of one of them at a time."""

    def __init__(self, path, shapes, load, config=None, beside=()):
        self.path, self.shapes, self._load = path, shapes, load
        self.config = config  # the configuration that the file holds, if it does
        self.beside = beside  # what else the file holds

    def read(self, name):
        """float32 or float64, in C order; half precision becomes float32. InputError unless all numbers are finite."""
        array = self._load(name)
        finite = np.isfinite(array)
        if not finite.all():
            place = [int(index) for index in np.argwhere(~finite)[0]]
            raise InputError(self.path, f"{name} {place} is {array[tuple(place)]}, weights are finite numbers")
        return np.ascontiguousarray(array)


def open_tensors(path):
    """The Tensors of a file of any kind, by its content, not by its name."""
    with reading(path):
        if os.path.isdir(path):
            raise InputError(path, "is a folder, must be a file", "of a model that transformers has saved, name model.safetensors in it")
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
    if start.lstrip()[:1] == b"{":
        return open_index(path)
    raise InputError(path, "is neither a file of PyTorch nor of safetensors nor a model file")


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
    with reading(path), open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except (ValueError, RecursionError) as error:
            raise InputError(path, f"is not JSON: {error}") from None


# ---- PyTorch --------------------------------------------------------------------------------------------------------------------------

WRAPPERS = ("state_dict", "model_state_dict", "model")  # where trainers put the state_dict among other things


def open_torch(path):
    try:
        import torch
    except (ImportError, OSError) as error:
        raise NoTorch(f"{path}: is a file of PyTorch, which cannot be loaded: {error}") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(path, "holds more than tensors, and other things are not unpickled, since that could run any code",
                         "torch.save(model.state_dict(), FILE) makes a file that can be read") from None
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # torch has nearly all that there are for a damaged file
        raise InputError(path, f"is not a whole file of torch.save: {' '.join(str(error).split())[:200]}") from None
    tensors, beside = state_dict(path, content, torch)

    def load(name):
        tensor = tensors[name].detach()
        if tensor.layout != torch.strided or tensor.dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            raise InputError(path, f"{name} is {tensor.layout} of {tensor.dtype}, weights are dense, of float64, 32, 16 or bfloat16")
        return (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()

    return Tensors(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, load, beside=beside)


def state_dict(path, content, torch):
    """The tensors by name, and the names of what lies beside them."""
    def is_state_dict(value):
        return isinstance(value, dict) and value and all(isinstance(item, torch.Tensor) for item in value.values())

    if is_state_dict(content):
        return {str(name): tensor for name, tensor in content.items()}, ()
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and is_state_dict(content.get(wrapper)):
            beside = sorted(str(name) for name in content if name != wrapper)
            return {str(name): tensor for name, tensor in content[wrapper].items()}, beside
    raise InputError(path, f"holds no tensors by name, neither itself nor as one of {', '.join(WRAPPERS)}",
                     "torch.save(model.state_dict(), FILE) makes a file that can be read")


# ---- safetensors ----------------------------------------------------------------------------------------------------------------------


def open_safetensors(path):
    """8 bytes with the length of a header, the header in JSON, the numbers. The whole header is checked before anything is read."""
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
            raise InputError(path, f"{name} holds {kind}, weights are {', '.join(REALS)}")
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
    if not isinstance(kind, str) or kind not in SAFETENSORS_TYPES:
        raise InputError(path, f"{name} has dtype {str(kind)[:40]!r}, known are {', '.join(SAFETENSORS_TYPES)}")
    if not all(type(number) is int and 0 <= number < 2**63 for number in (*shape, begin, end)):
        raise InputError(path, f"{name} has a shape or offset that is no size")
    if end - begin != (size := math.prod(shape) * SAFETENSORS_TYPES[kind]):
        raise InputError(path, f"{name} is {list(shape)} of {kind} in {end - begin} bytes, must be {size}")
    return kind, shape, (begin, end)


def check_offsets(path, entries, size):
    """The tensors lie one after the other and fill the file."""
    here = 0
    for begin, end, name in sorted((*offsets, name) for name, (_, _, offsets) in entries.items()):
        if begin != here:
            raise InputError(path, f"{name} begins at byte {begin} of the numbers, must be {here}")
        here = end
    if here != size:
        raise InputError(path, f"has {size} bytes of numbers, the header says {here}", "the file may be cut off" if size < here else None)


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
        parts[file] = open_tensors(os.path.join(os.path.dirname(path), file))
        if surplus := sorted(name for name in parts[file].shapes if places.get(name) != file):
            raise InputError(path, f"does not say that {surplus[0]} is in {file}")
    for name, file in places.items():
        if name not in parts[file].shapes:
            raise InputError(path, f"says that {name} is in {file}, which does not have it")
    return Tensors(path, {name: parts[file].shapes[name] for name, file in places.items()}, lambda name: parts[places[name]].read(name))


def write_safetensors(file, config, table, read):
    """All weights of the table, each by read(name), and the configuration in the metadata."""
    kinds = {np.dtype("f8"): "F64", np.dtype("f4"): "F32"}
    arrays = {name: read(name) for name in table}
    header, here = {"__metadata__": {"format": "pt", CONFIG_KEY: json.dumps(config)}}, 0
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)  # so that each begins at a multiple of its numbers' size
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


def open_model(path):
    """A model file, as docs/formats.md has it."""
    try:
        with h5py.File(path, "r") as file:
            config = model_attributes(path, file)
            table = model_config.weight_table(config)
            check_weights(path, file, table)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # h5py has all of these for a damaged file
        raise InputError(path, f"cannot be read: {' '.join(str(error).split())[:200]}") from None

    def load(name):
        try:
            with h5py.File(path, "r") as file:
                return file["weights"][name].astype("=f8" if file["weights"][name].dtype.itemsize == 8 else "=f4")[()]
        except (OSError, RuntimeError, TypeError) as error:
            raise InputError(path, f"/weights/{name} cannot be read: {' '.join(str(error).split())[:200]}") from None

    return Tensors(path, {name: weight.shape for name, weight in table.items()}, load, config)


def model_attributes(path, file):
    for name, wanted in (("format", FORMAT), ("format_version", FORMAT_VERSION)):
        if (found := attribute(file, name)) != wanted:
            raise InputError(path, f"attribute {name} is {model_config.show(found)}, must be {model_config.show(wanted)}")
    if not isinstance(file.get("weights"), h5py.Group):
        raise InputError(path, "/weights is missing or is not a group")
    fields, config = model_config.FIELDS, {}
    try:
        config["architecture"] = model_config.checked(fields["architecture"], attribute(file, "architecture"))
        for field in model_config.fields_of(config["architecture"]):
            value = attribute(file, field.name)
            if field.kind is int and isinstance(value, float) and value.is_integer():
                value = int(value)
            config[field.name] = field.default if value is None and field.name == "dropout" else model_config.checked(field, value)
        model_config.check(config)
    except model_config.ConfigError as error:
        raise InputError(path, f"attribute {error.field.name} is {error}") from None
    for field in model_config.FIELDS.values():
        if field.name not in config and field.name in file.attrs:
            raise InputError(path, f"attribute {field.name} belongs to {field.owner}, not to {config['architecture']}")
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
            raise InputError(path, f"{where} has no numbers in this file")


def write_model(file, config, table, read):
    """All weights of the table, each by read(name). Made in memory and written as a whole: on a full disk HDF5 itself would crash."""
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
