"""tools/analyze_results.py from outside: what it writes for whole, partial and odd comparisons, and what it says of bad ones.

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
import unittest.mock
import xml.etree.ElementTree

from programs import Case

TOOLS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
TOOL = os.path.join(TOOLS, "analyze_results.py")
EXAMPLE = os.path.join(TOOLS, "example_data", "comparison.json")
USAGE, FILE, OUTPUT, SKIPPED = 2, 3, 6, 77
ARCHITECTURES = ("bsbr", "standard", "linear", "delta_net", "sliding_window", "hopfield", "gau")
PICTURES = ("time", "memory", "throughput", "relative", "time_memory")
FILES = sorted(["report.md", *(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg"))])

sys.path.insert(0, TOOLS)
import analyze_results  # noqa: E402
import comparison_data  # noqa: E402


def analyze(*arguments, **environment):
    done = subprocess.run([sys.executable, "-B", TOOL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                          env={**os.environ, **environment})
    return types.SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def analyze_here(*arguments):
    """The same without a process of its own: for many short ones."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = analyze_results.main([str(argument) for argument in arguments])
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def load(path):
    return comparison_data.read_comparison(comparison_data.read_json(path))


def result(architecture, length, exponent=1.0, **changes):
    seconds = 1e-4 * length**exponent
    return dict(architecture=architecture, seq_length=length, seconds=seconds, tokens_per_second=length / seconds,
                memory_bytes=9000 * length, parameters=12742656, **changes)


def comparison(architectures=ARCHITECTURES, lengths=(256, 1024, 4096), **changes):
    """A whole comparison, in which the i-th architecture takes the time 1e-4·L^(1 + i/10)."""
    results = [result(name, length, 1 + index / 10, flops=10**6 * length, flops_per_second=1e9, resident_bytes=10**8,
                      seconds_by_repeat=[0.5, 0.7], config={"own_field": index})
               for index, name in enumerate(architectures) for length in lengths]
    return dict(format="bsbr-comparison", format_version=1, version="0.1.0", git_commit="0123abc", ranks=1, threads_per_rank=2,
                precision="float", batch=1, processor="A processor", config=dict(hidden_dim=512, num_layers=4), results=results,
                failures=[], fits=[], **changes)


def changed(function):
    """A comparison after function(comparison)."""
    data = comparison(("bsbr", "standard"), (256, 512))
    function(data)
    return data


def field(name, value):
    return changed(lambda data: data["results"][1].update({name: value}))


def without(name):
    return changed(lambda data: data["results"][1].pop(name))


NUMBERS = ("seconds", "tokens_per_second", "memory_bytes", "parameters")

