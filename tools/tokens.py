#!/usr/bin/env python3
"""Text into token files and back.

    tokens.py encode TEXT|- --output IDS.h5|IDS.npy [--tokenizer tokenizer.json] [--dataset NAME]
    tokens.py decode IDS[:/dataset]|- [--tokenizer tokenizer.json] [--output TEXT|-]

It needs Python from 3.9, numpy and h5py, and the library tokenizers for other ids than bytes. docs/programs.md explains options, files and
exit codes.
"""
import os
import re
import sys

from command_line import BAD_INPUT, BAD_OUTPUT, USAGE, Failure, Parser, exit_code, program_name, unusable

from bsbr_convert.output_file import write_whole

PROGRAM = program_name(__file__)
BLOCK = 2**16  # bytes of a text that are read at a time


def main(arguments):
    return exit_code(PROGRAM, lambda: run(arguments))


def run(arguments):
    options = parse(arguments)
    load_modules()
    options.action(options)


def parse(arguments):
    parser = Parser(prog=PROGRAM, allow_abbrev=False, description="Text into token files, which bsbr_train and the other programs read, and "
                    "ids back into text. Ids are those of a tokenizer file of Hugging Face (tokenizer.json), or bytes.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)

    def command(name, action, purpose):
        made = commands.add_parser(name, allow_abbrev=False, help=purpose, description=purpose[0].upper() + purpose[1:] + ".")
        made.set_defaults(action=action)
        return made

    to_ids = command("encode", encode, "writes the token ids of a text into a file")
    to_ids.add_argument("input", metavar="TEXT", help="a file in UTF-8, or of any bytes without --tokenizer; - is standard input")
    to_ids.add_argument("--output", required=True, metavar="FILE", help="token file: .npy of NumPy if the name ends so, else HDF5")
    to_ids.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json; without it the ids are the bytes of the text")
    to_ids.add_argument("--dataset", metavar="NAME", help="of the ids in HDF5; default /input_ids")
    to_text = command("decode", decode, "writes the text of token ids")
    to_text.add_argument("input", metavar="IDS", help="a token file, HDF5 (FILE:/dataset names a dataset) or .npy, or text with one id a "
                         "line; - is such a text in standard input")
    to_text.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json that the ids are of; without it they are bytes")
    to_text.add_argument("--output", default="-", metavar="FILE", help="for the text; default -, standard output")
    options = parser.parse_args(arguments)
    for name in ("input", "output", "tokenizer"):
        if getattr(options, name) == "":
            parser.error(f"{name} is empty, must be the name of a file")
    if options.action is encode:
        check_encoding(parser, options)
    return options


def check_encoding(parser, options):
    if options.output == "-":
        parser.error("--output is -, must be the name of a file")
    if options.dataset is not None and options.output.endswith(".npy"):
        parser.error("--dataset is of HDF5, and a .npy file has no datasets")
    options.dataset = "/input_ids" if options.dataset is None else "/" + options.dataset.lstrip("/")
    if not re.fullmatch(r"(/[^/\0]+)+", options.dataset) or {".", ".."} & set(options.dataset.split("/")):
        parser.error(f"--dataset is {options.dataset!r}, must be the path of a dataset such as /input_ids")


def load_modules():
    """Only now, so that --help and errors of usage need no package."""
    global token_coders, token_files
    try:
        import token_coders
        import token_files
    except ImportError as error:
        raise unusable(error, "numpy", "h5py") from None


def coder_of(options):
    return token_coders.Bytes() if options.tokenizer is None else token_coders.Tokenizer(options.tokenizer)


def inputs_of(options):
    """The files that are read, which must not be the output."""
    source = options.input if options.action is encode else token_files.split_source(options.input)[0]
    return [name for name in (source, options.tokenizer) if name not in ("-", None)]


# ---- encode ---------------------------------------------------------------------------------------------------------------------------


def encode(options):
    to_npy = options.output.endswith(".npy")
    if not to_npy:
        token_files.load_hdf5()
    coder = coder_of(options)
    dtype, about, count = token_files.id_type(coder.vocab_size), {"tokenizer": coder.name, "vocab_size": coder.vocab_size}, 0

    def write(file):
        nonlocal count
        ids = coder.encode(blocks_of(options.input))
        count = token_files.write_npy(file, ids, dtype) if to_npy else token_files.write_hdf5(file, ids, dtype, options.dataset, about)

    write_whole(options.output, inputs_of(options), write)
    say(f"{options.output}: {count:,} ids of {dtype.name}{'' if to_npy else ' in ' + options.dataset}, vocab_size {coder.vocab_size}")


def blocks_of(path):
    """The bytes of a file or of standard input."""
    try:
        with open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise Failure(BAD_INPUT, f"{'standard input' if path == '-' else path}: cannot be read: {error.strerror}") from None


# ---- decode ---------------------------------------------------------------------------------------------------------------------------


def decode(options):
    coder = coder_of(options)
    tokens = token_files.open_tokens(options.input)
    check_tokenizer(options, tokens, coder)
    if options.output == "-":
        to_stdout(texts_of(tokens, coder))
        return
    write_whole(options.output, inputs_of(options), lambda file: file.writelines(texts_of(tokens, coder)))
    say(f"{options.output}: {os.path.getsize(options.output):,} bytes of text")


def check_tokenizer(options, tokens, coder):
    """Ids mean something else to another tokenizer than that which they are of."""
    name = tokens.attributes.get("tokenizer", coder.name)
    if name == coder.name:
        return
    if options.tokenizer is None:
        raise Failure(USAGE, f"argument --tokenizer is needed: {tokens.path} has the ids of a tokenizer, {name}")
    if name == token_coders.Bytes.name:
        raise Failure(BAD_INPUT, f"{tokens.path}: its ids are bytes, not those of {options.tokenizer}", "without --tokenizer they are decoded")
    raise Failure(BAD_INPUT, f"{tokens.path}: has the ids of another tokenizer, {name}; {options.tokenizer} is {coder.name}")


def texts_of(tokens, coder):
    """The text of each row, part by part, as bytes."""
    for row, arrays in enumerate(tokens.rows()):
        yield from coder.decode(checked(tokens.path, row, arrays, coder))


def checked(path, row, arrays, coder):
    """The same arrays. A Failure where an id is none of the coder's."""
    done = 0
    for ids in arrays:
        known = (ids >= 0) & (ids < coder.vocab_size)
        known[known] = coder.known[ids[known]]
        if not known.all():
            place = int(known.argmin())
            hint = "--tokenizer names the tokenizer that they are of" if coder.name == token_coders.Bytes.name else None
            raise Failure(BAD_INPUT, f"{path}: id {done + place} of row {row} is {ids[place]}, must be one from 0 to {coder.vocab_size - 1} "
                          f"that the tokenizer has", hint)
        done += len(ids)
        yield ids


# ---- standard output ------------------------------------------------------------------------------------------------------------------


def say(text):
    to_stdout([text.encode(sys.stdout.encoding, "backslashreplace") + b"\n"])


def to_stdout(texts):
    try:
        for text in texts:
            sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError as error:
        sys.stdout = None  # or Python would try again at its end
        raise Failure(BAD_OUTPUT, f"standard output: cannot be written: {error.strerror}") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
