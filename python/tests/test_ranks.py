"""A model on the ranks of an mpi4py communicator has the bits that it has on one, and its errors are those of all ranks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden_cases import Case, GradientCase, gradient_case_names, one_of_each_architecture

import bsbr_hpc

pytest.importorskip("mpi4py")
PROGRAM = ["-m", "mpi4py", str(Path(__file__).with_name("rank_program.py"))]  # an exception on one rank ends all
GRADIENT_NAMES = [name for name in gradient_case_names() if name.endswith("_masks")]  # one of each architecture
NAMES = [*one_of_each_architecture(), "bsbr_mask_right", "gau_masks", "delta_net_masks"]


def launcher(ranks: int) -> list[str]:
    """More ranks than cores, and root, have to be allowed in Open MPI's launcher; other MPIs do not ask."""
    mpirun = shutil.which("mpirun")
    if mpirun is None:
        pytest.skip("there is no mpirun")
    command = [mpirun, "-n", str(ranks)]
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=True).stdout
    return command + (["--oversubscribe", "--bind-to", "none", "--allow-run-as-root"] if "Open MPI" in version else [])


def run(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*launcher(ranks), sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_give_the_bits_of_one_process(tmp_path: Path, ranks: int) -> None:
    done = run(ranks, *PROGRAM, "states", str(tmp_path), *NAMES)
    assert (done.returncode, done.stderr) == (0, "")
    for name in NAMES:
        case = Case.read(name)
        for precision in ("float32", "float64"):
            expected = bsbr_hpc.Model.load(case.path, precision).forward(case.ids, case.mask)
            for way in ("whole", "parts", "arrays"):
                np.testing.assert_array_equal(np.load(tmp_path / f"{name}-{precision}-{way}.npy"), expected)


@pytest.mark.parametrize("ranks", [1, 3])
def test_ranks_give_losses_and_gradients_with_the_bits_of_one_process(tmp_path: Path, ranks: int) -> None:
    done = run(ranks, *PROGRAM, "gradients", str(tmp_path), *GRADIENT_NAMES)
    assert (done.returncode, done.stderr) == (0, "")
    for name in GRADIENT_NAMES:
        case = GradientCase.read(name)
        for precision in ("float32", "float64"):
            expected = bsbr_hpc.Model.load(case.path, precision).gradients(case.ids, mask=case.mask)
            arrays = {"summary": np.array([expected.loss, expected.counted, expected.bits_per_token, expected.perplexity]),
                      "token_losses": expected.token_losses, **expected.gradients}
            for way in ("whole", "parts"):
                with np.load(tmp_path / f"{name}-{precision}-{way}.npz") as written:
                    assert set(written) == set(arrays)
                    for key, array in arrays.items():
                        np.testing.assert_array_equal(written[key], array, err_msg=f"{name}, {precision}, {way}: {key}")


@pytest.mark.parametrize("ranks", [1, 3])
def test_streams_on_ranks_have_the_bits_of_one_process_and_its_state_files(tmp_path: Path, ranks: int) -> None:
    done = run(ranks, *PROGRAM, "streams", str(tmp_path), *GRADIENT_NAMES)
    assert (done.returncode, done.stderr) == (0, "")
    for name in GRADIENT_NAMES:
        case = GradientCase.read(name)
        length = case.ids.shape[1]
        for precision in ("float32", "float64"):
            model = bsbr_hpc.Model.load(case.path, precision)
            stream = model.stream(case.ids.shape[0])
            states = [stream.feed(case.ids[:, first:last], None if case.mask is None else case.mask[:, first:last])
                      for first, last in ((0, length - 1), (length - 1, length))]
            loaded = model.load_stream(tmp_path / f"{name}-{precision}.h5")
            assert loaded.tokens == length - 1
            np.testing.assert_array_equal(loaded.feed(case.ids[:, -1:], None if case.mask is None else case.mask[:, -1:]), states[1])
            expected = {"states": np.concatenate(states, axis=1), "logits": stream.logits(), "ids": stream.generate(9, seed=5),
                        "once": model.generate(case.ids[:1, :5], 9, batch=2, temperature=0.7, top_k=5, seed=6)}
            np.testing.assert_array_equal(expected["states"], model.forward(case.ids, case.mask))
            with np.load(tmp_path / f"{name}-{precision}.npz") as written:
                assert set(written) == set(expected)
                for key, array in expected.items():
                    np.testing.assert_array_equal(written[key], array, err_msg=f"{name}, {precision}: {key}")


def test_errors_are_raised_on_all_ranks() -> None:
    done = run(3, *PROGRAM, "errors")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["good"] * 3


def test_without_mpi4py_the_package_ends_mpi_or_the_launcher_would_complain() -> None:
    """Open MPI's launcher makes a job fail in which a rank has not called MPI_Finalize."""
    path = str(Case.read("bsbr_multiple").path)
    use = f"import sys, bsbr_hpc; model = bsbr_hpc.Model.load({path!r}); model.forward([1]); assert 'mpi4py' not in sys.modules"
    done = run(2, "-c", use)
    assert (done.returncode, done.stderr) == (0, "")