# What is wrong -> (JSON, or text as it is; what the error line must hold).
BAD = {
    "not_json": ("{", "is not JSON"),
    "empty": ("", "is not JSON"),
    "binary": (b"\x89HDF\r\n\xff\x00", "is not JSON"),
    "deep": ("[" * 100000, "is not JSON"),
    "list": ([], "holds a list, must be an object"),
    "no_format": (changed(lambda data: data.pop("format")), ["format = null", '"bsbr-comparison"']),
    "other_format": (changed(lambda data: data.update(format="bsbr-result")), ['format = "bsbr-result"', '"bsbr-comparison"']),
    "other_version": (changed(lambda data: data.update(format_version=2)), ["format_version = 2", "must be 1"]),
    "config": (changed(lambda data: data.update(config=[1])), "config is a list"),
    "no_results": (changed(lambda data: data.pop("results")), "results is missing"),
    "empty_results": (changed(lambda data: data.update(results=[])), "results is empty"),
    "results_object": (changed(lambda data: data.update(results={})), "results is an object, must be a list"),
    "result_number": (changed(lambda data: data["results"].append(3)), "results[4] is a number, must be an object"),
    "no_architecture": (without("architecture"), "results[1]: architecture is missing"),
    "architecture_number": (field("architecture", 7), "results[1]: architecture = 7"),
    "architecture_empty": (field("architecture", " "), "results[1]: architecture"),
    "architecture_lines": (field("architecture", "a\nb"), r"results[1]: architecture = \"a\nb\"".replace('\\"', '"')),
    "no_length": (without("seq_length"), "results[1]: seq_length is missing"),
    "length_zero": (field("seq_length", 0), "results[1]: seq_length = 0"),
    "length_real": (field("seq_length", 256.5), "results[1]: seq_length = 256.5"),
    "length_true": (field("seq_length", True), "results[1]: seq_length = true"),
    "length_huge": (field("seq_length", 10**400), "results[1]: seq_length = 1000"),
    "twice": (changed(lambda data: data["results"].append(data["results"][0])), "results[4]: bsbr at 256 is there twice"),
    "seconds_huge": (field("seconds", 10**400), "results[1]: seconds = 1000"),
    "seconds_large": (field("seconds", 1e31), "results[1]: seconds = 1e+31, must be from 1e-30 to 1e+30"),
    "repeats": (field("seconds_by_repeat", 3), "results[1]: seconds_by_repeat is a number, must be a list"),
    "repeat_negative": (field("seconds_by_repeat", [1, -1]), "results[1]: seconds_by_repeat[1] = -1"),
    "flops": (field("flops", "many"), 'results[1]: flops = "many"'),
    "own_config": (field("config", "x"), "results[1]: config is a string"),
    "failures": (changed(lambda data: data.update(failures=3)), "failures is a number, must be a list"),
    "failure_length": (changed(lambda data: data["failures"].append(dict(architecture="gau", reason="x"))),
                       "failures[0]: seq_length is missing"),
    "failure_reason": (changed(lambda data: data["failures"].append(dict(architecture="gau", seq_length=1))), "failures[0]: reason = null"),
    "fit": (changed(lambda data: data["fits"].append(dict(architecture="bsbr", time_exponent="x"))), 'fits[0]: time_exponent = "x"'),
    "fit_large": (changed(lambda data: data["fits"].append(dict(architecture="bsbr", time_exponent=1e9))), "time_exponent = 1000000000.0"),
    "fit_nan": (changed(lambda data: data["fits"].append(dict(architecture="bsbr", r_squared=float("nan")))), "fits[0]: r_squared = NaN"),
    **{f"no_{name}": (without(name), f"results[1]: {name} is missing") for name in NUMBERS},
    **{f"{name}_text": (field(name, "12"), f'results[1]: {name} = "12", must be a number above 0') for name in NUMBERS},
    **{f"{name}_null": (field(name, None), f"results[1]: {name} = null, must be a number above 0") for name in NUMBERS},
    **{f"{name}_nan": (field(name, float("nan")), f"results[1]: {name} = NaN, must be a number above 0") for name in NUMBERS},
    **{f"{name}_infinite": (field(name, float("inf")), f"results[1]: {name} = Infinity, must be a number above 0") for name in NUMBERS},
    **{f"{name}_negative": (field(name, -1.5), f"results[1]: {name} = -1.5, must be a number above 0") for name in NUMBERS},
}


