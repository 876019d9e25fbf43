"""Whatever is wrong is an exception, with the text that the C++ library and its programs have for it."""

from __future__ import annotations

import builtins
import copy
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any, Callable

import h5py
import numpy as np
import pytest
from golden_cases import Case

import bsbr_hpc

PROGRAMS = Path(os.environ.get("BSBR_PROGRAMS", Path(__file__).resolve().parents[2] / "build" / "release" / "apps"))


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.read("bsbr_mask_right")


@pytest.fixture(scope="module")
def model(case: Case) -> bsbr_hpc.Model:
    return bsbr_hpc.Model.load(case.path)


def error_of(call: Callable[[], Any], kind: type[Exception]) -> Any:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return caught.value


@pytest.mark.parametrize(
    ("fields", "text", "hint"),
    [
        ({"num_heads": 7}, "num_heads = 7 does not divide hidden_dim = 512", "hidden_dim = 512 can have 4 or 8 heads"),
        ({"chunk_size": 0}, "chunk_size = 0 is below 1", ""),
        ({"dropout": float("nan")}, "dropout = nan is not a number", ""),
        ({"window_size": 8}, "window_size belongs to sliding_window, the architecture is bsbr", ""),
        ({"causality": "none"}, "causality is 'none', which this library does not know",
         "known are causal, block_causal, bidirectional, reference"),
        ({"causality": 1}, "causality is 1, which is not a name", "known are causal, block_causal, bidirectional, reference"),
        ({"hidden_dim": 1.5}, "hidden_dim is 1.5, which is not a whole number", ""),
        ({"hidden_dim": float("nan")}, "hidden_dim is nan, which is not a whole number", ""),
        ({"hidden_dim": float("inf")}, "hidden_dim is inf, which is not a whole number", ""),
        ({"hidden_dim": "8"}, "hidden_dim is '8', which is not a whole number", ""),
        ({"chunk_size": True}, "chunk_size is True, which is not a whole number", ""),
        ({"num_layers": np.True_}, f"num_layers is {np.True_!r}, which is not a whole number", ""),
        ({"dropout": False}, "dropout is False, which is not a number", ""),
        ({"hidden_dim": 1e300}, "hidden_dim is 1e+300, which is out of range", ""),
        ({"hidden_dim": 1 << 70}, "hidden_dim is 1180591620717411303424, which is out of range", ""),
        ({"dropout": "much"}, "dropout is 'much', which is not a number", ""),
        ({"layers": 3}, "a configuration has no field layers", ""),
    ],
)
def test_a_configuration_that_no_model_has_is_refused(fields: dict[str, Any], text: str, hint: str) -> None:
    error = error_of(lambda: bsbr_hpc.ModelConfig(**fields), bsbr_hpc.ConfigError)
    assert (str(error), error.hint) == (text, hint)
    error = error_of(lambda: bsbr_hpc.Model(fields, {}), bsbr_hpc.ConfigError)
    assert (str(error), error.hint) == (text, hint)


@pytest.mark.parametrize("eight", [8, 8.0, np.int8(8), np.uint64(8), np.float32(8), np.float64(8)])
@pytest.mark.parametrize("field", ["vocab_size", "hidden_dim", "num_layers", "num_heads", "ff_dim", "chunk_size", "compression_factor"])
def test_whole_numbers_are_taken_as_any_type_of_number(case: Case, field: str, eight: Any) -> None:
    assert getattr(bsbr_hpc.ModelConfig(**{field: eight}), field) == 8
    assert type(getattr(bsbr_hpc.ModelConfig().replace(**{field: eight}), field)) is int
    if field == "chunk_size":
        assert bsbr_hpc.Model.load(case.path, chunk_size=eight).config.chunk_size == 8


def test_configurations_can_be_pickled_and_copied() -> None:
    for config in (bsbr_hpc.ModelConfig(chunk_size=7), bsbr_hpc.ModelConfig(architecture="hopfield", temperature=0.1)):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            assert pickle.loads(pickle.dumps(config, protocol)) == config
        assert copy.deepcopy(config) == copy.copy(config) == config


