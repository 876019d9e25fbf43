"""Writes the valid files and the crafted bad ones into FOLDER/valid and FOLDER/bad: python3 make_files.py FOLDER

ctest and scripts/fuzz say in the environment where the programs are (BSBR_PROGRAMS), of which bsbr_init and bsbr_forward make some files.
"""
import argparse
import os
import shutil
import sys

import bad_files
import valid_files

EXAMPLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "example_data", "comparison.json")


def make(folder):
    """-> the valid files, the table of bad ones"""
    good, bad = os.path.join(folder, "valid"), os.path.join(folder, "bad")
    for each in (good, bad):
        os.makedirs(each, exist_ok=True)
    files = valid_files.make(good)
    by_name = {file.name: file.path for file in files}
    by_name["comparison.json"] = shutil.copy(EXAMPLE, good)
    bad_files.make(bad, by_name)
    return files, bad_files.TABLE


def main():
    parser = argparse.ArgumentParser(description="Writes valid files and crafted bad ones into FOLDER/valid and FOLDER/bad.")
    parser.add_argument("folder", metavar="FOLDER")
    files, table = make(parser.parse_args().folder)
    print("%d valid files, %d bad ones" % (len(files) + 1, len(table)))


if __name__ == "__main__":
    sys.exit(main())
