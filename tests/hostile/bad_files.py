"""Crafted bad files, each with one thing wrong: models, tokens and results for bsbr_forward, comparisons for tools/analyze_results.py.

Each is a function here, listed with the name of the file, and with words that the one error line must hold. They are made from small valid
files (valid_files.py), with h5py where that can write such a thing, and else by changing bytes at places that are found by what stands
around them. Nothing is random. All must be refused: exit code 3, one line.
"""
import dataclasses
import json
import os
import shutil
import struct
import typing

import h5py
import numpy as np

from valid_files import MODEL, TOKENS

COMPARISON = "comparison"
Q = "weights/layers.0.attention.q_proj.weight"
BIAS = "weights/layers.0.attention.q_proj.bias"
IDS, MASK = "inputs/input_ids", "inputs/attention_mask"
UNDEFINED = b"\xff" * 8
FIFO = "pipe"  # beside the bad files: who opens it waits for ever


@dataclasses.dataclass
class Bad:
    name: str
    kind: str  # how it is read
    says: typing.Sequence[str]  # words of the error line
    make: typing.Callable  # (valid files by name, path) -> None
    dataset: str = ""  # of tokens: what follows the colon


TABLE = []


def bad(name, kind, says, make, dataset=""):
    TABLE.append(Bad(name, kind, [says] if isinstance(says, str) else says, make, dataset))


# ---- ways to make one ----


def edited(source, change):
    """A copy of a valid file, changed through h5py."""

    def make(valid, path):
        shutil.copy(valid[source], path)
        with h5py.File(path, "r+") as file:
            change(file)

    return make


def new(fill, version="earliest"):
    def make(_, path):
        with h5py.File(path, "w", libver=version) as file:
            fill(file)

    return make


def patched(source, change):
    """A valid file whose bytes, a bytearray, are changed; what `change` returns, if anything, takes their place."""

    def make(valid, path):
        with open(valid[source], "rb") as file:
            content = bytearray(file.read())
        changed = change(content)
        with open(path, "wb") as file:
            file.write(content if changed is None else changed)

    return make


def raw(content):
    def make(_, path):
        with open(path, "wb") as file:
            file.write(content)

    return make


def put(offset, value):
    """Bytes at a place that all versions of the format have where it is."""

    def change(content):
        content[offset : offset + len(value)] = value

    return change


def after(signature, offset, value, number=0):
    """Bytes at `offset` from the number-th place where a block with this signature begins."""

    def change(content):
        at = -1
        for _ in range(number + 1):
            at = content.index(signature, at + 1)
        content[at + offset : at + offset + len(value)] = value

    return change


def at_object(path, offset, value):
    """Bytes at `offset` from the header of an object."""

    def make(valid, source, target):
        with h5py.File(valid[source]) as file:
            header = h5py.h5o.get_info(file[path].id).addr
        patched(source, put(header + offset, value))(valid, target)

    return make


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


# ---- models: attributes ----

GOOD = "model_earliest_contiguous.h5"
LATEST = "model_latest_contiguous.h5"
DEFLATED = "model_earliest_deflated.h5"


def attribute(name, value, kind=None):
    def change(file):
        if name in file.attrs:
            del file.attrs[name]
        file.attrs.create(name, value, dtype=kind)

    return edited(GOOD, change)


def without(name):
    return edited(GOOD, lambda file: file.attrs.__delitem__(name))


def attribute_of_type(name, kind):
    """An attribute of one value of an HDF5 type that h5py has no Python type for."""

    def change(file):
        del file.attrs[name]
        h5py.h5a.create(file.id, name.encode(), kind, h5py.h5s.create(h5py.h5s.SCALAR))

    return edited(GOOD, change)


bad("format_missing.h5", MODEL, "format", without("format"))
bad("format_other.h5", MODEL, ["format", "bsbr-tokens"], attribute("format", "bsbr-tokens"))
bad("format_number.h5", MODEL, "format", attribute("format", 7))
bad("format_list.h5", MODEL, ["format", "2 values"], attribute("format", ["bsbr-model", "bsbr-model"]))
bad("format_long.h5", MODEL, "format", attribute("format", "bsbr-model" * 6000))
bad("format_fixed_long.h5", MODEL, ["format", "66000 bytes"],
    new(lambda file: file.attrs.create("format", np.bytes_(b"bsbr-model" * 6600)), "latest"))
