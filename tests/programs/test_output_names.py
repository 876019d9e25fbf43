"""No output overwrites another, nor what is read, by whatever names: exit code 2, a line that names both, and all files as they were."""
import json
import os
import subprocess
import unittest

from programs import PROGRAMS, Case, hidden_states, init_options, config, run

TOKENS = ["--random-tokens", 300]


class OutputNames(Case):
    def setUp(self):
        super().setUp()
        self.good = self.model()
        os.mkdir(self.path("folder"))
        os.symlink(self.path("folder"), self.path("same_folder"))

    def contents(self):
        found = {}
        for folder, _, names in os.walk(self.folder):
            for path in (os.path.join(folder, name) for name in names):
                if os.path.exists(path):
                    with open(path, "rb") as file:
                        found[path] = file.read()
                else:
                    found[path] = "a link to nothing"
        return found

    def refused(self, says, *arguments, program="bsbr_forward", **how):
        before = self.contents()
        done = run(program, *arguments, **how)
        self.check_failure(done, program, 2, says, how.get("ranks", 1))
        self.assertEqual(self.contents(), before)

    def forward_refused(self, output, json_name, says=("--output", "--json")):
        with self.subTest(output=output, json=json_name):
            self.refused([*says, output, json_name], "--model", self.good, *TOKENS, "--output", output, "--json", json_name)

    def test_two_outputs_of_one_name_are_refused(self):
        path = self.path
        self.forward_refused(path("x"), path("x"))
        self.forward_refused(path("x.part"), path("x"))
        self.forward_refused(path("x"), path("x.part"))
        self.forward_refused(path("folder/x"), path("same_folder/x"))
        self.forward_refused(path("folder/x.part"), path("same_folder/x"))
        self.forward_refused(path("folder/../x"), path("x"))
        self.forward_refused(os.path.relpath(path("x")), path("x.part"))
        self.refused(["--output", "--json"], "--model", self.good, *TOKENS, "--output", path("x.part"), "--json", path("x"), ranks=2)

    def test_links_to_what_does_not_exist_yet_count(self):
        os.symlink("target", self.path("link"))
        os.symlink("link", self.path("link_to_link"))
        for name in ("target", "target.part", "link_to_link"):
            self.forward_refused(self.path("link"), self.path(name))
            self.forward_refused(self.path(name), self.path("link"))

    def test_hard_links_count(self):
        self.text("one")
        os.link(self.path("one"), self.path("other"))
        self.forward_refused(self.path("one"), self.path("other"))
        os.link(self.path("one"), self.path("x.part"))
        self.forward_refused(self.path("x"), self.path("other"))

    def test_what_is_read_is_not_overwritten(self):
        ids = self.text()
        for name, target in (("link", self.good), ("link_to_ids", ids)):
            os.symlink(target, self.path(name))
        os.link(self.good, self.path("hard.h5"))
        os.link(self.good, self.path("other.part"))
        common = ["--model", self.good, "--input", ids]
        for option in ("--output", "--json"):
            for name, read in ((self.good, "--model"), (self.path("link"), "--model"), (self.path("hard.h5"), "--model"),
                               (self.path("other"), "--model"), (self.path("same_folder/../model.h5"), "--model"),
                               (ids, "--input"), (self.path("link_to_ids"), "--input")):
                with self.subTest(option=option, name=name):
                    self.refused([option, read, name], *common, option, name)
        os.rename(self.good, self.path("m.h5.part"))
        self.refused(["--output", "--model", "m.h5.part"], "--model", self.path("m.h5.part"), *TOKENS, "--output", self.path("m.h5"))
        os.rename(ids, self.path("r.h5.part"))
        self.refused(["--output", "--input", "r.h5.part"], "--model", self.path("m.h5.part"), "--input", self.path("r.h5.part"),
                     "--output", self.path("r.h5"))

    def redirected(self, program, path, *arguments):
        """The program with its stdout in a file. -> (exit code, stderr)"""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(path, "wb") as out:
            done = subprocess.run([os.path.join(PROGRAMS, program), *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.PIPE, text=True, env=environment)
        return done.returncode, done.stderr

    def test_a_file_that_stdout_goes_to_is_an_output_too(self):
        forward, out = ["--model", self.good, *TOKENS], self.path("out")
        cases = [("bsbr_forward", [*forward, "--output", out]), ("bsbr_forward", [*forward, "--json", out]),
                 ("bsbr_forward", [*forward, "--json", "/dev/stdout"]), ("bsbr_forward", [*forward, "--output", "/dev/stdout", "--json", "-"]),
                 ("bsbr_forward", [*forward, "--output", out, "--json", "-", "--quiet"]),
                 ("bsbr_compare", ["--seq-lengths", 64, "--json", out]),
                 ("bsbr_init", [*init_options(config()), "--output", out])]
        for program, arguments in cases:
            with self.subTest(program=program, arguments=arguments):
                code, err = self.redirected(program, out, *arguments)
                self.assertEqual(code, 2, err)
                self.assertIn("stdout", err)
        code, err = self.redirected("bsbr_forward", self.path("x.part"), *forward, "--output", self.path("x"))
        self.assertEqual(code, 2, err)

    def test_stdout_in_a_file_is_free_where_nothing_is_printed(self):
        code, err = self.redirected("bsbr_forward", self.path("out"), "--model", self.good, *TOKENS, "--quiet", "--output", self.path("out"))
        self.assertEqual((code, err), (0, ""))
        self.assertEqual(hidden_states(self.path("out")).shape, (1, 300, 32))

    def test_a_result_or_model_does_not_go_to_stdout(self):
        self.refused(["--output", "stdout"], "--model", self.good, *TOKENS, "--output", "-")
        self.refused(["--output", "stdout"], *init_options(config()), "--output", "-", program="bsbr_init")

    def test_names_that_only_look_alike_are_taken(self):
        self.forward("--model", self.good, *TOKENS, "--output", self.path("x"), "--json", self.path("folder/x"), "--quiet")
        self.forward("--model", self.good, *TOKENS, "--output", self.path("x"), "--json", self.path("x.part.json"), "--quiet")
        self.assertEqual(hidden_states(self.path("x")).shape, (1, 300, 32))
        with open(self.path("x.part.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["tokens"], 300)
        self.forward("--model", self.good, *TOKENS, "--output", self.path("x"), "--quiet")  # an older result may be replaced


if __name__ == "__main__":
    unittest.main()
