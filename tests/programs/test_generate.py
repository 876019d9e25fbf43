"""bsbr_generate: the same tokens on any ranks and threads, drawn as the model says; what it writes, refuses, and leaves when it is stopped."""
import json
import os
import resource
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from jobs import LAUNCHER, Job
from programs import MPIEXEC, OWN_FIELDS, PROGRAMS, Case, ids_file, in_parallel, run

PROMPT = "a hello to all the world, "
TOKENS = 40


class Generate(Case):
    def with_head(self, name="model.h5", architecture="bsbr", **changes):
        return self.model(name, architecture, head="separate", **changes)

    def generate(self, *arguments, **how):
        """-> the bytes that it writes into a file."""
        output = self.path(f"generated-{time.time_ns()}")
        done = run("bsbr_generate", *arguments, "--output", output, "--quiet", **how)
        self.assertEqual((done.code, done.out, done.err), (0, "", ""))
        with open(output, "rb") as file:
            return file.read()

    def refuse(self, code, says, *arguments, ranks=1, **how):
        done = run("bsbr_generate", *arguments, ranks=ranks, **how)
        self.check_failure(done, "bsbr_generate", code, says, ranks)

    # ---- which tokens ----

    def check_architecture(self, architecture):
        model = self.with_head(architecture + ".h5", architecture)
        for options in (["--temperature", 0], ["--temperature", 0.8, "--top-k", 30, "--top-p", 0.9, "--seed", 3]):
            start = ["--model", model, "--prompt", PROMPT, "--tokens", TOKENS, *options]
            wanted = self.generate(*start, environment={"OMP_NUM_THREADS": "1"})
            self.assertEqual(len(wanted), TOKENS)
            for how in (dict(environment={"OMP_NUM_THREADS": "2"}), dict(ranks=2), dict(ranks=3)):
                self.assertEqual(self.generate(*start, **how), wanted, (architecture, options, how))

    def test_ranks_and_threads_change_no_token(self):
        self.assertEqual(in_parallel(self.check_architecture, list(OWN_FIELDS), workers=2), {})

    def check_greedy(self, precision, vocab_size):
        """Each token has the lowest loss of all that might follow what is before it, by bsbr_evaluate."""
        name = f"{precision}-{vocab_size}"
        model, ids = self.with_head(name + ".h5", vocab_size=vocab_size), list(np.arange(9) * 7 % vocab_size)
        source = ids_file(self.path(name + "-prompt.h5"), ids)
        options = ["--model", model, "--precision", precision]
        text = self.generate(*options, "--input", source, "--tokens", 4, "--temperature", 0)
        found = list(text) if vocab_size == 256 else list(map(int, text.split()))
        self.assertEqual(len(found), 4)
        for token in found:
            rows = ids_file(self.path(name + "-rows.h5"), [[*ids, last] for last in range(vocab_size)])
            losses = self.path(name + "-losses.h5")
            done = run("bsbr_evaluate", *options, "--input", rows, "--token-losses", losses, "--quiet")
            self.assertEqual(done.code, 0, done.err)
            with h5py.File(losses) as file:
                self.assertEqual(token, int(np.argmin(file["token_loss"][:, -2])))
            ids.append(token)

    def test_temperature_0_takes_what_bsbr_evaluate_finds_most_probable(self):
        for precision, vocab_size in (("float", 256), ("double", 31)):
            self.check_greedy(precision, vocab_size)

    def test_top_k_1_is_greedy(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", TOKENS]
        self.assertEqual(self.generate(*start, "--top-k", 1, "--seed", 5), self.generate(*start, "--temperature", 0))
        self.assertEqual(self.generate(*start, "--top-p", 1e-9, "--seed", 5), self.generate(*start, "--temperature", 0))

    def test_seeds(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", TOKENS]
        texts = [self.generate(*start, "--seed", seed) for seed in (0, 1, 2)]
        self.assertEqual(len(set(texts)), 3)
        self.assertEqual(self.generate(*start), texts[0])

    def test_a_part_and_the_rest_are_the_whole(self):
        """Draws depend on positions: who goes on with what was generated draws what would have come."""
        start = ["--model", self.with_head(), "--seed", 4]
        whole = self.generate(*start, "--prompt", PROMPT, "--tokens", TOKENS)
        first = self.generate(*start, "--prompt", PROMPT, "--tokens", 15)
        rest = self.generate(*start, "--input", self.text(content=PROMPT.encode() + first), "--tokens", TOKENS - 15)
        self.assertEqual(first + rest, whole)

    def check_taken_up(self, architecture):
        start = ["--model", self.with_head(architecture + ".h5", architecture), "--seed", 6, "--top-k", 40]
        whole = self.generate(*start, "--prompt", PROMPT, "--tokens", TOKENS)
        state = self.path(architecture + ".state")
        first = self.generate(*start, "--prompt", PROMPT, "--tokens", 15, "--state-out", state, ranks=3)
        for ranks in (1, 2):
            rest = self.generate(*start, "--state-in", state, "--tokens", TOKENS - 15, ranks=ranks)
            self.assertEqual(first + rest, whole, (architecture, ranks))

    def test_a_saved_stream_is_taken_up_on_other_ranks(self):
        self.assertEqual(in_parallel(self.check_taken_up, list(OWN_FIELDS), workers=2), {})

    def test_a_prompt_goes_on_behind_what_a_stream_has_read(self):
        """Whether bsbr_evaluate or bsbr_generate has saved it."""
        model, state, text = self.with_head(), self.path("s.h5"), self.text(content=PROMPT.encode())
        start = ["--model", model, "--tokens", TOKENS]
        self.assertEqual(run("bsbr_evaluate", "--model", model, "--input", text, "--state-out", state, "--quiet").code, 0)
        self.assertEqual(self.generate(*start, "--state-in", state), self.generate(*start, "--prompt", PROMPT))
        self.assertEqual(self.generate(*start, "--state-in", state, "--prompt", "and so on"), self.generate(*start, "--prompt", PROMPT + "and so on"))
        rows = np.arange(30).reshape(2, 15)
        texts = self.generate("--model", model, "--input", ids_file(self.path("rows.h5"), rows), "--tokens", 5, "--state-out", state, ranks=2)
        whole = [[*row, *texts[6 * i:6 * i + 5], *b"and so on"] for i, row in enumerate(rows)]
        self.assertEqual(self.generate(*start, "--state-in", state, "--prompt", "and so on"),
                         self.generate(*start, "--input", ids_file(self.path("whole.h5"), whole), ranks=2))

    def test_sequences_of_a_batch_are_drawn_apart_and_do_not_depend_on_it(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", TOKENS]
        texts = self.generate(*start, "--batch", 4)
        self.assertEqual(len(texts), 4 * (TOKENS + 1))
        rows = [texts[i * (TOKENS + 1):(i + 1) * (TOKENS + 1)] for i in range(4)]
        self.assertTrue(all(row.endswith(b"\n") for row in rows))
        self.assertEqual(len(set(rows)), 4)
        self.assertEqual(self.generate(*start), rows[0][:-1])
        self.assertEqual(self.generate(*start, "--batch", 2, ranks=2), rows[0] + rows[1])

    def test_rows_of_a_dataset_are_prompts_and_padding_on_the_left_is_not_seen(self):
        model = self.with_head("ids.h5", vocab_size=100)
        ids, mask = np.arange(46).reshape(2, 23) % 100, np.ones((2, 23), np.uint8)
        mask[1, :9] = 0
        start = ["--model", model, "--tokens", 12, "--temperature", 0]
        found = self.generate(*start, "--input", ids_file(self.path("rows.h5"), ids, mask))
        ids[1, :9] = 99
        self.assertEqual(self.generate(*start, "--input", ids_file(self.path("rows.h5"), ids, mask), ranks=3), found)
        first, second = (list(map(int, part.split())) for part in found.decode().strip().split("\n\n"))
        self.assertEqual((len(first), len(second)), (12, 12))
        alone = self.generate(*start, "--input", ids_file(self.path("one.h5"), ids[0]))
        self.assertEqual(list(map(int, alone.split())), first)
        mask[1, :] = 1 - mask[1, :]
        self.refuse(3, ("rows.h5", "row 1", "padding"), *start, "--input", ids_file(self.path("rows.h5"), ids, mask))

    def test_vocabulary_of_one(self):
        model = self.with_head("one.h5", vocab_size=1)
        self.assertEqual(self.generate("--model", model, "--input", ids_file(self.path("ids.h5"), [0, 0]), "--tokens", 3), b"0\n0\n0\n")

    # ---- what is written ----

    def run_raw(self, *arguments, ranks=1, **how):
        command = [os.path.join(PROGRAMS, "bsbr_generate"), *map(str, arguments)]
        return subprocess.run([*MPIEXEC, str(ranks), *command] if ranks > 1 else command, stdin=subprocess.DEVNULL, timeout=60, **how)

    def test_stdout_has_the_bytes_of_the_file(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", TOKENS]
        wanted = self.generate(*start)
        for ranks in (1, 2):
            done = self.run_raw(*start, ranks=ranks, capture_output=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, wanted, b""))

    def test_summary(self):
        model, output, summary = self.with_head(), self.path("text"), self.path("summary.json")
        start = ["--model", model, "--prompt", PROMPT, "--tokens", 9, "--batch", 2, "--temperature", 0.7, "--top-k", 5, "--seed", 8]
        done = self.run_raw(*start, "--json", summary, capture_output=True)
        self.assertEqual((done.returncode, len(done.stdout), done.stderr), (0, 2 * 10, b""))
        with open(summary, encoding="utf-8") as file:
            found = json.load(file)
        expected = {"format": "bsbr-generation-summary", "batch": 2, "tokens": 9, "first_token": 0, "prompt_tokens": len(PROMPT), "temperature": 0.7, "top_k": 5,
                    "top_p": 1, "seed": 8, "stopped_by": None, "model": model, "output": "stdout", "vocab_size": 256, "ranks": 1}
        self.assertEqual({key: found[key] for key in expected}, expected)
        for key in ("prefill_tokens_per_second", "decode_tokens_per_second", "stream_bytes", "peak_memory_bytes"):
            self.assertGreater(found[key], 0)
        done = run("bsbr_generate", *start, "--output", output)
        self.assertIn("9 tokens of each of 2 sequences", done.out)
        self.assertEqual(run("bsbr_generate", *start, "--output", output, "--json", "-").out[:1], "{")

    def test_progress_is_on_stderr(self):
        done = run("bsbr_generate", "--model", self.with_head(), "--prompt", PROMPT, "--tokens", 5, "--progress", "on", "--output", self.path("text"))
        self.assertEqual(done.code, 0)
        self.assertIn("bsbr_generate: generating", done.err)

    def test_signals_end_it_with_what_there_is(self):
        model = self.with_head()
        for number, ranks in ((signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGTERM, 2)):
            with self.subTest(number, ranks=ranks):
                folder = self.path(f"job-{number}-{ranks}")
                os.mkdir(folder)
                summary, state = os.path.join(folder, "summary.json"), os.path.join(folder, "s.h5")
                command = [os.path.join(PROGRAMS, "bsbr_generate"), "--model", model, "--prompt", PROMPT, "--tokens", "1000000", "--json", summary,
                           "--state-out", state]
                job = Job([*MPIEXEC, str(ranks), *command] if ranks > 1 else command, folder)
                self.addCleanup(job.clear)
                self.assertTrue(Job.wait(lambda job=job: os.path.getsize(job.path("out")) > 3, time.time() + 30))
                job.send(number, LAUNCHER if ranks == 1 else 1)
                self.assertTrue(Job.wait(job.has_ended, time.time() + 30))
                self.assertEqual(job.launcher.returncode, 75, job.read("err"))
                with open(summary, encoding="utf-8") as file:
                    found = json.load(file)
                self.assertEqual(found["tokens"], os.path.getsize(job.path("out")))
                self.assertIsNotNone(found["stopped_by"])
                with h5py.File(state) as file:
                    self.assertEqual(file["stream"].attrs["tokens"], len(PROMPT) + found["tokens"])

    def test_a_reader_that_has_enough_ends_it_with_what_there_is(self):
        summary, state = self.path("summary.json"), self.path("s.h5")
        command = [os.path.join(PROGRAMS, "bsbr_generate"), "--model", self.with_head(), "--prompt", PROMPT, "--tokens", "1000000", "--json", summary,
                   "--state-out", state]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as job:
            self.assertEqual(len(job.stdout.read(10)), 10)
            job.stdout.close()
            self.assertEqual((job.wait(60), job.stderr.read()), (75, b""))
        with open(summary, encoding="utf-8") as file:
            found = json.load(file)
        self.assertEqual(found["stopped_by"], "SIGPIPE")
        with h5py.File(state) as file:
            self.assertEqual(file["stream"].attrs["tokens"], len(PROMPT) + found["tokens"])

    def test_other_ranks_wait_longer_than_their_time_limit(self):
        """Prefill and messages have it; that rank 0 works alone for a while is no fault."""
        done = run("bsbr_generate", "--model", self.with_head(), "--prompt", PROMPT, "--tokens", 20000, "--timeout", 1, "--output", self.path("text"),
                   "--json", self.path("summary.json"), ranks=3)
        self.assertEqual(done.code, 0, done.err)
        with open(self.path("summary.json"), encoding="utf-8") as file:
            self.assertGreater(json.load(file)["decode_seconds"], 1)

    # ---- what is refused ----

    def test_usage(self):
        model = self.with_head()
        start, prompt, output = ["--model", model, "--tokens", 5], ["--prompt", "x"], ["--output", self.path("text")]
        for says, arguments in (
                ("--model", [*prompt, "--tokens", 5]), ("--input", start), ("--tokens", ["--model", model, *prompt]),
                (("--prompt", "--input"), [*start, *prompt, "--input", model]), ("--prompt is empty", [*start, "--prompt", ""]),
                ("--tokens", ["--model", model, *prompt, "--tokens", 0]), ("--temperature", [*start, *prompt, "--temperature", -1]),
                ("--temperature", [*start, *prompt, "--temperature", "nan"]), ("--top-k", [*start, *prompt, "--top-k", -1]),
                ("--top-p", [*start, *prompt, "--top-p", 0]), ("--top-p", [*start, *prompt, "--top-p", 1.5]),
                ("--seed", [*start, *prompt, "--seed", -1]), ("--batch", [*start, *prompt, "--batch", 0]),
                ("--json -", [*start, *prompt, "--json", "-"]), ("--output", [*start, *prompt, "--output", model]),
                (("--output", "--json"), [*start, *prompt, *output, "--json", self.path("text")])):
            self.refuse(2, says, *arguments)
        state = self.path("s.h5")
        self.refuse(2, ("--batch", "--state-in", "exclude each other"), *start, "--state-in", state, "--batch", 2)
        self.refuse(2, "--prompt is empty", *start, "--state-in", state, "--prompt", "")
        self.refuse(2, "a state file", *start, *prompt, "--state-out", "-")
        self.refuse(2, ("--state-out", "--state-in"), *start, "--state-in", state, "--state-out", state)
        self.refuse(2, ("--state-out", "--output"), *start, *prompt, *output, "--state-out", self.path("text"))
        rows = ids_file(self.path("rows.h5"), np.zeros((3, 4), np.int32))
        self.refuse(2, ("--batch 2", "3 rows"), *start, "--input", rows, "--batch", 2)
        words = self.with_head("words.h5", vocab_size=300)
        self.refuse(2, ("--prompt", "300"), "--model", words, "--tokens", 5, *prompt)
        self.assertFalse(os.path.exists(self.path("text")))

    def test_files(self):
        prompt = ["--prompt", "x", "--tokens", 5]
        self.refuse(3, "no head", "--model", self.model("none.h5"), *prompt)
        self.refuse(3, ("later.h5", "causality = bidirectional"), "--model", self.with_head("later.h5", causality="bidirectional"), *prompt)
        self.refuse(3, ("empty", "empty"), "--model", self.with_head(), "--input", self.text("empty", b""), "--tokens", 5)
        beyond = ids_file(self.path("ids.h5"), [1, 300, 2])
        self.refuse(3, "300", "--model", self.path("model.h5"), "--input", beyond, "--tokens", 5, ranks=3)

    def test_streams_of_others_are_refused(self):
        state, rows = self.path("s.h5"), ids_file(self.path("rows.h5"), np.zeros((3, 4), np.int32))
        self.generate("--model", self.with_head(), "--prompt", PROMPT, "--tokens", 2, "--batch", 2, "--state-out", state)
        start = ["--state-in", state, "--tokens", 5]
        for ranks in (1, 3):
            self.refuse(3, ("s.h5", "another model", "architecture"), "--model", self.with_head("linear.h5", "linear"), *start, ranks=ranks)
            self.refuse(3, ("s.h5", "another model", "hash"), "--model", self.with_head("other.h5", seed=7), *start, ranks=ranks)
            self.refuse(3, ("s.h5", "of precision float, not double"), "--model", self.path("model.h5"), *start, "--precision", "double", ranks=ranks)
            self.refuse(3, ("s.h5", "2 sequences", "the input has 3"), "--model", self.path("model.h5"), *start, "--input", rows, ranks=ranks)
        with h5py.File(state, "r+") as file:
            file["stream"].attrs["tokens"] = 0
        self.refuse(3, ("s.h5", "no token", "no prompt"), "--model", self.path("model.h5"), *start)

    def test_a_stream_that_ends_with_padding_needs_a_prompt(self):
        model, state, rows = self.with_head(), self.path("s.h5"), self.path("rows.h5")
        with h5py.File(rows, "w") as file:
            file["input_ids"] = np.ones((2, 6), np.int32)
            file["attention_mask"] = np.array([[1] * 6, [1] * 4 + [0] * 2], np.uint8)
        self.assertEqual(run("bsbr_evaluate", "--model", model, "--input", rows, "--state-out", state, "--quiet").code, 0)
        start = ["--model", model, "--state-in", state, "--tokens", 5]
        for ranks in (1, 3):
            self.refuse(3, ("s.h5", "the last token of sequence 1 is padding", "hint: a prompt may follow"), *start, ranks=ranks)
        self.assertEqual(len(self.generate(*start, "--prompt", "x")), 2 * 6)

    def test_a_full_disk_leaves_no_state(self):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (6 << 20, 6 << 20))  # larger than the files of MPI

        model = self.with_head("wide.h5", "standard", hidden_dim=256)
        start = ["--model", model, "--input", self.text(content=b"a hello to all the world " * 100), "--tokens", 5]  # 10 MiB of keys and values
        os.mkdir(self.path("results"))
        for ranks in (1, 3):
            self.refuse(6, "s.h5", *start, "--output", self.path(f"text-{ranks}"), "--state-out", self.path("results/s.h5"), ranks=ranks, before=limit)
            self.assertEqual(os.listdir(self.path("results")), [])
            self.assertEqual(os.path.getsize(self.path(f"text-{ranks}")), 5)
        self.refuse(6, "nowhere", *start, "--state-out", self.path("nowhere/s.h5"))

    def test_logits_that_are_not_finite(self):
        model = self.with_head()
        with h5py.File(model, "r+") as file:
            file["weights/lm_head.weight"][...] *= 3e38 / np.abs(file["weights/lm_head.weight"][()]).max()
        for ranks in (1, 3):
            self.refuse(7, ("token 1", "logit of id", "hint: if numbers overflow, --precision double"), "--model", model, "--prompt", "x", "--tokens", 5, ranks=ranks)

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", 5]
        with open("/dev/full", "w") as full:
            done = self.run_raw(*start, stdout=full, stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (6, b"bsbr_generate: error: stdout cannot be written: No space left on device\n"))
        self.refuse(6, "no-such-folder", *start, "--output", self.path("no-such-folder/text"))

    def test_a_file_that_may_not_grow_leaves_nothing(self):
        start = ["--model", self.with_head(), "--prompt", PROMPT, "--tokens", 40, "--output", self.path("text")]
        self.refuse(6, "text", *start, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)))
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("text")], [])


if __name__ == "__main__":
    unittest.main()
