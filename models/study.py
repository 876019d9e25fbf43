#!/usr/bin/env python3
"""Trains six models at equal tokens, with two learning rates each, and evaluates them: the study of docs/learning.md.

    models/study.py OUTPUT_DIR --corpus DIR [--programs DIR] [--jobs N] [--steps N] [--only NAME …]

`--corpus` is what models/corpus.py has written. OUTPUT_DIR has a folder for each run, NAME-RATE: `log.jsonl` of bsbr_train,
`train.json` and `evaluate.json`, the summaries, `positions.json`, the held-out loss by position, and the trained model. A run whose
folder has an evaluate.json is not repeated. Programs run on one rank each, `--jobs` of them at a time. Needs h5py.
"""

import argparse
import concurrent.futures
import subprocess
import sys
from pathlib import Path

import h5py

PUBLISHED = ["--architecture", "bsbr", "--chunk-size", "32"]
LEARNS = [*PUBLISHED, "--state-scale", "mean", "--retrieval-gate", "1", "--null-chunk", "1"]
MODELS = {
    "bsbr": LEARNS,
    "bsbr-as-published": PUBLISHED,
    "bsbr-without-retrieval": LEARNS,
    "sliding_window": ["--architecture", "sliding_window", "--window-size", "31"],
    "linear": ["--architecture", "linear", "--feature-map", "elu"],
    "standard": ["--architecture", "standard"],
}
RATES = ("3e-3", "1e-3")
SIZES = ["--hidden-dim", "128", "--num-layers", "2", "--num-heads", "4", "--ff-dim", "512", "--head", "separate"]
LENGTH, BATCH = "512", "16"


def close_retrieval(model):
    """Makes the null chunk take all weight: what is retrieved is 0 exactly, so the gates' gradients are, and they stay 0."""
    with h5py.File(model, "r+") as file:
        names = []
        file.visit(lambda name: names.append(name) if name.endswith("null_logit") else None)
        if not names:
            sys.exit(f"study.py: error: {model} has no null_logit")
        for name in names:
            file[name][...] = 1e9


def run(programs, folder, name, rate, corpus, steps):
    """One run. Returns a line that tells the held-out loss."""
    folder.mkdir(parents=True, exist_ok=True)

    def call(program, *options):
        with open(folder / f"{program}.txt", "w", encoding="utf-8") as output:
            subprocess.run([programs / program, *options], stdout=output, stderr=subprocess.STDOUT, check=True)

    call("bsbr_init", "--output", folder / "model.h5", *SIZES, *MODELS[name])
    if name == "bsbr-without-retrieval":
        close_retrieval(folder / "model.h5")
    call("bsbr_train", "--model", folder / "model.h5", "--input", corpus / "train.txt", "--length", LENGTH, "--batch", BATCH,
         "--steps", str(steps), "--warmup-steps", str(steps // 10), "--learning-rate", rate, "--validation", corpus / "held-out.txt",
         "--validate-every", str(max(steps // 8, 1)), "--validation-tokens", "131072", "--save-every", str(steps),
         "--output", folder / "trained.h5", "--log", folder / "log.jsonl", "--json", folder / "train.json")
    call("bsbr_evaluate", "--model", folder / "trained.h5", "--input", corpus / "held-out.txt", "--length", LENGTH,
         "--by-position", folder / "positions.json", "--json", folder / "evaluate.json")
    return (folder / "bsbr_train.txt").read_text(encoding="utf-8").strip() or f"{folder.name}: done"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="folder with train.txt and held-out.txt")
    parser.add_argument("--programs", type=Path, default=Path("build/release/apps"), help="folder of the programs")
    parser.add_argument("--steps", type=int, default=500, help="steps of 8,192 tokens (default 500)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS), help="only these models")
    parser.add_argument("--rates", nargs="+", default=list(RATES), help="learning rates (default 3e-3 1e-3)")
    options = parser.parse_args()
    programs = options.programs.resolve()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = {}
        for rate in options.rates:
            for name in options.only:
                folder = options.output_dir / f"{name}-{rate}"
                if not (folder / "evaluate.json").exists():
                    runs[pool.submit(run, programs, folder, name, rate, options.corpus, options.steps)] = folder.name
        for done in concurrent.futures.as_completed(runs):
            done.result()
            print(f"{runs[done]}: done", flush=True)


if __name__ == "__main__":
    main()
