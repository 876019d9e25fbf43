"""The rules of a model's configuration, and the table of its weights.

Names, ranges and defaults come from architectures.json. What is here is the Python counterpart of src/config and of what traits.cpp of an
architecture has as code: rules between fields, and shapes of weights. A test compares both with what bsbr_init writes.
"""
import dataclasses
import math
import numbers

from .architectures import ARCHITECTURES, FIELDS

LARGEST_SIZE = FIELDS["hidden_dim"].most
MOST_PARAMETERS = 2**45


class ConfigError(Exception):
    """No model can have this configuration: the field at fault, its value and the rule."""

    def __init__(self, field, message, hint=None):
        super().__init__(message)
        self.field, self.hint = field, hint


def fields_of(architecture):
    return [field for field in FIELDS.values() if field.belongs_to(architecture)]


def checked(field, value):
    """The value with the field's type. ConfigError unless it is one value of that type, within its range.

    A whole number may be stored as a real, 8.0. Numbers may be NumPy's. A truth value is a number in Python, but nobody means it.
    """
    if field.kind is str:
        if not isinstance(value, str) or value not in field.choices:
            raise ConfigError(field, f"{show(value)}, must be one of {', '.join(field.choices)}")
        return str(value)
    whole = field.kind is int
    if whole and isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        raise ConfigError(field, f"{show(value)}, must be a {'whole ' if whole else ''}number")
    if not field.least <= value <= field.most:  # NaN, too
        raise ConfigError(field, f"{show(value)}, must be from {show(field.least)} to {show(field.most)}")
    return field.kind(value)


def show(value):
    if isinstance(value, str):
        return repr(value[:60])
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]


def check(config):
    """The rules between fields; each field by itself has been checked."""
    hidden, heads = config["hidden_dim"], config["num_heads"]
    architecture = ARCHITECTURES[config["architecture"]]
    if architecture.has_one_head and heads != 1:
        raise ConfigError(FIELDS["num_heads"], f"{heads}, must be 1: {architecture.name} has one head")
    if attention_dim(config) > LARGEST_SIZE:
        factor = FIELDS[architecture.width_factor]
        raise ConfigError(factor, f"{config[factor.name]} times hidden_dim = {hidden} is above {LARGEST_SIZE}")
    if hidden % heads:
        raise ConfigError(FIELDS["num_heads"], f"{heads} does not divide hidden_dim = {hidden}")
    if config.get("compression_factor", 0) > hidden:
        raise ConfigError(FIELDS["compression_factor"], f"{config['compression_factor']} is above hidden_dim = {hidden}")
    # A layer more than the first costs the same, so a table of a million layers is not needed to know how much it is.
    one, two = (size_of(weight_table(dict(config, num_layers=layers))) for layers in (1, 2))
    parameters = one + (config["num_layers"] - 1) * (two - one)
    if parameters > MOST_PARAMETERS:
        raise ConfigError(FIELDS["num_layers"], f"the configuration calls for {parameters} parameters, more than {MOST_PARAMETERS}")


# ---- weights --------------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Weight:
    """The shape ([out, in] of a linear layer), and how it starts in a new model."""

    shape: tuple
    start: str  # "uniform", "normal", "ones", or "zeros"
    scale: float = 0  # uniform: from -scale to scale; normal: the standard deviation


def attention_dim(config):
    factor = ARCHITECTURES[config["architecture"]].width_factor
    return config["hidden_dim"] * (config[factor] if factor else 1)


def weight_table(config):
    """Every weight of a model: name in PyTorch's state_dict -> Weight."""
    table = {"embedding.weight": Weight((config["vocab_size"], config["hidden_dim"]), "normal", 1)}
    layer = layer_table(config)
    for index in range(config["num_layers"]):
        table.update((f"layers.{index}.{name}", weight) for name, weight in layer.items())
    table.update(norm("layer_norm", config["hidden_dim"]))
    if config["head"] == "separate":
        shape = (config["vocab_size"], config["hidden_dim"])
        table["lm_head.weight"] = Weight(shape, "uniform", 1 / math.sqrt(config["hidden_dim"]))
    return table


def layer_table(config):
    """The weights of one layer, without "layers.<i>."."""
    architecture, hidden, inner = ARCHITECTURES[config["architecture"]], config["hidden_dim"], attention_dim(config)
    table = {}
    for name in architecture.token_projections:
        table.update(linear("attention." + name, inner, hidden))
    for name in architecture.chunk_projections:
        table.update(linear("attention." + name, hidden, hidden))
    table.update(own_weights(architecture, config))
    table.update(linear("attention.out_proj", hidden, inner))
    table.update(norm("layer_norm1", hidden))
    table.update(norm("layer_norm2", hidden))
    table.update(linear("ff.0", config["ff_dim"], hidden))
    table.update(linear("ff.3", hidden, config["ff_dim"]))
    return table


def own_weights(architecture, config):
    """Weights of the attention besides those of projections. architectures.json has their names; shapes are the architecture's own."""
    table = {}
    known = {"attention.null_logit": "null_chunk", "attention.retrieval_gate": "retrieval_gate"}  # [num_heads] each, with that field
    if config.get("compression_factor"):
        whole, compressed = (config["hidden_dim"] // config["num_heads"]) ** 2, config["hidden_dim"] // config["compression_factor"]
        table.update(linear("attention.compress_proj", compressed, whole))
        table.update(linear("attention.decompress_proj", whole, compressed))
    for name, field in known.items():
        if config.get(field):
            table[name] = Weight((config["num_heads"],), "zeros")
    if "compression_factor" not in architecture.fields and not set(architecture.own_weights) <= set(known):
        raise NotImplementedError(f"own_weights() has no shape for {architecture.own_weights[0]} of {architecture.name}")
    return table


def linear(name, out, into):
    scale = 1 / math.sqrt(into)
    return {name + ".weight": Weight((out, into), "uniform", scale), name + ".bias": Weight((out,), "uniform", scale)}


def norm(name, width):
    return {name + ".weight": Weight((width,), "ones"), name + ".bias": Weight((width,), "zeros")}


def size_of(table):
    return sum(math.prod(weight.shape) for weight in table.values())
