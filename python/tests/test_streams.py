"""Streams have the bits of one forward pass whatever the pieces, and what is generated is what a plain sampler and bsbr_generate draw."""

from __future__ import annotations

import gc
import math
import os
import pickle
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_cases import Case, GradientCase, gradient_case_names
from test_errors import PROGRAMS, error_of
from test_gradients import small_model

import bsbr_hpc

MASKED = [name for name in gradient_case_names() if name.endswith("_masks")]  # one of each architecture, with padding


def model_of_bytes(**fields: Any) -> bsbr_hpc.Model:
    config, weights = small_model(**{"vocab_size": 256, **fields})
    return bsbr_hpc.Model(config, weights)


@pytest.fixture(scope="module")
def model() -> bsbr_hpc.Model:
    return model_of_bytes()


def in_pieces(stream: bsbr_hpc.Stream, size: int, *arrays: Any) -> np.ndarray:
    """The states of arrays [batch, tokens], which are fed `size` tokens at a time."""
    starts = range(0, arrays[0].shape[1], size)
    states = [stream.feed(*(None if array is None else array[:, first : first + size] for array in arrays)) for first in starts]
    return np.concatenate(states, axis=1)


# ---- What streams compute ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", MASKED)
def test_pieces_have_the_bits_of_one_forward_pass(name: str, precision: str) -> None:
    case = GradientCase.read(name)
    model = bsbr_hpc.Model.load(case.path, precision)
    expected = model.forward(case.ids, case.mask)
    chunk = model.config.chunk_size
    for size in {1, chunk - 1, chunk, chunk + 1, 2 * chunk + 1, case.ids.shape[1]} - {0}:
        stream = model.stream(case.ids.shape[0])
        np.testing.assert_array_equal(in_pieces(stream, size, case.ids, case.mask), expected, err_msg=f"pieces of {size}")
        assert (stream.tokens, stream.batch) == (case.ids.shape[1], case.ids.shape[0])


def test_pieces_may_be_empty_and_of_any_kind_of_array(model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    assert stream.feed(np.empty((1, 0), int)).shape == (1, 0, 8) and (stream.tokens, stream.batch) == (0, 1)
    parts = [stream.feed("a text"), stream.feed(np.empty((1, 0), "i8")), stream.feed([1, 2]), stream.feed(np.array([[3]], "u1"))]
    whole = model.forward(list(b"a text") + [1, 2, 3])
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert "batch 1, 9 tokens, " in repr(stream)


def test_streams_of_one_model_do_not_disturb_each_other(model: bsbr_hpc.Model) -> None:
    one, other = model.stream(), model.stream(2)
    first = one.feed("abc")
    other.feed(["xyz?", "zyx!"])
    model.forward("something else")
    second = one.feed("defgh")
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), model.forward("abcdefgh"))


def test_bytes_grow_with_what_an_architecture_keeps() -> None:
    bytes_of = {}
    for architecture in ("standard", "linear", "bsbr"):
        stream = model_of_bytes(architecture=architecture).stream(2)
        assert stream.bytes == 0
        stream.feed(np.zeros((2, 30), int))
        before = stream.bytes
        stream.feed(np.zeros((2, 300), int))
        bytes_of[architecture] = (before, stream.bytes)
    keys_and_values = 330 * 2 * 8 * 4 * 2 * 2  # floats, of two layers and two sequences
    assert bytes_of["standard"][1] >= keys_and_values and 0 < bytes_of["bsbr"][0] < bytes_of["bsbr"][1]
    assert all(0 < size < keys_and_values / 8 for size in bytes_of["linear"])


def test_a_stream_outlives_the_name_of_its_model() -> None:
    model = model_of_bytes()
    expected = model.forward("abcdef")
    stream = model.stream()
    del model
    gc.collect()
    np.testing.assert_array_equal(in_pieces(stream, 2, np.array([list(b"abcdef")])), expected)


# ---- State files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKED)
def test_a_saved_stream_goes_on_with_the_bits_of_the_whole(tmp_path: Path, name: str) -> None:
    case = GradientCase.read(name)
    model = bsbr_hpc.Model.load(case.path)
    mask = None if case.mask is None else case.mask[:, 5:]
    stream = model.stream(case.ids.shape[0])
    stream.feed(case.ids[:, :5], None if case.mask is None else case.mask[:, :5])
    stream.save(tmp_path / "stream.h5")
    stream.feed(case.ids[:, :3])
    loaded = bsbr_hpc.Model.load(case.path).load_stream(tmp_path / "stream.h5")
    assert (loaded.tokens, loaded.batch) == (5, case.ids.shape[0])
    np.testing.assert_array_equal(loaded.feed(case.ids[:, 5:], mask), model.forward(case.ids, case.mask)[:, 5:])


