"""perf/compare_with_peers.py without PyTorch: its models' forwards in NumPy, the gradients of both sides by bsbr_evaluate."""
import contextlib
import io
import json
import os
import sys
import unittest
from unittest import mock

import h5py
import numpy as np

import numpy_torch
from programs import PROGRAMS, Case, mpi_session

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", *folder) for folder in (["perf"], ["python", "src"])]
import compare_with_peers as peers  # noqa: E402
from bsbr_convert import weight_files  # noqa: E402

SIZES = dict(vocab_size=256, hidden_dim=24, num_heads=3, num_layers=2, ff_dim=40, chunk_size=16)


def load_libraries(threads):
    peers.h5py, peers.np, peers.torch, peers.weight_files = h5py, np, numpy_torch, weight_files


class SameGradients:
    """In the place of a model in PyTorch: loss and gradients are bsbr_evaluate's in double, times a factor each."""

    def __init__(self, model, **factors):
        self.model, self.factors, self.found, self.calls = model, factors, None, 0

    def loss_and_gradients(self, ids):
        self.calls += 1
        if self.found is None:  # what is timed is not looked at
            folder = os.path.dirname(self.model)
            programs = peers.Programs(folder, peers.parse(["--programs", PROGRAMS, "--threads", "1"]))
            with mock.patch.object(programs, "evaluate", lambda *a: peers.Programs.evaluate(programs, *a, "--precision", "double")):
                loss, gradients = programs.loss_and_gradients(self.model, np.asarray(ids))
            self.found = {name: gradient * self.factors.get(name, 1) for name, gradient in gradients.items()}
            self.loss = np.float64(loss * self.factors.get("loss", 1))
        return self.loss

    def gradients(self):
        return self.found


