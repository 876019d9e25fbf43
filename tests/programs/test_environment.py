"""The environment that the programs are started in: variables that are wrong, processors that are shared, batch systems; and what the
programs say of it and of themselves.
"""
import json
import os
import unittest

import h5py

from programs import Case, config, init_options, names, run

ROOM = 512  # threads that Kokkos' OpenMP backend supports
PROCESSORS = sorted(os.sched_getaffinity(0))
FAKED = os.environ.get("BSBR_PROCESSORS", "build/release/tests/programs/libbsbr_processors.so")

# (variables, what the error line must hold besides them)
WRONG = [
    *(({"OMP_NUM_THREADS": value}, "whole number") for value in ("", "0", "-1", "abc", "2x", "2.5", "4,", "4,x", "4,0", ",", "1e3", " ")),
    *(({"OMP_NUM_THREADS": value}, "at most 512 threads") for value in ("513", "600", "99999", "9" * 30, "600,2")),
    *(({"KOKKOS_NUM_THREADS": value}, "whole number") for value in ("", "0", "-1", "abc", "2x", "4,2", "0x2")),
    *(({"KOKKOS_NUM_THREADS": value}, "at most 512 threads") for value in ("513", "99999", "4294967298", "9" * 30)),
    *(({name: value}, "whole number") for name in ("KOKKOS_NUMA", "KOKKOS_NUM_DEVICES", "KOKKOS_RAND_DEVICES") for value in ("", "0", "abc")),
    *(({name: value}, "whole number") for name in ("KOKKOS_DEVICE_ID", "KOKKOS_SKIP_DEVICE") for value in ("", "-1", "abc")),
    *(({name: value}, "must be") for name in ("KOKKOS_DISABLE_WARNINGS", "KOKKOS_TUNE_INTERNALS", "KOKKOS_PRINT_CONFIGURATION")
      for value in ("", "maybe", "2")),
    *(({name: "/nowhere/tool.so"}, "cannot be loaded") for name in ("KOKKOS_PROFILE_LIBRARY", "KOKKOS_TOOLS_LIBS")),
    *(({name: value}, "on nor off") for name in ("BSBR_GPU_AWARE_MPI", "BSBR_TF32") for value in ("", "maybe", "1", "ON")),
    ({"KOKKOS_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "2"}, "OMP_THREAD_LIMIT allows 2"),
    ({"KOKKOS_NUM_DEVICES": "1", "KOKKOS_RAND_DEVICES": "1"}, "both"),
]
RIGHT = [{"OMP_NUM_THREADS": "3"}, {"OMP_NUM_THREADS": "2,1"}, {"OMP_NUM_THREADS": " 2 , 1 "}, {"OMP_NUM_THREADS": "+2"},
         {"OMP_NUM_THREADS": None}, {"KOKKOS_NUM_THREADS": "3"}, {"KOKKOS_NUM_THREADS": " 2"}, {"KOKKOS_DISABLE_WARNINGS": "Yes"},
         {"KOKKOS_DEVICE_ID": "0"}, {"KOKKOS_NUMA": "1"}, {"KOKKOS_PROFILE_LIBRARY": ""}, {"BSBR_GPU_AWARE_MPI": "off"},
         {"BSBR_TF32": "on"}, {"BSBR_TF32": "off"},
         {"OMP_NUM_THREADS": "4", "OMP_THREAD_LIMIT": "2"}, {"OMP_NUM_THREADS": None, "OMP_THREAD_LIMIT": "1"},
         {"KOKKOS_NUM_THREADS": "64", "OMP_DYNAMIC": "true"}]


def only_on(processors):
    return lambda: os.sched_setaffinity(0, processors)


class Variables(Case):
    def setUp(self):
        super().setUp()
        self.good = self.model()

    def refused(self, program, arguments, variables, says, ranks=1):
        done = run(program, *arguments, environment=variables, ranks=ranks)
        done.err = "\n".join(line for line in done.err.splitlines() if "libgomp" not in line)  # which speaks before the program begins
        self.check_failure(done, program, 2, [says, *variables, f"'{list(variables.values())[0]}'" if "both" != says else ""], ranks)

    def test_a_wrong_one_is_refused_by_name_and_value(self):
        for variables, says in WRONG:
            with self.subTest(variables=variables):
                self.refused("bsbr_forward", ["--model", self.good, "--random-tokens", 9], variables, says)

    def test_by_every_program_and_on_several_ranks(self):
        for program, arguments in (("bsbr_init", ["--output", self.path("m.h5"), *init_options(config())]),
                                   ("bsbr_compare", ["--seq-lengths", 64])):
            self.refused(program, arguments, {"OMP_NUM_THREADS": "600"}, "at most 512 threads")
        self.assertFalse(os.path.exists(self.path("m.h5")))
        self.refused("bsbr_forward", ["--model", self.good, "--random-tokens", 9], {"KOKKOS_NUM_THREADS": "0"}, "whole number", ranks=2)

    def test_a_right_one_is_taken(self):
        for variables in RIGHT:
            with self.subTest(variables=variables):
                self.forward("--model", self.good, "--random-tokens", 100, "--quiet", environment=variables)

    def test_as_many_threads_as_there_is_room_for(self):
        done = run("bsbr_init", "--output", self.path("m.h5"), *init_options(config()),
                   environment={"OMP_NUM_THREADS": str(ROOM), "OMP_WAIT_POLICY": "passive"})
        self.assertEqual((done.code, done.err), (0, ""))

    @unittest.skipIf(os.environ.get("BSBR_SANITIZED") == "1", "sanitizers must be loaded first")
    def test_more_processors_than_there_is_room_for_are_not_all_used(self):
        faked = {"OMP_NUM_THREADS": None, "OMP_WAIT_POLICY": "passive", "LD_PRELOAD": FAKED, "BSBR_TEST_PROCESSORS": "600"}
        found = json.loads(self.forward("--model", self.good, "--random-tokens", 9, "--json", "-", environment=faked).out)
        self.assertEqual(found["threads_per_rank"], ROOM)
        self.assertIn("512 threads on 600 processors", "\n".join(found["notes"]))
        done = self.forward("--model", self.good, "--random-tokens", 9, environment=faked)
        self.assertRegex(done.out, r"(?m)^  note +512 threads on 600 processors")


class Placement(Case):
    def setUp(self):
        super().setUp()
        self.good = self.model()

    def notes(self, **how):
        """What text and JSON say; they say the same."""
        arguments = ["--model", self.good, "--random-tokens", 100]
        found = json.loads(self.forward(*arguments, "--json", "-", **how).out)["notes"]
        out = self.forward(*arguments, **how).out
        self.assertEqual([line.split(None, 1)[1] for line in out.splitlines() if line.startswith("  note ")], found)
        self.assertEqual(self.forward(*arguments, "--quiet", **how).out, "")
        return found

    def test_nothing_is_said_where_all_is_well(self):
        self.assertEqual(self.notes(environment={"OMP_NUM_THREADS": "1"}), [])
        self.assertEqual(self.notes(environment={"OMP_NUM_THREADS": None}), [])
        if len(PROCESSORS) >= 2:
            self.assertEqual(self.notes(ranks=2), [])
            self.assertEqual(self.notes(environment={"OMP_NUM_THREADS": "2", "OMP_PROC_BIND": "true"}), [])

    def test_threads_on_too_few_processors_are_told(self):
        notes = self.notes(environment={"OMP_NUM_THREADS": "4"}, before=only_on(PROCESSORS[:1]))
        self.assertEqual(len(notes), 1)
        self.assertRegex(notes[0], r"^4 threads on 1 processor; ")

    @unittest.skipIf(len(PROCESSORS) > 4, "needs more ranks than processors")
    def test_ranks_that_share_processors_are_told(self):
        ranks = 2 * len(PROCESSORS)
        self.assertRegex("\n".join(self.notes(ranks=ranks)), rf"^{ranks} ranks of a node share {len(PROCESSORS)} processors?; use fewer ranks")

    @unittest.skipIf(len(PROCESSORS) < 2, "needs two processors")
    def test_a_single_rank_that_its_launcher_has_bound_to_one_processor_is_told(self):
        launched = {"OMPI_COMM_WORLD_SIZE": "1"}  # as far as the programs look; MPI itself starts alone
        environment = {"OMP_NUM_THREADS": None, **launched}
        notes = self.notes(environment=environment, before=only_on(PROCESSORS[:1]))
        self.assertRegex("\n".join(notes), r"^1 thread on a node of \d+ processors; --bind-to none")
        self.assertEqual(self.notes(environment={"OMP_NUM_THREADS": "1", **launched}, before=only_on(PROCESSORS[:1])), [])

    def test_the_comparison_tells_them_too(self):
        how = dict(environment={"OMP_NUM_THREADS": "4"}, before=only_on(PROCESSORS[:1]))
        arguments = ["--architectures", "linear", "--seq-lengths", 64, "--hidden-dim", 32, "--num-heads", 4, "--num-layers", 1]
        self.assertIn("4 threads on 1 processor", run("bsbr_compare", *arguments, **how).out)
        self.assertIn("4 threads on 1 processor", json.loads(run("bsbr_compare", *arguments, "--json", "-", **how).out)["notes"][0])


class BatchSystems(Case):
    STEP = {"SLURM_JOB_ID": "4711", "SLURM_JOBID": "4711", "SLURM_NODELIST": "localhost", "SLURM_JOB_NODELIST": "localhost", "SLURM_STEP_ID": "0",
            "SLURM_STEPID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_TASKS_PER_NODE": "1"}

    def test_a_program_starts_within_a_step_of_one_task_without_pmi(self):
        without_old_names = {name: value for name, value in self.STEP.items() if name not in ("SLURM_JOBID", "SLURM_STEPID")}
        for step in (self.STEP, {**self.STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": "localhost"}, without_old_names):
            done = run("bsbr_init", "--output", self.path("m.h5"), *init_options(config()), environment=step)
            self.assertEqual((done.code, done.err), (0, ""))
            found = json.loads(self.forward("--model", self.path("m.h5"), "--random-tokens", 9, "--json", "-", environment=step).out)
            self.assertEqual((found["ranks"], found["job_id"]), (1, "4711"))

    def test_a_program_starts_within_a_job_of_flux_of_one_task_without_pmi(self):
        for job in ({"FLUX_JOB_ID": "f3x"}, {"FLUX_JOB_ID": "f3x", "FLUX_JOB_SIZE": "1", "FLUX_TASK_RANK": "0", "FLUX_URI": "local:///none"}):
            done = run("bsbr_init", "--output", self.path("m.h5"), *init_options(config()), environment=job)
            self.assertEqual((done.code, done.err), (0, ""))
            found = json.loads(self.forward("--model", self.path("m.h5"), "--random-tokens", 9, "--json", "-", environment=job).out)
            self.assertEqual((found["ranks"], found["job_id"]), (1, "f3x"))


class AboutItself(Case):
    """Versions and builds, and where a run was made."""

    def test_a_version_has_the_program_s_name_and_is_one_line(self):
        for program in names():
            done = run(program, "--version")
            self.assertRegex(done.out, r"^%s \d+\.\d+\.\d+(\+g[0-9a-f]+)? \(.*Kokkos \d.*HDF5 \d.*\)\n$" % program)
            self.assertEqual((done.code, done.err, done.out.count("\n")), (0, "", 1))

    def test_build_info_needs_neither_mpi_nor_kokkos(self):
        for ranks in (1, 2):
            done = run("bsbr_forward", "--build-info", ranks=ranks, environment={"OMP_NUM_THREADS": "2", "KOKKOS_NUM_THREADS": "abc"})
            self.assertEqual((done.code, done.err, done.out.count("bsbr_forward ")), (0, "", 1))
            for field in ("commit", "compiler", "build type", "flags", "Kokkos", "execution", "MPI", "HDF5", "products"):
                self.assertRegex(done.out, r"(?m)^  %s +\S" % field)

    def test_summary_and_result_say_where_and_when(self):
        model = self.model()
        for ranks in (1, 3):
            found = json.loads(self.forward("--model", model, "--random-tokens", 100, "--seed", 5, "--json", "-", ranks=ranks,
                                            environment={"PBS_JOBID": "12.pbs"}).out)
            self.assertRegex(found["created"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual((found["hosts"], found["seed"], found["job_id"]), ([os.uname().nodename], 5, "12.pbs"))
            self.assertIn(found["binding"], ("none", "separate", "overlapping"))
            self.assertEqual([rank["host"] for rank in found["by_rank"]], [os.uname().nodename] * ranks)
            self.assertTrue(all(rank["cpus"] for rank in found["by_rank"]))
            self.assertLessEqual({"mpi_version", "hdf5_version", "processor"}, set(found))
        self.assertNotIn("seed", json.loads(self.forward("--model", model, "--input", self.text(), "--json", "-").out))
        self.forward("--model", model, "--random-tokens", 9, "--output", self.path("r.h5"), ranks=3)
        with h5py.File(self.path("r.h5")) as file:
            self.assertEqual(file.attrs["hosts"], os.uname().nodename)
            self.assertLessEqual({"mpi_version", "hdf5_version", "processor", "binding", "seed", "created"}, set(file.attrs))

    def test_the_text_names_the_host(self):
        done = self.forward("--model", self.model(), "--random-tokens", 9)
        self.assertRegex(done.out, r"(?m)^  host +%s" % os.uname().nodename)


if __name__ == "__main__":
    unittest.main()
