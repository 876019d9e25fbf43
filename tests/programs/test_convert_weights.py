"""tools/convert_weights.py from outside: model files of crafted checkpoints, safetensors of model files, and what is said of bad input.

Real models of PyTorch are in tests/weights, since they need packages that Debian does not have; here safetensors are made by hand.
"""
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import types
import unittest

import h5py
import numpy as np
from programs import ARCHITECTURES, FIELDS, OWN_FIELDS, Case, hidden_states, ids_file, init_options, run

HERE = os.path.dirname(os.path.abspath(__file__))
TOOL = os.path.join(HERE, "..", "..", "tools", "convert_weights.py")
GOLDEN = os.path.join(HERE, "..", "golden")
PROGRAM = "convert_weights.py"
NO_PACKAGE, USAGE, FILE, OUTPUT = 1, 2, 3, 6

from bsbr_convert import command, model_config  # noqa: E402

QKV = ("q_proj", "k_proj", "v_proj")
D, LAYERS, HEADS, VOCABULARY, FF = 12, 2, 3, 10, 20
TYPES = {"float32": "F32", "float64": "F64", "float16": "F16", "bool": "BOOL", "int64": "I64", "uint8": "U8"}


def convert(*arguments):
    """The tool without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.main([str(argument) for argument in arguments])
    return types.SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def convert_outside(*arguments, before=None, **environment):
    done = subprocess.run([sys.executable, "-B", TOOL, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, timeout=60,
                          env={**os.environ, **environment}, preexec_fn=before)
    return types.SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())


def safetensors(tensors, changes=None, length=0, metadata=None):
    """The bytes of such a file.  `changes` are entries of the header as they must not be; the header is at least so long."""
    header, data = {}, b""
    for name, array in tensors.items():
        kind, array = ("BF16", array[1]) if isinstance(array, tuple) else (TYPES[array.dtype.name], array)
        header[name] = dict(dtype=kind, shape=list(array.shape), data_offsets=[len(data), len(data) + array.nbytes])
        data += np.ascontiguousarray(array).tobytes()
    header.update(changes or {})
    if metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode().ljust(length)
    return len(text).to_bytes(8, "little") + text + data


def bfloat16(array):
    """What a bfloat16 holds of it: as float32, and as it is stored."""
    stored = (array.astype("f4").view("u4") >> 16).astype("u2")
    return (stored.astype("u4") << 16).view("f4"), stored


def random(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype("f4")


def package_tensors(layers=LAYERS, prefix="", **more):
    """The state_dict of a bsbr of the Python package."""
    shapes = {"embedding.weight": (VOCABULARY, D), "layer_norm.weight": (D,), "layer_norm.bias": (D,)}
    for index in range(layers):
        for name, out, into in [*((f"attention.{one}_proj", D, D) for one in ("q", "k", "v", "meta_r", "meta_h", "out")),
                                ("ff.0", FF, D), ("ff.3", D, FF)]:
            shapes.update({f"layers.{index}.{name}.weight": (out, into), f"layers.{index}.{name}.bias": (out,)})
        shapes.update({f"layers.{index}.layer_norm{one}.{kind}": (D,) for one in (1, 2) for kind in ("weight", "bias")})
    draw = np.random.default_rng(3)
    return {prefix + name: array for name, array in {**{name: draw.normal(size=shape).astype("f4") for name, shape in shapes.items()},
                                                     "pos_encoding.pe": sinusoids(50), **more}.items()}


def sinusoids(length):
    angle = np.arange(length)[:, None] / 10000 ** (2 * (np.arange(D) // 2) / D)
    return np.where(np.arange(D) % 2, np.cos(angle), np.sin(angle)).astype("f4")[None]


def gpt2_tensors(layers=LAYERS, prefix="", **more):
    """A GPT-2 as old versions of transformers saved it, with buffers."""
    draw = np.random.default_rng(4)
    tensors = {"wte.weight": (VOCABULARY, D), "wpe.weight": (16, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
    for index in range(layers):
        for name, into, out in [("attn.c_attn", D, 3 * D), ("attn.c_proj", D, D), ("mlp.c_fc", D, FF), ("mlp.c_proj", FF, D)]:
            tensors.update({f"h.{index}.{name}.weight": (into, out), f"h.{index}.{name}.bias": (out,)})
        tensors.update({f"h.{index}.ln_{one}.{kind}": (D,) for one in (1, 2) for kind in ("weight", "bias")})
    arrays = {name: draw.normal(size=shape).astype("f4") for name, shape in tensors.items()}
    for index in range(layers):
        arrays[f"h.{index}.attn.bias"] = np.tril(np.ones((1, 1, 16, 16), "u1"))
        arrays[f"h.{index}.attn.masked_bias"] = np.array(-1e4, "f4")
    return {prefix + name: array for name, array in {**arrays, **more}.items()}


def without(tensors, *names):
    return {name: array for name, array in tensors.items() if name not in names}


class Convert(Case):
    def file(self, content, name="in.safetensors"):
        """A file of these tensors, this JSON, or these bytes."""
        if isinstance(content, dict) and not all(isinstance(value, (np.ndarray, tuple)) for value in content.values()):
            content = json.dumps(content).encode()
        with open(self.path(name), "wb") as file:
            file.write(safetensors(content) if isinstance(content, dict) else content)
        return self.path(name)

    def converted(self, content, *arguments, output="out.h5"):
        """Converts it -> what was said; weights and attributes are in self.weights, self.attributes."""
        done = convert(self.file(content), self.path(output), *arguments)
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".part")], [])
        with h5py.File(self.path(output)) as file:
            self.weights = {name: item[()] for name, item in file["weights"].items()}
            self.attributes = dict(file.attrs)
        return done.out

    def package(self, content=None, *arguments):
        return self.converted(content or package_tensors(), "--from", "bsbr", "--num-heads", HEADS, "--chunk-size", 4, *arguments)

    def gpt2(self, content=None, *arguments):
        return self.converted(content or gpt2_tensors(), "--from", "gpt2", "--num-heads", HEADS, *arguments)

    def refused(self, done, code, says):
        self.check_failure(done, PROGRAM, code, says)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("out.")], [])


# ---- what becomes of which tensor -----------------------------------------------------------------------------------------------------


class Tensors(Convert):
    def test_the_table_of_weights_and_the_attributes_are_those_of_bsbr_init(self):
        cases = [(name, {}) for name in OWN_FIELDS] + [("bsbr", dict(compression_factor=3)), ("gau", dict(expansion_factor=2))]
        cases += [("linear", dict(head=head)) for head in FIELDS["head"].choices]
        cases += [("bsbr", dict(null_chunk=1)), ("bsbr", dict(retrieval_gate=1, compression_factor=3))]
        for architecture, changes in cases:
            with self.subTest(architecture, **changes), h5py.File(self.model(architecture=architecture, **changes)) as file:
                attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
                fields = {field.name: attributes.pop(field.name) for field in model_config.fields_of(architecture)}
                self.assertEqual(attributes, dict(format="bsbr-model", format_version=1))
                self.assertEqual({name: weight.shape for name, weight in model_config.weight_table(fields).items()},
                                 {name: item.shape for name, item in file["weights"].items()})

    def test_defaults_are_those_of_bsbr_init(self):
        for architecture in OWN_FIELDS:
            fields = dict(architecture=architecture, vocab_size=8, hidden_dim=4, num_layers=1, num_heads=1, ff_dim=4)
            options = init_options(fields)
            done = run("bsbr_init", "--output", self.path("model.h5"), *options)
            self.assertEqual(done.code, 0, done.err)
            with h5py.File(self.path("model.h5")) as file:
                for field in model_config.fields_of(architecture):
                    if field.name not in fields:
                        self.assertEqual(file.attrs[field.name], field.default, field.name)

    def test_golden_models_come_through_and_give_their_expected_outputs(self):
        for case, causality in [("bsbr_c2_ragged", "reference"), ("bsbr_ragged", "causal"), ("gau_ragged", None),
                                ("hopfield_ragged", None)]:
            with self.subTest(case), h5py.File(os.path.join(GOLDEN, case + ".h5")) as golden:
                tensors = {"module." + name: item[()] for name, item in golden["weights"].items()}
                fields = {name: value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
                          for name, value in golden.attrs.items()}
                needed = ("architecture", "num_heads", "chunk_size", "temperature")
                options = init_options({name: value for name, value in fields.items() if name in needed})
                self.converted(tensors, "--from", "bsbr", *options, *([] if causality is None else ["--causality", causality]))
                expected = golden["expected"] if causality is None else golden["expected"][causality]
                ids_file(self.path("ids.h5"), golden["inputs"]["input_ids"][()])
                self.forward("--model", self.path("out.h5"), "--input", self.path("ids.h5"), "--output", self.path("result.h5"),
                             "--precision", "double", "--quiet")
                self.assertLess(np.abs(hidden_states(self.path("result.h5")) - expected["hidden_states"][()]).max(), 1e-10)

    def test_the_package_keeps_its_tensors_and_its_causality(self):
        tensors = package_tensors()
        told = self.package(tensors)
        self.assertEqual(set(self.weights), set(tensors) - {"pos_encoding.pe"})
        for name, array in self.weights.items():
            np.testing.assert_array_equal(array, tensors[name])
        self.assertEqual(self.attributes, dict(
            format="bsbr-model", format_version=1, architecture="bsbr", vocab_size=VOCABULARY, hidden_dim=D, num_layers=LAYERS,
            num_heads=HEADS, ff_dim=FF, chunk_size=4, dropout=0, head="none", compression_factor=0, causality="reference", state_scale="sum",
            null_chunk=0, retrieval_gate=0, router_key="last"))
        self.assertIn("dropped: pos_encoding.pe: sinusoidal positions", told)

    def test_gpt2_is_split_turned_and_averaged(self):
        tensors = gpt2_tensors()
        for prefix in ("", "transformer.", "module.transformer."):
            told = self.gpt2({prefix + name: array for name, array in tensors.items()})
            self.check_gpt2(tensors)
            self.assertIn(f"dropped: {prefix}h.*.attn.bias (2), {prefix}h.*.attn.masked_bias (2): causal mask", told)
            self.assertIn(f"dropped: {prefix}wpe.weight: learned positions", told)
        self.assertEqual((self.attributes["causality"], self.attributes["chunk_size"]), ("causal", 128))

    def check_gpt2(self, tensors):
        w, same = self.weights, np.testing.assert_array_equal
        same(w["embedding.weight"], tensors["wte.weight"])
        same(w["layer_norm.bias"], tensors["ln_f.bias"])
        for i in range(LAYERS):
            source, layer = f"h.{i}.", f"layers.{i}."
            q, k, v = (tensors[source + "attn.c_attn.weight"][:, part * D:(part + 1) * D].T for part in range(3))
            q_bias, k_bias, v_bias = np.split(tensors[source + "attn.c_attn.bias"], 3)
            for name, weight, bias in [("q", q, q_bias), ("k", k, k_bias), ("v", v, v_bias), ("meta_r", (q + k) / 2, (q_bias + k_bias) / 2),
                                       ("meta_h", (k + v) / 2, (k_bias + v_bias) / 2)]:
                same(w[f"{layer}attention.{name}_proj.weight"], weight)
                same(w[f"{layer}attention.{name}_proj.bias"], bias)
            for name, other in [("attention.out_proj", "attn.c_proj"), ("ff.0", "mlp.c_fc"), ("ff.3", "mlp.c_proj"),
                                ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2")]:
                same(w[f"{layer}{name}.weight"], tensors[f"{source}{other}.weight"].T)
                same(w[f"{layer}{name}.bias"], tensors[f"{source}{other}.bias"])
        self.assertEqual(len(w), 3 + LAYERS * 20)

    def test_gpt2_becomes_the_other_architectures_of_q_k_and_v(self):
        for architecture in [name for name, one in ARCHITECTURES.items() if (*one.token_projections, *one.chunk_projections) == QKV]:
            self.gpt2(None, "--architecture", architecture)
            self.assertEqual((self.attributes["architecture"], len(self.weights)), (architecture, 3 + LAYERS * 16))
            self.forward("--model", self.path("out.h5"), "--random-tokens", 20, "--quiet")

    def test_gpt2_has_its_configuration_in_config_json(self):
        told = self.converted(gpt2_tensors(), "--from", "gpt2", "--config", self.file(dict(
            model_type="gpt2", n_head=4, n_embd=D, n_layer=LAYERS, n_inner=FF, vocab_size=VOCABULARY, resid_pdrop=0.25,
            temperature=0.7,  # of sampling, not of hopfield
            activation_function="gelu_new", layer_norm_epsilon=1e-6, unknown=[1]), "config.json"))
        self.assertEqual((self.attributes["num_heads"], self.attributes["dropout"]), (4, 0.25))
        self.assertIn("approximate: activation_function is gelu_new", told)
        self.assertIn("approximate: layer_norm_epsilon is 1e-06", told)

    def test_gpt2_has_a_tied_head_unless_its_output_layer_is_another(self):
        tensors = gpt2_tensors(prefix="transformer.")
        tied = dict(tensors, **{"lm_head.weight": tensors["transformer.wte.weight"]})
        for content in (gpt2_tensors(), tensors, tied):
            told = self.gpt2(content)
            self.assertEqual(("lm_head.weight" in self.weights, self.attributes["head"]), (False, "tied"))
            self.assertEqual("dropped: lm_head.weight: output layer, the same elements" in told, content is tied)
        self.gpt2(None, "--head", "separate")  # training may start so
        np.testing.assert_array_equal(self.weights["lm_head.weight"], self.weights["embedding.weight"])
        own = random(VOCABULARY, D)
        turned = {name: array.T if ".attn.c_" in name or ".mlp." in name else array for name, array in tensors.items()}
        for prefix in ("", "module."):
            for kind, content in (("gpt2", tensors), ("nanogpt", turned)):
                content = {prefix + name: array for name, array in {**content, "lm_head.weight": own}.items()}
                told = self.converted(content, "--from", kind, "--num-heads", HEADS)
                self.assertEqual(self.attributes["head"], "separate")
                np.testing.assert_array_equal(self.weights["lm_head.weight"], own)
                self.assertNotIn("lm_head", told)

    def test_an_output_layer_is_left_out_only_if_that_is_allowed(self):
        own = gpt2_tensors(**{"lm_head.weight": random(VOCABULARY, D)})
        for head in ("none", "tied"):
            arguments = ["--from", "gpt2", "--num-heads", HEADS, "--head", head]
            self.refused(convert(self.file(own), self.path("out.h5"), *arguments), FILE, "no use for lm_head.weight")
            self.assertIn("unused: lm_head.weight", self.converted(own, *arguments, "--allow-unused"))
            self.assertEqual((self.attributes["head"], "lm_head.weight" in self.weights), (head, False))
            os.remove(self.path("out.h5"))
        self.gpt2(None, "--head", "none")
        self.assertEqual(self.attributes["head"], "none")

    def test_a_converted_gpt2_is_evaluated_and_said_to_need_training(self):
        for architecture, others in (("bsbr", "attention and positions are"), ("standard", "positions are")):
            told = self.gpt2(None, "--architecture", architecture)
            self.assertIn(f"note: not a language model until it is trained on (bsbr_train): its {others} others", told)
        ids = np.arange(40) * 7 % VOCABULARY
        done = run("bsbr_evaluate", "--model", self.path("out.h5"), "--input", ids_file(self.path("ids.h5"), ids), "--json", "-")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertEqual(json.loads(done.out)["counted"], len(ids) - 1)

    def test_options_count_before_config_and_config_before_defaults(self):
        fields = self.file(dict(num_heads=4, chunk_size=5, causality="bidirectional", compression_factor=None), "config.json")
        self.converted(package_tensors(), "--from", "bsbr", "--config", fields, "--num-heads", 2)
        self.assertEqual([self.attributes[name] for name in ("num_heads", "chunk_size", "causality")], [2, 5, "bidirectional"])

    def test_compressed_states_tell_factor_and_heads(self):
        more = {}
        for i in range(LAYERS):  # heads of width 4; 12 / 5 = 2 numbers
            for name, out, into in (("compress", 2, 16), ("decompress", 16, 2)):
                linear = f"layers.{i}.attention.{name}_proj"
                more.update({linear + ".weight": random(out, into), linear + ".bias": random(out)})
        self.converted(package_tensors(**more), "--from", "bsbr", "--chunk-size", 4)
        self.assertEqual((self.attributes["num_heads"], D // self.attributes["compression_factor"]), (3, 2))
        self.forward("--model", self.path("out.h5"), "--random-tokens", 20, "--quiet")
        self.converted(package_tensors(**more), "--from", "bsbr", "--chunk-size", 4, "--compression-factor", 5)
        self.assertEqual(self.attributes["compression_factor"], 5)

    def test_missing_weights_are_drawn_if_that_is_allowed(self):
        arguments = ["--from", "gpt2", "--num-heads", HEADS, "--compression-factor", 2]
        done = convert(self.file(gpt2_tensors()), self.path("out.h5"), *arguments)
        self.refused(done, FILE, ["lacks layers.*.attention.compress_proj.bias (2)", "layers.*.attention.decompress_proj.weight (2)"])
        told = self.converted(gpt2_tensors(), *arguments, "--allow-missing", "--seed", 5)
        self.assertIn("drawn at random, since they are missing: layers.*.attention.compress_proj.bias (2)", told)
        first, bound = self.weights["layers.1.attention.compress_proj.weight"], 1 / np.sqrt(16)
        self.assertLessEqual(np.abs(first).max(), bound)
        self.assertGreater(np.abs(first).max(), 0.8 * bound)
        self.converted(gpt2_tensors(), *arguments, "--allow-missing", "--seed", 5)
        np.testing.assert_array_equal(first, self.weights["layers.1.attention.compress_proj.weight"])
        self.converted(gpt2_tensors(), *arguments, "--allow-missing", "--seed", 6)
        self.assertTrue((first != self.weights["layers.1.attention.compress_proj.weight"]).all())
        self.forward("--model", self.path("out.h5"), "--random-tokens", 20, "--quiet")

    def test_precisions_are_kept_and_halves_become_float(self):
        tensors = package_tensors()
        for name, change in (("layer_norm.bias", lambda array: array.astype("f8")), ("embedding.weight", lambda array: array.astype("f2")),
                             ("layers.0.ff.0.weight", bfloat16)):
            tensors[name] = change(tensors[name])
        self.package(tensors)
        self.assertEqual([name for name, array in self.weights.items() if array.dtype == "f8"], ["layer_norm.bias"])
        np.testing.assert_array_equal(self.weights["embedding.weight"], tensors["embedding.weight"].astype("f4"))
        np.testing.assert_array_equal(self.weights["layers.0.ff.0.weight"], tensors["layers.0.ff.0.weight"][0])


# ---- files ----------------------------------------------------------------------------------------------------------------------------


class Wrapped(Convert):
    def test_what_wrapping_modules_put_into_names_is_left_out(self):
        for prefix, infix in [("module.", ""), ("_orig_mod.", ""), ("", "_checkpoint_wrapped_module."),
                              ("module._orig_mod.net.", "_fsdp_wrapped_module._checkpoint_wrapped_module.")]:
            plain = package_tensors()
            tensors = {prefix + name.replace(".0.", f".0.{infix}"): array for name, array in plain.items()}
            told = self.package(tensors)
            self.assertEqual(set(self.weights), set(plain) - {"pos_encoding.pe"})
            for name, array in self.weights.items():
                np.testing.assert_array_equal(array, plain[name])
            self.assertIn(f"dropped: {prefix}pos_encoding.pe", told)

    def test_nanogpt_is_gpt2_with_matrices_turned_round(self):
        tensors = {name: array for name, array in gpt2_tensors().items() if not name.endswith(("attn.bias", "attn.masked_bias"))
                   or name.endswith("c_attn.bias")}
        turned = {name: array.T.copy() if ".attn." in name or ".mlp." in name else array for name, array in tensors.items()}
        self.gpt2(tensors)
        expected = self.weights
        prefix = "_orig_mod.transformer."
        nano = {prefix + name: array for name, array in turned.items()}
        nano["_orig_mod.lm_head.weight"] = tensors["wte.weight"]
        told = self.converted(nano, "--from", "nanogpt", "--num-heads", HEADS)
        self.assertIn("dropped: _orig_mod.lm_head.weight", told)
        self.assertEqual(set(self.weights), set(expected))
        for name, array in self.weights.items():
            np.testing.assert_array_equal(array, expected[name], name)
        # Without biases: those of a model file are zeros.
        self.converted({name: array for name, array in nano.items() if not name.endswith(".bias")}, "--from", "nanogpt",
                       "--num-heads", HEADS)
        for name, array in self.weights.items():
            np.testing.assert_array_equal(array, expected[name] if name.endswith("weight") else np.zeros_like(array), name)

    def test_a_tensor_of_an_odd_type_is_an_error_only_if_it_is_used(self):
        bits = {"F4": 4, "F6_E2M3": 6, "F8_E8M0": 8, "NEWTYPE": 24}
        plain = safetensors(package_tensors())
        length = int.from_bytes(plain[:8], "little")
        header, data = json.loads(plain[8:8 + length]), plain[8 + length:]
        for kind, size in bits.items():
            odd = dict(dtype=kind, shape=[8], data_offsets=[len(data), len(data) + size])
            text = json.dumps({**header, "scale": odd}).encode()
            content = len(text).to_bytes(8, "little") + text + data + bytes(size)
            self.refused(convert(self.file(content), self.path("out.h5"), *PACKAGE), FILE, "no use for scale")
            self.assertIn("unused: scale", self.package(content, "--allow-unused"))
            os.remove(self.path("out.h5"))
        text = json.dumps({**header, "scale": dict(dtype="F4", shape=[8], data_offsets=[len(data), len(data) + 5])}).encode()
        content = len(text).to_bytes(8, "little") + text + data + bytes(5)
        self.refused(convert(self.file(content), self.path("out.h5"), *PACKAGE), FILE, "scale is [8] of F4 in 5 bytes, must be 4")

    def test_whole_numbers_may_be_stored_as_reals(self):
        fields = self.file(dict(num_heads=3.0, chunk_size=4.0), "config.json")
        self.converted(package_tensors(), "--from", "bsbr", "--config", fields)
        self.assertEqual([self.attributes[name] for name in ("num_heads", "chunk_size")], [3, 4])


class Files(Convert):
    def test_a_model_file_becomes_safetensors_and_comes_back_without_options(self):
        for architecture in OWN_FIELDS:
            model = self.model(architecture=architecture)
            done = convert(model, self.path("back.safetensors"))
            self.assertEqual((done.code, done.err), (0, ""))
            done = convert(self.path("back.safetensors"), self.path("again.h5"), "--from", "bsbr")
            self.assertEqual((done.code, done.err), (0, ""), done.err)
            with h5py.File(model) as one, h5py.File(self.path("again.h5")) as other:
                self.assertEqual(dict(one.attrs), dict(other.attrs))
                self.assertEqual(set(one["weights"]), set(other["weights"]))
                for name, item in one["weights"].items():
                    np.testing.assert_array_equal(item[()], other["weights"][name][()])

    def test_what_is_written_is_the_format_of_safetensors(self):
        model = self.model(num_layers=1)
        with h5py.File(model, "a") as file:  # one weight in double, so that the order matters for alignment
            bias = file["weights/layer_norm.bias"][()].astype("f8") + 0.1
            del file["weights/layer_norm.bias"]
            file["weights/layer_norm.bias"] = bias
        self.assertEqual(convert(model, self.path("back.safetensors")).code, 0)
        with open(self.path("back.safetensors"), "rb") as file:
            content = file.read()
        length = int.from_bytes(content[:8], "little")
        header, numbers = json.loads(content[8:8 + length]), content[8 + length:]
        self.assertEqual(header.pop("__metadata__")["format"], "pt")
        self.assertEqual((length % 8, max(entry["data_offsets"][1] for entry in header.values())), (0, len(numbers)))
        with h5py.File(model) as file:
            self.assertEqual(set(header), set(file["weights"]))
            for name, item in file["weights"].items():
                begin, end = header[name]["data_offsets"]
                self.assertEqual(begin % item.dtype.itemsize, 0)
                stored = np.frombuffer(numbers[begin:end], {"F32": "<f4", "F64": "<f8"}[header[name]["dtype"]])
                np.testing.assert_array_equal(stored.reshape(header[name]["shape"]), item[()])
                self.assertEqual(stored.dtype, item.dtype)

    def test_a_header_whose_length_looks_like_a_pickle_is_no_pickle(self):
        content = safetensors(package_tensors(), length=0x12280)
        self.assertEqual(content[:2], b"\x80\x22")
        self.package(content)

    def test_a_model_in_several_files_is_read_by_its_index(self):
        tensors = package_tensors()
        names = sorted(tensors)
        parts = {"one": names[::2], "two": names[1::2]}
        for part, those in parts.items():
            self.file({name: tensors[name] for name in those}, part)
        places = {name: part for part, those in parts.items() for name in those}
        self.package(json.dumps(dict(metadata={}, weight_map=places)).encode())
        for name, array in self.weights.items():
            np.testing.assert_array_equal(array, tensors[name])

    def test_an_index_that_is_not_true_is_refused(self):
        first, second = {"a": random(2), "b": random(3)}, {"c": random(4)}
        self.file(first, "one")
        self.file(second, "two")
        places = {"a": "one", "b": "one", "c": "two"}
        for says, changed in [("names the file '../one', must be one in the same folder", {**places, "a": "../one"}),
                              ("says that d is in two, which does not have it", {**places, "d": "two"}),
                              ("does not say that b is in one", {"a": "one", "c": "two"}),
                              ("three: there is no such file", {**places, "d": "three"})]:
            done = convert(self.file(json.dumps(dict(weight_map=changed)).encode()), self.path("out.h5"), "--from", "bsbr")
            self.refused(done, FILE, says)

    def test_what_was_there_is_replaced_only_by_what_is_whole(self):
        self.text("out.h5", b"old")
        arguments = [self.path("out.h5"), "--from", "bsbr", "--num-heads", HEADS, "--chunk-size", 4]
        broken = package_tensors()
        broken["layers.1.ff.3.weight"][3, 2] = np.nan  # found while the others are written already
        done = convert(self.file(broken), *arguments)
        self.check_failure(done, PROGRAM, FILE, "layers.1.ff.3.weight [3, 2] is nan, weights are finite numbers")
        with open(self.path("out.h5"), "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(sorted(os.listdir(self.folder)), ["in.safetensors", "out.h5"])
        self.package()

    def test_where_nothing_can_be_written_nothing_is_left(self):
        source = self.file(package_tensors())
        arguments = ["--from", "bsbr", "--num-heads", HEADS, "--chunk-size", 4]
        os.mkdir(self.path("folder"))
        os.link(source, self.path("same"))
        for name, says in [("folder", "is there and is not a file"), ("no/out.h5", "No such file"), ("same", "is the input")]:
            self.check_failure(convert(source, self.path(name), *arguments), PROGRAM, OUTPUT, [self.path(name), says])
        self.assertEqual(sorted(os.listdir(self.folder)), ["folder", "in.safetensors", "same"])

    def test_files_of_others_are_left_alone(self):
        source = self.file(package_tensors())
        arguments = ["--from", "bsbr", "--num-heads", HEADS, "--chunk-size", 4]
        os.mkdir(self.path("folder"))
        self.text("folder.part", b"others' bytes")
        self.assertEqual(convert(source, self.path("folder"), *arguments).code, OUTPUT)
        os.rename(source, self.path("out.h5.part"))
        self.check_failure(convert(self.path("out.h5.part"), self.path("out.h5"), *arguments), PROGRAM, OUTPUT, "is the input")
        os.remove(self.path("out.h5.part"))
        os.rename(self.path("folder.part"), self.path("victim"))
        os.symlink("victim", self.path("out.h5.part"))
        self.package()
        with open(self.path("victim"), "rb") as file:
            self.assertEqual(file.read(), b"others' bytes")

    def test_an_output_that_is_a_link_is_followed(self):
        os.mkdir(self.path("elsewhere"))
        os.symlink(os.path.join("elsewhere", "real.h5"), self.path("out.h5"))
        for _ in ("not there yet", "there"):
            self.package()
            self.assertTrue(os.path.islink(self.path("out.h5")))
            self.assertEqual(os.listdir(self.path("elsewhere")), ["real.h5"])

    def test_a_full_disk_leaves_nothing(self):
        def little():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

        arguments = ["--from", "bsbr", "--num-heads", HEADS, "--chunk-size", 4]
        source = self.file(package_tensors())
        self.refused(convert_outside(source, self.path("out.h5"), *arguments, before=little), OUTPUT, "cannot be written")
        model = self.model()
        self.refused(convert_outside(model, self.path("out.safetensors"), before=little), OUTPUT, "cannot be written")

    def test_a_folder_of_save_pretrained_is_taken_with_its_configuration(self):
        os.mkdir(self.path("gpt2"))
        self.file(gpt2_tensors(), os.path.join("gpt2", "model.safetensors"))
        config = self.file(b"\xef\xbb\xbf" + json.dumps(dict(n_head=4)).encode(), os.path.join("gpt2", "config.json"))  # with a mark
        done = convert(self.path("gpt2"), self.path("out.h5"), "--from", "gpt2")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn(f"configuration: {config}", done.out)
        with h5py.File(self.path("out.h5")) as file:
            self.assertEqual(file.attrs["num_heads"], 4)
        self.check_failure(convert(self.path("gpt2"), config, "--from", "gpt2"), PROGRAM, OUTPUT, f"is the input {config}")

    def test_the_tokenizer_of_a_checkpoint_is_passed_on(self):
        os.mkdir(self.path("gpt2"))
        source = self.file(gpt2_tensors(), os.path.join("gpt2", "model.safetensors"))
        told = convert(source, self.path("out.h5"), *GPT2).out
        self.assertIn(f"tokenizer: {self.path('gpt2')} has no tokenizer.json", told)
        tokenizer, copy = self.text("gpt2/tokenizer.json", b'{"version": "1.0"}'), self.path("out.tokenizer.json")
        for given in (source, self.path("gpt2")):
            done = convert(given, self.path("out.h5"), *GPT2)
            self.assertEqual((done.code, done.err), (0, ""))
            self.assertIn(f"tokenizer: {copy}, for tools/tokens.py", done.out)
            with open(copy, "rb") as file:
                self.assertEqual(file.read(), b'{"version": "1.0"}')
            os.remove(copy)
        self.check_failure(convert(source, tokenizer, *GPT2), PROGRAM, OUTPUT, f"is the input {tokenizer}")
        os.mkdir(copy)
        self.check_failure(convert(source, self.path("out.h5"), *GPT2), PROGRAM, OUTPUT, f"{copy}: cannot be written: is there and is not")

    def test_an_input_is_never_the_output(self):
        fields = self.file(dict(num_heads=3, chunk_size=4), "config.json")
        source = self.file(package_tensors())
        self.check_failure(convert(source, fields, "--from", "bsbr", "--config", fields), PROGRAM, OUTPUT, f"is the input {fields}")
        with open(fields) as file:
            self.assertEqual(json.load(file), dict(num_heads=3, chunk_size=4))

    def test_names_may_be_any_bytes_in_any_encoding(self):
        for name, encoding in (("d\xe9", "ascii"), ("d\udce9", "utf-8"), ("d\udce9", "ascii")):
            source, model = self.file(package_tensors(), name), self.path(name + ".h5")
            done = convert_outside(source, model, *PACKAGE, PYTHONIOENCODING=encoding)
            self.assertEqual((done.code, done.err), (0, ""))
            done = convert_outside(model, model + ".safetensors", PYTHONIOENCODING=encoding)
            self.assertEqual((done.code, done.err), (0, ""))
            self.assertTrue(os.path.exists(model + ".safetensors"))
            self.refused(convert_outside(source, self.path("out.h5"), "--from", "gpt2", PYTHONIOENCODING=encoding), FILE, "has no h.0")

    def test_a_standard_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-B", TOOL, self.file(package_tensors()), self.path("new.h5"), *PACKAGE], stdout=full,
                                  stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (OUTPUT, f"{PROGRAM}: error: standard output: cannot be written: No space left on "
                                                          "device\n"))

    def test_the_help_needs_no_packages(self):
        self.text("numpy.py", b"raise ImportError('No module named numpy')\n")
        done = convert_outside("--help", PYTHONPATH=self.folder, PYTHONIOENCODING="ascii")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn("--allow-unused", done.out)

    def test_the_hint_names_an_interpreter_that_has_the_packages(self):
        self.text("h5py.py", b"raise ImportError('No module named h5py')\n")
        os.mkdir(self.path("bin"))
        with open(self.path("bin/python3"), "w") as file:  # one that is not led astray
            file.write(f"#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} \"$@\"\n")
        os.chmod(self.path("bin/python3"), 0o755)
        environment = dict(PYTHONPATH=self.folder, PATH=self.path("bin"))
        done = convert_outside("x", self.path("out.h5"), "--from", "bsbr", **environment)
        self.refused(done, NO_PACKAGE, "No module named h5py")
        self.assertIn(f"hint: {self.path('bin/python3')} has them", done.err)

    def test_without_pytorch_it_says_so(self):
        self.text("torch.py", b"raise ImportError('No module named torch')\n")
        for start in (b"PK\x03\x04", b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."):
            done = convert_outside(self.text("weights.pt", start), self.path("out.h5"), "--from", "bsbr", PYTHONPATH=self.folder)
            self.refused(done, NO_PACKAGE, ["weights.pt", "PyTorch", "No module named torch"])

    def test_without_h5py_it_says_so(self):
        self.text("h5py.py", b"raise ImportError('No module named h5py')\n")
        self.refused(convert_outside("x", self.path("out.h5"), PYTHONPATH=self.folder), NO_PACKAGE, "No module named h5py")


# ---- what is refused ------------------------------------------------------------------------------------------------------------------

PACKAGE = ["--from", "bsbr", "--num-heads", "3", "--chunk-size", "4"]
GPT2 = ["--from", "gpt2", "--num-heads", "3"]


def entry(**changes):
    """A file of a package whose header says something else of one tensor."""
    tensors = package_tensors()
    whole = safetensors(tensors)
    header = json.loads(whole[8:8 + int.from_bytes(whole[:8], "little")])
    return safetensors(tensors, {"layer_norm.bias": {**header["layer_norm.bias"], **changes}})


def with_header(text):
    return len(text).to_bytes(8, "little") + text


# What is wrong -> (content, arguments, what the error line must hold)
BAD = {
    "empty": (b"", PACKAGE, "is empty"),
    "text": (b"once upon a time", PACKAGE, "is neither a file of PyTorch nor of safetensors"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", PACKAGE, "is a pointer of Git LFS"),
    "cut_off": (safetensors(package_tensors())[:-4], PACKAGE, "bytes of data, the header says"),
    "too_long": (safetensors(package_tensors()) + b"1234", PACKAGE, "bytes of data, the header says"),
    "header_too_long": ((2**40).to_bytes(8, "little") + b"{}", PACKAGE, "is neither a file of PyTorch nor of safetensors"),
    "header_no_json": (with_header(b"{]  "), PACKAGE, "its header is not JSON"),
    "header_deep": (with_header(b'{"a":' * 10**5), PACKAGE, "its header is not JSON"),
    "name_twice": (with_header(b'{"a": 1, "a": 2}'), PACKAGE, "a name is there twice"),
    "entry": (safetensors({}, {"a": 3}), PACKAGE, "a needs dtype, shape and two data_offsets"),
    "entry_type": (entry(dtype="F31"), PACKAGE, "layer_norm.bias holds F31, weights are F64"),
    "entry_no_type": (entry(dtype=3), PACKAGE, "layer_norm.bias has dtype '3', must be a name"),
    "entry_backwards": (entry(dtype="F31", data_offsets=[48, 0]), PACKAGE, "layer_norm.bias has a shape or offset that is no size"),
    "entry_integers": (entry(dtype="I32"), PACKAGE, "layer_norm.bias holds I32"),
    "entry_shape": (entry(shape=[13]), PACKAGE, "layer_norm.bias is [13] of F32 in 48 bytes, must be 52"),
    "entry_negative": (entry(shape=[-12, -1]), PACKAGE, "layer_norm.bias has a shape or offset that is no size"),
    "entry_huge": (entry(shape=[2**62, 2**62]), PACKAGE, "layer_norm.bias is"),
    "entry_overlap": (entry(data_offsets=[0, 48]), PACKAGE, "of the data, must be"),
    "no_tensors": (safetensors({}), PACKAGE, "has no layers.0.attention.q_proj.weight"),
    "index_empty": (b"{}", PACKAGE, "has no weight_map"),
    "index_no_json": (b"{", PACKAGE, "is not JSON"),
    "index_of_itself": (b'{"weight_map": {"a": "index_of_itself"}}', PACKAGE, "is neither a file of PyTorch nor of safetensors"),
    "embedding_of_one_axis": (package_tensors(**{"embedding.weight": random(3)}), PACKAGE, "embedding.weight is [3], must be a matrix"),
    "wrapped_twice": ({**package_tensors(), **package_tensors(prefix="module.")}, PACKAGE,
                      ["has both embedding.weight and module.embedding.weight"]),
    "gpt2_as_package": (gpt2_tensors(), PACKAGE, "has no layers.0.attention.q_proj.weight"),
    "package_as_gpt2": (package_tensors(), GPT2, "has no h.0.attn.c_attn.weight"),
    "two_models": ({**package_tensors(), **package_tensors(prefix="other.")}, PACKAGE, ["2 times", "'', 'other.'"]),
    "missing": (without(package_tensors(), "layers.1.ff.0.bias", "layer_norm.weight"), PACKAGE,
                "lacks layer_norm.weight, layers.1.ff.0.bias"),
    "missing_layer": ({name: array for name, array in package_tensors(3).items() if ".1." not in name}, PACKAGE,
                      "lacks layers.1.attention."),
    "unused": (package_tensors(extra=random(3)), PACKAGE, "the model has no use for extra"),
    "unused_odd": (package_tensors(**{"a\x1b[2J\ud800": random(3)}), PACKAGE, "the model has no use for a?[2J?"),
    "unused_layers": (package_tensors(4), [*PACKAGE, "--num-layers", "2"], "no use for layers.*.attention.k_proj.bias (2)"),
    "missing_and_unused": (without(package_tensors(head=random(3)), "layer_norm.bias"), PACKAGE,
                           "lacks layer_norm.bias; and has no use for head"),
    "outside_the_prefix": ({**package_tensors(prefix="net."), "head.weight": random(2, 2)}, PACKAGE, "no use for head.weight"),
    "other_positions": (package_tensors(**{"pos_encoding.pe": random(1, 50, D)}), PACKAGE, "no use for pos_encoding.pe"),
    "layer_number": (package_tensors(**{"layers.99999999.x": random(3)}), PACKAGE, "has a layer 99999999, and only"),
    "shape": (package_tensors(**{"layers.1.ff.0.weight": random(FF, D + 1)}), PACKAGE,
              "layers.1.ff.0.weight is [20, 13], the configuration needs [20, 12]"),
    "hidden_dim": (package_tensors(), [*PACKAGE, "--hidden-dim", "6"], ["is [", "the configuration needs"]),
    "gpt2_linear": (gpt2_tensors(**{"h.0.attn.c_attn.weight": random(3 * D, D)}), GPT2,
                    "h.0.attn.c_attn.weight is [36, 12]"),
    "nanogpt_turned": (gpt2_tensors(), ["--from", "nanogpt"], "h.0.attn.c_attn.weight is [12, 36]"),
    "near": ({name.replace("attn", "attention"): array for name, array in gpt2_tensors().items()}, GPT2,
             "has no h.0.attn.c_attn.weight"),
    "missing_teller": (without(package_tensors(), "layers.0.ff.0.weight", "layer_norm.bias"), PACKAGE,
                       "lacks layer_norm.bias, layers.0.ff.0.weight"),
    "gpt2_missing": (without(gpt2_tensors(), "h.1.attn.c_attn.bias"), GPT2, "lacks h.1.attn.c_attn.bias"),
    "gpt2_cross": (gpt2_tensors(**{"h.0.crossattention.c_attn.bias": random(3)}), GPT2, "no use for h.0.crossattention.c_attn.bias"),
    "gpt2_bias": (gpt2_tensors(**{"h.0.attn.bias": random(D)}), GPT2, "no use for h.0.attn.bias"),
    "gpt2_to_gau": (gpt2_tensors(), ["--from", "gpt2", "--architecture", "gau"], "lacks layers.*.attention.gate_proj.bias (2)"),
    "infinite": (package_tensors(**{"layer_norm.bias": np.full(D, np.inf, "f4")}), PACKAGE,
                 "layer_norm.bias [0] is inf, weights are finite"),
    "some-00001-of-00002.safetensors": (without(package_tensors(), *(name for name in package_tensors() if ".ff." in name)), PACKAGE,
                                        ["lacks layers.*.ff.0.bias (2)", "layers.*.ff.3.weight (2)"]),
    "last-00002-of-00002.safetensors": ({"layer_norm.bias": random(D)}, PACKAGE, "has no layers.0.attention.q_proj.weight"),
    "metadata": (safetensors(package_tensors(), metadata=dict(bsbr_config="[")), PACKAGE,
                 "its metadata bsbr_config is not an object in JSON"),
    "metadata_field": (safetensors(package_tensors(), metadata=dict(bsbr_config='{"ff_dim": 0}')), PACKAGE,
                       "ff_dim in the metadata: 0, must be from 1"),
}

# Of those above, what the hint must hold.
HINTS = {
    "gpt2_linear": "--from nanogpt takes [out, in]", "nanogpt_turned": "--from gpt2 takes [in, out]", "gpt2_as_package": "--from gpt2",
    "near": "the nearest that it has is h.0.attention.c_attention.weight", "lfs": "git lfs pull", "missing": "--allow-missing",
    "some-00001-of-00002.safetensors": "name their index, some.safetensors.index.json",
    "last-00002-of-00002.safetensors": "one of the 2 files of a model: name their index, last.safetensors.index.json",
}

# Arguments without INPUT and OUTPUT -> what the error line must hold, for a package.
BAD_OPTIONS = [
    ([], "argument --from"),
    (["--from", "bert"], "argument --from: invalid choice: 'bert'"),
    (["--from", "bsbr"], "argument --num-heads is needed"),
    (["--from", "bsbr", "--num-heads", 3], "argument --chunk-size is needed"),
    ([*PACKAGE, "--num-heads", 5], "argument --num-heads: 5 does not divide hidden_dim = 12"),
    ([*PACKAGE, "--num-heads", "many"], "argument --num-heads: 'many', must be a whole number"),
    ([*PACKAGE, "--num-heads", 0], "argument --num-heads: 0, must be from 1"),
    ([*PACKAGE, "--dropout", "nan"], "argument --dropout: nan, must be from 0 to 1"),
    ([*PACKAGE, "--causality", "casual"], "argument --causality: 'casual', must be one of causal"),
    ([*PACKAGE, "--architecture", "bert"], "argument --architecture: 'bert', must be one of bsbr"),
    ([*PACKAGE, "--window-size", 3], "argument --window-size: only for sliding_window, not for bsbr"),
    ([*PACKAGE, "--compression-factor", 13], "argument --compression-factor: 13 is above hidden_dim = 12"),
    ([*PACKAGE, "--num-layers", 2**17], "argument --num-layers: 131072, must be from 1 to 65536"),
    ([*PACKAGE, "--architecture", "gau"], "argument --num-heads: 3, must be 1"),
    ([*PACKAGE, "--architecture", "sliding_window"], "argument --window-size is needed"),
    ([*PACKAGE, "--seed", -1], "argument --seed"),
    ([*PACKAGE, "--frobnicate"], "--frobnicate"),
    ([*PACKAGE, "stray"], "stray"),
]

# JSON of --config -> arguments, what the error line must hold.
BAD_CONFIGS = [
    ([1], PACKAGE, "must hold an object in JSON"),
    (dict(num_head=3), PACKAGE, "'num_head' is no field of the configuration"),
    (dict(ff_dim="20"), PACKAGE, "config.json: ff_dim: '20', must be a whole number"),
    (dict(ff_dim=20.5), PACKAGE, "config.json: ff_dim: 20.5, must be a whole number"),
    (dict(num_layers=True), PACKAGE, "config.json: num_layers: True, must be a whole number"),
    (dict(dropout=True), PACKAGE, "config.json: dropout: True, must be a number"),
    (dict(window_size=3), PACKAGE, "config.json: window_size: only for sliding_window, not for bsbr"),
    (dict(n_head=5), ["--from", "gpt2"], "config.json: n_head: 5 does not divide hidden_dim = 12"),
    (dict(model_type="openai-gpt"), GPT2, "model_type is 'openai-gpt', must be 'gpt2'"),
    (dict(scale_attn_weights=False), GPT2, "scale_attn_weights is False, must be True"),
    (dict(activation_function="relu"), GPT2, "activation_function is 'relu', must be one of gelu"),
]


class Refused(Convert):
    def test_bad_checkpoints_are_named_with_what_is_wrong_and_nothing_is_written(self):
        for name, (content, arguments, says) in BAD.items():
            with self.subTest(name):
                source = self.file(content, name)
                done = convert(source, self.path("out.h5"), *arguments)
                self.refused(done, FILE, [source, *([says] if isinstance(says, str) else says)])
                self.assertIn(HINTS.get(name, ""), done.err.partition("hint: ")[2])
        os.mkdir(self.path("nothing"))
        for source in (self.path("absent"), self.path("nothing")):
            self.refused(convert_outside(source, self.path("out.h5"), *PACKAGE), FILE, source)

    def test_bad_options_are_usage_errors(self):
        source = self.file(package_tensors())
        for arguments, says in BAD_OPTIONS:
            with self.subTest(arguments):
                self.refused(convert(source, self.path("out.h5"), *arguments), USAGE, says)
        self.refused(convert(source, self.path("out.safetensors"), *PACKAGE), USAGE, "one of both must be")
        standard = self.file({name: array for name, array in package_tensors().items() if "meta" not in name})
        self.refused(convert(standard, self.path("out.h5"), *PACKAGE), USAGE, "argument --architecture is needed")
        self.refused(convert_outside(source), USAGE, "OUTPUT")
        shard = convert(self.file(package_tensors(), "model-00001-of-00002.safetensors"), self.path("out.h5"), "--from", "bsbr")
        self.refused(shard, USAGE, "argument --num-heads is needed")
        self.assertIn("hint: model-00001-of-00002.safetensors is one of the 2 files of a model: name their index", shard.err)

    def test_bad_configurations_are_bad_input(self):
        for content, arguments, says in BAD_CONFIGS:
            with self.subTest(content):
                source = self.file(gpt2_tensors() if "gpt2" in arguments else package_tensors())
                done = convert(source, self.path("out.h5"), "--config", self.file(json.dumps(content).encode(), "config.json"), *arguments)
                self.refused(done, FILE, says)
        self.refused(convert(source, self.path("out.h5"), "--config", self.path("absent.json"), *GPT2), FILE, "absent.json: cannot be read")

    def test_bad_model_files_and_options_that_they_do_not_need_are_refused(self):
        model, out = self.model(), self.path("out.safetensors")
        self.refused(convert(model, self.path("out.h5")), USAGE, "is a model file, which becomes FILE.safetensors")
        self.refused(convert(model, out, "--from", "bsbr"), USAGE, "argument --from")
        self.refused(convert(model, out, "--num-heads", 2), USAGE, "argument --num-heads")
        bias = "weights/layer_norm.bias"

        def link(file):
            del file[bias]
            file[bias] = h5py.ExternalLink("/etc/passwd", "x")

        def other_shape(file):
            del file[bias]
            file[bias] = np.zeros(31, "f4")

        def never_written(file):
            del file[bias]
            file.create_dataset(bias, (32,), "f4")

        for says, change in [("attribute format is 'bsbr-result', must be 'bsbr-model'",
                              lambda file: file.attrs.modify("format", "bsbr-result")),
                             ("attribute num_heads is 5 does not divide", lambda file: file.attrs.modify("num_heads", 5)),
                             ("attribute num_layers is 60000, and /weights has", lambda file: file.attrs.modify("num_layers", 60000)),
                             ("attribute beta belongs to delta_net", lambda file: file.attrs.modify("beta", 0.5)),
                             ("/weights is missing", lambda file: file.pop("weights")),
                             ("/weights/layer_norm.bias is missing", lambda file: file.pop(bias)),
                             ("/weights/more is not a weight", lambda file: file.create_dataset("weights/more", data=1.0)),
                             ("not a link or a group", link), ("is [31] of float32, must be [32]", other_shape),
                             ("has no elements in this file", never_written)]:
            with self.subTest(says):
                shutil.copy(model, self.path("bad.h5"))
                with h5py.File(self.path("bad.h5"), "a") as file:
                    change(file)
                self.refused(convert(self.path("bad.h5"), out), FILE, [self.path("bad.h5"), says])
        shutil.copy(model, self.path("bad.h5"))
        os.truncate(self.path("bad.h5"), 3000)
        self.refused(convert(self.path("bad.h5"), out), FILE, [self.path("bad.h5"), "cannot be read"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
