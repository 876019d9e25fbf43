"""Transformer models with block sparse attention and block retrieval (BSBR), or one of six other attentions, over very long sequences.

    model = bsbr_hpc.Model.load("model.h5")
    states = model.forward(ids)    # [batch, tokens, hidden_dim]
    loss = model.loss(ids).loss    # of the next tokens, by a model with a head; model.gradients(ids) also differentiates it
    more = model.generate(ids, 50) # the next 50 tokens; model.stream() reads a sequence piece by piece

MPI and Kokkos are started at the first use of a model and finalised when the interpreter exits.
"""

from ._arrays import pad
from ._core import ModelConfig, Sequence, git_commit as _git_commit, version as _version
from .errors import CommunicationError, ConfigError, Error, FileError, MemoryError, OutputError, ShapeError
from ._loss import Loss, LossAndGradients
from ._model import Model
from ._stream import Stream

__version__: str = _version()
git_commit: str = _git_commit()

__all__ = [
    "CommunicationError",
    "ConfigError",
    "Error",
    "FileError",
    "Loss",
    "LossAndGradients",
    "MemoryError",
    "Model",
    "ModelConfig",
    "OutputError",
    "Sequence",
    "ShapeError",
    "Stream",
    "git_commit",
    "pad",
]