def test_a_configuration_cannot_be_changed_but_replaced() -> None:
    config = bsbr_hpc.ModelConfig(architecture="gau", num_heads=1, hidden_dim=np.int64(64), dropout=0)
    assert config.hidden_dim == 64 and config.dropout == 0.0 and "causality" not in config.to_dict()
    with pytest.raises(AttributeError):
        config.hidden_dim = 32  # type: ignore[misc]
    other = config.replace(hidden_dim=32)
    assert other.hidden_dim == 32 and other != config and other.replace(hidden_dim=64) == config
    assert bsbr_hpc.ModelConfig(**config.to_dict()) == config and hash(other.replace(hidden_dim=64)) == hash(config)
    assert eval(repr(config), {"ModelConfig": bsbr_hpc.ModelConfig}) == config


@pytest.mark.parametrize(
    ("kind", "change", "text"),
    [
        (bsbr_hpc.Error, lambda w: w.pop("layer_norm.bias"), "layer_norm.bias is missing, the configuration needs it as [12]"),
        (bsbr_hpc.Error, lambda w: w.update(other=w["layer_norm.bias"]), "other is not a weight of this configuration"),
        (bsbr_hpc.ShapeError, lambda w: w.update({"layer_norm.bias": np.zeros((12, 1))}),
         "layer_norm.bias is [12, 1], the configuration needs [12]"),
        (bsbr_hpc.Error, lambda w: w["embedding.weight"].__setitem__((3, 5), np.nan),
         "embedding.weight [3, 5] is nan, weights are finite numbers"),
        (bsbr_hpc.Error, lambda w: w.update({"layer_norm.bias": np.full(12, 1e300)}),
         "layer_norm.bias [0] is 1e+300, too large for float"),
        (TypeError, lambda w: w.update({"layer_norm.bias": np.zeros(12, "i4")}),
         "layer_norm.bias is of int32, weights are float64, 32, 16 or bfloat16"),
        (TypeError, lambda w: w.update({"layer_norm.bias": None}),
         "layer_norm.bias is of object, weights are float64, 32, 16 or bfloat16"),
    ],
)
def test_weights_that_the_configuration_does_not_call_for_are_refused(
    case: Case, kind: type[Exception], change: Callable[[dict[str, np.ndarray]], None], text: str
) -> None:
    weights = case.weights()
    change(weights)
    assert str(error_of(lambda: bsbr_hpc.Model(case.config, weights), kind)) == text


@pytest.mark.parametrize(
    ("kind", "ids", "text"),
    [
        (bsbr_hpc.ShapeError, [[1, 2], [3, 31]], "ids[1, 1] = 31, must be 0 to 30"),
        (bsbr_hpc.ShapeError, [1, -1, 31, 2], "ids[0, 1] = -1, must be 0 to 30; 1 more are outside"),
        (bsbr_hpc.ShapeError, np.array([1, 1 << 32, -(1 << 40)]), "ids[0, 1] = 4294967296, must be 0 to 30; 1 more are outside"),
        (bsbr_hpc.ShapeError, np.array([1, (1 << 64) - 1], "u8"), "ids[0, 1] = 18446744073709551615, must be 0 to 30"),
        (bsbr_hpc.ShapeError, [1, 1 << 70], "ids[0, 1] = 1180591620717411303424, must be 0 to 30"),
        (bsbr_hpc.ShapeError, [], "ids are empty"),
        (bsbr_hpc.ShapeError, [[], []], "ids are empty"),
        (bsbr_hpc.ShapeError, [[1, 2], [3]], "ids are lists of different lengths"),
        (bsbr_hpc.ShapeError, np.zeros((1, 2, 3), int), "ids are [1, 2, 3], must be [tokens] or [batch, tokens]"),
        (bsbr_hpc.ShapeError, 5, "ids are [], must be [tokens] or [batch, tokens]"),
        (TypeError, [0.5], "ids must be integers, not float64"),
        (TypeError, np.zeros(0), "ids must be integers, not float64"),
        (TypeError, [True], "ids must be integers, not bool"),
        (TypeError, "text", "ids must be integers, not str: the vocabulary is of 31 ids, not of the 256 bytes"),
        (TypeError, [b"some", b"text"], "ids must be integers, not bytes: the vocabulary is of 31 ids, not of the 256 bytes"),
        (TypeError, None, "ids must be integers, not NoneType"),
        (TypeError, [None], "ids must be integers, not object"),
    ],
)
def test_ids_that_are_none_are_refused(model: bsbr_hpc.Model, kind: type[Exception], ids: Any, text: str) -> None:
    assert str(error_of(lambda: model.forward(ids), kind)) == text


