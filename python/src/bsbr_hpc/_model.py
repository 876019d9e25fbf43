"""The model: weights from a file or from arrays, its forward pass, its loss and its gradients, streams and what they generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Mapping, Optional, Union

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import as_ids, as_mask, as_targets, as_weight, ids_of, mask_of, targets_of, whole_number
from ._calls import Path, agreed, hdf5_lock, path_of
from ._core import ModelConfig, Sequence
from ._loss import Loss, LossAndGradients
from ._stream import Stream, count_of, sampler_of
from .errors import ShapeError

if TYPE_CHECKING:
    from mpi4py.MPI import Intracomm

_LOADERS = {"float32": _core.load_float32, "float64": _core.load_float64, "bfloat16": _core.load_bfloat16}
_MAKERS = {"float32": _core.from_arrays_float32, "float64": _core.from_arrays_float64, "bfloat16": _core.from_arrays_bfloat16}
_PRECISIONS = {"float32": "float32", "float64": "float64", "float": "float32", "double": "float64", "bfloat16": "bfloat16"}


def _by_precision(functions: Mapping[str, Any], precision: Any) -> Any:
    """Of a name, or of a type of NumPy or PyTorch."""
    kind = np.dtype(precision) if isinstance(precision, type) and issubclass(precision, np.generic) else precision
    name = kind.name if isinstance(kind, np.dtype) else str(kind).removeprefix("torch.")
    if name not in _PRECISIONS:
        raise ValueError(f"precision is {precision!r}, known are {', '.join(functions)}")
    return functions[_PRECISIONS[name]]


def _recompute(name: str) -> _core.Recompute:
    try:
        return _core.Recompute[name]
    except KeyError:
        raise ValueError(f"recompute is {name!r}, known are {', '.join(_core.Recompute.__members__)}") from None


def _prompts(ids: NDArray[Any], mask: Optional[NDArray[Any]], batch: int) -> tuple[NDArray[Any], Optional[NDArray[Any]]]:
    """Ids and mask of the sequences that are continued: rows, or one row `batch` times. ShapeError unless they can be."""
    rows, length = ids.shape
    if ids.size == 0:
        raise ShapeError("the prompt is empty: there must be a token to go on from")
    if mask is not None and not mask[:, -1].all():
        raise ShapeError(f"mask[{int(mask[:, -1].argmin())}, {length - 1}] = 0: the last token of a prompt is padding",
                         "bsbr_hpc.pad(prompts, left=True) pads them at the beginning")
    if batch < 1:
        raise ShapeError(f"batch is {batch}, must be 1 at least")
    if batch > 1 and rows > 1:
        raise ShapeError(f"batch is {batch}, and prompt has {rows} rows, each of which is continued")
    return ids.repeat(batch, axis=0), None if mask is None else mask.repeat(batch, axis=0)


class Model:
    """A transformer with one of the seven attentions.

    With an mpi4py communicator as `comm`, making a model, `sequence`, `gradient_sequence`, `forward`, `loss`, `gradients`, `stream`,
    `load_stream` and `generate` are collective: all ranks call them, in the same order, and errors are raised on all ranks. Without one a
    model is this process's own.
    """

    _model: _core.Model
    _comm: Optional[Intracomm]

    def __init__(
        self,
        config: Union[ModelConfig, Mapping[str, Any]],
        weights: Mapping[str, Any],
        precision: Any = "float32",
        comm: Optional[Intracomm] = None,
    ) -> None:
        """A model with weights from arrays.

        Args:
            config: a ModelConfig, or a dict of its fields.
            weights: name in PyTorch's state_dict -> array, with the shapes of `config.weight_shapes()`: of NumPy, of PyTorch or with
                DLPack on the CPU; float32 or float64, or float16 or bfloat16, which become float32. They are copied. Every rank gives
                all of them. `Model.from_torch` also takes what else a state_dict has.
            precision: "float32", "float64" or "bfloat16", or the type of NumPy or PyTorch of that name: what is computed in.
                "bfloat16" rounds the factors of matrix products, and queries, keys and values, and computes all else in float32.
            comm: an mpi4py communicator, or None for a model of this process alone.

        Raises:
            ConfigError: no model can have this configuration.
            ShapeError: an array does not have the shape that the configuration needs.
            TypeError: an array is not of a type that weights may have.
            Error: a weight is missing, unknown, or not finite.
            MemoryError: there is not enough memory.
            CommunicationError: the communicator cannot be used.
        """

        def make() -> _core.Model:
            maker = _by_precision(_MAKERS, precision)
            checked = config if isinstance(config, ModelConfig) else ModelConfig(**config)
            model: _core.Model = maker(checked, {name: as_weight(name, weight) for name, weight in weights.items()}, comm)
            return model

        self._comm, self._model = comm, agreed(comm, make)

    @classmethod
    def load(cls, path: Path, precision: Any = "float32", comm: Optional[Intracomm] = None, **changes: Union[str, int, float]) -> Model:
        """The model of a model file. Rank 0 reads it and sends it to the others.

        Args:
            path: of the file: str, bytes, or os.PathLike.
            precision: as for `Model`.
            comm: an mpi4py communicator, or None for a model of this process alone.
            changes: fields of the configuration that are to differ from the file's. They may be those that no weight depends on:
                chunk_size, num_heads unless states are compressed, causality, window_size and the like.

        Raises:
            FileError: the file cannot be read, or its content is not what it should be.
            ConfigError: a change is not allowed, or no model can have the configuration.
            MemoryError, CommunicationError: as for `Model`.
        """
        model = cls.__new__(cls)
        load, name = _by_precision(_LOADERS, precision), path_of(path)
        with hdf5_lock():
            model._comm, model._model = comm, load(name, comm, changes)
        return model

    @classmethod
    def from_torch(
        cls,
        source: Any,
        kind: str = "bsbr",
        precision: Any = "float32",
        comm: Optional[Intracomm] = None,
        *,
        allow_unused: bool = False,
        **fields: Union[str, int, float],
    ) -> Model:
        """The model of a torch.nn.Module or of its state_dict, by the rules of the converter (docs/weights.md).

        Sizes come from the tensors; what else the configuration needs comes from a module of the package or of transformers itself, and
        has to be given as `fields` with a state_dict. Tensors that are no weights, such as `pos_encoding.pe`, are dropped. As for the
        converter, a model of the package bsbr has the causality "reference", unless another is given.

        Args:
            source: a torch.nn.Module or a state_dict.
            kind: "bsbr", a model of the Python package bsbr or one of its baselines; "gpt2", GPT-2 of transformers; "nanogpt".
            precision, comm: as for `Model`.
            allow_unused: tensors that have no place in the model are left out, with a warning, instead of being an error.
            fields: fields of the configuration, such as num_heads=4, chunk_size=32, causality="causal".

        Raises:
            ConfigError: a field is needed or does not fit.
            Error: a tensor is missing, surplus, of another shape or type, or not finite.
            TypeError, ValueError: `source` is neither, or `kind` is unknown.
            MemoryError, CommunicationError: as for `Model`.
        """
        from . import convert

        config, weights = agreed(comm, lambda: convert.weights_of(source, kind, allow_unused=allow_unused, **fields))
        return cls(config, weights, precision, comm)

    @property
    def config(self) -> ModelConfig:
        """Architecture and sizes."""
        return self._model.config

    @property
    def precision(self) -> str:
        """"float32", "float64" or "bfloat16": what is computed in. Results are float64 in the second one, float32 in the others."""
        return self._model.precision

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self._model.parameters

    def sequence(self, length: int, batch: int = 1) -> Sequence:
        """Which part of such sequences this rank holds: tokens [first_token, first_token + local_tokens) of each.

        Args:
            length: tokens of one sequence, over all ranks.
            batch: number of sequences.

        Raises:
            TypeError: not whole numbers.
            ConfigError: negative numbers.
            CommunicationError: the ranks do not agree on the arguments.
        """
        return self._model.sequence(*self._sizes(length, batch))

    def gradient_sequence(self, length: int, batch: int = 1) -> Sequence:
        """The same for `gradients`, with other parts: they begin where a leaf does, one of the ranges of tokens over which gradients are
        summed first, so that their bits do not depend on the number of ranks. `forward` and `loss` take such a sequence, too.
        """
        return self._model.gradient_sequence(*self._sizes(length, batch))

    def _sizes(self, length: int, batch: int) -> tuple[int, int]:
        return agreed(self._comm, lambda: (whole_number("length", length), whole_number("batch", batch)))

    def _prepared(
        self, sequence: Optional[Sequence], divide: Callable[[int, int], Sequence], ids: Any, mask: Any, targets: Any = None
    ) -> tuple[Sequence, NDArray[np.int32], Optional[NDArray[np.uint8]], Optional[NDArray[np.int32]]]:
        """Arguments as the library takes them: this rank's part, with the sequence that it is a part of. Collective."""
        vocab_size = self.config.vocab_size

        def given() -> tuple[NDArray[Any], Optional[NDArray[Any]], Optional[NDArray[Any]]]:
            tokens = ids_of(ids, vocab_size)
            real = None if mask is None else mask_of(mask, tokens.shape)
            return tokens, real, None if targets is None else targets_of(targets, tokens.shape)

        tokens, real, wanted = agreed(self._comm, given)
        if sequence is None:
            sequence = divide(tokens.shape[1], tokens.shape[0])
            part = slice(sequence.offset, sequence.offset + sequence.local_tokens)
            tokens, real = tokens[:, part], None if real is None else real[:, part]
            wanted = None if wanted is None else wanted[:, part]
        first = sequence.offset

        def taken() -> tuple[NDArray[np.int32], Optional[NDArray[np.uint8]], Optional[NDArray[np.int32]]]:
            own_mask = None if real is None else as_mask(real, first)
            return as_ids(tokens, vocab_size, first), own_mask, None if wanted is None else as_targets(wanted, vocab_size, first)

        return (sequence, *agreed(self._comm, taken))

    def forward(self, ids: Any, mask: Any = None, sequence: Optional[Sequence] = None) -> NDArray[Any]:
        """Hidden states after the final norm.

        Args:
            ids: integers [batch, tokens] or [tokens]: of NumPy, lists, or anything with __dlpack__ on the CPU. A model whose vocab_size is
                256 also takes bytes, and text, whose bytes in UTF-8 are the ids. int32 ids that are contiguous are not copied.
            mask: of the same shape, 1 or True for a token, 0 or False for padding; None if there is no padding. A mask of one byte that
                is contiguous is not copied. `bsbr_hpc.pad` makes ids and mask of sequences of different lengths.
            sequence: None if `ids` and `mask` are whole sequences, the same on every rank. If they are only this rank's part, what
                `Model.sequence` has returned for the whole.

        Returns:
            This rank's states [batch, local tokens, hidden_dim], float32 or float64 (precision "float64"). Without `comm` local tokens are
            all tokens.

        Raises:
            ShapeError: extents that do not fit, an id outside the vocabulary, or a mask value other than 0 and 1.
            TypeError: ids are not integers, or mask is neither bools nor integers.
            MemoryError, CommunicationError: as for `Model`.
            Error: the call comes from another thread than the first one, or from a forked process.
        """

        sequence, own_ids, own_mask, _ = self._prepared(sequence, self._model.sequence, ids, mask)
        states: NDArray[Any] = np.asarray(self._model.forward(sequence, own_ids, own_mask))
        return states

    def __call__(self, ids: Any, mask: Any = None, sequence: Optional[Sequence] = None) -> NDArray[Any]:
        """The same as `forward`."""
        return self.forward(ids, mask, sequence)

    def loss(self, ids: Any, targets: Any = None, mask: Any = None, sequence: Optional[Sequence] = None) -> Loss:
        """How well a model with a head predicts targets: by default each token the next one.

        Args:
            ids: [batch, tokens] or [tokens], as for `forward`.
            targets: integers of the same shape, ids or −1 where there is no target; None for the next tokens: −1 at the last token of a
                sequence, and where a token or the next one is padding. int32 targets that are contiguous are not copied.
            mask: of the same shape, as for `forward`. It does not change targets that are given: those of padding should be −1.
            sequence: None if the arrays are whole sequences, the same on every rank. If they are only this rank's part, what
                `Model.sequence` has returned for the whole.

        Returns:
            The loss of the whole batch, the same on all ranks, and of each token of this rank, [batch, local tokens].

        Raises:
            ConfigError: the model has no head.
            ShapeError: extents that do not fit, an id or a target outside the vocabulary, or a mask value other than 0 and 1.
            TypeError: ids or targets are not integers, or mask is neither bools nor integers.
            MemoryError, CommunicationError, Error: as for `forward`.
        """
        sequence, own_ids, own_mask, own_targets = self._prepared(sequence, self._model.sequence, ids, mask, targets)
        return Loss(**self._model.loss(sequence, own_ids, own_targets, own_mask))

    def gradients(
        self, ids: Any, targets: Any = None, mask: Any = None, sequence: Optional[Sequence] = None, recompute: str = "all"
    ) -> LossAndGradients:
        """The loss, and its derivative with respect to each weight.

        Args:
            ids, targets, mask: as for `loss`.
            sequence: as for `loss`, but parts are those of `Model.gradient_sequence`.
            recompute: what the backward pass computes again of each layer: "all", so that the least memory is needed, or "none" of
                attention and projections, which is faster. The numbers are the same.

        Returns:
            The loss, the loss of each token of this rank, and the gradients, which are complete on every rank and have the same bits on any
            number of ranks: name -> array of the weight's shape, float32 or float64 as the model's precision says.

        Raises:
            ValueError: `recompute` is neither.
            ConfigError: the model has no head, or `sequence` is not one of `Model.gradient_sequence`.
            ShapeError, TypeError, MemoryError, CommunicationError, Error: as for `loss`.
        """
        kind = agreed(self._comm, lambda: _recompute(recompute))
        sequence, own_ids, own_mask, own_targets = self._prepared(sequence, self._model.gradient_sequence, ids, mask, targets)
        return LossAndGradients(**self._model.gradients(sequence, own_ids, own_targets, own_mask, kind))

    def stream(self, batch: int = 1) -> Stream:
        """A stream: sequences that are fed to the model piece by piece, with the bits of one forward pass of the whole.

        Args:
            batch: number of sequences.

        Raises:
            ConfigError: tokens see later ones: bsbr with a causality other than causal has no streams; or a negative number.
            TypeError: not a whole number.
            CommunicationError: as for `Model`.
        """
        return Stream(self, self._model.stream(agreed(self._comm, lambda: whole_number("batch", batch))))

    def load_stream(self, path: Path) -> Stream:
        """The stream of a state file, which `Stream.save`, `bsbr_generate` or `bsbr_evaluate` has written of this model, on any number of ranks.

        Raises:
            FileError: the file cannot be read, or its stream is of another model or precision.
            MemoryError, CommunicationError: as for `Model`.
        """
        name = path_of(path)
        with hdf5_lock():
            return Stream(self, self._model.load_stream(name))

    def generate(
        self, prompt: Any, tokens: int, mask: Any = None, *, batch: int = 1,
        temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0,
    ) -> NDArray[np.int32]:
        """Continues prompts: what `bsbr_generate` writes, for the same options. All ranks read the prompts, rank 0 draws token by token.
        `Stream.generate` goes on with what has been read already.

        Args:
            prompt: ids [batch, tokens] or [tokens], bytes or text, as for `forward`.
            tokens: how many are to be generated, of each sequence.
            mask: of the shape of `prompt`. Prompts of different lengths are padded at the beginning: `bsbr_hpc.pad(prompts, left=True)`.
            batch: continues the same prompt so many times, each time with random numbers of its own.
            temperature, top_k, top_p, seed: as for `Stream.choose`.

        Returns:
            The new ids, [batch, tokens]; the same on all ranks. Of a model of bytes `bytes(ids[0].tolist())` is the text.

        Raises:
            ConfigError: the model has no head, tokens see later ones (bsbr with a causality other than causal), or an argument is outside its
                range.
            ShapeError: extents that do not fit, an id outside the vocabulary, a mask value other than 0 and 1, a prompt that is empty or ends
                with padding, or several prompts and a `batch`.
            TypeError, MemoryError, CommunicationError: as for `forward`.
            Error: as for `Stream.choose`, and as for `forward`.
        """
        vocab_size = self.config.vocab_size

        def given() -> tuple[NDArray[Any], Optional[NDArray[Any]], int, _core.Sampler]:
            self._model.require_head()
            ids = ids_of(prompt, vocab_size)
            real = None if mask is None else mask_of(mask, ids.shape)
            count, sampler = count_of("tokens", tokens), sampler_of(temperature, top_k, top_p, seed)
            return *_prompts(ids, real, whole_number("batch", batch)), count, sampler

        ids, real, count, sampler = agreed(self._comm, given)
        stream = self.stream(ids.shape[0])
        stream.feed(ids, real)
        return stream._generate_at_end(count, sampler)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The weights: name in PyTorch's state_dict -> array, float32 or float64 (precision "float64"), with the shapes of `config.weight_shapes()`.

        The arrays are read-only; on a host they share the model's memory. `states @ model.state_dict()["embedding.weight"].T` are the
        logits of a model with tied embeddings.
        """
        return {name: np.asarray(weight) for name, weight in self._model.weights().items()}

    def save(self, path: Path) -> None:
        """Writes a model file, with the weights of `state_dict`. Not collective: one rank calls it. It has the name only when it is whole.

        Raises:
            OutputError: the file cannot be written.
        """
        name = path_of(path)
        with hdf5_lock():
            self._model.save(name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with configuration and weights, unless it has a communicator, which cannot be."""
        if self._comm is not None:
            raise TypeError("a model on a communicator cannot be pickled; pickle model.config, or use model.save")
        return type(self), (self.config, self.state_dict(), self.precision)

    def __repr__(self) -> str:
        return f"<bsbr_hpc.Model, {self.parameters} parameters in {self.precision}, {self.config!r}>"
