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
GOLDEN_LEARNING = GOLDEN.with_name("golden_learning")  # with hidden states and gradients
STATES, GRADIENTS = (GOLDEN, GOLDEN_LEARNING), (GOLDEN.with_name("golden_gradients"), GOLDEN_LEARNING)  # folders
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}  # tests/golden/README.md argues for them

# One thread is enough for models of this size, and does not wait for another where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def entries_of(folders: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """The path of each golden file, and what index.json says of it."""
    return [(folder / entry["file"], entry) for folder in folders for entry in json.loads((folder / "index.json").read_text())]


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
        path, entry = next((path, entry) for path, entry in entries_of(STATES) if entry["case"] == name)
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
    return [entry["case"] for _, entry in entries_of(STATES)]


def one_of_each_architecture() -> list[str]:
    first: dict[str, str] = {}
    for _, entry in entries_of(STATES):
        first.setdefault(entry["config"]["architecture"], entry["case"])
    return list(first.values())


@dataclass
class ExpectedGradients:
    """What a model with one causality makes of a golden file's ids."""

    loss: float
    token_losses: np.ndarray  # [batch, tokens - 1]
    gradients: dict[str, np.ndarray]

    @staticmethod
    def read(group: h5py.Group) -> "ExpectedGradients":
        gradients = {name: dataset[()] for name, dataset in group["gradients"].items()}
        return ExpectedGradients(float(group["loss"][()]), group["token_loss"][()], gradients)


@dataclass
class GradientCase:
    """One golden file with a loss and gradients."""

    path: Path
    config: dict[str, Any]
    ids: np.ndarray
    targets: np.ndarray
    mask: Optional[np.ndarray]
    expected: dict[str, ExpectedGradients]  # by causality; the one key of architectures without is ""

    @staticmethod
    def read(name: str) -> "GradientCase":
        path, entry = next((path, entry) for path, entry in entries_of(GRADIENTS) if entry["case"] == name)
        with h5py.File(path) as file:
            inputs, expected = file["inputs"], file["expected"]
            mask = inputs["attention_mask"][()] if "attention_mask" in inputs else None
            groups = {"": expected} if "loss" in expected else dict(expected)
            by_causality = {causality: ExpectedGradients.read(group) for causality, group in groups.items()}
            return GradientCase(path, entry["config"], inputs["input_ids"][()], inputs["targets"][()], mask, by_causality)

    def weights(self) -> dict[str, np.ndarray]:
        with h5py.File(self.path) as file:
            return {name: dataset[()] for name, dataset in file["weights"].items()}


def gradient_case_names() -> list[str]:
    return [entry["case"] for _, entry in entries_of(GRADIENTS)]


@pytest.fixture
def masked() -> Case:
    """A batch of several sequences with padding."""
    return Case.read("bsbr_mask_right")