@pytest.mark.parametrize("dtype", ["i1", "i4", "i8"])
def test_a_mask_of_other_values_than_0_and_1_is_refused(model: bsbr_hpc.Model, dtype: str) -> None:
    mask = np.array([1, 2, -1, 0], dtype)
    assert str(error_of(lambda: model.forward([1, 2, 3, 4], mask), bsbr_hpc.ShapeError)) == "mask[0, 1] = 2, must be 0 or 1"
    error = error_of(lambda: model.forward([1, 2, 3, 4], mask / 2), TypeError)
    assert str(error) == "mask must be bools or integers, not float64"


def test_a_mask_of_another_shape_is_refused(model: bsbr_hpc.Model) -> None:
    error = error_of(lambda: model.forward([1, 2, 3], [1, 1, 1, 1]), bsbr_hpc.ShapeError)
    assert str(error) == "mask is [1, 4], ids are [1, 3]"


def test_arrays_that_are_not_the_sequences_part_are_refused(model: bsbr_hpc.Model, case: Case) -> None:
    error = error_of(lambda: model.forward([1, 2, 3], sequence=model.sequence(4)), bsbr_hpc.ShapeError)
    assert str(error) == "ids are [1, 3], this rank's part of the sequence [1, 4]"
    other = bsbr_hpc.Model.load(case.path, chunk_size=5).sequence(3)
    error = error_of(lambda: model.forward([1, 2, 3], sequence=other), bsbr_hpc.ShapeError)
    assert str(error) == "the sequence has chunk_size = 5, the model has chunk_size = 6"


def test_changes_that_weights_depend_on_are_refused() -> None:
    case = Case.read("bsbr_ragged")
    for field, changes in {"ff_dim": {"ff_dim": 8}, "hidden_dim": {"hidden_dim": 24}, "vocab_size": {"vocab_size": 8, "ff_dim": 8},
                           "architecture": {"architecture": "standard"}, "compression_factor": {"compression_factor": 2}}.items():
        error = error_of(lambda: bsbr_hpc.Model.load(case.path, **changes), bsbr_hpc.ConfigError)
        given, stored = repr(changes[field]), repr(bsbr_hpc.Model.load(case.path).config.to_dict()[field])
        assert str(error) == f"{field} is {given}, the model file has {stored}, and its weights depend on it"
        assert error.hint == "what can be changed is num_heads, chunk_size, dropout, causality, state_scale, router_key"
    compressed = Case.read("bsbr_mask_right").path
    error = error_of(lambda: bsbr_hpc.Model.load(compressed, num_heads=1), bsbr_hpc.ConfigError)
    assert str(error) == "num_heads is 1, the model file has 2, and its weights depend on it"


def test_changes_that_weights_do_not_depend_on_are_taken() -> None:
    changes: dict[str, Any] = {"num_heads": 3, "chunk_size": 5, "dropout": 0.5, "causality": "bidirectional"}
    config = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path, **changes).config
    assert {name: config.to_dict()[name] for name in changes} == changes


def test_other_precisions_and_communicators_are_refused(case: Case) -> None:
    for precision in ("half", "bf16", np.float16, 32, float, None):
        error = error_of(lambda: bsbr_hpc.Model.load(case.path, precision), ValueError)
        assert str(error) == f"precision is {precision!r}, known are float32, float64, bfloat16"
    for precision in ("float32", "float", np.float32, np.dtype("f4"), np.dtype(">f4")):
        assert bsbr_hpc.Model.load(case.path, precision).precision == "float32"
    assert bsbr_hpc.Model.load(case.path, np.float64).precision == bsbr_hpc.Model.load(case.path, "double").precision == "float64"
    error = error_of(lambda: bsbr_hpc.Model.load(case.path, comm=1), TypeError)  # type: ignore[arg-type]
    assert str(error) == "comm is of type int; an mpi4py communicator or None is taken"