class CompareWithPeers(Case):
    def setUp(self):
        super().setUp()
        module = mock.patch.multiple(peers, load_libraries=load_libraries, SIZES=SIZES, CHECKED_TOKENS=70)
        for patch in (module, mock.patch.dict(os.environ, OMP_NUM_THREADS="1", **mpi_session(self.folder))):
            patch.start()
            self.addCleanup(patch.stop)

    def compare(self, *arguments):
        """-> code, out, err, the JSON"""
        out, err, path = io.StringIO(), io.StringIO(), self.path("peers.json")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = peers.main(["--inside", "--programs", PROGRAMS, "--threads", "1", "--json", path, "--repeat", "2", *arguments])
            except SystemExit as end:
                code = end.code
        if not os.path.exists(path):
            return code, out.getvalue(), err.getvalue(), None
        with open(path, encoding="utf-8") as file:
            return code, out.getvalue(), err.getvalue(), json.load(file)

    def compare_gradients(self, *arguments, **factors):
        with mock.patch.object(peers, "peer", lambda model: SameGradients(model, **factors)):
            return self.compare("--gradients", *arguments)

    def test_the_models_for_pytorch_are_the_same_functions(self):
        code, out, err, found = self.compare("--comparisons", "plain,standard,hopfield,transformer", "--tokens", "40",
                                             "--standard-tokens", "9")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual([(result["comparison"], result["tokens"]) for result in found["results"]],
                         [("transformer", 40), ("plain", 40), ("standard", 9), ("hopfield", 9)])
        for result in found["results"]:
            self.assertLess(result["largest_difference"], 2e-5)
            self.assertEqual([len(result[name]) for name in ("seconds_of_bsbr_forward", "seconds_of_python", "ratios")], [2, 2, 2])
        self.assertIn("plain", out)

    def test_a_model_that_computes_something_else_is_not_timed(self):
        with mock.patch.object(peers.Bsbr, "retrieved", lambda self, name, x, states: np.zeros_like(states)):
            code, out, err, found = self.compare("--comparisons", "plain", "--tokens", "40")
        self.assertEqual((code, found), (70, None))
        self.assertIn("not timed", err)
        self.assertNotIn("times as fast", out)

    def test_gradients_are_compared_and_timed(self):
        code, out, err, found = self.compare_gradients("--tokens", "33,50", "--standard-tokens", "20")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(found["program"], "bsbr_evaluate")
        self.assertEqual([(result["comparison"], result["tokens"]) for result in found["results"]],
                         [("transformer", 33), ("transformer", 50), ("plain", 33), ("plain", 50), ("standard", 20), ("hopfield", 20)])
        for result in found["results"]:
            self.assertLess(result["largest_difference"], 1e-4)
            self.assertEqual(len(result["seconds_of_bsbr_evaluate"]), 2)
        self.assertIn("largest_difference_of_bsbr", found["results"][0])

    def test_gradients_that_differ_are_not_timed(self):
        for name in ("loss", "lm_head.weight", "layers.1.attention.meta_h_proj.weight", "layers.0.layer_norm1.bias"):
            with self.subTest(name=name):
                code, out, err, found = self.compare_gradients("--comparisons", "plain", "--tokens", "33", **{name: 1.01})
                self.assertEqual((code, found), (70, None))
                self.assertRegex(err, "^compare_with_peers.py: error: bsbr: .* not timed\n$")
                self.assertNotIn("times as fast", out)

    def test_gradients_of_other_weights_are_named(self):
        load_libraries(1)
        ones = np.ones(3)
        with self.assertRaisesRegex(peers.Failure, "a, b"):
            peers.gradient_difference((1, dict(a=ones, c=ones)), (1, dict(b=ones, c=ones)))

    def test_a_gradient_is_measured_by_its_weight_unless_that_is_rounding_only(self):
        load_libraries(1)
        ours = dict(large=np.array([1000., 0]), small=np.array([10., 1]), nothing=np.array([1e-5]))
        difference = lambda **changed: peers.gradient_difference((2, ours), (2, {**ours, **changed}))  # noqa: E731
        self.assertEqual(difference(), 0)
        self.assertAlmostEqual(difference(small=np.array([10., 2])), 0.1)
        self.assertAlmostEqual(difference(nothing=np.array([-1e-5])), 2e-5)
        self.assertFalse(difference(small=np.array([np.nan, 1])) < 1)
        self.assertAlmostEqual(peers.gradient_difference((2, ours), (1, ours)), 0.5)

    def test_the_gradients_of_joined_weights_get_their_names_in_the_file(self):
        load_libraries(1)
        config = dict(num_heads=1, num_layers=1, hidden_dim=2)
        weights = {f"layers.0.attention.{which}_proj.{kind}": np.zeros((2, 2) if kind == "weight" else 2) for which in "qkv"
                   for kind in ("weight", "bias")}
        model = peers.Transformer(config, {**weights, "layers.0.attention.meta_r_proj.bias": np.zeros(2)})
        with mock.patch.object(model, "parameters", self.with_gradients(model.parameters())):
            found = model.gradients()
        self.assertEqual(found.keys(), {*weights, "layers.0.attention.meta_r_proj.bias"})
        np.testing.assert_array_equal(found["layers.0.attention.k_proj.weight"], [[4, 5], [6, 7]])
        np.testing.assert_array_equal(found["layers.0.attention.v_proj.bias"], [4, 5])

    @staticmethod
    def with_gradients(parameters):
        gradients = {name: mock.Mock(grad=numpy_torch.from_numpy(np.arange(weight.size).reshape(weight.shape)))
                     for name, weight in parameters.items()}
        return lambda: gradients

    def test_what_the_command_line_refuses(self):
        for arguments, says in ((["--gradients", "--comparisons", "package"], "--gradients"), (["--package-tokens", "6000"], "5000"),
                                (["--comparisons", "others"], "others")):
            code, _, err, _ = self.compare(*arguments)
            self.assertEqual(code, 2, err)
            self.assertIn(says, err)


if __name__ == "__main__":
    unittest.main()
