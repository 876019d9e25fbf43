"""bsbr_train: what it refuses before the first step: ids that no vocabulary has, data with nothing to predict, an input that has changed since
the checkpoint, settings that cannot be.
"""
import os
import shutil
import unittest

import h5py
import numpy as np

from programs import ids_file, run
from test_train import Training, attribute, datasets


class Ids(Training):
    def begin(self, source):
        return ["--model", self.small(), "--input", source, "--length", 40, "--batch", 1, "--steps", 1, "--output", self.path("c.h5")]

    def test_an_id_that_no_window_of_the_file_begins_with_is_found_before_the_first_step(self):
        ids = np.arange(119) % 200
        ids[110] = 999
        start = self.begin(ids_file(self.path("ids.h5"), ids))
        for ranks in (1, 3):
            self.refuse(3, ("ids.h5: /inputs/input_ids holds 999 at [0, 110]", "ids are 0 to 255"), *start, "--log", self.path("log"), ranks=ranks)
        self.assertFalse(os.path.exists(self.path("log")))  # which the first step makes

    def test_ids_of_a_run_that_is_resumed_are_looked_at(self):
        self.train(*self.options(self.small()), "--stop-after", 1, code=75)
        other = self.path("other.npy")
        np.save(other, np.where(np.arange(4000) == 3990, 256, 7).astype(np.uint16))
        resume = ["--resume", self.path("c.h5"), "--output", self.path("d.h5"), "--log", self.path("log")]
        self.refuse(3, ("other.npy: holds 256 at [0, 3990]", "ids are 0 to 255"), *resume, "--input", other)
        self.assertFalse(os.path.exists(self.path("log")))

    def test_masks_have_two_values(self):
        mask = np.ones((9, 40), np.int32)
        mask[8, 3] = 5
        start = self.begin(ids_file(self.path("ids.h5"), np.full((9, 40), 7, np.uint8), mask))
        self.refuse(3, "/inputs/attention_mask holds 5 at [8, 3]", *start)

    def test_something_has_to_be_predicted(self):
        ids, mask = np.full((4, 40), 7, np.uint8), np.zeros((4, 40), np.uint8)
        mask[:, ::2] = 1  # no token has one behind it
        source, start = ids_file(self.path("alone.h5"), ids, mask), self.begin(self.data)
        for ranks in (1, 3):
            self.refuse(3, ("alone.h5", "none of the ids [4, 40] has a target"), *start, "--validation", source, "--log", self.path("log"), ranks=ranks)
        self.refuse(3, "alone.h5", *self.begin(source))
        self.assertFalse(os.path.exists(self.path("log")))
        mask[3, 1] = 1
        source = ids_file(self.path("one.h5"), ids, mask)
        self.train(*start[:-2], "--validation", source)
        # Of what is for validation, that is.
        self.refuse(3, ("one.h5", "none of the ids [3, 40]"), *start, "--validation", source, "--validation-tokens", 120)


