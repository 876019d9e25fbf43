"""Every command in README and the other pages, run as it stands there.

    test_commands.py [PAGE…]        pages from the root of the repository; without any: all

A page is run from its top to its end by one shell, so that a later command has what an earlier one has set, in a folder that looks like the
root of the repository with a build in build/release. All pages share the folder, README first, so that they find what it has made.

Blocks of `sh` and `bash` are run as they are; of `console` what follows `$ ` is run, and what stands below is compared with what it prints
(`…` stands for anything, and nothing below for not compared); of `python` all. C++ is compiled by the build (CMakeLists.txt here). blocks.py
says how a page tells what is not run, and why; a block that is neither run nor told of fails.

Where matplotlib is missing, which pages need, the test counts as skipped: the exit code is 77.
"""
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import blocks

sys.path.insert(0, os.path.join(blocks.ROOT, "tests", "programs"))
from programs import MPIEXEC, PROGRAMS, mpi_session, names, run  # noqa: E402

SHELL, PYTHON, COMPILED = ("sh", "bash"), ("python",), ("cpp",)
OF_NO_COMMAND = ("text", "json", "yaml", "cmake")  # a project's CMake is that of examples, which have tests of their own
LIMIT = float(os.environ.get("BSBR_DOCS_LIMIT", "480"))  # seconds for a page
SKIPPED = 77
PAGES = sys.argv[1:] or blocks.pages()


