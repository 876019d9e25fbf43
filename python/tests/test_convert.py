"""Weights of PyTorch become models; NumPy arrays stand in for tensors, so that PyTorch is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import pytest
from golden_cases import Case

import bsbr_hpc


class BSBRAttention:
    """As the Python package bsbr has it: a name and attributes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.num_heads, self.chunk_size = config["num_heads"], config["chunk_size"]
        self.compression_factor = config["compression_factor"] or None


class Module:
    """What is known of a torch.nn.Module here."""

    def __init__(self, case: Case, wrapping: str = "") -> None:
        self._case, self._wrapping = case, wrapping

    def state_dict(self) -> dict[str, np.ndarray]:
        return {self._wrapping + name: weight for name, weight in state_dict(self._case).items()}

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        yield "", self
        yield self._wrapping + "layers.0.attention", BSBRAttention(self._case.config)


def positions(length: int, width: int) -> np.ndarray:
    column = np.arange(width)
    angle = np.arange(length)[:, None] * 10000.0 ** (-2 * (column // 2) / width)
    return np.where(column % 2, np.cos(angle), np.sin(angle))[None]


def state_dict(case: Case) -> dict[str, np.ndarray]:
    """With what the package keeps beside the weights."""
    return {**case.weights(), "pos_encoding.pe": positions(50, case.config["hidden_dim"])}


@pytest.fixture(params=["bsbr_ragged", "bsbr_mask_right"])
def case(request: pytest.FixtureRequest) -> Case:
    return Case.read(request.param)


@pytest.mark.parametrize("wrapping", ["", "module.", "_orig_mod.module."])
def test_a_module_of_the_package_tells_its_configuration(case: Case, wrapping: str) -> None:
    model = bsbr_hpc.Model.from_torch(Module(case, wrapping), precision="float64")
    assert model.config == bsbr_hpc.ModelConfig(**{**case.config, "causality": "reference", "dropout": 0})
    np.testing.assert_allclose(model(case.ids, case.mask), case.expected["reference"], rtol=0, atol=1e-10)


def test_a_state_dict_needs_what_the_tensors_do_not_tell(case: Case) -> None:
    fields = {"num_heads": np.int64(case.config["num_heads"]), "chunk_size": float(case.config["chunk_size"])}
    model = bsbr_hpc.Model.from_torch(state_dict(case), precision="float64", causality="causal", **fields)
    np.testing.assert_allclose(model(case.ids, case.mask), case.expected["causal"], rtol=0, atol=1e-10)
    with pytest.raises(bsbr_hpc.ConfigError, match="^chunk_size is needed: the tensors do not tell it$"):
        bsbr_hpc.Model.from_torch(state_dict(case), num_heads=case.config["num_heads"])
    standard = {name: array for name, array in state_dict(case).items() if "meta" not in name and "compress" not in name}
    with pytest.raises(bsbr_hpc.ConfigError, match="^architecture is needed: "):
        bsbr_hpc.Model.from_torch(standard, num_heads=2)
    assert bsbr_hpc.Model.from_torch(standard, architecture="standard", num_heads=2).config.architecture == "standard"


def test_tensors_that_do_not_fit_are_refused() -> None:
    case = Case.read("bsbr_ragged")
    fields: dict[str, Any] = {"num_heads": 2, "chunk_size": 8}
    weights = state_dict(case)
    for change, kind, text in [
        ({"extra": np.ones(3)}, bsbr_hpc.Error, "state_dict: the model has no use for extra"),
        ({"layer_norm.bias": np.ones(3)}, bsbr_hpc.Error, r"state_dict: layer_norm.bias is \[3\], the configuration needs \[12\]"),
        ({"layer_norm.bias": np.full(12, np.nan)}, bsbr_hpc.Error, r"state_dict: layer_norm.bias \[0\] is nan"),
        ({"layer_norm.bias": np.ones(12, int)}, bsbr_hpc.Error, "state_dict: layer_norm.bias is of int64, weights are"),
    ]:
        with pytest.raises(kind, match=text):
            bsbr_hpc.Model.from_torch({**weights, **change}, **fields)
    del weights["layer_norm.bias"]
    with pytest.raises(bsbr_hpc.Error, match="^state_dict: lacks layer_norm.bias$"):
        bsbr_hpc.Model.from_torch(weights, **fields)
    with pytest.warns(UserWarning, match="unused: extra"):
        bsbr_hpc.Model.from_torch({**state_dict(case), "extra": np.ones(3)}, allow_unused=True, **fields)
    for wrong, error in [(3, TypeError), ("weights.pt", TypeError), ({}, bsbr_hpc.Error)]:
        with pytest.raises(error):
            bsbr_hpc.Model.from_torch(wrong, **fields)
    with pytest.raises(ValueError, match="kind is 'bert', known are bsbr, gpt2, nanogpt"):
        bsbr_hpc.Model.from_torch(weights, "bert")
    with pytest.raises(bsbr_hpc.ConfigError, match="a configuration has no field heads"):
        bsbr_hpc.Model.from_torch(weights, heads=3)
    with pytest.raises(bsbr_hpc.ConfigError, match="chunk_size: True, must be a whole number"):
        bsbr_hpc.Model.from_torch(state_dict(case), num_heads=2, chunk_size=True)


def test_modules_of_torch_are_taken_in_half_precision_and_on_no_device() -> None:
    torch = pytest.importorskip("torch")
    case = Case.read("bsbr_ragged")
    fields: dict[str, Any] = {"num_heads": 2, "chunk_size": 8}
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in state_dict(case).items()}
    floats = {name: tensor.float().numpy() for name, tensor in tensors.items()}
    np.testing.assert_array_equal(
        bsbr_hpc.Model.from_torch(tensors, **fields)(case.ids), bsbr_hpc.Model.from_torch(floats, **fields)(case.ids)
    )
    with pytest.raises(bsbr_hpc.Error, match="embedding.weight has no elements: it is on the device meta"):
        bsbr_hpc.Model.from_torch({name: tensor.to("meta") for name, tensor in tensors.items()}, **fields)


def test_the_converter_is_a_module_and_a_command(tmp_path: Path) -> None:
    case = Case.read("bsbr_ragged")
    path = tmp_path / "model.h5"
    bsbr_hpc.Model(case.config, case.weights(), "float64").save(path)
    for command in ([sys.executable, "-m", "bsbr_hpc.convert"], [str(Path(sys.executable).with_name("bsbr-convert"))]):
        if not Path(command[0]).exists():
            pytest.skip("the package is not installed, so there is no command")
        for arguments in ([path, tmp_path / "back.safetensors"], [tmp_path / "back.safetensors", tmp_path / "again.h5", "--from", "bsbr"]):
            done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
            assert (done.returncode, done.stderr) == (0, "")
        np.testing.assert_array_equal(bsbr_hpc.Model.load(tmp_path / "again.h5")(case.ids), bsbr_hpc.Model.load(path)(case.ids))
        done = subprocess.run([*command, "none", "x.h5", "--from", "bsbr"], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (3, "bsbr-convert: error: none: there is no such file\n")
