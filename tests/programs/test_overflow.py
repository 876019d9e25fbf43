"""What bsbr_forward says of hidden states that are NaN or infinite, and bsbr_evaluate of gradients, and that these depend on nothing but model
and input.
"""
import json
import unittest

import h5py
import numpy as np

from programs import OWN_FIELDS, Case, hidden_states, ids_file, run

TOKENS, PLACE, LARGE = 50, 37, 200  # the token at that place has an id whose row of the embedding is too large


class Overflow(Case):
    def large_model(self, name, architecture="bsbr", **changes):
        model = self.model(name, architecture, **changes)
        with h5py.File(model, "r+") as file:
            file["weights/embedding.weight"][LARGE] = 3e38
        return model

    def ids(self, name, places=((0, PLACE),), batch=1, mask=None):
        ids = np.arange(batch * TOKENS).reshape(batch, TOKENS) % 100
        for row, token in places:
            ids[row, token] = LARGE
        return ids_file(self.path(name), ids, mask)

    def summary(self, *arguments, **how):
        return json.loads(self.forward("--json", "-", *arguments, **how).out)

    def test_no_earlier_token_changes_on_any_number_of_ranks(self):
        plain, spoiled = self.ids("plain.h5", ()), self.ids("spoiled.h5")
        for architecture in OWN_FIELDS:
            model = self.large_model(architecture + ".h5", architecture)
            self.forward("--model", model, "--input", plain, "--output", self.path("plain"), "--quiet")
            expected = hidden_states(self.path("plain"))
            results = []
            for ranks in (1, 2, 5):
                with self.subTest(architecture=architecture, ranks=ranks):
                    self.forward("--model", model, "--input", spoiled, "--output", self.path("spoiled"), "--quiet", ranks=ranks)
                    results.append(hidden_states(self.path("spoiled")))
                    self.assertEqual(results[-1][:, :PLACE].tobytes(), expected[:, :PLACE].tobytes())
                    self.assertTrue(np.isnan(results[-1][:, PLACE]).all())
                    self.assertEqual(results[-1].tobytes(), results[0].tobytes())

    def test_summary_and_result_tell_how_many_and_where(self):
        ids = self.ids("ids.h5", ((1, PLACE), (1, 44)), batch=2)
        model = self.large_model("m.h5", "sliding_window", window_size=0)  # no token sees another
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                done = self.forward("--model", model, "--input", ids, "--output", self.path("r.h5"), "--json", self.path("s.json"), ranks=ranks)
                self.assertIn("  warning       NaN or infinite elements in 2 of 100 hidden states, first at token 37 of sequence 1\n", done.out)
                with open(self.path("s.json")) as file:
                    found = json.load(file)
                self.assertEqual((found["nonfinite_states"], found["first_nonfinite"]), (2, [1, PLACE]))
                with h5py.File(self.path("r.h5")) as file:
                    self.assertEqual((file.attrs["nonfinite_states"], list(file.attrs["first_nonfinite"])), (2, [1, PLACE]))

    def test_nothing_is_said_where_all_is_finite(self):
        done = self.forward("--model", self.model(), "--random-tokens", 50, "--output", self.path("r.h5"), "--json", self.path("s.json"))
        self.assertNotIn("warning", done.out)
        with open(self.path("s.json")) as file:
            found = json.load(file)
        self.assertEqual((found["nonfinite_states"], found["first_nonfinite"]), (0, None))
        with h5py.File(self.path("r.h5")) as file:
            self.assertEqual(file.attrs["nonfinite_states"], 0)
            self.assertNotIn("first_nonfinite", file.attrs)

    def test_a_masked_token_is_seen_by_nobody(self):
        mask = np.ones((1, TOKENS), "u1")
        mask[0, PLACE] = 0
        for architecture in OWN_FIELDS:
            with self.subTest(architecture=architecture):
                model = self.large_model(architecture + ".h5", architecture)
                found = self.summary("--model", model, "--input", self.ids("ids.h5", mask=mask))
                self.assertEqual((found["nonfinite_states"], found["first_nonfinite"]), (1, [0, PLACE]))

    def evaluated(self, *arguments, ranks=1):
        """A run with --gradients, which ends well -> text, the JSON summary, attributes of the file, and its gradients by name."""
        done = run("bsbr_evaluate", *arguments, "--gradients", self.path("g.h5"), "--json", self.path("s.json"), ranks=ranks)
        self.assertEqual((done.code, done.err), (0, ""))
        found = {}
        with h5py.File(self.path("g.h5")) as file:
            attributes = dict(file.attrs)
            file["gradients"].visititems(lambda key, item: found.__setitem__(key, item[()]) if isinstance(item, h5py.Dataset) else None)
        with open(self.path("s.json"), encoding="utf-8") as file:
            return done.out, json.load(file), attributes, found

    def test_summary_and_file_tell_how_many_gradients_are_not_finite(self):
        model = self.large_model("m.h5", head="separate")
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                text, summary, attributes, found = self.evaluated("--model", model, "--input", self.ids("ids.h5"), ranks=ranks)
                spoiled = [name for name, gradient in found.items() if not np.isfinite(gradient).all()]
                self.assertIn("embedding.weight", spoiled)
                self.assertEqual((summary["nonfinite_gradients"], summary["first_nonfinite_gradient"]), (len(spoiled), "embedding.weight"))
                self.assertEqual((attributes["nonfinite_gradients"], attributes["first_nonfinite_gradient"]), (len(spoiled), "embedding.weight"))
                self.assertIn(f"  warning       NaN or infinite elements in the gradients of {len(spoiled)} weights, first in that of embedding.weight\n", text)
                self.assertEqual((summary["loss"], summary["perplexity"]), (None, None))
                for names in (summary, attributes):  # of hidden states nothing is known
                    self.assertNotIn("nonfinite_states", names)
                    self.assertNotIn("first_nonfinite", names)

    def test_gradients_are_finite_where_what_is_not_does_not_occur(self):
        model = self.large_model("m.h5", head="separate")
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                text, summary, attributes, found = self.evaluated("--model", model, "--input", self.ids("ids.h5", places=()), ranks=ranks)
                self.assertTrue(all(np.isfinite(gradient).all() for gradient in found.values()))
                self.assertFalse(found["embedding.weight"][LARGE].any())
                self.assertEqual((summary["nonfinite_gradients"], summary["first_nonfinite_gradient"]), (0, None))
                self.assertEqual(attributes["nonfinite_gradients"], 0)
                self.assertNotIn("first_nonfinite_gradient", attributes)
                self.assertNotIn("warning", text)

    def test_a_batch_that_counts_no_position_has_a_loss_of_0_and_gradients_of_0(self):
        model = self.model("m.h5", head="tied")
        padding = ids_file(self.path("padding.h5"), np.arange(40), np.zeros(40, "u1"))
        every_other = ids_file(self.path("every_other.h5"), np.arange(40), np.arange(40) % 2)
        for input_file in (ids_file(self.path("one.h5"), [5]), padding, every_other):
            for ranks in (1, 3):
                with self.subTest(input_file, ranks=ranks):
                    _, summary, _, found = self.evaluated("--model", model, "--input", input_file, ranks=ranks)
                    self.assertEqual([summary[name] for name in ("loss", "bits_per_token", "perplexity", "counted")], [0, 0, 1, 0])
                    self.assertTrue(all(not gradient.any() for gradient in found.values()))

    def test_verify_fails_where_the_reference_is_finite(self):
        ids, model = self.ids("ids.h5"), self.large_model("m.h5")  # double has room for what float has not
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                done = run("bsbr_forward", "--model", model, "--input", ids, "--verify", "--json", "-", "--output", self.path("r.h5"), ranks=ranks)
                self.assertEqual(done.code, 7)
                self.assertIn("bsbr_forward: error: --verify: 13 hidden states with elements that are NaN or infinite in the result or in the "
                              "reference, but not in both; first at token 37 of sequence 0\n", done.err)
                self.assertEqual(done.err.count("error:"), 1)
                found = json.loads(done.out)["verify"]
                self.assertEqual((found["nonfinite_in_one"], found["first_nonfinite_in_one"], found["nonfinite_in_both"]), (13, [0, PLACE], 0))
                self.assertLess(found["largest_difference"], 1e-4)
                self.assertEqual(np.isnan(hidden_states(self.path("r.h5"))).any(axis=2).sum(), 13)  # written all the same
        done = run("bsbr_forward", "--model", model, "--input", ids, "--verify")
        self.assertEqual(done.code, 7)
        self.assertIn("; FAILED: elements that are NaN or infinite in one of them, in 13 hidden states\n", done.out)

    def test_verify_fails_where_both_overflow(self):
        ids = self.ids("ids.h5")
        model = self.model("m.h5")
        with h5py.File(model, "r+") as file:
            weights = file["weights"]
            weights["embedding.weight"][LARGE] = np.eye(32)[0] * 1e6  # after the last norm √31 in its first element, and little elsewhere
            del weights["layer_norm.weight"]
            weights["layer_norm.weight"] = np.where(np.arange(32) == 0, 0.4e308, 1.0)
        for ranks in (1, 3):
            with self.subTest(ranks=ranks):
                options = ("--model", model, "--input", ids, "--verify", "--precision", "double")
                done = run("bsbr_forward", *options, "--json", "-", ranks=ranks)
                self.assertEqual(done.code, 7)
                self.assertIn("bsbr_forward: error: --verify: 1 hidden state with elements that are NaN or infinite in the result and in the "
                              "reference, which cannot be compared\n", done.err)
                found = json.loads(done.out)
                self.assertEqual((found["nonfinite_states"], found["first_nonfinite"]), (1, [0, PLACE]))
                found = found["verify"]
                self.assertEqual((found["nonfinite_in_both"], found["nonfinite_in_one"], found["first_nonfinite_in_one"]), (1, 0, None))
                self.assertLess(found["largest_difference"], 1e-10 * found["largest_value"])
                self.assertIn("; not compared: elements that are NaN or infinite in both, in 1 hidden state\n",
                              run("bsbr_forward", *options, ranks=ranks).out)


if __name__ == "__main__":
    unittest.main()
