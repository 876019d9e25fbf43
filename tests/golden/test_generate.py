"""generate.py from outside: the golden files hold what it computes, and a new architecture needs one module."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py

HERE = os.path.dirname(os.path.abspath(__file__))

# o_t = Σ_{s ≤ t} g_s ⊙ v_s
NEW_ARCHITECTURE = '''
import numpy as np

from generator.architecture import Architecture
from generator.cases import default_cases


def attention(config, head):
    result = np.zeros_like(head.v)
    for t in range(len(result)):
        for s in range(t + 1):
            if head.real[s]:
                result[t] += config["factor"] * head.gate[s] * head.v[s]
    return result


ARCHITECTURE = Architecture(attention, default_cases({"factor": 1.0}, ragged={"factor": 0.5}),
                            projections={"v": 1, "gate": 2})
'''


def generate(folder, *arguments):
    command = [sys.executable, "-B", os.path.join(folder, "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def layout(path):
    """Types and shapes of everything in a file but the weights of its attention."""
    items = {}

    def keep(name, item):
        if isinstance(item, h5py.Dataset) and ".attention." not in name:
            items[name] = (str(item.dtype), item.shape, item.chunks)

    with h5py.File(path) as file:
        for name in file.attrs:
            kind = file.attrs.get_id(name).dtype
            items[name] = "text of fixed length" if kind.kind == "S" else str(kind)
        file.visititems(keep)
    return items


class TheGoldenFiles(unittest.TestCase):
    def test_hold_what_the_formulas_give(self):
        done = generate(HERE, "--check")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        files = [name for name in os.listdir(HERE) if name.endswith(".h5")]
        self.assertEqual(len(done.stdout.splitlines()), len(files))


class InACopy(unittest.TestCase):
    """Of the folder, in which files are written."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.join(folder.name, "golden")
        shutil.copytree(HERE, self.folder, ignore=shutil.ignore_patterns("__pycache__"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def bytes(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def generate(self, *arguments, code=0):
        done = generate(self.folder, *arguments)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_a_new_architecture_gets_its_files_from_one_module(self):
        with open(self.path("architectures/gated.py"), "w", encoding="utf-8") as file:
            file.write(NEW_ARCHITECTURE)
        self.assertIn("there is no such file", self.generate("--check", "gated", code=1))
        self.generate("gated")
        self.generate("--check", "gated", "standard")
        for case in ("multiple", "ragged", "masks", "mask_row", "short", "one_token"):
            expected = {**layout(self.path(f"standard_{case}.h5")), "factor": "float64"}
            del expected["checked_against_package"]
            self.assertEqual(layout(self.path(f"gated_{case}.h5")), expected)
        with open(self.path("index.json"), encoding="utf-8") as file:
            entries = {entry["case"]: entry for entry in json.load(file)}
        self.assertEqual(list(entries["gated_ragged"]), list(entries["standard_ragged"]))
        self.assertEqual(entries["gated_ragged"]["config"],
                         {**entries["standard_ragged"]["config"], "architecture": "gated", "factor": 0.5})

    def test_files_that_are_as_they_should_be_are_left_alone(self):
        names = ("index.json", "linear_short.h5", "gau_masks.h5")
        before = [self.bytes(name) for name in names]
        self.generate("linear", "gau_masks")
        self.assertEqual([self.bytes(name) for name in names], before)

    def test_a_wrong_number_is_found_and_replaced_and_the_weights_stay(self):
        with h5py.File(self.path("bsbr_short.h5"), "r+") as file:
            weights = {name: item[()] for name, item in file["weights"].items()}
            file["expected/bidirectional/layers"][0, 1, 4, 7] += 1e-9
        self.assertIn("expected/bidirectional/layers differs", self.generate("--check", "bsbr_short", code=1))
        self.generate("bsbr_short")
        self.generate("--check", "bsbr_short")
        with h5py.File(self.path("bsbr_short.h5")) as file:
            self.assertTrue(all((file["weights"][name][()] == values).all() for name, values in weights.items()))

    def test_a_file_of_no_case_is_found(self):
        shutil.copy(self.path("gau_short.h5"), self.path("gau_shorter.h5"))
        self.assertIn("gau_shorter                  belongs to no case", self.generate("--check", code=1))

    def test_a_name_that_is_neither_a_case_nor_an_architecture_is_refused(self):
        self.assertIn("there is no case and no architecture 'perceptron'", self.generate("perceptron", code=2))


if __name__ == "__main__":
    unittest.main()
