"""Weights of PyTorch: `Model.from_torch` in Python, and on the command line `python -m bsbr_hpc.convert`, or `bsbr-convert`.

    python -m bsbr_hpc.convert INPUT OUTPUT.h5 --from bsbr|gpt2|nanogpt [--config FILE.json] [configuration options]
    python -m bsbr_hpc.convert MODEL.h5 OUTPUT.safetensors

The command is that of tools/convert_weights.py; docs/weights.md describes both. It needs h5py.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any, Mapping, Optional, Sequence

from numpy.typing import NDArray

from bsbr_convert import command, conversion, weight_files
from bsbr_convert.architectures import FIELDS
from bsbr_convert.checkpoints import WRAPPING
from bsbr_convert.command_line import USAGE, Failure

from ._core import ModelConfig
from .errors import ConfigError, Error

__all__ = ["main", "weights_of"]

_ATTENTIONS = {  # classes of the Python package bsbr
    "BSBRAttention": "bsbr",
    "StandardAttention": "standard",
    "LinearAttention": "linear",
    "DeltaNetAttention": "delta_net",
    "SlidingWindowAttention": "sliding_window",
    "HopfieldAttention": "hopfield",
    "ChunkGatedAttentionUnit": "gau",
}
_ATTRIBUTES = ("num_heads", "chunk_size", "window_size", "temperature", "beta", "expansion_factor", "compression_factor")


class _Request(conversion.Request):
    """With the words of a call in Python."""

    def argument(self, field: str) -> str:
        return field

    def flag(self, name: str) -> str:
        return "allow_unused=True" if name == "allow_unused" else ""


def weights_of(
    source: Any, kind: str = "bsbr", *, allow_unused: bool = False, **fields: Any
) -> tuple[ModelConfig, dict[str, NDArray[Any]]]:
    """Configuration and weights of a model of PyTorch, as `Model` takes them.

    Args:
        source: a torch.nn.Module, or a state_dict: name -> tensor. Half precision becomes float32, which is exact.
        kind: "bsbr", the Python package bsbr and its baselines; "gpt2", GPT-2 of transformers; "nanogpt".
        allow_unused: tensors that have no place in the model are left out, with a warning, instead of being an error.
        fields: fields of the configuration that neither the tensors nor the module tell.

    Returns:
        The ModelConfig, and name -> array, float32 or float64.

    Raises:
        ConfigError: a field is needed or does not fit.
        Error: a tensor is missing, surplus, of another shape or type, or not finite.
        ValueError: an unknown kind.

    Warns:
        UserWarning: what is only approximately the same, tensors that are left out, and that a GPT-2 needs training.
    """
    if kind not in command.KINDS:
        raise ValueError(f"kind is {kind!r}, known are {', '.join(command.KINDS)}")
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise TypeError(f"source is of type {type(source).__name__}; a torch.nn.Module or a state_dict is taken")
    told, content = _told_by_module(source, kind)
    given = {name: conversion.Given(value, name, USAGE) for name, value in {**told, **fields}.items() if value is not None}
    try:
        if unknown := [name for name in given if name not in FIELDS]:
            raise Failure(USAGE, f"a configuration has no field {unknown[0]}")
        tensors = weight_files.tensors_of("state_dict", dict(state))
        result = conversion.convert(tensors, _Request(kind, given, content, "config", allow_unused=allow_unused))
        weights = {name: result.make(name) for name in result.table}
    except Failure as error:
        raise (ConfigError if error.code == USAGE else Error)(str(error), error.hint or "") from None
    for note in conversion.report(result):
        if note.startswith(("approximate", "unused", "note")):
            warnings.warn(note, stacklevel=3)
    return ModelConfig(**result.config), weights


def _told_by_module(source: Any, kind: str) -> tuple[dict[str, Any], Optional[dict[str, Any]]]:
    """Fields that a module of the package has as attributes; or the configuration of a model of transformers."""
    if kind == "gpt2" and hasattr(source, "config") and hasattr(source.config, "to_dict"):
        return {}, source.config.to_dict()
    fields: dict[str, Any] = {}
    for name, module in source.named_modules() if kind == "bsbr" and hasattr(source, "named_modules") else ():
        plain = [part for part in name.split(".") if part not in WRAPPING]
        if plain[-3:] == ["layers", "0", "attention"] and type(module).__name__ in _ATTENTIONS:
            fields = {field: getattr(module, field, None) for field in _ATTRIBUTES}
            fields["architecture"] = _ATTENTIONS[type(module).__name__]
    return fields, None


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """The command, with the arguments of the process if none are given. Returns its exit code."""
    return command.main(list(sys.argv[1:] if arguments is None else arguments), "bsbr-convert")


if __name__ == "__main__":
    sys.exit(main())