class Analyze(Case):
    def results(self, data, name="results.json"):
        """A file with this content: JSON, or text or bytes as they are."""
        content = data if isinstance(data, (str, bytes)) else json.dumps(data)
        with open(self.path(name), "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
        return self.path(name)

    def analyzed(self, data, output="out"):
        """Draws it; every file must be written -> the report."""
        done = analyze_here(self.results(data), "--output-dir", self.path(output))
        self.assertEqual((done.code, done.err), (0, ""))
        self.check_files(self.path(output))
        return self.report(output)

    def report(self, output="out"):
        with open(os.path.join(self.path(output), "report.md"), encoding="utf-8") as file:
            return file.read()

    def check_files(self, folder):
        self.assertEqual(sorted(os.listdir(folder)), FILES)
        for name in PICTURES:
            with open(os.path.join(folder, name + ".png"), "rb") as file:
                content = file.read()
            self.assertTrue(content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82"), name)
            svg = xml.etree.ElementTree.parse(os.path.join(folder, name + ".svg"))
            self.assertEqual(svg.getroot().tag, "{http://www.w3.org/2000/svg}svg")

    def row(self, report, section, first):
        """The cells of the row that begins with `first`, in the section of that name."""
        part = report.split(f"# {section}\n")[1].split("\n#")[0]
        return next([cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith(f"| {first} |"))

    def test_all_files_are_written_and_the_report_has_all_numbers(self):
        data = comparison()
        data["failures"] = [dict(architecture="standard", seq_length=1 << 20, reason="not enough | memory")]
        report = self.analyzed(data)
        for name in PICTURES:
            self.assertIn(f"]({name}.png)", report)
        for name in ARCHITECTURES:
            for section in ("Fits", "Models", "256 tokens", "1,024 tokens", "4,096 tokens"):
                self.row(report, section, name)
        self.assertEqual(self.row(report, "256 tokens", "bsbr"),
                         ["bsbr", "25.6 ms", "500 ms – 700 ms", "10,000", "2.20 MiB", "95.4 MiB", "1.00 G", "1.00×"])
        self.assertEqual(self.row(report, "1,024 tokens", "gau")[-1], f"{1024**0.6:.1f}×")
        self.assertEqual(self.row(report, "Fits", "standard")[1:7], ["1.100", "1.0000", "1.000", "1.0000", "3", "computed from the results"])
        self.assertEqual(self.row(report, "Models", "linear")[1:], ["12,742,656", "4,096", "4.10 G", "1.00 M", "own_field = 2"])
        self.assertIn("| standard | 1,048,576 | not enough \\| memory |", report)
        for name, value in dict(version="0.1.0", git_commit="0123abc", processor="A processor", threads_per_rank=2, precision="float",
                                hidden_dim=512).items():
            self.assertIn(f"| {name} | {value} |", report)

    def test_the_same_file_gives_the_same_bytes_and_settings_of_matplotlib_change_nothing(self):
        self.analyzed(comparison())
        with open(self.path("matplotlibrc"), "w") as file:
            file.write("font.size: 20\nsavefig.dpi: 50\nsvg.fonttype: none\n")
        done = analyze(self.path("results.json"), "--output-dir", self.path("again"), MATPLOTLIBRC=self.path("matplotlibrc"))
        self.assertEqual((done.code, done.err), (0, ""))
        for name in FILES:
            with open(os.path.join(self.path("out"), name), "rb") as one, open(os.path.join(self.path("again"), name), "rb") as other:
                self.assertEqual(one.read(), other.read(), name)

    def test_results_with_the_required_fields_only_are_enough(self):
        data = dict(format="bsbr-comparison", format_version=1)
        data["results"] = [result(name, length) for name in ("gau", "bsbr") for length in (7, 9)]
        report = self.analyzed(data)
        self.assertEqual(self.row(report, "7 tokens", "gau")[2], "–")

    def test_missing_pairs_are_left_out_and_failed_ones_named(self):
        data = comparison(("bsbr", "standard", "hopfield"))
        data["results"] = [item for item in data["results"] if (item["architecture"], item["seq_length"]) not in
                           (("standard", 4096), ("hopfield", 256))]
        data["failures"] = [dict(architecture="standard", seq_length=4096, reason="no"),
                            dict(architecture="gau", seq_length=256, reason="no")]
        report = self.analyzed(data)
        self.assertEqual(self.row(report, "4,096 tokens", "standard")[1:3], ["failed", "–"])
        self.assertEqual(self.row(report, "256 tokens", "hopfield")[1:3], ["–", "–"])
        self.assertEqual(self.row(report, "256 tokens", "gau")[1], "failed")
        self.assertEqual(self.row(report, "Fits", "standard")[5], "2")
        self.assertIn("Time against memory at 1,024 tokens", report)

    def test_an_exponent_is_uncertain_where_the_repeats_differ_more_than_the_time_grows(self):
        data = comparison(("bsbr", "standard"))
        for item in data["results"]:
            wide = 4 if item["architecture"] == "bsbr" else 1.01
            item["seconds_by_repeat"] = [item["seconds"] / wide, item["seconds"], item["seconds"] * wide]
        report = self.analyzed(data)
        self.assertRegex(self.row(report, "Fits", "bsbr")[-1], r"^\d\.\d+, uncertain$")
        self.assertRegex(self.row(report, "Fits", "standard")[-1], r"^\d\.\d+$")
        self.assertIn("How the time grows for bsbr cannot be told", report)
        slopes = self.texts_of_time(data)
        self.assertTrue(slopes["bsbr"].endswith("?"))
        self.assertFalse(slopes["standard"].endswith("?"))

    def test_of_two_lengths_nothing_is_concluded_on_how_the_time_grows(self):
        data = comparison(("bsbr", "standard"))
        shortest = sorted({item["seq_length"] for item in data["results"]})[:2]
        data["results"] = [item for item in data["results"] if item["architecture"] == "standard" or item["seq_length"] in shortest]
        for item in data["results"]:
            item["seconds_by_repeat"] = [item["seconds"]]
        report = self.analyzed(data)
        self.assertEqual(self.row(report, "Fits", "bsbr")[-1], "–, uncertain")
        self.assertIn("How the time grows for bsbr cannot be told", report)
        self.assertRegex(self.row(report, "Fits", "standard")[-1], r"^\d\.\d+$")

    def texts_of_time(self, data):
        """architecture -> the text beside its name in the picture of the time."""
        import comparison_plots

        figure = comparison_plots.draw_time(load(self.results(data, "texts.json")))
        texts = [text.get_text() for text in figure.axes[0].texts]
        return {name: texts[texts.index(name) + 1] for name in texts if name in ARCHITECTURES}

    def test_bars_reach_from_the_fastest_to_the_slowest_repeat(self):
        import comparison_plots

        data = comparison(("bsbr", "gau"))
        for item in data["results"]:
            item["seconds_by_repeat"] = [item["seconds"] * factor for factor in (1, 0.5, 3)]
        found = load(self.results(data))
        axes = comparison_plots.draw_time(found).axes[0]
        bars = {tuple(segment[:, 1]) for lines in axes.collections for segment in lines.get_segments()}
        for item in data["results"]:
            self.assertTrue(any(math.isclose(low, item["seconds"] / 2) and math.isclose(high, item["seconds"] * 3) for low, high in bars), item)
            self.assertLess(axes.get_ylim()[0], item["seconds"] / 2)
            self.assertGreater(axes.get_ylim()[1], item["seconds"] * 3)

    def test_curves_look_like_their_samples_even_where_they_coincide(self):
        import comparison_plots

        data = comparison(("bsbr", "linear", "gau"))
        for item in data["results"]:
            item["memory_bytes"] = item["seq_length"] * (1000 if item["architecture"] != "gau" else 3000)
        axes = comparison_plots.draw_memory(load(self.results(data))).axes[0]
        lines = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
        curves, samples = ({line.get_color(): line for line in lines if (max(line.get_xdata()) > 10) == of_data} for of_data in (True, False))
        self.assertEqual(set(curves), {comparison_plots.STYLES[name].color for name in ("bsbr", "linear", "gau")})
        for color, curve in curves.items():
            self.assertIsNone(curve.get_markevery())  # a marker at every point
            for look in ("linestyle", "linewidth", "marker", "markersize"):
                self.assertEqual(getattr(curve, "get_" + look)(), getattr(samples[color], "get_" + look)())
            self.assertEqual(curve._dash_pattern, samples[color]._dash_pattern)  # get_linestyle() knows only that there are dashes

    def test_the_relative_picture_fills_its_width(self):
        import comparison_plots

        for lengths in ([256], [256, 1024], [256 << i for i in range(9)]):
            figure = comparison_plots.draw_relative(load(self.results(comparison(lengths=lengths))))
            self.assertGreater(figure.axes[0].get_position().x1, 0.95)
            self.assertLessEqual(figure.axes[0].get_position().x1, 1)

    def test_the_conclusion_says_who_is_fastest_and_what_was_left_out(self):
        data = comparison(("bsbr", "standard"))
        data["results"] = [item for item in data["results"] if (item["architecture"], item["seq_length"]) != ("standard", 4096)]
        data["failures"] = [dict(architecture="standard", seq_length=4096, kind="time", reason="4 forwards would take 1 h 00 min")]
        report = self.analyzed(data)
        short = report.split("## In short")[1].split("##")[0]
        seconds = {item["architecture"]: item["seconds"] for item in data["results"] if item["seq_length"] == 1024}
        fastest = min(seconds, key=seconds.get)
        self.assertIn(f"At 1,024 tokens {fastest} is the fastest of 2", short)
        self.assertIn("At 4,096 tokens only bsbr could be measured.", short)
        self.assertIn("From 4,096 tokens on, standard was not measured (too long).", short)
        self.assertEqual(self.row(report, "4,096 tokens", "standard")[1], "too long")

    def test_a_column_of_the_tables_has_one_unit(self):
        data = comparison(("bsbr", "standard"), [256])
        data["results"][0].update(seconds=0.5e-3, seconds_by_repeat=[0.5e-3], memory_bytes=3 << 10)
        data["results"][1].update(seconds=2.5, seconds_by_repeat=[2.5, 2.5], memory_bytes=5 << 30)
        report = self.analyzed(data)
        self.assertEqual(self.row(report, "256 tokens", "bsbr")[1:3], ["500 µs", "500 µs – 500 µs"])
        self.assertEqual(self.row(report, "256 tokens", "standard")[1], "2,500,000 µs")
        self.assertEqual(self.row(report, "256 tokens", "standard")[4], "5,242,880 KiB")

    def test_a_single_length_has_no_fits(self):
        report = self.analyzed(comparison(lengths=[1024]))
        self.assertEqual(self.row(report, "Fits", "bsbr")[1:6], ["–", "–", "–", "–", "1"])

    def test_a_single_architecture_at_a_single_length_is_drawn(self):
        report = self.analyzed(comparison(["bsbr"], [1]))
        self.assertEqual(self.row(report, "1 token", "bsbr")[-1], "1.00×")
        self.assertIn("At 1 token bsbr takes ", report)

    def test_every_sentence_on_growth_has_a_subject(self):
        for exponent, says in ((0.5, "more slowly than linearly"), (1, "about linearly"), (1.5, "faster than linearly")):
            data = comparison(["gau"])
            data["results"] = [result("gau", length, exponent) for length in (256, 1024, 4096)]
            self.assertIn(f"\n\nThe time grows {says}", self.analyzed(data))

    def test_unknown_architectures_are_drawn_after_the_known_ones(self):
        report = self.analyzed(comparison(["ret$net$", "a|b_", "名", "x" * 60, *(f"other{i}" for i in range(8)), "gau", "bsbr"]))
        order = [line.split(" | ")[0] for line in report.split("# 256 tokens\n")[1].split("\n#")[0].splitlines() if "×" in line]
        self.assertEqual(order[:5], ["| bsbr", "| gau", "| ret\\$net\\$", "| a\\|b\\_", "| 名"])

    def test_extreme_numbers_are_drawn(self):
        data = comparison(("bsbr", "gau"))
        data["results"][0].update(seconds=1e-30, tokens_per_second=1e30, memory_bytes=1, parameters=1)
        data["results"][4].update(seconds=1e30, tokens_per_second=1e-30, memory_bytes=10**30, seq_length=2**53)
        data["fits"] = [dict(architecture="bsbr", time_exponent=100, memory_exponent=-100)]
        self.analyzed(data)

    def test_equal_numbers_are_drawn(self):
        data = comparison(("bsbr", "gau"))
        for item in data["results"]:
            item.update(seconds=1, tokens_per_second=1, memory_bytes=1, parameters=1)
        self.assertEqual(self.row(self.analyzed(data), "Fits", "gau")[1:5], ["0.000", "1.0000", "0.000", "1.0000"])

    def test_fits_of_the_file_are_used_and_missing_ones_computed(self):
        data = comparison(("bsbr", "standard"))
        data["fits"] = [dict(architecture="bsbr", time_exponent=3.25, r_squared=0.5, memory_exponent=2, memory_r_squared=None, points=3),
                        dict(architecture="standard", time_exponent=None, r_squared=None, memory_exponent=None, memory_r_squared=None)]
        report = self.analyzed(data)
        self.assertEqual(self.row(report, "Fits", "bsbr")[1:7], ["3.250", "0.5000", "2.000", "–", "3", "given"])
        self.assertEqual(self.row(report, "Fits", "standard")[1:3], ["1.100", "1.0000"])

    def test_bad_files_are_named_with_what_is_wrong_and_nothing_is_written(self):
        out = ["--output-dir", self.path("out")]
        for name, (content, says) in BAD.items():
            with self.subTest(name):
                file = self.results(content, name)
                self.check_failure(analyze_here(file, *out), "analyze_results.py", FILE,
                                   [file + ": ", *([says] if isinstance(says, str) else says)])
        for file in (self.path("absent"), self.folder, self.path("not_json"), self.path("seconds_nan")):
            self.check_failure(analyze(file, *out), "analyze_results.py", FILE, file + ": ")
        self.assertFalse(os.path.exists(self.path("out")))

    def test_bad_command_lines_are_usage_errors(self):
        good, out = self.results(comparison()), ["--output-dir", self.path("out")]
        for says, arguments in [
            ("--output-dir", [good]),
            ("--output-dir", [good, "--output-dir"]),
            ("--output-dir", [good, "--output-dir", ""]),
            ("RESULTS.json", out),
            (["RESULTS.json", "--use-example-data"], [good, "--use-example-data", *out]),
            ("--frobnicate", [good, "--frobnicate", *out]),
            ("--by-position", [good, self.results(comparison(), "other.json"), *out]),
            ("is there twice", [good, good, *out]),
        ]:
            self.check_failure(analyze_here(*arguments), "analyze_results.py", USAGE, says)
        self.check_failure(analyze(good), "analyze_results.py", USAGE, "--output-dir")
        self.assertFalse(os.path.exists(self.path("out")))

    def test_where_nothing_can_be_written_nothing_is_left(self):
        good = self.results(comparison(["bsbr"], [256]))
        self.check_failure(analyze(good, "--output-dir", good), "analyze_results.py", OUTPUT, good)
        self.check_failure(analyze(good, "--output-dir", good + "/below"), "analyze_results.py", OUTPUT, good + "/below")
        os.makedirs(self.path("out/time.svg"))
        self.check_failure(analyze(good, "--output-dir", self.path("out")), "analyze_results.py", OUTPUT, ["out", "time.svg"])
        self.assertEqual(os.listdir(self.path("out")), ["time.svg"])

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_leaves_no_files_and_no_folders(self):
        def save(figure, path):
            with open("/dev/full", "w") as file:
                file.write("x")

        with unittest.mock.patch("comparison_plots.save", save):
            done = analyze_here(self.results(comparison(["bsbr"], [256])), "--output-dir", self.path("new/out"))
        self.check_failure(done, "analyze_results.py", OUTPUT, [self.path("new/out"), "No space left on device"])
        self.assertFalse(os.path.exists(self.path("new")))

    def test_without_matplotlib_or_numpy_it_says_so(self):
        for name in ("matplotlib", "numpy"):
            with self.subTest(name):
                self.results(f"raise ImportError('No module named {name}')\n", f"{name}.py")
                done = analyze(self.results(comparison()), "--output-dir", self.path("out"), PYTHONPATH=self.folder)
                self.check_failure(done, "analyze_results.py", 1, f"{sys.executable} cannot load ")
                self.assertIn(f"No module named {name}\nhint: ", done.err)
                self.assertFalse(os.path.exists(self.path("out")))

    def test_help_and_complaints_do_without_numpy_and_matplotlib(self):
        for name in ("numpy", "matplotlib"):
            self.results(f"raise ImportError('No module named {name}')\n", f"{name}.py")
        self.assertEqual(analyze("--help", PYTHONPATH=self.folder, PYTHONIOENCODING="ascii").code, 0)
        done = analyze(self.results("{}"), "--output-dir", self.path("out"), PYTHONPATH=self.folder)
        self.check_failure(done, "analyze_results.py", 3, "format")

    def test_files_of_before_are_replaced_and_others_stay(self):
        os.makedirs(self.path("out"))
        for name in ("report.md", "mine.txt"):
            self.results("old", "out/" + name)
        done = analyze(self.results(comparison(["bsbr"], [256, 512])), "--output-dir", self.path("out"))
        self.assertEqual((done.code, sorted(os.listdir(self.path("out")))), (0, sorted([*FILES, "mine.txt"])))
        self.assertTrue(self.report().startswith("# Comparison"))

    @unittest.skipUnless(os.path.exists(EXAMPLE), "tools/example_data/comparison.json is not there")
    def test_the_example_is_drawn(self):
        done = analyze("--use-example-data", "--output-dir", self.path("out"))
        self.assertEqual((done.code, done.err), (0, ""))
        self.check_files(self.path("out"))
        for name in ARCHITECTURES:
            self.row(self.report(), "Fits", name)


class Numbers(unittest.TestCase):
    def test_a_power_law_is_found(self):
        slope, r_squared = comparison_data.fit_power_law([2, 8, 64], [3 * x**1.5 for x in (2, 8, 64)])
        self.assertAlmostEqual(slope, 1.5)
        self.assertAlmostEqual(r_squared, 1)

    def test_numbers_have_three_digits_and_a_unit(self):
        for shown, expected in [(comparison_data.show_seconds(0.99999), "1.00 s"), (comparison_data.show_seconds(0.0123), "12.3 ms"),
                                (comparison_data.show_seconds(1234.5), "1,234 s"), (comparison_data.show_bytes(512), "512 B"),
                                (comparison_data.show_bytes(3 << 29), "1.50 GiB"), (comparison_data.show_count(7), "7"),
                                (comparison_data.show_count(12742656), "12.7 M"), (comparison_data.show_number(99.97), "100")]:
            self.assertEqual(shown, expected)

    def test_labels_keep_their_order_and_distance(self):
        import comparison_plots

        for wanted in ([0.5] * 7, [0, 0.01, 0.02, 0.9, 0.95, 1, 1], [-5, 5], [0.3]):
            places = comparison_plots.spread(wanted, 0.1, 0, 1)
            self.assertTrue(all(b - a > 0.1 - 1e-9 for a, b in zip(places, places[1:])), places)
            self.assertTrue(-1e-9 <= places[0] and places[-1] <= 1 + 1e-9, places)
        for place, wanted in zip(comparison_plots.spread([0.1, 0.5, 0.9], 0.1, 0, 1), [0.1, 0.5, 0.9]):
            self.assertAlmostEqual(place, wanted)


def positions(factor=1.0, **changes):
    """What bsbr_evaluate --by-position writes: the loss falls with the position."""
    borders = [*range(8), 8, 10, 12, 14, 16, 20, 24]
    ranges = [dict(begin=begin, end=end, loss=1.0, bits_per_token=factor * (1 + 6 / end), perplexity=2.0, counted=3 * (end - begin))
              for begin, end in zip(borders, borders[1:])]
    return {**dict(format="bsbr-loss-by-position", format_version=1, ranges=ranges), **changes}


def one_range(**changes):
    return positions(ranges=[{**dict(begin=0, end=1, bits_per_token=1.0, counted=1), **changes}])


BAD_POSITIONS = {
    "version": (positions(format_version=2), "format_version = 2, must be 1"),
    "no_ranges": (dict(format="bsbr-loss-by-position", format_version=1), "ranges is missing, must be a list"),
    "empty": (positions(ranges=[]), "ranges has no token that counted"),
    "begin": (one_range(begin=-1), "ranges[0]: begin = -1, must be an integer from 0 on"),
    "end": (one_range(end=0), "ranges[0]: end = 0, must be an integer from 1 on"),
    "text": (one_range(begin="x"), 'ranges[0]: begin = "x", must be an integer from 0 on'),
    "overlap": (positions(ranges=2 * one_range()["ranges"]), "ranges[1]: begin = 0, must be an integer from 1 on"),
    "counted": (one_range(counted=1.5), "ranges[0]: counted = 1.5, must be an integer from 0 on"),
    "none_counted": (one_range(counted=0), "ranges has no token that counted"),
    "bits": (one_range(bits_per_token=None), "ranges[0]: bits_per_token = null, must be a number from 0 on"),
}


class Positions(Case):
    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            json.dump(data, file)
        return self.path(name)

    def test_evaluations_are_drawn_together_and_named_by_what_tells_their_paths_apart(self):
        import position_plots
        from run_names import names_of

        files = [self.write(f"{name}/positions.json", positions(factor)) for name, factor in (("near", 1), ("far", 2))]
        done = analyze_here(*files, "--output-dir", self.path("out"))
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(sorted(os.listdir(self.path("out"))), ["loss_by_position.png", "loss_by_position.svg"])
        self.assertEqual(names_of(files), ["near", "far"])
        runs = [analyze_results.read_losses(positions(factor), name) for name, factor in (("near", 1), ("far", 2))]
        ((_, figure),) = position_plots.pictures(runs)
        near, far = figure.axes[0].get_lines()
        self.assertEqual(list(near.get_xdata())[:3], [1, 2, 3])
        self.assertEqual(list(near.get_xdata())[8:10], [9.5, 11.5])
        self.assertEqual(list(far.get_ydata()), [2 * bits for bits in near.get_ydata()])

    def test_ranges_of_which_no_token_counted_are_left_out(self):
        data = positions()
        data["ranges"][3].update(counted=0, bits_per_token=None)
        losses = analyze_results.read_losses(data, "run")
        self.assertEqual(len(losses.bits), len(data["ranges"]) - 1)
        self.assertNotIn((3, 4), losses.ranges)

    def test_bad_files_are_named_with_what_is_wrong_and_nothing_is_written(self):
        good = self.write("good.json", positions())
        for name, (data, says) in BAD_POSITIONS.items():
            with self.subTest(name):
                file = self.write(f"{name}.json", data)
                self.check_failure(analyze_here(good, file, "--output-dir", self.path("out")), "analyze_results.py", FILE,
                                   [file + ": ", says])
        self.assertFalse(os.path.exists(self.path("out")))

    def test_names_of_runs(self):
        from run_names import names_of

        for paths, names in ((["a/x.json", "b/y.json"], ["x.json", "y.json"]), (["s/a/log", "s/b/log"], ["a", "b"]),
                             (["s/a/1/log", "s/a/2/log", "s/b/1/log"], ["a/1", "a/2", "b/1"]), (["log", "s/log"], ["log", "s/log"]),
                             (["one"], ["one"])):
            self.assertEqual(names_of(paths), names)


if __name__ == "__main__":
    if importlib.util.find_spec("matplotlib") is None:
        print(f"skipped: {sys.executable} has no matplotlib (Debian: python3-matplotlib)")
        sys.exit(SKIPPED)
    unittest.main(verbosity=2)
