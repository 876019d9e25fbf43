"""The command: tools/convert_weights.py, `python -m bsbr_hpc.convert`, bsbr-convert."""
import argparse
import contextlib
import os
import re
import sys

from . import model_config
from .architectures import FIELDS
from .command_line import BAD_INPUT, BAD_OUTPUT, BUG, NO_MEMORY, USAGE, Failure, Parser, python_with, report_error
from .errors import NoPackage

DESCRIPTION = """Converts weights of PyTorch into a model file of bsbr, or a model file into safetensors. It needs NumPy and h5py, and PyTorch
only where INPUT is one of its own files (.pt, .bin). docs/weights.md says what becomes of which tensor, and what is approximate."""
KINDS = {"bsbr": "the Python package bsbr", "gpt2": "GPT-2 in transformers", "nanogpt": "nanoGPT"}


def main(arguments: list[str], program: str = "convert_weights.py") -> int:
    """Runs the command, which calls itself `program` in its messages. Returns its exit code."""
    try:
        options = parse(arguments, program)
        load_packages()
        say(convert(options))
    except NoPackage as error:
        return fail(program, error.code, error, where_packages_are(error.packages))
    except Failure as error:
        return fail(program, error.code, error, error.hint)
    except MemoryError:
        return fail(program, NO_MEMORY, f"{options.input}: not enough memory for its tensors")
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return fail(program, BUG, f"internal error: {type(error).__name__}: {error}", "please report it, with the file if that can be shared")
    return 0


def say(text):
    """To stdout; nobody may be there any more, or its disk may be full."""
    try:
        print(printable(text), flush=True)
    except OSError as error:
        sys.stdout = None  # or Python would try again at its end
        raise Failure(BAD_OUTPUT, f"standard output: cannot be written: {error.strerror}") from None


def fail(program, code, message, hint=None):
    report_error(program, printable(str(message)), hint and printable(hint))
    return code


