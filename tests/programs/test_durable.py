"""kill -9 at any moment of a run leaves under the result's name what was there before, or nothing, or a whole new result.

Twenty runs are killed, launcher and ranks together: half of them at a random moment of the whole run, half while the result is written.
In each case half of them find an old result in place. What one of them leaves as <name>.part the next one finds.

Usage: test_durable.py RANKS
"""
import os
import random
import sys
import time
import unittest

import h5py
import numpy as np

from jobs import Job
from programs import MPIEXEC, PROGRAMS, Case

RANKS = 1
KILLS = 20
TOKENS = 1 << 16
LIMIT = 120  # seconds that a run may take on a busy machine


class Durable(Case):
    def setUp(self):
        super().setUp()
        self.model_file = self.model(num_layers=1, hidden_dim=128, ff_dim=1, chunk_size=256)  # 32 MiB of result
        self.results = self.path("results")
        os.mkdir(self.results)
        self.result, self.part = (os.path.join(self.results, name) for name in ("out.h5", "out.h5.part"))

    def start(self, number, seed):
        command = [os.path.abspath(os.path.join(PROGRAMS, "bsbr_forward")), "--model", self.model_file, "--random-tokens", str(TOKENS),
                   "--seed", str(seed), "--output", self.result, "--quiet"]
        folder = self.path("run%d" % number)
        os.mkdir(folder)
        return Job(command if RANKS == 1 else [*MPIEXEC, str(RANKS), *command], folder)

    def run_whole(self, number, seed):
        """-> seconds from the start until the result is begun, and until the end"""
        job = self.start(number, seed)
        known = self.identity(self.part)
        Job.wait(lambda: self.identity(self.part) not in (None, known) or job.launcher.poll() is not None, job.start + LIMIT, pause=0.002)
        begun = time.time() - job.start
        self.assertTrue(Job.wait(job.has_ended, job.start + LIMIT, pause=0.002))
        self.assertEqual((job.launcher.returncode, job.read("err")), (0, ""))
        self.assertEqual(os.listdir(self.results), ["out.h5"])
        return begun, time.time() - job.start

    @staticmethod
    def identity(path):
        try:
            state = os.stat(path)
            return state.st_ino, state.st_ctime_ns
        except FileNotFoundError:
            return None

    def kill(self, number, moment, writing):
        """Starts a run and kills it, so many seconds after its start or after it has begun to write."""
        known = self.identity(self.part)
        job = self.start(number, seed=2)
        since = job.start
        if writing:
            Job.wait(lambda: self.identity(self.part) not in (None, known) or job.launcher.poll() is not None, since + LIMIT, pause=0.001)
            since = time.time()
        time.sleep(max(0, since + moment - time.time()))
        job.clear()

    @staticmethod
    def is_whole(path, states):
        with h5py.File(path) as file:
            if file.attrs["complete"] != 1:
                return False
            found = file["hidden_states"][()]
        return np.array_equal(found, states)

    def what_is_left(self, old, states):
        """Which of the three stands under the name. Fails if it is a fourth."""
        if not os.path.exists(self.result):
            self.assertIsNone(old, "an old result is gone")
            return "nothing"
        if old is not None:
            with open(self.result, "rb") as file:
                if file.read() == old:
                    return "old"
        self.assertTrue(self.is_whole(self.result, states), "neither the old result nor a whole new one")
        return "new"

    def check_part(self, states):
        """It may be anything; but one that says that it is complete is."""
        if not os.path.exists(self.part):
            return False
        try:
            with h5py.File(self.part) as file:
                complete = file.attrs.get("complete", 0)
        except OSError:  # not even begun
            return True
        self.assertTrue(complete == 0 or self.is_whole(self.part, states))
        return True

    def test_a_run_that_is_killed_leaves_the_old_result_or_nothing_or_a_whole_new_one(self):
        self.run_whole(0, seed=1)
        with open(self.result, "rb") as file:
            old = file.read()
        begun, whole = self.run_whole(1, seed=2)
        with h5py.File(self.result) as file:
            states = file["hidden_states"][()]
        span = whole - begun  # of the time that writing takes, which differs where other work comes and goes
        choose = random.Random(7)
        left, parts = [], 0
        for kill in range(KILLS):
            writing, has_old = kill % 2 == 1, kill % 4 < 2
            if has_old:
                with open(self.result, "wb") as file:
                    file.write(old)
            elif os.path.exists(self.result):
                os.unlink(self.result)
            self.kill(2 + kill, choose.uniform(0, span if writing else whole), writing)
            left.append(self.what_is_left(old if has_old else None, states))
            if writing and left[-1] == "new":
                span *= 0.7  # it came too late
            parts += self.check_part(states)
            self.assertLessEqual(set(os.listdir(self.results)), {"out.h5", "out.h5.part"})
        self.run_whole(2 + KILLS, seed=2)  # whatever the last one has left: this one copes, and leaves nothing but its result
        self.assertTrue(self.is_whole(self.result, states))
        print("%d kills left: %s; and %d times a .part" % (KILLS, ", ".join("%s %d" % (what, left.count(what)) for what in sorted(set(left))), parts))
        self.assertGreaterEqual(parts, 3, "hardly any was killed while it wrote: %s" % left)
        self.assertIn("old", left)
        self.assertIn("nothing", left)


if __name__ == "__main__":
    RANKS = int(sys.argv.pop(1))
    unittest.main()
