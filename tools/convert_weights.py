#!/usr/bin/env python3
"""Makes a model file of bsbr from weights of PyTorch, and safetensors from a model file.

    convert_weights.py INPUT OUTPUT.h5 --from bsbr|gpt2 [--config FILE.json] [configuration options]
    convert_weights.py MODEL.h5 OUTPUT.safetensors

It needs Python from 3.9, numpy and h5py; PyTorch only where INPUT is one of its own files (.pt, .bin). docs/weights.md says what becomes of
which tensor, and what is approximate; the exit codes are those of docs/programs.md, and 1 if one of these packages cannot be loaded.
"""
import argparse
import contextlib
import dataclasses
import math
import os
import re
import sys

from command_line import BAD_INPUT, BAD_OUTPUT, NO_MEMORY, UNUSABLE, USAGE, Failure, Parser, report_error

PROGRAM = "convert_weights.py"


@dataclasses.dataclass(frozen=True)
class Given:
    """A value of the configuration, where it comes from, and the exit code if it is wrong."""

    value: object
    where: str
    code: int


def main(arguments):
    try:
        load_packages()
        options = parse(arguments)
        print(printable(convert(options)))
    except Failure as failure:
        return fail(failure.code, failure, failure.hint)
    except MemoryError:
        return fail(NO_MEMORY, f"{options.input}: not enough memory for its tensors")
    except KeyboardInterrupt:
        return 130
    return 0


def fail(code, message, hint=None):
    report_error(PROGRAM, printable(" ".join(str(message).split())), hint)
    return code


