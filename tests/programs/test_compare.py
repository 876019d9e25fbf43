"""What bsbr_compare measures, prints and refuses."""
import csv
import io
import json
import math
import os
import resource
import unittest

from programs import OWN_FIELDS, Case, config, in_parallel, init_options, run

ARCHITECTURES = list(OWN_FIELDS)
LENGTHS = [32, 64]
ENORMOUS = 1 << 40

KEYS = {
    "format", "format_version", "notes", "hosts", "mpi_version", "hdf5_version", "version", "git_commit", "kokkos_version",
    "execution_space", "gemm", "ranks", "threads_per_rank", "precision", "batch", "repeat", "seed", "created", "resident_peak_of_case",
    "max_seconds_per_case", "config", "results", "failures", "fits",
}
RESULT_KEYS = {
    "architecture", "seq_length", "seconds", "seconds_by_repeat", "tokens_per_second", "memory_bytes", "resident_bytes", "parameters",
    "flops", "flops_per_second", "config",
}
FIT_KEYS = {"architecture", "time_exponent", "memory_exponent", "r_squared", "memory_r_squared", "points", "time_exponent_uncertainty",
            "time_uncertain"}

# (what the error line must hold, arguments)
REFUSED = [
    (["--architectures", "perceptron", "sliding_window"], ["--architectures", "bsbr,perceptron"]),
    (["--architectures", "bsbr", "twice"], ["--architectures", "bsbr,standard,bsbr"]),
    (["--architectures", "empty"], ["--architectures", ""]),
    (["--architectures", "''"], ["--architectures", ","]),
    (["--architectures", "all"], ["--architectures", "all,bsbr"]),
    (["--architectures", "value is missing"], ["--architectures"]),
    (["--architecture"], ["--architecture", "bsbr"]),
    (["--seq-lengths", "empty"], ["--seq-lengths", ""]),
    (["--seq-lengths", "''"], ["--seq-lengths", "32,"]),
    (["--seq-lengths", "64", "twice"], ["--seq-lengths", "64,32,64"]),
    (["--seq-lengths", "0", "below 1"], ["--seq-lengths", "32,0"]),
    (["--seq-lengths", "-8", "below 1"], ["--seq-lengths", "-8"]),
    (["--seq-lengths", "long", "whole number"], ["--seq-lengths", "32,long"]),
    (["--seq-lengths", "32.5", "whole number"], ["--seq-lengths", "32.5"]),
    (["--seq-lengths", "9" * 30, "above"], ["--seq-lengths", "9" * 30]),
    (["--temperature", "0", "below"], ["--temperature", 0]),
    (["--temperature", "nan", "not a number"], ["--temperature", "nan"]),
    (["--window-size", "-1", "below 0"], ["--window-size", "-1"]),
    (["--beta", "2.5", "above 2"], ["--beta", 2.5]),
    (["--expansion-factor", "0", "below 1"], ["--expansion-factor", 0]),
    (["--feature-map", "relu", "none, elu"], ["--feature-map", "relu"]),
    (["--causality", "sideways", "block_causal"], ["--causality", "sideways"]),
    (["--beta", "delta_net", "bsbr, linear"], ["--architectures", "bsbr,linear", "--beta", 0.5]),
    (["--compression-factor", "only for bsbr", "standard"], ["--architectures", "standard", "--compression-factor", 2]),
    (["num_heads = 7", "hidden_dim = 512"], ["--num-heads", 7]),
    (["compression_factor = 600"], ["--compression-factor", 600]),
    (["expansion_factor = 1048576"], ["--hidden-dim", 1 << 20, "--expansion-factor", 1 << 20]),
    (["--precision", "half"], ["--precision", "half"]),
    (["--repeat", "0"], ["--repeat", 0]),
    (["--batch", "0"], ["--batch", 0]),
    (["--batch", "too many"], ["--batch", 1 << 40, "--seq-lengths", 1 << 40]),
    (["--seed", "-1"], ["--seed", "-1"]),
    (["--format", "json", "table, csv, tsv"], ["--format", "json"]),
    (["--max-seconds-per-case", "0", "below"], ["--max-seconds-per-case", 0]),
    (["--max-seconds-per-case", "long"], ["--max-seconds-per-case", "long"]),
    (["--progress", "maybe"], ["--progress", "maybe"]),
    (["--json", "empty"], ["--json", ""]),
    (["stray"], ["stray"]),
]


