"""What bsbr_forward and bsbr_init do when all is well: results, summaries, and their options one by one."""
import json
import os
import re
import resource
import subprocess
import unittest

import h5py
import numpy as np

from json_schema import complaints, described
from programs import OWN_FIELDS, PROGRAMS, Case, config, hidden_states, ids_file, in_parallel, init_options, run

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "apps", "report", "summary.schema.json"), encoding="utf-8") as schema:
    SCHEMA = json.load(schema)
SUMMARY_KEYS = {
    "architecture", "causality", "batch", "tokens", "ranks", "threads_per_rank", "execution_space", "precision", "seconds", "tokens_per_second",
    "flops", "flops_per_second", "peak_memory_bytes", "predicted_memory_bytes", "bytes_sent", "seconds_by_phase", "version",
}


class Help(Case):
    def test_help_and_version_are_printed_once(self):
        for program in ("bsbr_forward", "bsbr_init"):
            for ranks in (1, 3):
                shown, version = run(program, "--help", ranks=ranks), run(program, "--version", ranks=ranks)
                self.assertEqual((shown.code, shown.err, version.code, version.err), (0, "", 0, ""))
                self.assertEqual(shown.out.count("Usage: %s " % program), 1)
                self.assertRegex(version.out, r"^%s \d+\.\d+\.\d+(\+g[0-9a-f]+)? \(.*\)\n$" % program)

    def test_an_option_that_is_nearly_right_is_guessed(self):
        self.assertIn("hint: did you mean --chunk-size?", run("bsbr_forward", "--chunk_size", 3).err)

    def test_a_launcher_of_another_mpi_is_noticed(self):
        model = self.model()
        done = run("bsbr_forward", "--model", model, "--random-tokens", 8, environment={"PMI_SIZE": "3", "PMI_RANK": "0"})
        self.check_failure(done, "bsbr_forward", 5, "3 ranks")


class Init(Case):
    def test_every_architecture_with_all_of_its_fields(self):
        for architecture in OWN_FIELDS:
            fields = config(architecture, hidden_dim=24, ff_dim=20)
            done = run("bsbr_init", "--output", self.path("m.h5"), *init_options(fields))
            self.assertEqual((done.code, done.err), (0, ""))
            self.assertRegex(done.out, r"m\.h5: %s, [\d,]+ parameters" % architecture)
            with h5py.File(self.path("m.h5")) as file:
                found = {name: file.attrs[name] for name in fields}
                self.assertEqual({n: v.decode() if isinstance(v, bytes) else v for n, v in found.items()}, fields)

    def test_gau_has_one_head_unless_told_otherwise(self):
        self.assertEqual(run("bsbr_init", "--output", self.path("m.h5"), "--architecture", "gau", "--hidden-dim", 24).code, 0)

    def test_the_seed_decides_and_ranks_do_not(self):
        options = init_options(config())
        for name, seed, ranks in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
            self.assertEqual(run("bsbr_init", "--output", self.path(name), "--seed", seed, *options, ranks=ranks).code, 0)
        first, same, other = (h5py.File(self.path(name))["weights/embedding.weight"][()] for name in "abc")
        self.assertTrue(np.array_equal(first, same))
        self.assertFalse(np.array_equal(first, other))

    def test_double_precision(self):
        run("bsbr_init", "--output", self.path("m.h5"), "--precision", "double", *init_options(config()))
        with h5py.File(self.path("m.h5")) as file:
            self.assertEqual(file["weights/embedding.weight"].dtype, np.float64)