bad("format_control_characters.h5", MODEL, r"\x1b[2J\n", attribute("format", "\x1b[2J\nbsbr-model"))
bad("version_missing.h5", MODEL, "format_version", without("format_version"))
bad("version_next.h5", MODEL, ["format_version", "2"], attribute("format_version", 2))
bad("version_text.h5", MODEL, "format_version", attribute("format_version", "1"))
bad("version_largest.h5", MODEL, "format_version", attribute("format_version", (1 << 64) - 1, "u8"))
bad("architecture_missing.h5", MODEL, "architecture", without("architecture"))
bad("architecture_unknown.h5", MODEL, ["architecture", "perceptron"], attribute("architecture", "perceptron"))
bad("architecture_number.h5", MODEL, "architecture", attribute("architecture", 0))
bad("architecture_empty.h5", MODEL, "architecture", attribute("architecture", ""))
bad("architecture_other.h5", MODEL, "compression_factor", attribute("architecture", "standard"))
bad("hidden_dim_missing.h5", MODEL, "hidden_dim", without("hidden_dim"))
bad("hidden_dim_null.h5", MODEL, ["hidden_dim", "0 values"], attribute("hidden_dim", h5py.Empty("i8")))
bad("hidden_dim_list.h5", MODEL, ["hidden_dim", "2 values"], attribute("hidden_dim", [4, 4]))
bad("hidden_dim_text.h5", MODEL, "hidden_dim", attribute("hidden_dim", "4"))
bad("hidden_dim_half.h5", MODEL, ["hidden_dim", "4.5"], attribute("hidden_dim", 4.5))
bad("hidden_dim_nan.h5", MODEL, ["hidden_dim", "nan"], attribute("hidden_dim", float("nan")))
bad("hidden_dim_infinite.h5", MODEL, ["hidden_dim", "inf"], attribute("hidden_dim", float("inf")))
bad("hidden_dim_zero.h5", MODEL, ["hidden_dim", "0"], attribute("hidden_dim", 0))
bad("hidden_dim_negative.h5", MODEL, ["hidden_dim", "-4"], attribute("hidden_dim", -4))
bad("hidden_dim_other.h5", MODEL, "[16, 8]", attribute("hidden_dim", 8))
bad("hidden_dim_large.h5", MODEL, "1048576", attribute("hidden_dim", 1 << 20))
bad("hidden_dim_largest.h5", MODEL, "parameters", attribute("hidden_dim", 1 << 30))
bad("hidden_dim_unsigned.h5", MODEL, "hidden_dim", attribute("hidden_dim", (1 << 64) - 1, "u8"))
bad("hidden_dim_record.h5", MODEL, ["hidden_dim", "records"], attribute("hidden_dim", np.array((1, 2), "i4,i4")))
bad("hidden_dim_array.h5", MODEL, ["hidden_dim", "arrays"],
    attribute_of_type("hidden_dim", h5py.h5t.array_create(h5py.h5t.STD_I64LE, (16,))))
bad("hidden_dim_variable.h5", MODEL, ["hidden_dim", "lists"], attribute_of_type("hidden_dim", h5py.h5t.vlen_create(h5py.h5t.STD_I64LE)))
bad("hidden_dim_reference.h5", MODEL, ["hidden_dim", "references"], attribute_of_type("hidden_dim", h5py.h5t.STD_REF_OBJ))
bad("vocab_size_large.h5", MODEL, ["vocab_size", "above"], attribute("vocab_size", 1 << 62))
bad("vocab_size_other.h5", MODEL, "[1073741824, 4]", attribute("vocab_size", 1 << 30))
bad("num_layers_more.h5", MODEL, "layers.1.", attribute("num_layers", 2))
bad("num_layers_most.h5", MODEL, "layers.1.", attribute("num_layers", 65536))
bad("num_layers_zero.h5", MODEL, "num_layers", attribute("num_layers", 0))
bad("num_heads_zero.h5", MODEL, "num_heads", attribute("num_heads", 0))
bad("num_heads_three.h5", MODEL, ["num_heads", "3"], attribute("num_heads", 3))
bad("ff_dim_large.h5", MODEL, "ff.0.weight", attribute("ff_dim", 1 << 30))
bad("chunk_size_zero.h5", MODEL, "chunk_size", attribute("chunk_size", 0))
bad("dropout_nan.h5", MODEL, "dropout", attribute("dropout", float("nan")))
bad("head_unknown.h5", MODEL, ["head", "two"], attribute("head", "two"))
bad("head_without_weight.h5", MODEL, "lm_head.weight", attribute("head", "separate"))
bad("compression_factor_large.h5", MODEL, "compression_factor", attribute("compression_factor", 5))
bad("compression_factor_two.h5", MODEL, "compress_proj", attribute("compression_factor", 2))
bad("causality_unknown.h5", MODEL, "causality", attribute("causality", "acausal"))
bad("beta_foreign.h5", MODEL, ["beta", "delta_net"], attribute("beta", 0.5))

# ---- models: the group of weights, and links ----


def replaced(name, replacement, source=GOOD):
    """`replacement`: what h5py takes as an object's content, or a function that makes it."""

    def change(file):
        if name in file:
            del file[name]
        if callable(replacement):
            replacement(file)
        else:
            file[name] = replacement

    return edited(source, change)


def nothing(_):
    pass


def many_links(file):
    for number in range(5000):
        file["weights/surplus%d" % number] = h5py.SoftLink("/nowhere")


