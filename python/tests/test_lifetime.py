"""Interpreters that use the package end well, whatever is alive by then and whoever started MPI."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from golden_cases import Case

import bsbr_hpc

SETUP = "import bsbr_hpc; path, ids, mask = {path!r}, {ids!r}, {mask!r}\n"
USE = "model = bsbr_hpc.Model.load(path); states = model.forward(ids, mask); sequence = model.sequence(9)\n"
CHECK = "assert states.sum() == model.forward(ids, mask).sum()\n"


def run(program: str) -> None:
    """The program must end by itself, with exit code 0 and nothing on stderr."""
    case = Case.read("bsbr_mask_right")
    setup = SETUP.format(path=str(case.path), ids=case.ids.tolist(), mask=case.mask.tolist())
    done = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_models_results_and_sequences_may_be_alive_at_the_end() -> None:
    run(USE + CHECK)


def test_losses_and_gradients_may_be_alive_at_the_end() -> None:
    run(USE + "model = bsbr_hpc.Model(model.config.replace(head='tied'), model.state_dict())\n"
        "loss, result = model.loss(ids, mask=mask), model.gradients(ids, mask=mask); assert result.gradients\n" + CHECK)


def test_streams_may_be_alive_at_the_end_or_outlive_their_model() -> None:
    run(USE + "model = bsbr_hpc.Model(model.config.replace(head='tied'), model.state_dict())\n"
        "stream, other = model.stream(len(ids)), model.stream(); stream.feed(ids, mask); more = stream.generate(3)\n"
        "model = bsbr_hpc.Model.load(path); del other\n" + CHECK)


def test_objects_in_a_cycle_or_in_builtins_may_be_alive_at_the_end() -> None:
    run(USE + "import builtins; builtins.kept = [model, states, sequence]; builtins.kept.append(builtins.kept)")


def test_an_atexit_function_registered_before_may_use_the_package() -> None:
    run("import atexit; atexit.register(lambda: print(model.forward(ids, mask).sum()))\n" + USE)


def test_a_package_that_is_only_imported_starts_nothing() -> None:
    run("import sys; bsbr_hpc.ModelConfig(); from mpi4py import rc; rc.initialize = False\n"
        "from mpi4py import MPI; assert not MPI.Is_initialized()")


def test_an_exception_ends_the_interpreter_with_its_traceback() -> None:
    with pytest.raises(AssertionError, match="ids must be integers, not float64"):
        run(USE + "model.forward([0.5])")


@pytest.mark.parametrize("first", ["mpi4py", "bsbr_hpc"])
def test_mpi_may_be_started_by_mpi4py_or_by_the_package(first: str) -> None:
    pytest.importorskip("mpi4py")
    parts = ["from mpi4py import MPI\n", USE]
    use = "MPI.COMM_WORLD.barrier(); model = bsbr_hpc.Model.load(path, comm=MPI.COMM_WORLD)\n"
    run("".join(parts if first == "mpi4py" else reversed(parts)) + use + CHECK)


def test_a_user_may_finalise_mpi_with_models_alive() -> None:
    pytest.importorskip("mpi4py")
    run("from mpi4py import MPI\n" + USE + "MPI.Finalize()\n"
        "try: bsbr_hpc.Model.load(path)\n"
        "except bsbr_hpc.CommunicationError as error: assert str(error) == 'MPI is not initialised', error\n"
        "else: raise AssertionError('loaded')")


def test_a_communicator_stays_alive_with_its_model() -> None:
    pytest.importorskip("mpi4py")
    run("from mpi4py import MPI; import gc\n"
        "model = bsbr_hpc.Model.load(path, comm=MPI.COMM_WORLD.Dup()); gc.collect()\n"
        "states = model.forward(ids, mask)\n" + CHECK)


@pytest.mark.parametrize(
    ("comm", "text"),
    [("MPI.COMM_NULL", "comm is MPI.COMM_NULL"), ("None", "")],
)
def test_a_null_communicator_is_refused(comm: str, text: str) -> None:
    pytest.importorskip("mpi4py")
    run("from mpi4py import MPI\n"
        f"try: bsbr_hpc.Model.load(path, comm={comm}); error = ''\n"
        "except bsbr_hpc.CommunicationError as caught: error = caught\n"
        f"assert str(error) == {text!r}, error")


def test_a_communicator_of_another_mpi_is_refused() -> None:
    pytest.importorskip("mpi4py")
    run("from mpi4py import MPI\n"
        "MPI.Get_library_version = lambda: 'Another MPI 1.0, of somebody'\n"
        "try: bsbr_hpc.Model.load(path, comm=MPI.COMM_WORLD)\n"
        "except bsbr_hpc.CommunicationError as error: assert str(error).startswith('mpi4py uses Another MPI 1.0, bsbr_hpc '), error\n"
        "else: raise AssertionError('loaded')")


def test_another_thread_is_refused_rather_than_left_to_crash() -> None:
    model = bsbr_hpc.Model.load(Case.read("bsbr_mask_right").path)
    errors: list[bsbr_hpc.Error] = []

    def use() -> None:
        try:
            model.forward([1, 2, 3])
        except bsbr_hpc.Error as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert [str(error) for error in errors] == ["this thread is not the one that used bsbr_hpc first"]


FORKED = """
import os, gc, traceback

