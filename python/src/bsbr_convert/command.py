"""The command: tools/convert_weights.py, `python -m bsbr_hpc.convert`, bsbr-convert."""
import argparse
import os
import re
import sys

from . import model_config
from .architectures import FIELDS
from .command_line import BAD_INPUT, BAD_OUTPUT, BUG, NO_MEMORY, USAGE, Failure, Parser, python_with, report_error
from .errors import NoPackage
from .output_file import write_whole

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
    write_whole(options.output, tensors.files, lambda file: weight_files.write_safetensors(file, tensors.config, table, tensors.read))
    return about(options.output, tensors.config, table)


def take_over(options, tensors):
    config_file = config_of(options)
    result = conversion.convert(tensors, request_of(options, config_file))
    tokenizer = tokenizer_of(options)
    inputs = [*tensors.files, *filter(None, [config_file, tokenizer])]
    write_whole(options.output, inputs, lambda file: weight_files.write_model(file, result.config, result.table, result.make))
    found = [f"configuration: {config_file}"] if config_file and config_file != options.config else []
    lines = found + conversion.report(result, tensors.beside) + pass_tokenizer_on(options, tokenizer)
    return "\n".join([about(options.output, result.config, result.table), *("  " + line for line in lines)])


def config_of(options):
    """The file of the configuration: --config, or what lies in a folder of save_pretrained; None if there is none."""
    if options.config is not None:
        return options.config
    beside = os.path.join(options.input, "config.json")
    return beside if options.kind == "gpt2" and os.path.isdir(options.input) and os.path.isfile(beside) else None


def tokenizer_of(options):
    """The tokenizer file that lies by a checkpoint of GPT-2; None if there is none."""
    beside = os.path.join(folder_of(options.input), "tokenizer.json")
    return beside if options.kind == "gpt2" and os.path.isfile(beside) else None


def folder_of(path):
    return path if os.path.isdir(path) else os.path.dirname(path) or "."


def pass_tokenizer_on(options, tokenizer):
    """Copies it to a name like that of the model, model.tokenizer.json. -> what is said of that, in lines."""
    if options.kind != "gpt2":
        return []
    if tokenizer is None:
        return [f"tokenizer: {folder_of(options.input)} has no tokenizer.json; save_pretrained of a fast tokenizer of transformers writes one"]
    target = os.path.splitext(options.output)[0] + ".tokenizer.json"
    with weight_files.reading(tokenizer), open(tokenizer, "rb") as file:
        content = file.read()
    write_whole(target, [tokenizer], lambda file: file.write(content))
    return [f"tokenizer: {target}, for tools/tokens.py"]


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
