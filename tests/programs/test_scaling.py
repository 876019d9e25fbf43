"""perf/scaling from outside and from inside: studies end to end, batch scripts, bad usage, the lines against schema.json, and the model.

No test asks how long anything takes. Pictures are left out where matplotlib is missing.
"""
import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import types
import unittest
import unittest.mock
import xml.etree.ElementTree

import numpy as np
from json_schema import complaints
from programs import MPIEXEC, PROGRAMS, Case, ids_file, in_parallel, mpi_session, run

SCALING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "perf", "scaling")
TOOL = os.path.join(SCALING, "scaling.py")
USAGE, FILE, OUTPUT = 2, 3, 6

sys.path.insert(0, SCALING)
import calibration  # noqa: E402
import command_line  # noqa: E402
import model  # noqa: E402
import scaling  # noqa: E402
import step  # noqa: E402
import study  # noqa: E402
from setups import ARCHITECTURES, Setup, heads_of  # noqa: E402

SMALL = ("--hidden-dim", 32, "--num-heads", 4, "--num-layers", 1, "--ff-dim", 48, "--window-size", 20, "--repeat", 1)
RUNNING = ("--programs", os.path.abspath(PROGRAMS), "--launcher-options=" + " ".join(MPIEXEC[1:-1]), "--limit", 60)

# A machine that nobody has: rates are round numbers.
RATES = {"project": {"flop": 2e-11, "number": 1e-10}, "finish": {"flop": 2e-11, "number": 2e-10}, "embedding": {"number": 1e-9},
         "final_norm": {"number": 5e-10}, "states": {"flop": 5e-11, "state": 2e-9}, "retrieval": {"flop": 4e-11, "state": 1e-9},
         "mixing": {"flop": 3e-11, "number": 1e-9}}
OWN_RATES = {"within_chunk": {"flop": 4e-11}, "attention": {"flop": 3e-11, "number": 1e-9}, "scan": {"flop": 4e-11}}
RATES.update((f"{phase}.{name}", rates) for name, one in ARCHITECTURES.items() for phase, rates in OWN_RATES.items() if phase in one.phases)
RATES["within_chunk.bsbr"] = {"flop": 4e-11, "number": 1e-9}  # calibrated with chunks of several sizes, which tell both units apart
MACHINE = dict(cores=2, precision="float", seconds=RATES, crowding=1.1, memory_rate=2e10, latency=1e-5, bandwidth=4e9)


