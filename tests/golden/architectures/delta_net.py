"""delta_net: S_t = S_{t−1} + β k_tᵀ (v_t − k_t S_{t−1}), o_t = q_t S_t, with q and k of length 1; β is `beta`."""
import math

import numpy as np

from generator.architecture import Architecture
from generator.cases import default_cases


def normalise(z):
    """z_t / max(‖z_t‖, 1e-12): [L, d]"""
    return np.array([row / max(math.sqrt(row @ row), 1e-12) for row in z])


def attention(config, head):
    q, k, v = normalise(head.q), normalise(head.k), head.v
    result = np.zeros_like(v)
    state = np.zeros((q.shape[1], q.shape[1]))
    for t in range(len(result)):
        if head.real[t]:
            state += config["beta"] * np.outer(k[t], v[t] - k[t] @ state)
        result[t] = q[t] @ state
    return result


ARCHITECTURE = Architecture(
    attention,
    default_cases(multiple={"beta": 0.9, "length": 80, "chunk_size": 16, "hidden_dim": 16, "num_heads": 4},
                  ragged={"beta": 0.7, "length": 75, "chunk_size": 16, "batch": 2, "num_layers": 1, "layers": False},
                  masks={"beta": 0.8, "length": 81, "chunk_size": 16, "num_layers": 1},
                  mask_row={"beta": 1.0}, short={"beta": 0.5}, one_token={"beta": 0.9}),
    projections={"q": 1, "k": 1, "v": 2}, out_scale=2)
