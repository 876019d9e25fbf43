"""Which tensors of a checkpoint become which weights of a model: one class for each kind."""
import dataclasses
import difflib
import functools
import math
import os
import re

import numpy as np

from . import model_config
from .architectures import ARCHITECTURES, FIELDS
from .errors import InputError

TABLE_TOLERANCE = 5e-3  # of values up to 1: bfloat16 costs 2e-3, and PyTorch's angles in float32 some 5e-4 at the 5000th position

# What wrapping modules put into names, anywhere: DataParallel and DeepSpeed, torch.compile, activation checkpointing, FSDP, Lightning.
WRAPPING = {"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module", "_forward_module"}


class CheckpointError(Exception):
    """The checkpoint cannot become such a model: what, value and rule."""

    def __init__(self, message, hint=None):
        super().__init__(message)
        self.hint = hint


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A weight, and what it is made of."""

    sources: dict  # names of tensors -> the shape that each must have
    make: callable  # their arrays -> the weight


class Checkpoint:
    """Tensors of one kind. Names are without what wrapping modules put into them, and without the prefix of all ("transformer.")."""

    anchor = None  # a tensor that each has, and that only this kind has
    defaults = {}  # of fields that no tensor tells, where they are others than those of FIELDS
    needed = ()  # fields without default: they change the result, and no tensor tells them
    tells = {}  # field -> the tensor whose shape tells it

    def __init__(self, tensors):
        self.tensors = tensors
        plain = without_wrapping(tensors.shapes)
        self.prefix = find_prefix(plain, self.anchor, self.name, tensors.path)
        self.stored = {name[len(self.prefix):]: stored for name, stored in plain.items() if name.startswith(self.prefix)}
        self.shapes = {name: tensors.shapes[stored] for name, stored in self.stored.items()}
        self.outside = {name: stored for name, stored in plain.items() if not name.startswith(self.prefix)}

    def read(self, name):
        return self.tensors.read(self.stored[name])

    def readable(self, name):
        """The tensor, or None if it cannot be a weight, which is no error where nobody needs it."""
        try:
            return self.read(name)
        except InputError:
            return None

    def size(self, name, axis, rank=2):
        """The length of a tensor along this axis; None if the tensor is not there, or is no matrix."""
        shape = self.shapes.get(name, ())
        return shape[axis] if len(shape) == rank else None

    def layers(self, pattern):
        """Number of layers, of names that begin with that pattern and a number. A gap among them shows up as missing tensors."""
        numbers = [int(found[1]) for name in self.shapes if (found := re.match(pattern + r"\.(\d{1,9})\.", name))]
        if max(numbers) >= len(self.shapes):
            raise CheckpointError(f"has a layer {max(numbers)}, and only {len(self.shapes)} tensors")
        return max(numbers) + 1

    def derived(self):
        """What the tensors tell of the configuration: field -> value."""
        raise NotImplementedError

    def recipes(self, config):
        """Weight -> Recipe, for all that this kind of checkpoint has."""
        raise NotImplementedError

    def dropped(self):
        """Tensors that a model file has no place for and does not need: name in the checkpoint -> why."""
        raise NotImplementedError

    def read_settings(self, settings):
        """Fields of the configuration that lie beside the tensors, as read_config has them."""
        return {}

    def note(self, config):
        """What must be known of the model that comes out; None if that is what went in."""
        return None


def without_wrapping(names):
    """Name without what wrapping modules put into it -> the name in the checkpoint."""
    plain = {}
    for stored in names:
        name = ".".join(part for part in stored.split(".") if part not in WRAPPING)
        if name in plain:
            raise CheckpointError(f"has both {plain[name]} and {stored}, which are the same tensor {name}")
        plain[name] = stored
    return plain


def find_prefix(names, anchor, kind, path):
    found = [name[:-len(anchor)] for name in names if name == anchor or name.endswith("." + anchor)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CheckpointError(f"has no {anchor}, so it is no {kind}", index_of(path) or other_kind(names, anchor) or near(names, anchor))
    raise CheckpointError(f"has {anchor} {len(found)} times, behind {', '.join(repr(prefix) for prefix in sorted(found))}, must be once")


def index_of(path):
    """A hint if the file is one of several of a model, as its name tells: model-00001-of-00002.safetensors."""
    if not (found := re.fullmatch(r"(.*)-\d+-of-(\d+)(\.\w+)", os.path.basename(path))):
        return None
    index = f"{found[1]}{found[3]}.index.json"
    return f"{os.path.basename(path)} is one of the {int(found[2])} files of a model: name their index, {index}, which lies in the same folder"


def other_kind(names, anchor):
    """A hint if it is a checkpoint of another kind."""
    for name, kind in KINDS.items():
        if kind.anchor != anchor and any(("." + tensor).endswith("." + kind.anchor) for tensor in names):
            return f"it looks like one for --from {name}"
    return None


def near(names, anchor):
    """A hint at a tensor whose name comes near."""
    if similar := difflib.get_close_matches(anchor, names, n=1, cutoff=0.5):
        return f"the nearest that it has is {similar[0]}"
    return None


def layer_names(config):
    return [(index, f"layers.{index}.") for index in range(config["num_layers"])]


# ---- the Python package bsbr ----------------------------------------------------------------------------------------------------------


class PackageCheckpoint(Checkpoint):
    """state_dict of the Python package bsbr 0.1.x, of its BSBRModel or of one of its six baselines: the names are those of model files."""

    name = "state_dict of the Python package bsbr"
    anchor = "layers.0.attention.q_proj.weight"
    defaults = {"causality": "reference"}  # what the package computes
    needed = ("chunk_size", "window_size")
    tells = dict(vocab_size="embedding.weight", hidden_dim="embedding.weight", ff_dim="layers.0.ff.0.weight")

    def derived(self):
        attention = "layers.0.attention."
        hidden, inner = self.size("embedding.weight", 1), self.size(attention + "q_proj.weight", 0)
        found = dict(vocab_size=self.size("embedding.weight", 0), hidden_dim=hidden, ff_dim=self.size("layers.0.ff.0.weight", 0),
                     num_layers=self.layers("layers"))
        candidates = self.alike()
        if len(candidates) == 1:
            architecture = ARCHITECTURES[candidates[0]]
            found["architecture"] = architecture.name
            if architecture.has_one_head:
                found["num_heads"] = 1
            if architecture.width_factor:
                found[architecture.width_factor] = inner // hidden if inner and hidden else None
            if "compression_factor" in architecture.fields:
                found["compression_factor"] = 0
        compressed, whole = (self.size(attention + "compress_proj.weight", axis) for axis in (0, 1))
        if hidden and compressed and whole:  # [D / factor, (D / heads)²]; all factors with the same quotient are the same model
            found.update(compression_factor=hidden // compressed, num_heads=hidden // math.isqrt(whole))
        return found

    def alike(self):
        """The architectures that these tensors may be of: those that have the projections that not all have."""
        of_each = {name: {*one.token_projections, *one.chunk_projections} for name, one in ARCHITECTURES.items()}
        special = set.union(*of_each.values()) - set.intersection(*of_each.values())
        here = {name for name in special if f"layers.0.attention.{name}.weight" in self.shapes}
        return [name for name, projections in of_each.items() if (here & projections if here else not special & projections)]

    def recipes(self, config):
        def only(array):
            return array

        return {name: Recipe({name: weight.shape}, only) for name, weight in model_config.weight_table(config).items()}

    def dropped(self):
        table = "pos_encoding.pe"
        if table in self.shapes and self.is_sinusoids(self.shapes[table], table):
            return {self.stored[table]: "sinusoidal positions, which bsbr computes itself"}
        return {}

    def is_sinusoids(self, shape, name):
        """Whether a table [1, positions, D] is that of docs/mathematics.md."""
        if len(shape) != 3 or shape[0] != 1:
            return False
        column = np.arange(shape[2])
        angle = np.arange(shape[1])[:, None] * 10000.0 ** (-2 * (column // 2) / shape[2])
        expected = np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
        table = self.readable(name)
        return table is not None and bool(np.abs(table[0] - expected).max(initial=0) < TABLE_TOLERANCE)

    def read_config(self, content, path):
        """The fields that a file of --config gives: the arguments of the package's models, and any other field of the configuration."""
        if unknown := [name for name in content if name not in FIELDS]:
            raise CheckpointError(f"{path}: {unknown[0][:60]!r} is no field of the configuration",
                                  f"known are {', '.join(FIELDS)}")
        return {name: (name, value) for name, value in content.items()}, []