def printable(text):
    """Names in a file may be anything; a terminal must not take them for commands."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def load_packages():
    global checkpoints, model_config, np, weight_files
    try:
        import numpy as np

        import checkpoints
        import model_config
        import weight_files
    except ImportError as error:
        raise Failure(UNUSABLE, f"{sys.executable} cannot load what is needed: {error}",
                      "on Debian and Ubuntu: apt-get install python3-numpy python3-h5py") from None


def convert(options):
    """What was done, in a few lines."""
    try:
        tensors = weight_files.open_tensors(options.input)
        return export(options, tensors) if weight_files.is_model(options.input) else take_over(options, tensors)
    except (weight_files.InputError, weight_files.NoTorch) as error:
        code, hint = (BAD_INPUT, error.hint) if isinstance(error, weight_files.InputError) else (
            UNUSABLE, "pip install torch, or save the weights as safetensors")
        raise Failure(code, error, hint) from None
    except checkpoints.CheckpointError as error:
        raise Failure(BAD_INPUT, f"{options.input}: {error}", error.hint) from None


# ---- the command line -----------------------------------------------------------------------------------------------------------------


def parse(arguments):
    parser = Parser(prog=PROGRAM, allow_abbrev=False, description="Makes a model file of bsbr from weights of PyTorch, or safetensors from "
                    "a model file.")
    parser.add_argument("input", metavar="INPUT", help="a file of torch.save, safetensors, the index of either in several files, or a "
                        "model file")
    parser.add_argument("output", metavar="OUTPUT", help="model file to write; from a model file: FILE.safetensors")
    parser.add_argument("--from", dest="kind", choices=sorted(checkpoints.KINDS), help="whose tensors they are: of the Python package "
                        "bsbr, or of the shape of GPT-2. Needed unless INPUT is a model file")
    parser.add_argument("--config", metavar="FILE.json", help="configuration: of gpt2 its config.json; of bsbr the arguments of the model")
    parser.add_argument("--allow-unused", action="store_true", help="leave out tensors that have no place in the model")
    parser.add_argument("--allow-missing", action="store_true", help="draw weights that the checkpoint lacks as for a new model")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="of the weights that are drawn; default 0")
    group = parser.add_argument_group("configuration", "What is not given is taken from --config, then from the tensors; docs/weights.md.")
    for field in model_config.FIELDS.values():
        owner = f"{field.owner}: " if field.owner else ""
        group.add_argument(field.option, dest=field.name, metavar={int: "N", float: "X", str: "NAME"}[field.kind], help=owner + field.help +
                           (": " + ", ".join(field.choices) if field.choices else ""))
    options = parser.parse_args(arguments)
    check_direction(options, parser)
    return options


def seed(text):
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r}, must be a whole number from 0 on")
    return int(text)


def check_direction(options, parser):
    """One of both ends is a model file."""
    if not options.input or not options.output:
        parser.error("INPUT and OUTPUT must be names of files")
    to_safetensors = options.output.endswith(".safetensors")
    if weight_files.is_model(options.input):
        if not to_safetensors:
            parser.error(f"OUTPUT is {options.output}: {options.input} is a model file, which becomes FILE.safetensors")
        takes = ["config", "allow_unused", "allow_missing", "seed", *model_config.FIELDS]
        if given := [name for name in takes if getattr(options, name)] + ([] if options.kind is None else ["from"]):
            parser.error(f"argument --{given[0].replace('_', '-')}: {options.input} is a model file and has its configuration")
    elif to_safetensors:
        if os.path.exists(options.input):
            parser.error(f"OUTPUT is {options.output}, and {options.input} is no model file: one of both must be")
    elif options.kind is None:
        parser.error("argument --from: bsbr or gpt2 is needed")


# ---- a model file into safetensors ----------------------------------------------------------------------------------------------------


def export(options, tensors):
    table = model_config.weight_table(tensors.config)
    write(options, weight_files.write_safetensors, tensors.config, table, tensors.read)
    return about(options.output, tensors.config, table)


# ---- a checkpoint into a model file ---------------------------------------------------------------------------------------------------


def take_over(options, tensors):
    checkpoint = checkpoints.KINDS[options.kind](tensors)
    given, differences = gather(options, checkpoint)
    config = configure(options, checkpoint, given)
    table, recipes = model_config.weight_table(config), checkpoint.recipes(config)
    recipes = {name: recipes[name] for name in table if name in recipes}
    dropped = checkpoint.dropped()
    missing, unused = account(checkpoint, table, recipes, dropped)
    complain(options, missing, unused)
    check_shapes(checkpoint, recipes)

    draw = np.random.default_rng(options.seed)
    absent = {name for name in table if name not in recipes or any(source not in checkpoint.shapes for source in recipes[name].sources)}

    def make(name):
        if name in absent:
            return drawn(table[name], draw)
        recipe = recipes[name]
        return np.ascontiguousarray(recipe.make(*(checkpoint.read(source) for source in recipe.sources)))

    write(options, weight_files.write_model, config, table, make)
    lines = [about(options.output, config, table)]
    lines += [f"  dropped: {text}" for text in grouped_reasons(dropped)]
    lines += [f"  unused: {listed(unused)}"] if unused else []
    lines += [f"  drawn at random, since they are missing: {listed(sorted(absent))}"] if absent else []
    lines += [f"  beside the tensors, not looked at: {', '.join(tensors.beside)}"] if tensors.beside else []
    return "\n".join(lines + [f"  approximate: {text}" for text in differences])


def account(checkpoint, table, recipes, dropped):
    """What the model needs and the checkpoint lacks, and what the checkpoint has and nobody needs."""
    sources = {source for recipe in recipes.values() for source in recipe.sources}
    missing = [source for source in sources if source not in checkpoint.shapes] + [name for name in table if name not in recipes]
    known = {checkpoint.prefix + source for source in sources} | set(dropped)
    return sorted(missing), sorted(name for name in checkpoint.tensors.shapes if name not in known)


def complain(options, missing, unused):
    if missing and not options.allow_missing:
        also = f"; and has no use for {listed(unused)}" if unused else ""
        raise Failure(BAD_INPUT, f"{options.input}: lacks {listed(missing)}{also}",
                      "--allow-missing draws weights that are missing as for a new model")
    if unused and not options.allow_unused:
        raise Failure(BAD_INPUT, f"{options.input}: the model has no use for {listed(unused)}", "--allow-unused leaves them out")


def check_shapes(checkpoint, recipes):
    for recipe in recipes.values():
        for source, wanted in recipe.sources.items():
            found = checkpoint.shapes.get(source, wanted)
            if found != wanted:
                raise Failure(BAD_INPUT, f"{checkpoint.tensors.path}: {checkpoint.prefix}{source} is {list(found)}, the configuration "
                              f"needs {list(wanted)}")


def drawn(weight, draw):
    """As PyTorch draws the weights of a new model."""
    if weight.start in ("ones", "zeros"):
        return np.full(weight.shape, weight.start == "ones", "f4")
    scale = weight.scale
    return (draw.normal(0, scale, weight.shape) if weight.start == "normal" else draw.uniform(-scale, scale, weight.shape)).astype("f4")


# ---- the configuration ----------------------------------------------------------------------------------------------------------------


def gather(options, checkpoint):
    """All that is given: field -> Given; what comes first counts: options, --config, the metadata of safetensors. And what differs."""
    given, differences = {}, []
    for field in model_config.FIELDS.values():
        text = getattr(options, field.name)
        if text is not None:
            given[field.name] = Given(number(field, text), f"argument {field.option}", USAGE)
    if options.config is not None:
        content = weight_files.read_json(options.config)
        if not isinstance(content, dict):
            raise Failure(BAD_INPUT, f"{options.config}: must hold an object in JSON")
        try:
            fields, differences = checkpoint.read_config(content, options.config)
        except checkpoints.CheckpointError as error:
            raise Failure(BAD_INPUT, error, error.hint) from None
        for name, (key, value) in fields.items():
            if value is not None:
                given.setdefault(name, Given(value, f"{options.config}: {key}", BAD_INPUT))
    elif options.kind == "gpt2":
        differences = ["without --config nothing is known of activation_function and layer_norm_epsilon; bsbr has the exact gelu and 1e-5"]
    architecture = given.get("architecture")
    for name, value in (checkpoint.tensors.config or {}).items():
        field = model_config.FIELDS.get(name)
        # The file's fields of its own architecture mean nothing to another that was asked for.
        if field and (not field.owner or not architecture or architecture.value == field.owner):
            given.setdefault(name, Given(value, f"{options.input}: {name} in the metadata", BAD_INPUT))
    return given, differences


def number(field, text):
    """The value of an option; text that is no number is left to model_config.checked, which refuses it."""
    if field.kind is int and re.fullmatch(r"[+-]?[0-9]{1,30}", text):
        return int(text)
    if field.kind is float:
        try:
            return float(text)
        except ValueError:
            return text
    return text


def configure(options, checkpoint, given):
    """The whole configuration: what is given, else what the tensors tell, else the default."""
    derived = {name: Given(value, f"{options.input}: {name}", BAD_INPUT) for name, value in checkpoint.derived().items()
               if value is not None}
    known = {**{name: Given(value, name, USAGE) for name, value in checkpoint.defaults.items()}, **derived, **given}
    if "architecture" not in known:
        raise Failure(USAGE, "argument --architecture is needed: the tensors are the same for standard, linear, delta_net, sliding_window "
                      "and hopfield")
    try:
        architecture = model_config.checked(model_config.FIELDS["architecture"], known["architecture"].value)
        refuse_foreign(given, architecture)
        if architecture == "gau":
            known.setdefault("num_heads", Given(1, "num_heads", USAGE))
        config = {}
        for field in model_config.fields_of(architecture):
            config[field.name] = value_of(field, known, checkpoint)
        model_config.check(config)
        return config
    except model_config.ConfigError as error:
        blame = known.get(error.field.name, Given(None, error.field.name, USAGE))
        raise Failure(blame.code, f"{blame.where}: {error}", error.hint) from None


def refuse_foreign(given, architecture):
    for name, value in given.items():
        owner = model_config.FIELDS[name].owner
        if owner not in (None, architecture):
            raise Failure(value.code, f"{value.where}: only for {owner}, not for {architecture}")


def value_of(field, known, checkpoint):
    if field.name in known:
        return model_config.checked(field, known[field.name].value)
    # The chunk is part of what bsbr and gau compute, for the others it is only a tile.
    if field.default is None or field.name in checkpoint.needed and (field.owner or known["architecture"].value in ("bsbr", "gau")):
        raise Failure(USAGE, f"argument {field.option} is needed: the tensors do not tell it")
    return field.default


# ---- output ---------------------------------------------------------------------------------------------------------------------------


def write(options, writer, config, table, read):
    """By way of OUTPUT.part, so that what has the name is whole."""
    output = os.path.realpath(options.output) if os.path.islink(options.output) else options.output
    part = output + ".part"
    try:
        if os.path.exists(options.output) and not os.path.isfile(options.output):
            raise OSError(0, "is there and is not a file")
        if is_same_file(options.input, options.output):
            raise OSError(0, "is the input")
        if is_same_file(options.input, part):
            raise OSError(0, f"{part}, by way of which it is written, is the input")
        with new_file(part) as file:
            try:
                writer(file, config, table, read)
                file.flush()
                os.fsync(file.fileno())
                if not has_name(file, part):
                    raise OSError(0, f"{part} is not the file of this run any more: another run writes the same output")
                os.replace(part, output)
            except BaseException:
                if has_name(file, part):
                    os.remove(part)
                raise
        flush_folder(os.path.dirname(output) or ".")
    except (OSError, RuntimeError) as error:  # h5py has both for a full disk
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(BAD_OUTPUT, f"{options.output}: cannot be written: {reason}") from None


def new_file(path):
    """A file of this run alone, in the place of what a killed run may have left; never what a link points to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")


def is_same_file(one, other):
    return os.path.exists(other) and os.path.samefile(one, other)


def has_name(file, path):
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def flush_folder(path):
    """So that the new name, too, outlives a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def about(path, config, table):
    """One line, as bsbr_init has it, and one of the configuration."""
    parameters = sum(math.prod(weight.shape) for weight in table.values())
    fields = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items())
    return f"{path}: {parameters:,} parameters in {len(table)} tensors\n  {fields}"


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
