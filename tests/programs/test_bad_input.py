"""Every bad input has its exit code and its one line, in one process and on three ranks, and leaves nothing behind.

Usage: test_bad_input.py RANKS
"""
import os
import shutil
import sys
import unittest

import h5py
import numpy as np

from programs import Case, config, ids_file, in_parallel, init_options, run

RANKS = 1
USAGE, FILE, MEMORY, OUTPUT = 2, 3, 4, 6
WEIGHT = "weights/layers.0.attention.q_proj.weight"


def M(name):
    """What stands for a file of the test's folder in a table."""
    return "{folder}/" + name


GOOD, TEXT = ["--model", M("good.h5")], ["--input", M("text")]

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
    ("bsbr_init", USAGE, "--output", ["--architecture", "bsbr"]),
    ("bsbr_init", USAGE, "--architecture", ["--output", M("m.h5")]),
    ("bsbr_init", USAGE, ["--architecture", "perceptron"], ["--output", M("m.h5"), "--architecture", "perceptron"]),
    ("bsbr_init", USAGE, ["--beta", "delta_net"], ["--output", M("m.h5"), "--architecture", "bsbr", "--beta", 0.5]),
    ("bsbr_init", USAGE, ["--beta", "3"], ["--output", M("m.h5"), "--architecture", "delta_net", "--beta", 3]),
    ("bsbr_init", USAGE, ["--beta", "nan"], ["--output", M("m.h5"), "--architecture", "delta_net", "--beta", "nan"]),
    ("bsbr_init", USAGE, ["--causality", "sideways"], ["--output", M("m.h5"), "--architecture", "bsbr", "--causality", "sideways"]),
    ("bsbr_init", USAGE, ["num_heads", "7"], ["--output", M("m.h5"), "--architecture", "bsbr", "--num-heads", 7]),
    ("bsbr_init", USAGE, ["num_heads", "8"], ["--output", M("m.h5"), "--architecture", "gau", "--num-heads", 8]),
    ("bsbr_init", USAGE, "--hidden-dim", ["--output", M("m.h5"), "--architecture", "bsbr", "--hidden-dim", 1 << 40]),
    ("bsbr_init", USAGE, "--num-layers", ["--output", M("m.h5"), "--architecture", "bsbr", "--num-layers", 0]),
    ("bsbr_init", MEMORY, "memory", ["--output", M("m.h5"), "--architecture", "bsbr", "--hidden-dim", 1 << 19, "--num-layers", 1]),
    ("bsbr_init", OUTPUT, "nowhere", ["--output", M("nowhere/m.h5"), "--architecture", "bsbr"]),
    ("bsbr_init", OUTPUT, "{folder}", ["--output", "{folder}", "--architecture", "bsbr"]),
]


def replace(file, data, **how):
    del file[WEIGHT]
    file.create_dataset(WEIGHT, data=data, **how)


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
    ("q_proj.weight", lambda file: file[WEIGHT].__setitem__((3, 4), np.nan)),
    ("q_proj.weight", lambda file: replace(file, SQUARE, compression="lzf")),
    ("s_proj", lambda file: file.create_dataset("weights/layers.0.attention.s_proj.weight", data=SQUARE)),
    ("weights", delete("weights")),
    ("hidden_dim", lambda file: file.attrs.__delitem__("hidden_dim")),
    ("format", attribute("format", "bsbr-result")),
    ("format_version", attribute("format_version", 99)),
    ("architecture", attribute("architecture", "perceptron")),
    ("causality", attribute("causality", "sideways")),
    ("num_heads", attribute("num_heads", 7)),
    ("num_layers", attribute("num_layers", -1)),
    ("hidden_dim", attribute("hidden_dim", 1 << 40)),
    ("vocab_size", attribute("vocab_size", 1 << 62)),
    ("chunk_size", attribute("chunk_size", 0)),
    ("beta", attribute("beta", 0.5)),
]

IDS = np.arange(40) % 32

# (what the error line must hold, exit codes, ids, mask)
TOKENS = [
    ("-7", FILE, IDS - 7, None),
    ("1000", FILE, IDS + 1000, None),
    ("input_ids", FILE, IDS + 0.5, None),
    ("input_ids", FILE, IDS.reshape(2, 4, 5), None),
    ("input_ids", FILE, IDS[:0], None),
    ("attention_mask", FILE, IDS, np.ones(39, "i1")),
    ("7", FILE, IDS, np.where(IDS == 5, 7, 1)),
]


class BadInput(Case):
    def setUp(self):
        super().setUp()
        self.model("good.h5")
        self.model("linear.h5", "linear")
        self.model("v100.h5", vocab_size=100)
        self.text()
        self.text("empty", b"")
        self.results = self.path("results")
        os.mkdir(self.results)

    def check(self, number, program, code, says, arguments):
        """One case: what comes out, and that no file is left."""
        arguments = [str(argument).replace("{folder}", self.folder) for argument in arguments]
        if program == "bsbr_forward" and "--output" not in arguments:
            arguments = ["--output", os.path.join(self.results, "%d.h5" % number), *arguments]
        says = [word.replace("{folder}", self.folder) for word in ([says] if isinstance(says, str) else says)]
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
            cases.append(("bsbr_forward", FILE, [name, says], ["--model", M(name), *TEXT]))
        self.check_all(cases)

    def test_token_files_that_are_not_right_are_refused(self):
        cases = []
        for number, (says, code, ids, mask) in enumerate(TOKENS):
            name = "tokens%d.h5" % number
            ids_file(self.path(name), ids, mask)
            cases.append(("bsbr_forward", code, [name, says], [*GOOD, "--input", M(name)]))
        self.check_all(cases)


if __name__ == "__main__":
    RANKS = int(sys.argv.pop(1))
    unittest.main()