bad("weights_missing.h5", MODEL, "/weights", replaced("weights", nothing))
bad("weights_dataset.h5", MODEL, "/weights", replaced("weights", np.zeros(3)))
bad("weights_type.h5", MODEL, "/weights", replaced("weights", np.dtype("f4")))
bad("weights_soft_link.h5", MODEL, ["/weights", "soft link"], replaced("weights", h5py.SoftLink("/")))
bad("weights_external_link.h5", MODEL, ["/weights", "external link"], replaced("weights", h5py.ExternalLink(FIFO, "/weights")))
bad("weights_root.h5", MODEL, "embedding.weight", edited(GOOD, lambda file: [file.__delitem__("weights"), file.__setitem__("weights", file["/"])]))
bad("weights_within_themselves.h5", MODEL, "within", edited(GOOD, lambda file: file.__setitem__("weights/within", file["weights"])))
bad("weights_many_more.h5", MODEL, "surplus", edited(GOOD, many_links))
bad("weight_surplus.h5", MODEL, "s_proj", replaced("weights/layers.0.attention.s_proj.weight", np.zeros(3, "f4")))
bad("weight_control_characters.h5", MODEL, r"\x1b[31m\n", replaced("weights/\x1b[31m\nerror", np.zeros(3, "f4")))
bad("weight_long_name.h5", MODEL, "nnnnnnnnnn", replaced("weights/" + "n" * 60000, np.zeros(3, "f4")))
bad("weight_missing.h5", MODEL, "q_proj.weight", replaced(Q, nothing))
bad("weight_group.h5", MODEL, "q_proj.weight", replaced(Q, lambda file: file.create_group(Q)))
bad("weight_soft_link.h5", MODEL, ["q_proj.weight", "soft link"], replaced(Q, h5py.SoftLink("/weights/layers.0.attention.k_proj.weight")))
bad("weight_soft_link_to_itself.h5", MODEL, ["q_proj.weight", "soft link"], replaced(Q, h5py.SoftLink("/" + Q)))
bad("weight_external_link.h5", MODEL, ["q_proj.weight", "external link"], replaced(Q, h5py.ExternalLink(FIFO, "/" + Q)))
bad("weight_external_link_to_itself.h5", MODEL, ["q_proj.weight", "external link"],
    replaced(Q, h5py.ExternalLink("weight_external_link_to_itself.h5", "/" + Q)))

# ---- models: datasets ----

SQUARE = np.ones((4, 4), "f4")


def dataset(data=None, name=Q, **how):
    return replaced(name, lambda file: file.create_dataset(name, data=data, **how))


def typed(kind, shape=(4, 4), name=Q):
    """A dataset of an HDF5 type that h5py has no Python type for."""
    return replaced(name, lambda file: h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape)))


def unusual_float():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind


def virtual(source, name=Q, shape=(4, 4), kind="f4"):
    def make(file):
        layout = h5py.VirtualLayout(shape=shape, dtype=kind)
        layout[:] = h5py.VirtualSource(source, name, shape=shape)
        file.create_virtual_dataset(name, layout)

    return replaced(name, make)


def filtered(number, *values):
    """Stored by a filter that nobody has: optional, so that the library takes it."""

    def make(file):
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((4, 4))
        creation.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
        created = h5py.h5d.create(file.id, Q.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4, 4)), creation)
        created.write(h5py.h5s.ALL, h5py.h5s.ALL, SQUARE)

    return replaced(Q, make)


def chunk_written(mask, content, shape=(4, 4), kind="f4", name=Q, **how):
    """A chunked dataset whose one stored chunk has these bytes, whatever its filters would have made."""

    def make(file):
        made = file.create_dataset(name, shape, kind, **{"chunks": shape, **how})
        made.id.write_direct_chunk((0,) * len(shape), content, mask)

    return replaced(name, make)


def never_written(shape, kind, name=Q, **how):
    return replaced(name, lambda file: file.create_dataset(name, shape, kind, **how))


def with_number(value, kind="f4"):
    data = SQUARE.astype(kind)
    data[2, 1] = value
    return dataset(data)


