"""What the tests of the programs share: running them alone or with mpiexec, and making the files that they read.

ctest says in the environment where the programs are (BSBR_PROGRAMS) and how ranks are started (BSBR_MPIEXEC, "mpiexec;-n", with the
number of ranks to follow).
"""
import concurrent.futures
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import types
import unittest

import h5py
import numpy as np

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "python", "src"))
from bsbr_convert.architectures import ARCHITECTURES, FIELDS  # noqa: E402

PROGRAMS = os.path.abspath(os.environ.get("BSBR_PROGRAMS", "build/release/apps"))
MPIEXEC = os.environ.get("BSBR_MPIEXEC", "mpiexec;-n").split(";")
LIBC = ctypes.CDLL(None, use_errno=True)
WORKERS = 4  # starting a program is waiting, most of it

# What the small models of the tests have besides the fields of all: defaults, but for a window that is shorter than the sequences.
VALUES = {**{name: field.default for name, field in FIELDS.items()}, "window_size": 20}
OWN_FIELDS = {name: {**{field: VALUES[field] for field in one.fields}, **(dict(num_heads=1) if one.has_one_head else {})}
              for name, one in ARCHITECTURES.items()}


def names():
    """The names of all programs, as the build lists them."""
    with open(os.path.join(PROGRAMS, "programs.txt"), encoding="utf-8") as file:
        return file.read().split()


def mpi_session(folder):
    """Settings for a job whose MPI keeps its own files in this folder.  Each job needs one: with Open MPI one that ends removes the folder
    that another is about to use. Its name must be short, as those of sockets must be."""
    return dict(TMPDIR=folder, OMPI_MCA_btl_vader_backing_directory=folder)


def obey_permissions():
    """For `before` of run(): the child and what it starts obey the permissions of files, even if they are root's.  They stay root's, as
    another user may not enter folders of mode 0700."""
    if os.geteuid() != 0:
        return
    PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl: root cannot give up a capability")


def run(program, *arguments, ranks=1, limit=60, environment=None, before=None, folder=None):
    """Runs a program, in `folder` -> code (None: it had to be ended after `limit` seconds), out, err.  `before` runs in the child first;
    variables of `environment` that are None are not set."""
    command = [os.path.join(PROGRAMS, program), *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1" if ranks > 1 else "2", **(environment or {})}
    settings = {name: value for name, value in settings.items() if value is not None}
    if ranks > 1:
        command = [*MPIEXEC, str(ranks), *command]
    with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session:
        settings.update(mpi_session(session))
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, env=settings, preexec_fn=before,
                                  cwd=folder)
        except subprocess.TimeoutExpired as late:
            return types.SimpleNamespace(code=None, out=str(late.stdout), err=str(late.stderr))
    return types.SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode("utf-8", "replace"))


def config(architecture="bsbr", **changes):
    shared = dict(vocab_size=256, hidden_dim=32, num_layers=2, num_heads=4, ff_dim=48, chunk_size=16, dropout=0.0)
    return dict(architecture=architecture, **{**shared, **OWN_FIELDS[architecture], **changes})


def init_options(fields):
    """The fields of a configuration as options of bsbr_init."""
    return [item for name, value in fields.items() for item in ("--" + name.replace("_", "-"), value)]


class Case(unittest.TestCase):
    """A test with a folder of its own, and the programs at hand."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="bsbr-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def model(self, name="model.h5", architecture="bsbr", **changes):
        """A model file made by bsbr_init."""
        done = run("bsbr_init", "--output", self.path(name), *init_options(config(architecture, **changes)))
        self.assertEqual(done.code, 0, done.err)
        return self.path(name)

    def text(self, name="text", content=b"a hello to all the world " * 8):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def forward(self, *arguments, **how):
        """bsbr_forward, which must succeed and say nothing on stderr."""
        done = run("bsbr_forward", *arguments, **how)
        self.assertEqual((done.code, done.err), (0, ""))
        return done

    def check_failure(self, done, program, code, says, ranks=1):
        """The exit code, and one error line that holds the texts of `says`, but for those that begin with "hint: ", which a line of its own
        does; of one process nothing else."""
        lines = [line for line in done.err.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(program + ": error: ")]
        self.assertEqual(done.code, code, done.err)
        self.assertEqual(len(errors), 1, done.err)
        self.assertEqual(done.out, "")
        for word in [says] if isinstance(says, str) else says:
            self.assertIn(word, done.err if word.startswith("hint: ") else errors[0])
        if ranks == 1:  # launchers have their own to say
            self.assertEqual([line for line in lines[1:] if not line.startswith("hint: ")], [])
            self.assertLessEqual(len(lines), 2)


def in_parallel(function, items, workers=WORKERS):
    """function(item) for all items, some at a time; -> the exceptions by item."""
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        tasks = {item: pool.submit(function, item) for item in items}
    return {item: task.exception() for item, task in tasks.items() if task.exception()}


def ids_file(path, ids, mask=None, dataset="inputs/input_ids"):
    with h5py.File(path, "w") as file:
        file[dataset] = np.asarray(ids)
        if mask is not None:
            file[os.path.dirname(dataset) + "/attention_mask"] = np.asarray(mask)
    return path


def hidden_states(path):
    with h5py.File(path) as file:
        assert file.attrs["complete"] == 1
        return file["hidden_states"][()]
