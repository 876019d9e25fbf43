"""Lets mutants of valid files be read, and says what came of it. Exit code 1 if one did harm through a fault of ours.

Each is read by bsbr_forward, or with --reader, many times faster, by read_files.cpp, which calls the same functions of the library.

Each must end as judge.py says. A fault that the HDF5 library's own code is found in is counted and shown, but fails nothing: SECURITY.md
says what that means for users. Files that did harm are kept.
"""
import argparse
import collections
import concurrent.futures
import os
import queue
import shutil
import sys
import tempfile

import make_files
import mutants
from judge import HDF5, LIMIT, OURS, REFUSED, TAKEN, Reader, command, judge, run


def parse():
    parser = argparse.ArgumentParser(description="Lets mutants of valid files be read.")
    parser.add_argument("--count", type=int, default=300, help="number of mutants (default 300)")
    parser.add_argument("--first", type=int, default=0, help="number of the first (default 0)")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers (default 1)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants that are read at a time (default 2)")
    parser.add_argument("--reader", metavar="PROGRAM", help="bsbr_read_files (default: bsbr_forward)")
    parser.add_argument("--findings", default="findings", metavar="FOLDER", help="where files that did harm are kept (default findings)")
    return parser.parse_args()


class Check:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        files, _ = make_files.make(folder)
        self.files = files
        self.model = os.path.join(folder, "valid", "model_bsbr.h5")
        self.readers = queue.Queue()
        for _ in range(options.jobs if options.reader else 0):
            self.readers.put(Reader(options.reader))
        self.usual = max(self.read_valid(file) for file in self.files)
        self.endings = collections.Counter()
        self.places = collections.Counter()  # of faults of HDF5
        self.slowest, self.largest = 0.0, 0

    def ending(self, path, kind):
        dataset = "/hidden_states" if kind == "result" else ""
        if not self.options.reader:
            return run(command(path, kind, self.model, dataset))
        reader = self.readers.get()
        try:
            return reader.run(path, kind, dataset)
        finally:
            self.readers.put(reader)

    def read_valid(self, file):
        ending = self.ending(file.path, file.kind)
        expected = REFUSED if file.kind == "result" else TAKEN
        if ending.code != expected:
            raise SystemExit("%s: exit code %d: %s" % (file.name, ending.code, ending.err))
        return ending.peak_bytes

    def read(self, number):
        # The folder is that of the bad files, where the pipe is that some mutants point to.
        path, kind = mutants.make(self.files, number, self.options.seed, os.path.join(self.folder, "bad"))
        ending = self.ending(path, kind)
        finding = judge(ending, self.usual)
        if finding is not None:
            os.makedirs(self.options.findings, exist_ok=True)
            shutil.copy(path, self.options.findings)
        os.unlink(path)
        return number, ending, finding

    def run(self):
        numbers = range(self.options.first, self.options.first + self.options.count)
        with concurrent.futures.ThreadPoolExecutor(self.options.jobs) as pool:
            for number, ending, finding in pool.map(self.read, numbers):
                self.note(number, ending, finding)
                if (number + 1) % 500 == 0:
                    self.report()
        while not self.readers.empty():
            self.readers.get().close()

    def note(self, number, ending, finding):
        self.slowest = max(self.slowest, ending.processor_seconds)
        self.largest = max(self.largest, ending.peak_bytes)
        if finding is None:
            self.endings["taken" if ending.code == TAKEN else "refused"] += 1
            return
        self.endings[finding.whose] += 1
        self.places[finding.place or "?"] += finding.whose == HDF5
        print("mutant %d: fault of %s, in %s: %s" % (number, finding.whose, finding.place or "?", finding.what), flush=True)

    def report(self):
        print("%d mutants of seed %d: %d refused, %d taken, %d faults of ours, %d of HDF5; at most %.2f s (of %g) and %d MiB (a valid file %d)"
              % (sum(self.endings.values()), self.options.seed, self.endings["refused"], self.endings["taken"], self.endings[OURS],
                 self.endings[HDF5], self.slowest, LIMIT, self.largest >> 20, self.usual >> 20), flush=True)


def main():
    options = parse()
    options.findings = os.path.abspath(options.findings)
    options.reader = options.reader and os.path.abspath(options.reader)
    with tempfile.TemporaryDirectory(prefix="bsbr-hostile-") as folder:
        os.chdir(folder)  # making a mutant may write to the external storage of an earlier change, which is a name in this folder
        check = Check(options, folder)
        check.run()
    check.report()
    for place, times in check.places.most_common():
        if times:
            print("  HDF5: %s %d" % (place, times))
    return 1 if check.endings[OURS] else 0


if __name__ == "__main__":
    sys.exit(main())
