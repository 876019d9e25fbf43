"""sliding_window: o_t = Σ_s softmax_s(q_t·k_s / √d) v_s over t − w ≤ s ≤ t; w is `window_size`."""
import math

import numpy as np

from generator.architecture import Architecture, only_real, softmax_attention
from generator.cases import Case, default_cases


def attention(config, head):
    result = np.zeros_like(head.q)
    scale = 1 / math.sqrt(head.q.shape[1])
    for t in range(len(result)):
        window = range(max(0, t - config["window_size"]), t + 1)
        result[t] = softmax_attention(head.q[t], head.k, head.v, only_real(window, head.real), scale)
    return result


ARCHITECTURE = Architecture(
    attention,
    default_cases(multiple={"window_size": 5}, ragged={"window_size": 11}, masks={"window_size": 6},
                  mask_row={"window_size": 3}, short={"window_size": 20}, one_token={"window_size": 2})
    + [Case("w0", "window 0: a token sees itself alone; tail of one token", length=13, batch=2, layers=True,
            hidden_dim=14, chunk_size=4, window_size=0)],
    projections={"q": 2.5, "k": 2.5, "v": 1})