def printable(text):
    """Names in a file may be anything; a terminal must not take them for commands."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


# ---- packages -------------------------------------------------------------------------------------------------------------------------


def load_packages():
    """Only now, so that --help and errors of usage need none."""
    global conversion, weight_files
    try:
        from . import conversion, weight_files
    except ImportError as error:
        raise NoPackage(f"{sys.executable} cannot load what is needed: {error}", "numpy", "h5py") from None
    weight_files.load_h5py()


def where_packages_are(packages):
    """A hint at an interpreter of this machine that has the packages, or at how to get them."""
    if python := python_with(packages):
        return f"{python} has them: put it before the name of this program"
    other = "or save the weights as safetensors" if "torch" in packages else "on Debian and Ubuntu: apt-get install python3-numpy python3-h5py"
    return f"{sys.executable} -m pip install {' '.join(packages)}; {other}"


# ---- the command line -----------------------------------------------------------------------------------------------------------------


def parse(arguments, program):
    parser = Parser(prog=program, allow_abbrev=False, description=DESCRIPTION)
    parser.add_argument("input", metavar="INPUT", help="a file of torch.save, safetensors, the index of either in several files, a folder of "
                        "save_pretrained, or a model file")
    parser.add_argument("output", metavar="OUTPUT", help="model file to write; from a model file: FILE.safetensors")
    parser.add_argument("--from", dest="kind", choices=sorted(KINDS), help="whose tensors they are: " +
                        ", ".join(f"{kind}: {whose}" for kind, whose in KINDS.items()) + ". Needed unless INPUT is a model file")
    parser.add_argument("--config", metavar="FILE.json", help="configuration: of gpt2 its config.json, which is also found in a folder; of "
                        "bsbr the arguments of the model")
    parser.add_argument("--allow-unused", action="store_true", help="leave out tensors that have no place in the model")
    parser.add_argument("--allow-missing", action="store_true", help="draw weights that the checkpoint lacks as for a new model")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="random seed of the weights that are drawn; default 0")
    group = parser.add_argument_group("configuration", "What is not given is taken from --config, then from the tensors; docs/weights.md.")
    for field in FIELDS.values():
        owner = f"{', '.join(field.owners)}: " if field.owners else ""
        group.add_argument(field.option, dest=field.name, metavar={int: "N", float: "X", str: "NAME"}[field.kind], help=owner + field.help +
                           (": " + ", ".join(field.choices) if field.choices else ""))
    options = parser.parse_args(arguments)
    if not options.input or not options.output:
        parser.error("INPUT and OUTPUT must be names of files")
    return options


def seed(text):
    if not (text.isascii() and text.isdigit() and len(text) <= 30):
        raise argparse.ArgumentTypeError(f"{text!r}, must be a whole number from 0 on")
    return int(text)


def check_direction(options):
    """One of both ends is a model file."""
    def refuse(message):
        raise Failure(USAGE, message, "--help lists the options")

    to_safetensors = options.output.endswith(".safetensors")
    if weight_files.is_model(options.input):
        if not to_safetensors:
            refuse(f"OUTPUT is {options.output}: {options.input} is a model file, which becomes FILE.safetensors")
        takes = ["config", "allow_unused", "allow_missing", "seed", *FIELDS]
        if given := [name for name in takes if getattr(options, name)] + ([] if options.kind is None else ["from"]):
            refuse(f"argument --{given[0].replace('_', '-')}: {options.input} is a model file and has its configuration")
    elif to_safetensors:
        if os.path.exists(options.input):
            refuse(f"OUTPUT is {options.output}, and {options.input} is no model file: one of both must be")
    elif options.kind is None:
        refuse(f"argument --from: one of {', '.join(KINDS)} is needed")


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


# ---- both directions ------------------------------------------------------------------------------------------------------------------


def convert(options):
    """What was done, in a few lines."""
    check_direction(options)
    tensors = weight_files.open_tensors(options.input)
    return export(options, tensors) if weight_files.is_model(options.input) else take_over(options, tensors)


def export(options, tensors):
    table = model_config.weight_table(tensors.config)
    write(options, tensors.files, lambda file: weight_files.write_safetensors(file, tensors.config, table, tensors.read))
    return about(options.output, tensors.config, table)


def take_over(options, tensors):
    config_file = config_of(options)
    result = conversion.convert(tensors, request_of(options, config_file))
    inputs = tensors.files + ([config_file] if config_file else [])
    write(options, inputs, lambda file: weight_files.write_model(file, result.config, result.table, result.make))
    found = [f"configuration: {config_file}"] if config_file and config_file != options.config else []
    lines = found + conversion.report(result, tensors.beside)
    return "\n".join([about(options.output, result.config, result.table), *("  " + line for line in lines)])


def config_of(options):
    """The file of the configuration: --config, or what lies in a folder of save_pretrained; None if there is none."""
    if options.config is not None:
        return options.config
    beside = os.path.join(options.input, "config.json")
    return beside if options.kind == "gpt2" and os.path.isdir(options.input) and os.path.isfile(beside) else None


def request_of(options, config_file):
    given = {}
    for field in FIELDS.values():
        text = getattr(options, field.name)
        if text is not None:
            given[field.name] = conversion.Given(number(field, text), f"argument {field.option}", USAGE)
    content = weight_files.read_json(config_file) if config_file is not None else None
    if config_file is not None and not isinstance(content, dict):
        raise Failure(BAD_INPUT, f"{config_file}: must hold an object in JSON")
    return conversion.Request(options.kind, given, content, config_file or "", options.allow_missing, options.allow_unused, options.seed)


def about(path, config, table):
    """One line, as bsbr_init has it, and one of the configuration."""
    fields = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in config.items())
    return f"{path}: {conversion.parameters_in(table):,} parameters in {len(table)} tensors\n  {fields}"


# ---- output ---------------------------------------------------------------------------------------------------------------------------


def write(options, inputs, writer):
    """By way of OUTPUT.part, so that what has the name is whole; writer(file) writes it."""
    output = os.path.realpath(options.output) if os.path.islink(options.output) else options.output
    part = output + ".part"
    try:
        if os.path.exists(options.output) and not os.path.isfile(options.output):
            raise OSError(0, "is there and is not a file")
        for path in inputs:
            name = "the input" if path == options.input else f"the input {path}"
            if is_same_file(path, options.output):
                raise OSError(0, f"is {name}")
            if is_same_file(path, part):
                raise OSError(0, f"{part}, by way of which it is written, is {name}")
        with new_file(part) as file:
            try:
                writer(file)
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