bad("weight_shape.h5", MODEL, ["q_proj.weight", "[4, 3]"], dataset(SQUARE[:, :3]))
bad("weight_scalar.h5", MODEL, "q_proj.weight", dataset(np.float32(1)))
bad("weight_null.h5", MODEL, "q_proj.weight", dataset(h5py.Empty("f4")))
bad("weight_no_numbers.h5", MODEL, "q_proj.weight", dataset(np.zeros((0, 4), "f4")))
bad("weight_flat.h5", MODEL, ["q_proj.weight", "[16]"], dataset(SQUARE.ravel()))
bad("weight_32_dimensions.h5", MODEL, "q_proj.weight", dataset(SQUARE.reshape((4, 4) + (1,) * 30)))
bad("weight_integers.h5", MODEL, ["q_proj.weight", "integers"], dataset(SQUARE.astype("i4")))
bad("weight_half.h5", MODEL, ["q_proj.weight", "16-bit"], dataset(SQUARE.astype("f2")))
bad("weight_long_double.h5", MODEL, "q_proj.weight", dataset(SQUARE.astype("f16")))
bad("weight_complex.h5", MODEL, ["q_proj.weight", "records"], dataset(SQUARE.astype("c8")))
bad("weight_text.h5", MODEL, ["q_proj.weight", "text"], dataset(np.full((4, 4), b"1.0")))
bad("weight_variable_text.h5", MODEL, ["q_proj.weight", "text"], dataset(np.full((4, 4), "1.0", object), dtype=h5py.string_dtype()))
bad("weight_lists.h5", MODEL, ["q_proj.weight", "lists"], typed(h5py.h5t.vlen_create(h5py.h5t.IEEE_F32LE)))
bad("weight_arrays.h5", MODEL, ["q_proj.weight", "arrays"], typed(h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (4,)), (4,)))
bad("weight_references.h5", MODEL, ["q_proj.weight", "references"], typed(h5py.h5t.STD_REF_OBJ))
bad("weight_opaque.h5", MODEL, "q_proj.weight", dataset(SQUARE.view("V4")))
bad("weight_unusual_float.h5", MODEL, ["q_proj.weight", "unusual"], typed(unusual_float()))
bad("weight_nan.h5", MODEL, ["q_proj.weight", "[2, 1]", "nan"], with_number(np.nan))
bad("weight_infinite.h5", MODEL, ["q_proj.weight", "[2, 1]", "-inf"], with_number(-np.inf))
bad("weight_too_large.h5", MODEL, ["q_proj.weight", "[2, 1]", "too large"], with_number(1e300, "f8"))
bad("weight_virtual.h5", MODEL, ["q_proj.weight", "virtual"], virtual(FIFO))
bad("weight_virtual_of_itself.h5", MODEL, ["q_proj.weight", "virtual"], virtual("."))
bad("weight_external_storage.h5", MODEL, ["q_proj.weight", "external storage"],
    replaced(Q, lambda file: file.create_dataset(Q, (4, 4), "f4", external=[(FIFO, 0, 64)])))
bad("weight_external_storage_absolute.h5", MODEL, ["q_proj.weight", "external storage"],
    replaced(Q, lambda file: file.create_dataset(Q, (4, 4), "f4", external=[("/etc/passwd", 0, 64)])))
bad("weight_lzf.h5", MODEL, ["q_proj.weight", "filter"], dataset(SQUARE, compression="lzf"))
bad("weight_unknown_filter.h5", MODEL, ["q_proj.weight", "filter", "32123"], filtered(32123))
bad("weight_never_written.h5", MODEL, "q_proj.weight", never_written((4, 4), "f4"))
bad("weight_no_chunk.h5", MODEL, "q_proj.weight", never_written((4, 4), "f4", chunks=(2, 2)))
bad("weight_one_chunk_of_four.h5", MODEL, "q_proj.weight", chunk_written(0, bytes(16), chunks=(2, 2)))
bad("weight_huge.h5", MODEL, "q_proj.weight", never_written((1 << 31, 1 << 30), "f4", chunks=(1024, 1024)))
bad("weight_overflows.h5", MODEL, "q_proj.weight", never_written(((1 << 62) + 4, 4), "f4", chunks=(1024, 4)))
bad("weight_huge_chunk.h5", MODEL, "q_proj.weight", never_written((4, 4), "f4", chunks=(1 << 14, 1 << 15), maxshape=(None, None)))
bad("weight_not_deflated.h5", MODEL, "q_proj.weight", chunk_written(0, b"not what deflate makes", compression="gzip"))
bad("weight_checksum.h5", MODEL, "q_proj.weight", chunk_written(0, bytes(64) + b"sum!", fletcher32=True))
bad("weight_chunk_without_filter.h5", MODEL, "has a chunk of 1 bytes, must be 64 at least", chunk_written(1, b"x", compression="gzip"))
bad("weight_chunk_without_checksum.h5", MODEL, "has a chunk of 3 bytes, must be 68 at least", chunk_written(0, b"sum", fletcher32=True))
bad("weight_short_chunk.h5", MODEL, "q_proj.weight", chunk_written(0, b"x\x9c\x03\x00\x00\x00\x00\x01", compression="gzip"))

# ---- models: bytes of the file format ----

SIGNATURE = b"\211HDF\r\n\032\n"

