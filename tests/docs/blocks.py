"""The code blocks of this repository's Markdown pages, and the remarks on them that readers do not see.

A comment on a line of its own before a block says what a test may not do with it as it stands:

    <!-- not run: REASON -->                     it is not run, for this reason
    <!-- needs: PATH -->                         it is run where there is such a path (from the root of the repository) only
    <!-- needs: import NAME -->                  it is run where this Python has that module only
    <!-- needs: Open MPI -->                     it is run where that is the MPI only
    <!-- in tests: TEXT => OTHER -->             it is run with OTHER in place of TEXT; there may be several of these
"""
import dataclasses
import os
import re
import textwrap

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FENCE = re.compile(r"^( *)```([^`\n]*)\n(.*?)^ *```$", re.M | re.S)
REMARKS = re.compile(r"(?:^ *<!--(?:(?!-->).)*-->\n+)+\Z", re.M | re.S)
REMARK = re.compile(r"<!-- (not run|needs|in tests): (.*?) -->", re.S)


@dataclasses.dataclass(frozen=True)
class Block:
    page: str
    line: int  # of the fence
    language: str
    text: str
    remarks: tuple = ()  # (kind, text)

    @property
    def place(self):
        return f"{self.page}:{self.line}"

    def said(self, kind):
        return [text for said, text in self.remarks if said == kind]

    def text_in_tests(self):
        text = self.text
        for change in self.said("in tests"):
            old, arrow, new = change.partition(" => ")
            if not arrow or old not in text:
                raise ValueError(f"{self.place}: the block has not what the remark wants to replace: {change}")
            text = text.replace(old, new)
        return text


def pages():
    """All pages, as paths from the root: README first, as a reader would."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "build", "install")))
        found += [os.path.relpath(os.path.join(folder, name), ROOT) for name in files if name.endswith(".md")]
    return sorted(found, key=lambda page: (page != "README.md", page))


def source_of(page):
    with open(os.path.join(ROOT, page), encoding="utf-8") as file:
        return file.read()


def blocks_in(page, source):
    """The fenced blocks of a page's source, in its order."""
    blocks = []
    for fence in FENCE.finditer(source):
        before = REMARKS.search(source[:fence.start()])
        remarks = tuple((kind, " ".join(text.split())) for kind, text in REMARK.findall(before.group(0) if before else ""))
        line = source.count("\n", 0, fence.start()) + 1
        blocks.append(Block(page, line, fence.group(2).strip(), textwrap.dedent(fence.group(3)), remarks))
    return blocks


def commands_outside_blocks(page, source):
    """Places of lines that show a command in another way than in a fenced block: nobody would run them."""
    outside = FENCE.sub(lambda fence: "\n" * fence.group(0).count("\n"), source)
    return [f"{page}:{number}" for number, line in enumerate(outside.splitlines(), 1) if re.match(r"\s+\$ ", line)]
