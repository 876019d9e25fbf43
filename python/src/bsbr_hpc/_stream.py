"""Sequences that a model is fed piece by piece, and goes on with by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import real_number, whole_number
from ._calls import Path, agreed, hdf5_lock, path_of
from ._core import Sequence
from .errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from ._model import Model

_LARGEST = {"top_k": 2**63 - 1, "seed": 2**64 - 1, "tokens": 2**63 - 1}  # that the library can count to


def count_of(name: str, value: Any) -> int:
    """The int of any integer type from 0 on."""
    number, largest = whole_number(name, value), _LARGEST[name]
    if not 0 <= number <= largest:
        raise ConfigError(f"{name} = {number} is {'below 0' if number < 0 else f'above {largest}'}")
    return number


def sampler_of(temperature: Any, top_k: Any, top_p: Any, seed: Any) -> _core.Sampler:
    return _core.Sampler(real_number("temperature", temperature), count_of("top_k", top_k), real_number("top_p", top_p), count_of("seed", seed))


class Stream:
    """A batch of sequences that a model is fed piece by piece, from one token at a time to all of them at once.

    The hidden states have the bits of one forward pass of the whole, whatever the pieces. A stream keeps what later tokens need of earlier
    ones: keys and values of all of them for standard and hopfield, of the last ones for sliding_window, a few running states for linear,
    delta_net and gau, a state of each chunk for bsbr. `Model.stream` and `Model.load_stream` make streams.

    With an mpi4py communicator all methods are collective: all ranks call them, in the same order, with the same arguments.
    """

    _model: Model
    _stream: _core.Stream

    def __init__(self, model: Model, stream: _core.Stream) -> None:
        """Not for users: `Model.stream` makes streams."""
        self._model, self._stream = model, stream

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self._stream.batch

    @property
    def tokens(self) -> int:
        """Tokens of each sequence so far, padding counted."""
        return self._stream.tokens

    @property
    def bytes(self) -> int:
        """Bytes that the stream holds on this rank, room for more tokens included."""
        return self._stream.held_bytes

    def sequence(self, length: int) -> Sequence:
        """Which part of the next `length` tokens of each sequence this rank holds: [offset, offset + local_tokens) of them.

        Raises:
            TypeError: not a whole number.
            ConfigError: a negative number.
            CommunicationError: the ranks do not agree on the length.
        """
        return self._stream.next(agreed(self._model._comm, lambda: whole_number("length", length)))

    def feed(self, ids: Any, mask: Any = None, sequence: Optional[Sequence] = None) -> NDArray[Any]:
        """Takes the next tokens. What is wrong with the arguments leaves the stream as it was; if memory is exhausted or MPI fails, it cannot
        be used any more.

        Args:
            ids: the next tokens of each sequence, [batch, tokens], or [tokens] if there is one sequence, as for `Model.forward`.
            mask: of the same shape, as for `Model.forward`.
            sequence: None if `ids` and `mask` are whole pieces, the same on every rank. If they are only this rank's part, what
                `Stream.sequence` has returned for the whole.

        Returns:
            This rank's hidden states of these tokens, [batch, local tokens, hidden_dim], as `Model.forward` gives them.

        Raises:
            ShapeError: extents that do not fit, an id outside the vocabulary, a mask value other than 0 and 1, a sequence that is not of the
                next tokens, or an earlier call has failed.
            TypeError, MemoryError, CommunicationError, Error: as for `Model.forward`.
        """
        piece, own_ids, own_mask, _ = self._model._prepared(sequence, lambda length, batch: self._stream.next(length), ids, mask)

        def check() -> None:  # the library would give the stream up
            fits = (piece.batch, piece.local_tokens)
            if len(own_ids) != self.batch:
                raise ShapeError(f"ids have {len(own_ids)} rows, the stream is of {self.batch} sequences")
            if own_ids.shape != fits:
                raise ShapeError(f"ids are {list(own_ids.shape)}, this rank's part of the piece {list(fits)}")

        agreed(self._model._comm, check)
        states: NDArray[Any] = np.asarray(self._stream.feed(piece, own_ids, own_mask))
        return states

    def logits(self) -> NDArray[Any]:
        """Logits of the token that follows the last one, [batch, vocab_size], in the model's precision; the same on all ranks.

        Raises:
            ConfigError: the model has no head.
            ShapeError: there is no token yet, or an earlier call has failed.
        """
        logits: NDArray[Any] = np.asarray(self._stream.logits())
        return logits

    def choose(self, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0) -> NDArray[np.int32]:
        """Draws the next token of each sequence from its probabilities, softmax(logits / temperature), without feeding it.

        What is drawn depends on the logits, the token's position, the number of its sequence and the arguments alone: it is the same when it
        is drawn once more, on any number of ranks, and by `bsbr_generate`.

        Args:
            temperature: logits are divided by it; 0 takes the most probable token, the one with the smallest id if there are several.
            top_k: only the so many most probable tokens; 0: all.
            top_p: of these only the fewest that together have this probability: above 0, to 1.
            seed: of the random numbers, from 0 to 2⁶⁴ − 1.

        Returns:
            ids [batch, 1], as `feed` takes them; the same on all ranks.

        Raises:
            ConfigError: the model has no head, or an argument is outside its range.
            TypeError: an argument is not a number.
            ShapeError: as for `logits`.
            Error: a logit is infinite or not a number.
        """
        return self._choose(agreed(self._model._comm, lambda: sampler_of(temperature, top_k, top_p, seed)))

    def generate(
        self, tokens: int, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, seed: int = 0
    ) -> NDArray[np.int32]:
        """Goes on with each sequence by itself: draws tokens, and feeds each before it draws the next one. All of them belong to the stream then:
        who generates 5 tokens and 10 more has what one call for 15 gives.

        Ctrl-C raises KeyboardInterrupt between tokens. The stream can be used after it; `tokens` says how many it has.

        Args:
            tokens: how many, of each sequence.
            temperature, top_k, top_p, seed: as for `choose`.

        Returns:
            ids [batch, tokens]; the same on all ranks.

        Raises:
            ConfigError, TypeError, ShapeError, Error: as for `choose`; MemoryError, CommunicationError: as for `feed`.
        """
        count, sampler = agreed(
            self._model._comm, lambda: (count_of("tokens", tokens), sampler_of(temperature, top_k, top_p, seed))
        )
        return self._generate(count, sampler, feeds_last=True)

    def save(self, path: Path) -> None:
        """Writes a state file, with which `Model.load_stream`, `bsbr_generate` and `bsbr_evaluate` go on, on any number of ranks. It has the name
        only when it is whole. Collective, other than `Model.save`.

        Raises:
            OutputError: the file cannot be written.
            ShapeError: an earlier call has failed.
        """
        name = path_of(path)
        with hdf5_lock():
            self._stream.save(name)

    def _choose(self, sampler: _core.Sampler) -> NDArray[np.int32]:
        ids: NDArray[np.int32] = np.asarray(self._stream.choose(sampler))
        return ids

    def _generate(self, tokens: int, sampler: _core.Sampler, feeds_last: bool) -> NDArray[np.int32]:
        """Python looks for signals between tokens: the library's calls are whole."""
        generated = []
        for left in range(tokens, 0, -1):
            ids = self._choose(sampler)
            generated.append(ids)
            if left == 1 and not feeds_last:
                break
            piece = self._stream.next(1)
            own = ids[:, piece.offset : piece.offset + piece.local_tokens]
            self._stream.feed(piece, own, None)
        return np.concatenate(generated, axis=1) if generated else np.empty((self.batch, 0), np.int32)

    def _generate_at_end(self, tokens: int, sampler: _core.Sampler) -> NDArray[np.int32]:
        """The tokens of `generate`, by a stream that is not used afterwards: on rank 0 alone, since a token at a time is no work for several."""
        comm = self._model._comm

        def generated() -> Optional[NDArray[np.int32]]:
            stream = self._stream if comm is None else self._stream.gather_on_first()
            if stream is None:
                return None
            stream.reserve(stream.tokens + tokens)
            return Stream(self._model, stream)._generate(tokens, sampler, feeds_last=False)

        ids: Any = agreed(comm, generated)
        result: NDArray[np.int32] = ids if comm is None else comm.bcast(ids)
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a stream can be neither pickled nor copied; use stream.save and model.load_stream")

    def __repr__(self) -> str:
        return f"<bsbr_hpc.Stream, batch {self.batch}, {self.tokens} tokens, {self.bytes} bytes>"
