"""The files that hosting sites, containers and archives read of this repository: that they can be read, name what exists, and agree. The
patch that adds an architecture fits.

    test_files.py        scripts/check-style runs it; it needs PyYAML
"""
import json
import os
import pathlib
import re
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


class UniqueKeys(yaml.SafeLoader):
    """PyYAML takes the last of equal keys without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(map(str, twice))} twice", node.start_mark)
        return super().construct_mapping(node, deep)


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def yaml_of(path):
    return yaml.load(text_of(path), UniqueKeys)


def steps():
    """The names of the steps of .ci/run."""
    return json.loads(subprocess.run([ROOT / ".ci/run", "--list"], capture_output=True, text=True, check=True).stdout)


def files():
    """What git knows or would take, as paths from the root."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True,
                            check=True)
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


class Yaml(unittest.TestCase):
    def test_every_file_can_be_read(self):
        names = [name for name in files() if name.endswith((".yml", ".yaml", ".cff"))]
        self.assertGreater(len(names), 8)
        for name in names:
            with self.subTest(name):
                self.assertIsInstance(yaml_of(name), dict)


class ContinuousIntegration(unittest.TestCase):
    def test_every_step_is_a_job(self):
        """The workflow has no list of its own: it asks .ci/run for the names and gives each to .ci/run again."""
        jobs = yaml_of(".github/workflows/ci.yml")["jobs"]
        asked = "\n".join(step.get("run", "") for step in jobs["list"]["steps"])
        self.assertIn("$(.ci/run --list)", asked)
        self.assertEqual(jobs["step"]["strategy"]["matrix"]["step"], "${{ fromJSON(needs.list.outputs.steps) }}")
        self.assertIn(".ci/run ${{ matrix.step }}", [step.get("run") for step in jobs["step"]["steps"]])
        self.assertEqual(jobs["step"]["needs"], "list")
        self.assertEqual(jobs["all"]["needs"], "step")

    def test_every_step_is_a_script_and_has_a_row_in_contributing(self):
        rows = re.findall(r"^\| `scripts/([\w-]+)", text_of("CONTRIBUTING.md").partition("| by hand: |")[0], re.MULTILINE)
        self.assertEqual(rows, steps())
        for step in steps():
            self.assertTrue(os.access(ROOT / "scripts" / step, os.X_OK), step)

    def test_a_step_that_does_not_exist_is_refused(self):
        done = subprocess.run([ROOT / ".ci/run", "check-nothing"], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("check-nothing", done.stderr)

    def test_scripts_explain_themselves_and_refuse_unknown_options(self):
        """Before they install or build anything. The arguments of some go to pytest, unittest and a script in Python."""
        for script in sorted((ROOT / "scripts").iterdir()):
            if not os.access(script, os.X_OK):
                continue
            with self.subTest(script.name):
                done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=30)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertGreater(len(done.stdout), 80)
                if script.name not in ("check-python", "check-site", "check-weights"):
                    done = subprocess.run([script, "--nonsense"], capture_output=True, text=True, timeout=30)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertEqual(done.stdout, "")

    def test_actions_have_a_version(self):
        for job in yaml_of(".github/workflows/ci.yml")["jobs"].values():
            for used in (step["uses"] for step in job["steps"] if "uses" in step):
                self.assertRegex(used, r"^[\w-]+/[\w-]+@v\d+$")


