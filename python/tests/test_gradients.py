"""Losses and gradients are those of the golden files and of central differences, whatever arrays they are asked for with."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from golden_cases import Case, GradientCase, gradient_case_names
from test_arrays import OnlyDlpack, address
from test_errors import error_of

import bsbr_hpc
from bsbr_hpc import _arrays

TOLERANCE = {"float64": 1e-10, "float32": 2e-5}  # tests/golden_gradients/README.md argues for them
MASKED = "bsbr_masks"


@pytest.fixture(scope="module")
def case() -> GradientCase:
    """A batch of several sequences with padding."""
    return GradientCase.read(MASKED)


@pytest.fixture(scope="module")
def model(case: GradientCase) -> bsbr_hpc.Model:
    return bsbr_hpc.Model.load(case.path, "float64")


def largest(gradients: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(gradient).max()) for gradient in gradients.values())


def check(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Relative to the largest element of all: some gradients are 0 but for rounding."""
    assert actual.keys() == expected.keys()
    for name, gradient in expected.items():
        assert actual[name].shape == gradient.shape
        np.testing.assert_allclose(actual[name], gradient, rtol=0, atol=tolerance * largest(expected), err_msg=name)


def same_bits(one: bsbr_hpc.Loss, other: bsbr_hpc.Loss) -> None:
    for field in ("loss", "counted", "bits_per_token", "perplexity"):
        assert getattr(one, field) == getattr(other, field), field
    np.testing.assert_array_equal(one.token_losses, other.token_losses)
    if isinstance(one, bsbr_hpc.LossAndGradients) and isinstance(other, bsbr_hpc.LossAndGradients):
        assert one.gradients.keys() == other.gradients.keys()
        for name, gradient in one.gradients.items():
            np.testing.assert_array_equal(gradient, other.gradients[name], err_msg=name)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("name", gradient_case_names())
def test_a_golden_file_gives_its_expected_loss_and_gradients(name: str, precision: str) -> None:
    case, tolerance = GradientCase.read(name), TOLERANCE[precision]
    for causality, expected in case.expected.items():
        changes = {"causality": causality} if causality else {}
        model = bsbr_hpc.Model.load(case.path, precision, **changes)
        result = model.gradients(case.ids, mask=case.mask)
        assert result.counted == (case.targets >= 0).sum()
        assert result.loss == pytest.approx(expected.loss, rel=tolerance)
        assert result.token_losses.dtype == np.float64 and result.token_losses.shape == case.ids.shape
        np.testing.assert_allclose(result.token_losses[:, :-1], expected.token_losses, rtol=0, atol=tolerance * expected.token_losses.max())
        assert (result.token_losses[case.targets < 0] == 0).all()
        assert {gradient.dtype.name for gradient in result.gradients.values()} == {precision}
        check(result.gradients, expected.gradients, tolerance)
        loss = model.loss(case.ids, mask=case.mask)
        assert (loss.loss, loss.counted) == (pytest.approx(expected.loss, rel=tolerance), result.counted)
        np.testing.assert_allclose(loss.token_losses, result.token_losses, rtol=0, atol=tolerance * expected.token_losses.max())


def small_model(seed: int = 1, **fields: Any) -> tuple[bsbr_hpc.ModelConfig, dict[str, np.ndarray]]:
    sizes = {"vocab_size": 11, "hidden_dim": 8, "num_heads": 2, "ff_dim": 9, "num_layers": 2, "chunk_size": 3, "head": "separate"}
    config = bsbr_hpc.ModelConfig(**{**sizes, **fields})
    draw = np.random.default_rng(seed)
    return config, {name: draw.normal(size=shape) * 0.4 for name, shape in config.weight_shapes().items()}


