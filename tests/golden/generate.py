#!/usr/bin/env python3
"""Writes and checks the golden files in this folder: README.md, "How files are made".

Everything is computed by plain loops in float64 after docs/mathematics.md and docs/architectures.md. A file that exists
keeps its ids and weights when it is written again, and is left alone if it is as it should be. To have ids and weights
drawn anew, delete it.
"""
import argparse
import sys

from architectures import ARCHITECTURES
from generator import files
from generator.golden import Golden, compare, ids_and_weights


def all_cases():
    """{name: Golden} of all architectures."""
    goldens = [Golden(name, architecture, case)
               for name, architecture in ARCHITECTURES.items() for case in architecture.cases]
    return {golden.name: golden for golden in goldens}


def selected(names, parser):
    """Those that are named, by case or by architecture."""
    goldens = all_cases()
    chosen = {}
    for name in names:
        found = {key: golden for key, golden in goldens.items() if name in (key, golden.config["architecture"])}
        if not found:
            parser.error(f"there is no case and no architecture '{name}'; --list names the cases")
        chosen.update(found)
    return chosen


def write(goldens):
    """Writes files that are missing or not as they should be, and their entries of the index."""
    index = files.read_index()
    for name, golden in goldens.items():
        if not compare(golden, index.get(name))[1]:
            print(f"{name:28} is as it should be")
            continue
        if name in files.stored_names():
            drawn, earlier = ids_and_weights(files.read_file(name)[1]), index.get(name)
        else:
            drawn, earlier = golden.drawn(), None
        if not golden.fits(drawn):
            sys.exit(f"{name}.h5 has other ids or weights than those of its case; delete it to have them drawn anew")
        index[name] = golden.index_entry(earlier)
        files.write_file(name, golden.attributes(index[name]), golden.datasets(drawn))
        files.write_index(index)
        print(f"{name:28} written")


def check(goldens, whole):
    """Prints the largest difference of each file; whether all is as it should be. whole: no other file may be there."""
    index, passed = files.read_index(), True
    for name, golden in goldens.items():
        largest, wrong = compare(golden, index.get(name))
        print(f"{name:28} {largest:.1e}" + "".join(f"\n    {line}" for line in wrong))
        passed = passed and not wrong
    for name in sorted(set(files.stored_names()) | set(index)) if whole else []:
        if name not in goldens:
            print(f"{name:28} belongs to no case")
            passed = False
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a case, or an architecture for all of its cases")
    parser.add_argument("--all", action="store_true", help="all cases")
    parser.add_argument("--check", action="store_true",
                        help="write nothing: compute what is expected from the ids and weights of each file, and print "
                        "the largest difference, relative to the largest number of its dataset where that is above 1")
    parser.add_argument("--list", action="store_true", help="print the names of the cases, and what each is for")
    arguments = parser.parse_args()

    whole = arguments.all or not arguments.names
    goldens = all_cases() if whole else selected(arguments.names, parser)
    if arguments.list:
        for name, golden in goldens.items():
            print(f"{name:28} {golden.notes}")
    elif arguments.check:
        return 0 if check(goldens, whole) else 1
    elif arguments.names or arguments.all:
        write(goldens)
    else:
        parser.error("name cases or architectures, or give --all, --check or --list")
    return 0


if __name__ == "__main__":
    sys.exit(main())