def scale(*arguments, inside=True, **environment):
    """scaling.py -> code, out, err; inside: without a process of its own."""
    arguments = [str(argument) for argument in arguments]
    if inside:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = scaling.main(arguments)
            except SystemExit as left:  # --help
                code = left.code
        return types.SimpleNamespace(code=code, out=out.buffer.getvalue().decode(), err=err.getvalue())
    launcher = os.path.dirname(MPIEXEC[0])
    path = os.pathsep.join(filter(None, [launcher, os.environ["PATH"]]))
    done = subprocess.run([sys.executable, "-B", TOOL, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, text=True,
                          env={**os.environ, "PATH": path, **environment})
    return types.SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def with_total(counts):
    return {**counts, "total": sum(counts.values())}


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


# ---- schema ---------------------------------------------------------------------------------------------------------------------------

with open(os.path.join(SCALING, "schema.json"), encoding="utf-8") as schema_file:
    SCHEMA = json.load(schema_file)


class Scaling(Case):
    def machine(self, **changes):
        with open(self.path("machine.jsonl"), "w", encoding="utf-8") as file:
            print(json.dumps(study.line("machine", **{**MACHINE, **changes})), file=file)
        return self.path("machine.jsonl")

    def valid(self, lines):
        for entry in lines:
            self.assertEqual(complaints(entry, SCHEMA, SCHEMA), [])
        return lines

    def refused(self, code, says, *arguments):
        done = scale(*arguments)
        errors = [line for line in done.err.splitlines() if not line.startswith("hint: ")]
        self.assertEqual((done.code, done.out, len(errors)), (code, "", 1), done.err)
        self.assertTrue(errors[0].startswith("scaling.py: error: "), done.err)
        self.assertIn(says, errors[0])

    # ---- studies ----

    def test_a_study_is_run_checked_and_drawn(self):
        path, machine = self.path("study.jsonl"), self.machine()
        for kind, tokens in (("strong", 512), ("weak", 256)):
            done = scale("run", kind, *SMALL, *RUNNING, "--architectures", "bsbr,linear", "--tokens", tokens, "--ranks", "1,2",
                         "--chunk-sizes", 32, "--output", path, inside=False)
            self.assertEqual((done.code, done.out), (0, ""), done.err)
        with open(path, encoding="utf-8") as file:
            lines = self.valid(lines_of(file.read()))
        self.assertEqual([(entry["study"], entry["architecture"], entry["length"], entry["ranks"]) for entry in lines],
                         [(kind, name, length * (ranks if kind == "weak" else 1), ranks) for kind, length in (("strong", 512), ("weak", 256))
                          for name in ("bsbr", "linear") for ranks in (1, 2)])
        for entry in lines:
            self.assertEqual(entry["kind"], "run", entry)
            self.assertEqual(entry["summary"]["ranks"], entry["ranks"])
            self.assertEqual(entry["summary"]["threads_per_rank"], entry["threads_per_rank"])

        done = scale("check", "--machine", machine, path)
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn("runs, error of the total time: median", done.out)
        self.assertNotIn("DIFFERENT", done.out)
        if importlib.util.find_spec("matplotlib"):
            self.check_pictures(machine, path)

    def check_pictures(self, machine, path):
        done = scale("draw", "--machine", machine, path, "--output-dir", self.path("out"), inside=False)
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn("scaling_far is not drawn: the model's median error on these runs is ", done.out)  # of a machine that nobody has
        self.check_drawn("bytes", "efficiency", "model", "speedup", *(f"phases_{kind}_{name}" for kind in ("strong", "weak") for name in ("bsbr", "linear")))

    def check_drawn(self, *names):
        self.assertEqual(sorted(os.listdir(self.path("out"))), sorted(f"scaling_{name}.{kind}" for name in names for kind in ("png", "svg")))
        for name in names:
            svg = xml.etree.ElementTree.parse(os.path.join(self.path("out"), f"scaling_{name}.svg"))
            self.assertEqual(svg.getroot().tag, "{http://www.w3.org/2000/svg}svg")

    def test_what_is_far_away_is_drawn_if_the_model_is_right_here(self):
        if not importlib.util.find_spec("matplotlib"):
            self.skipTest("matplotlib is missing")
        runner = FakeRunner(model.Machine.of(MACHINE))
        with open(self.path("study.jsonl"), "w", encoding="utf-8") as file:
            for ranks in (1, 2):
                for name in ARCHITECTURES:
                    setup = Setup(name, 4096, ranks=ranks, hidden_dim=256, num_heads=heads_of(name, 4))
                    print(json.dumps(runner.run(study.Case("strong", setup, 1, 2, 1))), file=file)
        done = scale("draw", "--machine", self.machine(processor="A-CPU"), self.path("study.jsonl"), "--output-dir", self.path("out"), inside=False)
        self.assertEqual((done.code, done.err), (0, ""))
        with open(os.path.join(self.path("out"), "scaling_far.svg"), encoding="utf-8") as file:
            texts = re.findall("<!-- (.*) -->", file.read())
        self.assertEqual((texts.count("64"), texts.count("256"), texts.count("1,024")), (3, 1, 3))  # on the axes of ranks 256 would touch 1,024
        self.check_drawn("bytes", "efficiency", "far", "model", "speedup", *(f"phases_strong_{name}" for name in ARCHITECTURES))

    def expect_what_is_sent(self, architecture, *arguments):
        path = self.path(architecture + ".jsonl")
        done = scale("run", "strong", *SMALL, *RUNNING, "--architectures", architecture, "--tokens", 1000, "--threads", 1, *arguments, "--output",
                     path, inside=False)
        self.assertEqual(done.code, 0, done.err)
        with open(path, encoding="utf-8") as file:
            for entry in lines_of(file.read()):
                self.compare_what_is_sent(entry["summary"])

    def compare_what_is_sent(self, summary):
        setup = Setup.of(summary)
        for rank in summary["by_rank"]:
            sent = model.traffic(setup, rank["rank"])
            self.assertEqual(with_total({name: size for name, (size, _) in sent.items()}), rank["bytes_sent"], (setup, rank["rank"]))
            self.assertEqual(with_total({name: count for name, (_, count) in sent.items()}), rank["messages_sent"], (setup, rank["rank"]))
        self.assertEqual(model.bytes_sent(setup)["total"], summary["bytes_sent"]["total"])

    def test_bytes_and_messages_are_those_that_are_sent(self):
        def compare(architecture):
            self.expect_what_is_sent(architecture, "--ranks", "2,4", "--chunk-sizes", 48)

        self.assertEqual(in_parallel(compare, ARCHITECTURES), {})

    def test_bytes_and_messages_are_those_that_are_sent_where_ranks_share_blocks_of_states(self):
        # Two blocks; 21 chunks, and 334, which are dealt out in tiles of several.
        self.expect_what_is_sent("bsbr", "--num-heads", 2, "--ranks", "3,5,8", "--chunk-sizes", "48,3")

    def test_bytes_and_messages_are_those_that_are_sent_where_scans_have_several_segments(self):
        # Segments of 1,024 tokens, or in gau of whole chunks. Ranks begin with a segment, or within one, or lie within one with others; one
        # has no tokens (7 chunks of 300 for 8 ranks).
        cases = [(8192, 32, 2), (8192, 32, 5), (8192, 32, 8), (5000, 100, 3), (5000, 100, 8), (5000, 31, 5), (2000, 300, 8), (1000, 100, 3)]
        runner = study.Runner(os.path.abspath(PROGRAMS), "mpirun", list(MPIEXEC[1:-1]), 60)

        def compare(sizes):
            name, feature_map, hidden_dim = sizes
            for length, chunk_size, ranks in cases:
                setup = Setup(name, length, ranks=ranks, hidden_dim=hidden_dim, num_heads=heads_of(name, 4), num_layers=1, ff_dim=48,
                              chunk_size=chunk_size, feature_map=feature_map)
                entry = runner.run(study.Case("strong", setup, 1, 2, 1))
                self.assertEqual(entry["kind"], "run", entry)
                self.compare_what_is_sent(entry["summary"])

        states = [(name, "none", 32) for name, one in ARCHITECTURES.items() if one.transfer == "state"]
        with runner:  # a head of 65 columns is two parts of 33
            self.assertEqual(in_parallel(compare, [*states, ("linear", "elu", 32), ("gau", "none", 65)]), {})

    def expect_step(self, architecture, length, chunk_size, ranks, **changes):
        """What each rank sends for loss and gradients: as the program counts it, and as step.py has it."""
        batch, recompute = changes.pop("batch", 1), changes.pop("recompute", "all")
        name = "_".join(map(str, (architecture, length, chunk_size, ranks, recompute)))
        fields = {"head": "tied", "num_heads": heads_of(architecture, 2), "chunk_size": chunk_size, **changes}
        model_file = self.model(name + ".h5", architecture, **fields)
        ids = ids_file(self.path(name + "_ids.h5"), np.arange(batch * length).reshape(batch, length) * 7 % 256)
        done = run("bsbr_evaluate", "--model", model_file, "--input", ids, "--gradients", self.path(name + "_g.h5"), "--recompute", recompute,
                   "--json", "-", ranks=ranks, environment={"OMP_NUM_THREADS": "1"})
        self.assertEqual(done.code, 0, done.err)
        summary = json.loads(done.out)
        setup = step.Step.of({**summary, "recompute": recompute})
        self.assertEqual(setup.parameters, summary["parameters"])
        for rank in summary["by_rank"]:
            sent = step.traffic(setup, rank["rank"])
            self.assertEqual(with_total({name: size for name, (size, _) in sent.items()}), rank["bytes_sent"], (setup, rank["rank"]))
            self.assertEqual(with_total({name: count for name, (_, count) in sent.items()}), rank["messages_sent"], (setup, rank["rank"]))
        self.assertEqual(step.bytes_sent(setup)["total"], summary["bytes_sent"]["total"])

    def test_bytes_and_messages_of_gradients_are_those_that_are_sent(self):
        # One and several leaves on a rank, and none; borders of ranks within a tile and within a segment of a scan; several sequences.
        shapes = [(1000, 48, 2), (999, 7, 3), (8192, 32, 2), (5000, 31, 4), (2000, 300, 8), (300, 64, 7), (640, 4, 4), (300, 64, 1)]
        cases = [(name, *shape) for name in ARCHITECTURES for shape in shapes]

        def compare(case):
            number = cases.index(case)
            self.expect_step(*case, batch=1 + number % 3, recompute=("all", "none")[number % 2], head=("tied", "separate")[number // 2 % 2],
                             **({"feature_map": "elu"} if case[0] == "linear" and number % 2 else {}))

        self.assertEqual(in_parallel(compare, cases), {})

    def test_bytes_of_gradients_are_those_that_are_sent_where_ranks_share_blocks_and_windows_are_long(self):
        self.expect_step("bsbr", 1000, 3, 5)  # two blocks of states
        self.expect_step("sliding_window", 500, 10, 3, window_size=400)  # by heads
        self.expect_step("delta_net", 4100, 20, 3, hidden_dim=130, num_heads=1)  # a state of three blocks of columns

    def test_bytes_of_gradients_are_those_that_are_sent_of_a_model_with_null_logits_and_gates(self):
        self.expect_step("bsbr", 999, 7, 3, null_chunk=1, retrieval_gate=1, router_key="mean", state_scale="mean")

    def test_a_failed_run_is_a_line_and_the_study_goes_on(self):
        done = scale("run", "strong", *SMALL, "--programs", os.path.abspath(PROGRAMS), "--launcher-options=--no-such-option",
                     "--tokens", 128, "--ranks", "2,1", inside=False)
        self.assertEqual(done.code, 1, done.err)
        self.assertIn("scaling.py: error: 1 of 2 runs failed, the last one with: ", done.err)
        failure, run = self.valid(lines_of(done.out))
        self.assertEqual((failure["kind"], failure["ranks"], run["kind"], run["ranks"]), ("failure", 2, "run", 1))
        self.assertNotEqual(failure["exit_code"], 0)
        self.assertNotIn("\n", failure["reason"])

    def test_if_all_runs_fail_the_study_fails(self):
        done = scale("run", "strong", *SMALL, *RUNNING, "--ranks", 1, "--tokens", 2**44, inside=False)
        self.assertEqual(done.code, 1)
        self.assertEqual([(entry["kind"], entry["exit_code"]) for entry in self.valid(lines_of(done.out))], [("failure", 4)])
        self.assertIn("scaling.py: error: 1 of 1 run failed, the last one with: ", done.err)

    def test_a_run_that_takes_too_long_is_ended(self):
        done = scale("run", "strong", *SMALL, *RUNNING, "--ranks", 1, "--tokens", 2**20, "--limit", 0.2, inside=False)
        self.assertEqual([entry["reason"] for entry in lines_of(done.out)], ["not done after 0.2 seconds"])

    def test_a_program_that_cannot_be_started_is_a_line_and_ends_the_study(self):
        done = scale("run", "strong", *SMALL, "--programs", "/nowhere", "--ranks", "1,2", "--output", self.path("x.jsonl"))
        self.assertEqual(done.code, USAGE)
        self.assertIn("scaling.py: error: /nowhere/bsbr_init cannot be started: No such file or directory: 1 of 2 runs not started", done.err)
        self.assertEqual([(line["exit_code"], line["reason"]) for line in self.lines("x.jsonl")],
                         [(127, "/nowhere/bsbr_init cannot be started: No such file or directory")])
        done = scale("run", "strong", *SMALL, "--programs", "/nowhere", "--ranks", "1", "--output", self.path("y.jsonl"))
        self.assertNotIn("not started", done.err)

    def lines(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return self.valid(lines_of(file.read()))

    # ---- batch scripts ----

    def script(self, launcher, *arguments):
        done = scale("run", "weak", *SMALL, "--launcher", launcher, "--dry-run", *arguments)
        self.assertEqual((done.code, done.err), (0, ""))
        checked = subprocess.run(["bash", "-n"], input=done.out.encode(), capture_output=True)
        self.assertEqual((checked.returncode, checked.stderr), (0, b""))
        return done.out

    def job(self, name="job.sh", environment=(), stop=None):
        """Runs a batch script that lies in the test's folder, with the stand-ins for srun and flux -> code, log (stdout and stderr)."""
        folders = [self.path("bin"), os.path.dirname(MPIEXEC[0]), os.environ["PATH"]]
        with tempfile.TemporaryDirectory(prefix="bsbr-mpi-", ignore_cleanup_errors=True) as session:
            settings = {**os.environ, **mpi_session(session), "PATH": os.pathsep.join(filter(None, folders)), **dict(environment)}
            child = subprocess.Popen([self.path(name)], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, env=settings)
            if stop:
                stop(child)
            log = child.communicate(timeout=120)[0]
        return child.returncode, log

    def stand_in(self, *commands):
        """srun and flux as shell scripts, which put their arguments into called.txt and then do this: MPIRUN starts the ranks."""
        launcher = shlex.join(MPIEXEC[:-1])
        text = "\n".join(["#!/bin/bash", f'echo "$(basename "$0") $*" >> {shlex.quote(self.path("called.txt"))}', 'for word; do',
                          '  case $word in --ntasks=*) ranks=${word#*=};; -*|run) ;; *) break;; esac', '  shift', 'done',
                          f'MPIRUN() {{ {launcher} -n "$ranks" "$@"; }}', *commands, ""])
        os.makedirs(self.path("bin"), exist_ok=True)
        for name in ("srun", "flux"):
            with open(os.path.join(self.path("bin"), name), "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(os.path.join(self.path("bin"), name), 0o755)

    def study_in_job(self, launcher, *arguments, programs=PROGRAMS):
        done = scale("run", "strong", *SMALL, "--programs", os.path.abspath(programs), "--launcher", launcher, "--threads", 1, "--cores", 2,
                     "--output", self.path("job.jsonl"), "--dry-run", self.path("job.sh"), *arguments)
        self.assertEqual((done.code, done.out, done.err), (0, "", ""))

    def test_dry_run_writes_batch_scripts(self):
        cases = ("--ranks", "1,8", "--threads", 4, "--cores", 16, "--tokens", 1024)
        slurm, flux, shell = (self.script(launcher, *cases) for launcher in ("srun", "flux", "mpirun"))
        for text in ("#SBATCH --nodes=2\n", "#SBATCH --ntasks=8\n", "#SBATCH --cpus-per-task=4\n", "#SBATCH --hint=nomultithread\n",
                     "#SBATCH --signal=B:TERM@60\n", "srun --nodes=2 --ntasks=8 --cpus-per-task=4 --hint=nomultithread ",
                     "srun --nodes=1 --ntasks=1 "):
            self.assertIn(text, slurm)
        for text in ("#flux: --nodes=2\n", "flux run --nodes=2 --ntasks=8 --cores-per-task=4 "):
            self.assertIn(text, flux)
        self.assertIn("mpirun -n 8 bsbr_forward ", shell)
        self.assertNotIn("#SBATCH", shell)

    def test_what_the_batch_system_is_asked_for_can_be_had(self):
        """Without --threads the ranks of a node share its cores: 1 rank of 16 and 8 ranks of 2, but never 8 ranks of 16."""
        script = self.script("srun", "--ranks", "1,8", "--cores", 16)
        found = {name: int(value) for name, value in re.findall(r"#SBATCH --([a-z-]+)=(\d+)\n", script)}
        self.assertLessEqual(found["ntasks"] * found["cpus-per-task"], 16 * found["nodes"])

    def test_a_script_runs_the_study_that_was_asked_for(self):
        given = ["run", "weak", *map(str, SMALL), "--architectures=bsbr,gau", "--causality=bidirectional", "--chunk-sizes=16,32", "--batch=2",
                 "--precision=double", "--tokens=100,200", "--ranks=1,4", "--threads=3", "--launcher=flux", "--cores=6", "--limit=7.5",
                 "--patience=2", "--launcher-options=--env=A='b c'", "--programs=here", "--model-dir=there", "--output=o.jsonl"]
        done = scale(*given, "--dry-run")
        command = shlex.split(done.out.splitlines()[-1])
        self.assertEqual(command[:3], ["exec", sys.executable, os.path.realpath(TOOL)])
        wanted, found = (vars(scaling.parse(arguments)) for arguments in (given, command[3:]))
        for name in ("programs", "model_dir", "output"):
            wanted[name] = os.path.abspath(wanted[name])
        self.assertEqual(found, wanted)

    def test_a_script_is_fitted_to_a_centre(self):
        with open(self.path("modules.sh"), "w", encoding="utf-8") as file:
            file.write("# ours\nmodule load openmpi\n")
        script = self.script("srun", "--batch-options=--account=proj1 -p 'big one' --time=5 --exclusive=user", "--prologue", self.path("modules.sh"))
        for text in ("#SBATCH --account=proj1\n#SBATCH -p 'big one'\n#SBATCH --time=5\n#SBATCH --exclusive=user\n",
                     "\n# ours\nmodule load openmpi\n"):
            self.assertIn(text, script)
        self.assertEqual((script.count("--time="), script.count("#SBATCH --exclusive")), (1, 1))
        self.assertLess(script.rindex("#SBATCH"), script.index("module load"))
        self.assertLess(script.index("module load"), script.index("\nexec "))

    def test_a_prologue_that_fails_ends_the_job(self):
        with open(self.path("prologue.sh"), "w", encoding="utf-8") as file:
            file.write("false\n")
        self.study_in_job("srun", "--ranks", "2", "--tokens", 256, "--prologue", self.path("prologue.sh"))
        self.assertEqual(self.job(), (1, ""))
        self.assertFalse(os.path.exists(self.path("job.jsonl")))

    def test_names_of_files_in_a_script_are_whole(self):
        done = scale("run", "strong", *SMALL, "--programs", "/b\xe9", "--dry-run", inside=False, PYTHONIOENCODING="ascii")
        self.assertEqual((done.code, done.err), (0, ""))
        self.assertIn("--programs=/b\xe9", done.out)

    def test_paths_of_a_script_are_absolute(self):
        script = self.script("srun", "--programs", "../bin")
        self.assertIn(f" {os.path.abspath('../bin')}/bsbr_forward ", script)
        self.assertNotIn("../", script)

    def test_words_of_the_launcher_around_a_summary_are_passed_over(self):
        self.stand_in("echo 'srun: job 7 queued'", 'MPIRUN "$@"', "echo done")
        self.study_in_job("srun", "--ranks", "2", "--tokens", 256)
        code, log = self.job()
        self.assertEqual((code, [entry["kind"] for entry in self.lines("job.jsonl")]), (0, ["run"]), log)

    def test_split_writes_a_script_for_each_number_of_nodes(self):
        done = scale("run", "strong", *SMALL, "--launcher", "srun", "--cores", 4, "--threads", 2, "--ranks", "1,2,4,8", "--split", "--dry-run",
                     self.path("s.sh"), "--output", self.path("s.jsonl"))
        self.assertEqual((done.code, done.out), (0, ""))
        self.assertEqual(sorted(os.listdir(self.folder)), ["s-1-node.sh", "s-2-nodes.sh", "s-4-nodes.sh"])
        for nodes, ranks, name in ((1, "1,2", "s-1-node"), (2, "4", "s-2-nodes"), (4, "8", "s-4-nodes")):
            with open(self.path(name + ".sh"), encoding="utf-8") as file:
                text = file.read()
            for part in (f"#SBATCH --nodes={nodes}\n", f" --ranks={ranks} ", f"--output={self.path(name)}.jsonl"):
                self.assertIn(part, text)
            self.assertIn(name + ".sh", done.err)

    def test_a_batch_script_leaves_the_lines_of_its_runs(self):
        for launcher, call in (("mpirun", None), ("srun", "srun --nodes=1 --ntasks=2 --cpus-per-task=1 "),
                               ("flux", "flux run --nodes=1 --ntasks=2 --cores-per-task=1 ")):
            with self.subTest(launcher=launcher):
                self.stand_in('MPIRUN "$@"')
                options = RUNNING[2:3] if launcher == "mpirun" else ()
                self.study_in_job(launcher, *options, "--ranks", "1,2", "--tokens", 256)
                code, log = self.job(environment=dict(BSBR_ANY="1"))
                self.assertEqual(code, 0, log)
                self.assertEqual([(entry["kind"], entry["ranks"]) for entry in self.lines("job.jsonl")], [("run", 1), ("run", 2)])
                for text in ("1/2 bsbr, 256 tokens, chunks of 128, 1 rank of 1 thread: ", "2/2 bsbr"):
                    self.assertIn(text, log)
                if call:
                    with open(self.path("called.txt"), encoding="utf-8") as file:
                        self.assertIn(call, file.read())
                self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("bsbr-scaling-")], [])
                os.remove(self.path("job.jsonl"))

    def test_failures_in_a_job_are_recorded_and_told(self):
        empty = tempfile.mkdtemp(dir=self.folder)
        os.symlink(os.path.join(os.path.abspath(PROGRAMS), "bsbr_init"), os.path.join(empty, "bsbr_init"))
        node_failure = "echo 'srun: error: Node failure on n2' >&2; exit 143"
        for about, code, reason, commands, arguments, programs in (
            ("not enough memory", 4, "not enough memory: ", ['"$@"'], ["--tokens", 2**44], PROGRAMS),
            ("no such program", 127, "No such file or directory", ['"$@"'], [], empty),
            ("launcher", 1, "Unable to create step: Requested node configuration is not available",
             ["echo 'srun: error: Unable to create step: Requested node configuration is not available' >&2", "exit 1"], [], PROGRAMS),
            ("no summary", 1, "it ended with exit code 0 but wrote no summary; its output begins with 'hello'", ["echo hello"], [], PROGRAMS),
            ("silence", 1, "it ended with exit code 0 but wrote no summary", [":"], [], PROGRAMS),
            ("another's JSON", 1, "its summary has no architecture", ["echo '{}'"], [], PROGRAMS),
            ("cut short", 1, "it ended with exit code 0 but wrote no summary; its output begins with ", ['"$@" | head -c 99'], [], PROGRAMS),
            ("other ranks", 1, "it ran with ranks = 1, must be 2", ["ranks=1", 'MPIRUN "$@"'], [], PROGRAMS),
            ("time limit", 1, "not done after 0.5 seconds", ["sleep 60"], ["--limit", 0.5], PROGRAMS),
            ("node failure", 143, "Node failure on n2", [node_failure], [], PROGRAMS),
            ("crash", 139, "ended by SIGSEGV", ["kill -SEGV $$"], [], PROGRAMS),
            ("program's and launcher's words", 6, "summary: disk full",
             ["echo 'srun: error: n1: task 0: Exited with exit code 6' >&2", "echo '0: bsbr_forward: error: summary: disk full' >&2", "exit 6"], [],
             PROGRAMS),
            ("no model", 2, "--hidden-dim", ['"$@"'], ["--hidden-dim", 2**50], PROGRAMS),
        ):
            for launcher in ("srun", "flux"):
                with self.subTest(about=about, launcher=launcher):
                    self.stand_in(*commands)
                    self.study_in_job(launcher, "--ranks", "2", "--tokens", 256, *arguments, programs=programs)
                    ended, log = self.job()
                    self.assertEqual(ended, 1, log)
                    failure, = self.lines("job.jsonl")
                    self.assertEqual((failure["kind"], failure["exit_code"]), ("failure", code), failure)
                    self.assertIn(reason, failure["reason"])
                    self.assertIn(f"failed with exit code {code}: {failure['reason']}", log)
                    self.assertIn("error: 1 of 1 run failed", log)
                    os.remove(self.path("job.jsonl"))

    def test_a_job_whose_launcher_or_programs_are_missing_says_so(self):
        for arguments, programs, reason in ((["--ranks", 2], PROGRAMS, "srun cannot be started"), (["--ranks", 2], self.folder, "bsbr_init cannot be started")):
            self.study_in_job("srun", *arguments, programs=programs)
            code, log = self.job(environment=dict(PATH="/nowhere"))
            self.assertEqual(code, USAGE, log)
            failure, = self.lines("job.jsonl")
            self.assertEqual(failure["exit_code"], 127)
            self.assertIn(reason, failure["reason"])
            self.assertIn("scaling.py: error: ", log)
            os.remove(self.path("job.jsonl"))

    def test_a_job_that_goes_on_after_a_failure_still_fails(self):
        self.stand_in('if [ "$ranks" = 1 ]; then exit 3; fi', 'MPIRUN "$@"')
        self.study_in_job("srun", "--ranks", "1,2", "--tokens", 256)
        code, log = self.job()
        self.assertEqual(code, 1, log)
        self.assertEqual([(entry["kind"], entry.get("exit_code")) for entry in self.lines("job.jsonl")], [("failure", 3), ("run", None)])

    def test_a_job_whose_time_is_over_records_the_run_that_it_ends(self):
        self.stand_in('touch "$(dirname "$0")/../started"', "sleep 60 & wait")
        self.study_in_job("srun", "--ranks", "2,4", "--tokens", 256)

        def stop(child):
            while not os.path.exists(self.path("started")) and child.poll() is None:
                time.sleep(0.05)
            child.terminate()  # as Slurm does with --signal=B:TERM@60

        code, log = self.job(stop=stop)
        self.assertEqual(code, 128 + signal.SIGTERM, log)
        self.assertEqual([(entry["exit_code"], entry["reason"]) for entry in self.lines("job.jsonl")], [(143, "ended by SIGTERM")])
        self.assertIn("ended by SIGTERM: 1 of 2 runs not started", log)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("bsbr-scaling-")], [])

    def test_a_full_disk_ends_a_study(self):
        done = scale("run", "strong", *SMALL, *RUNNING, "--ranks", "1,1", "--tokens", 64, "--output", "/dev/full", inside=False)
        self.assertEqual(done.code, OUTPUT)
        self.assertRegex(done.err, r"\A1/2 bsbr, .* s\b.*\nscaling.py: error: /dev/full: cannot be written: No space left on device\n\Z")

    def test_a_study_goes_on_after_a_line_that_was_cut(self):
        with open(self.path("x.jsonl"), "w", encoding="utf-8") as file:
            file.write(json.dumps(study.line("machine", **MACHINE))[:40])
        done = scale("run", "strong", *SMALL, *RUNNING, "--ranks", 1, "--tokens", 64, "--output", self.path("x.jsonl"))
        self.assertEqual(done.code, 0, done.err)
        self.assertEqual([entry["kind"] for entry in study.read_lines([self.path("x.jsonl")])], ["run"])

    def test_help_and_studies_need_no_numpy(self):
        with open(self.path("numpy.py"), "w", encoding="utf-8") as file:
            file.write("raise ImportError('no numpy here')")
        without = dict(PYTHONPATH=self.folder)
        for command in ((), ("run", ), ("calibrate", ), ("check", ), ("predict", ), ("draw", )):
            done = scale(*command, "--help", inside=False, COLUMNS="80", **without)
            self.assertEqual((done.code, done.err), (0, ""))
            self.assertLessEqual(max(map(len, done.out.splitlines())), 80)
            self.assertNotIn("-\n", done.out)  # a line that ends within an option
            done = scale(*command, "--help", inside=False, PYTHONIOENCODING="ascii", **without)
            self.assertEqual((done.code, done.err), (0, ""))
        done = scale("run", "strong", *SMALL, *RUNNING, "--ranks", 1, "--tokens", 64, inside=False, **without)
        self.assertEqual(done.code, 0, done.err)
        done = scale("check", "--machine", self.machine(), self.path("x"), inside=False, **without)
        self.assertEqual(done.code, 1)
        self.assertIn(f"error: {sys.executable} cannot load numpy: no numpy here\nhint: ", done.err)

    def test_a_python_that_has_what_is_missing_is_named(self):
        os.makedirs(self.path("a"))
        for name, code in (("a", 1), ("b", 0)):
            os.makedirs(self.path(name), exist_ok=True)
            with open(os.path.join(self.path(name), "python3"), "w", encoding="utf-8") as file:
                file.write(f'#!/bin/sh\nexit {code}\n')
            os.chmod(os.path.join(self.path(name), "python3"), 0o755)
        path = os.pathsep.join([self.path("a"), self.path("b")])
        with unittest.mock.patch.dict(os.environ, PATH=path):
            self.assertEqual(command_line.python_with(["numpy"]), os.path.join(self.path("b"), "python3"))
            self.assertIn(self.path("b"), command_line.unusable(ImportError("gone", name="numpy"), "numpy").hint)

    # ---- what is refused ----

    def test_bad_usage_is_refused(self):
        machine = self.machine()
        for says, *arguments in (
            ("required", ),
            ("'sideways'", "run", "sideways"),
            ("'-1'", "run", "strong", "--ranks=1,-1"),
            ("'0'", "run", "strong", "--tokens", "0"),
            ("'x'", "run", "strong", "--architectures", "bsbr,x"),
            ("'lsf'", "run", "strong", "--launcher", "lsf"),
            ("unrecognized arguments: --colour", "run", "strong", "--colour"),
            ("unrecognized arguments: --chunk-size 3", "run", "strong", "--chunk-size", 3),
            ("--num-heads = 3 does not divide --hidden-dim = 32", "run", "strong", "--hidden-dim", 32, "--num-heads", 3),
            ("--threads = 4 is above --cores = 2", "run", "strong", "--threads", 4, "--cores", 2, "--launcher", "srun", "--dry-run"),
            ("--split is for a batch script", "run", "strong", "--split"),
            ("--split needs --dry-run FILE", "run", "strong", "--split", "--launcher", "srun", "--dry-run"),
            ("--batch-options needs srun or flux", "run", "strong", "--batch-options=--account=a", "--dry-run"),
            ("begins with 'account=a'", "run", "strong", "--launcher=srun", "--batch-options=account=a", "--dry-run"),
            ("No closing quotation", "run", "strong", "--launcher=srun", "--batch-options=--account='a", "--dry-run"),
            ("control character", "run", "strong", "--launcher=srun", "--batch-options=--account=a\nrm", "--dry-run"),
            ("No closing quotation", "run", "strong", "--launcher-options='"),
            ("--machine", "predict"),
            ("'nan'", "predict", "--machine", machine, "--latency", "nan"),
            ("--output-dir", "draw", "--machine", machine, "x.jsonl"),
        ):
            with self.subTest(arguments=arguments):
                self.refused(USAGE, says, *arguments)
        self.assertIn("hint: scaling.py run --help lists the options\n", scale("run", "strong", "--chunk-size", 3).err)

    def test_bad_files_are_refused(self):
        machine, bad = self.machine(), self.path("bad.jsonl")
        for says, text in (("is not JSON", "{\n"), ("has not format", "{}\n"), ("has not format", "[1]\n"), ("there is no run", ""),
                           ("line 1 has no study", json.dumps(study.line("run")) + "\n"),
                           ("line 1 has no crowding", json.dumps(study.line("machine", cores=2, precision="float", seconds={})) + "\n"),
                           ("line 1 has no kind", '{"format": "bsbr-scaling", "format_version": 1}\n')):
            with self.subTest(text=text):
                with open(bad, "w", encoding="utf-8") as file:
                    file.write(text)
                self.refused(FILE, says, "check", "--machine", machine, bad)
        self.refused(FILE, "cannot be read", "check", "--machine", machine, self.path("missing"))
        self.refused(FILE, 'no line of kind "machine"', "predict", "--machine", os.devnull)
        self.refused(FILE, "calibrated in float", "predict", "--machine", machine, "--precision", "double")
        self.refused(OUTPUT, "cannot be written", "run", "strong", "--output", "/nowhere/x.jsonl")
        self.refused(OUTPUT, "cannot be written", "run", "strong", "--dry-run", "/nowhere/x.sh")
        self.refused(OUTPUT, "/nowhere: no folder for models can be made there", "run", "strong", "--model-dir", "/nowhere")
        self.refused(FILE, "--prologue: /nowhere: cannot be read", "run", "strong", "--dry-run", "--prologue", "/nowhere")

    def test_what_a_killed_study_has_left_is_read(self):
        whole = json.dumps(study.line("machine", **MACHINE))
        with open(self.path("cut.jsonl"), "w", encoding="utf-8") as file:
            file.write(whole + "\n" + whole[:20])
        self.assertEqual(len(study.read_lines([self.path("cut.jsonl")])), 1)


