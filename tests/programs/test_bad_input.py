"""Every bad input has its exit code and its one line, in one process and on three ranks, and leaves nothing behind.

Usage: test_bad_input.py RANKS
"""
import gzip
import os
import pickle
import resource
import shutil
import sys
import unittest

import h5py
import numpy as np

from programs import ARCHITECTURES, OWN_FIELDS, PROGRAMS, Case, config, in_parallel, init_options, obey_permissions, run

RANKS = 1
USAGE, FILE, MEMORY, OUTPUT = 2, 3, 4, 6

# One of the architectures that have a field.
OWNERS = {field: architecture for architecture, fields in OWN_FIELDS.items() for field in fields if field != "num_heads"}

# What those fields may not be.
BAD_VALUES = {
    "compression_factor": [-1, 33],
    "causality": ["sideways"],
    "feature_map": ["relu"],
    "beta": [-0.1, 2.1, float("nan")],
    "window_size": [-1],
    "temperature": [0.0, -1.0, float("nan"), float("inf")],
    "expansion_factor": [0],
    "state_scale": ["median"],
    "null_chunk": [-1, 2],
    "retrieval_gate": [-1, 2],
    "router_key": ["first"],
    "output_norm": [-1, 2],
}
WEIGHT = "weights/layers.0.attention.q_proj.weight"


def M(name):
    """What stands for a file of the test's folder in a table."""
    return "{folder}/" + name


GOOD, TEXT = ["--model", M("good.h5")], ["--input", M("text")]
HEAD = ["--model", M("head.h5")]

# What a program writes of its own accord, where a case says nothing else.
OUTPUTS = {"bsbr_forward": "--output", "bsbr_evaluate": "--gradients"}

