"""Jobs that a test watches, sends signals to and ends: a launcher and its ranks, or a process alone."""
import os
import signal
import subprocess
import tempfile
import time

from programs import mpi_session

START = 30  # seconds that a job may take until it meets its fault
LAUNCHER = "launcher"  # to whom a signal goes


def processes_with(*settings):
    """All processes that have these settings in their environment: a job is known by one of its own, which its processes inherit."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                environment = file.read().decode(errors="replace").split("\0")
        except OSError:  # gone, or another user's
            continue
        if set(settings) <= set(environment):
            found.append(int(name))
    return found


class Job:
    """A launcher and its ranks."""

    def __init__(self, command, folder):
        self.folder, self.tag, self.start = folder, "BSBR_TEST_JOB=" + folder, time.time()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **dict([self.tag.split("=", 1)])}
        # What MPI leaves behind when it is killed goes with the test's folder.
        environment.update(mpi_session(tempfile.mkdtemp(prefix="", dir=os.path.dirname(folder))))
        # Files, not pipes: a process that stays would hold a pipe open.
        with open(self.path("out"), "wb") as out, open(self.path("err"), "wb") as err:
            self.launcher = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=folder,
                                             start_new_session=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def read(self, name):
        try:
            with open(self.path(name), errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def has_ended(self):
        return self.launcher.poll() is not None and not processes_with(self.tag)

    @staticmethod
    def wait(happened, until, pause=0.02):
        """-> whether it has happened by then."""
        while not happened():
            if time.time() > until:
                return False
            time.sleep(pause)
        return True

    def wait_for_marks(self, number):
        """-> when the last of so many ranks met its fault (faults.c); None if that has not happened."""
        def marks():
            return [line.split() for line in self.read("mark").splitlines() if len(line.split()) == 3]

        self.wait(lambda: len(marks()) >= number or self.launcher.poll() is not None, self.start + START)
        return float(marks()[-1][0]) if len(marks()) >= number else None

    def send(self, number, to):
        """A signal, to the launcher or to a rank."""
        names = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
        ranks = [process for name in names for process in processes_with(self.tag, f"{name}={to}")]
        os.kill(self.launcher.pid if to == LAUNCHER else ranks[0], number)
        return time.time()

    def clear(self):
        """Whatever still runs must not disturb other jobs. -> what it was."""
        left = processes_with(self.tag)
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.launcher.poll() is None:
            self.launcher.kill()
        self.launcher.wait()
        return left
