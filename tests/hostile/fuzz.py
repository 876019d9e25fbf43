"""Runs one fuzz target for a given time, then says of each finding whether our code or the HDF5 library's is at fault.

The target is run by libFuzzer's fork mode: it goes on after a finding, and what HDF5 keeps of damaged files goes with each process. The
corpus is kept from run to run. Exit code 1 if a finding is ours.
"""
import argparse
import collections
import os
import re
import subprocess
import sys

from judge import HDF5, OURS, blame

OPTIONS = ["-fork=1", "-ignore_crashes=1", "-ignore_ooms=1", "-ignore_timeouts=1", "-timeout=20", "-report_slow_units=1000", "-rss_limit_mb=2048", "-malloc_limit_mb=1000000"]


def parse():
    parser = argparse.ArgumentParser(description="Runs one fuzz target, and judges what it finds.")
    parser.add_argument("target", metavar="PROGRAM")
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--corpus", required=True, metavar="FOLDER", help="inputs that are worth keeping")
    parser.add_argument("--seeds", nargs="*", default=[], metavar="FOLDER", help="inputs to begin with")
    parser.add_argument("--findings", required=True, metavar="FOLDER")
    parser.add_argument("--longest", type=int, default=4096, metavar="BYTES", help="of an input (default 4096)")
    return parser.parse_args()


def fuzz(options):
    """-> number of executions, and what was said last"""
    for folder in (options.corpus, options.findings):
        os.makedirs(folder, exist_ok=True)
    command = [options.target, *OPTIONS, "-max_len=%d" % options.longest, "-max_total_time=%d" % options.seconds,
               "-artifact_prefix=" + os.path.join(options.findings, ""), options.corpus, *options.seeds]
    executions, last = 0, collections.deque(maxlen=20)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        for line in child.stderr:
            last.append(line)
            progress = re.match(r"#(\d+): cov: ", line)
            if progress:
                executions = int(progress[1])
                print(line, end="", flush=True)
    return executions, "".join(last)


def judge_finding(target, path):
    """Runs the target on it alone. -> whose it is, where, what"""
    environment = {**os.environ, "ASAN_OPTIONS": "handle_abort=1"}
    done = subprocess.run([target, "-timeout=20", "-rss_limit_mb=2048", "-malloc_limit_mb=1000000", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, errors="replace", env=environment)
    if done.returncode == 0:
        return None, "", "does not come again"
    what = next((line for line in done.stderr.splitlines() if "ERROR" in line or "runtime error" in line), "exit code %d" % done.returncode)
    return (*blame(done.stderr), what.strip())


def main():
    options = parse()
    name = os.path.basename(options.target)
    executions, last = fuzz(options)
    if executions == 0:
        sys.exit("%s has executed nothing; its last lines are:\n%s" % (name, last))
    whose = []
    for finding in sorted(os.listdir(options.findings)):
        owner, place, what = judge_finding(options.target, os.path.join(options.findings, finding))
        whose.append(owner)
        print("%s: %s: fault of %s, in %s: %s" % (name, finding, owner or "nobody", place or "?", what))
    print("%s: %d executions in %d s; findings: %d ours, %d in HDF5, %d that do not come again"
          % (name, executions, options.seconds, whose.count(OURS), whose.count(HDF5), whose.count(None)))
    return 1 if OURS in whose else 0


if __name__ == "__main__":
    sys.exit(main())
