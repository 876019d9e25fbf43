"""perf/check with a program in the place of the benchmarks that says what it is told to."""
import json
import os
import subprocess
import sys
import unittest

from programs import Case

CHECK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "perf", "check")
BENCHMARKS = """#!{python}
import json, re, sys
options = dict(argument.split("=", 1) for argument in sys.argv[1:])
pattern = options["--benchmark_filter"]
print("validated      a line that is not JSON")
runs = [dict(name=name + "_median", run_name=name + "/manual_time", aggregate_name=kind, useful=ratio if kind == "median" else 99)
        for name, ratio in {ratios}.items() for kind in ("mean", "median") if re.search(pattern, name + "/manual_time")]
runs.append(dict(name="gradient_median", run_name="gradient/manual_time", aggregate_name="median", forwards=2.5))
with open(options["--benchmark_out"], "w") as file:
    json.dump(dict(context={{}}, benchmarks=runs), file)
"""


class Check(Case):
    def benchmarks(self, **ratios):
        path = self.path("benchmarks")
        with open(path, "w") as file:
            file.write(BENCHMARKS.format(python=sys.executable, ratios=ratios))
        os.chmod(path, 0o755)
        return path

    def check(self, *arguments, **ratios):
        command = [sys.executable, "-B", CHECK, "--program", self.benchmarks(**ratios), "--baseline", self.path("baseline.json"), *arguments]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def baseline(self, **ratios):
        with open(self.path("baseline.json"), "w") as file:
            json.dump(ratios, file)

    def test_what_is_as_fast_passes_and_new_benchmarks_do_not_count(self):
        self.baseline(product=0.9, mixing=0.8)
        done = self.check(product=0.73, mixing=0.9, scan=0.1)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"product +0\.730 +0\.900\n")
        self.assertRegex(done.stdout, r"scan +0\.100 +-\n")
        self.assertNotIn("gradient", done.stdout)  # it counts no FLOPs

    def test_what_is_slower_fails_by_name(self):
        self.baseline(product=0.9, mixing=0.8)
        done = self.check(product=0.71, mixing=0.8)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertRegex(done.stdout, r"product +0\.710 +0\.900   slower\n")
        self.assertRegex(done.stdout, r"mixing +0\.800 +0\.800\n")

    def test_tolerance_and_filter_are_followed(self):
        self.baseline(product=0.9, mixing=0.8)
        self.assertEqual(self.check("--tolerance", "0.5", product=0.5, mixing=0.5).returncode, 0)
        done = self.check("--filter", "mix", product=0.1, mixing=0.8)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("product", done.stdout)

    def test_update_writes_a_baseline(self):
        self.assertEqual(self.check("--update", product=0.91234).returncode, 0)
        with open(self.path("baseline.json")) as file:
            self.assertEqual(json.load(file), {"product": 0.912})

    def test_a_missing_baseline_or_program_is_one_line(self):
        done = self.check(product=0.9)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, r"^check: error: .*baseline\.json.*\n$")
        self.baseline(product=0.9)
        done = self.check("--program", "/absent/bench_kernels", product=0.9)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, r"^check: error: /absent/bench_kernels: .*\n$")


if __name__ == "__main__":
    unittest.main()