# ---- GPT-2 ----------------------------------------------------------------------------------------------------------------------------

GPT2_FIELDS = {"vocab_size": "vocab_size", "hidden_dim": "n_embd", "num_layers": "n_layer", "num_heads": "n_head", "ff_dim": "n_inner",
               "dropout": "resid_pdrop"}
EXACT_GELU = ("gelu", "gelu_python")
TANH_GELU = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate", "gelu_python_tanh")
EPSILON = 1e-5
HEAD = "lm_head.weight"


class GPT2Checkpoint(Checkpoint):
    """GPT2Model or GPT2LMHeadModel of transformers, and what has the same tensors. Its linear layers are Conv1D: [in, out]."""

    name = "checkpoint of the shape of GPT-2"
    anchor = "h.0.attn.c_attn.weight"
    orientation, other, other_name = "[in, out]", "[out, in]", "nanogpt"  # of its linear layers; of those with the same names
    defaults = {"architecture": "bsbr"}
    tells = dict(vocab_size="wte.weight", hidden_dim="wte.weight", ff_dim="h.0.mlp.c_fc.weight")

    def __init__(self, tensors):
        super().__init__(tensors)
        shape = self.shapes[self.anchor]  # three times as long along the outputs, so a matrix that is turned round is found out
        if len(shape) != 2:
            return
        rows, columns = shape if self.orientation == "[in, out]" else shape[::-1]
        if rows == 3 * columns:
            raise CheckpointError(f"{self.stored[self.anchor]} is {list(shape)}, in a {self.name} it is {self.orientation}",
                                  f"--from {self.other_name} takes {self.other}")
        head = self.prefix.removesuffix("transformer.") + HEAD  # it lies beside the transformer, not within
        if head in self.outside:
            self.stored[HEAD] = self.outside.pop(head)
            self.shapes[HEAD] = tensors.shapes[self.stored[HEAD]]

    def derived(self):
        return dict(vocab_size=self.size("wte.weight", 0), hidden_dim=self.size("wte.weight", 1),
                    ff_dim=self.size("h.0.mlp.c_fc.weight", 1), num_layers=self.layers("h"),
                    head="separate" if self.has_own_head else "tied")

    def recipes(self, config):
        hidden = config["hidden_dim"]
        recipes = {"embedding.weight": Recipe({"wte.weight": (config["vocab_size"], hidden)}, lambda table: table),
                   **gpt2_norm("layer_norm", "ln_f", hidden)}
        if config["head"] == "separate":
            source = HEAD if self.has_own_head else "wte.weight"
            recipes[HEAD] = Recipe({source: (config["vocab_size"], hidden)}, lambda table: table)
        for index, layer in layer_names(config):
            source = f"h.{index}."
            recipes.update(gpt2_attention(layer + "attention.", source + "attn.c_attn", hidden, config["architecture"]))
            recipes.update(gpt2_linear(layer + "attention.out_proj", source + "attn.c_proj", hidden, hidden))
            recipes.update(gpt2_norm(layer + "layer_norm1", source + "ln_1", hidden))
            recipes.update(gpt2_norm(layer + "layer_norm2", source + "ln_2", hidden))
            recipes.update(gpt2_linear(layer + "ff.0", source + "mlp.c_fc", config["ff_dim"], hidden))
            recipes.update(gpt2_linear(layer + "ff.3", source + "mlp.c_proj", hidden, config["ff_dim"]))
        return recipes

    def dropped(self):
        reasons = {}
        for name, shape in self.shapes.items():
            if name == "wpe.weight":
                reasons[self.stored[name]] = "learned positions; bsbr adds sinusoidal ones, so the results are others than GPT-2's"
            elif (buffer := re.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", name)) and len(shape) == (0 if buffer[1] else 4):
                reasons[self.stored[name]] = "causal mask, no weight"
        if HEAD in self.shapes and not self.has_own_head:
            reasons[self.stored[HEAD]] = "output layer, the same elements as wte.weight"
        return reasons

    @functools.cached_property
    def has_own_head(self):
        """Whether there is an output layer that is not the embedding."""
        if HEAD not in self.shapes or self.shapes[HEAD] != self.shapes.get("wte.weight"):
            return HEAD in self.shapes
        embedding = self.readable("wte.weight")
        return embedding is None or not np.array_equal(self.readable(HEAD), embedding)

    def note(self, config):
        others = "positions" if config["architecture"] == "standard" else "attention and positions"
        return (f"not a language model until it is trained on (bsbr_train): its {others} are others than those that the weights were "
                "trained with")

    def read_config(self, content, path):
        """The fields that config.json gives, and what is not the same in bsbr."""
        must = {"model_type": "gpt2", "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
        for name, wanted in must.items():
            if content.get(name, wanted) != wanted:
                raise CheckpointError(f"{path}: {name} is {content[name]!r}, must be {wanted!r}: nothing else is computed here")
        fields = {field: (name, content[name]) for field, name in GPT2_FIELDS.items() if name in content}
        fields.update(own_fields(content))
        return fields, gpt2_differences(content, path)


def own_fields(content):
    """Fields that GPT-2 does not have may stand there under their own names; but `temperature` is there that of sampling."""
    own = set(FIELDS) - set(GPT2_FIELDS) - {"temperature"}
    return {name: (name, value) for name, value in content.items() if name in own}


def gpt2_differences(content, path):
    activation, epsilon = content.get("activation_function", "gelu_new"), content.get("layer_norm_epsilon", EPSILON)
    differences = []
    if activation in TANH_GELU:
        differences.append(f"activation_function is {activation}; bsbr computes the exact gelu, which differs by up to 5e-4")
    elif activation not in EXACT_GELU:
        raise CheckpointError(f"{path}: activation_function is {activation!r}, must be one of {', '.join(EXACT_GELU + TANH_GELU)}")
    if epsilon != EPSILON:
        differences.append(f"layer_norm_epsilon is {epsilon}; bsbr has {EPSILON}")
    return differences


def gpt2_attention(target, source, hidden, architecture):
    """c_attn holds q, k and v side by side; the heads lie in each as they do here."""
    # No checkpoint has the last two; the mean of what they resemble is where training may start.
    parts = {"q_proj": (0,), "k_proj": (1,), "v_proj": (2,), "meta_r_proj": (0, 1), "meta_h_proj": (1, 2)}
    wanted = (*ARCHITECTURES[architecture].token_projections, *ARCHITECTURES[architecture].chunk_projections)
    parts = {name: which for name, which in parts.items() if name in wanted}
    shapes = {"weight": (hidden, 3 * hidden), "bias": (3 * hidden,)}
    return {f"{target}{name}.{kind}": Recipe({f"{source}.{kind}": shape}, lambda array, which=which: mean_part(array, which, hidden))
            for name, which in parts.items() for kind, shape in shapes.items()}


def mean_part(array, which, hidden):
    """The mean of those of q, k, v (0, 1, 2) in the columns of a Conv1D, as [out, in]; the same of a bias."""
    parts = [array[..., index * hidden:(index + 1) * hidden].T for index in which]
    return parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / 2


def gpt2_linear(target, source, out, into):
    return {target + ".weight": Recipe({source + ".weight": (into, out)}, np.transpose),
            target + ".bias": Recipe({source + ".bias": (out,)}, lambda bias: bias)}


def gpt2_norm(target, source, width):
    return {f"{target}.{kind}": Recipe({f"{source}.{kind}": (width,)}, lambda array: array) for kind in ("weight", "bias")}


class NanoGPTCheckpoint(GPT2Checkpoint):
    """ckpt.pt of nanoGPT: the names of GPT-2, with ordinary linear layers, [out, in], which may have no biases."""

    name = "checkpoint of nanoGPT"
    orientation, other, other_name = "[out, in]", "[in, out]", "gpt2"

    def derived(self):
        return dict(super().derived(), ff_dim=self.size("h.0.mlp.c_fc.weight", 0))

    def recipes(self, config):
        table = model_config.weight_table(config)
        return {name: self.adapted(recipe, table[name].shape) for name, recipe in super().recipes(config).items()}

    def adapted(self, recipe, shape):
        """A recipe of GPT-2's for a linear layer, whose matrix is turned round, or for a bias that is left out, which is the same as zeros."""
        (source, stored), = recipe.sources.items()
        if source.endswith(".bias") and not any(name.endswith(".bias") and len(self.shapes[name]) == 1 for name in self.shapes):
            return Recipe({}, lambda: np.zeros(shape, "f4"))
        if len(stored) == 2 and source not in ("wte.weight", HEAD):
            return Recipe({source: stored[::-1]}, lambda array: recipe.make(array.T))
        return recipe

    def read_settings(self, settings):
        arguments = settings.get("model_args", {})
        names = dict(GPT2_FIELDS, dropout="dropout")
        return {field: (f"model_args.{name}", arguments[name]) for field, name in names.items() if name in arguments}

    def read_config(self, content, path):
        """Fields under GPT-2's names or their own. nanoGPT has the exact GELU and 1e-5, so nothing differs."""
        fields = {field: (name, content[name]) for field, name in GPT2_FIELDS.items() if name in content}
        return {**fields, **own_fields(content)}, []


KINDS = {"bsbr": PackageCheckpoint, "gpt2": GPT2Checkpoint, "nanogpt": NanoGPTCheckpoint}
