"""The fields of a model's configuration with their rules, and the table of its weights.

This is the Python counterpart of include/bsbr/config.hpp and src/config/weight_table.cpp; a test compares it with what bsbr_init writes.
"""
import dataclasses
import math
import numbers

ARCHITECTURES = ("bsbr", "standard", "linear", "delta_net", "sliding_window", "hopfield", "gau")
CAUSALITIES = ("causal", "block_causal", "bidirectional", "reference")
FEATURE_MAPS = ("none", "elu")
LARGEST_SIZE = 2**30
MOST_PARAMETERS = 2**45


class ConfigError(Exception):
    """No model can have this configuration: the field at fault, its value and the rule."""

    def __init__(self, field, message, hint=None):
        super().__init__(message)
        self.field, self.hint = field, hint


@dataclasses.dataclass(frozen=True)
class Field:
    name: str
    kind: type  # int, float, or str
    help: str
    owner: str = None  # the one architecture that has it; None: all have it
    default: object = None  # None: there is none, it must be known
    least: float = None
    most: float = None
    choices: tuple = ()

    @property
    def option(self):
        return "--" + self.name.replace("_", "-")


# In the order of files and help.
FIELDS = {field.name: field for field in [
    Field("architecture", str, "attention of the model", choices=ARCHITECTURES),
    Field("vocab_size", int, "number of token ids", least=1, most=LARGEST_SIZE),
    Field("hidden_dim", int, "width D of the hidden states", least=1, most=LARGEST_SIZE),
    Field("num_layers", int, "number of layers", least=1, most=2**16),
    Field("num_heads", int, "number of attention heads H, a divisor of hidden_dim; 1 for gau", least=1, most=LARGEST_SIZE),
    Field("ff_dim", int, "width of the feed-forward block", least=1, most=LARGEST_SIZE),
    Field("chunk_size", int, "tokens in a chunk, B", default=128, least=1, most=LARGEST_SIZE),
    Field("dropout", float, "kept in the file, without effect", default=0.0, least=0, most=1),
    Field("compression_factor", int, "states are compressed to D / this many numbers; 0: not at all", "bsbr", 0, 0, LARGEST_SIZE),
    Field("causality", str, "which tokens see which", "bsbr", "causal", choices=CAUSALITIES),
    Field("window_size", int, "tokens seen before the token itself", "sliding_window", 128, 0, 4 * 10**18),
    Field("temperature", float, "divides the scores", "hopfield", 1.0, 2.0**-126, (2 - 2.0**-23) * 2.0**127),
    Field("beta", float, "step of the delta rule", "delta_net", 0.9, 0, 2),
    Field("expansion_factor", int, "width of the one head / D", "gau", 1, 1, 2**20),
    Field("feature_map", str, "what is applied to queries and keys", "linear", "none", choices=FEATURE_MAPS),
]}


def fields_of(architecture):
    return [field for field in FIELDS.values() if field.owner in (None, architecture)]


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
    if config["architecture"] == "gau":
        if heads != 1:
            raise ConfigError(FIELDS["num_heads"], f"{heads}, must be 1: gau has one head")
        if attention_dim(config) > LARGEST_SIZE:
            raise ConfigError(FIELDS["expansion_factor"],
                              f"{config['expansion_factor']} times hidden_dim = {hidden} is above {LARGEST_SIZE}")
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
    return config["hidden_dim"] * config.get("expansion_factor", 1)


def weight_table(config):
    """Every weight of a model: name in PyTorch's state_dict -> Weight."""
    table = {"embedding.weight": Weight((config["vocab_size"], config["hidden_dim"]), "normal", 1)}
    layer = layer_table(config)
    for index in range(config["num_layers"]):
        table.update((f"layers.{index}.{name}", weight) for name, weight in layer.items())
    table.update(norm("layer_norm", config["hidden_dim"]))
    return table


def layer_table(config):
    """The weights of one layer, without "layers.<i>."."""
    architecture, hidden, inner = config["architecture"], config["hidden_dim"], attention_dim(config)
    table = {}
    for name in ("q_proj", "k_proj", "v_proj", *(["gate_proj"] if architecture == "gau" else [])):
        table.update(linear("attention." + name, inner, hidden))
    if architecture == "bsbr":
        table.update(linear("attention.meta_r_proj", hidden, hidden))
        table.update(linear("attention.meta_h_proj", hidden, hidden))
        if config["compression_factor"]:
            whole, compressed = (hidden // config["num_heads"]) ** 2, hidden // config["compression_factor"]
            table.update(linear("attention.compress_proj", compressed, whole))
            table.update(linear("attention.decompress_proj", whole, compressed))
    table.update(linear("attention.out_proj", hidden, inner))
    table.update(norm("layer_norm1", hidden))
    table.update(norm("layer_norm2", hidden))
    table.update(linear("ff.0", config["ff_dim"], hidden))
    table.update(linear("ff.3", hidden, config["ff_dim"]))
    return table


def linear(name, out, into):
    scale = 1 / math.sqrt(into)
    return {name + ".weight": Weight((out, into), "uniform", scale), name + ".bias": Weight((out,), "uniform", scale)}


def norm(name, width):
    return {name + ".weight": Weight((width,), "ones"), name + ".bias": Weight((width,), "zeros")}


def size_of(table):
    return sum(math.prod(weight.shape) for weight in table.values())
