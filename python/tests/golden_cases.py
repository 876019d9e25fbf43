"""Golden files, and models of them as tests want them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import h5py
import numpy as np
import pytest

from bsbr_convert.architectures import ARCHITECTURES

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}  # tests/golden/README.md argues for them

# One thread is enough for models of this size, and does not wait for another where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Case:
    """One golden file."""

    path: Path
    config: dict[str, Any]
    ids: np.ndarray
    mask: Optional[np.ndarray]
    expected: dict[str, np.ndarray]  # by causality; the one key of architectures without is ""

    @staticmethod
    def read(name: str) -> "Case":
        entry = next(entry for entry in json.loads((GOLDEN / "index.json").read_text()) if entry["case"] == name)
        path = GOLDEN / entry["file"]
        with h5py.File(path) as file:
            inputs, expected = file["inputs"], file["expected"]
            mask = inputs["attention_mask"][()] if "attention_mask" in inputs else None
            if "causality" in ARCHITECTURES[entry["config"]["architecture"]].fields:
                states = {causality: expected[causality]["hidden_states"][()] for causality in expected}
            else:
                states = {"": expected["hidden_states"][()]}
            return Case(path, entry["config"], inputs["input_ids"][()], mask, states)

    def weights(self) -> dict[str, np.ndarray]:
        with h5py.File(self.path) as file:
            return {name: dataset[()] for name, dataset in file["weights"].items()}


def case_names() -> list[str]:
    return [entry["case"] for entry in json.loads((GOLDEN / "index.json").read_text())]


def one_of_each_architecture() -> list[str]:
    first: dict[str, str] = {}
    for entry in json.loads((GOLDEN / "index.json").read_text()):
        first.setdefault(entry["config"]["architecture"], entry["case"])
    return list(first.values())


@pytest.fixture
def masked() -> Case:
    """A batch of several sequences with padding."""
    return Case.read("bsbr_mask_right")
