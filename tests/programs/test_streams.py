"""Sequences that come in pieces, with bsbr_evaluate: the bits of the whole, streams saved on some ranks and taken up on others, what is refused."""
import json
import os
import resource
import unittest

import h5py
import numpy as np

from programs import ARCHITECTURES, Case, ids_file, in_parallel, run

LENGTH, CUT = 203, 90


def token_loss(path):
    with h5py.File(path) as file:
        assert file.attrs["complete"] == 1
        return file["token_loss"][()]


class Streams(Case):
    def setUp(self):
        super().setUp()
        self.ids = np.arange(2 * LENGTH).reshape(2, LENGTH) ** 2 * 7 % 251

    def evaluate(self, name, *arguments, **how):
        """-> the summary and the losses of tokens; `name`: of a file that nobody else writes."""
        path = self.path(name + ".losses")
        done = run("bsbr_evaluate", "--json", "-", "--token-losses", path, *arguments, **how)
        self.assertEqual((done.code, done.err), (0, ""), name)
        return json.loads(done.out), token_loss(path)

    def parts(self, mask=None):
        """Files of all ids, of the first ones, and of the rest."""
        files = []
        for name, part in (("whole", slice(None)), ("first", slice(CUT)), ("second", slice(CUT, None))):
            files.append(ids_file(self.path(name + ".h5"), self.ids[:, part], None if mask is None else mask[:, part]))
        return files

    def model_of(self, architecture, **changes):
        return self.model(architecture + ".h5", architecture, head="tied", **changes)

    # ---- the same bits ----

    def check_pieces(self, architecture):
        model, whole = self.model_of(architecture), self.path("whole.h5")
        wanted, losses = self.evaluate(architecture, "--model", model, "--input", whole)
        for piece, ranks in ((1, 1), (15, 1), (16, 1), (17, 1), (100, 1), (1000, 1), (60, 3), (33, 2)):
            found, others = self.evaluate(architecture, "--model", model, "--input", whole, "--pieces", piece, ranks=ranks)
            self.assertEqual((found["loss"], found["counted"], others.tobytes()), (wanted["loss"], wanted["counted"], losses.tobytes()),
                             (architecture, piece, ranks))
            self.assertEqual((found["pieces"], found["first_token"]), (min(piece, LENGTH), 0))

    def test_pieces_change_no_bit(self):
        self.parts()
        self.assertEqual(in_parallel(self.check_pieces, ARCHITECTURES, workers=2), {})

    def check_saved(self, architecture):
        model, (whole, first, second) = self.model_of(architecture), [self.path(name + ".h5") for name in ("whole", "first", "second")]
        _, wanted = self.evaluate(architecture, "--model", model, "--input", whole)
        for save, load in ((1, 1), (3, 1), (1, 2), (2, 3)):
            state = self.path(f"{architecture}-{save}-{load}.state")
            _, one = self.evaluate(architecture, "--model", model, "--input", first, "--pieces", 40, "--state-out", state, ranks=save)
            found, other = self.evaluate(architecture, "--model", model, "--input", second, "--pieces", 50, "--state-in", state, ranks=load)
            np.testing.assert_array_equal(one[:, :-1], wanted[:, :CUT - 1], architecture)
            np.testing.assert_array_equal(other, wanted[:, CUT:], architecture)
            self.assertEqual((found["first_token"], found["length"]), (CUT, LENGTH - CUT))
            self.assertFalse(one[:, -1].any())

    def test_a_saved_stream_goes_on_with_the_same_bits_on_other_ranks(self):
        for mask in (None, np.arange(LENGTH) >= np.array([[0], [21]])):
            self.parts(mask)
            self.assertEqual(in_parallel(self.check_saved, ARCHITECTURES, workers=2), {})

    def test_a_stream_is_saved_and_taken_up_without_pieces(self):
        model, (whole, first, second) = self.model_of("bsbr"), self.parts()
        _, wanted = self.evaluate("whole", "--model", model, "--input", whole, "--precision", "double")
        state, last = self.path("s.h5"), self.path("last.h5")
        self.evaluate("first", "--model", model, "--input", first, "--precision", "double", "--state-out", state)
        found, losses = self.evaluate("second", "--model", model, "--input", second, "--precision", "double", "--state-in", state,
                                      "--state-out", last)
        np.testing.assert_array_equal(losses, wanted[:, CUT:])
        self.assertEqual(found["pieces"], LENGTH - CUT)
        with h5py.File(last) as file:
            self.assertEqual((file["stream"].attrs["tokens"], file["stream"].attrs["batch"], file["stream"].attrs["precision"]), (LENGTH, 2, "double"))
            self.assertEqual(file.attrs["format"], "bsbr-stream")
            self.assertEqual(file["stream/last_states"].shape, (2, 32))
            layers = (layer for name, layer in file["stream"].items() if name.startswith("layers."))
            numbers = sum(array.size * array.dtype.itemsize for layer in layers for array in layer.values())
        # What the file holds is what the summary says, but for the marks of kept tokens, of which there are none in memory, and for what the
        # last chunk retrieves, D·d numbers of each layer and sequence, which are in memory only.
        self.assertEqual(found["stream_bytes"], numbers - 2 * 2 * (LENGTH % 16) + 2 * 2 * 32 * 8 * 8)

    def test_losses_by_position_are_those_of_the_whole(self):
        model, (whole, _, _) = self.model_of("bsbr"), self.parts()
        found = []
        for options, ranks in (((), 1), (("--pieces", 30), 1), (("--pieces", 30), 2)):
            path = self.path("curve.json")
            self.evaluate("curve", "--model", model, "--input", whole, "--by-position", path, *options, ranks=ranks)
            with open(path, encoding="utf-8") as file:
                found.append(file.read())
        self.assertEqual(found, found[:1] * 3)

    def test_a_dry_run_says_what_a_stream_will_hold(self):
        model, (whole, first, second) = self.model_of("standard"), self.parts()
        done = run("bsbr_evaluate", "--json", "-", "--dry-run", "--model", model, "--input", whole, "--pieces", 50)
        summary = json.loads(done.out)
        self.assertEqual((summary["pieces"], summary["stream_bytes"]), (50, 2 * 2 * LENGTH * 2 * 32 * 4))
        self.evaluate("first", "--model", model, "--input", first, "--state-out", self.path("s.h5"))
        done = run("bsbr_evaluate", "--json", "-", "--dry-run", "--model", model, "--input", second, "--state-in", self.path("s.h5"))
        self.assertEqual(json.loads(done.out)["stream_bytes"], summary["stream_bytes"])
        self.assertIn("continues after 90 tokens, 113 tokens at a time",
                      run("bsbr_evaluate", "--model", model, "--input", second, "--state-in", self.path("s.h5")).out)

    # ---- what is refused ----

    def refuse(self, code, says, *arguments, ranks=1, before=None):
        done = run("bsbr_evaluate", *arguments, ranks=ranks, before=before)
        self.check_failure(done, "bsbr_evaluate", code, says, ranks)

    def test_options_that_contradict_are_refused(self):
        model, (whole, first, second) = self.model_of("bsbr"), self.parts()
        state = self.path("s.h5")
        self.evaluate("first", "--model", model, "--input", first, "--state-out", state)
        good = ["--model", model, "--input", second]
        for option in (["--length", 10], ["--gradients", self.path("g.h5")], ["--verify"], ["--repeat", 2]):
            for stream in (["--pieces", 10], ["--state-in", state], ["--state-out", self.path("new.h5")]):
                self.refuse(2, [option[0], stream[0], "exclude each other"], *good, *option, *stream)
        self.refuse(2, "exclude each other", *good, "--state-in", state, "--by-position", self.path("curve.json"))
        self.refuse(2, ["--causality bidirectional", "pieces"], *good, "--pieces", 10, "--causality", "bidirectional")
        self.refuse(2, ["--chunk-size 32", "chunks of 16"], *good, "--state-in", state, "--chunk-size", 32)
        self.refuse(2, "--pieces", *good, "--pieces", 0)
        self.refuse(2, ["--state-out", "--state-in"], *good, "--state-in", state, "--state-out", state)
        self.refuse(2, "a state file", *good, "--state-out", "-")
        noncausal = self.model("noncausal.h5", head="tied", causality="block_causal")
        self.refuse(3, ["noncausal.h5", "causality = causal only"], "--model", noncausal, "--input", whole, "--pieces", 10)
        self.assertEqual([name for name in os.listdir(self.folder) if name.endswith(".part")], [])

    def test_streams_of_others_are_refused(self):
        model, (_, first, second) = self.model_of("bsbr"), self.parts()
        state = self.path("s.h5")
        self.evaluate("first", "--model", model, "--input", first, "--state-out", state)
        good = ["--input", second, "--state-in", state]
        one = ids_file(self.path("one.h5"), self.ids[0])
        for ranks in (1, 3):
            self.refuse(3, ["s.h5", "another model", "architecture is bsbr, not linear"], "--model", self.model_of("linear"), *good, ranks=ranks)
            self.refuse(3, ["s.h5", "another model", "num_layers is 2, not 3"], "--model", self.model("deep.h5", head="tied", num_layers=3), *good,
                        ranks=ranks)
            self.refuse(3, ["s.h5", "of precision float, not double", "hint: --precision float"], "--model", model, *good, "--precision", "double",
                        ranks=ranks)
            self.refuse(3, ["s.h5", "2 sequences", "the input has 1"], "--model", model, "--input", one, "--state-in", state, ranks=ranks)
            self.refuse(3, ["model", "a state file"], "--model", model, "--input", second, "--state-in", model, ranks=ranks)
            self.refuse(3, "absent", "--model", model, "--input", second, "--state-in", self.path("absent"), ranks=ranks)
        with h5py.File(model, "r+") as file:  # the same model, trained on
            file["weights/embedding.weight"][3, 5] += 1
        for ranks in (1, 3):
            self.refuse(3, ["s.h5", "is the stream of another model", "hash"], "--model", model, *good, ranks=ranks)

    def test_a_damaged_state_is_refused(self):
        model, (_, first, second) = self.model_of("gau"), self.parts()
        state = self.path("s.h5")
        self.evaluate("first", "--model", model, "--input", first, "--state-out", state)
        good = ["--model", model, "--input", second, "--state-in", state]
        with h5py.File(state, "r+") as file:
            del file["stream/layers.1/state"]
        self.refuse(3, ["s.h5", "/stream/layers.1/state is missing"], *good)
        self.refuse(3, ["s.h5", "/stream/layers.1/state is missing"], *good, ranks=2)
        os.truncate(state, os.path.getsize(state) - 100)
        self.refuse(3, ["s.h5", "truncated"], *good)

    def test_a_full_disk_leaves_no_state(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))  # larger than the files of MPI

        model = self.model_of("standard", hidden_dim=256, num_layers=2)
        text = self.text(content=b"a hello to all the world " * 100)  # 10 MiB of keys and values
        os.mkdir(self.path("results"))
        for ranks in (1, 3):
            self.refuse(6, "s.h5", "--model", model, "--input", text, "--pieces", 500, "--state-out", self.path("results/s.h5"), ranks=ranks,
                        before=limit)
            self.assertEqual(os.listdir(self.path("results")), [])
        self.refuse(6, "nowhere", "--model", model, "--input", text, "--state-out", self.path("nowhere/s.h5"))


if __name__ == "__main__":
    unittest.main()
