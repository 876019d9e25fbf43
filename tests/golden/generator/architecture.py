"""What an architecture is to the generator, and what several attentions share. Shapes: L tokens, d head width."""
import dataclasses
import math
from typing import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A module in architectures/ has one of these, ARCHITECTURE; the name of the module is that of the architecture.

    attention(config, head): one head, [L, d], from the fields of the configuration by name and from `head`:

        head.q, head.k, head.v    projections of LN1's output, [L, d] each; others by their names in `projections`
        head.index                which head: 0, 1, …
        head.real                 whether a token is real, not padding, [L]
        head.linear(name, z)      z Wᵀ + b with a linear layer of `other_layers`

    cases: those of generator/cases.py, at least default_cases().
    projections: {name: scale} of the linear layers <name>_proj, D → width. weights.py says what the scale is.
    out_scale: the scale of out_proj, width → D.
    width(config): that of all heads together.
    other_layers(config): {name: (in, out)} of further linear layers.
    outputs: {group: changes} for each output in a file: a group within /expected, "" for /expected itself, and how the
    configuration differs for it.
    """

    attention: Callable
    cases: list
    projections: dict = dataclasses.field(default_factory=lambda: {"q": 1, "k": 1, "v": 1})
    out_scale: float = 1
    width: Callable = lambda config: config["hidden_dim"]
    other_layers: Callable = lambda config: {}
    outputs: dict = dataclasses.field(default_factory=lambda: {"": {}})

    def head_dim(self, config):
        """d"""
        return self.width(config) // config["num_heads"]


def softmax(scores):
    """exp(z_s) / Σ exp(z)"""
    largest = max(scores)
    exponentials = [math.exp(score - largest) for score in scores]
    total = sum(exponentials)
    return [exponential / total for exponential in exponentials]


def softmax_attention(query, keys, values, seen, scale, absent=0):
    """Σ_s softmax_s(scale · query·k_s) v_s over the s in `seen`; zeros if there are none.

    query [d], keys [n, d], values [n, any]. absent: so many more keys take part, with score 0 and value 0.
    """
    result = np.zeros(values.shape[1])
    if len(seen) == 0:
        return result
    weights = softmax([scale * (query @ keys[s]) for s in seen] + [0.0] * absent)
    for weight, s in zip(weights, seen):
        result += weight * values[s]
    return result


def only_real(tokens, real):
    """Those of the tokens that are not padding."""
    return [s for s in tokens if real[s]]


def chunks_of(length, chunk_size):
    """The tokens of each chunk; the last one may be ragged."""
    return [range(start, min(start + chunk_size, length)) for start in range(0, length, chunk_size)]


def state_of(keys, values, tokens):
    """Σ_s k_sᵀ v_s, [d, d]"""
    state = np.zeros((keys.shape[1], values.shape[1]))
    for s in tokens:
        state += np.outer(keys[s], values[s])
    return state
