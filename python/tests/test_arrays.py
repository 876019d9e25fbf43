"""Arrays of all kinds are taken; what fits is not copied."""

from __future__ import annotations

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
    with pytest.raises(TypeError, match="weight, of type Parameter, cannot be taken by DLPack: .*require"):
        bsbr_hpc.Model(case.config, {name: torch.nn.Parameter(weight) for name, weight in weights.items()})


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_ids_and_masks_that_fit_are_not_copied(case: Case) -> None:
    ids = case.ids.astype(np.int32)
    for given in (ids, OnlyDlpack(ids), ids[0]):
        assert address(_arrays.as_ids(_arrays.integers("ids", given))) == address(ids)
    for dtype in ("?", "i1", "u1"):
        mask = case.mask.astype(dtype)
        for given in (mask, OnlyDlpack(mask)):
            assert address(_arrays.as_mask(_arrays.integers("mask", given, "iub"))) == address(mask)


def test_the_compiled_module_takes_what_fits_only_so_that_it_never_copies(case: Case, model: bsbr_hpc.Model) -> None:
    ids, mask = case.ids.astype(np.int32), case.mask.astype(np.uint8)
    core, sequence = model._model, model.sequence(ids.shape[1], ids.shape[0])
    assert isinstance(core, _core.Model)
    check(np.asarray(core.forward(sequence, ids, mask)), case.expected["causal"])
    for wrong in (ids.astype(np.int64), np.asfortranarray(ids), np.repeat(ids, 2, axis=1)[:, ::2]):
        with pytest.raises(TypeError):
            core.forward(sequence, wrong, mask)


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
