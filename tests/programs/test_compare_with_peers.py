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
import plot_peers  # noqa: E402
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
        with mock.patch.object(peers, "peer", lambda model, precision: SameGradients(model, **factors)):
            return self.compare("--gradients", *arguments)

    def test_the_models_for_pytorch_are_the_same_functions(self):
        code, out, err, found = self.compare("--comparisons", "plain,standard,hopfield,transformer", "--tokens", "40",
                                             "--standard-tokens", "9")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual([(result["comparison"], result["tokens"], result["precision"]) for result in found["results"]],
                         [(comparison, tokens, precision)
                          for comparison, tokens in dict(transformer=40, plain=40, standard=9, hopfield=9).items()
                          for precision in ("float", "bfloat16")])
        for result in found["results"]:
            least, most = dict(float=(0, 2e-5), bfloat16=(1e-3, 0.1))[result["precision"]]
            self.assertGreater(result["largest_difference"], least)
            self.assertLess(result["largest_difference"], most)
            self.assertEqual([len(result[name]) for name in ("seconds_of_bsbr_forward", "seconds_of_python", "ratios")], [2, 2, 2])
        self.assertIn("plain", out)

    def is_not_timed(self, what, *arguments):
        code, out, err, found = self.compare("--comparisons", "plain", "--tokens", "40", *arguments)
        self.assertEqual((code, found), (70, None))
        self.assertRegex(err, f"error: {what}: .* not timed\n$")
        self.assertNotIn("times as fast", out)

    def test_a_model_that_computes_something_else_is_not_timed(self):
        with mock.patch.object(peers.Bsbr, "retrieved", lambda self, name, x, states: np.zeros_like(states)):
            self.is_not_timed("bsbr, float")
            self.is_not_timed("bsbr, float", "--precisions", "bfloat16")

    def test_a_model_that_computes_something_else_in_bfloat16_is_not_timed(self):
        def without_layers(model, precision):
            made = peer(model, precision)
            made.layers = 0 if precision == "bfloat16" else made.layers
            return made

        peer = peers.peer
        with mock.patch.object(peers, "peer", without_layers):
            self.is_not_timed("bsbr, bfloat16")

    def test_both_precisions_take_turns(self):
        code, out, err, found = self.compare("--comparisons", "standard", "--standard-tokens", "9")
        self.assertEqual((code, err), (0, ""))
        timed = [line.split()[2] for line in out.splitlines() if line.startswith("  9 tokens")]
        self.assertEqual(timed, ["float:", "bfloat16:"] * 2)

    def test_kernels_are_told_for_each_precision(self):
        def kernels(precision):
            return dict(linear=f"linear in {precision}", attention=f"attention in {precision}")

        with mock.patch.object(peers, "kernels_of_pytorch", kernels):
            code, out, err, found = self.compare("--comparisons", "standard", "--standard-tokens", "9")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(found["kernels"].keys(), {"float", "bfloat16"})
        for precision, used in found["kernels"].items():
            self.assertRegex(used["bsbr"], "^bsbr ")
            self.assertEqual(used["python"], kernels(precision))
            theirs = f"PyTorch's linear layers: linear in {precision}; its attention: attention in {precision}\n"
            self.assertIn(f"kernels in {precision}: {used['bsbr']}; {theirs}", out)

    def test_kernels_of_pytorch_are_those_that_its_libraries_log(self):
        mkl = ("MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605\n"
               "MKL_VERBOSE SGEMM(T,N,512,64,64,0x7f,0x7f,512) 98.58us CNR:OFF Dyn:0\n")
        onednn = ("onednn_verbose,v1,info,cpu,runtime:OpenMP,nthr:2\n"
                  "onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind\n"
                  "onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx10_1_512_amx,undef,src:bf16,,,8x8,0.1\n"
                  "onednn_verbose,exec,cpu,reorder,jit:uni,undef,src_bf16,,,8x8,0.2\n")
        self.assertEqual(peers.kernel_names(mkl * 2), "MKL SGEMM")
        self.assertEqual(peers.kernel_names("attention FLASH_ATTENTION\n" + mkl), "flash_attention: MKL SGEMM")
        self.assertEqual(peers.kernel_names(onednn), "oneDNN matmul brg_matmul:avx10_1_512_amx, oneDNN reorder jit:uni")
        self.assertEqual(peers.kernel_names("attention MATH\n"), "math: PyTorch's own, neither MKL nor oneDNN")

    def test_the_picture_has_times_in_float(self):
        def result(tokens, ours, theirs, **more):
            return dict(comparison="transformer", tokens=tokens, seconds_of_bsbr_forward=[ours],
                        seconds_of_python=[theirs], **more)

        results = [result(4, 1, 3), result(8, 1, 3, precision="float"), result(8, 7, 21, precision="bfloat16")]
        path = self.path("float_and_bfloat16.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(format="bsbr-peers", results=results), file)
        self.assertEqual(plot_peers.read([path]), {"bsbr": {4: 1, 8: 1}, plot_peers.PYTORCH: {4: 3, 8: 3}})

    def test_gradients_are_compared_and_timed(self):
        code, out, err, found = self.compare_gradients("--tokens", "33,50", "--standard-tokens", "20")
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(found["program"], "bsbr_evaluate")
        self.assertEqual({result["precision"] for result in found["results"]}, {"float"})
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
                                (["--comparisons", "others"], "others"), (["--precisions", "double"], "double"),
                                (["--precisions", "bfloat16", "--comparisons", "package"], "only made in float"),
                                (["--precisions", "bfloat16", "--gradients"], "only made in float")):
            code, _, err, _ = self.compare(*arguments)
            self.assertEqual(code, 2, err)
            self.assertIn(says, err)


if __name__ == "__main__":
    unittest.main()
