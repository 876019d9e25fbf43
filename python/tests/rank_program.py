"""What test_ranks.py runs on several ranks.

rank_program.py states FOLDER NAME…      writes the states of golden files, in FOLDER/NAME-PRECISION-WAY.npy
rank_program.py gradients FOLDER NAME…   writes losses and gradients of golden files, in FOLDER/NAME-PRECISION-WAY.npz
rank_program.py streams FOLDER NAME…     writes what streams of golden files give, in FOLDER/NAME-PRECISION.npz, and their state files beside it
rank_program.py errors                   raises errors that are of one rank's data or of a file, and prints "good" where they are caught
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
from golden_cases import Case, GradientCase
from mpi4py import MPI

import bsbr_hpc

COMM = MPI.COMM_WORLD


def write(path: Path, part: np.ndarray) -> None:
    """Rank 0 writes the parts of all ranks, one after the other."""
    parts = COMM.gather(part)
    if parts is not None:
        np.save(path, np.concatenate(parts, axis=1))


def write_states(folder: Path, name: str, precision: str) -> None:
    case = Case.read(name)
    model = bsbr_hpc.Model.load(case.path, precision, COMM)
    write(folder / f"{name}-{precision}-whole.npy", model.forward(case.ids, case.mask))

    sequence = model.sequence(case.ids.shape[1], case.ids.shape[0])
    assert (sequence.rank, sequence.ranks) == (COMM.rank, COMM.size)
    part = slice(sequence.first_token, sequence.first_token_of(COMM.rank + 1))
    states = model.forward(case.ids[:, part], None if case.mask is None else case.mask[:, part], sequence)
    assert states.shape[1] == sequence.local_tokens
    write(folder / f"{name}-{precision}-parts.npy", states)

    model = bsbr_hpc.Model(case.config, case.weights(), precision, COMM)
    write(folder / f"{name}-{precision}-arrays.npy", model.forward(case.ids, case.mask))


def write_gradients(folder: Path, name: str, precision: str) -> None:
    case = GradientCase.read(name)
    model = bsbr_hpc.Model.load(case.path, precision, COMM)
    save_gradients(folder / f"{name}-{precision}-whole", model.gradients(case.ids, mask=case.mask), model.loss(case.ids, mask=case.mask))

    sequence = model.gradient_sequence(case.ids.shape[1], case.ids.shape[0])
    part = slice(sequence.first_token, sequence.first_token + sequence.local_tokens)
    own = (case.ids[:, part], case.targets[:, part], None if case.mask is None else case.mask[:, part], sequence)
    result = model.gradients(*own, recompute="none")
    assert result.token_losses.shape == (sequence.batch, sequence.local_tokens)
    save_gradients(folder / f"{name}-{precision}-parts", result, model.loss(*own))


def save_gradients(path: Path, result: bsbr_hpc.LossAndGradients, loss: bsbr_hpc.Loss) -> None:
    """Rank 0 writes what it has; all ranks have the same, and token losses of their own."""
    summary = [result.loss, result.counted, result.bits_per_token, result.perplexity]
    arrays = {"summary": np.array(summary), **result.gradients}
    for name, array in arrays.items():
        assert COMM.bcast(array).tobytes() == array.tobytes(), name
    assert COMM.allreduce(result.token_losses.shape[1]) == COMM.allreduce(loss.token_losses.shape[1])
    parts = COMM.gather((result.token_losses, loss.token_losses))
    assert [loss.loss, loss.counted, loss.bits_per_token, loss.perplexity] == summary
    if parts is not None:
        of_gradients, of_loss = (np.concatenate(losses, axis=1) for losses in zip(*parts))
        np.testing.assert_array_equal(of_gradients, of_loss)
        np.savez(path, token_losses=of_gradients, **arrays)


def write_stream(folder: Path, name: str, precision: str) -> None:
    """Fed in four pieces, two of them as each rank's own part; saved behind three, and loaded by all ranks."""
    case = GradientCase.read(name)
    model = bsbr_hpc.Model.load(case.path, precision, COMM)
    stream, states, path = model.stream(case.ids.shape[0]), [], folder / f"{name}-{precision}.h5"

    def feed(first: int, last: int, own: bool) -> None:
        piece = stream.sequence(last - first)
        begin, end = (first + piece.offset, first + piece.offset + piece.local_tokens) if own else (first, last)
        mask = None if case.mask is None else case.mask[:, begin:end]
        parts = COMM.allgather(stream.feed(case.ids[:, begin:end], mask, piece if own else None))
        states.append(np.concatenate(parts, axis=1))

    length = case.ids.shape[1]
    for first, last, own in ((0, 1, False), (1, 7, True), (7, length - 1, False)):
        feed(first, last, own)
    stream.save(path)
    stream = model.load_stream(path)
    feed(length - 1, length, True)
    logits, ids = stream.logits(), stream.generate(9, seed=5)
    once = model.generate(case.ids[:1, :5], 9, batch=2, temperature=0.7, top_k=5, seed=6)
    for array in (logits, ids, once):
        assert COMM.bcast(array).tobytes() == array.tobytes()
    assert stream.tokens == length + 9
    if COMM.rank == 0:
        np.savez(path.with_suffix(".npz"), states=np.concatenate(states, axis=1), logits=logits, ids=ids, once=once)