def child(*calls):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        for call in calls:
            try: call()
            except bsbr_hpc.Error as error: assert str(error).startswith("this process was forked from one that had started MPI"), error
            else: os._exit(3)
    return pid

def ended_well(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


def test_a_forked_process_gets_an_error_instead_of_hanging() -> None:
    run("import sys, os; os.environ['OMP_NUM_THREADS'] = '2'\n" + USE + "stream = model.stream(); stream.feed([1, 2])\n" + FORKED + """
calls = [lambda: model.forward(ids, mask), lambda: model(ids), lambda: model.loss(ids), lambda: model.gradients(ids),
         lambda: model.sequence(9), lambda: model.gradient_sequence(9), lambda: bsbr_hpc.Model.load(path),
         lambda: stream.feed([1]), lambda: stream.save("x.h5"), lambda: model.stream(), lambda: model.load_stream("none.h5"),
         lambda: stream.choose(), lambda: stream.sequence(1),
         lambda: bsbr_hpc.Model(model.config, {}), lambda: model.save("x.h5"), lambda: bsbr_hpc.Model.load("none.h5")]
pid = child(*calls)
if pid == 0:
    assert model.config.num_heads == 2 and repr(model) and model.state_dict() and bsbr_hpc.ModelConfig()  # what needs neither
    assert stream.tokens == 2 and stream.bytes > 0 and repr(stream)
    del model, states, sequence, stream, calls; gc.collect()
    sys.exit(0)  # as a program ends, with all functions of the end
ended_well(pid)
""" + CHECK)


def test_a_process_forked_before_the_package_is_used_can_use_it() -> None:
    run("import sys\n" + FORKED + """
pid = child()
if pid == 0:
    assert bsbr_hpc.Model.load(path).forward(ids, mask).shape[-1] == 12
    sys.exit(0)
ended_well(pid)
""" + USE)


def test_multiprocessing_gives_an_error_by_fork_and_works_by_spawn() -> None:
    run(USE + """
import multiprocessing, pickle
def work(_):
    try: return bsbr_hpc.Model.load(path).forward(ids, mask).sum()
    except bsbr_hpc.Error as error: return error
with multiprocessing.get_context("fork").Pool(1) as pool:
    (answer,) = pool.map(work, [0])
assert isinstance(answer, bsbr_hpc.Error) and "spawn" in answer.hint, answer
from operator import methodcaller
with multiprocessing.get_context("spawn").Pool(1) as pool:
    (answer,) = pool.map(methodcaller("forward", ids, mask), [model])
assert (answer == states).all()
""")


def test_the_environment_is_left_as_it_was_so_that_mpirun_works_as_a_child() -> None:
    if shutil.which("mpirun") is None:
        pytest.skip("there is no mpirun")
    inner = "import bsbr_hpc, sys; print(bsbr_hpc.Model.load(sys.argv[1]).forward([1]).shape)"
    run("import os, subprocess, sys\n"
        "environment = lambda: subprocess.run(['env'], capture_output=True, check=True).stdout\n"
        "before = environment()\n" + USE +
        "assert environment() == before\n"
        "os.environ.update(OMPI_ALLOW_RUN_AS_ROOT='1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM='1', OMPI_MCA_rmaps_base_oversubscribe='1')\n"
        f"done = subprocess.run(['mpirun', '-n', '2', sys.executable, '-c', {inner!r}, path], capture_output=True, text=True)\n"
        # The lines of two ranks may be interleaved: mpirun forwards what it has read, whole lines or not.
        "assert (done.returncode, done.stdout.count('(1, 1, 12)')) == (0, 2), done\n" + CHECK)


@pytest.mark.parametrize("call", ["forward", "feed"])
def test_other_threads_run_during_a_forward_pass(call: str) -> None:
    config = bsbr_hpc.ModelConfig(hidden_dim=64, num_heads=2, ff_dim=256, num_layers=4)
    weights = {name: np.ones(shape, "f4") for name, shape in config.weight_shapes().items()}
    model = bsbr_hpc.Model(config, weights)
    forward = model.forward if call == "forward" else model.stream().feed
    states = {"in_forward": False, "ended": False, "seen": 0}

    def watch() -> None:
        while not states["ended"]:
            states["seen"] += int(states["in_forward"])
            time.sleep(0)  # lets the other thread have the interpreter

    thread = threading.Thread(target=watch)
    thread.start()
    ids = np.ones(20000, "i4")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # the watcher gets the interpreter only where this thread gives it away
    states["in_forward"] = True
    forward(ids)
    states["in_forward"] = False
    seen = states["seen"]
    sys.setswitchinterval(interval)
    states["ended"] = True
    thread.join()
    assert seen > 0
