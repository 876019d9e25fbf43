"""Dependencies go one way: every #include of the C++ sources against the table of docs/architecture.md.

    test_includes.py        ctest runs it, and scripts/check-style
"""
import fnmatch
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = "docs/architecture.md"
HEADING = "Dependencies go one way"

# Where a quoted name is looked for, after the folder of the file that includes it.
SEARCHED = [".", "include", "src", "harness", "apps", "perf"]

# Other libraries, as the table calls them; headers of the language have no dot in their names. What has none of these names is the system's.
LIBRARIES = {"Kokkos": ["Kokkos*"], "MPI": ["mpi.h"], "HDF5": ["hdf5.h", "H5*"], "cublasLt": ["cublasLt.h"], "CLI11": ["CLI/*"],
             "nlohmann-json": ["nlohmann/*"], "Google Benchmark": ["benchmark/*"]}


class Level:
    """A row of the table: | level | files | public headers | may include | other libraries |"""

    def __init__(self, row):
        self.name, files, headers, includes, libraries = [cell.strip() for cell in row.strip().strip("|").split("|")]
        self.patterns = re.findall(r"`([^`]*)`", files)
        self.patterns += [f"include/bsbr/{name}.hpp" for name in self.words(headers)]
        self.includes = self.words(includes)
        self.libraries = self.words(libraries)

    @staticmethod
    def words(cell):
        return [word.strip() for word in cell.split(",") if word.strip()]

    def has(self, path):
        return any(fnmatch.fnmatchcase(path, pattern) or path.startswith(pattern + "/") for pattern in self.patterns)


def read_levels():
    text = (ROOT / PAGE).read_text(encoding="utf-8").partition(f"{HEADING}:")[2]
    rows = re.search(r"\n\|[^\n]*\n\|[-|]+\|\n((?:\|[^\n]*\n)+)", text)
    return [Level(row) for row in rows.group(1).splitlines()]


LEVELS = read_levels()
SOURCES = sorted(path.relative_to(ROOT).as_posix() for folder in ("include", "src", "harness", "apps", "perf", "examples", "python/src")
                 for path in (ROOT / folder).rglob("*.?pp"))


def level_of(path):
    """The first row of the table that has the file."""
    return next((level for level in LEVELS if level.has(path)), None)


def library_of(name):
    return next((library for library, headers in LIBRARIES.items() if any(fnmatch.fnmatchcase(name, header) for header in headers)), "system")


def resolve(name, path):
    """The file of the repository that `path` includes by that name; None: it is none."""
    for folder in [pathlib.PurePosixPath(path).parent, *SEARCHED]:
        for ending in ("", ".in"):  # what CMake makes from a template, too
            if (ROOT / folder / (name + ending)).is_file():
                return (pathlib.PurePosixPath(folder) / name).as_posix()
    return None


def includes_of(path):
    for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1):
        if found := re.match(r'\s*#\s*include\s*([<"])([^>"]*)[>"]', line):
            yield number, found.group(1) == '"', found.group(2)


def complaints_about(path, used):
    """What is wrong with the includes of a file, one line each. Adds to `used` what of its level's row it makes use of."""
    level = level_of(path)
    for number, quoted, name in includes_of(path):
        place = f"{path}:{number}: {level.name} includes {name}"
        target = resolve(name, path)
        if target is None:
            library = library_of(name)
            if not quoted and re.search(r"[./]", name):
                used.add((level.name, library))
            if quoted:
                yield f"{place}, which is nowhere in {', '.join(SEARCHED)}"
            elif re.search(r"[./]", name) and library not in level.libraries and level.libraries != ["any"]:
                yield f"{place}, of {library}; it may include {', '.join(level.libraries) or 'no library but the language’s'}"
            continue
        included = level_of(target)
        is_public = target.startswith("include/") and "public headers" in level.includes
        used.add((level.name, "public headers" if is_public else included.name))
        if included is not level and not is_public and included.name not in level.includes:
            yield f"{place}, of {included.name}; it may include {', '.join(level.includes) or 'nothing'}"
        folders = [re.match(r"src/architectures/(\w+)/", file) for file in (path, target)]
        if all(folders) and folders[0].group(1) != folders[1].group(1):
            yield f"{place}, of another architecture"


class Includes(unittest.TestCase):
    def test_every_source_has_a_level(self):
        self.assertGreater(len(SOURCES), 100)
        self.assertEqual([path for path in SOURCES if level_of(path) is None], [], f"no row of {PAGE} has these")

    def test_every_row_of_the_table_is_of_something(self):
        for level in LEVELS:
            for pattern in level.patterns:
                self.assertTrue(any((fnmatch.fnmatchcase(path, pattern) or path.startswith(pattern + "/"))
                                    for path in SOURCES), f"{level.name}: {pattern}")

    def test_a_level_may_include_those_above_it_in_the_table_only(self):
        above = ["public headers"]
        for level in LEVELS:
            self.assertLessEqual(set(level.includes), set(above), level.name)
            self.assertLessEqual(set(level.libraries), {*LIBRARIES, "system", "any"}, level.name)
            above.append(level.name)

    def test_files_include_what_their_level_may_and_no_row_allows_more(self):
        used = set()
        complaints = [complaint for path in SOURCES if level_of(path) for complaint in complaints_about(path, used)]
        self.assertTrue(not complaints, "\n" + "\n".join(complaints))
        for level in LEVELS:
            for entry in {*level.includes, *level.libraries} - {"any"}:
                self.assertTrue((level.name, entry) in used, f"the row of {level.name} allows {entry}, of which it makes no use")


if __name__ == "__main__":
    unittest.main()