def test_a_stream_of_another_model_or_precision_is_refused(tmp_path: Path, model: bsbr_hpc.Model) -> None:
    path = tmp_path / "stream.h5"
    stream = model.stream()
    stream.feed("abc")
    stream.save(path)
    others = {"hash": model_of_bytes(seed=2), "architecture": model_of_bytes(architecture="linear"),
              "precision": bsbr_hpc.Model(model.config, model.state_dict(), "float64")}
    for text, other in others.items():
        error = error_of(lambda: other.load_stream(path), bsbr_hpc.FileError)
        assert str(error).startswith(f"{path}: ") and text in str(error)
    assert str(error_of(lambda: model.load_stream(tmp_path / "none.h5"), bsbr_hpc.FileError)) == f"{tmp_path}/none.h5: there is no such file"
    error_of(lambda: stream.save(tmp_path / "none" / "stream.h5"), bsbr_hpc.OutputError)
    assert os.listdir(tmp_path) == ["stream.h5"]
    stream.feed("d")  # a failure to save takes nothing from it


# ---- Choosing tokens --------------------------------------------------------------------------------------------------


def philox(counter: list[int], key: int) -> list[int]:
    """Philox4x32-10 of Salmon et al., SC 2011, in Python's integers."""
    x, (low, high), word = counter, (key & 0xFFFFFFFF, key >> 32), 0xFFFFFFFF
    for _ in range(10):
        first, second = 0xD2511F53 * x[0], 0xCD9E8D57 * x[2]
        x = [(second >> 32) ^ x[1] ^ low, second & word, (first >> 32) ^ x[3] ^ high, first & word]
        low, high = (low + 0x9E3779B9) & word, (high + 0xBB67AE85) & word
    return x


def drawn(logits: np.ndarray, position: int, sequence: int, temperature: float, top_k: int, top_p: float, seed: int) -> int:
    """The id of docs/mathematics.md#choosing-the-next-token, as that page says it."""
    values = logits.astype(np.float64)
    by_probability = sorted(range(values.size), key=lambda id: (-values[id], id))
    if temperature == 0:
        return by_probability[0]
    kept = by_probability[: top_k or None]
    weights = {id: math.exp((values[id] - values.max()) / temperature) for id in kept}
    if top_p < 1:
        enough, total, nucleus = top_p * sum(weights[id] for id in sorted(kept)), 0.0, []
        for id in kept:
            if total >= enough:
                break
            nucleus.append(id)
            total += weights[id]
        kept = nucleus
    words = philox([position & 0xFFFFFFFF, position >> 32, sequence & 0xFFFFFFFF, sequence >> 32], seed)
    uniform = (((words[1] << 32 | words[0]) >> 12) + 0.5) * 2.0**-52
    ids, total = sorted(kept), 0.0
    reached = uniform * sum(weights[id] for id in ids)
    for id in ids:
        total += weights[id]
        if total >= reached:
            return id
    raise AssertionError("the last sum is the total")


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.0}, {"temperature": 0.5, "seed": 2**64 - 1}, {"top_k": 3}, {"top_p": 0.4, "seed": 5},
     {"temperature": 3.0, "top_k": 20, "top_p": 0.8}],
)
def test_what_is_generated_is_what_a_plain_sampler_draws(model: bsbr_hpc.Model, options: dict[str, Any]) -> None:
    every = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 0, **options}
    stream = model.stream(2)
    stream.feed(["to be or not to be", "that's the question"[:18]])
    expected = []
    for position in range(18, 38):
        logits = stream.logits()
        expected.append([drawn(row, position, number, **every) for number, row in enumerate(logits)])
        chosen = stream.choose(**options)
        assert chosen.dtype == np.int32 and chosen[:, 0].tolist() == expected[-1] == stream.choose(**options)[:, 0].tolist()
        stream.feed(chosen)
    ids = model.generate(["to be or not to be", "that's the question"[:18]], 20, **options)
    assert ids.dtype == np.int32 and ids.T.tolist() == expected


