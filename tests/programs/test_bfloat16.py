"""--precision bfloat16: the same bits on any ranks, close to float, held against the reference; streams and texts; what is refused."""
import json
import unittest

import h5py
import numpy as np

from programs import ARCHITECTURES, Case, ids_file, in_parallel, run

LENGTH = 75
ROUNDED = ("--precision", "bfloat16")


class Bfloat16(Case):
    def setUp(self):
        super().setUp()
        self.ids = ids_file(self.path("ids.h5"), np.arange(2 * LENGTH).reshape(2, LENGTH) ** 2 * 7 % 251)

    def succeed(self, program, *arguments, **how):
        done = run(program, *arguments, **how)
        self.assertEqual((done.code, done.err), (0, ""), arguments)
        return done.out

    def states(self, name, *arguments, **how):
        """-> the summary and the hidden states; `name`: of a file that nobody else writes."""
        path = self.path(name + ".h5")
        summary = json.loads(self.succeed("bsbr_forward", "--json", "-", "--input", self.ids, "--output", path, *arguments, **how))
        with h5py.File(path) as file:
            return summary, file["hidden_states"][()]

    def check(self, architecture):
        model = self.model(architecture + ".h5", architecture)
        _, exact = self.states(architecture + ".float", "--model", model)
        summary, wanted = self.states(architecture + ".rounded", "--model", model, "--verify", *ROUNDED)
        difference = np.abs(wanted - exact).max()
        self.assertTrue(1e-4 < difference < 0.3, (architecture, difference))
        self.assertLess(summary["verify"]["largest_difference"], difference / 2, architecture)
        self.assertEqual((summary["precision"], wanted.dtype), ("bfloat16", np.float32))
        for ranks, threads in ((1, 1), (2, 1), (3, 2)):
            _, found = self.states(f"{architecture}.{ranks}", "--model", model, *ROUNDED, ranks=ranks,
                                   environment={"OMP_NUM_THREADS": str(threads)})
            self.assertEqual(found.tobytes(), wanted.tobytes(), (architecture, ranks))

    def test_all_architectures_have_the_same_bits_on_any_ranks(self):
        self.assertEqual(in_parallel(self.check, ARCHITECTURES, workers=2), {})

    def test_losses_streams_and_texts_are_those_of_the_whole(self):
        model = self.model("model.h5", "bsbr", head="tied", vocab_size=256)
        evaluate = ("--model", model, "--input", self.ids, "--json", "-", *ROUNDED)
        whole = json.loads(self.succeed("bsbr_evaluate", *evaluate))
        pieces = json.loads(self.succeed("bsbr_evaluate", *evaluate, "--pieces", 17, ranks=2))
        self.assertEqual(pieces["loss"], whole["loss"])

        def generated(name, *arguments, **how):
            self.succeed("bsbr_generate", "--model", model, "--seed", 3, "--output", self.path(name), "--quiet", *ROUNDED, *arguments, **how)
            with open(self.path(name), "rb") as file:
                return file.read()

        state = self.path("s.h5")
        text = generated("text", "--prompt", "a prompt", "--tokens", 30)
        first = generated("first", "--prompt", "a prompt", "--tokens", 10, "--state-out", state, ranks=3)
        self.assertEqual(first + generated("rest", "--state-in", state, "--tokens", 20), text)
        self.assertEqual(len(text), 30)
        with h5py.File(state) as file:
            self.assertEqual(file["stream"].attrs["precision"], "bfloat16")
            keys = file["stream/layers.0/keys"]  # packed: two numbers in the place of one
            self.assertEqual((keys.shape[2], keys.dtype), (file.attrs["hidden_dim"], np.float32))
            numbers = keys[()].view(np.uint16).astype(np.uint32) << 16
            self.assertTrue(0.01 < np.abs(numbers.view(np.float32)).mean() < 10)
        done = run("bsbr_generate", "--model", model, "--state-in", state, "--tokens", 1)
        self.assertEqual((done.code, done.out), (3, ""))
        self.assertIn("of precision bfloat16, not float", done.err)
        self.assertIn("hint: --precision bfloat16", done.err)

    def test_it_is_compared_with_others(self):
        sizes = ("--hidden-dim", 64, "--num-heads", 4, "--num-layers", 1, "--ff-dim", 128, "--repeat", 1)
        found = json.loads(self.succeed("bsbr_compare", "--architectures", "bsbr,linear", "--seq-lengths", "256", *sizes, *ROUNDED, "--json", "-"))
        self.assertEqual((found["precision"], len(found["results"])), ("bfloat16", 2))


if __name__ == "__main__":
    unittest.main()
