"""What `Model.loss` and `Model.gradients` return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Loss:
    """How well a model predicts the targets of one batch. All numbers but those of `token_losses` are the same on all ranks."""

    loss: float
    """The mean over all positions that have a target, of the whole batch, in nats; 0 if there is none."""
    counted: int
    """Positions that have a target."""
    bits_per_token: float
    """loss / ln 2."""
    perplexity: float
    """e to the power of `loss`."""
    token_losses: NDArray[np.float64]
    """[batch, local tokens]: −log softmax(logits)[target] of this rank's tokens, in nats; 0 where there is no target."""


@dataclass(frozen=True, eq=False)
class LossAndGradients(Loss):
    """The same, and how the mean loss changes with each weight."""

    gradients: dict[str, NDArray[Any]]
    """Name in PyTorch's state_dict -> derivative of `loss` with respect to that weight, of its shape, in the model's precision; the same
    on all ranks. The arrays share one piece of memory, which stays as long as one of them."""