def test_a_model_that_no_memory_can_hold_is_a_memory_error() -> None:
    config = bsbr_hpc.ModelConfig(vocab_size=1 << 30, hidden_dim=1 << 14, num_layers=1, ff_dim=1)
    error = error_of(lambda: bsbr_hpc.Model(config, {}), bsbr_hpc.MemoryError)
    assert str(error).startswith("no memory for ")


def test_errors_are_also_of_pythons_own_kinds_and_carry_their_hint() -> None:
    assert issubclass(bsbr_hpc.ConfigError, ValueError) and issubclass(bsbr_hpc.ShapeError, ValueError)
    assert issubclass(bsbr_hpc.FileError, OSError) and issubclass(bsbr_hpc.MemoryError, builtins.MemoryError)
    assert issubclass(bsbr_hpc.CommunicationError, RuntimeError)
    for kind in (bsbr_hpc.Error, bsbr_hpc.ConfigError, bsbr_hpc.FileError, bsbr_hpc.MemoryError):
        copy = pickle.loads(pickle.dumps(kind("what", "do this")))
        assert (type(copy), str(copy), copy.hint) == (kind, "what", "do this")




def remove_a_weight(file: h5py.File) -> None:
    del file["weights"]["layer_norm.bias"]


def break_the_heads(file: h5py.File) -> None:
    file.attrs["num_heads"] = 5


def spoil_a_number(file: h5py.File) -> None:
    file["weights"]["layer_norm.bias"][3] = np.inf


def test_names_of_files_are_bytes(tmp_path: Path, case: Case) -> None:
    name = os.fsencode(tmp_path) + b"/l\xe9.h5"
    expected = bsbr_hpc.Model.load(case.path).forward(case.ids, case.mask)
    with open(name, "wb") as file:
        file.write(case.path.read_bytes())
    for given in (name, os.fsdecode(name), Path(os.fsdecode(name))):
        np.testing.assert_array_equal(bsbr_hpc.Model.load(given).forward(case.ids, case.mask), expected)
    os.remove(name)
    error = error_of(lambda: bsbr_hpc.Model.load(name), bsbr_hpc.FileError)
    assert str(error) == f"{tmp_path}/l\\xe9.h5: there is no such file"
    bsbr_hpc.Model.load(case.path).save(name)
    np.testing.assert_array_equal(bsbr_hpc.Model.load(name).forward(case.ids, case.mask), expected)
    assert str(error_of(lambda: bsbr_hpc.Model.load("a\0b"), ValueError)) == "a path has a byte 0"
    assert "int" in str(error_of(lambda: bsbr_hpc.Model.load(3), TypeError))  # type: ignore[arg-type]


def test_a_file_that_cannot_be_written_is_an_output_error(tmp_path: Path, model: bsbr_hpc.Model) -> None:
    error = error_of(lambda: model.save(tmp_path / "none" / "model.h5"), bsbr_hpc.OutputError)
    assert str(error).startswith(f"{tmp_path}/none/model.h5: ") and isinstance(error, OSError)


@pytest.mark.parametrize("damage", [remove_a_weight, break_the_heads, spoil_a_number])
def test_a_bad_file_has_the_text_that_the_program_prints(tmp_path: Path, case: Case, damage: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(case.path.read_bytes())
    with h5py.File(path, "r+") as file:
        damage(file)
    error = error_of(lambda: bsbr_hpc.Model.load(path), bsbr_hpc.FileError)
    assert str(error).startswith(f"{path}: ")
    program = PROGRAMS / "bsbr_forward"
    if not program.exists():
        pytest.skip(f"{program} is not built; the text was not compared")
    command = [str(program), "--model", str(path), "--random-tokens", "9"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [f"bsbr_forward: error: {error}"] + ([f"hint: {error.hint}"] if error.hint else [])
    assert (printed.returncode, printed.stderr.splitlines()) == (3, lines)


def test_files_that_are_not_there_or_no_model_are_refused(tmp_path: Path) -> None:
    error = error_of(lambda: bsbr_hpc.Model.load(tmp_path / "none.h5"), bsbr_hpc.FileError)
    assert str(error) == f"{tmp_path}/none.h5: there is no such file"
    (tmp_path / "text.h5").write_text("text")
    error = error_of(lambda: bsbr_hpc.Model.load(str(tmp_path / "text.h5")), bsbr_hpc.FileError)
    assert str(error).startswith(f"{tmp_path}/text.h5: ")
