"""Names, shapes and random values of a model's weights: docs/formats.md.

Linear layers are uniform in ±scale/√in and their biases in ±1/√in; the embedding is standard normal; weights of layer
norms are normal around 1 and their biases around 0, both with deviation 0.2. Values are rounded to float32, and the
rounded ones are the model's.

The scales are those of the architecture. Most are 1. Projections whose products go into a softmax have 1.5 to 3, so
that no softmax is flat, and those of a result that would be small beside the residual stream have 2.
"""
import math

import numpy as np


def linear_layers(architecture, config):
    """{name: (in, out, scale)} of all linear layers."""
    hidden_dim, ff_dim, width = config["hidden_dim"], config["ff_dim"], architecture.width(config)
    layers = {}
    for layer in range(config["num_layers"]):
        prefix = f"layers.{layer}"
        for name, scale in architecture.projections.items():
            layers[f"{prefix}.attention.{name}_proj"] = (hidden_dim, width, scale)
        for name, (size_in, size_out) in architecture.other_layers(config).items():
            layers[f"{prefix}.attention.{name}"] = (size_in, size_out, 1)
        layers[f"{prefix}.attention.out_proj"] = (width, hidden_dim, architecture.out_scale)
        layers[f"{prefix}.ff.0"] = (hidden_dim, ff_dim, 1)
        layers[f"{prefix}.ff.3"] = (ff_dim, hidden_dim, 1)
    return layers


def layer_norms(config):
    """Names of all layer norms."""
    return [f"layers.{layer}.layer_norm{n}" for layer in range(config["num_layers"]) for n in (1, 2)] + ["layer_norm"]


def draw(architecture, config, random):
    """{name: float32 array}, drawn from a numpy.random.Generator."""
    weights = {"embedding.weight": random.standard_normal((config["vocab_size"], config["hidden_dim"]))}
    for name, (size_in, size_out, scale) in linear_layers(architecture, config).items():
        bound = 1 / math.sqrt(size_in)
        weights[f"{name}.weight"] = random.uniform(-scale * bound, scale * bound, (size_out, size_in))
        weights[f"{name}.bias"] = random.uniform(-bound, bound, size_out)
    for name in layer_norms(config):
        weights[f"{name}.weight"] = random.normal(1, 0.2, config["hidden_dim"])
        weights[f"{name}.bias"] = random.normal(0, 0.2, config["hidden_dim"])
    return {name: weight.astype(np.float32) for name, weight in weights.items()}
