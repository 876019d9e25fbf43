"""A wrong environment is an exception, not the end of the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from golden_cases import Case

PROGRAM = """
import bsbr_hpc
for _ in range(40):
    try:
        bsbr_hpc.Model.load({path!r})
    except bsbr_hpc.ConfigError as error:
        text = str(error)
print(text)
"""


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("OMP_NUM_THREADS", "600", "Kokkos supports at most 512 threads"),
        ("OMP_NUM_THREADS", "abc", "must be a whole number"),
        ("KOKKOS_NUM_THREADS", "0", "must be a whole number"),
        ("KOKKOS_NUM_THREADS", "99999", "Kokkos supports at most 512 threads"),
        ("KOKKOS_DISABLE_WARNINGS", "maybe", "must be 1, on, true"),
    ],
)
def test_a_wrong_variable_raises_and_the_interpreter_goes_on(variable: str, value: str, rule: str) -> None:
    program = PROGRAM.format(path=str(Case.read("bsbr_mask_right").path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, variable: value})
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in (variable, value, rule)), done.stdout


def test_kokkos_warnings_may_be_wanted() -> None:
    program = f"import bsbr_hpc; bsbr_hpc.Model.load({str(Case.read('bsbr_mask_right').path)!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "KOKKOS_DISABLE_WARNINGS": "0"})
    assert done.returncode == 0, done.stderr