class Forward(Case):
    def setUp(self):
        super().setUp()
        self.good = self.model()

    def states(self, *arguments, name="result.h5", **how):
        self.forward("--model", self.good, "--output", self.path(name), *arguments, **how)
        return hidden_states(self.path(name))

    def summary(self, *arguments, **how):
        return json.loads(self.forward("--model", self.good, "--json", "-", *arguments, **how).out)

    def test_a_result_says_where_it_comes_from(self):
        states = self.states("--input", self.text())
        self.assertEqual((states.shape, states.dtype), ((1, 200, 32), np.float32))
        self.assertTrue(np.isfinite(states).all())
        with h5py.File(self.path("result.h5")) as file:
            text = {name: value.decode() if isinstance(value, bytes) else value for name, value in file.attrs.items()}
        self.assertEqual((text["format"], text["model"], text["precision"]), ("bsbr-result", self.good, "float"))
        self.assertEqual((text["ranks"], text["threads_per_rank"], text["chunk_size"]), (1, 2, 16))
        self.assertRegex(text["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertLessEqual({"version", "git_commit", "kokkos_version", "hdf5_version", "execution_space", "input"}, set(text))

    def test_an_output_that_is_a_link_is_followed(self):
        os.mkdir(self.path("elsewhere"))
        os.symlink(os.path.join("elsewhere", "real.h5"), self.path("result.h5"))
        for ranks in (1, 3):  # first it points to nothing
            self.states("--random-tokens", 77, ranks=ranks)
            self.assertTrue(os.path.islink(self.path("result.h5")))
            self.assertEqual(os.listdir(self.path("elsewhere")), ["real.h5"])

    def test_the_number_of_ranks_changes_nothing(self):
        for arguments in (["--input", self.text()], ["--random-tokens", 77, "--batch", 2, "--seed", 5]):
            alone = self.states(*arguments)
            self.assertTrue(np.array_equal(alone, self.states(*arguments, ranks=3)))

    def test_the_summary_has_every_figure(self):
        for ranks in (1, 3):
            found = self.summary("--random-tokens", 100, "--batch", 2, "--repeat", 3, ranks=ranks)
            self.assertLessEqual(SUMMARY_KEYS, set(found))
            self.assertEqual((found["batch"], found["tokens"], found["ranks"], found["causality"]), (2, 200, ranks, "causal"))
            self.assertEqual(len(found["seconds_by_repeat"]), 3)
            self.assertEqual(found["seconds"], sorted(found["seconds_by_repeat"])[1])
            self.assertAlmostEqual(found["tokens_per_second"] * found["seconds"], 200, places=6)
            self.assertEqual(found["bytes_sent"].pop("total"), sum(found["bytes_sent"].values()))
            self.assertEqual(sum(found["bytes_sent"].values()) > 0, ranks > 1)

    def valid(self, found):
        """The schema holds for a summary, and describes all of its fields."""
        self.assertEqual(complaints(found, SCHEMA, SCHEMA, "summary"), [])
        self.assertEqual(set(found) - described(SCHEMA, SCHEMA), set())
        return found

    def test_the_summary_is_as_its_schema_says(self):
        for ranks in (1, 3):
            run_of, dry = (self.valid(self.summary("--random-tokens", 100, *more, ranks=ranks)) for more in (["--verify"], ["--dry-run"]))
            self.assertNotIn("seconds", dry)
            for key in ("seconds", "by_rank", "hosts", "format_version"):  # the schema can tell what is not right
                self.assertNotEqual(complaints({**run_of, key: "text"}, SCHEMA, SCHEMA), [])
        for architecture in OWN_FIELDS:
            model = self.model(architecture + ".h5", architecture)
            self.valid(json.loads(self.forward("--model", model, "--random-tokens", 20, "--json", "-").out))

    def test_counts_of_bytes_and_messages_have_their_total(self):
        found = self.summary("--random-tokens", 100, ranks=3)
        counts = [found["bytes_sent"], found["messages_sent"], *(rank[name] for rank in found["by_rank"] for name in ("bytes_sent", "messages_sent"))]
        for count in counts:
            self.assertEqual(count.pop("total"), sum(count.values()))
        self.assertGreater(sum(found["messages_sent"].values()), 0)

    def test_phases_are_a_table_over_the_ranks(self):
        for architecture in OWN_FIELDS:
            model = self.model(architecture + ".h5", architecture)
            out = self.forward("--model", model, "--random-tokens", 300, "--repeat", 3, ranks=3).out
            self.assertLessEqual(max(map(len, out.partition("\n\n")[2].splitlines())), 90)
            rows = re.findall(r"(?m)^  ([a-z_]+) +(\S.*?) +([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+ %$", out)
            self.assertLessEqual({"project", "finish"}, {row[0] for row in rows})
            for row in rows:
                least, mean, most = map(float, row[2:])
                self.assertTrue(least <= mean <= most, row)
                self.assertNotRegex(row[1], r"^[\d.]+$", "a phase without a meaning")

    def test_what_is_in_no_phase_has_a_row_of_its_own(self):
        """Ranks that share a processor: where one waits for its turn between phases, too."""
        out = self.forward("--model", self.good, "--random-tokens", 300, ranks=6).out
        shares = [float(share) for share in re.findall(r"(?m)^  [a-z_]+ .* ([\d.]+) %$", out)]
        self.assertAlmostEqual(sum(shares), 100, delta=0.05 * len(shares) + 0.01)
        self.assertRegex(out, r"(?m)^  other +in none of these phases ")

    def test_the_text_tells_tokens_per_second(self):
        self.assertRegex(self.forward("--model", self.good, "--random-tokens", 100).out, r"[1-9][\d,]* tokens per second")

    def test_quiet_prints_nothing(self):
        self.assertEqual(self.forward("--model", self.good, "--random-tokens", 100, "--quiet").out, "")

    def test_json_goes_to_a_file_beside_the_text(self):
        done = self.forward("--model", self.good, "--random-tokens", 100, "--json", self.path("s.json"))
        self.assertIn("tokens per second", done.out)
        with open(self.path("s.json")) as file:
            self.assertEqual(json.load(file)["tokens"], 100)

    def test_a_file_name_may_hold_any_bytes(self):
        name = os.fsdecode(os.fsencode(self.folder) + b"/mod\xe8le.h5")
        os.rename(self.good, name)
        self.addCleanup(os.rename, name, self.good)
        for ranks in (1, 2):
            done = run("bsbr_forward", "--model", name, "--random-tokens", 10, "--quiet", ranks=ranks)
            self.assertEqual(done.code, 0, done.err)

    def test_max_tokens_cuts_every_sequence(self):
        whole = self.states("--random-tokens", 50, "--batch", 2)
        part = self.states("--random-tokens", 50, "--batch", 2, "--max-tokens", 33)
        self.assertTrue(np.array_equal(part, whole[:, :33]))
        self.assertEqual(self.summary("--random-tokens", 50, "--max-tokens", 99)["tokens"], 50)

    def test_causality_and_chunk_size_overrule_the_model(self):
        plain = self.states("--random-tokens", 50)
        self.assertFalse(np.array_equal(plain, self.states("--random-tokens", 50, "--causality", "bidirectional")))
        self.assertFalse(np.array_equal(plain, self.states("--random-tokens", 50, "--chunk-size", 5)))
        with h5py.File(self.path("result.h5")) as file:
            self.assertEqual(file.attrs["chunk_size"], 5)

    def test_verify_agrees_with_the_reference(self):
        ids = np.arange(120).reshape(2, 60)
        tokens = ids_file(self.path("ids.h5"), ids, ids % 7 != 3)
        for ranks in (1, 3):
            found = self.summary("--input", tokens, "--verify", "--precision", "double", ranks=ranks)["verify"]
            self.assertLess(found["largest_difference"], 1e-10)
            self.assertGreater(found["largest_value"], 0.1)
        self.assertRegex(self.forward("--model", self.good, "--input", tokens, "--verify").out, "largest difference to the reference")

    def test_progress_is_shown_when_asked_for(self):
        done = run("bsbr_forward", "--model", self.good, "--random-tokens", 100, "--repeat", 2, "--progress", "on", ranks=3)
        self.assertEqual(done.err.count("forward 2 of 2"), 1)
        self.assertIn("drawing random tokens", done.err)
        self.assertNotIn("reading random", done.err)

    def test_random_tokens_depend_on_the_seed(self):
        one, two = (self.states("--random-tokens", 50, "--seed", seed) for seed in (1, 2))
        self.assertFalse(np.array_equal(one, two))

    def test_stdout_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([os.path.join(PROGRAMS, "bsbr_forward"), "--model", self.good, "--random-tokens", "9"], stdout=full,
                                  stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 6, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1)


class Input(Case):
    """How ids may be stored, and what is said of it."""

    def setUp(self):
        super().setUp()
        self.good = self.model()
        self.ids = np.arange(120).reshape(2, 60) * 7 % 256

    def states(self, source, *arguments, **how):
        self.forward("--model", self.good, "--input", source, "--output", self.path("result.h5"), "--quiet", *arguments, **how)
        return hidden_states(self.path("result.h5"))

    def described(self, source, *arguments):
        """-> the rows "input" and "note" of the text, the fields of JSON, the attributes of the result"""
        done = self.forward("--model", self.good, "--input", source, "--json", self.path("s.json"), "--output", self.path("result.h5"), *arguments)
        rows = dict(line.split(None, 1) for line in done.out.splitlines() if line.startswith("  "))
        with open(self.path("s.json")) as file:
            summary = {name: value for name, value in json.load(file).items() if name.startswith("input_")}
        with h5py.File(self.path("result.h5")) as file:
            attributes = {name: value for name, value in file.attrs.items() if name.startswith("input_")}
        return rows["input"], rows.get("note", ""), summary, attributes

    def test_a_dataset_is_named_with_its_type(self):
        for mask, more in ((None, ""), (self.ids % 2, ", with a mask")):
            path = ids_file(self.path("ids.h5"), self.ids.astype("i4"), mask)
            fields = dict(input_format="hdf5", input_dataset="/inputs/input_ids", input_type="int32")
            self.assertEqual(self.described(path), (path + ":/inputs/input_ids, int32" + more, "", fields, fields))

    def test_bytes_are_named_as_such_and_noted_where_the_name_says_otherwise(self):
        fields = dict(input_format="bytes", input_type="uint8")
        text = self.text("book.txt")
        self.assertEqual(self.described(text), (text + ", its bytes", "", fields, fields))
        for name in ("train.bin", "ids.h5", "ids.JSON"):
            path = self.text(name)
            line, note, summary, attributes = self.described(path)
            self.assertEqual((line, attributes), (path + ", its bytes", fields))
            self.assertIn(os.path.splitext(name)[1].lower(), note)
            self.assertEqual(summary, {**fields, "input_note": note})
            self.assertEqual(self.described(path, "--bytes")[1], "")

    def test_random_tokens_say_so(self):
        found = json.loads(self.forward("--model", self.good, "--random-tokens", 9, "--json", "-").out)
        self.assertEqual((found["input"], found["input_format"]), ("random", "random"))

    def test_bytes_go_with_any_vocabulary_if_they_are_asked_for(self):
        large = self.model("large.h5", vocab_size=500)
        self.forward("--model", large, "--input", self.text(), "--bytes")
        np.savez(self.path("ids.npz"), self.ids)
        found = json.loads(self.forward("--model", large, "--input", self.path("ids.npz"), "--bytes", "--json", "-").out)
        self.assertEqual(found["tokens"], os.path.getsize(self.path("ids.npz")))

    def test_npy_files_of_every_type_and_order_give_what_a_dataset_gives(self):
        expected = self.states(ids_file(self.path("ids.h5"), self.ids))
        for order in "CF":
            for kind in ("u1", "<i2", ">i2", "<u4", ">u4", "<i8", ">u8"):
                path = self.path("ids.npy")
                np.save(path, np.asarray(self.ids, kind, order=order))
                with self.subTest(order=order, kind=kind):
                    self.assertTrue(np.array_equal(self.states(path, ranks=3 if kind == ">u4" else 1), expected))
        np.save(path, self.ids.astype("<u2"))
        fields = dict(input_format="npy", input_type="uint16")
        self.assertEqual(self.described(path), (path + ", uint16", "", fields, fields))

    def test_chunked_datasets_are_read_whatever_dimension_may_grow(self):
        """Chunks are found by another index for each number of unlimited dimensions and each version of the format."""
        expected = self.states(ids_file(self.path("plain.h5"), self.ids, self.ids % 5 > 0))
        cases = [(version, most, how) for version, how in (("earliest", {}), ("v110", {}), ("latest", dict(compression="gzip", fletcher32=True)))
                 for most in (None, (2, None), (None, 60), (None, None))]

        def check(number):
            version, most, how = cases[number]
            path, result = self.path("ids%d.h5" % number), self.path("result%d.h5" % number)
            with h5py.File(path, "w", libver=version) as file:
                for name, data in (("input_ids", self.ids), ("attention_mask", self.ids % 5 > 0)):
                    file.create_dataset(name, data=data, chunks=(1, 17), maxshape=most, **how)
            self.forward("--model", self.good, "--input", path, "--output", result, "--quiet")
            self.assertTrue(np.array_equal(hidden_states(result), expected), cases[number])

        failed = in_parallel(check, range(len(cases)))
        self.assertFalse(failed, failed)

    def test_weights_may_be_stored_in_chunks_that_can_grow(self):
        expected = self.states(ids_file(self.path("ids.h5"), self.ids))
        for most in (lambda shape: (*shape[:-1], None), lambda shape: (None, *shape[1:]), lambda shape: (None,) * len(shape)):
            with h5py.File(self.good) as old, h5py.File(self.path("grown.h5"), "w", libver="latest") as new:
                new.attrs.update(old.attrs)
                for name, data in old["weights"].items():
                    chunk = tuple(max(1, extent // 2) for extent in data.shape)
                    new.create_dataset("weights/" + name, data=data[()], chunks=chunk, maxshape=most(data.shape), compression="gzip")
            self.forward("--model", self.path("grown.h5"), "--input", self.path("ids.h5"), "--output", self.path("other.h5"), "--quiet")
            self.assertTrue(np.array_equal(hidden_states(self.path("other.h5")), expected))


class EveryArchitecture(Case):
    """A batch with padding, in one process and on three ranks."""

    def setUp(self):
        super().setUp()
        ids = np.arange(120).reshape(2, 60)
        self.tokens = ids_file(self.path("ids.h5"), ids, ids % 7 != 3)

    def test_agrees_with_the_reference(self):
        for architecture in OWN_FIELDS:
            model = self.model(architecture + ".h5", architecture)
            for ranks in (1, 3):
                with self.subTest(architecture=architecture, ranks=ranks):
                    done = self.forward("--model", model, "--input", self.tokens, "--verify", "--precision", "double", "--json", "-", ranks=ranks)
                    found = json.loads(done.out)
                    self.assertEqual(found["architecture"], architecture)
                    self.assertLess(found["verify"]["largest_difference"], 1e-10)
                    self.assertGreater(found["verify"]["largest_value"], 0.1)

    def test_gives_the_same_result_on_any_number_of_ranks_and_another_one_with_the_mask(self):
        for architecture, own in OWN_FIELDS.items():
            with self.subTest(architecture=architecture):
                model = self.model(architecture + ".h5", architecture)
                results = {}
                for name, how in {"alone": {}, "ranks": dict(ranks=3)}.items():
                    self.forward("--model", model, "--input", self.tokens, "--output", self.path(name), **how)
                    results[name] = hidden_states(self.path(name))
                self.assertTrue(np.array_equal(results["alone"], results["ranks"]))
                with h5py.File(self.path("alone")) as file:
                    found = {name: file.attrs[name] for name in own}
                self.assertEqual({name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()}, own)
                ids_file(self.path("whole.h5"), np.arange(120).reshape(2, 60))
                self.forward("--model", model, "--input", self.path("whole.h5"), "--output", self.path("whole"))
                self.assertFalse(np.array_equal(results["alone"], hidden_states(self.path("whole"))))

    def test_has_phases_and_sends_something_between_ranks(self):
        for architecture in OWN_FIELDS:
            with self.subTest(architecture=architecture):
                model = self.model(architecture + ".h5", architecture)
                found = json.loads(self.forward("--model", model, "--random-tokens", 100, "--json", "-", ranks=3).out)
                self.assertLessEqual(SUMMARY_KEYS - {"causality"}, set(found))
                self.assertGreater(found["bytes_sent"]["total"], 0)
                self.assertLessEqual({"embedding", "project", "exchange", "finish", "final_norm"}, set(found["seconds_by_phase"]))


@unittest.skipIf(os.environ.get("BSBR_SANITIZED") == "1", "sanitizers take memory of their own")
class Memory(Case):
    def test_a_dry_run_predicts_the_peak_and_computes_nothing(self):
        model = self.model(hidden_dim=256, ff_dim=1024)
        for ranks in (1, 3):
            arguments = ["--model", model, "--random-tokens", 60000, "--json", "-"]
            dry = json.loads(self.forward(*arguments, "--dry-run", ranks=ranks).out)
            real = json.loads(self.forward(*arguments, ranks=ranks).out)
            self.assertNotIn("seconds", dry)
            self.assertAlmostEqual(dry["predicted_memory_bytes"] / real["predicted_memory_bytes"], 1, delta=0.01)
            self.assertAlmostEqual(real["predicted_memory_bytes"] / real["peak_memory_bytes"], 1, delta=0.1)
            parts = dry["partition"]
            self.assertEqual(sum(part["tokens"] for part in parts), 60000)
            self.assertEqual(max(part["memory_bytes"] for part in parts), dry["predicted_memory_bytes"])

    def test_many_small_layers_take_no_more_than_is_predicted_and_in_proportion(self):
        peaks = []
        for layers in (250, 1000):
            model = self.model(hidden_dim=1, num_heads=1, ff_dim=1, vocab_size=2, num_layers=layers)
            found = json.loads(self.forward("--model", model, "--random-tokens", 10, "--json", "-").out)
            peaks.append(found["peak_memory_bytes"])
            self.assertLess(peaks[-1], 1.05 * found["predicted_memory_bytes"], layers)
            self.assertLess(found["predicted_memory_bytes"], peaks[-1] + (48 << 20), layers)
        self.assertLess(peaks[1] - peaks[0], 48 << 20)  # 16 KiB for each more, and HDF5's cache

    def test_a_dry_run_prints_every_rank(self):
        done = self.forward("--model", self.model(), "--random-tokens", 1000, "--dry-run", ranks=3)
        self.assertEqual(len(re.findall(r"^ +\d+ +[\d,]+ +\d+ .* [KM]iB$", done.out, re.M)), 3)

    def test_columns_of_huge_numbers_stay_apart(self):
        out = self.forward("--model", self.model(), "--random-tokens", 10 ** 12, "--dry-run", ranks=2).out
        table = out.partition("\n\n")[2].splitlines()
        self.assertEqual(len(table), 3)
        for line in table[1:]:
            self.assertEqual(len(re.findall(r"  [\d,]+(?= |$)", line)), 5, out)
        self.assertEqual(len(set(map(len, table))), 1)

    def test_too_little_address_space_is_seen_before_it_is_used(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

        model = self.model(hidden_dim=256, ff_dim=1024)
        done = run("bsbr_forward", "--model", model, "--random-tokens", 3 << 20, before=limit)
        self.check_failure(done, "bsbr_forward", 4, ["needed", "available on rank 0"])


if __name__ == "__main__":
    unittest.main()
