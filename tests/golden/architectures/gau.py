"""gau: one head of width e = D · `expansion_factor`, with a gate g.

within_t = Σ_s softmax_s(q_t·k_s / √e) v_s over s ≤ t in the chunk of t, between_t = q_t Σ_{j < c(t)} K_jᵀ V_j,
o_t = σ(g_t) ⊙ (within_t + between_t).
"""
import math

import numpy as np

from generator.architecture import Architecture, chunks_of, only_real, softmax_attention, state_of
from generator.cases import default_cases


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def attention(config, head):
    result = np.zeros_like(head.v)
    scale = 1 / math.sqrt(head.q.shape[1])
    state = np.zeros((head.k.shape[1], head.k.shape[1]))  # of the chunks before
    for chunk in chunks_of(len(result), config["chunk_size"]):
        for t in chunk:
            seen = only_real(range(chunk.start, t + 1), head.real)
            within = softmax_attention(head.q[t], head.k, head.v, seen, scale)
            between = head.q[t] @ state
            result[t] = sigmoid(head.gate[t]) * (within + between)
        state += state_of(head.k, head.v, only_real(chunk, head.real))
    return result


ARCHITECTURE = Architecture(
    attention,
    default_cases({"num_heads": 1, "expansion_factor": 2}, multiple={"expansion_factor": 3, "hidden_dim": 12},
                  mask_row={"expansion_factor": 1, "hidden_dim": 12}, short={"expansion_factor": 1}),
    projections={"q": 1.5, "k": 1.5, "v": 1, "gate": 1},
    width=lambda config: config["hidden_dim"] * config["expansion_factor"])
