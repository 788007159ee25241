"""Runs jobs: every step that can run does, several at once, each job on a thread of its own."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

from sim.azureml import runs
from sim.azureml.graph import Graph
from sim.azureml.job_run import JobRun
from sim.azureml.launcher import Launcher
from sim.azureml.state import WorkspaceState


class Executor:
    """The jobs of a workspace; safe for threads.

    at_once  steps that run at the same time, of all jobs together; default: the machine's cores, at least 4

    What a stopped workspace left unfinished is marked as failed: outputs of finished steps are kept, and a run is
    resumed by submitting the rest of it.
    """

    def __init__(self, state: WorkspaceState, launcher: Launcher | None = None, at_once: int | None = None) -> None:
        self.state = state
        self.launcher = launcher or Launcher()
        self.pool = ThreadPoolExecutor(at_once or max(4, os.cpu_count() or 1), thread_name_prefix="step")
        self._lock = threading.Lock()
        self._jobs: dict[str, JobRun] = {}
        runs.end_what_was_running(state)
        state.documents.put("workspace", "isolation", body={"isolation": self.launcher.isolation})
        state.at_close.append(self.close)

    def submit(self, name: str, graph: Graph, experiment: str) -> None:
        """Start a job that has passed every check; its record exists from now on."""
        job = JobRun(self.state, self.launcher, self.pool, name, graph, experiment)
        with self._lock:
            self._jobs[name] = job
        self.launcher.warm_up()
        job.start()

    def cancel(self, name: str) -> None:
        """Ask a job to stop; nothing happens if it has ended."""
        with self._lock:
            job = self._jobs.get(name)
        if job is not None:
            job.cancel(runs.CANCELED)

    def wait(self, name: str, timeout: float | None = None) -> str:
        """A job's status when it has ended, or after some seconds."""
        with self._lock:
            job = self._jobs.get(name)
        if job is not None:
            job.join(timeout)
        return runs.status_of(self.state, name)

    def close(self) -> None:
        """Stop everything; what had not ended is marked as failed."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            job.cancel(runs.FAILED)
        for job in jobs:
            job.join()
        self.pool.shutdown()
        self.launcher.close()