class Resumed(Training):
    def setUp(self):
        super().setUp()
        self.train(*self.options(self.small()), "--stop-after", 2, code=75)
        self.resume = ["--resume", self.path("c.h5"), "--output", self.path("d.h5")]

    def rewrite(self, **changes):
        """The checkpoint with other attributes of /training; None: without."""
        with h5py.File(self.path("c.h5"), "r+") as file:
            for name, value in changes.items():
                del file["training"].attrs[name]
                if value is not None:
                    file["training"].attrs[name] = value

    def test_the_input_has_to_be_what_it_was(self):
        self.assertEqual(list(attribute(self.path("c.h5"), "input_shape")), [6000])
        with open(self.data, "rb") as file:
            before = file.read()
        self.text(content=before + bytes(3000))
        says = ("text: holds ids [9000]", "c.h5 was trained on [6000]", "hint: the input as it was; or --input ")
        for ranks in (1, 3):
            self.refuse(3, says, *self.resume, ranks=ranks)
        np.save(self.path("rows.npy"), np.zeros((150, 40), np.uint8))  # as many
        shutil.move(self.path("rows.npy"), self.data)
        self.refuse(3, ("text: holds ids [150, 40]", "[6000]"), *self.resume)
        self.assertFalse(os.path.exists(self.path("d.h5")))
        # Who names an input knows that it is another.
        self.text(content=before + bytes(3000))
        self.train("--resume", self.path("c.h5"), "--input", self.data, name="other")
        self.assertEqual(list(attribute(self.path("other.h5"), "input_shape")), [9000])

    def test_checkpoints_that_say_nothing_of_the_input_are_taken(self):
        self.rewrite(input_shape=None)
        self.train("--resume", self.path("c.h5"), name="d")
        self.assertEqual(list(attribute(self.path("d.h5"), "input_shape")), [6000])

    def test_an_input_that_has_moved_may_be_named(self):
        moved = self.path("moved")
        os.rename(self.data, moved)
        err = self.refuse(3, "there is no such file", *self.resume)
        self.assertIn("c.h5 has this name from --input, which may be given anew", err)
        done = run("bsbr_train", *self.resume, "--input", self.path("nothing"))
        self.assertEqual((done.code, "hint: " in done.err), (3, False))
        self.train("--resume", self.path("c.h5"), "--input", moved, name="d")

    def test_a_new_input_is_read_as_its_own_options_say(self):
        ids = np.arange(3000, dtype=np.uint16) % 100
        np.save(self.path("ids.npy"), ids)
        self.data = self.path("ids.npy")
        self.train(*self.options(self.path("bsbr.h5")), "--bytes", "--stop-after", 2, name="bytes", code=75)
        self.assertEqual(list(attribute(self.path("bytes.h5"), "input_shape")), [6000 + 128])
        self.train("--resume", self.path("c.h5"), "--input", self.path("ids.npy"), name="ids")
        self.assertEqual((attribute(self.path("ids.h5"), "bytes"), list(attribute(self.path("ids.h5"), "input_shape"))), ("off", [3000]))
        self.train("--resume", self.path("bytes.h5"), "--input", self.path("ids.npy"), name="off")
        self.assertEqual((attribute(self.path("off.h5"), "bytes"), list(attribute(self.path("off.h5"), "input_shape"))), ("off", [3000]))
        self.train("--resume", self.path("bytes.h5"), name="on")
        self.assertEqual(attribute(self.path("on.h5"), "bytes"), "on")

    def test_options_of_validation_need_one(self):
        for option in ("--validate-every", "--validation-tokens"):
            self.refuse(2, (option, "has no validation"), *self.resume, option, 50)
        self.train("--resume", self.path("c.h5"), "--validate-every", 50, "--validation", self.data, name="d")

    def test_a_bad_setting_of_a_checkpoint_is_the_files_fault(self):
        whole = self.path("whole.h5")
        shutil.copy(self.path("c.h5"), whole)
        for name, value, says in (("beta1", 1.0, "beta1 = 1 "), ("clip", np.nan, "clip = "), ("warmup_steps", -4, "warmup_steps = -4"),
                                  ("epsilon", 1e-60, "epsilon = 1e-60"), ("batch", 1 << 20, "sequences in a step"), ("steps", 1, "steps"),
                                  ("input_shape", 6000, "input_shape")):
            shutil.copy(whole, self.path("c.h5"))
            if name == "batch":
                self.rewrite(accumulate=1 << 20)
            self.rewrite(**{name: value})
            self.refuse(3, ("c.h5: ", "/training", says), *self.resume)


class Numbers(Training):
    def test_epsilon_has_to_be_a_number_of_the_runs_precision(self):
        start = [*self.options(self.small()), "--output", self.path("c.h5")]
        for way in ([], ["--dry-run"]):
            self.refuse(2, ("epsilon = 1e-60 is 0 in float", "hint: "), *start, "--epsilon", "1e-60", *way)
        self.refuse(2, "weight_decay = 1e+40 is infinite in float", *start, "--weight-decay", "1e40")
        self.train(*start[:-2], "--epsilon", "1e-60", "--precision", "double")

    def test_a_step_whose_squares_overflow_changes_nothing(self):
        model = self.small()
        with h5py.File(model, "r+") as file:
            file["weights/layer_norm.weight"][...] = 1e20
        before = datasets(model, "weights")
        found, log = self.train("--model", model, "--input", self.data, "--length", 40, "--steps", 2, "--clip", 0)
        self.assertTrue(all(1e19 < line["gradient_norm"] < np.inf for line in log), log)
        self.assertEqual([name for name, value in before.items() if not np.array_equal(value, found[name])], [])
        self.assertEqual([name for name, value in found.items() if "second_moment" in name and value.any()], [])
        self.train("--resume", self.path("c.h5"), "--steps", 3)
        # Clipped, its squares are small.
        found, _ = self.train("--model", model, "--input", self.data, "--length", 40, "--steps", 1, name="clipped")
        self.assertTrue(any(value.any() for name, value in found.items() if "second_moment" in name))


if __name__ == "__main__":
    unittest.main()