def make_root(folder):
    """A folder that looks like the root of the repository; what commands write to build/ stays in it.

    `mpirun` in build/bin is that of the build, `python3` the one that runs this test."""
    for name in os.listdir(blocks.ROOT):
        if not name.startswith((".", "build", "install")):
            os.symlink(os.path.join(blocks.ROOT, name), os.path.join(folder, name))
    release, tools = (os.path.join(folder, "build", name) for name in ("release", "bin"))
    os.makedirs(release)
    os.makedirs(tools)
    programs = os.path.abspath(PROGRAMS)
    os.symlink(programs, os.path.join(release, "apps"))
    benchmarks = os.path.join(os.path.dirname(programs), "perf")
    if os.path.exists(os.path.join(benchmarks, "bench_forward")):
        os.symlink(benchmarks, os.path.join(release, "perf"))
    os.symlink(shutil.which(MPIEXEC[0]), os.path.join(tools, "mpirun"))
    write(os.path.join(tools, "python3"), f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(os.path.join(tools, "python3"), 0o755)
    return folder


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Page:
    """The blocks of a page as one shell script, which is run in the folder `root`; `notes` is for what the page does not see."""

    def __init__(self, page, source, root, notes):
        self.page, self.root, self.notes = page, root, notes
        self.ran, self.left_out, self.expected = [], [], []
        self.places = os.path.join(notes, "places")
        self.script = ["set -e -o pipefail", f"exec 9>{self.places}"]
        for block in blocks.blocks_in(page, source):
            self._add(block)

    def _add(self, block):
        missing = [needed for needed in block.said("needs") if not self._has(needed)]
        if block.said("not run") or missing:
            self.left_out.append((block, block.said("not run") or [f"there is no `{missing[0]}`"]))
        elif block.language in SHELL:
            self._run(block, block.text_in_tests())
        elif block.language in PYTHON:
            self._run(block, "python3 " + write(os.path.join(self.notes, f"{block.line}.py"), block.text_in_tests()))
        elif block.language == "console":
            self._run(block, "\n".join(self._console(block)))

    def _has(self, needed):
        if needed == "Open MPI":
            launcher = os.path.join(self.root, "build", "bin", "mpirun")
            return needed in subprocess.run([launcher, "--version"], capture_output=True, text=True).stdout
        kind, _, name = needed.partition(" ")
        if kind == "import":  # in a process of its own: the tests' Python finds the sources of bsbr_hpc, too
            return subprocess.run([sys.executable, "-c", f"import {name}"], cwd=self.notes, capture_output=True).returncode == 0
        return os.path.exists(os.path.join(self.root, needed))

    def _run(self, block, text):
        """Each block first writes where it stands, so that a failure can say so."""
        self.ran.append(block)
        self.script += [f"echo {block.place} >&9", text]

    def _console(self, block):
        """The commands of a console, each with its output in a file."""
        for number, part in enumerate(re.split(r"^\$ ", block.text_in_tests(), flags=re.M)[1:]):
            command, _, output = part.partition("\n")
            path = os.path.join(self.notes, f"{block.line}-{number}.txt")
            yield f"{{ {command}\n}} > {path}"
            if output.strip():
                self.expected.append((f"{block.place}: {command}", path, output))

    def run(self):
        """None, or what went wrong and where."""
        if not self.ran:
            return None
        script = write(os.path.join(self.notes, "page.sh"), "\n".join(self.script) + "\n")
        with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session:
            child = subprocess.Popen(["bash", script], cwd=self.root, env=self._environment(session), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            try:
                output = child.communicate(timeout=LIMIT)[0].decode("utf-8", "replace")
                ended = f"ended with {child.returncode}" if child.returncode != 0 else None
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                output, ended = child.communicate()[0].decode("utf-8", "replace"), f"the page was not done after {LIMIT:g} seconds"
        if ended:
            with open(self.places, encoding="utf-8") as file:
                return f"{file.read().split()[-1]}: {ended}:\n{output[-3000:]}"
        return self._unexpected()

    def _environment(self, session):
        path = os.pathsep.join([os.path.join(self.root, "build", "bin"), os.path.abspath(PROGRAMS), os.environ["PATH"]])
        return {**os.environ, **mpi_session(session), "PATH": path, "COLUMNS": "80", "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1"}

    def _unexpected(self):
        for command, path, expected in self.expected:
            with open(path, encoding="utf-8") as file:
                output = file.read()
            if not matches(expected, output):
                return f"{command}: the page says\n{expected}\nit printed\n{output}"
        return None


def matches(expected, output):
    """Whether an output is the expected one, where `…` stands for anything, on a line or over lines. Space counts as one."""
    def words(text):
        return " ".join(text.split())

    pattern = ".*".join(re.escape(part) for part in re.split(" ?… ?", words(expected)))
    return re.fullmatch(pattern, words(output)) is not None


class Commands(unittest.TestCase):
    def test_every_command_of_a_page_runs(self):
        with tempfile.TemporaryDirectory(prefix="bsbr-docs-") as root:
            make_root(root)
            for name in PAGES:
                with self.subTest(page=name), tempfile.TemporaryDirectory(prefix="bsbr-notes-") as notes:
                    page = Page(name, blocks.source_of(name), root, notes)
                    problem = page.run()
                    report(page)
                    self.assertIsNone(problem, problem)

    def test_the_command_reference_has_every_program(self):
        tools = [f"tools/{name}" for name in os.listdir(os.path.join(blocks.ROOT, "tools")) if name.endswith(".py")]
        for name in names() + [name for name in tools if os.access(os.path.join(blocks.ROOT, name), os.X_OK)]:
            self.assertRegex(blocks.source_of("docs/commands.md"), rf"(?m)^\$ (python3 )?{name} --help$")

    def test_what_is_not_run_is_valid_shell(self):
        for name in PAGES:
            for block in blocks.blocks_in(name, blocks.source_of(name)):
                if block.language in SHELL:
                    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
                    self.assertEqual(done.stderr, "", block.place)

    def test_options_that_the_text_names_exist(self):
        benchmarks = [name for name in ("../perf/bench_forward", "../perf/bench_architectures", "../perf/bench_gradients")
                      if os.path.exists(os.path.join(PROGRAMS, name))]
        known = {os.path.basename(name): run(name, "--help").out for name in names() + benchmarks}
        for name in PAGES:
            for program, rest in re.findall(rf"`(?:[A-Z_]+=\w+ )*({'|'.join(known)}) ([^`]*)`", blocks.source_of(name)):
                for option in re.findall(r"--[a-z-]+", rest):
                    self.assertRegex(known[program], rf"(?m)^  (-[a-z], )?{option}\b", f"{name}: {program} {rest}")

    def test_every_block_is_run_or_says_why_not(self):
        known = (*SHELL, *PYTHON, *COMPILED, *OF_NO_COMMAND, "console")
        for name in PAGES:
            source = blocks.source_of(name)
            silent = [block.place for block in blocks.blocks_in(name, source) if block.language not in known and not block.said("not run")]
            self.assertEqual(silent, [], "blocks of a language that no test runs, without a remark that says why")
            self.assertEqual(blocks.commands_outside_blocks(name, source), [], "commands that are not in a fenced block")


class Pages(unittest.TestCase):
    """What is read of a page, and when a page fails."""

    def run_page(self, source):
        with tempfile.TemporaryDirectory(prefix="bsbr-docs-") as root, tempfile.TemporaryDirectory(prefix="bsbr-notes-") as notes:
            return Page("page.md", source, make_root(root), notes).run()

    def test_a_command_that_fails_is_named_with_its_line(self):
        self.assertIn("page.md:5: ended with 3", self.run_page("```sh\ntrue\n```\n\n```sh\n(exit 3)\ntrue\n```\n"))

    def test_a_program_is_run_as_the_page_has_it(self):
        self.assertIn("--no-such-option", self.run_page("```sh\nbsbr_init --no-such-option\n```\n"))

    def test_what_a_console_prints_is_compared(self):
        self.assertIsNone(self.run_page("```console\n$ echo one two three\none … three\n$ echo four\n```\n"))
        self.assertIn("the page says", self.run_page("```console\n$ echo one two three\none … four\n```\n"))

    def test_python_that_fails_is_a_failure(self):
        self.assertIn("AssertionError", self.run_page("```python\nassert 1 == 2\n```\n"))

    def test_what_one_block_makes_the_next_one_has(self):
        source = "```sh\nname=value\necho $name > build/made\n```\ntext\n```sh\ntest $(cat build/made) = $name\n```\n"
        self.assertIsNone(self.run_page(source))

    def test_a_remark_keeps_a_block_from_being_run(self):
        source = "<!-- not run: needs Slurm -->\n```sh\nfalse\n```\n<!-- needs: no/such/path -->\n```sh\nfalse\n```\n"
        source += "<!-- needs: import no_such_module -->\n```python\nimport no_such_module\n```\n"
        self.assertIsNone(self.run_page(source))

    def test_a_remark_replaces_text_and_must_find_it(self):
        self.assertIsNone(self.run_page("<!-- in tests: false => true -->\n```sh\nfalse\n```\n"))
        with self.assertRaisesRegex(ValueError, "page.md:2"):
            self.run_page("<!-- in tests: fast => true -->\n```sh\nfalse\n```\n")

    def test_a_block_within_a_list_is_a_block(self):
        self.assertEqual([block.text for block in blocks.blocks_in("page.md", "1. a\n\n   ```sh\n   true\n   ```\n")], ["true\n"])


def report(page):
    print(f"{page.page}: {len(page.ran)} blocks run, {len(page.left_out)} not", flush=True)
    for block, reasons in page.left_out:
        print(f"    {block.place}: {reasons[0]}", flush=True)


if __name__ == "__main__":
    if not importlib.util.find_spec("matplotlib"):
        print("matplotlib is missing: skipped")
        sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1], verbosity=1)