# (program, exit code, what the error line must hold, arguments)
COMMAND_LINES = [
    ("bsbr_forward", USAGE, "--model", []),
    ("bsbr_forward", USAGE, "--model", TEXT),
    ("bsbr_forward", USAGE, "--input", GOOD),
    ("bsbr_forward", USAGE, "--frobnicate", [*GOOD, *TEXT, "--frobnicate"]),
    ("bsbr_forward", USAGE, "stray", [*GOOD, *TEXT, "stray"]),
    ("bsbr_forward", USAGE, "--model", [*TEXT, "--model"]),
    ("bsbr_forward", USAGE, "--model", [*GOOD, *GOOD, *TEXT]),
    ("bsbr_forward", USAGE, "--output", [*GOOD, *TEXT, "--output", ""]),
    ("bsbr_forward", USAGE, "--quiet", [*GOOD, *TEXT, "--quiet=yes"]),
    ("bsbr_forward", USAGE, ["--input", "--random-tokens"], [*GOOD, *TEXT, "--random-tokens", 8]),
    ("bsbr_forward", USAGE, ["--random-tokens", "-5"], [*GOOD, "--random-tokens", "-5"]),
    ("bsbr_forward", USAGE, ["--random-tokens", "0"], [*GOOD, "--random-tokens", 0]),
    ("bsbr_forward", USAGE, ["--random-tokens", "many"], [*GOOD, "--random-tokens", "many"]),
    ("bsbr_forward", USAGE, ["--random-tokens", "9" * 30], [*GOOD, "--random-tokens", "9" * 30]),
    ("bsbr_forward", USAGE, "--batch", [*GOOD, *TEXT, "--batch", 2]),
    ("bsbr_forward", USAGE, "--batch", [*GOOD, "--random-tokens", 1 << 40, "--batch", 1 << 40]),
    ("bsbr_forward", USAGE, "--seed", [*GOOD, *TEXT, "--seed", 2]),
    ("bsbr_forward", USAGE, "--seed", [*GOOD, "--random-tokens", 8, "--seed", "-1"]),
    ("bsbr_forward", USAGE, ["--causality", "sideways", "block_causal"], [*GOOD, *TEXT, "--causality", "sideways"]),
    ("bsbr_forward", USAGE, ["--causality", "linear"], ["--model", M("linear.h5"), *TEXT, "--causality", "causal"]),
    ("bsbr_forward", USAGE, ["--precision", "half"], [*GOOD, *TEXT, "--precision", "half"]),
    ("bsbr_forward", USAGE, ["--chunk-size", "0"], [*GOOD, *TEXT, "--chunk-size", 0]),
    ("bsbr_forward", USAGE, ["--chunk-size", "-3"], [*GOOD, *TEXT, "--chunk-size", "-3"]),
    ("bsbr_forward", USAGE, ["--chunk-size", "x"], [*GOOD, *TEXT, "--chunk-size", "x"]),
    ("bsbr_forward", USAGE, ["--max-tokens", "-1"], [*GOOD, *TEXT, "--max-tokens", "-1"]),
    ("bsbr_forward", USAGE, ["--max-tokens", "0"], [*GOOD, *TEXT, "--max-tokens", 0]),
    ("bsbr_forward", USAGE, ["--repeat", "0"], [*GOOD, *TEXT, "--repeat", 0]),
    ("bsbr_forward", USAGE, ["--progress", "maybe"], [*GOOD, *TEXT, "--progress", "maybe"]),
    ("bsbr_forward", USAGE, ["--verify", "5000"], [*GOOD, "--random-tokens", 5000, "--verify"]),
    ("bsbr_forward", USAGE, ["--output", "--model"], [*GOOD, *TEXT, "--output", M("good.h5")]),
    ("bsbr_forward", USAGE, ["--json", "--input"], [*GOOD, *TEXT, "--json", M("text")]),
    ("bsbr_forward", OUTPUT, "nowhere", [*GOOD, *TEXT, "--output", M("nowhere/out.h5")]),
    ("bsbr_forward", OUTPUT, "nowhere", [*GOOD, *TEXT, "--json", M("nowhere/out.json")]),
    ("bsbr_forward", OUTPUT, "{folder}", [*GOOD, *TEXT, "--output", "{folder}"]),
    ("bsbr_forward", MEMORY, "memory", [*GOOD, "--random-tokens", 1 << 40]),
    ("bsbr_forward", FILE, "absent.h5", ["--model", M("absent.h5"), *TEXT]),
    ("bsbr_forward", FILE, "{folder}", ["--model", "{folder}", *TEXT]),
    ("bsbr_forward", FILE, "text", ["--model", M("text"), *TEXT]),
    ("bsbr_forward", FILE, "empty", ["--model", M("empty"), *TEXT]),
    ("bsbr_forward", FILE, "absent", [*GOOD, "--input", M("absent")]),
    ("bsbr_forward", FILE, "{folder}", [*GOOD, "--input", "{folder}"]),
    ("bsbr_forward", FILE, "empty", [*GOOD, "--input", M("empty")]),
    ("bsbr_forward", FILE, ["good.h5", "/nope"], [*GOOD, "--input", M("good.h5") + ":/nope"]),
    ("bsbr_forward", FILE, ["text", "104"], ["--model", M("v100.h5"), *TEXT]),
    ("bsbr_forward", USAGE, ["--bytes", "--input"], [*GOOD, "--random-tokens", 8, "--bytes"]),
    ("bsbr_forward", FILE, ["text", "vocab_size is 500"], ["--model", M("v500.h5"), *TEXT]),
    ("bsbr_forward", FILE, ["text", "vocab_size is 500"], ["--model", M("v500.h5"), *TEXT, "--dry-run"]),
    ("bsbr_forward", FILE, ["text", "vocab_size is 100"], ["--model", M("v100.h5"), *TEXT, "--dry-run"]),
    ("bsbr_forward", FILE, ["text", "104"], ["--model", M("v100.h5"), *TEXT, "--bytes"]),
    ("bsbr_forward", FILE, ["ids.npz", "zip archive"], [*GOOD, "--input", M("ids.npz")]),
    ("bsbr_forward", FILE, ["ids.pkl", "Python pickle"], [*GOOD, "--input", M("ids.pkl")]),
    ("bsbr_forward", FILE, ["ids.gz", "gzip"], [*GOOD, "--input", M("ids.gz")]),
    ("bsbr_forward", FILE, ["lfs.h5", "Git LFS pointer"], [*GOOD, "--input", M("lfs.h5")]),
    ("bsbr_forward", FILE, ["lfs.h5", "Git LFS pointer"], ["--model", M("lfs.h5"), *TEXT]),
    ("bsbr_forward", FILE, ["real.npy", "64-bit floating-point"], [*GOOD, "--input", M("real.npy")]),
    ("bsbr_forward", FILE, ["large.npy", "256", "[0, 256]"], [*GOOD, "--input", M("large.npy")]),
    ("bsbr_evaluate", USAGE, ["--gradients", "bfloat16", "hint: --precision float"],
     [*GOOD, *TEXT, "--gradients", M("g.h5"), "--precision", "bfloat16"]),
    ("bsbr_evaluate", FILE, ["good.h5", "head = none", "hint: bsbr_init --head tied"], [*GOOD, *TEXT]),
    ("bsbr_evaluate", FILE, ["text", "104"], ["--model", M("head100.h5"), *TEXT]),
    ("bsbr_evaluate", USAGE, ["--gradients {folder}/head.h5", "--model", "hint: give each a name"], [*HEAD, *TEXT, "--gradients", M("head.h5")]),
    ("bsbr_evaluate", USAGE, ["--gradients {folder}/text", "--input", "hint: give each a name"], [*HEAD, *TEXT, "--gradients", M("text")]),
    *(("bsbr_evaluate", USAGE, ["--gradients {folder}/one", option, "hint: give each a name"],
       [*HEAD, *TEXT, "--gradients", M("one"), option, M("one")]) for option in ("--token-losses", "--by-position", "--json")),
    ("bsbr_evaluate", USAGE, ["{folder}/one.part", "--token-losses", "hint: give each a name"],
     [*HEAD, *TEXT, "--gradients", M("one"), "--token-losses", M("one.part")]),
    ("bsbr_evaluate", USAGE, ["--gradients -", "hint: name a file"], [*HEAD, *TEXT, "--gradients", "-"]),
    ("bsbr_evaluate", USAGE, "--gradients", [*HEAD, *TEXT, "--gradients", ""]),
    ("bsbr_evaluate", USAGE, "--gradients", [*HEAD, *TEXT, "--gradients", M("one"), "--gradients", M("other")]),
    ("bsbr_evaluate", USAGE, ["--recompute", "some", "auto", "all", "none"], [*HEAD, *TEXT, "--recompute", "some"]),
    ("bsbr_evaluate", USAGE, ["--verify", "5000"], [*HEAD, "--input", M("long"), "--verify"]),
    ("bsbr_evaluate", OUTPUT, ["{folder}", "is a folder"], [*HEAD, *TEXT, "--gradients", "{folder}"]),
    ("bsbr_evaluate", OUTPUT, ["nowhere/g.h5", "does not exist"], [*HEAD, *TEXT, "--gradients", M("nowhere/g.h5")]),
    ("bsbr_evaluate", OUTPUT, ["text/g.h5"], [*HEAD, *TEXT, "--gradients", M("text/g.h5")]),
    ("bsbr_evaluate", OUTPUT, ["/dev/null", "not an ordinary file"], [*HEAD, *TEXT, "--gradients", "/dev/null"]),
    ("bsbr_init", USAGE, ["--precision", "bfloat16", "float, double"], ["--output", M("m.h5"), "--architecture", "bsbr", "--precision", "bfloat16"]),
    ("bsbr_init", USAGE, "--output", ["--architecture", "bsbr"]),
    ("bsbr_init", USAGE, "--architecture", ["--output", M("m.h5")]),
    ("bsbr_init", USAGE, ["--architecture", "perceptron"], ["--output", M("m.h5"), "--architecture", "perceptron"]),
    ("bsbr_init", USAGE, ["num_heads", "7"], ["--output", M("m.h5"), "--architecture", "bsbr", "--num-heads", 7]),
    ("bsbr_init", USAGE, ["num_heads", "8"], ["--output", M("m.h5"), "--architecture", "gau", "--num-heads", 8]),
    ("bsbr_init", USAGE, "--hidden-dim", ["--output", M("m.h5"), "--architecture", "bsbr", "--hidden-dim", 1 << 40]),
    ("bsbr_init", USAGE, "--num-layers", ["--output", M("m.h5"), "--architecture", "bsbr", "--num-layers", 0]),
    ("bsbr_init", MEMORY, "memory", ["--output", M("m.h5"), "--architecture", "bsbr", "--hidden-dim", 1 << 19, "--num-layers", 1]),
    ("bsbr_init", OUTPUT, "nowhere", ["--output", M("nowhere/m.h5"), "--architecture", "bsbr"]),
    ("bsbr_init", OUTPUT, "{folder}", ["--output", "{folder}", "--architecture", "bsbr"]),
]


