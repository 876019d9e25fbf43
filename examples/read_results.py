#!/usr/bin/env python3
"""Reads a result file of bsbr_forward with h5py and draws it: the hidden states, and how alike the tokens' states are.

    read_results.py [RESULT] [--output PICTURE] [--programs FOLDER]

Without RESULT it makes one first: bsbr_init makes a small model, bsbr_forward runs it over this very file. The programs are looked for in
FOLDER, else in PATH.

Exit codes: 0 done; 1 h5py, numpy or matplotlib cannot be loaded; 2 usage; 3 RESULT cannot be read, or is not a whole result;
6 PICTURE cannot be written.
"""
from __future__ import annotations

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NoReturn

PROGRAM = "read_results.py"
MOST_TOKENS = 512  # that are drawn: their similarities are a square


def fail(code: int, message: str, hint: str = "") -> NoReturn:
    print(f"{PROGRAM}: error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    sys.exit(code)


def load_packages() -> None:
    """After the command line is read: --help needs none of them."""
    global h5py, np, pyplot
    try:
        import h5py
        import matplotlib
        import numpy as np

        matplotlib.use("Agg")  # a picture, not a window
        from matplotlib import pyplot
    except ImportError as error:
        fail(1, f"{error}", "Debian: apt-get install python3-h5py python3-matplotlib; else pip install h5py matplotlib")


def make_result(folder: pathlib.Path, programs: str | None) -> pathlib.Path:
    """A model with random weights, run over this file."""
    model, result = folder / "model.h5", folder / "result.h5"
    sizes = "--hidden-dim 64 --num-layers 2 --num-heads 4 --ff-dim 256 --chunk-size 64".split()
    commands = (["bsbr_init", "--output", model, "--architecture", "bsbr", *sizes],
                ["bsbr_forward", "--model", model, "--input", __file__, "--max-tokens", str(MOST_TOKENS), "--output", result, "--quiet"])
    for name, *arguments in commands:
        program = shutil.which(name, path=programs)
        if program is None:
            fail(2, f"{name} is not in {programs or 'PATH'}", "name the folder with --programs, or give a result file")
        if subprocess.run([program, *arguments], stdout=subprocess.DEVNULL).returncode != 0:
            fail(3, f"{program} failed (see above)")
    return result


def read_result(path: pathlib.Path) -> tuple[np.ndarray, dict]:
    """The states of the first sequence, [tokens, hidden], and the file's attributes."""
    try:
        with h5py.File(path) as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != "bsbr-result" or attributes.get("complete") != 1:
                fail(3, f"{path}: format = {attributes.get('format')!r}, complete = {attributes.get('complete')!r}; a whole bsbr-result is wanted")
            return file["hidden_states"][0, :MOST_TOKENS], attributes    # [batch, sequence, hidden]; only this part is read
    except (OSError, KeyError) as error:
        fail(3, f"{path}: {error}")


def draw(states: np.ndarray, title: str, path: pathlib.Path) -> None:
    directions = states / np.linalg.norm(states, axis=1, keepdims=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    values = left.imshow(states.T, aspect="auto", cmap="RdBu", vmin=-3, vmax=3, interpolation="nearest")
    left.set(title="Hidden states", xlabel="token", ylabel="hidden dimension")
    figure.colorbar(values, ax=left, label="value", extend="both")
    cosines = right.imshow(directions @ directions.T, cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest")
    right.set(title="Cosine of two tokens' states", xlabel="token", ylabel="token")
    figure.colorbar(cosines, ax=right, label="cosine: 1 same direction, −1 opposite")
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        fail(6, f"{path}: {error}")


def several(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def main() -> None:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Draws the hidden states in a result file of bsbr_forward.")
    parser.add_argument("result", nargs="?", type=pathlib.Path, metavar="RESULT", help="result file; without it one is made")
    parser.add_argument("--output", type=pathlib.Path, default="states.png", metavar="PICTURE", help="picture to write (states.png)")
    parser.add_argument("--programs", metavar="FOLDER", help="where bsbr_init and bsbr_forward are, if not in PATH")
    options = parser.parse_args()
    load_packages()
    with tempfile.TemporaryDirectory() as folder:
        states, attributes = read_result(options.result or make_result(pathlib.Path(folder), options.programs))
    tokens, hidden = states.shape
    if not (tokens > 0 and np.isfinite(states).all()):
        fail(3, f"{options.result}: there are no tokens, or numbers that are not finite")
    title = f"{attributes['architecture']}, {several(attributes['num_layers'], 'layer')} of width {hidden}"
    draw(states, title, options.output)
    made_by = f"bsbr {attributes['version']} on {several(attributes['ranks'], 'rank')}" if "version" in attributes else "a program of your own"
    print(f"{title}: {tokens} tokens drawn in {options.output}; made by {made_by}")


if __name__ == "__main__":
    main()
