"""The golden files' models give the golden files' results, whichever way the model is made."""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import TOLERANCE, Case, case_names, one_of_each_architecture

import bsbr_hpc


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", case_names())
def test_a_golden_file_gives_its_expected_states(name: str, precision: str) -> None:
    case = Case.read(name)
    for causality, expected in case.expected.items():
        changes = {"causality": causality} if causality else {}
        model = bsbr_hpc.Model.load(case.path, precision, **changes)
        states = model.forward(case.ids, case.mask)
        assert states.dtype == precision
        np.testing.assert_allclose(states, expected, rtol=0, atol=TOLERANCE[precision])


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", one_of_each_architecture())
def test_a_dict_of_arrays_gives_the_bits_of_the_file(name: str, precision: str) -> None:
    case = Case.read(name)
    of_file = bsbr_hpc.Model.load(case.path, precision)
    of_arrays = bsbr_hpc.Model(case.config, case.weights(), precision)
    assert of_arrays.config == of_file.config
    assert of_arrays.parameters == sum(weight.size for weight in case.weights().values())
    np.testing.assert_array_equal(of_arrays.forward(case.ids, case.mask), of_file.forward(case.ids, case.mask))


def test_a_model_serves_sequences_of_several_shapes_in_turn() -> None:
    case = Case.read("bsbr_mask_right")
    model = bsbr_hpc.Model.load(case.path, "float64")
    first = model.forward(case.ids, case.mask)
    assert model.forward(case.ids[:, :0]).shape == (2, 0, 12)
    assert model.forward(case.ids[0, :7]).shape == (1, 7, 12)
    np.testing.assert_array_equal(model.forward(case.ids, case.mask), first)
