"""standard: o_t = Σ_s softmax_s(q_t·k_s / √d) v_s over s ≤ t."""
import math

import numpy as np

from generator.architecture import Architecture, only_real, softmax_attention
from generator.cases import default_cases


def attention(config, head):
    result = np.zeros_like(head.q)
    scale = 1 / math.sqrt(head.q.shape[1])
    for t in range(len(result)):
        result[t] = softmax_attention(head.q[t], head.k, head.v, only_real(range(t + 1), head.real), scale)
    return result


ARCHITECTURE = Architecture(attention, default_cases(), projections={"q": 2.5, "k": 2.5, "v": 1})