@pytest.mark.parametrize("head", ["tied", "separate"])
def test_logits_are_products_of_the_last_state_and_the_head(head: str) -> None:
    config, weights = small_model(head=head)
    model = bsbr_hpc.Model(config, weights, "float64")
    stream = model.stream(2)
    for piece in (np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]]), np.array([[7], [8]])):
        states = stream.feed(piece)
        logits = stream.logits()
        assert logits.shape == (2, 11) and logits.dtype == np.float64
        matrix = weights["lm_head.weight" if head == "separate" else "embedding.weight"]
        np.testing.assert_allclose(logits, states[:, -1] @ matrix.T, rtol=0, atol=1e-12)
    kept = logits.copy()
    stream.feed(np.array([[1], [2]]))
    stream.logits()
    np.testing.assert_array_equal(logits, kept)  # it is not the library's own array


def test_temperature_0_and_top_k_1_take_the_largest_logit(model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    stream.feed("a prompt")
    greedy = []
    for _ in range(12):
        greedy.append(int(stream.logits().argmax()))
        stream.feed(greedy[-1:])
    for options in ({"temperature": 0}, {"top_k": 1, "seed": 7}, {"top_p": 1e-9, "seed": 8}):
        assert model.generate("a prompt", 12, **options)[0].tolist() == greedy


def test_a_seed_has_its_text_whatever_the_batch_and_the_calls(model: bsbr_hpc.Model) -> None:
    alone, rows = model.generate("a prompt", 15, seed=3), model.generate("a prompt", 15, batch=3, seed=3)
    np.testing.assert_array_equal(rows[:1], alone)
    assert len({tuple(row) for row in [*rows.tolist(), *model.generate("a prompt", 15, seed=4).tolist()]}) == 4
    stream = model.stream()
    in_pieces(stream, 3, np.array([list(b"a prompt")]))
    parts = [stream.generate(5, seed=3), stream.generate(0, seed=3), stream.generate(10, seed=3)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), alone)
    assert stream.tokens == 8 + 15 and parts[1].shape == (1, 0) and model.generate("a", 0, batch=2).shape == (2, 0)


@pytest.mark.parametrize("name", MASKED)
def test_prompts_of_different_lengths_are_padded_on_the_left(name: str) -> None:
    case = GradientCase.read(name)
    model = bsbr_hpc.Model.load(case.path)
    ids, mask = bsbr_hpc.pad([[1, 2, 3, 4, 5], [6, 7]], value=0, left=True)
    assert ids.tolist() == [[1, 2, 3, 4, 5], [0, 0, 0, 6, 7]] and mask.tolist() == [[True] * 5, [False] * 3 + [True] * 2]
    generated = model.generate(ids, 6, mask, temperature=0)
    np.testing.assert_array_equal(model.generate(np.where(mask, ids, 9), 6, mask, temperature=0), generated)
    np.testing.assert_array_equal(model.generate(ids[0], 6, temperature=0), generated[:1])


def test_the_program_writes_the_same_tokens(tmp_path: Path, model: bsbr_hpc.Model) -> None:
    program = PROGRAMS / "bsbr_generate"
    if not program.exists():
        pytest.skip(f"{program} is not built; what it writes was not compared")
    model.save(tmp_path / "model.h5")
    options: dict[str, Any] = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "seed": 11}
    stream = model.stream()
    stream.feed("once upon a time")
    stream.save(tmp_path / "stream.h5")

    def written(*arguments: str) -> bytes:
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        command = [str(program), "--model", str(tmp_path / "model.h5"), "--tokens", "30", *flags, *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, check=True).stdout

    ids = model.generate("once upon a time", 30, batch=2, **options)
    assert written("--prompt", "once upon a time", "--batch", "2") == b"".join(bytes(row.tolist()) + b"\n" for row in ids)
    assert written("--state-in", str(tmp_path / "stream.h5"), "--state-out", str(tmp_path / "later.h5")) == bytes(ids[0].tolist())
    later = model.load_stream(tmp_path / "later.h5")
    assert later.tokens == 16 + 30
    stream.feed(ids[:1])
    np.testing.assert_array_equal(later.generate(5), stream.generate(5))


