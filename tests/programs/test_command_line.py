"""What the programs' command lines have in common: help, short options, whole numbers, completion."""
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import tempfile
import types
import unittest

import numpy as np

from programs import MPIEXEC, PROGRAMS, Case, hidden_states, ids_file, mpi_session, names, run

NAMES = names()


def options_of(program):
    """The long options in its help."""
    return re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+)", run(program, "--help").out, flags=re.M)


class Help(unittest.TestCase):
    def test_no_line_is_longer_than_80_columns(self):
        for program in NAMES:
            for line in run(program, "--help").out.splitlines():
                self.assertLessEqual(len(line), 80, line)

    def test_no_space_ends_a_line_and_no_paragraph_is_broken_early(self):
        for program in NAMES:
            lines = run(program, "--help").out.splitlines()
            for line, following in zip(lines, lines[1:]):
                self.assertEqual(line, line.rstrip())
                text = re.match(r"( {31})?(?! )", line)  # a paragraph or a description that goes on
                if text and line and following.startswith(text.group()) and following.strip() and not following[len(text.group())] in " [":
                    if not re.search(r"[.:]$", line) and not line.startswith("Usage"):
                        self.assertGreater(len(line) + 1 + len(following.split()[0]), 80, line)


class ShortOptions(Case):
    def test_they_are_the_long_ones(self):
        model, result = self.path("m.h5"), self.path("r.h5")
        done = run("bsbr_init", "-o", model, "--architecture", "linear", "--hidden-dim", 32, "--num-layers", 1)
        self.assertEqual((done.code, done.err), (0, ""))
        self.forward("-m", model, "-i", self.text(), "-o", result)
        self.assertTrue(os.path.exists(result))
        self.forward("-m" + model, "-i", self.text(), "-o" + result)

    def test_messages_name_the_long_ones(self):
        self.check_failure(run("bsbr_forward", "-m"), "bsbr_forward", 2, "--model: its value is missing")
        self.check_failure(run("bsbr_forward", "-m", "a", "-m", "b"), "bsbr_forward", 2, "--model: given more than once")
        self.check_failure(run("bsbr_forward", "-m", "a", "-i", ""), "bsbr_forward", 2, "--input: the value is empty")
        self.check_failure(run("bsbr_init", "-o", ""), "bsbr_init", 2, "--output: the value is empty")
        self.check_failure(run("bsbr_forward", "-x"), "bsbr_forward", 2, "unknown option -x")