@pytest.mark.parametrize("fields", [{}, {"compression_factor": 2}, {"architecture": "gau", "num_heads": 1, "head": "tied"}])
def test_gradients_are_those_of_central_differences(fields: dict[str, Any]) -> None:
    config, weights = small_model(**fields)
    draw = np.random.default_rng(2)
    ids, targets = draw.integers(0, 11, (2, 10)), draw.integers(-1, 11, (2, 10))
    mask = np.ones(ids.shape, bool)
    mask[1, 7:] = False
    gradients = bsbr_hpc.Model(config, weights, "float64").gradients(ids, targets, mask).gradients

    def loss_at(name: str, place: tuple[int, ...], value: float) -> float:
        changed = {**weights, name: weights[name].copy()}
        changed[name][place] = value
        return bsbr_hpc.Model(config, changed, "float64").loss(ids, targets, mask).loss

    step = 1e-5
    for name, weight in weights.items():
        for _ in range(3):
            place = tuple(draw.integers(0, size) for size in weight.shape)
            difference = (loss_at(name, place, weight[place] + step) - loss_at(name, place, weight[place] - step)) / (2 * step)
            assert gradients[name][place] == pytest.approx(difference, rel=1e-5, abs=1e-8), (name, place)


def test_targets_are_the_next_tokens_unless_they_are_given(model: bsbr_hpc.Model, case: GradientCase) -> None:
    for call in (model.loss, model.gradients):
        same_bits(call(case.ids, mask=case.mask), call(case.ids, case.targets, case.mask))
        other = call(case.ids, np.where(case.targets < 0, -1, 3), case.mask)
        assert other.counted == (case.targets >= 0).sum() and other.loss != call(case.ids, mask=case.mask).loss


def test_a_target_of_minus_1_does_not_count(model: bsbr_hpc.Model, case: GradientCase) -> None:
    everything = model.loss(case.ids, case.targets, case.mask)
    targets = case.targets.copy()
    targets[:, ::2] = -1
    half = model.loss(case.ids, targets, case.mask)
    counts = targets >= 0
    np.testing.assert_array_equal(half.token_losses, np.where(counts, everything.token_losses, 0))
    assert half.counted == counts.sum() and half.loss == pytest.approx(half.token_losses.sum() / counts.sum(), rel=1e-14)


def test_targets_of_padding_count_where_they_are_given(model: bsbr_hpc.Model, case: GradientCase) -> None:
    targets = np.full(case.ids.shape, 2)
    loss = model.loss(case.ids, targets, case.mask)
    assert case.mask is not None and not case.mask.all()
    assert loss.counted == targets.size and (loss.token_losses > 0).all()


def test_a_batch_that_counts_nothing_has_loss_0_and_gradients_0(model: bsbr_hpc.Model, case: GradientCase) -> None:
    for ids, targets in ((case.ids, np.full(case.ids.shape, -1)), (case.ids[:, :1], None), (case.ids[:, :0], None)):
        result = model.gradients(ids, targets)
        assert (result.loss, result.counted, result.bits_per_token, result.perplexity) == (0, 0, 0, 1)
        assert not result.token_losses.any() and largest(result.gradients) == 0
        same_bits(model.loss(ids, targets), result)


def test_bits_and_perplexity_follow_from_the_loss(model: bsbr_hpc.Model, case: GradientCase) -> None:
    loss = model.loss(case.ids, mask=case.mask)
    assert loss.bits_per_token == pytest.approx(loss.loss / math.log(2), rel=1e-15)
    assert loss.perplexity == pytest.approx(math.exp(loss.loss), rel=1e-14)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.loss = 0  # type: ignore[misc]


def test_the_numbers_are_the_same_whatever_is_computed_again(model: bsbr_hpc.Model, case: GradientCase) -> None:
    same_bits(model.gradients(case.ids, mask=case.mask), model.gradients(case.ids, mask=case.mask, recompute="none"))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i8"])
