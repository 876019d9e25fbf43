"""The transformer around the attentions, for one sequence: docs/mathematics.md, "The transformer shell".

Shapes: L tokens, D hidden_dim. All numbers are float64.
"""
import math
import types

import numpy as np


def embed(ids, embedding):
    """x_t = E[id_t] + P_t, P[t, 2m] = sin(t ω_m), P[t, 2m+1] = cos(t ω_m), ω_m = 10000^(−2m/D): [L, D]"""
    hidden_dim = embedding.shape[1]
    x = np.zeros((len(ids), hidden_dim))
    for t, token_id in enumerate(ids):
        for column in range(hidden_dim):
            angle = t * 10000.0 ** (-2 * (column // 2) / hidden_dim)
            x[t, column] = embedding[token_id, column] + (math.sin(angle) if column % 2 == 0 else math.cos(angle))
    return x


def linear(x, weights, name):
    """x Wᵀ + b, with W [out, in]: [L, out]"""
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, weights, name):
    """(x_t − mean) / √(variance + 1e-5) · weight + bias, with the biased variance: [L, D]"""
    y = np.zeros_like(x)
    for t in range(len(x)):
        mean = np.sum(x[t]) / x.shape[1]
        variance = np.sum((x[t] - mean) ** 2) / x.shape[1]
        y[t] = (x[t] - mean) / math.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return y


def gelu(z):
    """½ z (1 + erf(z / √2))"""
    return 0.5 * z * (1 + math.erf(z / math.sqrt(2)))


def feed_forward(x, weights, prefix):
    """W2 GELU(W1 x + b1) + b2: [L, D]"""
    inner = linear(x, weights, f"{prefix}.0")
    for t in range(inner.shape[0]):
        for column in range(inner.shape[1]):
            inner[t, column] = gelu(inner[t, column])
    return linear(inner, weights, f"{prefix}.3")


def attention(architecture, config, x, real, weights, prefix):
    """out_proj of the heads' results side by side; x is LN1's output: [L, D]"""
    projections = {name: linear(x, weights, f"{prefix}.{name}_proj") for name in architecture.projections}
    result = np.zeros((len(x), architecture.width(config)))
    head_dim = architecture.head_dim(config)
    for index in range(config["num_heads"]):
        columns = slice(index * head_dim, (index + 1) * head_dim)
        head = types.SimpleNamespace(
            index=index, real=real, linear=lambda name, z: linear(z, weights, f"{prefix}.{name}"),
            **{name: projection[:, columns] for name, projection in projections.items()})
        result[:, columns] = architecture.attention(config, head)
    return linear(result, weights, f"{prefix}.out_proj")


def forward(architecture, config, ids, real, weights):
    """The residual stream after each layer, [num_layers, L, D], and the hidden states, [L, D]."""
    x = embed(ids, weights["embedding.weight"])
    layers = []
    for layer in range(config["num_layers"]):
        prefix = f"layers.{layer}"
        y = layer_norm(x, weights, f"{prefix}.layer_norm1")
        x = x + attention(architecture, config, y, real, weights, f"{prefix}.attention")
        y = layer_norm(x, weights, f"{prefix}.layer_norm2")
        x = x + feed_forward(y, weights, f"{prefix}.ff")
        layers.append(x)
    return np.stack(layers), layer_norm(x, weights, "layer_norm")