def small(architectures=ARCHITECTURES, lengths=LENGTHS):
    """Options of a comparison that takes no time."""
    shared = {name: value for name, value in config().items() if name not in ("architecture", *OWN_FIELDS["bsbr"])}
    return ["--architectures", ",".join(architectures), "--seq-lengths", ",".join(map(str, lengths)), *init_options(shared)]


class Comparison(Case):
    """What a comparison has to look like."""

    def compare(self, *arguments, **how):
        """bsbr_compare, which must succeed and say nothing on stderr."""
        done = run("bsbr_compare", *arguments, **how)
        self.assertEqual((done.code, done.err), (0, ""))
        return done

    def measure(self, *arguments, **how):
        """The JSON of a comparison, and only that on stdout."""
        return json.loads(self.compare(*arguments, "--json", "-", **how).out)

    def check_results(self, found, architectures, lengths):
        """Whole measurements of all cases, in order, and a fit for each architecture."""
        self.assertEqual([(r["architecture"], r["seq_length"]) for r in found["results"]], [(a, n) for a in architectures for n in lengths])
        for result in found["results"]:
            self.assertLessEqual(RESULT_KEYS, set(result))
            for name in RESULT_KEYS - {"architecture", "seconds_by_repeat", "config"}:
                self.assertTrue(math.isfinite(result[name]) and result[name] > 0, name)
            self.assertEqual(len(result["seconds_by_repeat"]), found["repeat"])
            tokens = found["batch"] * result["seq_length"]
            self.assertTrue(math.isclose(result["tokens_per_second"] * result["seconds"], tokens))
            self.assertTrue(math.isclose(result["flops_per_second"] * result["seconds"], result["flops"]))
            spread = max(result["seconds_by_repeat"]) - min(result["seconds_by_repeat"])
            self.assertTrue(math.isclose(result["seconds_spread"] * result["seconds"], spread, abs_tol=1e-12))
            self.assertGreaterEqual(result.get("cores_used_by_others", 0), 0)
        self.assertEqual([fit["architecture"] for fit in found["fits"]], architectures)
        for fit in found["fits"]:
            self.assertEqual(set(fit), FIT_KEYS)
            self.assertEqual(fit["points"], len(lengths))