class Model(unittest.TestCase):
    machine = model.Machine.of(MACHINE)

    def setups(self, **changes):
        for name in ARCHITECTURES:
            yield Setup(**{**dict(architecture=name, length=65536, hidden_dim=256, num_heads=heads_of(name, 4), num_layers=2, ff_dim=1024),
                           **changes})

    def seconds(self, setup, machine=None):
        return model.predict(machine or self.machine.cluster(2e-6, 1e10), setup)["seconds"]

    def test_time_grows_with_length_width_and_layers(self):
        for ranks in (1, 2, 4, 32):
            for setup in self.setups(ranks=ranks):
                for changes in (dict(length=131072), dict(num_layers=4), dict(ff_dim=2048), dict(batch=2)):
                    self.assertGreater(self.seconds(dataclasses.replace(setup, **changes)), self.seconds(setup), (setup, changes))

    def test_time_falls_with_ranks_while_there_is_work(self):
        for setup in self.setups():
            times = [self.seconds(dataclasses.replace(setup, ranks=ranks)) for ranks in (1, 2, 4, 8, 16)]
            self.assertEqual(times, sorted(times, reverse=True), setup)
            self.assertGreaterEqual(times[-1] * 16, times[0] * 0.999, setup)  # no more than 16 times as fast

    def test_ranks_that_share_cores_gain_nothing(self):
        for setup in self.setups():
            two, four = (self.seconds(dataclasses.replace(setup, ranks=ranks), self.machine) for ranks in (2, 4))
            self.assertGreater(four, 0.95 * two, setup)

    def test_phases_add_up_to_the_time(self):
        for setup in self.setups(ranks=4):
            found = model.predict(self.machine, setup)
            self.assertAlmostEqual(sum(found["seconds_by_phase"].values()), found["seconds"])
            self.assertLessEqual(set(found["seconds_by_phase"]), set(model.PHASES))

    def test_bytes_follow_the_formulas(self):
        def segment_elements(setup):  # with 2 ranks of the state behind the first; with 4 of the sum of the first, and the state behind it
            state = setup.num_heads * setup.head_dim**2
            return state if setup.ranks == 2 else state + state * (2 if setup.architecture in model.SOLVES else 1)

        for ranks in (2, 4):
            for setup in self.setups(ranks=ranks, length=16384, num_layers=1):
                sent = model.bytes_sent(setup)
                width, heads, d, share = setup.hidden_dim, setup.num_heads, setup.head_dim, (ranks - 1) / ranks
                expected = {
                    "chunk_states": dict(states=2 * setup.chunks / ranks * heads * d**2 * 4 * share,
                                         retrieval_vectors=setup.chunks / ranks * 2 * width * 4 * (ranks - 1)),
                    "keys": dict(heads=4 * setup.length / ranks * width * 4 * share),
                    "state": dict(state=segment_elements(setup) * 4),
                }
                wanted = expected[setup.traits.transfer] if setup.window is None else dict(halo=2 * setup.window * width * 4)
                self.assertEqual(sent, {**wanted, "total": sum(wanted.values())}, setup)

    def test_gradients_of_ranks_and_leaves_in_powers_of_two_are_sent_once_for_each_sequence_and_once_to_all(self):
        for setup in self.setups():
            of_step = step.Step(**dataclasses.asdict(setup), vocab_size=1024, head="separate")
            arrays = step.summed_weights(of_step)
            self.assertEqual(sum(arrays), of_step.parameters)
            for ranks in (1, 2, 4, 8, 16):
                for batch in (1, 2, 5):
                    here = dataclasses.replace(of_step, ranks=ranks, batch=batch)
                    self.assertEqual({step.nodes_of(here, rank) for rank in range(ranks)}, {batch if ranks > 1 else 1})
                    sent = [step.traffic(here, rank).get("gradients", (0, 0))[0] for rank in range(ranks)]
                    self.assertEqual(sum(sent), 4 * sum(arrays) * (ranks - 1) * (batch + 1))
                    self.assertLess(max(sent) - min(sent), 4 * len(arrays) * (ranks + batch))

    def test_no_rank_has_more_nodes_than_the_tree_has_levels_on_two_sides(self):
        for length, chunk_size, ranks, batch in ((999, 7, 3, 2), (5000, 31, 5, 3), (1 << 20, 128, 7, 1), (300, 64, 7, 2), (1, 4, 3, 4)):
            here = step.Step("linear", length, ranks=ranks, batch=batch, chunk_size=chunk_size)
            leaves = here.units
            nodes = [step.nodes_of(here, rank) for rank in range(ranks)]
            self.assertLessEqual(max(nodes), batch * 2 * max(1, leaves.bit_length()))
            self.assertEqual([count > 0 for count in nodes], [here.tokens(rank) > 0 for rank in range(ranks)])

    def test_an_architecture_that_was_not_calibrated_is_named(self):
        without = {name: rates for name, rates in RATES.items() if not name.endswith(".hopfield")}
        machine = dataclasses.replace(self.machine, seconds=without)
        with self.assertRaisesRegex(study.Failure, "calibrated without attention of hopfield"):
            model.predict(machine, Setup("hopfield", 1024))

    def test_running_states_do_not_grow_with_the_length(self):
        for setup in self.setups(ranks=4):
            if setup.traits.transfer == "state":
                self.assertEqual(model.bytes_sent(setup), model.bytes_sent(dataclasses.replace(setup, length=1 << 24)))

    def test_a_scan_still_gains_on_thousands_of_ranks_and_none_sends_more_than_a_state_for_each_level(self):
        for setup in self.setups(length=1 << 24):
            if setup.traits.transfer == "state":
                for ranks in (1024, 4096):
                    setup = dataclasses.replace(setup, ranks=ranks)
                    self.assertLess(self.seconds(dataclasses.replace(setup, ranks=4 * ranks)), self.seconds(setup) / 2, setup)
                    most = max(int(np.sum(model.segment_messages(setup, rank, model.Scan.of(setup)))) for rank in range(ranks))
                    self.assertEqual(most, model.node_elements(setup) + (int(np.log2(ranks)) - 2) * model.state_elements(setup), setup)
                    self.assertEqual(model.bytes_sent(setup)["total"], 4 * setup.num_layers * most)

    def test_ranks_within_one_segment_go_on_one_after_the_other(self):
        for setup in self.setups(length=4096, ranks=32):  # of 128 tokens, 8 to a segment
            if setup.traits.transfer == "state":
                first, second, last = (model.rank_seconds(self.machine.cluster(2e-6, 1e10), setup, rank) for rank in (8, 9, 15))
                exchange = [found["seconds_by_phase"]["exchange"] for found in (first, second, last)]
                self.assertGreater(exchange[2] - exchange[1], 5 * second["seconds_by_phase"]["scan"], setup)
                self.assertLess(exchange[0], exchange[1], setup)

    def test_all_tokens_and_all_queries_are_somewhere(self):
        for ranks in (1, 2, 3, 7, 40):
            setup = Setup("standard", 5000, ranks=ranks, hidden_dim=64, num_heads=4)
            self.assertEqual(sum(int(setup.tokens(rank)) for rank in range(ranks)), 5000)
            heads = 0
            for rank in range(ranks):
                count, sharers, place = model.dealing(setup.num_heads, ranks, rank)
                heads += count * int(model.dealt(5000, sharers, place))
            self.assertEqual(heads, 4 * 5000)

    def test_all_states_of_all_chunks_are_mixed_somewhere_and_go_home(self):
        for ranks in (2, 3, 7, 40):
            setup = Setup("bsbr", 5000, ranks=ranks, hidden_dim=64, num_heads=4, chunk_size=7)
            blocks, block = model.state_blocks(setup)
            kept = mixed = returned = sent = 0  # in blocks of chunks
            for rank in range(ranks):
                count, sharers, place = model.dealing(blocks, ranks, rank)
                first, last, own = (int(model.dealt(chunks, sharers, place, model.mixing_tile(setup)))
                                    for chunks in (setup.chunks_before(rank), setup.chunks_before(rank + 1), setup.chunks))
                mixed, kept = mixed + count * own, kept + count * (last - first)
                there, back = (int(numbers.sum()) // block for numbers in model.state_numbers(setup, rank, np.delete(np.arange(ranks), rank)))
                sent, returned = sent + there, returned + back
            self.assertEqual((mixed, returned), (blocks * setup.chunks, blocks * setup.chunks - kept))
            self.assertEqual(sent, blocks * setup.chunks - kept if ranks <= blocks else (ranks - 1) * setup.chunks)

    def test_mixing_is_shared_by_more_ranks_than_there_are_blocks(self):
        setup = Setup("bsbr", 1 << 20, hidden_dim=64, num_heads=4, ranks=4)
        for sharers in (2, 3, 16):
            shared = dataclasses.replace(setup, ranks=4 * sharers)
            self.assertAlmostEqual(sharers * model.amounts(shared, 0)["mixing"]["flop"], model.amounts(setup, 0)["mixing"]["flop"])

    def test_the_best_chunk_size_grows_with_the_length(self):
        sizes = [2**n for n in range(4, 15)]
        best = [model.best_chunk_size(self.machine, dataclasses.replace(next(self.setups()), length=length), sizes)[0]
                for length in (4096, 1 << 18, 1 << 24)]
        self.assertEqual(best, sorted(best))
        self.assertLess(best[0], best[-1])
        self.assertEqual(model.rule_of_thumb(Setup("bsbr", 1 << 24, hidden_dim=512, num_heads=8)), 1024)


    def test_sizes_are_those_of_the_kernels(self):
        root, sizes = os.path.join(SCALING, "..", ".."), {}
        for path in ("src/kernels/sizes.hpp", "src/parallel/message_buffer.hpp"):
            with open(os.path.join(root, path), encoding="utf-8") as file:
                of_a_host = file.read().split("struct GpuSizes")[0]
                for name, value in re.findall(r"(?:constexpr \S+|,) (\w+) = (\d+(?: << \d+)?)", of_a_host):
                    sizes[name] = eval(value)
        self.assertEqual((sizes["query_tile"], sizes["key_tile"], sizes["state_tile"]), 3 * (model.TILE, ))
        for name, value in dict(state_block=model.STATE_BLOCK, scan_columns=model.SCAN_COLUMNS, scan_segment=model.SCAN_SEGMENT,
                                idle_percent=model.IDLE_PERCENT, teams_per_thread=model.TEAMS_PER_THREAD,
                                mixing_rounds=model.MIXING_ROUNDS, most_elements=model.MESSAGE_NUMBERS, gradient_leaves=step.LEAVES,
                                gradient_leaf_tokens=step.LEAF_TOKENS).items():
            self.assertEqual(sizes[name], value, name)


class FakeRunner:
    """Summaries that a machine would give on which the model is exact."""

    def __init__(self, machine):
        self.machine = machine

    def run(self, case):
        found = model.predict(self.machine, case.setup)
        by_phase = {"exchange": 0, **found["seconds_by_phase"]}
        summary = dict(dataclasses.asdict(case.setup), bytes_sent=found["bytes_sent"], seconds=found["seconds"], seconds_by_repeat=[found["seconds"]], seconds_by_phase=by_phase,
                       by_rank=[dict(seconds_by_phase=by_phase)], gemm="", version="", git_commit="")
        return study.line("run", **case.fields(), summary=summary)


class Calibration(unittest.TestCase):
    def test_rates_are_found_again(self):
        truth = model.Machine.of(MACHINE)
        *runs, entry = calibration.calibrate(FakeRunner(truth), 2, "float", 1, 1)
        for line in [*runs, entry]:
            self.assertEqual(complaints(line, SCHEMA, SCHEMA), [])
        self.assertAlmostEqual(entry["crowding"], truth.crowding, delta=0.02)
        self.assertAlmostEqual(entry["latency"] / truth.latency, 1, delta=0.2)
        found = model.Machine.of(entry)
        for name in ARCHITECTURES:
            for length, chunk_size in ((3000, 64), (20000, 128), (9000, 200)):
                setup = Setup(name, length, hidden_dim=256, num_heads=heads_of(name, 4), num_layers=2, ff_dim=1024, chunk_size=chunk_size)
                ratio = model.predict(found, setup)["seconds"] / model.predict(truth, setup)["seconds"]
                self.assertAlmostEqual(ratio, 1, delta=1e-6, msg=str(setup))

    def test_no_unit_takes_less_than_no_time(self):
        found = calibration.fit_phase([({"flop": 1.0, "number": 1.0}, 1.0), ({"flop": 2.0, "number": 1.0}, 0.9)])
        self.assertTrue(found and all(value >= 0 for value in found.values()))


if __name__ == "__main__":
    unittest.main(verbosity=2)
