"""The man pages of the programs: that they have all of --help in the sections of a man page, and that groff finds nothing wrong."""
import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "programs"))
from programs import run  # noqa: E402

PAGES = os.environ["BSBR_MAN_PAGES"]
NAMES = ("bsbr_forward", "bsbr_init", "bsbr_compare")


def page_of(program):
    return os.path.join(PAGES, f"{program}.1")


def source_of(program):
    with open(page_of(program), encoding="utf-8") as file:
        return file.read().replace("\\-", "-").replace("\\/", "").replace("\\,", "")


class ManPages(unittest.TestCase):
    def test_sections_are_those_of_a_man_page(self):
        for program in NAMES:
            found = re.findall(r'^\.SH "?([A-Z ]+)', source_of(program), flags=re.M)
            self.assertEqual(found, ["NAME", "SYNOPSIS", "DESCRIPTION", "EXIT STATUS", "EXAMPLES", "SEE ALSO"], program)

    def test_every_option_has_an_entry(self):
        for program in NAMES:
            options = re.findall(r"^  (?:-h,)?(--[a-z-]+)", run(program, "--help").out, flags=re.M)
            entries = re.findall(r"^\.TP\n.*?(--[a-z-]+)", source_of(program), flags=re.M)
            self.assertGreater(len(options), 10)
            self.assertEqual(entries, options, program)

    def test_the_synopsis_is_whole(self):
        for program in NAMES:
            usage = re.search(r"^Usage: \S+ (.*?)\n\n", run(program, "--help").out, flags=re.M | re.S).group(1)
            synopsis = re.search(r"^\.SH SYNOPSIS\n\.B \S+\n(.*?)^\.SH", source_of(program), flags=re.M | re.S).group(1)
            self.assertEqual(re.sub(r"\\f[BIR]|\s", "", synopsis), re.sub(r"\s", "", usage), program)

    @unittest.skipUnless(shutil.which("groff"), "groff is missing")
    def test_groff_has_nothing_to_say(self):
        for program in NAMES:
            done = subprocess.run(["groff", "-man", "-ww", "-z", page_of(program)], capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "", program)


if __name__ == "__main__":
    unittest.main()
