"""What the programs show of their progress: on a terminal, through a launcher in a terminal, and in a log."""
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

from programs import MPIEXEC, PROGRAMS, Case, mpi_session, run

# A forward that takes long enough to be seen, of many layers.
MODEL = dict(hidden_dim=128, num_layers=12, num_heads=4, ff_dim=512, chunk_size=64)
TOKENS = 16384
ERASE = "\r\x1b[K"
LAYER = r"forward 1 of 2, layer (\d+) of 12 \(\w+\), (\d+) %"


def in_terminal(command, stderr_to=None, columns=80):
    """Runs a command whose stdin, stdout and stderr are a terminal -> exit code, what the terminal got.  stderr_to: a file instead."""
    master, slave = pty.openpty()
    subprocess.run(["stty", "-F", os.ttyname(slave), "cols", str(columns), "-opost"], check=True)
    with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session:
        environment = {**os.environ, **mpi_session(session), "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=stderr_to or slave, env=environment, start_new_session=True)
        os.close(slave)
        got, end = b"", time.time() + 120
        while time.time() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    part = os.read(master, 1 << 16)
                except OSError:  # all ends of it are closed
                    break
                if not part:
                    break
                got += part
            elif child.poll() is not None:
                break
        os.close(master)
        return child.wait(timeout=60), got.decode()


class Progress(Case):
    @classmethod
    def setUpClass(cls):
        cls.home = tempfile.TemporaryDirectory(prefix="bsbr-test-")
        cls.model_path = os.path.join(cls.home.name, "model.h5")
        options = [item for name, value in MODEL.items() for item in ("--" + name.replace("_", "-"), value)]
        done = run("bsbr_init", "--output", cls.model_path, "--architecture", "bsbr", *options)
        assert done.code == 0, done.err

    @classmethod
    def tearDownClass(cls):
        cls.home.cleanup()

    def command(self, *arguments, ranks=1):
        alone = [os.path.join(PROGRAMS, "bsbr_forward"), "--model", self.model_path, "--random-tokens", str(TOKENS), "--repeat", "2", *arguments]
        return alone if ranks == 1 else [*MPIEXEC, str(ranks), *alone]

    def check_in_place(self, got, columns=80):
        """Layers go by, on one line that is erased before the summary."""
        lines = got.split(ERASE)
        steps = [found for found in (re.search(LAYER, line) for line in lines) if found]
        self.assertGreater(len({int(step.group(1)) for step in steps}), 2, got)
        shares = [int(step.group(2)) for step in steps]
        self.assertEqual(shares, sorted(shares))
        self.assertLessEqual(max(shares), 50)  # of both forwards
        self.assertRegex(got, r"forward 2 of 2, layer \d+ of 12 \(\w+\), \d\d %, [^(]*left")
        for line in lines[1:-1]:
            self.assertNotIn("\n", line)
            self.assertLess(len(line), columns)
        self.assertRegex(lines[-1], "tokens per second")
        self.assertNotIn("(after", lines[-1])

    def test_auto_on_a_terminal_updates_one_line(self):
        code, got = in_terminal(self.command())
        self.assertEqual(code, 0, got)
        self.check_in_place(got)

    def test_auto_under_a_launcher_in_a_terminal_updates_one_line(self):
        code, got = in_terminal(self.command(ranks=2))
        self.assertEqual(code, 0, got)
        self.check_in_place(got)

    def test_a_line_is_cut_at_the_width_of_the_terminal(self):
        for ranks in (1, 2):
            code, got = in_terminal(self.command(ranks=ranks), columns=40)
            self.assertEqual(code, 0, got)
            lengths = [len(line) for line in got.split(ERASE)[1:-1]]
            self.assertEqual(max(lengths), 39)

    def test_off_shows_nothing_on_a_terminal(self):
        for ranks in (1, 2):
            code, got = in_terminal(self.command("--progress", "off", ranks=ranks))
            self.assertEqual(code, 0, got)
            self.assertNotIn("\x1b", got)
            self.assertNotIn("layer 1", got)

    def test_auto_is_silent_where_stderr_is_a_file_though_all_else_is_a_terminal(self):
        for ranks in (1, 2):
            with tempfile.TemporaryFile() as log:
                code, got = in_terminal(self.command(ranks=ranks), stderr_to=log)
                log.seek(0)
                self.assertEqual((code, log.read()), (0, b""))
            self.assertNotIn("\x1b", got)

    def test_auto_is_silent_in_pipes(self):
        for ranks in (1, 2):
            done = subprocess.run(self.command(ranks=ranks), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "OMP_NUM_THREADS": "1"})
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertNotIn("\x1b", done.stdout)

    def test_a_log_has_lines_and_no_control_characters(self):
        for ranks in (1, 2):
            done = run("bsbr_forward", "--model", self.model_path, "--random-tokens", TOKENS, "--progress", "on", "--progress-interval", 0.1,
                       ranks=ranks)
            self.assertEqual(done.code, 0, done.err)
            self.assertRegex(done.err, r"(?m)^bsbr_forward: forward 1 of 1, layer \d+ of 12 \(\w+\), \d+ %.* \(after ")
            self.assertRegex(done.err, r"^[\n -~]*$")
            for line in done.err.splitlines():
                self.assertTrue(line.startswith("bsbr_forward: "), line)

    def test_a_log_has_a_line_a_minute_and_no_more(self):
        done = run("bsbr_forward", "--model", self.model_path, "--random-tokens", 64, "--repeat", 100, "--progress", "on")
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual(len(re.findall("forward .* of 100", done.err)), 1, done.err)

    def test_a_comparison_shows_layers_too(self):
        options = [item for name, value in MODEL.items() for item in ("--" + name.replace("_", "-"), value)]
        done = run("bsbr_compare", "--architectures", "linear", "--seq-lengths", TOKENS, *options, "--progress", "on", "--progress-interval", 0.1)
        self.assertEqual(done.code, 0, done.err)
        self.assertRegex(done.err, rf"linear at {TOKENS}: warm-up, forward 1 of 1, layer \d+ of 12")
        self.assertRegex(done.err, rf"linear at {TOKENS}: forward \d of 3, layer \d+ of 12")

    def test_an_interval_that_is_none_is_refused(self):
        for text in ("0", "-1", "soon"):
            done = run("bsbr_forward", "--model", self.model_path, "--random-tokens", 8, "--progress-interval", text)
            self.check_failure(done, "bsbr_forward", 2, ["--progress-interval", text])


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        sys.exit(77)
    unittest.main(verbosity=2)
