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
        for more in ([], ["--verify", "--repeat", "2"], ["--dry-run"]):
            for ranks in (1, 3):
                found = json.loads(run("bsbr_evaluate", *options, *more, ranks=ranks).out)
                self.assertEqual(complaints(found, SCHEMA, SCHEMA, "summary"), [])
                self.assertEqual(set(found) - described(SCHEMA, SCHEMA), set())
                self.assertEqual("loss" in found, "--dry-run" not in more)
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
            self.refuse(2, ["--verify", "--gradients"], *good, "--gradients", self.path("g.h5"), "--verify", ranks=ranks)
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
