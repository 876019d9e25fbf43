"""What mypy is told is true: scripts/check-python has it check typed_usage.py, and here that program runs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path

from golden_cases import Case

import bsbr_hpc


def test_the_typed_program_runs() -> None:
    program, path = Path(__file__).with_name("typed_usage.py"), Case.read("bsbr_ragged").path
    done = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "(1, 9, 12)" in done.stdout and "num_heads = 7 does not divide hidden_dim = 512" in done.stdout


def test_the_licence_comes_with_it() -> None:
    (licence,) = [file for file in distribution("bsbr-hpc").files or [] if file.name == "LICENSE"]
    assert "Permission is hereby granted, free of charge" in licence.read_text()


def test_the_package_has_types_and_the_version_of_the_library() -> None:
    assert {"py.typed", "_core.pyi"} <= {file.name for file in files("bsbr_hpc").iterdir()}
    assert bsbr_hpc.__version__.split("+")[0] == version("bsbr-hpc")
    assert bsbr_hpc.git_commit == "unknown" or bsbr_hpc.__version__.endswith(bsbr_hpc.git_commit)