class Stdin(Case):
    """--input -"""

    def forward_stdin(self, content, *arguments, ranks=1):
        command = [os.path.join(PROGRAMS, "bsbr_forward"), *map(str, arguments), "--input", "-"]
        command = command if ranks == 1 else [*MPIEXEC, str(ranks), *command]
        with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session:
            environment = {**os.environ, **mpi_session(session), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, input=content, capture_output=True, timeout=60, env=environment)
        return types.SimpleNamespace(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    def test_it_is_read_as_a_file_is(self):
        model, content = self.model(), bytes(range(256)) * 20
        self.forward("--model", model, "--input", self.text(content=content), "--output", self.path("of_file.h5"))
        with open(ids_file(self.path("ids.h5"), np.arange(40).reshape(2, 20)), "rb") as file:
            hdf5 = file.read()
        self.forward("--model", model, "--input", self.path("ids.h5"), "--output", self.path("of_hdf5.h5"))
        for ranks in (1, 3):
            for name, given in (("of_file.h5", content), ("of_hdf5.h5", hdf5)):
                done = self.forward_stdin(given, "--model", model, "--output", self.path("r.h5"), "--json", "-", ranks=ranks)
                self.assertEqual((done.code, done.err), (0, ""))
                self.assertEqual(json.loads(done.out)["input"], "stdin")
                self.assertTrue(np.array_equal(hidden_states(self.path("r.h5")), hidden_states(self.path(name))))

    def test_what_is_wrong_with_it_is_said_of_stdin(self):
        model = self.model(vocab_size=100)
        for ranks in (1, 2):
            self.check_failure(self.forward_stdin(b"", "--model", model, ranks=ranks), "bsbr_forward", 3, "stdin: ", ranks)
            done = self.forward_stdin(b"\x89HDF\r\n\x1a\n and no more", "--model", model, ranks=ranks)
            self.check_failure(done, "bsbr_forward", 3, "stdin: ", ranks)
            self.assertNotIn("/proc", done.err)


class WholeNumbers(Case):
    def length(self, text):
        """What a program makes of a number of tokens."""
        done = self.forward("--model", self.model_path, "--random-tokens", text, "--dry-run", "--json", "-")
        return json.loads(done.out)["length"]

    def setUp(self):
        super().setUp()
        self.model_path = self.model(architecture="linear")

    def test_k_m_g_are_powers_of_1024_and_e_of_ten(self):
        for text, expected in [("128k", 131072), ("128K", 131072), ("1M", 1 << 20), ("1m", 1 << 20), ("1G", 1 << 30), ("1.5k", 1536), ("1e6", 10**6),
                               ("1E3", 1000), ("2.5e3", 2500), ("100", 100), ("0.5M", 1 << 19)]:
            self.assertEqual(self.length(text), expected, text)

    def test_lists_and_other_options_take_them_too(self):
        done = run("bsbr_compare", "--architectures", "linear", "--seq-lengths", "1k,0.5k", "--hidden-dim", 32, "--num-layers", 1, "--json", "-",
                   "--ff-dim", "0.25k", "--repeat", "1")
        found = json.loads(done.out)
        self.assertEqual([result["seq_length"] for result in found["results"]], [512, 1024])
        self.assertEqual(found["config"]["ff_dim"], 256)

    def test_what_is_no_whole_number_is_refused_with_the_rule(self):
        for text in ("12x", "1.5", "k", "1kk", "0.3k", "1e-1", "e6", "inf", "nan", "0x10", "1e", "1 k", "", "128kB", "1e400"):
            done = run("bsbr_forward", "--model", self.model_path, "--random-tokens", text)
            self.check_failure(done, "bsbr_forward", 2, ["--random-tokens", f"'{text}' is not a whole number"])
            self.assertIn("hint: 128k is", done.err)

    def test_ranges_hold_for_them(self):
        for text, says in [("-1k", "below 1"), ("0k", "below 1"), ("1e30", "above"), ("99999999T", "above")]:
            self.check_failure(run("bsbr_forward", "--model", self.model_path, "--random-tokens", text), "bsbr_forward", 2,
                               ["--random-tokens", text, says])


class Completion(Case):
    def script(self, program, shell):
        done = run(program, "--completion", shell)
        self.assertEqual((done.code, done.err), (0, ""))
        return done.out

    def complete(self, *words, program="bsbr_forward"):
        """What bash offers for the last word."""
        script = self.path(program + ".bash")
        with open(script, "w", encoding="utf-8") as file:
            file.write(self.script(program, "bash"))
        test = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _' + program + '; printf "%s\\n" "${COMPREPLY[@]}"'
        done = subprocess.run(["bash", "-c", test, script, program, *words], capture_output=True, text=True, cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [word for word in done.stdout.split("\n") if word]

    def test_bash_offers_every_option_of_the_help(self):
        for program in NAMES:
            offered = self.complete("--", program=program)
            self.assertEqual(sorted(offered), sorted(options_of(program)))
        self.assertIn("-m", self.complete("-"))
        self.assertEqual(self.complete("--rand"), ["--random-tokens"])

    def test_bash_offers_the_values_of_choices(self):
        self.assertEqual(self.complete("--precision", ""), ["float", "double", "bfloat16"])
        self.assertEqual(self.complete("--precision", "d"), ["double"])
        self.assertEqual(self.complete("--precision", "=", "d"), ["double"])
        self.assertEqual(self.complete("--precision", "="), ["float", "double", "bfloat16"])
        self.assertEqual(self.complete("--progress", "o"), ["on", "off"])
        self.assertEqual(self.complete("--completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.complete("--architecture", "s", program="bsbr_init"), ["standard", "sliding_window"])
        self.assertEqual(self.complete("--architectures", "bsbr,st", program="bsbr_compare"), ["bsbr,standard"])
        self.assertEqual(self.complete("--format", "c", program="bsbr_compare"), ["csv"])

    def test_bash_offers_files_where_a_file_is_meant_and_nothing_where_a_number_is(self):
        for name in ("one.h5", "two words.h5"):
            self.text(name)
        for option in ("--model", "-m", "--input", "-i", "--output", "--json"):
            self.assertEqual(sorted(self.complete(option, "")), sorted(os.listdir(self.folder)))
        self.assertEqual(self.complete("--model", "tw"), ["two words.h5"])
        self.assertEqual(self.complete("--batch", ""), [])
        self.assertEqual(self.complete("--timeout", ""), [])

    def test_bash_offers_options_after_a_flag(self):
        for program in NAMES:
            flags = self.flags(program)
            self.assertIn("--help", flags)
            for flag in flags:
                self.assertEqual(sorted(self.complete(flag, "--", program=program)), sorted(options_of(program)), flag)

    def flags(self, program):
        """The options that take no value, as the help has them."""
        return re.findall(r"(?m)^  (?:-\w, )?(--[a-z0-9-]+)(?:  .*)?$", run(program, "--help").out)

    @unittest.skipUnless(shutil.which("zsh"), "zsh is missing")
    def test_zsh_reads_its_script_and_knows_every_option(self):
        for program in NAMES:
            script = self.script(program, "zsh")
            self.assertTrue(script.startswith(f"#compdef {program}\n"))
            # _arguments is called with one argument for each name of an option, as zsh itself splits them.
            arguments = "_arguments() { shift; printf '%s\\n' \"$@\" }\n"
            sourced = self.zsh(arguments + "compdef() { [[ $* == '_" + program + " " + program + "' ]] && $1 }\n" + script)
            names = re.findall(r"^\(.*?\)(--[a-z0-9-]+)\[", sourced, flags=re.M)
            self.assertEqual(sorted(names), sorted(options_of(program)), sourced)
            without_value = re.findall(r"^\(.*?\)(--[a-z0-9-]+)\[.*\]$", sourced, flags=re.M)
            self.assertEqual(sorted(without_value), sorted(self.flags(program)))
            self.script_file("_" + program, script)
            found = self.zsh(arguments + f"fpath=({shlex.quote(self.folder)}); autoload -Uz _{program}; _{program}")
            self.assertEqual(found, sourced)

    def zsh(self, commands):
        done = subprocess.run(["zsh", "-f", "-c", commands], capture_output=True, text=True, cwd=self.folder)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    @unittest.skipUnless(shutil.which("zsh"), "zsh is missing")
    def test_zsh_completes_a_command_line_after_its_script_is_sourced(self):
        self.script_file(".zshrc", """
            PS1='ready>' PROMPT_SP=
            autoload -Uz compinit; compinit -u -D
            """ + "".join(f"source <({os.path.join(PROGRAMS, program)} --completion zsh)\n" for program in NAMES) + """
            finish() { print -r -- "$BUFFER." >line; exit }
            zle -N finish; bindkey '^X' finish
            """)
        for typed, completed in [("bsbr_compare --quiet --form", "bsbr_compare --quiet --format "),
                                 ("bsbr_compare --architectures st", "bsbr_compare --architectures standard "),
                                 ("bsbr_compare --architectures bsbr,st", "bsbr_compare --architectures bsbr,standard "),
                                 ("bsbr_forward --precision d", "bsbr_forward --precision double ")]:
            self.assertEqual(self.typed_in_zsh(typed + "\t\x18"), completed + ".\n")

    def script_file(self, name, text):
        return self.text(name, text.encode())

    def typed_in_zsh(self, keys):
        """What stands on the line of an interactive zsh, with the .zshrc of the folder, after these keys."""
        terminal, end = pty.openpty()
        shell = subprocess.Popen(["zsh", "-i"], stdin=end, stdout=end, stderr=end, cwd=self.folder, start_new_session=True,
                                 env={**os.environ, "ZDOTDIR": self.folder, "TERM": "dumb"})
        os.close(end)
        try:
            shown = b""
            while b"ready>" not in shown:
                shown += os.read(terminal, 4096)
            os.write(terminal, keys.encode())
            try:
                while os.read(terminal, 4096):
                    pass
            except OSError:  # the shell has left
                pass
            shell.wait(timeout=60)
        finally:
            shell.kill()
            shell.wait()
            os.close(terminal)
        with open(self.path("line"), encoding="utf-8") as file:
            return file.read()

    @unittest.skipUnless(shutil.which("fish"), "fish is missing")
    def test_fish_offers_options_and_values(self):
        def offered(program, line):
            test = self.script(program, "fish") + f"\ncomplete -C '{line}'\n"
            done = subprocess.run(["fish", "--no-config", "-c", test], capture_output=True, text=True, cwd=self.folder, env={**os.environ, "HOME": self.folder})
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            return [entry.split("\t")[0] for entry in done.stdout.splitlines()]

        for program in NAMES:
            self.assertLessEqual(set(options_of(program)), set(offered(program, program + " --")))
        self.assertEqual(sorted(offered("bsbr_forward", "bsbr_forward --precision ")), ["bfloat16", "double", "float"])
        for flag in self.flags("bsbr_forward"):
            self.assertIn("--verify", offered("bsbr_forward", f"bsbr_forward {flag} --ver"), flag)

    def test_another_shell_is_refused(self):
        self.check_failure(run("bsbr_forward", "--completion", "tcsh"), "bsbr_forward", 2, ["--completion", "tcsh", "bash, zsh, fish"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
