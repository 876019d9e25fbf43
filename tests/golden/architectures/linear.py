"""linear: S_t = S_{t−1} + k_tᵀ v_t, o_t = q_t S_t.

With `feature_map` = elu, φ(z) = elu(z) + 1 of q and k takes their place, and
o_t = φ(q_t) S_t / (φ(q_t) · Σ_{s≤t} φ(k_s)), which is 0 before the first real token.
"""
import math

import numpy as np

from generator.architecture import Architecture
from generator.cases import ROWS_NOTES, Case, default_cases


def feature(config, z):
    """φ(z), or z itself: [L, d]"""
    result = np.array(z)
    if config["feature_map"] == "elu":
        for t in range(z.shape[0]):
            for column in range(z.shape[1]):
                result[t, column] = z[t, column] + 1 if z[t, column] > 0 else math.exp(z[t, column])
    return result


def attention(config, head):
    q, k, v = feature(config, head.q), feature(config, head.k), head.v
    result = np.zeros_like(v)
    state, key_sum, begun = np.zeros((q.shape[1], q.shape[1])), np.zeros(q.shape[1]), False
    for t in range(len(result)):
        if head.real[t]:
            state += np.outer(k[t], v[t])
            key_sum += k[t]
            begun = True
        if begun:
            result[t] = q[t] @ state
            if config["feature_map"] == "elu":
                result[t] /= q[t] @ key_sum
    return result


ARCHITECTURE = Architecture(
    attention,
    default_cases({"feature_map": "none"}, ragged={"feature_map": "elu"}, masks={"feature_map": "elu"},
                  mask_row={"feature_map": "elu"})
    + [Case("masks_plain", ROWS_NOTES, length=17, batch=3, masks="holes,right,left", layers=True, chunk_size=4,
            feature_map="none"),
       Case("long", "long, with a ragged tail", length=75, num_heads=3, chunk_size=16, feature_map="none")])