def test_ctrl_c_ends_between_tokens_and_leaves_a_whole_stream(model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    stream.feed("go on")
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        stream.generate(10**9, seed=1)
    timer.join()
    done = stream.tokens - 5
    assert done > 0
    more = stream.generate(4, seed=1)
    np.testing.assert_array_equal(more, model.generate("go on", done + 4, seed=1)[:, done:])


# ---- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "arguments", "text"),
    [
        (bsbr_hpc.ShapeError, ([[1], [2], [3]],), "ids have 3 rows, the stream is of 2 sequences"),
        (bsbr_hpc.ShapeError, ([1, 2],), "ids have 1 rows, the stream is of 2 sequences"),
        (bsbr_hpc.ShapeError, ([[1], [256]],), "ids[1, 0] = 256, must be 0 to 255"),
        (bsbr_hpc.ShapeError, ([[1], [2]], [[1], [3]]), "mask[1, 0] = 3, must be 0 or 1"),
        (bsbr_hpc.ShapeError, ([[1], [2]], [1, 1]), "mask is [1, 2], ids are [2, 1]"),
        (TypeError, ([[0.5], [1.0]],), "ids must be integers, not float64"),
    ],
)
def test_a_wrong_piece_is_refused_and_leaves_the_stream_as_it_was(model: bsbr_hpc.Model, kind: type[Exception], arguments: Any, text: str) -> None:
    stream = model.stream(2)
    first = stream.feed(["abcd", "efgh"])
    assert str(error_of(lambda: stream.feed(*arguments), kind)) == text
    assert stream.tokens == 4
    states = np.concatenate([first, stream.feed(["ij", "kl"])], axis=1)
    np.testing.assert_array_equal(states, model.forward(["abcdij", "efghkl"]))


def test_a_piece_is_that_of_the_next_tokens(model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    stream.feed("abcd")
    piece = stream.sequence(3)
    assert (piece.origin, piece.length, piece.first_token, piece.offset, piece.local_tokens) == (4, 3, 4, 0, 3)
    assert (model.sequence(3).origin, model.sequence(3).offset) == (0, 0)
    assert piece.first_token_of(piece.ranks) == 7 and repr(piece).startswith("Sequence(length=3, origin=4, batch=1, ")
    stream.feed("efg", sequence=piece)
    error = error_of(lambda: stream.feed("hij", sequence=piece), bsbr_hpc.ShapeError)
    assert str(error) == "a piece of 1 sequences from token 4 on is not the next one of 1 sequences of 7 tokens"
    assert str(error_of(lambda: stream.feed("hi", sequence=piece), bsbr_hpc.ShapeError)) == "ids are [1, 2], this rank's part of the piece [1, 3]"
    assert str(error_of(lambda: stream.sequence(-1), bsbr_hpc.ConfigError)) == "length = -1 is negative"
    assert str(error_of(lambda: stream.sequence(0.5), TypeError)) == "length is 0.5, which is not a whole number"  # type: ignore[arg-type]
    stream.feed("hij")


def test_a_stream_whose_feed_has_failed_in_the_library_is_given_up(tmp_path: Path, model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    stream.feed("abc")
    beyond = np.array([[300]], np.int32)  # past the checks of the package
    error_of(lambda: stream._stream.feed(stream._stream.next(1), beyond, None), bsbr_hpc.ShapeError)
    for call in (lambda: stream.feed("d"), stream.logits, stream.choose, lambda: stream.generate(1), lambda: stream.save(tmp_path / "s.h5")):
        assert "of this stream has failed" in str(error_of(call, bsbr_hpc.ShapeError))


def test_models_whose_tokens_see_later_ones_have_no_streams() -> None:
    model = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path, causality="bidirectional")
    for call in (model.stream, lambda: bsbr_hpc.Model(model.config.replace(head="tied"), model.state_dict()).generate([1], 1)):
        assert str(error_of(call, bsbr_hpc.ConfigError)).startswith("bsbr has streams with causality = causal only, not bidirectional")
    model = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path)
    assert str(error_of(lambda: model.stream(-1), bsbr_hpc.ConfigError)) == "batch = -1 is negative"
    assert str(error_of(lambda: model.stream(1.5), TypeError)) == "batch is 1.5, which is not a whole number"  # type: ignore[arg-type]


def test_a_model_without_a_head_has_streams_but_generates_nothing() -> None:
    model = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path)
    stream = model.stream()
    stream.feed([1, 2, 3])
    for call in (stream.logits, stream.choose, lambda: stream.generate(1), lambda: model.generate([1, 2], 1)):
        error = error_of(call, bsbr_hpc.ConfigError)
        assert str(error) == "the model has no head (head = none): it gives hidden states, and no logits"
    stream.feed([4])


