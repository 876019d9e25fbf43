"""From a checkpoint to the weights of a model: the configuration, the account of all tensors, and each weight."""
import dataclasses
import math
import re
from typing import Any, Callable, Optional, Sequence

import numpy as np

from . import model_config
from .architectures import ARCHITECTURES, FIELDS
from .checkpoints import KINDS, CheckpointError, index_of
from .command_line import BAD_INPUT, USAGE, Failure
from .weight_files import Tensors

# Fields whose defaults are for new models: tensors are of one size, which is known or is an error.
WITHOUT_DEFAULT = ("architecture", "vocab_size", "hidden_dim", "num_layers", "num_heads", "ff_dim")


@dataclasses.dataclass(frozen=True)
class Given:
    """A value of the configuration, where it comes from, and the exit code if it is wrong."""

    value: Any
    where: str
    code: int


@dataclasses.dataclass(frozen=True)
class Request:
    """What is converted, and how."""

    kind: str  # of KINDS
    given: dict[str, Given]  # by field
    content: Optional[dict[str, Any]] = None  # a configuration in the words of the kind, such as config.json
    where: str = ""  # that comes from
    allow_missing: bool = False
    allow_unused: bool = False
    seed: int = 0

    def argument(self, field: str) -> str:
        """How a caller gives a field of the configuration."""
        return f"argument {FIELDS[field].option}"

    def flag(self, name: str) -> str:
        """How a caller gives allow_missing or allow_unused; "" if that cannot be given."""
        return "--" + name.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A model: its configuration, the table of its weights, and each of them by make(name). What has become of the other tensors."""

    config: dict[str, Any]
    table: dict[str, model_config.Weight]
    make: Callable[[str], Any]
    dropped: dict[str, str]  # name -> why
    unused: list[str]
    absent: list[str]
    differences: list[str]
    note: Optional[str]  # what must be known of the model


def convert(tensors: Tensors, request: Request) -> Conversion:
    """The Conversion of Tensors. Raises Failure."""
    try:
        checkpoint = KINDS[request.kind](tensors)
        given, differences = gather(request, checkpoint)
        config = configure(request, checkpoint, given)
        table, recipes = model_config.weight_table(config), checkpoint.recipes(config)
    except CheckpointError as error:
        raise Failure(BAD_INPUT, f"{tensors.path}: {error}", error.hint) from None
    recipes = {name: recipes[name] for name in table if name in recipes}
    dropped = checkpoint.dropped()
    missing, unused = account(checkpoint, table, recipes, dropped)
    complain(request, tensors.path, missing, unused)
    check_shapes(checkpoint, recipes)
    draw = np.random.default_rng(request.seed)
    absent = {name for name in table if name not in recipes or any(source not in checkpoint.shapes for source in recipes[name].sources)}

    def make(name):
        if name in absent:
            return drawn(table[name], draw)
        recipe = recipes[name]
        return np.ascontiguousarray(recipe.make(*(checkpoint.read(source) for source in recipe.sources)))

    return Conversion(config, table, make, dropped, unused, sorted(absent), differences, checkpoint.note(config))


# ---- tensors --------------------------------------------------------------------------------------------------------------------------


def account(checkpoint, table, recipes, dropped):
    """What the model needs and the checkpoint lacks, and what the checkpoint has and nobody needs."""
    sources = {source for recipe in recipes.values() for source in recipe.sources}
    missing = [source for source in sources if source not in checkpoint.shapes] + [name for name in table if name not in recipes]
    known = {checkpoint.stored[source] for source in sources if source in checkpoint.stored} | set(dropped)
    return sorted(missing), sorted(name for name in checkpoint.tensors.shapes if name not in known)


def complain(request, path, missing, unused):
    if missing and not request.allow_missing:
        also = f"; and has no use for {listed(unused)}" if unused else ""
        raise lacking(request, path, f"{listed(missing)}{also}")
    if unused and not request.allow_unused:
        raise Failure(BAD_INPUT, f"{path}: the model has no use for {listed(unused)}", f"{request.flag('allow_unused')} leaves them out")


def lacking(request, path, what):
    flag = request.flag("allow_missing")
    hint = index_of(path) or (f"{flag} draws weights that are missing as for a new model" if flag else None)
    return Failure(BAD_INPUT, f"{path}: lacks {what}", hint)


def check_shapes(checkpoint, recipes):
    for recipe in recipes.values():
        for source, wanted in recipe.sources.items():
            found = checkpoint.shapes.get(source, wanted)
            if found != wanted:
                raise Failure(BAD_INPUT, f"{checkpoint.tensors.path}: {checkpoint.stored[source]} is {list(found)}, the configuration "
                              f"needs {list(wanted)}")


def drawn(weight, draw):
    """As PyTorch draws the weights of a new model."""
    if weight.start in ("ones", "zeros"):
        return np.full(weight.shape, weight.start == "ones", "f4")
    scale = weight.scale
    return (draw.normal(0, scale, weight.shape) if weight.start == "normal" else draw.uniform(-scale, scale, weight.shape)).astype("f4")


# ---- the configuration ----------------------------------------------------------------------------------------------------------------


def gather(request, checkpoint):
    """All that is given: field -> Given, and what differs. What comes first counts: arguments, a configuration, what lies by the tensors."""
    given, differences = dict(request.given), []
    if request.content is not None:
        try:
            fields, differences = checkpoint.read_config(request.content, request.where)
        except CheckpointError as error:
            raise Failure(BAD_INPUT, error, error.hint) from None
        for name, (key, value) in fields.items():
            if value is not None:
                given.setdefault(name, Given(value, f"{request.where}: {key}", BAD_INPUT))
    elif request.kind == "gpt2":
        differences = ["without config.json nothing is known of activation_function and layer_norm_epsilon; bsbr has the exact gelu and "
                       "1e-5"]
    path = checkpoint.tensors.path
    for name, (key, value) in checkpoint.read_settings(checkpoint.tensors.settings).items():
        if value is not None:
            given.setdefault(name, Given(value, f"{path}: {key}", BAD_INPUT))
    architecture = given.get("architecture")
    for name, value in (checkpoint.tensors.config or {}).items():
        field = FIELDS.get(name)
        # The file's fields of its own architecture mean nothing to another that was requested.
        if field and (not architecture or field.belongs_to(architecture.value)):
            given.setdefault(name, Given(value, f"{path}: {name} in the metadata", BAD_INPUT))
    return given, differences


def configure(request, checkpoint, given):
    """The whole configuration: what is given, else what the tensors tell, else the default."""
    derived = {name: Given(value, f"{checkpoint.tensors.path}: {name}", BAD_INPUT) for name, value in checkpoint.derived().items()
               if value is not None}
    known = {**{name: Given(value, name, USAGE) for name, value in checkpoint.defaults.items()}, **derived, **given}
    if "architecture" not in known:
        *names, last = checkpoint.alike()
        raise Failure(USAGE, f"{request.argument('architecture')} is needed: the tensors are the same for {', '.join(names)} and {last}",
                      index_of(checkpoint.tensors.path))
    try:
        architecture = model_config.checked(FIELDS["architecture"], known["architecture"].value)
        refuse_foreign(given, architecture)
        if ARCHITECTURES[architecture].has_one_head:
            known.setdefault("num_heads", Given(1, "num_heads", USAGE))
        config = {}
        for field in model_config.fields_of(architecture):
            config[field.name] = value_of(field, known, checkpoint, request)
        model_config.check(config)
        return config
    except model_config.ConfigError as error:
        blame = known.get(error.field.name, Given(None, error.field.name, USAGE))
        raise Failure(blame.code, f"{blame.where}: {error}", error.hint) from None


def refuse_foreign(given, architecture):
    for name, value in given.items():
        field = FIELDS[name]
        if not field.belongs_to(architecture):
            raise Failure(value.code, f"{value.where}: only for {', '.join(field.owners)}, not for {architecture}")


def value_of(field, known, checkpoint, request):
    if field.name in known:
        return model_config.checked(field, known[field.name].value)
    teller = checkpoint.tells.get(field.name)
    if teller in checkpoint.shapes:
        raise Failure(BAD_INPUT, f"{checkpoint.tensors.path}: {checkpoint.stored[teller]} is {list(checkpoint.shapes[teller])}, must be a "
                      "matrix")
    if teller and not request.allow_missing:
        raise lacking(request, checkpoint.tensors.path, listed(absent_tensors(field, known, checkpoint)))
    # The chunk is part of what some architectures compute, for the others it is only a tile.
    matters = field.owners or ARCHITECTURES[known["architecture"].value].depends_on_chunks
    if field.name in WITHOUT_DEFAULT or field.name in checkpoint.needed and matters:
        why = f"{teller}, which would tell it, is missing" if teller else "the tensors do not tell it"
        raise Failure(USAGE, f"{request.argument(field.name)} is needed: {why}", index_of(checkpoint.tensors.path))
    return field.default


def absent_tensors(field, known, checkpoint):
    """Names of all tensors that a model needs and the checkpoint lacks, where one of them would have told a size."""
    fields = model_config.fields_of(known["architecture"].value)
    sizes = {other.name: known[other.name].value if other.name in known else 1 if other.name in WITHOUT_DEFAULT else other.default
             for other in fields}
    try:
        config = {other.name: model_config.checked(other, sizes[other.name]) for other in fields}
        names = {source for recipe in checkpoint.recipes(config).values() for source in recipe.sources}
    except model_config.ConfigError:
        names = {checkpoint.tells[field.name]}
    return sorted(name for name in names if name not in checkpoint.shapes)


# ---- words ----------------------------------------------------------------------------------------------------------------------------


def parameters_in(table):
    return sum(math.prod(weight.shape) for weight in table.values())


def report(conversion: Conversion, beside: Sequence[str] = ()) -> list[str]:
    """What became of the tensors that are not in the model as they were, in lines."""
    lines = [f"dropped: {text}" for text in grouped_reasons(conversion.dropped)]
    lines += [f"unused: {listed(conversion.unused)}"] if conversion.unused else []
    lines += [f"drawn at random, since they are missing: {listed(conversion.absent)}"] if conversion.absent else []
    lines += [f"beside the tensors, not looked at: {', '.join(beside)}"] if beside else []
    lines += [f"approximate: {text}" for text in conversion.differences]
    return lines + ([f"note: {conversion.note}"] if conversion.note else [])


def listed(names):
    """Names in one line; those that differ in the layer's number only are told once."""
    counts = {}
    for name in names:
        pattern = re.sub(r"\.\d+\.", ".*.", name, count=1) if re.search(r"(^|\.)(layers|h)\.\d+\.", name) else name
        counts.setdefault(pattern, []).append(name)
    return ", ".join(same[0] if len(same) == 1 else f"{pattern} ({len(same)})" for pattern, same in counts.items())


def grouped_reasons(dropped):
    """"names: reason", for each reason."""
    by_reason = {}
    for name, reason in dropped.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"{listed(names)}: {reason}" for reason, names in by_reason.items()]
