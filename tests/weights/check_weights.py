"""tools/convert_weights.py against the real thing: models of the Python package bsbr 0.1.1 and of transformers, with random weights.

scripts/check-weights runs it; it needs PyTorch, transformers, safetensors, numpy and h5py, and the sources of the package
(BSBR_PACKAGE names the folder that has bsbr and bsbr_extras), which is why ctest does not run it.

Tolerances. In double both sides round differently at 1e-16 a step, and hidden states have variance 1: below 1e-10 they are the same, as in
tests/golden; a tensor in a wrong place costs 1e-2 and more. For that the package's table of positions, which has angles in float32, is
replaced by one in double. In float, with the table as it is, the measure is the package's own error: it may differ from its result in
double, with the exact table, by as much as it does, and we by twice that and 1e-5.
"""
import argparse
import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", "..", "tools", "convert_weights.py")
sys.path[:0] = [os.path.join(HERE, "..", "programs"), os.path.join(HERE, "..", "..", "python", "src"), os.environ["BSBR_PACKAGE"]]
os.environ["HF_HUB_OFFLINE"] = "1"  # models are made here, none is looked for

import bsbr  # noqa: E402
import bsbr_extras  # noqa: E402
import h5py  # noqa: E402
import numpy as np  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from bsbr_convert import command  # noqa: E402
from programs import Case, hidden_states, ids_file  # noqa: E402

