#!/usr/bin/env python3
"""How far hidden states in float and in bfloat16 are from those in double, and how long a forward takes: for all seven architectures.

    perf/measure_precision.py
    perf/measure_precision.py --architectures bsbr,linear --tokens 65536

Needs the built programs and a Python with NumPy and h5py. Models have random weights, width 512, 8 heads (gau one), 4 layers, a
feed-forward layer of 2,048, chunks of 128 and a vocabulary of 256; tokens are random. An error is the root mean square of the differences
between hidden states, which the final norm gives a variance of about 1; the largest difference stands beside it. Exit codes are those of
docs/programs.md.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

ARCHITECTURES = ("bsbr", "standard", "linear", "delta_net", "sliding_window", "hopfield", "gau")
SIZES = ("--vocab-size", 256, "--hidden-dim", 512, "--num-layers", 4, "--ff-dim", 2048, "--chunk-size", 128)
ROWS = 4096  # of hidden states at a time


def main():
    parser = argparse.ArgumentParser(prog="measure_precision.py", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--programs", default="build/release/apps", metavar="DIR", help="folder of the programs; default %(default)s")
    parser.add_argument("--architectures", type=architectures, default=ARCHITECTURES, metavar="A,B,...", help="default all")
    parser.add_argument("--tokens", type=int, default=1024, metavar="N", help="default %(default)s")
    options = parser.parse_args()
    print(f"{options.tokens:,} tokens: root mean square and largest difference to double; seconds in float ÷ in bfloat16")
    with tempfile.TemporaryDirectory() as folder:
        for architecture in options.architectures:
            measure(options, folder, architecture)
    return 0


def architectures(text):
    for name in text.split(","):
        if name not in ARCHITECTURES:
            raise argparse.ArgumentTypeError(f"{name!r}, must be of {', '.join(ARCHITECTURES)}")
    return text.split(",")


def measure(options, folder, architecture):
    model = os.path.join(folder, architecture + ".h5")
    run(options, "bsbr_init", "--output", model, "--architecture", architecture, "--num-heads", 1 if architecture == "gau" else 8,
        "--seed", 1, *SIZES)
    seconds, states = {}, {}
    for precision in ("double", "float", "bfloat16"):
        states[precision] = os.path.join(folder, precision + ".h5")
        summary = json.loads(run(options, "bsbr_forward", "--model", model, "--random-tokens", options.tokens, "--precision", precision,
                                 "--output", states[precision], "--json", "-"))
        seconds[precision] = summary["seconds"]
    errors = [difference(states["double"], states[precision]) for precision in ("float", "bfloat16")]
    shown = ", ".join(f"{name} {error:.1e} ({largest:.1e})" for name, (error, largest) in zip(("float", "bfloat16"), errors))
    print(f"  {architecture}: {shown}; {seconds['float'] / seconds['bfloat16']:.2f}", flush=True)


def run(options, program, *arguments):
    done = subprocess.run([os.path.join(options.programs, program), *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.returncode if done.returncode > 0 else 128 - done.returncode)
    return done.stdout


def difference(exact, other):
    """-> root mean square, and largest difference of the hidden states of two result files."""
    squares, largest, count = 0.0, 0.0, 0
    with h5py.File(exact) as a, h5py.File(other) as b:
        tokens = a["hidden_states"].shape[1]
        for first in range(0, tokens, ROWS):
            rows = np.abs(a["hidden_states"][0, first:first + ROWS] - b["hidden_states"][0, first:first + ROWS].astype(np.float64))
            squares, largest, count = squares + (rows ** 2).sum(), max(largest, rows.max()), count + rows.size
    return np.sqrt(squares / count), largest


if __name__ == "__main__":
    sys.exit(main())
