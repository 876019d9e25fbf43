"""Whatever is wrong is an exception, with the text that the C++ library and its programs have for it."""

from __future__ import annotations

import builtins
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
        (TypeError, lambda w: w.update({"layer_norm.bias": np.zeros(12, "f2")}),
         "layer_norm.bias is of type float16, weights are float32 or float64"),
        (TypeError, lambda w: w.update({"layer_norm.bias": None}),
         "layer_norm.bias is of type object, weights are float32 or float64"),
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
        (bsbr_hpc.ShapeError, [1, -1, 31, 2], "2 ids are not within 0 to 30"),
        (bsbr_hpc.ShapeError, np.array([1, 1 << 32, -(1 << 40)]), "2 ids are not within 0 to 30"),
        (bsbr_hpc.ShapeError, np.array([1, (1 << 64) - 1], "u8"), "1 ids are not within 0 to 30"),
        (bsbr_hpc.ShapeError, np.zeros((1, 2, 3), int), "ids are [1, 2, 3], taken are [tokens] and [batch, tokens]"),
        (bsbr_hpc.ShapeError, 5, "ids are [], taken are [tokens] and [batch, tokens]"),
        (TypeError, [0.5], "ids are of type float64, integers are taken"),
        (TypeError, [True], "ids are of type bool, integers are taken"),
        (TypeError, "text", "ids are of type <U4, integers are taken"),
    ],
)
def test_ids_that_are_none_are_refused(model: bsbr_hpc.Model, kind: type[Exception], ids: Any, text: str) -> None:
    assert str(error_of(lambda: model.forward(ids), kind)) == text


@pytest.mark.parametrize("dtype", ["i1", "i4", "i8"])
def test_a_mask_of_other_values_than_0_and_1_is_refused(model: bsbr_hpc.Model, dtype: str) -> None:
    mask = np.array([1, 2, -1, 0], dtype)
    assert str(error_of(lambda: model.forward([1, 2, 3, 4], mask), bsbr_hpc.ShapeError)) == "mask has 2 values other than 0 and 1"


def test_a_mask_of_another_shape_is_refused(model: bsbr_hpc.Model) -> None:
    error = error_of(lambda: model.forward([1, 2, 3], [1, 1, 1, 1]), bsbr_hpc.ShapeError)
    assert str(error) == "mask is [1, 4], ids are [1, 3]"


def test_arrays_that_are_not_the_sequences_part_are_refused(model: bsbr_hpc.Model, case: Case) -> None:
    error = error_of(lambda: model.forward([1, 2, 3], sequence=model.sequence(4)), bsbr_hpc.ShapeError)
    assert str(error) == "ids are [1, 3], this rank's part of the sequence [1, 4]"
    other = bsbr_hpc.Model.load(case.path, chunk_size=5).sequence(3)
    error = error_of(lambda: model.forward([1, 2, 3], sequence=other), bsbr_hpc.ShapeError)
    assert str(error) == "the sequence has chunk_size = 5, the model has chunk_size = 6"


def test_changes_that_weights_depend_on_are_refused(case: Case) -> None:
    error = error_of(lambda: bsbr_hpc.Model.load(case.path, ff_dim=8), bsbr_hpc.ConfigError)
    assert str(error) == "these weights do not fit another configuration's table of weights"


def test_other_precisions_and_communicators_are_refused(case: Case) -> None:
    error = error_of(lambda: bsbr_hpc.Model.load(case.path, "half"), ValueError)
    assert str(error) == "precision is 'half', known are float32, float64"
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