def test_a_stream_without_tokens_has_nothing_to_go_on_from(model: bsbr_hpc.Model) -> None:
    stream = model.stream()
    for call in (stream.logits, stream.choose, lambda: stream.generate(1)):
        assert str(error_of(call, bsbr_hpc.ShapeError)) == "the stream has read no token: there is none to go on from"


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (bsbr_hpc.ConfigError, {"temperature": -1}, "temperature = -1 is below 0"),
        (bsbr_hpc.ConfigError, {"temperature": math.nan}, "temperature = nan is not a finite number"),
        (bsbr_hpc.ConfigError, {"top_k": -1}, "top_k = -1 is below 0"),
        (bsbr_hpc.ConfigError, {"top_k": 1 << 63}, "top_k = 9223372036854775808 is above 9223372036854775807"),
        (bsbr_hpc.ConfigError, {"top_p": 0}, "top_p = 0 is not above 0"),
        (bsbr_hpc.ConfigError, {"top_p": 1.5}, "top_p = 1.5 is above 1"),
        (bsbr_hpc.ConfigError, {"seed": -1}, "seed = -1 is below 0"),
        (bsbr_hpc.ConfigError, {"seed": 1 << 64}, "seed = 18446744073709551616 is above 18446744073709551615"),
        (TypeError, {"temperature": "hot"}, "temperature is 'hot', which is not a number"),
        (TypeError, {"top_p": None}, "top_p is None, which is not a number"),
        (TypeError, {"top_k": 1.5}, "top_k is 1.5, which is not a whole number"),
        (TypeError, {"seed": True}, "seed is True, which is not a whole number"),
    ],
)
def test_ways_to_choose_that_are_none_are_refused(model: bsbr_hpc.Model, kind: type[Exception], options: dict[str, Any], text: str) -> None:
    stream = model.stream()
    stream.feed("abc")
    for call in (lambda: stream.choose(**options), lambda: stream.generate(2, **options), lambda: model.generate("abc", 2, **options)):
        assert str(error_of(call, kind)) == text
    assert stream.tokens == 3


@pytest.mark.parametrize(
    ("kind", "arguments", "options", "text"),
    [
        (bsbr_hpc.ShapeError, ("", 1), {}, "ids are empty"),
        (bsbr_hpc.ShapeError, (np.empty((1, 0), int), 1), {}, "the prompt is empty: there must be a token to go on from"),
        (bsbr_hpc.ShapeError, ([1, 256], 1), {}, "ids[0, 1] = 256, must be 0 to 255"),
        (bsbr_hpc.ShapeError, ([[1, 2], [3, 4]], 1, [[1, 1], [1, 0]]), {}, "mask[1, 1] = 0: the last token of a prompt is padding"),
        (bsbr_hpc.ShapeError, ("ab", 1), {"batch": 0}, "batch is 0, must be 1 at least"),
        (bsbr_hpc.ShapeError, (["ab", "cd"], 1), {"batch": 2}, "batch is 2, and prompt has 2 rows, each of which is continued"),
        (bsbr_hpc.ConfigError, ("ab", -1), {}, "tokens = -1 is below 0"),
        (TypeError, ("ab", 1.5), {}, "tokens is 1.5, which is not a whole number"),
        (TypeError, ("ab", 1), {"batch": "2"}, "batch is '2', which is not a whole number"),
    ],
)
def test_prompts_that_are_none_are_refused(model: bsbr_hpc.Model, kind: type[Exception], arguments: Any, options: Any, text: str) -> None:
    assert str(error_of(lambda: model.generate(*arguments, **options), kind)) == text


def test_logits_that_are_not_finite_are_an_error() -> None:
    config, weights = small_model(head="separate")
    large = {"lm_head.weight": np.full((11, 8), 3e38), "layer_norm.bias": np.full(8, 10.0)}
    model = bsbr_hpc.Model(config, {**weights, **large})
    error = error_of(lambda: model.generate([1, 2, 3], 1), bsbr_hpc.Error)
    assert str(error).startswith("the logit of id 0 is ") and str(error).endswith(": no token can be chosen")


def test_a_stream_is_neither_pickled_nor_copied(model: bsbr_hpc.Model) -> None:
    error = error_of(lambda: pickle.dumps(model.stream()), TypeError)
    assert str(error) == "a stream can be neither pickled nor copied; use stream.save and model.load_stream"
