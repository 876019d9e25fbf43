"""A program that uses all of the package's interface: mypy checks it (strictly), and test_typing.py that it runs."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

import bsbr_hpc


def states_of(path: str, mask: Optional[NDArray[np.bool_]]) -> NDArray[Any]:
    model: bsbr_hpc.Model = bsbr_hpc.Model.load(path, precision="float64", chunk_size=8)
    sequence: bsbr_hpc.Sequence = model.sequence(length=9, batch=1)
    first: int = sequence.first_token
    last: int = sequence.first_token_of(sequence.rank + 1)
    ids = np.arange(9)[first:last]
    return model.forward(ids, mask, sequence)


def made(config: bsbr_hpc.ModelConfig) -> bsbr_hpc.Model:
    fields: dict[str, str | int | float] = config.to_dict()
    weights = {name: np.ones(shape, np.float32) for name, shape in config.weight_shapes().items()}
    of_dict = bsbr_hpc.Model(fields, weights)
    assert of_dict.config == config and of_dict.parameters > 0 and of_dict.precision == "float32"
    return bsbr_hpc.Model(config.replace(causality="bidirectional"), weights)


def used(model: bsbr_hpc.Model, path: Path) -> NDArray[Any]:
    model.save(path)
    again = bsbr_hpc.Model.load(os.fsencode(path), precision=np.float32)
    ids, mask = bsbr_hpc.pad([[1, 2, 3], b"x"], length=4)
    ids_type: NDArray[np.int64] = ids
    logits: NDArray[Any] = again(ids_type, mask) @ model.state_dict()["embedding.weight"].T
    other: bsbr_hpc.Model = bsbr_hpc.Model.from_torch(model.state_dict(), num_heads=2, chunk_size=4)
    states: NDArray[Any] = other(ids) + logits.sum()
    return states


def learned(model: bsbr_hpc.Model, mask: Optional[NDArray[np.bool_]]) -> bsbr_hpc.Model:
    ids = np.arange(9)
    sequence: bsbr_hpc.Sequence = model.gradient_sequence(length=9, batch=1)
    before: bsbr_hpc.Loss = model.loss(ids, targets=None, mask=mask, sequence=sequence)
    result: bsbr_hpc.LossAndGradients = model.gradients(ids, np.roll(ids, -1), mask, sequence, recompute="none")
    numbers: tuple[float, int, float, float] = (before.loss, before.counted, result.bits_per_token, result.perplexity)
    losses: NDArray[np.float64] = result.token_losses
    gradients: dict[str, NDArray[Any]] = result.gradients
    print(numbers, losses.shape)
    return bsbr_hpc.Model(model.config, {name: weight - 0.1 * gradients[name] for name, weight in model.state_dict().items()})


def continued(model: bsbr_hpc.Model, path: Path) -> NDArray[np.int32]:
    ids, mask = bsbr_hpc.pad([[1, 2, 3], b"x"], left=True)
    new: NDArray[np.int32] = model.generate(ids, 4, mask, temperature=0.8, top_k=40, top_p=0.95, seed=1)
    stream: bsbr_hpc.Stream = model.stream(batch=2)
    piece: bsbr_hpc.Sequence = stream.sequence(3)
    states: NDArray[Any] = stream.feed(ids, mask, piece)
    logits: NDArray[Any] = stream.logits()
    chosen: NDArray[np.int32] = stream.choose(temperature=0)
    stream.feed(chosen)
    stream.save(path)
    loaded: bsbr_hpc.Stream = model.load_stream(path)
    numbers: tuple[int, int, int, int] = (loaded.tokens, loaded.batch, loaded.bytes, piece.origin + piece.offset)
    print(numbers, states.shape, logits.argmax(axis=1), new.shape)
    return loaded.generate(3, seed=np.int64(2).item())


def main() -> None:
    config = bsbr_hpc.ModelConfig(architecture="bsbr", hidden_dim=16, num_heads=2, ff_dim=8, num_layers=1, dropout=0.1, head="tied")
    head_width: int = config.hidden_dim // config.num_heads
    print(bsbr_hpc.__version__, bsbr_hpc.git_commit, head_width, made(config), states_of(sys.argv[1], np.ones(9, bool)).shape)
    with tempfile.TemporaryDirectory() as folder:
        print(used(made(config), Path(folder) / "model.h5").shape)
        print(continued(bsbr_hpc.Model(config, made(config).state_dict()), Path(folder) / "stream.h5"))
    print(learned(made(config), np.ones(9, bool)))
    try:
        bsbr_hpc.ModelConfig(num_heads=7)
    except bsbr_hpc.Error as error:
        print(error, error.hint)


if __name__ == "__main__":
    main()
