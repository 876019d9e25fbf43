"""Writes the C++ blocks of the pages as sources, which the build compiles: snippets.py DIR. Prints their paths, as a list of CMake.

A block without #include gets that of the library. Messages of the compiler name the page and its line.
"""
import os
import sys

import blocks


def source(block):
    include = "" if "#include" in block.text else "#include <bsbr/bsbr.hpp>\n"
    return f'{include}#line {block.line + 1} "{os.path.join(blocks.ROOT, block.page)}"\n{block.text_in_tests()}'


def write(path, text):
    """Left alone where it has that text already, so that nothing is compiled again."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(folder):
    os.makedirs(folder, exist_ok=True)
    paths = []
    for page in blocks.pages():
        for number, block in enumerate(blocks.blocks_in(page, blocks.source_of(page))):
            if block.language == "cpp" and not block.said("not run"):
                paths.append(os.path.join(folder, f"{page[:-3].replace(os.sep, '_')}_{number}.cpp"))
                write(paths[-1], source(block))
    print(";".join(paths))


if __name__ == "__main__":
    main(sys.argv[1])
