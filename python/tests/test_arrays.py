"""Arrays of all kinds are taken; what fits is not copied."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_cases import Case

import bsbr_hpc
from bsbr_hpc import _arrays, _core

INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", ">i4", ">i8"]


class OnlyDlpack:
    """An array of somebody else's: nothing but DLPack is known of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


@pytest.fixture(scope="module")
def case() -> Case:
    return Case.read("bsbr_mask_right")


@pytest.fixture(scope="module")
def model(case: Case) -> bsbr_hpc.Model:
    return bsbr_hpc.Model.load(case.path, "float64")


@pytest.fixture(scope="module")
def expected(case: Case) -> np.ndarray:
    return case.expected["causal"]


def check(states: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(states, expected, rtol=0, atol=1e-10)


def test_bfloat16_rounds_factors_and_keeps_all_else(case: Case) -> None:
    model, rounded = bsbr_hpc.Model.load(case.path), bsbr_hpc.Model.load(case.path, "bfloat16")
    states, expected = rounded.forward(case.ids, case.mask), model.forward(case.ids, case.mask)
    assert rounded.precision == "bfloat16" and states.dtype == np.float32
    difference = np.abs(states - expected).max()
    assert 1e-4 < difference < 0.2
    np.testing.assert_array_equal(rounded.state_dict()["embedding.weight"], model.state_dict()["embedding.weight"])
    for same in (pickle.loads(pickle.dumps(rounded)), bsbr_hpc.Model(rounded.config, model.state_dict(), "bfloat16")):
        assert same.precision == "bfloat16"
        np.testing.assert_array_equal(same.forward(case.ids, case.mask), states)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_ids_may_be_of_any_integer_type(model: bsbr_hpc.Model, case: Case, expected: np.ndarray, dtype: str) -> None:
    check(model.forward(case.ids.astype(dtype), case.mask), expected)


@pytest.mark.parametrize("dtype", ["?", *INTEGERS])
def test_a_mask_may_be_of_bools_or_any_integer_type(model: bsbr_hpc.Model, case: Case, expected: np.ndarray, dtype: str) -> None:
    check(model.forward(case.ids, case.mask.astype(dtype)), expected)


def test_arrays_may_have_any_layout(model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    wide = np.zeros((4, 2 * case.ids.shape[1]), np.int32)
    wide[::2, ::-2] = case.ids
    check(model.forward(wide[::2, ::-2], case.mask), expected)
    check(model.forward(np.asfortranarray(case.ids), np.asfortranarray(case.mask)), expected)
    misaligned = np.frombuffer(b"x" + case.ids.astype("i4").tobytes(), "i4", offset=1).reshape(case.ids.shape)
    check(model.forward(misaligned, case.mask), expected)


def test_lists_and_one_sequence_are_taken(model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    check(model.forward(case.ids.tolist(), case.mask.tolist()), expected)
    check(model.forward(case.ids[1], case.mask[1]), expected[1:])


def test_arrays_that_are_read_only_are_taken(model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    ids = case.ids.astype(np.int32)
    ids.flags.writeable = False
    check(model.forward(ids, case.mask), expected)


def test_arrays_of_other_libraries_come_by_dlpack(model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    check(model.forward(OnlyDlpack(case.ids), OnlyDlpack(case.mask)), expected)
    weights = {name: OnlyDlpack(weight) for name, weight in case.weights().items()}
    check(bsbr_hpc.Model(case.config, weights, "float64").forward(case.ids, case.mask), expected)


def test_tensors_of_torch_are_taken_and_made(model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed; OnlyDlpack stands in for it")
    ids, mask = torch.from_numpy(case.ids), torch.from_numpy(case.mask).bool()
    check(model.forward(ids, mask.to(torch.uint8)), expected)
    weights = {name: torch.from_numpy(weight) for name, weight in case.weights().items()}
    states = bsbr_hpc.Model(case.config, weights, "float64").forward(ids, mask)
    check(states, expected)
    assert torch.from_dlpack(states).data_ptr() == states.ctypes.data
    parameters = {name: torch.nn.Parameter(weight) for name, weight in weights.items()}
    check(bsbr_hpc.Model(case.config, parameters, torch.float64).forward(ids, mask), expected)
    assert bsbr_hpc.Model(case.config, parameters, torch.float32).precision == "float32"
    with pytest.raises(ValueError, match="precision is torch.bfloat16, known are"):
        bsbr_hpc.Model(case.config, parameters, torch.bfloat16)


def test_weights_in_half_precision_become_float_exactly(case: Case) -> None:
    halves = {name: weight.astype("f2") for name, weight in case.weights().items()}
    expected = {name: weight.astype("f4") for name, weight in halves.items()}
    states = bsbr_hpc.Model(case.config, expected).forward(case.ids, case.mask)
    np.testing.assert_array_equal(bsbr_hpc.Model(case.config, halves).forward(case.ids, case.mask), states)
    torch = pytest.importorskip("torch")
    for dtype in (torch.float16, torch.bfloat16):
        tensors = {name: torch.from_numpy(weight).to(dtype) for name, weight in case.weights().items()}
        floats = {name: tensor.float().numpy() for name, tensor in tensors.items()}
        states = bsbr_hpc.Model(case.config, floats).forward(case.ids, case.mask)
        np.testing.assert_array_equal(bsbr_hpc.Model(case.config, tensors).forward(case.ids, case.mask), states)


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_ids_and_masks_that_fit_are_not_copied(case: Case) -> None:
    ids = case.ids.astype(np.int32)
    for given in (ids, OnlyDlpack(ids), ids[0]):
        assert address(_arrays.as_ids(_arrays.ids_of(given, 31), 31, 0)) == address(ids)
    for dtype in ("?", "i1", "u1"):
        mask = case.mask.astype(dtype)
        for given in (mask, OnlyDlpack(mask)):
            assert address(_arrays.as_mask(_arrays.mask_of(given, mask.shape), 0)) == address(mask)


def test_the_compiled_module_takes_what_fits_only_so_that_it_never_copies(case: Case, model: bsbr_hpc.Model) -> None:
    ids, mask = case.ids.astype(np.int32), case.mask.astype(np.uint8)
    core, sequence = model._model, model.sequence(ids.shape[1], ids.shape[0])
    assert isinstance(core, _core.Model)
    check(np.asarray(core.forward(sequence, ids, mask)), case.expected["causal"])
    for wrong in (ids.astype(np.int64), np.asfortranarray(ids), np.repeat(ids, 2, axis=1)[:, ::2]):
        with pytest.raises(TypeError):
            core.forward(sequence, wrong, mask)


def byte_model() -> bsbr_hpc.Model:
    config = bsbr_hpc.ModelConfig(hidden_dim=8, num_heads=2, ff_dim=8, num_layers=1, chunk_size=4)
    draw = np.random.default_rng(1)
    return bsbr_hpc.Model(config, {name: draw.normal(size=shape) for name, shape in config.weight_shapes().items()})


def test_a_model_of_bytes_takes_bytes_and_text() -> None:
    model = byte_model()
    expected = model.forward(list("Größe".encode()))
    for given in ("Größe", "Größe".encode(), bytearray("Größe".encode())):
        np.testing.assert_array_equal(model(given), expected)
    np.testing.assert_array_equal(model(["Größe", "Größe".encode()]), np.concatenate([expected, expected]))
    for empty in ("", b"", [], [""]):
        with pytest.raises(bsbr_hpc.ShapeError, match="ids are empty"):
            model(empty)
    with pytest.raises(bsbr_hpc.ShapeError, match="different lengths") as caught:
        model(["one", "three"])
    assert caught.value.hint == "bsbr_hpc.pad makes arrays of ids and mask of them"


def test_sequences_of_different_lengths_are_padded() -> None:
    model = byte_model()
    sequences: list[Any] = ["some text", b"more", [1, 2, 3], np.array([200], np.uint8), []]
    ids, mask = bsbr_hpc.pad(sequences, value=7, length=10)
    assert ids.shape == mask.shape == (5, 10) and mask.sum(axis=1).tolist() == [9, 4, 3, 1, 0]
    assert (ids[~mask] == 7).all() and ids[1, :4].tolist() == list(b"more")
    states = model(ids, mask)
    for row, sequence in enumerate(sequences[:4]):
        alone = model(sequence)
        np.testing.assert_allclose(states[row : row + 1, : alone.shape[1]], alone, rtol=0, atol=1e-5)
    assert bsbr_hpc.pad([[1], [1, 2]])[0].shape == (2, 2)
    for wrong, kind, text in [([[1, 2]], bsbr_hpc.ShapeError, "a sequence has 2 tokens, length is 1"), ([], bsbr_hpc.ShapeError, "ids are empty"),
                              ([[[1]]], bsbr_hpc.ShapeError, "a sequence is"), ([[0.5]], TypeError, "ids must be integers, not float64")]:
        with pytest.raises(kind, match=text):
            bsbr_hpc.pad(wrong, length=1)


def test_weights_can_be_read_saved_and_pickled(tmp_path: Path, model: bsbr_hpc.Model, case: Case, expected: np.ndarray) -> None:
    weights = model.state_dict()
    assert {name: weight.shape for name, weight in weights.items()} == model.config.weight_shapes()
    for name, weight in case.weights().items():
        np.testing.assert_array_equal(weights[name], weight)
        assert not weights[name].flags.writeable
    assert address(weights["embedding.weight"]) == address(model.state_dict()["embedding.weight"])  # the model's own memory
    model.save(tmp_path / "model.h5")
    for other in (bsbr_hpc.Model(model.config, weights, model.precision), pickle.loads(pickle.dumps(model)),
                  bsbr_hpc.Model.load(tmp_path / "model.h5", "float64")):
        assert (other.config, other.precision) == (model.config, model.precision)
        check(other.forward(case.ids, case.mask), expected)
    del other
    embedding = byte_model().state_dict()["embedding.weight"]  # which outlives its model
    assert embedding.shape == (256, 8) and np.isfinite(embedding).all()


def test_a_sequence_shows_what_it_is(model: bsbr_hpc.Model) -> None:
    assert repr(model.sequence(9, batch=2)) == (
        f"Sequence(length=9, batch=2, chunk_size={model.config.chunk_size}, rank=0, ranks=1, first_token=0, local_tokens=9)"
    )
    assert model.sequence(np.int64(9)).length == 9  # type: ignore[arg-type]
    for wrong in (9.5, True, "9", None):
        with pytest.raises(TypeError, match="length is .*, which is not a whole number"):
            model.sequence(wrong)  # type: ignore[arg-type]


def test_a_result_is_the_memory_that_was_computed_in(model: bsbr_hpc.Model, case: Case) -> None:
    states = model.forward(case.ids, case.mask)
    assert not states.flags.owndata and states.base is not None  # the View owns it
    assert states.flags.c_contiguous and states.flags.writeable
    assert address(np.from_dlpack(states)) == address(states)


def test_a_result_keeps_its_numbers_when_the_model_is_used_again_or_gone(case: Case) -> None:
    model = bsbr_hpc.Model.load(case.path, "float64")
    states = model.forward(case.ids, case.mask)
    before = states.copy()
    model.forward(case.ids[:, ::-1])
    del model
    np.testing.assert_array_equal(states, before)


def test_weights_are_copied(case: Case, expected: np.ndarray) -> None:
    weights = case.weights()
    model = bsbr_hpc.Model(case.config, weights, "float64")
    for weight in weights.values():
        weight[...] = 0
    check(model.forward(case.ids, case.mask), expected)


def test_weights_may_have_any_layout(case: Case, expected: np.ndarray) -> None:
    weights = {name: np.asfortranarray(weight.astype(">f8")) for name, weight in case.weights().items()}
    check(bsbr_hpc.Model(case.config, weights, "float64").forward(case.ids, case.mask), expected)