def raises(kind: type[Exception], text: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except kind as error:
        assert str(error) == text, str(error)
    else:
        raise AssertionError(f"nothing was raised; expected: {text}")


def check_errors() -> None:
    """Only the last rank's part is bad; the communicator works afterwards."""
    case = Case.read("bsbr_mask_right")
    model = bsbr_hpc.Model.load(case.path, comm=COMM)
    ids = case.ids.copy()
    ids[-1, -1] = 99
    place = f"{case.ids.shape[0] - 1}, {case.ids.shape[1] - 1}"
    raises(bsbr_hpc.ShapeError, f"ids[{place}] = 99, must be 0 to 30", lambda: model.forward(ids))
    own = ids.astype(float) if COMM.rank == COMM.size - 1 else case.ids  # wrong on one rank only
    raises(TypeError, "ids must be integers, not float64", lambda: model.forward(own))
    weights = case.weights()
    if COMM.rank == 1:
        weights["layer_norm.bias"] = np.zeros((12, 1))
    raises(bsbr_hpc.ShapeError, "layer_norm.bias is [12, 1], the configuration needs [12]",
           lambda: bsbr_hpc.Model(case.config, weights, comm=COMM))
    assert COMM.bcast(model.config) == model.config
    raises(bsbr_hpc.FileError, "none.h5: there is no such file", lambda: bsbr_hpc.Model.load("none.h5", comm=COMM))
    other_length = case.ids[:, COMM.rank :]
    raises(
        bsbr_hpc.CommunicationError,
        f"the ranks disagree on the sequence's length: {case.ids.shape[1] - COMM.size + 1} on one, {case.ids.shape[1]} on another",
        lambda: model.forward(other_length),
    )
    alone = bsbr_hpc.Model.load(case.path).forward(case.ids, case.mask)
    part = model.forward(case.ids, case.mask)
    first = model.sequence(case.ids.shape[1], case.ids.shape[0]).first_token
    np.testing.assert_array_equal(part, alone[:, first : first + part.shape[1]])
    check_errors_of_gradients()
    check_errors_of_streams()
    sys.stdout.write("good\n")


def check_errors_of_gradients() -> None:
    """Only the last rank's part is bad, or what the ranks say differs; the communicator works afterwards."""
    case = GradientCase.read("bsbr_masks")
    model = bsbr_hpc.Model.load(case.path, comm=COMM)
    last = COMM.rank == COMM.size - 1
    targets = case.targets.copy()
    targets[-1, -1] = 99
    place = f"{case.ids.shape[0] - 1}, {case.ids.shape[1] - 1}"
    some, but_one = f"1 of {COMM.size} ranks have", f"{COMM.size - 1} of {COMM.size} ranks have"
    for call in (model.loss, model.gradients):
        raises(bsbr_hpc.ShapeError, f"targets[{place}] = 99, must be -1 (none) or 0 to 16", lambda: call(case.ids, targets))
        raises(bsbr_hpc.ShapeError, f"{some} targets: all must, or none", lambda: call(case.ids, case.targets if last else None))
        raises(bsbr_hpc.ShapeError, f"{but_one} a mask: all must, or none", lambda: call(case.ids, mask=None if last else case.mask))
    raises(bsbr_hpc.ShapeError, f"{some} recompute = none: all must, or none",
           lambda: model.gradients(case.ids, recompute="none" if last else "all"))
    raises(ValueError, "recompute is 'auto', known are all, none",
           lambda: model.gradients(case.ids, recompute="auto" if last else "all"))
    without = bsbr_hpc.Model.load(Case.read("bsbr_ragged").path, comm=COMM)
    raises(bsbr_hpc.ConfigError, "the model has no head (head = none): it gives hidden states, and no logits",
           lambda: without.loss([1, 2, 3]))
    alone = bsbr_hpc.Model.load(case.path)
    assert model.gradients(case.ids, mask=case.mask).loss == alone.loss(case.ids, mask=case.mask).loss


def check_errors_of_streams() -> None:
    """The same of streams, which go on afterwards."""
    case = GradientCase.read("bsbr_masks")
    model = bsbr_hpc.Model.load(case.path, comm=COMM)
    last = COMM.rank == COMM.size - 1
    stream = model.stream(2)
    pieces = [case.ids[:2, :6], case.ids[:2, 6:]]
    stream.feed(pieces[0])
    raises(bsbr_hpc.ShapeError, "ids[1, 0] = 99, must be 0 to 16", lambda: stream.feed([[1], [99 if last else 1]]))
    raises(bsbr_hpc.ShapeError, "ids have 3 rows, the stream is of 2 sequences", lambda: stream.feed([[1], [1], [1]]))
    raises(bsbr_hpc.ConfigError, "top_k = -1 is below 0", lambda: stream.choose(top_k=-1 if last else 0))
    raises(TypeError, "tokens is 'all', which is not a whole number",
           lambda: model.generate([1], "all" if last else 1))  # type: ignore[arg-type]
    raises(bsbr_hpc.FileError, "none.h5: there is no such file", lambda: model.load_stream("none.h5"))
    raises(TypeError, "batch is 0.5, which is not a whole number", lambda: model.stream(0.5 if last else 1))  # type: ignore[arg-type]
    width = model.config.hidden_dim
    large = {"lm_head.weight": np.full((17, width), 3e38), "layer_norm.bias": np.full(width, 10.0)}
    overflowing = bsbr_hpc.Model(model.config.replace(head="separate"), {**case.weights(), **large}, comm=COMM)
    raises(bsbr_hpc.Error, "the logit of id 0 is inf: no token can be chosen", lambda: overflowing.generate([1, 2], 3))
    expected = bsbr_hpc.Model.load(case.path).forward(case.ids[:2])[:, 6:]
    np.testing.assert_array_equal(np.concatenate(COMM.allgather(stream.feed(pieces[1])), axis=1), expected)


if __name__ == "__main__":
    writers = {"states": write_states, "gradients": write_gradients, "streams": write_stream}
    if sys.argv[1] in writers:
        for case_name in sys.argv[3:]:
            for real in ("float32", "float64"):
                writers[sys.argv[1]](Path(sys.argv[2]), case_name, real)
    else:
        check_errors()
