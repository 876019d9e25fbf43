#!/usr/bin/env python3
"""Whether a results.json of a kit is what run.sh says that it is, and prints it as a table.

    check_results.py [--all] results.json

scripts/gpu-kit try runs it, after the kit of a host. Exit code 1: something is missing, or a part has failed. With --all, parts of each kind
must be there.
"""
import json
import sys

FIELDS = {"format", "format_version", "kit", "machine", "cublas", "cublaslt", "missing_libraries", "started", "seconds_allowed", "seconds", "passed",
          "failed", "skipped", "parts"}
FIELDS_OF_PART = {"name", "kind", "outcome", "reason", "seconds", "exit_code", "tests", "failed_tests", "figures", "output"}
KINDS, OUTCOMES = {"test", "sanitizer", "benchmark", "peer", "profile"}, ("passed", "failed", "skipped")


def main(*arguments):
    path, everything = arguments[-1], "--all" in arguments
    with open(path, encoding="utf-8") as file:
        results = json.load(file)
    wrong = list(complaints(results, everything))
    for part in results["parts"]:
        tests = "" if part["tests"] is None else f"{part['tests']} tests"
        print(f"{part['outcome']:8} {part['seconds']:4} s  {part['name']:34} {tests or part['reason'] or figures(part)}")
    for line in wrong:
        print(f"check_results.py: {line}", file=sys.stderr)
    print("{passed} passed, {failed} failed, {skipped} skipped in {seconds} s of {seconds_allowed}".format(**results))
    return 1 if wrong else 0


def complaints(results, everything):
    """What is not as it must be, a line each."""
    if set(results) != FIELDS:
        yield f"has other fields: {sorted(set(results) ^ FIELDS)}"
    if (results["format"], results["format_version"]) != ("bsbr-gpu-kit", 1):
        yield "has another format"
    for outcome in OUTCOMES:
        if results[outcome] != sum(part["outcome"] == outcome for part in results["parts"]):
            yield f"counts another number of parts that {outcome}"
    if results["seconds"] > results["seconds_allowed"] + 15:
        yield f"took {results['seconds']} s, may take {results['seconds_allowed']}"
    if everything and {part["kind"] for part in results["parts"]} != KINDS:
        yield "lacks parts of one kind"
    for part in results["parts"]:
        yield from complaints_of_part(part)


def complaints_of_part(part):
    name = part["name"]
    if set(part) != FIELDS_OF_PART or part["outcome"] not in OUTCOMES or part["kind"] not in KINDS:
        yield f"{name}: has other fields or values"
    if (part["outcome"] == "passed") != (part["reason"] is None):
        yield f"{name}: {part['outcome']}, and the reason is {part['reason']!r}"
    if part["outcome"] == "failed":
        yield f"{name}: failed: {part['reason']}; {', '.join(part['failed_tests'] or []) or ' '.join(part['output'][-3:])}"
    if part["outcome"] != "passed":
        return
    if part["kind"] == "test" and not part["tests"]:
        yield f"{name}: ran no test"
    if name.startswith("kernels.") and not (part["figures"] or {}).get("benchmarks"):
        yield f"{name}: has no figures"
    if part["kind"] == "benchmark" and not part["output"]:
        yield f"{name}: has printed nothing"


def figures(part):
    """The most telling numbers of bench_kernels."""
    runs = (part["figures"] or {}).get("benchmarks", [])
    return ", ".join(f"{run['name'].replace('/manual_time', '')} {run['useful']:.2f} of sgemm" for run in runs if "useful" in run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
