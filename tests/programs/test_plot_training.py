"""tools/plot_training.py from outside: what it draws of one log and of several, and what it says of bad ones.

Where matplotlib is missing the tests are skipped: the exit code is 77, which ctest is told to take for that.
"""
import contextlib
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import types
import unittest
import warnings
import xml.etree.ElementTree

from programs import Case

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
TOOL = os.path.join(TOOLS, "plot_training.py")
USAGE, FILE, OUTPUT, SKIPPED = 2, 3, 6, 77
PICTURES = ("loss", "validation_loss", "gradient_norm", "learning_rate", "tokens_per_second")

sys.path.insert(0, TOOLS)
import plot_training  # noqa: E402
import training_log  # noqa: E402


def plot(*arguments, **environment):
    done = subprocess.run([sys.executable, "-B", TOOL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          env={**os.environ, **environment})
    return types.SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def plot_here(*arguments):
    """The same without a process of its own: for many short ones."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = plot_training.main([str(argument) for argument in arguments])
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def entry(step, **changes):
    return {**dict(step=step, loss=5 / step, bits_per_token=5 / step / math.log(2), gradient_norm=1 / step, learning_rate=1e-3,
                   tokens=1000 * step, seconds=0.5, tokens_per_second=2000.0 + step), **changes}


def run(steps, validate_every=5, **changes):
    entries = [entry(step, **changes) for step in range(1, steps + 1)]
    for one in entries[validate_every - 1::validate_every]:
        one["validation_loss"] = one["loss"] + 1
    return entries


def changed(field, value):
    """A run whose second line has another value."""
    return [entry(1), {**entry(2), field: value}, entry(3)]


def without(field):
    return [{name: value for name, value in one.items() if name != field} for one in run(3)]


# What is wrong -> (lines, or text as it is; what the error line must hold).
BAD = {
    "empty": ("", "is empty"),
    "blank": ("\n\n", "is empty"),
    "unfinished": ('{"step": 1, "lo', "has no whole line"),
    "binary": (b"\x89HDF\r\n\xff\x00\n", "is not text"),
    "not_json": ('{"step": 1, "loss": 2}\nstep 2\n', "line 2 is not JSON"),
    "deep": ("[" * 100000 + "\n", "line 1 is not JSON"),
    "list": ("[1]\n", "line 1 holds a list, must be an object"),
    "no_step": (without("step"), "line 1: step is missing, must be an integer from 1 on"),
    "step_zero": (changed("step", 0), "line 2: step = 0, must be an integer from 1 on"),
    "step_real": (changed("step", 2.5), "line 2: step = 2.5"),
    "step_true": (changed("step", True), "line 2: step = true"),
    "step_huge": (changed("step", 10**30), "line 2: step = 1000"),
    "step_back": (changed("step", 1), "line 2: step = 1, must be above 1"),
    "tokens_back": (changed("tokens", 10), "line 2: tokens = 10, must be above 1000"),
    "tokens_text": (changed("tokens", "9"), 'line 2: tokens = "9"'),
    "nothing": ([dict(step=1, seconds=2)], "no line has a number of loss"),
    **{f"{name}_text": (changed(name, "1"), f'line 2: {name} = "1", must be a number from 0 on') for name in PICTURES},
    **{f"{name}_negative": (changed(name, -1), f"line 2: {name} = -1") for name in PICTURES},
}


class Plot(Case):
    def log(self, content, name="run.jsonl"):
        """A log with these entries, or text or bytes as they are."""
        if isinstance(content, list):
            content = "".join(json.dumps(one) + "\n" for one in content)
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def figures(self, *runs):
        """picture -> figure, of these runs."""
        import training_plots

        logs = [training_log.load(self.log(entries, f"run {index}"), f"run {index}") for index, entries in enumerate(runs)]
        return dict(training_plots.pictures(logs))

    def check_files(self, folder, pictures=PICTURES):
        self.assertEqual(sorted(os.listdir(folder)), sorted(f"{name}.{kind}" for name in pictures for kind in ("png", "svg")))
        for name in pictures:
            with open(os.path.join(folder, name + ".png"), "rb") as file:
                content = file.read()
            self.assertTrue(content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82"), name)
            svg = xml.etree.ElementTree.parse(os.path.join(folder, name + ".svg"))
            self.assertEqual(svg.getroot().tag, "{http://www.w3.org/2000/svg}svg")

    def test_all_pictures_of_several_logs_are_written(self):
        one, other = self.log(run(20), "one.jsonl"), self.log(run(300), "other.jsonl")
        done = plot(one, other, "--output-dir", self.path("new/out"))
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(done.out, f"{self.path('new/out')}: 10 pictures of 2 runs\n")
        self.check_files(self.path("new/out"))

    def test_curves_have_the_numbers_of_the_log_against_steps_and_tokens(self):
        entries = run(12)
        figures = self.figures(entries)
        self.assertEqual(list(figures), list(PICTURES))
        for quantity, figure in figures.items():
            having = [one for one in entries if quantity in one]
            self.assertEqual([axes.get_xlabel() for axes in figure.axes], ["steps", "tokens"])
            for axes, field in zip(figure.axes, ("step", "tokens")):
                (line,) = axes.lines
                self.assertEqual(list(line.get_xdata()), [one[field] for one in having])
                self.assertEqual(list(line.get_ydata()), [one[quantity] for one in having])
                low, high = axes.get_ylim()
                self.assertTrue(all(low <= one[quantity] <= high for one in having), quantity)

    def test_long_runs_have_a_mean_besides_each_step(self):
        entries = run(400)
        figures = self.figures(entries)
        pale, mean = figures["loss"].axes[0].lines
        self.assertEqual(list(pale.get_ydata()), [one["loss"] for one in entries])
        self.assertAlmostEqual(mean.get_ydata()[0], sum(one["loss"] for one in entries[:8]) / 8)
        self.assertAlmostEqual(mean.get_xdata()[0], 4.5)
        self.assertAlmostEqual(mean.get_ydata()[-1], sum(one["loss"] for one in entries[-8:]) / 8)
        self.assertEqual(len(figures["validation_loss"].axes[0].lines), 1)

    def test_runs_differ_in_their_lines_and_have_names(self):
        figure = self.figures(run(10), run(10, loss=3), run(10, loss=4))["loss"]
        lines = figure.axes[0].lines
        self.assertEqual(len({line.get_color() for line in lines}), 3)
        self.assertEqual(len({str(line._dash_pattern) for line in lines}), 3)
        self.assertEqual([text.get_text() for text in figure.texts if text.get_text().startswith("run")], ["run 0", "run 1", "run 2"])

    def test_steps_that_were_not_taken_are_left_out(self):
        entries = [entry(1), {**entry(2), "loss": None, "gradient_norm": None}, {**entry(3), "loss": math.nan}, entry(4)]
        (line,) = self.figures(entries)["loss"].axes[0].lines
        self.assertEqual(list(line.get_xdata()), [1, 4])

    def test_what_no_log_has_is_not_drawn_and_without_tokens_there_are_steps_only(self):
        entries = [dict(step=3, loss=2.5), dict(step=7, loss=2.25)]
        done = plot_here(self.log(entries), "--output-dir", self.path("out"))
        self.assertEqual((done.code, done.err), (0, ""))
        self.check_files(self.path("out"), ["loss"])
        self.assertEqual([axes.get_xlabel() for axes in self.figures(entries)["loss"].axes], ["steps"])

    def test_a_line_that_is_being_written_is_left_out(self):
        whole = "".join(json.dumps(one) + "\n" for one in run(3))
        self.assertEqual(training_log.load(self.log(whole + '{"step": 4, "loss'), "a").steps, [1, 2, 3])

    def test_odd_numbers_are_drawn(self):
        self.figures([entry(1)])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.figures(run(5, loss=0, gradient_norm=0, learning_rate=0, tokens_per_second=0))
        self.figures([entry(1), entry(2, loss=1e300, gradient_norm=1e-300)])

    def test_the_same_logs_give_the_same_bytes(self):
        logs = [self.log([dict(step=step, loss=1 / step) for step in range(1, 250)], name) for name in ("a$b_.jsonl", "名.jsonl")]
        for folder in ("one", "other"):
            self.assertEqual(plot_here(*logs, "--output-dir", self.path(folder)).code, 0)
        for name in os.listdir(self.path("one")):
            with open(os.path.join(self.path("one"), name), "rb") as one, open(os.path.join(self.path("other"), name), "rb") as other:
                self.assertEqual(one.read(), other.read(), name)

    def test_bad_files_are_named_with_what_is_wrong_and_nothing_is_written(self):
        good, out = self.log(run(3), "good"), ["--output-dir", self.path("out")]
        for name, (content, says) in BAD.items():
            with self.subTest(name):
                file = self.log(content, name)
                self.check_failure(plot_here(good, file, *out), "plot_training.py", FILE, [file + ": ", says])
        for file in (self.path("absent"), self.folder):
            self.check_failure(plot(file, *out), "plot_training.py", FILE, file + ": cannot be read: ")
        self.assertFalse(os.path.exists(self.path("out")))

    def test_bad_command_lines_are_usage_errors(self):
        good, out = self.log(run(3)), ["--output-dir", self.path("out")]
        for says, arguments in [
            ("--output-dir", [good]),
            ("--output-dir", [good, "--output-dir", ""]),
            ("LOG", out),
            ("twice", [good, good, *out]),
            ("--frobnicate", [good, "--frobnicate", *out]),
        ]:
            self.check_failure(plot_here(*arguments), "plot_training.py", USAGE, says)
        self.assertFalse(os.path.exists(self.path("out")))

    def test_where_nothing_can_be_written_nothing_is_left(self):
        good = self.log(run(3))
        self.check_failure(plot_here(good, "--output-dir", good), "plot_training.py", OUTPUT, good)
        os.makedirs(self.path("out/loss.svg"))
        self.check_failure(plot_here(good, "--output-dir", self.path("out")), "plot_training.py", OUTPUT, ["out", "loss.svg"])
        self.assertEqual(os.listdir(self.path("out")), ["loss.svg"])

    def test_help_and_complaints_do_without_numpy_and_matplotlib(self):
        for name in ("numpy", "matplotlib"):
            self.log(f"raise ImportError('No module named {name}')\n", f"{name}.py")
        self.assertEqual(plot("--help", PYTHONPATH=self.folder, PYTHONIOENCODING="ascii").code, 0)
        done = plot(self.log("[]\n"), "--output-dir", self.path("out"), PYTHONPATH=self.folder)
        self.check_failure(done, "plot_training.py", FILE, "holds a list")
        done = plot(self.log(run(3)), "--output-dir", self.path("out"), PYTHONPATH=self.folder)
        self.check_failure(done, "plot_training.py", 1, f"{sys.executable} cannot load ")


if __name__ == "__main__":
    if importlib.util.find_spec("matplotlib") is None:
        print(f"skipped: {sys.executable} has no matplotlib (Debian: python3-matplotlib)")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
