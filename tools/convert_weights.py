#!/usr/bin/env python3
"""Converts weights of PyTorch into a model file of bsbr, and a model file into safetensors: docs/weights.md.

The converter is the package python/src/bsbr_convert, which is also part of the Python package (`python -m bsbr_hpc.convert`). It is pure
Python, so this runs from a checkout where nothing has been built.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "python", "src"))

from bsbr_convert.command import main  # noqa: E402
from bsbr_convert.command_line import program_name  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], program_name(__file__)))
