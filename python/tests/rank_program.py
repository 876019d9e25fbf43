"""What test_ranks.py runs on several ranks.

rank_program.py states FOLDER NAME…   writes the states of golden files, in FOLDER/NAME-PRECISION-WAY.npy
rank_program.py errors                raises errors that are of one rank's data or of a file, and prints "good" where they are caught
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Callable

import numpy as np
from golden_cases import Case
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
    sys.stdout.write("good\n")


if __name__ == "__main__":
    if sys.argv[1] == "states":
        for case_name in sys.argv[3:]:
            for real in ("float32", "float64"):
                write_states(Path(sys.argv[2]), case_name, real)
    else:
        check_errors()