def test_targets_may_be_of_any_integer_type_and_layout(model: bsbr_hpc.Model, case: GradientCase, dtype: str) -> None:
    expected = model.loss(case.ids, mask=case.mask)
    same_bits(model.loss(case.ids, np.asfortranarray(case.targets.astype(dtype)), case.mask), expected)
    unsigned = np.abs(case.targets).astype(dtype.replace("i", "u"))
    same_bits(model.loss(case.ids, unsigned), model.loss(case.ids, np.abs(case.targets)))


def test_lists_one_sequence_and_arrays_of_other_libraries_are_taken(model: bsbr_hpc.Model, case: GradientCase) -> None:
    mask: Any = case.mask
    expected = model.gradients(case.ids, case.targets, mask)
    same_bits(model.gradients(case.ids.tolist(), case.targets.tolist(), mask.tolist()), expected)
    same_bits(model.gradients(OnlyDlpack(case.ids), OnlyDlpack(case.targets), OnlyDlpack(mask)), expected)
    same_bits(model.gradients(case.ids[0], case.targets[0], mask[0]), model.gradients(case.ids[:1], case.targets[:1], mask[:1]))


def test_targets_that_fit_are_not_copied(case: GradientCase) -> None:
    targets = case.targets.astype(np.int32)
    for given in (targets, OnlyDlpack(targets), targets[0]):
        shape = np.atleast_2d(np.from_dlpack(given) if isinstance(given, OnlyDlpack) else given).shape
        assert address(_arrays.as_targets(_arrays.targets_of(given, shape), 17, 0)) == address(targets)


def test_gradients_are_the_memory_that_was_computed_in_and_outlive_the_model(case: GradientCase) -> None:
    model = bsbr_hpc.Model.load(case.path, "float64")
    result = model.gradients(case.ids, mask=case.mask)
    before = {name: gradient.copy() for name, gradient in result.gradients.items()}
    addresses = sorted((address(gradient), gradient.nbytes) for gradient in result.gradients.values())
    assert all(first + size == following for (first, size), (following, _) in zip(addresses, addresses[1:]))  # one piece
    for array in (*result.gradients.values(), result.token_losses):
        assert not array.flags.owndata and array.flags.c_contiguous and array.flags.writeable
        assert address(np.from_dlpack(array)) == address(array)
    model.gradients(case.ids[:, ::-1])
    kept = result.gradients
    del model, result
    for name, gradient in kept.items():
        np.testing.assert_array_equal(gradient, before[name])


def test_states_are_the_same_before_and_after_a_loss_and_gradients(case: GradientCase) -> None:
    model = bsbr_hpc.Model.load(case.path)
    states = model.forward(case.ids, case.mask)
    expected = states.copy()
    model.loss(case.ids, mask=case.mask)
    model.gradients(case.ids[:, ::-1])
    np.testing.assert_array_equal(states, expected)
    np.testing.assert_array_equal(model.forward(case.ids, case.mask), expected)


def test_a_gradient_sequence_serves_forward_and_loss_too(model: bsbr_hpc.Model, case: GradientCase) -> None:
    sequence = model.gradient_sequence(case.ids.shape[1], case.ids.shape[0])
    same_bits(model.gradients(case.ids, mask=case.mask, sequence=sequence), model.gradients(case.ids, mask=case.mask))
    same_bits(model.loss(case.ids, mask=case.mask, sequence=sequence), model.loss(case.ids, mask=case.mask))
    np.testing.assert_array_equal(model.forward(case.ids, case.mask, sequence), model.forward(case.ids, case.mask))


@pytest.mark.parametrize("head", ["tied", "separate"])
def test_a_few_steps_against_the_gradient_lower_the_loss(head: str) -> None:
    config, weights = small_model(vocab_size=256, head=head)
    text = "the quick brown fox jumps over the lazy dog"
    losses = []
    for _ in range(5):
        result = bsbr_hpc.Model(config, weights).gradients(text)
        losses.append(result.loss)
        weights = {name: weight - 0.3 * result.gradients[name] for name, weight in weights.items()}
    assert result.counted == len(text) - 1
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.95 * losses[0]