bad("empty.h5", MODEL, "empty", raw(b""))
bad("signature_cut.h5", MODEL, "truncated", raw(SIGNATURE[:5]))
bad("signature_alone.h5", MODEL, "truncated", raw(SIGNATURE))
bad("signature_after_block.h5", MODEL, "truncated", raw(bytes(512) + SIGNATURE))
bad("text.h5", MODEL, "not an HDF5 file", raw(b"this is no model\n" * 100))
bad("zeros.h5", MODEL, "not an HDF5 file", raw(bytes(1 << 16)))
bad("zip.h5", MODEL, "not an HDF5 file", raw(b"PK\x03\x04" + bytes(100)))
for numerator in (1, 2, 3):
    bad("cut_%d_quarters.h5" % numerator, MODEL, "truncated", patched(GOOD, lambda content, part=numerator: content[: len(content) * part // 4]))
bad("cut_last_byte.h5", MODEL, "truncated", patched(GOOD, lambda content: content[:-1]))
bad("cut_latest.h5", MODEL, "truncated", patched(LATEST, lambda content: content[:-100]))
bad("superblock_version.h5", MODEL, "superblock_version.h5", patched(GOOD, put(8, b"\xff")))
bad("superblock_offset_size_zero.h5", MODEL, "superblock_offset", patched(GOOD, put(13, b"\x00")))
bad("superblock_offset_size_large.h5", MODEL, "superblock_offset", patched(GOOD, put(13, b"\xff")))
bad("superblock_length_size_one.h5", MODEL, "superblock_length", patched(GOOD, put(14, b"\x01")))
bad("superblock_base.h5", MODEL, "superblock_base", patched(GOOD, put(24, u64(1 << 62))))
bad("superblock_end_beyond.h5", MODEL, "truncated", patched(GOOD, put(40, u64(1 << 62))))
bad("superblock_end_before.h5", MODEL, "superblock_end_before", patched(GOOD, put(40, u64(64))))
bad("superblock_root_undefined.h5", MODEL, "superblock_root", patched(GOOD, put(64, UNDEFINED)))
bad("superblock_root_beyond.h5", MODEL, "superblock_root", patched(GOOD, put(64, u64(1 << 40))))
bad("superblock_root_superblock.h5", MODEL, "superblock_root", patched(GOOD, put(64, u64(0))))
bad("superblock_checksum.h5", MODEL, "cannot be read", patched(LATEST, put(44, b"\x00\x00\x00\x00")))
bad("tree_signature.h5", MODEL, "tree_signature", patched(GOOD, after(b"TREE", 0, b"tree")))
bad("tree_level.h5", MODEL, "tree_level", patched(GOOD, after(b"TREE", 5, b"\xff")))
bad("tree_entries.h5", MODEL, "tree_entries", patched(GOOD, after(b"TREE", 6, b"\xff\xff")))
bad("tree_child_beyond.h5", MODEL, "tree_child", patched(GOOD, after(b"TREE", 32, u64(1 << 40))))
bad("nodes_signature.h5", MODEL, "nodes_signature", patched(GOOD, after(b"SNOD", 0, b"snod")))
bad("nodes_entries.h5", MODEL, "nodes_entries", patched(GOOD, after(b"SNOD", 6, b"\xff\xff")))
bad("heap_signature.h5", MODEL, "heap_signature", patched(GOOD, after(b"HEAP", 0, b"heap")))
bad("heap_size.h5", MODEL, "heap_size", patched(GOOD, after(b"HEAP", 8, u64(1 << 40))))
bad("heap_address.h5", MODEL, "heap_address", patched(GOOD, after(b"HEAP", 24, u64(1 << 40))))
bad("global_heap_signature.h5", MODEL, "cannot be read", patched(GOOD, after(b"GCOL", 0, b"gcol")))
bad("global_heap_beyond.h5", MODEL, "global heap", patched(GOOD, after(b"GCOL", 8, u64(1 << 40))))
bad("global_heap_small.h5", MODEL, "global heap", patched(GOOD, after(b"GCOL", 8, u64(64))))
bad("global_heap_object_beyond.h5", MODEL, "global heap", patched(GOOD, after(b"GCOL", 24, u64(1 << 20))))
bad("global_heap_object_wraps.h5", MODEL, "global heap", patched(GOOD, after(b"GCOL", 24, u64((1 << 64) - 16))))
bad("global_heap_without_end.h5", MODEL, "global heap", patched(GOOD, after(b"GCOL", 16, bytes(16))))  # free space of size 0
bad("text_narrower_than_its_place.h5", MODEL, ["format", "holds 8 bytes, must be 16"], patched(GOOD, after(b"format\0\0", 12, u32(8))))
bad("header_signature.h5", MODEL, "header_signature", patched(LATEST, after(b"OHDR", 0, b"ohdr")))
bad("header_checksum.h5", MODEL, "header_checksum", patched(LATEST, after(b"OHDR", 8, b"\x01\x02\x03\x04")))

# ---- tokens ----

SOME_IDS = np.arange(40) % 16


def ids(data, mask=None, **how):
    def fill(file):
        file.create_dataset(IDS, data=data, **how)
        if mask is not None:
            file[MASK] = mask

    return new(fill)


def filled(name, content, first=None):
    """A new token file with something under this name; `first`: ids to go with it."""

    def fill(file):
        if first is not None:
            file[IDS] = first
        file[name] = content

    return new(fill)


def declared(shape, kind, name=IDS, first=None, **how):
    def fill(file):
        if first is not None:
            file[IDS] = first
        file.create_dataset(name, shape, kind, **how)

    return new(fill)


def ids_of_type(kind):
    def fill(file):
        file.create_group("inputs")
        h5py.h5d.create(file.id, IDS.encode(), kind, h5py.h5s.create_simple((40,)))

    return new(fill)


def narrow_integers():
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(24)
    return kind


def virtual_ids(file):
    layout = h5py.VirtualLayout(shape=(40,), dtype="i8")
    layout[:] = h5py.VirtualSource(FIFO, IDS, shape=(40,))
    file.create_virtual_dataset(IDS, layout)


def half_written(file):
    file.create_dataset(IDS, (40,), "i8", chunks=(20,))[:20] = 1


def changed(place, value):
    data = SOME_IDS.reshape(2, 20).copy()
    data[place] = value
    return data


bad("ids_empty", TOKENS, "empty", raw(b""))
bad("ids_byte_too_large", TOKENS, ["byte 16", "[0, 3]"], raw(bytes([1, 2, 3, 16])))
bad("ids_signature_cut", TOKENS, "truncated", raw(SIGNATURE + bytes(4)))
bad("ids_text_dataset", TOKENS, "not an HDF5 file", raw(bytes(9)), "/inputs/input_ids")
bad("ids_missing.h5", TOKENS, "input_ids", new(nothing))
bad("ids_elsewhere.h5", TOKENS, "/elsewhere/ids", ids(SOME_IDS), "/elsewhere/ids")
bad("ids_above.h5", TOKENS, "..", ids(SOME_IDS), "/inputs/../inputs/input_ids")
bad("ids_beyond_dataset.h5", TOKENS, "not a group", ids(SOME_IDS), "/inputs/input_ids/more")
bad("ids_of_root.h5", TOKENS, "not a dataset", ids(SOME_IDS), "/")
bad("ids_negative.h5", TOKENS, ["-1", "[0, 7]"], ids(changed((0, 7), -1)))
bad("ids_vocab.h5", TOKENS, ["16", "[1, 19]"], ids(changed((1, 19), 16)))
bad("ids_largest.h5", TOKENS, "or more", ids(SOME_IDS.astype("u8") + np.uint64(2**64 - 40)))
bad("ids_32_bits_too_many.h5", TOKENS, str(1 << 32), ids(changed((0, 0), 1 << 32)))
bad("ids_real.h5", TOKENS, ["input_ids", "floating"], ids(SOME_IDS.astype("f4")))
bad("ids_booleans.h5", TOKENS, ["input_ids", "enumeration"], ids(SOME_IDS > 3))
bad("ids_text.h5", TOKENS, ["input_ids", "text"], ids(np.full(40, b"1")))
bad("ids_records.h5", TOKENS, ["input_ids", "records"], ids(np.zeros(40, "i4,i4")))
bad("ids_lists.h5", TOKENS, ["input_ids", "lists"], ids_of_type(h5py.h5t.vlen_create(h5py.h5t.STD_I32LE)))
bad("ids_24_bits.h5", TOKENS, "input_ids", ids_of_type(narrow_integers()))
bad("ids_three_dimensions.h5", TOKENS, "[2, 4, 5]", ids(SOME_IDS.reshape(2, 4, 5)))
bad("ids_scalar.h5", TOKENS, "input_ids", ids(3))
bad("ids_null.h5", TOKENS, "empty", ids(h5py.Empty("i8")))
bad("ids_no_numbers.h5", TOKENS, "empty", ids(SOME_IDS[:0]))
bad("ids_no_rows.h5", TOKENS, "empty", ids(np.zeros((0, 1 << 40), "i1"), chunks=(1, 16), maxshape=(None, 1 << 40)))
bad("ids_group.h5", TOKENS, "not a dataset", filled(IDS + "/more", SOME_IDS))
bad("ids_soft_link.h5", TOKENS, "soft link", filled(IDS, h5py.SoftLink("/ids")))
bad("ids_external_link.h5", TOKENS, "external link", filled(IDS, h5py.ExternalLink(FIFO, IDS)))
bad("inputs_soft_link_to_itself.h5", TOKENS, "soft link", filled("inputs", h5py.SoftLink("/inputs")))
bad("inputs_external_link.h5", TOKENS, "external link", filled("inputs", h5py.ExternalLink(FIFO, "/inputs")))
bad("ids_virtual.h5", TOKENS, "virtual", new(virtual_ids))
bad("ids_external_storage.h5", TOKENS, "external storage", declared((40,), "i8", external=[(FIFO, 0, 320)]))
bad("ids_huge.h5", TOKENS, "input_ids", declared((1 << 20, 1 << 40), "i8", chunks=(1, 1 << 16)))
bad("ids_never_written.h5", TOKENS, "none", declared((40,), "i8"))
bad("ids_fill_value_huge.h5", TOKENS, "none", declared((1 << 45,), "i1", chunks=(1 << 20,), fillvalue=1))
bad("ids_fill_value_small_chunks.h5", TOKENS, "none", declared((1 << 20,), "i1", chunks=(1,), fillvalue=1))
bad("ids_half_written.h5", TOKENS, ["2 chunks", "1 was never written", "[20]"], new(half_written))
bad("ids_lzf.h5", TOKENS, "filter", ids(SOME_IDS, compression="lzf"))
bad("mask_shape.h5", TOKENS, ["attention_mask", "[39]"], ids(SOME_IDS, np.ones(39, "i1")))
bad("mask_turned.h5", TOKENS, "attention_mask", ids(SOME_IDS.reshape(2, 20), np.ones((20, 2), "i1")))
bad("mask_real.h5", TOKENS, ["attention_mask", "floating"], ids(SOME_IDS, np.ones(40, "f4")))
bad("mask_two.h5", TOKENS, ["attention_mask", "2", "[0, 39]"], ids(SOME_IDS, np.where(np.arange(40) == 39, 2, 1)))
bad("mask_negative.h5", TOKENS, ["attention_mask", "-1"], ids(SOME_IDS, np.where(np.arange(40) == 3, -1, 1)))
bad("mask_group.h5", TOKENS, "attention_mask", filled(MASK + "/more", SOME_IDS, SOME_IDS))
bad("mask_soft_link.h5", TOKENS, ["attention_mask", "soft link"], filled(MASK, h5py.SoftLink("/inputs/input_ids"), SOME_IDS))
bad("mask_external_link.h5", TOKENS, ["attention_mask", "external link"], filled(MASK, h5py.ExternalLink(FIFO, MASK), SOME_IDS))
bad("mask_never_written.h5", TOKENS, "attention_mask", declared((40,), "i1", MASK, SOME_IDS))
bad("ids_tree_signature.h5", TOKENS, "ids_tree", patched("tokens_earliest_chunked.h5", after(b"TREE", 0, b"tree", 1)))
bad("ids_cut.h5", TOKENS, "truncated", patched("tokens_latest_deflated.h5", lambda content: content[: len(content) // 2]))

# ---- tokens in .npy files ----


def npy(header, data=b"", version=1, length=None):
    """`header`: a dictionary, or the text of one."""
    text = (header if isinstance(header, str) else repr(header)).encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return raw(b"\x93NUMPY" + bytes([version, 0]) + size + text + data)


def header(descr="<i4", shape=(2, 3), fortran_order=False):
    return dict(descr=descr, fortran_order=fortran_order, shape=shape)


DATA = bytes(24)
bad("npy_magic.npy", TOKENS, "truncated", raw(b"\x93NUMPY"))
bad("npy_version_0.npy", TOKENS, "version 0", npy(header(), DATA, version=0))
bad("npy_version_4.npy", TOKENS, "version 4", npy(header(), DATA, version=4))
bad("npy_length.npy", TOKENS, "truncated", npy(header(), DATA, length=60000))
bad("npy_length_largest.npy", TOKENS, "header of", npy(header(), DATA, version=2, length=(1 << 32) - 1))
bad("npy_no_header.npy", TOKENS, "not one of an array", npy("", DATA))
bad("npy_code.npy", TOKENS, "not one of an array", npy("__import__('os').system('true')", DATA))
bad("npy_not_closed.npy", TOKENS, "not one of an array", npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3", DATA))
bad("npy_open_text.npy", TOKENS, "not one of an array", npy("{'descr", DATA))
bad("npy_deep.npy", TOKENS, "not one of an array", npy("(" * 60000, DATA))
bad("npy_nested.npy", TOKENS, "not one of an array", npy("{'shape': ((2,), 3), 'descr': '<i4', 'fortran_order': False}", DATA))
bad("npy_more_keys.npy", TOKENS, "not one of an array", npy({**header(), "more": 1}, DATA))
bad("npy_control_characters.npy", TOKENS, r"\x1b[2J", npy("\x1b[2J", DATA))
bad("npy_real.npy", TOKENS, "floating-point", npy(header("<f4"), DATA))
bad("npy_complex.npy", TOKENS, "complex", npy(header("<c8"), DATA))
bad("npy_objects.npy", TOKENS, "Python objects", npy(header("|O"), DATA))
bad("npy_records.npy", TOKENS, "records", npy(header([("a", "<i4")]), DATA))
bad("npy_text.npy", TOKENS, "text", npy(header("<U1"), DATA))
bad("npy_3_bytes.npy", TOKENS, "<i3", npy(header("<i3"), DATA))
bad("npy_type_empty.npy", TOKENS, "elements of type", npy(header(""), DATA))
bad("npy_type_digits.npy", TOKENS, "elements of type", npy(header("<i99999999999999999999"), DATA))
bad("npy_scalar.npy", TOKENS, "0 dimensions", npy(header(shape=()), DATA))
bad("npy_three_dimensions.npy", TOKENS, "3 dimensions", npy(header(shape=(1, 2, 3)), DATA))
bad("npy_many_dimensions.npy", TOKENS, "10000 dimensions", npy(header(shape=(1,) * 10000), DATA))
bad("npy_empty.npy", TOKENS, "empty", npy(header(shape=(0, 1 << 62)), DATA))
bad("npy_negative.npy", TOKENS, "not one of an array", npy(header(shape=(-2, -3)), DATA))
bad("npy_extent_2_to_64.npy", TOKENS, "not one of an array", npy(header(shape=(1 << 64,)), DATA))
bad("npy_extent_2_to_62.npy", TOKENS, "more elements than", npy(header(shape=(1 << 62, 4)), DATA))
bad("npy_huge.npy", TOKENS, "truncated", npy(header(shape=(1 << 40,)), DATA))
bad("npy_cut.npy", TOKENS, ["truncated", "24 bytes", "23 bytes"], npy(header(), DATA[:-1]))
bad("npy_id_negative.npy", TOKENS, ["-1", "[0, 0]"], npy(header(), b"\xff" * 24))
bad("npy_columns.npy", TOKENS, ["17", "[0, 1]"], npy(header(fortran_order=True), struct.pack("<6i", 0, 1, 17, 2, 3, 4)))
bad("npy_as_model.npy", MODEL, "not an HDF5 file", npy(header(), DATA))
bad("npz.npz", TOKENS, "zip archive", raw(b"PK\3\4" + bytes(100)))
bad("pickle.pkl", TOKENS, "Python pickle", raw(b"\x80\4\x95" + bytes(100)))
bad("lfs.h5", TOKENS, "Git LFS pointer", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"))
bad("lfs_as_model.h5", MODEL, "Git LFS pointer", raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"))

# ---- results, given for what they are not ----


def result(change):
    return edited("result.h5", change)


bad("result_as_model.h5", MODEL, ["format", "bsbr-result"], result(nothing))
bad("result_as_tokens.h5", TOKENS, "input_ids", result(nothing))
bad("result_states_as_ids.h5", TOKENS, ["hidden_states", "floating"], result(nothing), "/hidden_states")
bad("result_called_model.h5", MODEL, "/weights", result(lambda file: file.attrs.__setitem__("format", "bsbr-model")))
bad("result_incomplete.h5", MODEL, ["format", "bsbr-result"], result(lambda file: file.attrs.__setitem__("complete", 0)))
bad("result_without_states.h5", TOKENS, "/hidden_states", result(lambda file: file.__delitem__("hidden_states")), "/hidden_states")
bad("result_external_link.h5", TOKENS, "external link",
    result(lambda file: [file.__delitem__("hidden_states"), file.__setitem__("hidden_states", h5py.ExternalLink(FIFO, "/x"))]), "/hidden_states")
bad("result_cut.h5", MODEL, "truncated", patched("result.h5", lambda content: content[:-1]))

# ---- comparisons ----


def comparison(change):
    """The example's data with something else in it."""

    def make(valid, path):
        with open(valid["comparison.json"], encoding="utf-8") as file:
            data = json.load(file)
        data = change(data) or data
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file)

    return make


def first_result(**fields):
    return comparison(lambda data: data["results"][0].update(fields))


bad("comparison_empty.json", COMPARISON, "not JSON", raw(b""))
bad("comparison_cut.json", COMPARISON, "not JSON", patched("comparison.json", lambda content: content[: len(content) // 2]))
bad("comparison_bytes.json", COMPARISON, "not JSON", raw(b"\xff\xfe\x00{"))
bad("comparison_deep.json", COMPARISON, "not JSON", raw(b"[" * 200000))
bad("comparison_digits.json", COMPARISON, "not JSON", raw(b'{"format_version": ' + b"9" * 100000 + b"}"))
bad("comparison_list.json", COMPARISON, "must be an object", raw(b"[1, 2]"))
bad("comparison_format.json", COMPARISON, "format", comparison(lambda data: data.update(format="bsbr-model")))
bad("comparison_version.json", COMPARISON, "format_version", comparison(lambda data: data.update(format_version=2)))
bad("comparison_version_true.json", COMPARISON, "format_version", comparison(lambda data: data.update(format_version=True)))
bad("comparison_results_text.json", COMPARISON, "results", comparison(lambda data: data.update(results="none")))
bad("comparison_result_null.json", COMPARISON, "results", comparison(lambda data: data.update(results=[None])))
bad("comparison_no_results.json", COMPARISON, "results", comparison(lambda data: data.update(results=[])))
bad("comparison_twice.json", COMPARISON, "twice", comparison(lambda data: data["results"].append(data["results"][0])))
bad("comparison_length.json", COMPARISON, "length", first_result(seq_length=1 << 60))
bad("comparison_seconds_nan.json", COMPARISON, "seconds", first_result(seconds=float("nan")))
bad("comparison_seconds_negative.json", COMPARISON, "seconds", first_result(seconds=-1))
bad("comparison_seconds_huge.json", COMPARISON, "seconds", first_result(seconds=1e300))
bad("comparison_seconds_text.json", COMPARISON, "seconds", first_result(seconds="1"))
bad("comparison_config_list.json", COMPARISON, "config", first_result(config=[1]))


def make(folder, valid):
    """Writes all of them into the folder, and the pipe that some of them point to. `valid`: paths of valid files by name."""
    if not os.path.exists(os.path.join(folder, FIFO)):
        os.mkfifo(os.path.join(folder, FIFO))
    for entry in TABLE:
        entry.make(valid, os.path.join(folder, entry.name))
