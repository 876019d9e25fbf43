"""What bsbr_evaluate says of a model: golden losses, the same bits on any ranks, files, summaries, and what it refuses."""
import glob
import json
import math
import os
import unittest

import h5py
import numpy as np

from json_schema import complaints, described
from programs import OWN_FIELDS, Case, ids_file, in_parallel, run

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden_gradients")
with open(os.path.join(HERE, "..", "..", "apps", "report", "summary.schema.json"), encoding="utf-8") as schema:
    SCHEMA = json.load(schema)


def golden_cases():
    """(file, causality or None) for all that is expected."""
    for path in sorted(glob.glob(os.path.join(GOLDEN, "*.h5"))):
        with h5py.File(path) as file:
            for causality in file["expected"] if "loss" not in file["expected"] else [None]:
                yield path, causality


def losses_of(path):
    """loss, token_loss of a file of --token-losses."""
    with h5py.File(path) as file:
        assert file.attrs["complete"] == 1
        return float(file["loss"][()]), file["token_loss"][()]


class Evaluate(Case):
    def evaluate(self, *arguments, name="losses.h5", **how):
        """-> the summary, loss and token_loss of the file."""
        path = self.path(name)
        done = run("bsbr_evaluate", "--json", "-", "--token-losses", path, *arguments, **how)
        self.assertEqual((done.code, done.err), (0, ""))
        return json.loads(done.out), *losses_of(path)

    def refuse(self, code, says, *arguments, ranks=1):
        done = run("bsbr_evaluate", *arguments, ranks=ranks)
        self.check_failure(done, "bsbr_evaluate", code, says, ranks)
        return done.err

    def with_head(self, name="model.h5", head="separate", **changes):
        return self.model(name, head=head, **changes)

    # ---- numbers ----

    def check_golden(self, path, causality, precision, tolerance):
        name = f"{os.path.basename(path)}-{causality}-{precision}"
        options = ["--causality", causality] if causality else []
        summary, loss, token_loss = self.evaluate("--model", path, "--input", path, "--precision", precision, *options, name=name)
        with h5py.File(path) as file:
            expected = file["expected"][causality] if causality else file["expected"]
            wanted, wanted_tokens, targets = float(expected["loss"][()]), expected["token_loss"][()], file["inputs/targets"][()]
        self.assertEqual((loss, summary["counted"]), (summary["loss"], np.count_nonzero(targets >= 0)))
        self.assertLessEqual(abs(loss - wanted), tolerance * max(1, wanted), name)
        self.assertEqual(token_loss.shape, targets.shape)
        self.assertFalse(token_loss[targets < 0].any())
        self.assertLessEqual(np.abs(token_loss[:, :-1] - wanted_tokens).max(), tolerance * max(1, np.abs(wanted_tokens).max()), name)
        self.assertAlmostEqual(summary["bits_per_token"], loss / math.log(2), 12)
        self.assertAlmostEqual(summary["perplexity"] / math.exp(loss), 1, 12)

    def test_golden_losses(self):
        cases = [(*case, *how) for case in golden_cases() for how in (("double", 1e-11), ("float", 2e-5))]
        self.assertGreater(len(cases), 80)
        failed = in_parallel(lambda case: self.check_golden(*case), cases, workers=2)
        self.assertEqual(failed, {})

    def test_ranks_and_threads_change_no_bit(self):
        for name, chunk in (("bsbr_masks", 3), ("bsbr_ragged", 7), ("linear_masks", 5), ("gau_separate", 64), ("standard_ragged", 200)):
            path = os.path.join(GOLDEN, name + ".h5")
            for precision in ("float", "double"):
                options = ["--model", path, "--input", path, "--precision", precision, "--chunk-size", chunk]
                _, loss, token_loss = self.evaluate(*options, environment={"OMP_NUM_THREADS": "1"})
                for how in (dict(environment={"OMP_NUM_THREADS": "2"}), dict(ranks=2), dict(ranks=3)):
                    _, other, other_tokens = self.evaluate(*options, **how)
                    self.assertEqual((loss, token_loss.tobytes()), (other, other_tokens.tobytes()), (name, precision, how))

    # ---- gradients ----

    def gradients(self, *arguments, name="gradients.h5", **how):
        """-> loss, token_loss and the gradients by name."""
        path = self.path(name)
        done = run("bsbr_evaluate", "--quiet", "--gradients", path, *arguments, **how)
        self.assertEqual((done.code, done.out, done.err), (0, "", ""))
        found = {}
        with h5py.File(path) as file:
            self.assertEqual(file.attrs["format"], "bsbr-gradients")
            file["gradients"].visititems(lambda key, item: found.__setitem__(key, item[()]) if isinstance(item, h5py.Dataset) else None)
        return *losses_of(path), found

    def test_golden_gradients(self):
        for path, causality in golden_cases():
            if "masks" not in path and "compressed" not in path:
                continue  # tests/model/test_model_gradients.cpp has all
            with self.subTest(os.path.basename(path), causality=causality):
                options = ["--causality", causality] if causality else []
                _, _, found = self.gradients("--model", path, "--input", path, "--precision", "double", *options)
                with h5py.File(path) as file:
                    expected = file["expected"][causality] if causality else file["expected"]
                    wanted = {key: expected["gradients"][key][()] for key in found}
                largest = max(np.abs(gradient).max() for gradient in wanted.values())
                for key, gradient in wanted.items():
                    self.assertLessEqual(np.abs(found[key] - gradient).max(), 1e-10 * largest, key)

    def test_ranks_threads_and_recomputation_change_no_bit_of_gradients(self):
        for architecture in ("bsbr", "gau", "delta_net"):
            model = self.with_head(f"{architecture}.h5", "tied", architecture=architecture)
            ids = ids_file(self.path("ids.h5"), np.arange(154).reshape(2, 77) * 7 % 256)
            wanted = self.gradients("--model", model, "--input", ids, "--recompute", "all", environment={"OMP_NUM_THREADS": "1"})
            for how in ({"ranks": 2}, {"ranks": 3}, {"environment": {"OMP_NUM_THREADS": "2"}}):
                found = self.gradients("--model", model, "--input", ids, "--recompute", "none", name="others.h5", **how)
                self.assertEqual(found[0], wanted[0])
                np.testing.assert_array_equal(found[1], wanted[1])
                for key, gradient in wanted[2].items():
                    np.testing.assert_array_equal(found[2][key], gradient, f"{architecture} {key} {how}")

    def test_a_new_model_is_about_as_good_as_guessing(self):
        summary, loss, _ = self.evaluate("--model", self.with_head(), "--input", self.text())
        self.assertEqual((summary["head"], summary["counted"], summary["tokens"]), ("separate", 199, 200))
        self.assertLess(abs(loss - math.log(256)), 1)

    def test_only_the_first_tokens_are_evaluated(self):
        model, text = self.with_head(), self.text()
        _, _, whole = self.evaluate("--model", model, "--input", text)
        summary, _, part = self.evaluate("--model", model, "--input", text, "--max-tokens", 50)
        self.assertEqual((summary["counted"], part.shape), (49, (1, 50)))
        self.assertEqual(part[:, :49].tobytes(), whole[:, :49].tobytes())

    # ---- windows ----

    def stream(self, size=200, mask=None):
        """A file with one row of ids -> its path, the ids."""
        ids = np.arange(size) ** 2 * 7 % 251
        return ids_file(self.path("stream.h5"), ids, mask), ids

    def windows(self, ids, length, stride):
        """The ids of all windows, with what is behind them: [windows, length + 1]."""
        return np.array([ids[begin:begin + length + 1] for begin in range(0, len(ids) - length, stride)])

    def check_windows(self, architecture, length, stride, mask=None):
        """What a causal model says of windows is what it says of rows that have one id more."""
        model, (stream, ids) = self.with_head(f"{architecture}.h5", architecture=architecture), self.stream(mask=mask)
        rows = self.windows(ids, length, stride)
        marks = None if mask is None else self.windows(mask, length, stride)
        _, _, wanted = self.evaluate("--model", model, "--input", ids_file(self.path("rows.h5"), rows, marks))
        wanted = wanted[:, :length]
        counts = np.ones(wanted.shape, bool) if mask is None else (marks[:, :-1] == 1) & (marks[:, 1:] == 1)
        counts[1:, :length - stride] = False
        curve = self.path("curve.json")
        summary, loss, found = self.evaluate("--model", model, "--input", stream, "--length", length, "--stride", stride, "--by-position", curve)
        self.assertEqual(found.tobytes(), np.where(counts, wanted, 0.0).tobytes())
        self.assertEqual([summary[name] for name in ("windows", "stride", "length", "tokens", "counted")],
                         [len(rows), stride, length, len(rows) * length, counts.sum()])
        self.assertEqual(loss, summary["loss"])
        self.assertAlmostEqual(loss, wanted[counts].mean(), 12)
        with open(curve, encoding="utf-8") as file:
            for one in json.load(file)["ranges"]:
                part, counted = (array[:, one["begin"]:one["end"]] for array in (wanted, counts))
                self.assertEqual(one["counted"], counted.sum())
                self.assertAlmostEqual(one["loss"], part[counted].mean() if counted.any() else 0, 12)

    def test_windows_are_sequences_of_their_own_and_count_what_the_one_before_has_not(self):
        for architecture, length, stride in (("bsbr", 50, 50), ("bsbr", 64, 20), ("gau", 30, 7), ("standard", 199, 1), ("linear", 1, 1)):
            with self.subTest(architecture, length=length, stride=stride):
                self.check_windows(architecture, length, stride)

    def test_a_token_of_a_window_beside_padding_does_not_count(self):
        mask = np.ones(200, "u1")
        mask[[0, 19, 20, 40, 63, 64, 140]] = 0
        mask[170:] = 0
        for stride in (20, 8):
            self.check_windows("bsbr", 20, stride, mask)

    def test_a_window_of_the_whole_stream_says_what_the_stream_says(self):
        model, (stream, _) = self.with_head(), self.stream()
        _, _, whole = self.evaluate("--model", model, "--input", stream)
        summary, _, window = self.evaluate("--model", model, "--input", stream, "--length", 199)
        self.assertEqual((summary["windows"], window.tobytes()), (1, whole[:, :199].tobytes()))

    def test_windows_at_a_time_ranks_and_threads_change_no_bit_of_losses(self):
        model, (stream, _) = self.with_head(), self.stream()
        results = []
        for how in ({"batch": 1}, {"batch": 3}, {"batch": 100}, {"batch": 100, "ranks": 3}, {"batch": 2, "ranks": 3},
                    {"batch": 4, "environment": {"OMP_NUM_THREADS": "1"}}):
            batch = how.pop("batch")
            summary, loss, tokens = self.evaluate("--model", model, "--input", stream, "--length", 40, "--stride", 16, "--batch", batch,
                                                  "--by-position", self.path("curve.json"), **how)
            self.assertEqual((summary["batch"], summary["windows"]), (min(batch, 10), 10))
            with open(self.path("curve.json"), "rb") as file:
                results.append((loss, tokens.tobytes(), file.read()))
        for other in results[1:]:
            self.assertEqual(other, results[0])

    def test_only_the_first_tokens_of_a_stream_are_cut_into_windows(self):
        model, (stream, _) = self.with_head(), self.stream()
        summary, _, part = self.evaluate("--model", model, "--input", stream, "--length", 20, "--max-tokens", 60)
        _, _, whole = self.evaluate("--model", model, "--input", stream, "--length", 20)
        self.assertEqual((summary["windows"], whole.shape), (2, (9, 20)))
        self.assertEqual(part.tobytes(), whole[:2].tobytes())

    def test_bytes_are_cut_into_windows(self):
        summary, _, found = self.evaluate("--model", self.with_head(), "--input", self.text(), "--length", 25, ranks=2)
        self.assertEqual((summary["windows"], found.shape, np.count_nonzero(found)), (7, (7, 25), 175))

    def test_gradients_are_those_of_the_first_windows(self):
        model, (stream, ids) = self.with_head(), self.stream()
        for stride in (40, 16):
            rows = self.windows(ids, 40, stride)[:3]
            wanted = self.gradients("--model", model, "--input", ids_file(self.path("rows.h5"), rows), "--precision", "double")
            options = ["--model", model, "--input", stream, "--length", 40, "--stride", stride, "--batch", 3]
            found = self.gradients(*options, "--precision", "double", ranks=3)
            if stride == 40:  # else not all tokens count
                self.assertAlmostEqual(found[0], wanted[0], 12)
                largest = max(np.abs(gradient).max() for gradient in wanted[2].values())
                for name, gradient in wanted[2].items():
                    self.assertLessEqual(np.abs(found[2][name] - gradient).max(), 1e-12 * largest, name)
            self.assertEqual(found[1].shape, (3, 40))
            self.assertEqual(np.count_nonzero(found[1]), 40 + 2 * stride)
            self.assertAlmostEqual(found[0], found[1].sum() / (40 + 2 * stride), 12)
            summary = json.loads(run("bsbr_evaluate", *options, "--gradients", self.path("g.h5"), "--verify", "--json", "-").out)
            self.assertEqual((summary["windows"], summary["batch"]), (3, 3))
            self.assertLess(summary["verify_gradients"]["largest_relative_difference"], 1e-3)

    def test_the_file_of_losses_of_windows_has_their_stride(self):
        model, (stream, _) = self.with_head(), self.stream()
        self.evaluate("--model", model, "--input", stream, "--length", 20, "--stride", 10)
        with h5py.File(self.path("losses.h5")) as file:
            self.assertEqual((file.attrs["stride"], file["token_loss"].shape), (10, (18, 20)))

    def test_all_windows_are_compared_with_the_reference(self):
        model, (stream, ids) = self.with_head(), self.stream()
        with h5py.File(model, "r+") as file:
            file["weights/embedding.weight"][ids[110]] = 3e38  # double has room for what float has not
        spoiled = np.flatnonzero(ids == ids[110])
        windows = [one for one in range(9) if np.isin(self.windows(ids, 20, 20)[one, :20], ids[110]).any()]
        for ranks in (1, 3):
            done = run("bsbr_evaluate", "--model", model, "--input", stream, "--length", 20, "--batch", 2, "--verify", "--json", "-", ranks=ranks)
            self.assertEqual(done.code, 7)
            found = json.loads(done.out)
            self.assertEqual(found["first_nonfinite"], [windows[0], spoiled[0] % 20])
            self.assertEqual(found["verify"]["first_nonfinite_in_one"], found["first_nonfinite"])
            self.assertEqual(found["verify"]["nonfinite_in_one"], found["nonfinite_states"])

    # ---- gradients and the reference ----

    def verified(self, *arguments, **how):
        """The summary of a run with --gradients and --verify."""
        done = run("bsbr_evaluate", *arguments, "--gradients", self.path("verified.h5"), "--verify", "--json", "-", **how)
        self.assertEqual((done.code, done.err), (0, ""))
        return json.loads(done.out)

    def test_gradients_agree_with_the_reference(self):
        for architecture in OWN_FIELDS:
            model = self.with_head(f"{architecture}.h5", "tied", architecture=architecture)
            mask = np.ones((2, 50), "u1")
            mask[1, :20] = 0
            ids = ids_file(self.path("ids.h5"), np.arange(100).reshape(2, 50) * 7 % 256, mask)
            found = self.verified("--model", model, "--input", ids, "--precision", "double", ranks=3)["verify_gradients"]
            self.assertLess(found["largest_relative_difference"], 1e-10, architecture)
            self.assertLess(found["loss_difference"], 1e-12)
            self.assertEqual((found["nonfinite_in_both"], found["nonfinite_in_one"], found["first_nonfinite_in_one"]), (0, 0, None))

    def test_the_difference_to_the_reference_is_what_float_has_lost(self):
        model, text = self.with_head(), self.text()
        found = self.verified("--model", model, "--input", text, "--max-tokens", 60)["verify_gradients"]
        options = ["--model", model, "--input", text, "--max-tokens", 60]
        loss, _, single = self.gradients(*options)
        exact_loss, _, exact = self.gradients(*options, "--precision", "double")
        largest = {name: np.abs(gradient).max() for name, gradient in exact.items()}
        differences = {name: np.abs(single[name] - exact[name]).max() / max(largest[name], 1e-3 * max(largest.values())) for name in exact}
        worst = max(differences, key=differences.get)
        self.assertEqual(found["worst"], worst)
        self.assertAlmostEqual(found["largest_relative_difference"] / differences[worst], 1, 6)
        self.assertAlmostEqual(found["loss_difference"], abs(loss - exact_loss), 12)

    def test_gradients_that_are_not_finite_are_not_verified(self):
        model, text = self.with_head(), self.text()
        with h5py.File(model, "r+") as file:
            file["weights/embedding.weight"][ord("h")] = 3e38
        for ranks in (1, 3):
            done = run("bsbr_evaluate", "--model", model, "--input", text, "--gradients", self.path("g.h5"), "--verify", ranks=ranks)
            self.assertEqual(done.code, 7)
            self.assertIn("FAILED: elements that are NaN or infinite in one of them", done.out)
            self.assertRegex(done.err, r"bsbr_evaluate: error: --verify: \d+ gradients with elements that are NaN or infinite in the result or in "
                                       r"the reference, but not in both; first that of embedding\.weight")
            with h5py.File(self.path("g.h5")) as file:  # written all the same
                self.assertTrue(np.isnan(file["gradients/embedding.weight"][()]).any())

    def test_more_than_the_reference_is_for_is_refused(self):
        model = self.with_head()
        ids = ids_file(self.path("ids.h5"), np.arange(5000) % 256)
        good = ["--model", model, "--input", ids, "--verify"]
        self.refuse(2, ["--verify", "5000 tokens"], *good, "--gradients", self.path("g.h5"))
        self.refuse(2, ["--verify", "4900 tokens"], *good, "--length", 100)
        wide = self.with_head("wide.h5", hidden_dim=512, ff_dim=2048)
        self.refuse(2, ["--verify", "too long"], "--model", wide, "--input", ids, "--verify", "--gradients", self.path("g.h5"), "--max-tokens", 4000)

    # ---- files and summaries ----

    def test_the_file_of_losses_says_where_it_comes_from(self):
        model, text = self.with_head(head="tied"), self.text()
        self.evaluate("--model", model, "--input", text)
        with h5py.File(self.path("losses.h5")) as file:
            found = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
            self.assertEqual((file["loss"].shape, file["loss"].dtype, file["token_loss"].dtype), ((), np.float64, np.float64))
        self.assertEqual((found["format"], found["format_version"], found["head"]), ("bsbr-gradients", 1, "tied"))
        self.assertEqual((found["model"], found["input"], found["precision"], found["nonfinite_states"]), (model, text, "float", 0))

    def test_losses_by_position_are_means_of_the_losses_of_tokens(self):
        ids = ids_file(self.path("ids.h5"), np.arange(300).reshape(3, 100) * 7 % 256)
        curve = self.path("curve.json")
        for ranks in (1, 3):
            _, _, tokens = self.evaluate("--model", self.with_head(), "--input", ids, "--by-position", curve, ranks=ranks)
            with open(curve, encoding="utf-8") as file:
                ranges = json.load(file)["ranges"]
            self.assertEqual([one["begin"] for one in ranges[:12]], [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14])
            self.assertEqual([one["end"] for one in ranges], [one["begin"] for one in ranges[1:]] + [100])
            for one in ranges:
                part = tokens[:, one["begin"]:min(one["end"], 99)]
                self.assertEqual(one["counted"], part.size)
                self.assertAlmostEqual(one["loss"], part.mean(), 10)

    def test_the_summary_is_as_its_schema_says(self):
        options = ["--model", self.with_head(), "--input", self.text(), "--json", "-"]
        gradients = ["--gradients", self.path("g.h5"), "--verify"]
        for more in ([], ["--verify", "--repeat", "2"], ["--dry-run"], gradients, ["--length", "40", "--batch", "3", "--repeat", "2"],
                     ["--length", "40", "--dry-run"], ["--pieces", "40"]):
            for ranks in (1, 3):
                found = json.loads(run("bsbr_evaluate", *options, *more, ranks=ranks).out)
                self.assertEqual(complaints(found, SCHEMA, SCHEMA, "summary"), [])
                self.assertEqual(set(found) - described(SCHEMA, SCHEMA), set())
                self.assertEqual("loss" in found, "--dry-run" not in more)
                self.assertEqual((found.get("windows"), found.get("stride")), (4, 40) if "--length" in more else (None, None))
        forward = json.loads(self.forward(*options).out)
        self.assertGreater(found["flops"], forward["flops"])
        self.assertNotIn("loss", forward)

    def test_the_text_tells_the_loss_and_the_time_of_the_head(self):
        out = run("bsbr_evaluate", "--model", self.with_head(), "--input", self.text()).out
        self.assertRegex(out, r"(?m)^  loss +\d\.\d+ nats a token, \d\.\d+ bits, perplexity \d+.*; the mean of 199 positions$")
        self.assertRegex(out, r"(?m)^  head +logits, losses of tokens ")

    def test_every_architecture_can_be_evaluated(self):
        for architecture in OWN_FIELDS:
            summary, _, _ = self.evaluate("--model", self.with_head(architecture=architecture), "--input", self.text(), "--verify", ranks=2)
            self.assertLess(summary["verify"]["largest_difference"], 1e-3)

    def test_the_memory_of_a_large_vocabulary_is_predicted(self):
        model = self.with_head(vocab_size=50000)
        ids = ids_file(self.path("ids.h5"), np.arange(300) * 37 % 50000)
        summary, _, _ = self.evaluate("--model", model, "--input", ids)
        self.assertGreater(summary["predicted_memory_bytes"], 50000 * 32 * 4 * 3)
        self.assertLess(summary["peak_memory_bytes"], 1.1 * summary["predicted_memory_bytes"])

    # ---- bad input ----

    def test_a_model_without_a_head_is_refused_with_a_hint(self):
        model, text = self.model(), self.text()
        for ranks in (1, 3):
            said = self.refuse(3, ["model.h5", "has no head"], "--model", model, "--input", text, ranks=ranks)
            self.assertIn("hint: bsbr_init --head tied", said)

    def test_windows_that_cannot_be_cut_are_refused(self):
        model, text = self.with_head(), self.text()
        rows = ids_file(self.path("rows.h5"), np.arange(200).reshape(2, 100))
        bad = np.arange(200)
        bad[150] = 256
        bad = ids_file(self.path("bad.h5"), bad)
        good = ["--model", model, "--input", text]
        for ranks in (1, 3):
            self.refuse(2, ["--stride", "--length"], *good, "--stride", 5, ranks=ranks)
            self.refuse(2, ["--batch", "--length"], *good, "--batch", 5, ranks=ranks)
            self.refuse(2, ["--stride 21", "--length 20"], *good, "--length", 20, "--stride", 21, ranks=ranks)
            self.refuse(2, "--stride: 0", *good, "--length", 20, "--stride", 0, ranks=ranks)
            self.refuse(2, "--length: 0", *good, "--length", 0, ranks=ranks)
            self.refuse(2, "--batch: 0", *good, "--length", 20, "--batch", 0, ranks=ranks)
            self.refuse(2, ["--max-tokens 20", "--length 20", "21"], *good, "--length", 20, "--max-tokens", 20, ranks=ranks)
            said = self.refuse(3, ["text: holds 200 ids", "--length 200", "201"], *good, "--length", 200, ranks=ranks)
            self.assertIn("hint: a smaller --length", said)
            said = self.refuse(3, ["rows.h5: holds 2 sequences", "--length"], "--model", model, "--input", rows, "--length", 20, ranks=ranks)
            self.assertIn("hint: without --length", said)
            self.refuse(3, ["bad.h5", "256 at [0, 150]"], "--model", model, "--input", bad, "--length", 20, "--batch", 2, ranks=ranks)

    def test_bad_usage_and_bad_files(self):
        model, text = self.with_head(), self.text()
        small = self.with_head("small.h5", vocab_size=100)
        good = ["--model", model, "--input", text]
        for ranks in (1, 3):
            self.refuse(2, "--model", "--input", text, ranks=ranks)
            self.refuse(2, "--input", "--model", model, ranks=ranks)
            self.refuse(2, ["--token-losses", "-"], *good, "--token-losses", "-", ranks=ranks)
            self.refuse(2, ["--by-position", "--token-losses"], *good, "--token-losses", self.path("x"), "--by-position", self.path("x"), ranks=ranks)
            self.refuse(2, ["--gradients", "-"], *good, "--gradients", "-", ranks=ranks)
            self.refuse(2, ["--gradients", "--input"], *good, "--gradients", text, ranks=ranks)
            self.refuse(2, ["--recompute", "--gradients"], *good, "--recompute", "all", ranks=ranks)
            self.refuse(2, ["--recompute", "some"], *good, "--gradients", self.path("g.h5"), "--recompute", "some", ranks=ranks)
            self.refuse(6, "nowhere", *good, "--gradients", self.path("nowhere/g.h5"), ranks=ranks)
            self.refuse(2, ["--by-position", "--input"], *good, "--by-position", text, ranks=ranks)
            self.refuse(2, "--random-tokens", *good, "--random-tokens", 5, ranks=ranks)
            self.refuse(6, "nowhere", *good, "--token-losses", self.path("nowhere/l.h5"), ranks=ranks)
            self.refuse(6, "nowhere", *good, "--by-position", self.path("nowhere/l.json"), ranks=ranks)
            self.refuse(3, "absent", "--model", model, "--input", self.path("absent"), ranks=ranks)
            self.refuse(3, ["text", "104"], "--model", small, "--input", text, ranks=ranks)
            self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".part")], [])


if __name__ == "__main__":
    unittest.main()