def test_a_model_without_a_head_has_neither_loss_nor_gradients() -> None:
    model = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path)
    for call in (model.loss, model.gradients):
        error = error_of(lambda: call([1, 2, 3]), bsbr_hpc.ConfigError)
        assert str(error) == "the model has no head (head = none): it gives hidden states, and no logits"
        assert error.hint == "bsbr_init --head tied, or separate, makes a model that has one"
    with_head = bsbr_hpc.Model(model.config.replace(head="tied"), model.state_dict())
    assert with_head.loss([1, 2, 3]).counted == 2


@pytest.mark.parametrize(
    ("kind", "targets", "text"),
    [
        (bsbr_hpc.ShapeError, [1, 2], "targets are [1, 2], ids are [1, 3]"),
        (bsbr_hpc.ShapeError, [[1, 2, 3], [4, 5, 6]], "targets are [2, 3], ids are [1, 3]"),
        (bsbr_hpc.ShapeError, [1, 17, -1], "targets[0, 1] = 17, must be -1 (none) or 0 to 16"),
        (bsbr_hpc.ShapeError, [-2, 1 << 40, 1], "targets[0, 0] = -2, must be -1 (none) or 0 to 16; 1 more are outside"),
        (bsbr_hpc.ShapeError, np.array([1, 2, (1 << 64) - 1], "u8"),
         "targets[0, 2] = 18446744073709551615, must be -1 (none) or 0 to 16"),
        (bsbr_hpc.ShapeError, [], "targets are empty"),
        (bsbr_hpc.ShapeError, 5, "targets are [], must be [tokens] or [batch, tokens]"),
        (TypeError, [0.5, 1, 2], "targets must be integers, not float64"),
        (TypeError, [True, True, True], "targets must be integers, not bool"),
    ],
)
def test_targets_that_are_none_are_refused(model: bsbr_hpc.Model, kind: type[Exception], targets: Any, text: str) -> None:
    for call in (model.loss, model.gradients):
        assert str(error_of(lambda: call([1, 2, 3], targets), kind)) == text


def test_ids_and_masks_are_checked_as_for_a_forward_pass(model: bsbr_hpc.Model) -> None:
    for call in (model.loss, model.gradients):
        assert str(error_of(lambda: call([1, 17]), bsbr_hpc.ShapeError)) == "ids[0, 1] = 17, must be 0 to 16"
        assert str(error_of(lambda: call([1, 2], mask=[1, 2]), bsbr_hpc.ShapeError)) == "mask[0, 1] = 2, must be 0 or 1"
        assert str(error_of(lambda: call([0.5]), TypeError)) == "ids must be integers, not float64"


def test_what_is_computed_again_is_a_known_name(model: bsbr_hpc.Model) -> None:
    for wrong in ("auto", "", None, 0):
        error = error_of(lambda: model.gradients([1, 2], recompute=wrong), ValueError)  # type: ignore[arg-type]
        assert str(error) == f"recompute is {wrong!r}, known are all, none"


def test_a_sequence_that_is_not_divided_by_leaves_is_refused(model: bsbr_hpc.Model, case: GradientCase) -> None:
    length = 64 * model.config.chunk_size
    ids = np.resize(case.ids, length)
    error = error_of(lambda: model.gradients(ids, sequence=model.sequence(length)), bsbr_hpc.ConfigError)
    assert "are summed over leaves of 4 chunks, and ranks divide the sequence by 1" in str(error)
    assert model.gradients(ids, sequence=model.gradient_sequence(length)).counted == length - 1
    other = error_of(lambda: model.gradients([1, 2, 3], sequence=model.gradient_sequence(4)), bsbr_hpc.ShapeError)
    assert str(other) == "ids are [1, 3], this rank's part of the sequence [1, 4]"
    for wrong in (9.5, True, "9", None):
        with pytest.raises(TypeError, match="length is .*, which is not a whole number"):
            model.gradient_sequence(wrong)  # type: ignore[arg-type]
