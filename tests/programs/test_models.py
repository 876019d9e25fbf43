"""The trained model of models/: it is the one that its card describes, it predicts text, and programs take it."""
import hashlib
import json
import os
import re
import unittest

from programs import Case, run

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
MODEL = os.path.join(ROOT, "models", "bsbr-4x128.h5")
CARD = os.path.join(ROOT, "models", "README.md")


class TrainedModel(Case):
    def test_the_file_is_that_of_the_card(self):
        with open(MODEL, "rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
        with open(CARD, encoding="utf-8") as file:
            self.assertEqual(re.findall(r"\b[0-9a-f]{64}\b", file.read())[0], found)
        self.assertLessEqual(os.path.getsize(MODEL), 4_000_000)

    def test_it_predicts_text_better_than_chance_by_far_and_the_better_the_longer_the_context(self):
        positions = self.path("positions.json")
        done = run("bsbr_evaluate", "--model", MODEL, "--input", os.path.join(ROOT, "README.md"), "--length", 1024, "--max-tokens", 8193,
                   "--by-position", positions, "--json", "-")
        self.assertEqual(done.code, 0, done.err)
        self.assertLess(json.loads(done.out)["bits_per_token"], 4)  # 8 without any knowledge
        with open(positions, encoding="utf-8") as file:
            losses = [place["loss"] for place in json.load(file)["ranges"]]
        self.assertLess(losses[-1], losses[0])


if __name__ == "__main__":
    unittest.main()