class Compare(Comparison):
    def test_every_architecture_is_measured_at_every_length(self):
        lengths = [*LENGTHS, 96]
        found = self.measure(*small(lengths=lengths))
        self.assertLessEqual(KEYS, set(found))
        self.assertEqual((found["format"], found["format_version"], found["failures"]), ("bsbr-comparison", 1, []))
        self.assertEqual((found["ranks"], found["threads_per_rank"], found["precision"]), (1, 2, "float"))
        self.assertEqual((found["batch"], found["repeat"], found["seed"]), (1, 3, 0))
        self.assertRegex(found["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.check_results(found, ARCHITECTURES, lengths)
        for fit in found["fits"]:
            for name in FIT_KEYS - {"architecture", "points"}:
                self.assertTrue(math.isfinite(fit[name]), name)
            self.assertGreater(fit["memory_exponent"], 0)
            self.assertGreaterEqual(fit["memory_r_squared"], 0)

    def test_the_configuration_is_told_shared_and_own(self):
        changes = {"window_size": 7, "temperature": 0.5, "beta": 0.25, "expansion_factor": 2, "feature_map": "elu", "compression_factor": 2}
        found = self.measure(*small(lengths=[32]), *init_options(changes))
        shared = {name: value for name, value in config().items() if name not in ("architecture", *OWN_FIELDS["bsbr"])}
        self.assertEqual(found["config"], {**shared, "head": "none"})
        for result in found["results"]:
            own = OWN_FIELDS[result["architecture"]]
            self.assertEqual(result["config"], {name: changes.get(name, value) for name, value in own.items()})

    def test_the_memory_is_that_of_one_forward(self):
        def memory(results):
            return {(result["architecture"], result["seq_length"]): result["memory_bytes"] for result in results}

        once, again = self.measure(*small())["results"], self.measure(*small(ARCHITECTURES[::-1]), "--repeat", 1)["results"]
        self.assertEqual(memory(once), memory(again))  # whatever came before
        for result in once:  # at least hidden states, queries, keys, values and the heads' results
            self.assertGreaterEqual(result["memory_bytes"], result["seq_length"] * 5 * 32 * 4)
            self.assertGreater(result["resident_bytes"], result["memory_bytes"])

    def test_one_length_has_no_exponent(self):
        found = self.measure(*small(["bsbr"], [32]))
        self.check_results(found, ["bsbr"], [32])
        self.assertEqual([found["fits"][0][name] for name in ("time_exponent", "memory_exponent", "r_squared", "memory_r_squared")], [None] * 4)

    def test_lengths_are_ascending_and_architectures_as_asked_for(self):
        chosen = ARCHITECTURES[:2][::-1]
        self.check_results(self.measure(*small(chosen, [64, 8, 32])), chosen, [8, 32, 64])

    def test_the_table_has_a_line_for_every_case_and_fits_100_columns(self):
        out = self.compare(*small()).out
        lines = out.splitlines()
        self.assertLessEqual(max(map(len, lines)), 100)
        for architecture in ARCHITECTURES:
            rows = [line.split() for line in lines if line.split()[:1] == [architecture]]
            self.assertEqual([row[1] for row in rows], ["32", "64", "2"])  # two cases, and the fit over two points
            self.assertRegex(" ".join(rows[2]), r"L\^-?\d+\.\d\d")
        self.assertNotIn("not measured", out)

    def test_a_column_has_one_unit_and_plain_numbers(self):
        out = self.compare(*small(lengths=[32, 4096])).out
        head = next(line for line in out.splitlines() if line.split()[:1] == ["architecture"])
        self.assertEqual(head.split(), ["architecture", "length", "parameters", "time", "spread", "tokens/s", "GFLOP/s", "memory", "resident"])
        for line in out.splitlines():
            if line.split()[:1] and line.split()[0] in ARCHITECTURES and len(line.split()) > 8:
                self.assertEqual(len(line.split()), 9)
                for cell in line.split()[1:]:
                    self.assertGreaterEqual(float(cell.replace(",", "")), 0)

    def test_separated_values_have_the_numbers_of_the_json(self):
        for kind, separator in (("csv", ","), ("tsv", "\t")):
            out = self.compare(*small(["bsbr", "linear"], [32, 64, ENORMOUS]), "--format", kind, "--json", self.path("c.json")).out
            rows = list(csv.DictReader(io.StringIO(out), delimiter=separator))
            with open(self.path("c.json"), encoding="utf-8") as file:
                found = json.load(file)
            self.assertEqual(len(rows), 6)
            for row, result in zip(rows, found["results"]):
                self.assertEqual((row["architecture"], row["not_measured"]), (result["architecture"], ""))
                for name in ("seq_length", "parameters", "seconds", "tokens_per_second", "flops_per_second", "memory_bytes", "resident_bytes"):
                    self.assertTrue(math.isclose(float(row[name]), result[name], rel_tol=1e-8), name)
                self.assertTrue(math.isclose(float(row["seconds_min"]), min(result["seconds_by_repeat"]), rel_tol=1e-8))
                self.assertTrue(math.isclose(float(row["seconds_max"]), max(result["seconds_by_repeat"]), rel_tol=1e-8))
            for row, failure in zip(rows[4:], found["failures"]):
                self.assertEqual((row["architecture"], int(row["seq_length"]), row["not_measured"]),
                                 (failure["architecture"], failure["seq_length"], failure["reason"]))
                self.assertEqual((row["seconds"], row["memory_bytes"]), ("", ""))

    def test_a_case_that_is_predicted_to_be_too_long_is_left_out_and_reported(self):
        lengths = [2048, 1 << 20]  # for `standard` more than a hundred thousand times the work
        for ranks in (1, 2):
            found = self.measure(*small(["standard", "sliding_window"], lengths), "--max-seconds-per-case", 20, ranks=ranks)
            self.assertIn(("standard", 2048), [(r["architecture"], r["seq_length"]) for r in found["results"]])
            failure = found["failures"][0]
            self.assertEqual((failure["architecture"], failure["seq_length"], failure["kind"]), ("standard", 1 << 20, "time"))
            self.assertRegex(failure["reason"], r"^4 forwards would take .*, by the speed at [0-9,]+ tokens; the limit is 20 s \(--max-seconds")
            self.assertEqual(found["max_seconds_per_case"], 20)

    def test_a_short_case_does_not_tell_that_a_long_one_is_too_long(self):
        lengths = [16, 1 << 14]  # by the speed at 16 tokens the long one takes minutes; it takes half a second
        found = self.measure(*small(["bsbr", "standard"], lengths), "--max-seconds-per-case", 30)
        self.assertEqual(found["failures"], [])

    def test_a_case_that_is_seen_to_be_too_long_is_left_out_after_its_first_forward(self):
        for ranks in (1, 2):
            done = run("bsbr_compare", *small(["linear"], [4096]), "--max-seconds-per-case", 0.001, "--json", "-", ranks=ranks)
            self.assertEqual(done.code, 2, done.err)
            self.assertIn("error: linear at 4096: 4 forwards would take", done.err)
            self.assertRegex(json.loads(done.out)["failures"][0]["reason"], "judging by the first one; the limit is 1.00 ms")

    def test_the_default_lengths_are_from_1k_to_64k(self):
        self.assertIn("(default 1k,2k,4k,8k,16k,32k,64k)", " ".join(run("bsbr_compare", "--help").out.split()))
        options = ["--architectures", "linear", "--hidden-dim", 16, "--num-heads", 1, "--num-layers", 1, "--ff-dim", 16, "--repeat", 1]
        found = self.measure(*options)
        self.assertEqual([result["seq_length"] for result in found["results"]], [1024 << i for i in range(7)])

    def test_exponents_of_noise_are_marked_uncertain(self):
        found = self.measure(*small(lengths=[32, 33, 34]), "--repeat", 9)  # a sixteenth more work, less than the repeats differ
        uncertain = [fit["architecture"] for fit in found["fits"] if fit["time_uncertain"]]
        self.assertGreater(len(uncertain), len(ARCHITECTURES) // 2, found["fits"])
        out = self.compare(*small(lengths=[32, 33, 34]), "--repeat", 9).out
        self.assertRegex(out, r"(?m)^  \w+ +3 .*  uncertain$")
        self.assertIn("  uncertain: ", out)

    def test_of_two_lengths_the_uncertainty_is_unknown(self):
        for repeat in (1, 3):
            out = self.compare(*small(["standard"], [32, 1024]), "--repeat", repeat, "--json", self.path("c.json")).out
            self.assertRegex(out, r"(?m)^  standard +2 +L\^-?[\d.]+ +- .*  uncertain$")
            with open(self.path("c.json")) as file:
                fit = json.load(file)["fits"][0]
            self.assertEqual((fit["time_exponent_uncertainty"], fit["time_uncertain"]), (None, True))

    def test_json_goes_to_a_file_beside_the_table(self):
        self.assertIn("tokens/s", self.compare(*small(["bsbr"]), "--json", self.path("c.json")).out)
        with open(self.path("c.json")) as file:
            self.check_results(json.load(file), ["bsbr"], LENGTHS)

    def test_quiet_prints_nothing(self):
        self.assertEqual(self.compare(*small(["bsbr"], [32]), "--quiet").out, "")

    def test_batch_precision_seed_and_repeat_are_followed(self):
        single = self.measure(*small(["bsbr"], [1024]))["results"][0]
        found = self.measure(*small(["bsbr"], [1024]), "--batch", 3, "--precision", "double", "--seed", 5, "--repeat", 2)
        self.check_results(found, ["bsbr"], [1024])
        self.assertEqual((found["batch"], found["precision"], found["seed"], found["repeat"]), (3, "double", 5, 2))
        self.assertEqual(found["results"][0]["flops"], 3 * single["flops"])
        self.assertGreater(found["results"][0]["memory_bytes"], 2 * single["memory_bytes"])  # some of it is for any length

    def test_gau_has_one_head_whatever_is_asked_for(self):
        for heads in (4, 7):  # 7 does not divide hidden_dim, which is of no concern to gau
            found = self.measure("--architectures", "gau", "--seq-lengths", 32, "--hidden-dim", 32, "--num-layers", 1, "--num-heads", heads)
            self.assertEqual(found["results"][0]["config"]["num_heads"], 1)

    def test_ranks_measure_together(self):
        found = self.measure(*small(), ranks=2)
        self.assertEqual((found["ranks"], found["threads_per_rank"], found["failures"]), (2, 1, []))
        self.check_results(found, ARCHITECTURES, LENGTHS)

    def test_progress_is_shown_when_asked_for(self):
        done = run("bsbr_compare", *small(["bsbr"]), "--progress", "on", ranks=2)
        self.assertEqual(done.err.count("bsbr at 64: forward 2 of 3"), 1)

    def test_a_length_that_does_not_fit_is_reported_and_the_others_are_measured(self):
        for ranks in (1, 2):
            found = self.measure(*small(lengths=[32, ENORMOUS]), ranks=ranks)
            self.assertEqual([(r["architecture"], r["seq_length"]) for r in found["results"]], [(a, 32) for a in ARCHITECTURES])
            self.assertEqual([(f["architecture"], f["seq_length"]) for f in found["failures"]], [(a, ENORMOUS) for a in ARCHITECTURES])
            for failure in found["failures"]:
                self.assertRegex(failure["reason"], "^not enough memory: .* needed")
        out = self.compare(*small(["bsbr"], [32, ENORMOUS])).out
        self.assertRegex(out, r"bsbr at %d: not enough memory: .* needed" % ENORMOUS)

    def test_if_nothing_can_be_measured_the_first_failure_is_the_error(self):
        for ranks in (1, 2):
            done = run("bsbr_compare", *small(lengths=[ENORMOUS]), "--json", "-", ranks=ranks)
            self.assertEqual(done.code, 4, done.err)
            self.assertEqual(done.err.count("bsbr_compare: error: bsbr at %d: not enough memory" % ENORMOUS), 1)
            found = json.loads(done.out)
            self.assertEqual((found["results"], len(found["failures"])), ([], len(ARCHITECTURES)))
            self.assertEqual({fit["points"] for fit in found["fits"]}, {0})

    def test_help_and_version_are_printed_once(self):
        for ranks in (1, 2):
            shown, version = (self.compare(option, ranks=ranks).out for option in ("--help", "--version"))
            self.assertEqual(shown.count("Usage: bsbr_compare "), 1)
            self.assertRegex(version, r"^bsbr_compare \d+\.\d+\.\d+(\+g[0-9a-f]+)? \(.*\)\n$")


@unittest.skipIf(os.environ.get("BSBR_SANITIZED") == "1", "sanitizers take memory of their own")
class ResidentMemory(Comparison):
    def test_the_peak_is_that_of_the_case(self):
        found = self.measure(*small(lengths=[32, 1 << 13]), "--repeat", 1)
        if found["resident_peak_of_case"]:
            for before, after in zip(found["results"][1::2], found["results"][2::2]):  # a long case, and the short one after it
                self.assertLess(after["resident_bytes"], before["resident_bytes"])

    def test_too_little_address_space_is_a_failure_of_the_long_case_only(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

        found = self.measure(*small(["bsbr"], [32, 4 << 20]), before=limit)
        self.assertEqual([result["seq_length"] for result in found["results"]], [32])
        self.assertRegex(found["failures"][0]["reason"], "not enough memory: .* needed, .* available on rank 0")


class BadUsage(Case):
    def check_all(self, cases, ranks):
        def check(number):
            code, says, arguments = cases[number]
            self.check_failure(run("bsbr_compare", *arguments, ranks=ranks), "bsbr_compare", code, says, ranks)

        failed = in_parallel(check, range(len(cases)))
        self.assertFalse(failed, "\n\n".join("%s: %s" % (cases[number][2], error) for number, error in failed.items()))
        self.assertEqual(os.listdir(self.folder), [])

    def test_what_cannot_be_done_is_refused_before_anything_runs(self):
        self.check_all([(2, says, arguments) for says, arguments in REFUSED], 1)

    def test_two_ranks_refuse_with_one_voice(self):
        self.check_all([(2, says, arguments) for says, arguments in REFUSED[::6]], 2)

    def test_json_that_cannot_be_written_is_seen_beforehand(self):
        nowhere = self.path("nowhere/c.json")
        for ranks in (1, 2):
            self.check_all([(6, nowhere, ["--json", nowhere]), (6, self.folder, ["--json", self.folder])], ranks)


if __name__ == "__main__":
    unittest.main()
