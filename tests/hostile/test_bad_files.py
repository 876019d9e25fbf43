"""Every crafted bad file is refused: exit code 3, one line with the words that help, soon, in little memory, and nothing is left."""
import os
import shutil
import tempfile
import unittest

import bad_files
import make_files
from judge import HDF5, OURS, REFUSED, blame, command, judge, run, said
from valid_files import programs


class BadFiles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="bsbr-hostile-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.files, cls.table = make_files.make(cls.folder)
        cls.model = os.path.join(cls.folder, "valid", "model_bsbr.h5")

    def ending(self, path, kind, dataset=""):
        return run(command(path, kind, self.model, dataset))

    def check_valid(self, file):
        ending = self.ending(file.path, file.kind)
        self.assertEqual((ending.code, said(ending.err)), (0, []), file.name)
        return ending.peak_bytes

    def check_bad(self, entry, usual):
        path = os.path.join(self.folder, "bad", entry.name)
        ending = self.ending(path, entry.kind, entry.dataset)
        finding = judge(ending, usual)
        self.assertIsNone(finding, entry.name)
        self.assertEqual(ending.code, REFUSED, entry.name)
        first = said(ending.err)[0]
        for word in [entry.name, *entry.says]:
            self.assertIn(word, first)

    def test_what_is_made_bad_was_good(self):
        for file in self.files:
            if file.kind != "result":  # no program reads them
                self.check_valid(file)

    def test_every_bad_file_is_refused(self):
        usual = max(self.check_valid(file) for file in self.files if file.name.startswith("model_"))
        before = sorted(os.listdir(os.path.join(self.folder, "bad")))
        failed = programs.in_parallel(lambda number: self.check_bad(self.table[number], usual), range(len(self.table)), workers=2)
        self.assertFalse(failed, "%d of %d:\n\n" % (len(failed), len(self.table)) + "\n\n".join(map(str, failed.values())))
        self.assertEqual(sorted(os.listdir(os.path.join(self.folder, "bad"))), before)

    def test_blame_goes_to_whoever_gave_too_little_memory(self):
        report = """==1==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602 at pc 0x7f
WRITE of size 8 at 0x602 thread T0
    #0 0x7f1 in __interceptor_memcpy ../../sanitizer_common_interceptors.inc:827
    #1 0x7f2 in H5D__gather_mem (/usr/lib/libhdf5_openmpi.so.103+0x1)
    #2 0x55a in bsbr::io::Dataset::read(void*) src/io/dataset.cpp:10

0x602 is located 0 bytes to the right of 8-byte region
allocated by thread T0 here:
    #0 0x7f3 in %s

"""
        ours = "operator new(unsigned long) asan_new_delete.cpp:95\n    #1 0x55b in bsbr::io::read_tokens() src/io/token_file.cpp:199"
        theirs = "__interceptor_malloc asan_malloc_linux.cpp:69\n    #1 0x7f4 in H5MM_malloc (/usr/lib/libhdf5_openmpi.so.103+0x2)"
        self.assertEqual(blame(report % ours), (OURS, "H5D__gather_mem"))
        self.assertEqual(blame(report % theirs), (HDF5, "H5D__gather_mem"))

    def test_there_are_enough_of_them(self):
        names = [entry.name for entry in bad_files.TABLE]
        self.assertEqual(len(set(names)), len(names))
        self.assertGreaterEqual(len(names), 80)


if __name__ == "__main__":
    unittest.main()