def listed(words):
    return [words] if isinstance(words, str) else words


def replace(file, data, **how):
    del file[WEIGHT]
    file.create_dataset(WEIGHT, data=data, **how)


def external_link(file):
    del file[WEIGHT]
    file[WEIGHT] = h5py.ExternalLink("elsewhere.h5", "/" + WEIGHT)


def external_storage(file):
    del file[WEIGHT]
    file.create_dataset(WEIGHT, (32, 32), "f4", external=[("elsewhere.bin", 0, 4096)])


def virtual(file, name=WEIGHT, shape=(32, 32), kind="f4"):
    if name in file:
        del file[name]
    layout = h5py.VirtualLayout(shape=shape, dtype=kind)
    layout[:] = h5py.VirtualSource("elsewhere.h5", name, shape=shape)
    file.create_virtual_dataset(name, layout)


def declare(file, name, shape, kind):
    """A dataset that claims far more numbers than the file holds."""
    if name in file:
        del file[name]
    file.create_dataset(name, shape, kind, chunks=tuple(min(n, 1024) for n in shape))


def delete(name):
    return lambda file: file.__delitem__(name)


def attribute(name, value):
    return lambda file: file.attrs.__setitem__(name, value)


SQUARE = np.ones((32, 32), "f4")

# (what the error line must hold, a change to a good model file)
MODELS = [
    ("q_proj.weight", delete(WEIGHT)),
    ("q_proj.weight", lambda file: replace(file, SQUARE[:, :16])),
    ("q_proj.weight", lambda file: replace(file, SQUARE.astype("i8"))),
    ("q_proj.weight", lambda file: replace(file, np.full((32, 32), b"one"))),
    ("q_proj.weight", lambda file: [delete(WEIGHT)(file), file.create_group(WEIGHT)]),
    ("q_proj.weight", lambda file: file[WEIGHT].__setitem__((3, 4), np.nan)),
    ("q_proj.weight", lambda file: file[WEIGHT].__setitem__((3, 4), -np.inf)),
    (["q_proj.weight", "external link"], external_link),
    (["q_proj.weight", "external storage"], external_storage),
    (["q_proj.weight", "virtual"], virtual),
    ("q_proj.weight", lambda file: declare(file, WEIGHT, (1 << 25, 1 << 20), "f4")),
    ("q_proj.weight", lambda file: replace(file, SQUARE, compression="lzf")),
    ("s_proj", lambda file: file.create_dataset("weights/layers.0.attention.s_proj.weight", data=SQUARE)),
    ("weights", delete("weights")),
    ("hidden_dim", lambda file: file.attrs.__delitem__("hidden_dim")),
    ("format", attribute("format", "bsbr-result")),
    ("format_version", attribute("format_version", 99)),
    ("format_version", attribute("format_version", "one")),
    ("architecture", attribute("architecture", "perceptron")),
    ("num_heads", attribute("num_heads", 7)),
    ("num_heads", attribute("num_heads", 0)),
    ("num_layers", attribute("num_layers", -1)),
    ("num_layers", attribute("num_layers", 1 << 40)),
    ("hidden_dim", attribute("hidden_dim", "thirty-two")),
    ("hidden_dim", attribute("hidden_dim", float("nan"))),
    ("hidden_dim", attribute("hidden_dim", 32.5)),
    ("hidden_dim", attribute("hidden_dim", [32, 32])),
    ("dropout", attribute("dropout", float("nan"))),
    ("hidden_dim", attribute("hidden_dim", 1 << 40)),
    ("vocab_size", attribute("vocab_size", 1 << 62)),
    ("chunk_size", attribute("chunk_size", 0)),
]

