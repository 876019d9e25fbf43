"""bsbr: transformer models with block sparse attention and block retrieval, over very long sequences.

    model = bsbr_hpc.Model.load("model.h5")
    states = model.forward(ids)    # [batch, tokens, hidden_dim]

MPI and Kokkos are started at the first use and ended with the interpreter. See docs/python.md of the project.
"""

from ._core import ModelConfig, Sequence, git_commit as _git_commit, version as _version
from .errors import CommunicationError, ConfigError, Error, FileError, MemoryError, ShapeError
from ._model import Model

__version__: str = _version()
git_commit: str = _git_commit()

__all__ = [
    "CommunicationError",
    "ConfigError",
    "Error",
    "FileError",
    "MemoryError",
    "Model",
    "ModelConfig",
    "Sequence",
    "ShapeError",
    "git_commit",
]
