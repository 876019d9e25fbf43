"""The man pages of the programs: that they have all of --help in the sections of a man page, and that groff finds nothing wrong."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "programs"))
from programs import PROGRAMS, names, run  # noqa: E402

PAGES = os.environ["BSBR_MAN_PAGES"]
NAMES = names()


def page_of(program):
    return os.path.join(PAGES, f"{program}.1")


def source_of(program):
    with open(page_of(program), encoding="utf-8") as file:
        return file.read().replace("\\-", "-").replace("\\/", "").replace("\\,", "")


class ManPages(unittest.TestCase):
    def test_sections_are_those_of_a_man_page(self):
        for program in NAMES:
            found = re.findall(r'^\.SH "?([A-Z ]+)', source_of(program), flags=re.M)
            self.assertEqual(found, ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"], program)

    def test_every_option_has_an_entry(self):
        for program in NAMES:
            options = re.findall(r"^  (?:-[a-z], )?(--[a-z0-9-]+)", run(program, "--help").out, flags=re.M)
            entries = re.findall(r"^\.TP\n.*?(--[a-z0-9-]+)", source_of(program), flags=re.M)
            self.assertGreater(len(options), 10)
            self.assertEqual(entries, options, program)

    def test_the_synopsis_is_whole(self):
        for program in NAMES:
            usage = re.search(r"^Usage: \S+ (.*?)\n\n", run(program, "--help").out, flags=re.M | re.S).group(1)
            synopsis = re.search(r"^\.SH SYNOPSIS\n\.nh\n\.ad l\n\.cflags 0 -\n\.B \S+\n(.*?)^\.SH", source_of(program), flags=re.M | re.S).group(1)
            self.assertEqual(re.sub(r"\\f[BIR]|\s", "", synopsis), re.sub(r"\s", "", usage), program)

    @unittest.skipUnless(shutil.which("groff"), "groff is missing")
    def test_groff_has_nothing_to_say(self):
        for page in [*map(page_of, NAMES), os.path.join(PAGES, "bsbr.7")]:
            done = subprocess.run(["groff", "-man", "-ww", "-z", page], capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "", page)

    @unittest.skipUnless(shutil.which("groff"), "groff is missing")
    def test_no_word_is_hyphenated(self):
        for program in NAMES:
            done = subprocess.run(["groff", "-man", "-Tutf8", "-rLL=78n", "-P-c", page_of(program)], capture_output=True, text=True, check=True)
            self.assertNotIn("\u2010\n", done.stdout, program)
            examples = re.search(r"^Examples:\n((?:  .*\n)+)", run(program, "--help").out, flags=re.M).group(1)
            for name in examples.split():
                self.assertIn(name, done.stdout.replace("\u2010", "-"), program)

    def test_see_also_is_a_list_of_pages(self):
        for program in NAMES:
            lines = source_of(program).split(".SH \"SEE ALSO\"\n")[1].splitlines()
            for line in lines:
                self.assertRegex(line, r"^\.BR [a-z_-]+ \([17]\),?$")
            self.assertIn(".BR bsbr (7),", lines)
            for other in NAMES:
                self.assertIn(f".BR {other} (1),", lines)

    def test_the_python_tools_have_pages_under_their_installed_names(self):
        for tool in ("bsbr-analyze", "bsbr-convert", "bsbr-plot-training", "bsbr-scaling", "bsbr-tokens"):
            source = source_of(tool)
            self.assertIn(f".SH NAME\n{tool} ", source)
            self.assertRegex(source, rf"(?m)^\.B {tool}\n\S+")


class Generate(unittest.TestCase):
    """docs/man/generate.cmake, which runs what makes pages and completion."""

    def generate(self, folder, *command):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "man", "generate.cmake")
        output = os.path.join(folder, "a b", "made")
        done = subprocess.run(["cmake", f"-DOUTPUT={output}", "-P", script, "--", *command], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)  # never fails a build
        return output, done.stderr

    def test_what_a_command_prints_is_the_file(self):
        with tempfile.TemporaryDirectory() as folder:
            output, said = self.generate(folder, "echo", "one two", "three")
            with open(output, encoding="utf-8") as file:
                self.assertEqual((file.read(), said), ("one two three\n", ""))

    def test_a_command_that_fails_leaves_no_file_and_a_warning(self):
        with tempfile.TemporaryDirectory() as folder:
            for command in (["sh", "-c", "echo half; echo why >&2; exit 3"], [os.path.join(folder, "not there")]):
                output, said = self.generate(folder, *command)
                self.assertEqual(os.listdir(os.path.dirname(output)), [])
                self.assertIn("Warning", said)
                self.assertIn("cannot be made", said)

    @unittest.skipUnless(shutil.which("help2man"), "help2man is missing")
    def test_a_page_is_made_where_the_path_has_a_space(self):
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "man")
        with tempfile.TemporaryDirectory() as folder:
            sources = os.path.join(folder, "with a space")
            os.makedirs(sources)
            for name in ("help.sh", "sections.h2m"):
                shutil.copy(os.path.join(here, name), sources)
            program = shutil.copy(os.path.join(PROGRAMS, "bsbr_init"), os.path.join(sources, "bsbr_init"))
            command = ["help2man", "--no-info", "--version-string=bsbr_init 1", "--include=sections.h2m", "./help.sh"]
            done = subprocess.run(command, cwd=sources, env={**os.environ, "BSBR_PROGRAM": program}, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("--architecture", done.stdout.replace("\\-", "-"))


if __name__ == "__main__":
    unittest.main()