SAME = 1e-10
SIZES = dict(vocab_size=53, hidden_dim=48, num_layers=3, num_heads=4, ff_dim=72)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def positions(tokens, width):
    """docs/mathematics.md, "The transformer shell", in double."""
    table = torch.zeros(tokens, width, dtype=torch.float64)
    for t in range(tokens):
        for m in range(width):
            angle = t * 10000.0 ** (-2 * (m // 2) / width)
            table[t, m] = np.cos(angle) if m % 2 else np.sin(angle)
    return table


def randomised(model, seed=0):
    """Weights with which no softmax is flat, no norm trivial and no two tensors alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            norm = "norm" in name or ".ln_" in name
            weight.copy_(1 + 0.2 * noise if norm and name.endswith("weight") else 0.2 * noise if weight.dim() == 1 else
                         noise if "embedding" in name or "wte" in name else 2 * noise / weight.shape[-1] ** 0.5)
    return model.eval()


def random_ids(batch, tokens, vocabulary):
    return np.random.default_rng(7).integers(0, vocabulary, (batch, tokens))


def in_double(model, tokens):
    """The package's model with the same weights in double, and with exact positions."""
    model = model.double()
    model.pos_encoding.pe = positions(tokens, SIZES["hidden_dim"])[None]
    return model


def output(model, ids, mask=None):
    with torch.inference_mode():
        result = model(torch.from_numpy(ids), *([] if mask is None else [torch.from_numpy(mask)]))
    return (result[0] if isinstance(result, tuple) else result).numpy()


class Weights(Case):
    def convert(self, source, target, *arguments, code=0):
        done = subprocess.run([sys.executable, "-B", TOOL, source, self.path(target), *map(str, arguments)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def saved(self, model, kind="pt"):
        """The model's state_dict in a file."""
        path = self.path("weights." + kind)
        if kind == "pt":
            torch.save(model.state_dict(), path)
        else:
            safetensors.torch.save_file(model.state_dict(), path)
        return path

    def computed(self, model, ids, *how, mask=None, precision="double"):
        """The hidden states by bsbr_forward."""
        ids_file(self.path("ids.h5"), ids, mask)
        self.forward("--model", self.path(model), "--input", self.path("ids.h5"), "--output", self.path("result.h5"), "--precision",
                     precision, "--quiet", *how)
        return hidden_states(self.path("result.h5"))

    def close(self, ours, theirs, tolerance=SAME):
        difference = float(np.abs(ours - theirs).max())
        self.assertLess(difference, tolerance)
        self.assertGreater(float(np.abs(theirs).max()), 0.5)
        return difference


# ---- the Python package ---------------------------------------------------------------------------------------------------------------


class Package(Weights):
    def package(self, **more):
        return randomised(bsbr.BSBRModel(**SIZES, chunk_size=16, **more))

    def test_reference_causality_is_the_package(self):
        for factor, kind in ((None, "pt"), (None, "safetensors"), (3, "pt"), (5, "safetensors")):
            model = self.package(compression_factor=factor)
            source = self.saved(model, kind)
            # With compression the tensors tell the number of heads.
            heads = ["--num-heads", 4] if factor is None else []
            told = self.convert(source, "model.h5", "--from", "bsbr", "--chunk-size", 16, *heads)
            self.assertIn("pos_encoding.pe: sinusoidal", told)
            for tokens in (1, 15, 16, 17, 64, 100):
                with self.subTest(factor=factor, kind=kind, tokens=tokens):
                    ids = random_ids(2, tokens, SIZES["vocab_size"])
                    single = output(model.float(), ids)
                    ours = self.computed("model.h5", ids, precision="float")
                    table = model.pos_encoding.pe
                    exact = output(in_double(model, tokens), ids)
                    model.float().pos_encoding.pe = table
                    self.close(self.computed("model.h5", ids), exact)
                    self.close(ours, single, 3 * float(np.abs(single - exact).max()) + 1e-5)

    def test_with_a_padding_mask_too(self):
        model = self.package()
        self.convert(self.saved(model), "model.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4)
        ids = random_ids(3, 40, SIZES["vocab_size"])
        mask = np.ones(ids.shape, "i8")
        mask[0, 33:], mask[1, :20], mask[2, 5:18] = 0, 0, 0
        self.close(self.computed("model.h5", ids, mask=mask), output(in_double(model, 40), ids, mask))

    def test_arguments_of_the_model_are_a_configuration(self):
        arguments = dict(SIZES, chunk_size=16, dropout=0.1, compression_factor=None)
        with open(self.path("config.json"), "w") as file:
            json.dump(arguments, file)
        model = randomised(bsbr.BSBRModel(**arguments))
        self.convert(self.saved(model), "model.h5", "--from", "bsbr", "--config", self.path("config.json"))
        ids = random_ids(1, 50, SIZES["vocab_size"])
        self.close(self.computed("model.h5", ids), output(in_double(model, 50), ids))

    def test_wrapped_and_half_precision_state_dicts_are_the_same_model(self):
        for dtype in (torch.float16, torch.bfloat16):
            model = self.package().to(dtype)
            state = {"module.net." + name: tensor for name, tensor in model.state_dict().items()}
            torch.save(dict(model_state_dict=state, epoch=3, optimizer=dict(lr=0.1)), self.path("weights.pt"))
            told = self.convert(self.path("weights.pt"), "model.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4)
            self.assertIn("beside the tensors, not looked at: epoch, optimizer", told)
            self.assertIn("module.net.pos_encoding.pe", told)
            ids = random_ids(1, 50, SIZES["vocab_size"])
            self.close(self.computed("model.h5", ids), output(in_double(model, 50), ids))
            self.convert(self.saved(model, "safetensors"), "same.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4)
            self.same_files("model.h5", "same.h5")

    def same_files(self, one, other):
        with h5py.File(self.path(one)) as first, h5py.File(self.path(other)) as second:
            self.assertEqual(dict(first.attrs), dict(second.attrs))
            self.assertEqual(set(first["weights"]), set(second["weights"]))
            for name in first["weights"]:
                np.testing.assert_array_equal(first["weights"][name][()], second["weights"][name][()])

    def test_baselines_are_the_models_of_the_package(self):
        """linear and delta_net compute another thing in the package (docs/weights.md): of them the weights are compared."""
        extras, heads = bsbr_extras, ["--num-heads", 4]
        without_heads = {name: value for name, value in SIZES.items() if name != "num_heads"}
        ids, mask = random_ids(2, 40, SIZES["vocab_size"]), np.ones((2, 40), "i8")
        mask[1, 25:] = 0
        for architecture, model, arguments in [
            ("standard", extras.StandardTransformerModel(**SIZES), heads),
            ("sliding_window", extras.SlidingWindowTransformerModel(**SIZES, window_size=7), [*heads, "--window-size", 7]),
            ("hopfield", extras.HopfieldNetworkModel(**SIZES, temperature=0.6), [*heads, "--temperature", 0.6]),
            ("gau", extras.GAUModel(**without_heads, chunk_size=16, expansion_factor=2), ["--chunk-size", 16]),
            ("linear", extras.LinearTransformerModel(**SIZES), heads),
            ("delta_net", extras.DeltaNetModel(**SIZES), heads),
        ]:
            with self.subTest(architecture):
                randomised(model)
                if architecture != "gau":
                    arguments = [*arguments, "--architecture", architecture]
                self.convert(self.saved(model), "model.h5", "--from", "bsbr", *arguments)
                self.check_weights(model)
                ours, padded = self.computed("model.h5", ids), self.computed("model.h5", ids, mask=mask)
                if architecture in ("linear", "delta_net"):
                    continue
                exact = in_double(model, 40)
                self.close(ours, output(exact, ids))
                # At masked positions the package has its own ways.
                self.close(padded[mask == 1], output(exact, ids, mask)[mask == 1])

    def check_weights(self, model):
        with h5py.File(self.path("model.h5")) as file:
            state = {name: tensor for name, tensor in model.state_dict().items() if name != "pos_encoding.pe"}
            self.assertEqual(set(file["weights"]), set(state))
            for name, tensor in state.items():
                np.testing.assert_array_equal(file["weights"][name][()], tensor.numpy())

    def test_what_is_exported_is_loaded_by_the_package(self):
        model = self.package(compression_factor=3)
        self.convert(self.saved(model), "model.h5", "--from", "bsbr", "--chunk-size", 16)
        self.convert(self.path("model.h5"), "back.safetensors")
        other = bsbr.BSBRModel(**SIZES, chunk_size=16, compression_factor=3).eval()
        keys = other.load_state_dict(safetensors.torch.load_file(self.path("back.safetensors")), strict=False)
        self.assertEqual((keys.missing_keys, keys.unexpected_keys), (["pos_encoding.pe"], []))
        ids = random_ids(1, 50, SIZES["vocab_size"])
        np.testing.assert_array_equal(output(model, ids), output(other, ids))
        self.convert(self.path("back.safetensors"), "again.h5", "--from", "bsbr")
        self.same_files("model.h5", "again.h5")

    def test_what_would_have_to_be_unpickled_is_refused(self):
        torch.save(self.package(), self.path("model.pt"))  # the module itself, not its state_dict
        said = self.convert(self.path("model.pt"), "model.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4, code=3)
        self.assertIn("not unpickled", said)
        with open(self.saved(self.package()), "rb") as file:
            content = file.read()
        with open(self.path("cut.pt"), "wb") as file:
            file.write(content[:len(content) // 2])
        said = self.convert(self.path("cut.pt"), "model.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4, code=3)
        self.assertIn("is not a whole file of torch.save", said)
        for damaged in (b"\x80\x02.", b"\x80\x02K", b"\x80\x02J\x01", b"\x80\x02]q\x00R."):  # each another exception of torch's unpickler
            with open(self.path("damaged.pt"), "wb") as file:
                file.write(damaged)
            said = self.convert(self.path("damaged.pt"), "model.h5", "--from", "bsbr", "--chunk-size", 16, "--num-heads", 4, code=3)
            self.assertIn("is not a whole file of torch.save", said)
        self.assertFalse(os.path.exists(self.path("model.h5")))


# ---- GPT-2 ----------------------------------------------------------------------------------------------------------------------------


class GPT2(Weights):
    def gpt2(self, kind=transformers.GPT2LMHeadModel, **more):
        config = dict(vocab_size=53, n_embd=48, n_layer=3, n_head=4, n_positions=128, n_inner=72, activation_function="gelu",
                      bos_token_id=0, eos_token_id=0, attn_implementation="eager")
        return randomised(kind(transformers.GPT2Config(**{**config, **more})))

    def hidden(self, model, ids):
        """Hidden states in double, with our positions in place of the learned ones."""
        core = getattr(model, "transformer", model).double()
        with torch.inference_mode():
            core.wpe.weight.zero_()
            return core(inputs_embeds=core.wte(torch.from_numpy(ids)) + positions(ids.shape[1], 48)).last_hidden_state.numpy()

    def save(self, model, **how):
        model.save_pretrained(self.folder, **how)
        return ["--from", "gpt2", "--config", self.path("config.json")]

    def test_standard_is_gpt2_but_for_its_positions(self):
        for kind in (transformers.GPT2Model, transformers.GPT2LMHeadModel):
            model = self.gpt2(kind)
            told = self.convert(self.path("model.safetensors"), "model.h5", *self.save(model), "--architecture", "standard")
            self.assertIn("wpe.weight: learned positions", told)
            self.assertNotIn("approximate", told)
            ids = random_ids(2, 70, 53)
            self.close(self.computed("model.h5", ids), self.hidden(model, ids))

    def test_bsbr_with_one_chunk_is_gpt2_but_for_its_positions(self):
        model = self.gpt2()
        self.convert(self.path("model.safetensors"), "model.h5", *self.save(model), "--chunk-size", 70)
        ids = random_ids(2, 70, 53)
        self.close(self.computed("model.h5", ids), self.hidden(model, ids))

    def test_retrieval_has_the_means_of_q_k_and_v(self):
        """A model of the Python package, filled here from the modules of GPT-2, computes the same as the converted file."""
        model = self.gpt2(n_inner=None)
        self.convert(self.path("model.safetensors"), "model.h5", *self.save(model), "--chunk-size", 16)
        package = bsbr.BSBRModel(vocab_size=53, hidden_dim=48, num_layers=3, num_heads=4, ff_dim=192, chunk_size=16).eval()
        with torch.no_grad():
            package.embedding.weight.copy_(model.transformer.wte.weight)
            package.layer_norm.load_state_dict(model.transformer.ln_f.state_dict())
            for layer, block in zip(package.layers, model.transformer.h):
                self.fill(layer, block)
        ids = random_ids(2, 70, 53)
        self.close(self.computed("model.h5", ids, "--causality", "reference"), output(in_double(package, 70), ids))

    def fill(self, layer, block):
        """From what the modules compute, not from how their weights lie: a linear layer is f(unit vectors) - f(0), and f(0)."""
        def linear(function, width):
            zero = function(torch.zeros(1, width))[0]
            return (function(torch.eye(width)) - zero).T, zero

        def put(target, weight, bias):
            target.weight.copy_(weight)
            target.bias.copy_(bias)

        model = {"attn": block.attn.c_attn, "proj": block.attn.c_proj, "up": block.mlp.c_fc, "down": block.mlp.c_proj}
        attention = layer.attention
        exact = {name: (module.weight.T, module.bias) for name, module in model.items()}
        for name, module in model.items():  # what is copied is what the module computes
            weight, bias = linear(module, module.weight.shape[0])
            torch.testing.assert_close(weight, exact[name][0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(bias, exact[name][1])
        (q, k, v), (q_bias, k_bias, v_bias) = (part.split(48) for part in exact["attn"])
        put(attention.q_proj, q, q_bias)
        put(attention.k_proj, k, k_bias)
        put(attention.v_proj, v, v_bias)
        put(attention.meta_r_proj, (q + k) / 2, (q_bias + k_bias) / 2)
        put(attention.meta_h_proj, (k + v) / 2, (k_bias + v_bias) / 2)
        put(attention.out_proj, *exact["proj"])
        put(layer.ff[0], *exact["up"])
        put(layer.ff[3], *exact["down"])
        layer.layer_norm1.load_state_dict(block.ln_1.state_dict())
        layer.layer_norm2.load_state_dict(block.ln_2.state_dict())

    def test_the_tanh_gelu_is_reported_and_costs_little(self):
        model = self.gpt2(activation_function="gelu_new")
        told = self.convert(self.path("model.safetensors"), "model.h5", *self.save(model), "--architecture", "standard")
        self.assertIn("approximate: activation_function is gelu_new", told)
        ids = random_ids(1, 70, 53)
        difference = self.close(self.computed("model.h5", ids), self.hidden(model, ids), 1e-2)
        self.assertGreater(difference, 1e-6)

    def test_files_of_torch_and_in_several_parts_are_the_same_model(self):
        model = self.gpt2()
        arguments = self.save(model)
        self.convert(self.path("model.safetensors"), "one.h5", *arguments)
        torch.save(model.state_dict(), self.path("weights.bin"))
        told = self.convert(self.path("weights.bin"), "bin.h5", *arguments)
        self.assertIn("lm_head.weight: output layer, the same elements", told)
        os.remove(self.path("model.safetensors"))
        self.save(model, max_shard_size="40KB")
        self.convert(self.path("model.safetensors.index.json"), "parts.h5", *arguments)
        for name in ("bin.h5", "parts.h5"):
            Package.same_files(self, "one.h5", name)

    def test_the_head_is_that_of_gpt2(self):
        for tied, head in ((True, "tied"), (False, "separate")):
            model = self.gpt2(tie_word_embeddings=tied)
            self.convert(self.path("model.safetensors"), "model.h5", *self.save(model))
            with h5py.File(self.path("model.h5")) as file:
                self.assertEqual(file.attrs["head"], head)
                weight = file["weights/embedding.weight" if tied else "weights/lm_head.weight"][()]
            np.testing.assert_array_equal(weight, model.lm_head.weight.detach().numpy())

    def test_what_gpt2_may_have_and_bsbr_has_not_is_refused(self):
        for says, more in [("add_cross_attention is True", dict(add_cross_attention=True)),
                           ("scale_attn_weights is False", dict(scale_attn_weights=False)),
                           ("scale_attn_by_inverse_layer_idx is True", dict(scale_attn_by_inverse_layer_idx=True)),
                           ("activation_function is 'relu'", dict(activation_function="relu"))]:
            arguments = self.save(self.gpt2(**more))
            self.assertIn(says, self.convert(self.path("model.safetensors"), "model.h5", *arguments, code=3))
        self.save(self.gpt2(add_cross_attention=True))
        said = self.convert(self.path("model.safetensors"), "model.h5", "--from", "gpt2", "--num-heads", 4, code=3)
        self.assertIn("transformer.h.*.crossattention.c_attn.weight (3)", said)


# ---- files of torch.save with odd things in them --------------------------------------------------------------------------------------


def nested():
    return torch.nested.nested_tensor([torch.ones(3), torch.ones(4)])


def torch_refuses(tensor):
    """Whether PyTorch takes it for more than a tensor in a file of weights, as 2.15 does with nested ones."""
    file = io.BytesIO()
    torch.save(tensor, file)
    file.seek(0)
    try:
        torch.load(file, weights_only=True)
    except pickle.UnpicklingError:
        return True
    return False


class Odd(Weights):
    """The tool in this process, since loading PyTorch takes the most time."""

    def tool(self, content, *arguments, name="weights.pt"):
        torch.save(content, self.path(name))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command.main([self.path(name), self.path("model.h5"), "--from", "bsbr", "--num-heads", "4", "--chunk-size", "16", *arguments])
        return code, out.getvalue(), err.getvalue()

    def tensors(self, **more):
        return {**bsbr.BSBRModel(**SIZES, chunk_size=16).state_dict(), **more}

    def check_refused(self, code, err, name):
        """What PyTorch does not unpickle is named, with a hint."""
        self.assertEqual((code, len(err.splitlines())), (3, 2), err)
        self.assertIn(f"holds more than tensors: {name} (", err)
        self.assertIn("hint: torch.save(model.state_dict(), FILE)", err)

    def test_tensors_that_are_no_weights_are_named(self):
        bias, matrix = "layer_norm.bias", "layers.0.attention.q_proj.weight"
        square = torch.eye(SIZES["hidden_dim"])
        for name, tensor, says in [
                (bias, torch.ones(48, device="meta"), "has no elements: it is on the device meta"),
                (matrix, square.to_sparse(), "is sparse_coo"), (matrix, square.to_sparse_csr(), "is sparse_csr"),
                (bias, nested(), "is [], the configuration needs [48]"), (bias, torch.ones(48, dtype=torch.complex64), "is of complex64"),
                (bias, torch.ones(48, dtype=torch.int64), "is of int64"), (bias, torch.ones(48, dtype=torch.bool), "is of bool"),
                (bias, torch.ones(48).to(torch.float8_e4m3fn), "is of float8_e4m3fn"), (bias, torch.tensor(1.0), "is [], the conf"),
                (bias, torch.quantize_per_tensor(torch.ones(48), 0.1, 0, torch.quint8), "is of quint8"),
                (bias, torch.ones(1).expand(2**45), "is [35184372088832], the configuration needs [48]"),
                (bias, torch.full((48,), float("nan")), "[0] is nan")]:
            with self.subTest(says):
                code, _, err = self.tool(self.tensors(**{name: tensor}))
                if torch_refuses(tensor):
                    self.check_refused(code, err, name)
                    continue
                self.assertEqual((code, len(err.splitlines())), (3, 1), err)
                self.assertIn(f"{name} {says}", err)
        code, _, err = self.tool({name: tensor.to("meta") for name, tensor in self.tensors().items()})
        self.assertEqual((code, err), (3, f"convert_weights.py: error: {self.path('weights.pt')}: embedding.weight has no elements: it is on "
                                          "the device meta\n"))
        self.assertFalse(os.path.exists(self.path("model.h5")))

    def test_unused_tensors_may_be_anything(self):
        for tensor in (nested(), torch.ones(3, device="meta"), torch.eye(3).to_sparse(), torch.ones(1).expand(2**45)):
            code, out, err = self.tool(self.tensors(extra=tensor), "--allow-unused")
            if torch_refuses(tensor):
                self.check_refused(code, err, "extra")
                continue
            self.assertEqual((code, err), (0, ""))
            self.assertIn("unused: extra", out)

    def test_what_trainers_save_beside_the_tensors_is_left_alone(self):
        for content, beside in [({"model": self.tensors(), "best_val_loss": np.float64(1.5), "step": np.int64(3)}, "best_val_loss, step"),
                                ({"module": self.tensors(), "ds_config": {"a": [1]}, "step": torch.tensor(3)}, "ds_config, step"),
                                ({"weights": self.tensors(), "epoch": 3}, "epoch"), (self.tensors(name="x"), "name")]:
            code, out, err = self.tool(content)
            self.assertEqual((code, err), (0, ""))
            self.assertIn(f"beside the tensors, not looked at: {beside}", out)

    def test_what_is_not_unpickled_is_named(self):
        for content, says in [({"model": self.tensors(), "args": argparse.Namespace()}, "holds more than tensors: args (argparse.Namespace)"),
                              ({"x": np.ones(3)}, "holds more than tensors: x (numpy"), (torch.nn.Linear(2, 2), "torch.nn.modules.linear."),
                              ({"one": self.tensors(), "two": self.tensors()}, "holds tensors by name as each of one, two"),
                              (torch.ones(3), "holds no tensors by name"), (None, "holds no tensors by name")]:
            code, _, err = self.tool(content)
            self.assertEqual(code, 3, err)
            self.assertIn(says, err)
        torch.jit.script(torch.nn.Linear(2, 2)).save(self.path("script.pt"))
        content = io.BytesIO()
        torch.save(self.tensors(), content)
        for name, data in [("half.pt", content.getvalue()[:len(content.getvalue()) // 2]), ("start.pt", content.getvalue()[:30]),
                           ("pickle.pt", b"\x80\x02."), ("plain.pt", pickle.dumps({"a": 1}))]:
            with open(self.path(name), "wb") as file:
                file.write(data)
        for name in ("script.pt", "half.pt", "start.pt", "pickle.pt", "plain.pt"):
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                self.assertEqual(command.main([self.path(name), self.path("model.h5"), "--from", "bsbr"]), 3, name)
            self.assertNotIn("Traceback", err.getvalue())


if __name__ == "__main__":
    print(", ".join(f"{library.__name__} {library.__version__}" for library in (torch, transformers, safetensors, h5py)))
    unittest.main(verbosity=2)
