"""The model: weights from a file or from arrays, and its forward pass."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import as_ids, as_mask, as_weight, integers
from ._core import ModelConfig, Sequence
from .errors import ShapeError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_LOADERS = {"float32": _core.load_float32, "float64": _core.load_float64}
_MAKERS = {"float32": _core.from_arrays_float32, "float64": _core.from_arrays_float64}


def _by_precision(functions: Mapping[str, Any], precision: str) -> Any:
    if precision not in functions:
        raise ValueError(f"precision is {precision!r}, known are {', '.join(functions)}")
    return functions[precision]


def _hdf5_lock() -> contextlib.AbstractContextManager[Any]:
    """h5py's: with an h5py of the same HDF5 library, which is rarely thread-safe, other threads may be in it."""
    lock: contextlib.AbstractContextManager[Any] = getattr(sys.modules.get("h5py._objects"), "phil", contextlib.nullcontext())
    return lock


class Model:
    """A transformer with one of the seven attentions.

    With an mpi4py communicator as `comm`, making a model, `sequence` and `forward` are collective: all ranks call them, in the same
    order. Without one a model is this process's own.
    """

    _model: _core.Model

    def __init__(
        self,
        config: Union[ModelConfig, Mapping[str, Any]],
        weights: Mapping[str, Any],
        precision: str = "float32",
        comm: Optional[Intracomm] = None,
    ) -> None:
        """A model with these weights: name in PyTorch's state_dict -> array of NumPy or with DLPack, float32 or float64. They are copied.

        `config` is a ModelConfig, or a dict of its fields. Every rank gives all weights.
        """
        make = _by_precision(_MAKERS, precision)
        if not isinstance(config, ModelConfig):
            config = ModelConfig(**config)
        self._model = make(config, {name: as_weight(name, weight) for name, weight in weights.items()}, comm)

    @classmethod
    def load(
        cls,
        path: Union[str, os.PathLike[str]],
        precision: str = "float32",
        comm: Optional[Intracomm] = None,
        **changes: Union[str, int],
    ) -> Model:
        """The model of a file. Rank 0 reads it, the others get it from there.

        `changes` are fields of the configuration that are to be other than in the file; it may be those that no weight depends on:
        causality, chunk_size, window_size and the like.
        """
        model = cls.__new__(cls)
        with _hdf5_lock():
            model._model = _by_precision(_LOADERS, precision)(os.fspath(path), comm, changes)
        return model

    @property
    def config(self) -> ModelConfig:
        return self._model.config

    @property
    def precision(self) -> str:
        """float32 or float64: what is computed in, and the type of results."""
        return self._model.precision

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self._model.parameters

    def sequence(self, length: int, batch: int = 1) -> Sequence:
        """Which part of such sequences this rank holds: tokens [first_token, first_token + local_tokens) of each."""
        return self._model.sequence(length, batch)

    def forward(self, ids: Any, mask: Any = None, sequence: Optional[Sequence] = None) -> NDArray[Any]:
        """Hidden states after the final norm, [batch, local tokens, hidden_dim].

        `ids` are integers [batch, tokens] or [tokens], of NumPy or anything with __dlpack__ on the CPU; `mask` is of the same shape, 1 or
        True for a token, 0 or False for padding. Both are the whole sequences, on every rank; with `sequence`, which `Model.sequence` has
        made, only this rank's part of them. int32 ids and a mask of one byte are not copied if they are contiguous.
        """
        tokens = integers("ids", ids)
        real = None if mask is None else integers("mask", mask, "iub")
        if sequence is None:
            if real is not None and real.shape != tokens.shape:
                raise ShapeError(f"mask is {list(real.shape)}, ids are {list(tokens.shape)}")
            sequence = self.sequence(tokens.shape[1], tokens.shape[0])
            part = slice(sequence.first_token, sequence.first_token + sequence.local_tokens)
            tokens = tokens[:, part]
            real = None if real is None else real[:, part]
        states: NDArray[Any] = np.asarray(
            self._model.forward(sequence, as_ids(tokens), None if real is None else as_mask(real))
        )
        return states

    def __repr__(self) -> str:
        return f"<bsbr_hpc.Model, {self.parameters} parameters in {self.precision}, {self.config!r}>"