class Configuration(unittest.TestCase):
    def test_pre_commit_has_the_tools_of_the_checks(self):
        hooks = {hook["id"]: hook for repository in yaml_of(".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]}
        llvm = re.search(r"^llvm=(\d+)", text_of("scripts/common"), re.MULTILINE).group(1)
        self.assertRegex(hooks["clang-format"]["additional_dependencies"][0], rf"^clang-format=={llvm}\.")
        for hook in hooks.values():
            for path in re.findall(r"[\w./]+\.py|\.\w+rc", hook["entry"]):
                self.assertTrue((ROOT / path).is_file(), path)

    def test_read_the_docs_builds_what_scripts_docs_builds(self):
        settings, script = yaml_of(".readthedocs.yaml"), text_of("scripts/docs")
        requirements = settings["python"]["install"][0]["requirements"]
        self.assertTrue((ROOT / requirements).is_file())
        self.assertIn(requirements, script)
        self.assertIn("doxygen docs/Doxyfile", settings["build"]["jobs"]["pre_build"])
        options = re.search(r'sphinx-build" -q (.* -c docs) -d', script).group(1)
        self.assertIn(f"{options} . $READTHEDOCS_OUTPUT", settings["build"]["jobs"]["build"]["html"][0])
        for package in settings["build"]["apt_packages"]:
            self.assertIn(package, script)

    def test_requirements_of_the_documentation_are_pinned(self):
        for line in text_of("docs/requirements.txt").splitlines():
            self.assertRegex(line, r"^(#.*|[\w-]+==[\d.]+)$")

    def test_dependabot_looks_into_folders_that_have_something(self):
        for update in yaml_of(".github/dependabot.yml")["updates"]:
            wanted = {"github-actions": ".github/workflows", "pip": "{requirements.txt,pyproject.toml}"}[update["package-ecosystem"]]
            folder = ROOT / update["directory"].lstrip("/")
            names = wanted.strip("{}").split(",")
            self.assertTrue(any((folder / name).exists() for name in names), update)

    def test_owners_are_of_paths_that_exist(self):
        for line in text_of(".github/CODEOWNERS").splitlines():
            pattern = line.partition("#")[0].split()[:1]
            self.assertTrue(not pattern or pattern == ["*"] or (ROOT / pattern[0].strip("/")).exists(), line)

    def test_links_of_the_templates_lead_to_files(self):
        for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
            for name in re.findall(r"\]\(\.\./blob/main/([^)#]*)", path.read_text(encoding="utf-8")):
                self.assertTrue((ROOT / name).is_file(), f"{path.name}: {name}")


class Release(unittest.TestCase):
    """Whether there is a release is said in several places, which must agree."""

    def setUp(self):
        self.version = re.search(r"project\(bsbr VERSION (\S+)", text_of("CMakeLists.txt")).group(1)
        self.heading = re.search(r"^## (.*)$", text_of("CHANGELOG.md"), re.MULTILINE).group(1)
        self.unreleased = self.heading == f"{self.version} (unreleased)"

    def test_the_changelog_says_unreleased_or_when(self):
        if not self.unreleased:
            self.assertRegex(self.heading, rf"^{re.escape(self.version)} - \d{{4}}-\d\d-\d\d$")

    def test_the_citation_says_the_same(self):
        citation = yaml_of("CITATION.cff")
        self.assertEqual(citation["version"], self.heading if self.unreleased else self.version)
        self.assertEqual("date-released" in citation, not self.unreleased)

    def test_security_and_spack_pages_say_the_same(self):
        for page in ("SECURITY.md", "docs/spack.md", "ROADMAP.md"):
            self.assertEqual("no release yet" in text_of(page), self.unreleased, page)


class EighthArchitecture(unittest.TestCase):
    """docs/adding-an-architecture.md walks through a patch; scripts/check-architecture applies, builds and tests it."""
    PATCH, PAGE = "tests/architecture/retention.patch", "docs/adding-an-architecture.md"

    def git_apply(self, option):
        return subprocess.run(["git", "apply", option, self.PATCH], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    def test_the_patch_fits(self):
        self.git_apply("--check")

    def test_the_page_tells_its_size(self):
        added = [int(line.split()[0]) for line in self.git_apply("--numstat").splitlines()]
        self.assertEqual(re.findall(r"\*\*(\d+ files, \d+ lines)\*\*", text_of(self.PAGE)), [f"{len(added)} files, {sum(added)} lines"])

    def test_the_page_quotes_it(self):
        added = {line[1:].strip() for line in text_of(self.PATCH).splitlines() if line.startswith("+")}
        quoted = re.findall(r"^```cpp\n(.*?)^```", text_of(self.PAGE), re.MULTILINE | re.DOTALL)
        quoted += ["\n".join(re.findall(r"^\+(.*)", text_of(self.PAGE), re.MULTILINE))]
        self.assertEqual(len(quoted), 3)
        for line in "\n".join(quoted).splitlines():
            self.assertIn(line.strip(), added | {""})


class Containers(unittest.TestCase):
    """No container engine is needed: the recipes run scripts of the repository, whose paths and order are looked at."""

    def setUp(self):
        self.docker, self.apptainer = text_of("containers/Dockerfile"), text_of("containers/bsbr.def")

    def test_both_recipes_run_the_same_scripts_on_the_same_system(self):
        for recipe in (self.docker, self.apptainer):
            lines = [line.strip() for line in recipe.splitlines() if not line.startswith("#")]
            self.assertTrue(any(line.endswith("/src/bsbr/containers/build /opt/bsbr") for line in lines))
            self.assertTrue(any(re.search(r"/install-runtime( |$)", line) for line in lines))
        self.assertEqual(re.findall(r"^FROM (debian:\d+)", self.docker, re.MULTILINE),
                         re.findall(r"^From: (debian:\d+)", self.apptainer, re.MULTILINE))

    def test_what_they_copy_exists(self):
        copied = re.findall(r"^COPY (?!--from)(\S+) ", self.docker, re.MULTILINE)
        copied += re.findall(r"^ +(\S+) /\S+$", self.apptainer.partition("%files from")[0], re.MULTILINE)
        copied = [path for path in copied if not path.startswith("/")]
        self.assertEqual(sorted(set(copied)), [".", "containers/install-runtime"])
        for script in ("containers/build", "containers/install-runtime"):
            self.assertTrue(os.access(ROOT / script, os.X_OK), script)


if __name__ == "__main__":
    unittest.main()
