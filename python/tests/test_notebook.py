"""The notebook in examples/ runs as it is, and what it showed when it was committed is of all of its cells and of no machine."""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "generation.ipynb"


def needed(name: str) -> Any:
    """A package of the extra `notebook`: without it there is nothing to test, but continuous integration must have it."""
    return importlib.import_module(name) if os.environ.get("CI") else pytest.importorskip(name)


nbformat, nbclient = needed("nbformat"), needed("nbclient")
needed("ipykernel"), needed("matplotlib")


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook: Any) -> str:
    return "".join(output.text for cell in code_of(notebook) for output in cell.outputs if output.output_type == "stream")


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for cell in code_of(notebook) for output in cell.outputs)


def check_shown(notebook: Any) -> None:
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    assert {output.get("name", "") for cell in code_of(notebook) for output in cell.outputs} <= {"stdout", ""}  # no warnings
    text = printed(notebook)
    assert "bsbr: 958,112 parameters, 4 layers of width 128" in text and "the same bits: True" in text and pictures(notebook) == 1
    for bits in re.findall(r"([\d.]+) bits a byte", text):
        assert 1.5 < float(bits) < 4


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    check_shown(notebook)


def test_the_notebook_was_committed_with_small_results_of_all_cells() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    check_shown(notebook)
    assert NOTEBOOK.stat().st_size < 100_000
    assert set(notebook.metadata) == {"kernelspec", "language_info"} and not any(cell.metadata for cell in notebook.cells)
    without_pictures = re.sub(r'"image/png": ".*"', "", NOTEBOOK.read_text())
    assert not re.search(r'[\s"\'(]/(home|root|tmp|usr|work|var)/', without_pictures)