IDS = np.arange(40) % 32

def ids_and_mask(ids, mask=None):
    def fill(file):
        file["inputs/input_ids"] = ids
        if mask is not None:
            file["inputs/attention_mask"] = mask

    return fill


# (what the error line must hold, what fills a new file). On three ranks the last tokens are another's.
TOKENS = [
    (["-7", "[0, 0]"], ids_and_mask(IDS - 7)),
    (["1000", "[0, 0]"], ids_and_mask(IDS + 1000)),
    (["256", "[0, 39]"], ids_and_mask(np.where(np.arange(40) == 39, 256, 9))),
    (["-1", "[0, 38]"], ids_and_mask(np.where(np.arange(40) == 38, -1, 9))),
    (["256", "[1, 3]"], ids_and_mask(np.where(np.arange(40).reshape(2, 20) == 23, 256, 9))),
    ("input_ids", ids_and_mask(IDS + 0.5)),
    ("input_ids", ids_and_mask(IDS.reshape(2, 4, 5))),
    ("input_ids", ids_and_mask(IDS[:0])),
    ("input_ids", lambda file: file.create_group("inputs")),
    (["input_ids", "external link"], lambda file: file.__setitem__("inputs/input_ids", h5py.ExternalLink("elsewhere.h5", "/ids"))),
    (["input_ids", "virtual"], lambda file: virtual(file, "inputs/input_ids", (40,), "i8")),
    ("input_ids", lambda file: declare(file, "inputs/input_ids", (1 << 45,), "i8")),
    (["attention_mask", "[39]", "[40]"], ids_and_mask(IDS, np.ones(39, "i1"))),
    (["attention_mask", "[2, 20]", "[40]"], ids_and_mask(IDS, np.ones((2, 20), "i1"))),
    ("attention_mask", ids_and_mask(IDS, np.ones(40, "f4"))),
    (["attention_mask", "7", "[0, 5]"], ids_and_mask(IDS, np.where(np.arange(40) == 5, 7, 1))),
]


class BadInput(Case):
    def setUp(self):
        super().setUp()
        self.model("good.h5")
        self.model("linear.h5", "linear")
        self.model("v100.h5", vocab_size=100)
        self.model("v500.h5", vocab_size=500)
        self.model("head.h5", head="tied")
        self.model("head100.h5", head="separate", vocab_size=100)
        self.text()
        self.text("long", b"a" * 5000)
        self.text("empty", b"")
        self.text("ids.pkl", pickle.dumps(list(range(300))))
        self.text("ids.gz", gzip.compress(b"a hello to all the world"))
        self.text("lfs.h5", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        np.savez(self.path("ids.npz"), input_ids=np.arange(300))
        np.save(self.path("real.npy"), np.zeros(9))
        np.save(self.path("large.npy"), np.arange(300))
        self.results = self.path("results")
        os.mkdir(self.results)

    def check(self, number, program, code, says, arguments):
        """One case: what comes out, and that no file is left."""
        arguments = [str(argument).replace("{folder}", self.folder) for argument in arguments]
        if program in OUTPUTS and OUTPUTS[program] not in arguments:
            arguments = [OUTPUTS[program], os.path.join(self.results, "%d.h5" % number), *arguments]
        says = [word.replace("{folder}", self.folder) for word in listed(says)]
        try:
            self.check_failure(run(program, *arguments, ranks=RANKS), program, code, says, RANKS)
        except AssertionError as error:
            raise AssertionError("%s %s: %s" % (program, " ".join(arguments), error)) from None

    def check_all(self, cases):
        before = sorted(os.listdir(self.folder))
        failed = in_parallel(lambda number: self.check(number, *cases[number]), range(len(cases)))
        self.assertEqual(sorted(os.listdir(self.folder)), before)
        self.assertEqual(os.listdir(self.results), [])
        self.assertFalse(failed, "\n\n".join(map(str, failed.values())))

    def test_a_command_line_that_asks_for_what_cannot_be_done_is_refused(self):
        self.check_all(COMMAND_LINES)

    def test_a_model_file_that_is_not_right_is_refused(self):
        cases = []
        for number, (says, change) in enumerate(MODELS):
            name = "model%d.h5" % number
            shutil.copy(self.path("good.h5"), self.path(name))
            with h5py.File(self.path(name), "r+") as file:
                change(file)
            cases.append(("bsbr_forward", FILE, [name, *listed(says)], ["--model", M(name), *TEXT]))
        self.check_all(cases)

    def test_a_model_file_that_was_cut_is_refused(self):
        with open(self.path("good.h5"), "rb") as file:
            whole = file.read()
        cases = []
        for part in (0, 4, len(whole) // 5, len(whole) // 2, len(whole) - 1):
            name = "cut%d.h5" % part
            with open(self.path(name), "wb") as file:
                file.write(whole[:part])
            cases.append(("bsbr_forward", FILE, name, ["--model", M(name), *TEXT]))
        self.check_all(cases)

    def cases(self, architecture, changes, says):
        """A configuration with other fields, as options of bsbr_init and as attributes of a model file."""
        name = "case%d.h5" % len(os.listdir(self.folder))
        shutil.copy(self.path(architecture + ".h5"), self.path(name))
        with h5py.File(self.path(name), "r+") as file:
            file.attrs.update(changes)
        fields = {**config(architecture), **changes}
        return [
            ("bsbr_init", USAGE, [word.replace("_", "-") if word in OWNERS else word for word in says],
             ["--output", M("m.h5"), *init_options(fields)]),
            ("bsbr_forward", FILE, [name, *says], ["--model", M(name), *TEXT]),
        ]

    def test_every_field_of_an_architecture_has_bad_values(self):
        self.assertEqual(set(BAD_VALUES), set(OWNERS))

    def test_a_bad_value_of_a_field_is_refused(self):
        cases = []
        for field, values in BAD_VALUES.items():
            self.model(OWNERS[field] + ".h5", OWNERS[field])
            for value in values:
                shown = value if isinstance(value, str) else "%g" % value
                # Some rules name another field: then the program cannot tell the option.
                says = [shown] if (field, value) == ("compression_factor", 33) else [field, shown]
                cases += self.cases(OWNERS[field], {field: value}, says)
        self.check_all(cases)

    def test_a_field_of_another_architecture_is_refused_by_name(self):
        cases = []
        for architecture in OWN_FIELDS:
            self.model(architecture + ".h5", architecture)
            foreign = [(field, owner) for field, owner in OWNERS.items() if field not in OWN_FIELDS[architecture]]
            for field, owner in foreign if RANKS == 1 else foreign[:1]:
                cases += self.cases(architecture, {field: OWN_FIELDS[owner][field]}, [field, owner, architecture])
        self.check_all(cases)

    def test_one_head_is_one_head(self):
        cases = []
        for architecture in [name for name, one in ARCHITECTURES.items() if one.has_one_head]:
            self.model(architecture + ".h5", architecture)
            cases += self.cases(architecture, {"num_heads": 2}, ["num_heads = 2", architecture])
        self.check_all(cases)

    def test_where_there_is_no_causality_none_is_overruled(self):
        cases = []
        for architecture, fields in OWN_FIELDS.items():
            if "causality" not in fields:
                model = self.model(architecture + ".h5", architecture)
                cases.append(("bsbr_forward", USAGE, ["--causality", architecture], ["--model", model, *TEXT, "--causality", "causal"]))
        self.check_all(cases)

    def test_token_files_that_are_not_right_are_refused(self):
        cases = []
        for number, (says, fill) in enumerate(TOKENS):
            name = "tokens%d.h5" % number
            with h5py.File(self.path(name), "w") as file:
                fill(file)
            cases.append(("bsbr_forward", FILE, [name, *listed(says)], [*GOOD, "--input", M(name)]))
            cases.append(("bsbr_evaluate", FILE, [name, *listed(says)], [*HEAD, "--input", M(name)]))
        self.check_all(cases)

    def test_a_full_disk_leaves_nothing(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))  # larger than the files of MPI

        model = self.model("small.h5", num_layers=1, ff_dim=1)
        done = run("bsbr_forward", "--model", model, "--random-tokens", 1 << 16, "--output", self.path("results/r.h5"),
                   ranks=RANKS, before=limit)
        self.check_failure(done, "bsbr_forward", OUTPUT, "r.h5", RANKS)
        self.assertEqual(os.listdir(self.results), [])
        done = run("bsbr_evaluate", "--model", self.model("wide.h5", vocab_size=1 << 16, head="tied", num_layers=1, ff_dim=1), "--input",
                   self.path("text"), "--bytes", "--gradients", self.path("results/g.h5"), ranks=RANKS, before=limit)  # 8 MiB of gradients
        self.check_failure(done, "bsbr_evaluate", OUTPUT, "g.h5", RANKS)
        self.assertEqual(os.listdir(self.results), [])

    def test_a_setting_that_is_neither_on_nor_off_is_refused(self):
        for name in ("BSBR_GPU_AWARE_MPI", "BSBR_TF32"):
            done = run("bsbr_forward", *(word.format(folder=self.folder) for word in GOOD), "--random-tokens", 8, ranks=RANKS,
                       environment={name: "maybe"})
            self.check_failure(done, "bsbr_forward", USAGE, [name, "maybe"], RANKS)

    def test_a_folder_that_may_not_be_written_is_said_so(self):
        os.chmod(self.results, 0o555)
        program = shutil.copy(os.path.join(PROGRAMS, "bsbr_forward"), self.folder)  # root may test in a folder that only another may enter
        done = run(program, "--model", self.path("good.h5"), "--random-tokens", 8, "--output", self.path("results/r.h5"),
                   ranks=RANKS, before=obey_permissions, folder=self.folder)
        self.check_failure(done, "bsbr_forward", OUTPUT, ["r.h5", "cannot be written"], RANKS)
        self.assertEqual(os.listdir(self.results), [])


if __name__ == "__main__":
    RANKS = int(sys.argv.pop(1))
    unittest.main()
