"""One job that runs: which step comes when, and what is written about each."""

import threading
import uuid
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait

from sim.azureml import runs
from sim.azureml.blob_store import Place
from sim.azureml.graph import Graph
from sim.azureml.job_step import JobStep, Location, Result, Target
from sim.azureml.launcher import Launcher
from sim.azureml.places import default_datastore, place_of
from sim.azureml.state import Body, WorkspaceState
from sim.azureml.step_run import StepRun

SKIPPED = "Skipped"
"""A step that could never run, since what it needs was not made. It has no record."""


class JobRun(threading.Thread):
    """A job that runs."""

    def __init__(
        self, state: WorkspaceState, launcher: Launcher, pool: Executor, name: str, graph: Graph, experiment: str
    ) -> None:
        super().__init__(name=f"job {name}", daemon=True)
        self.state, self.launcher, self.pool = state, launcher, pool
        self.job, self.graph, self.experiment = name, graph, experiment
        self.stop = threading.Event()
        self.ended: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.places: dict[tuple[str, str], Place] = {}
        self._asked = ""
        self._left = Counter(prefix for step in graph.steps for prefix in above(step.path))

    def cancel(self, status: str) -> None:
        """Ask it to stop, and to end in this status."""
        if not self._asked:
            self._asked = status
            runs.move(self.state, self.job, runs.CANCEL_REQUESTED)
        self.stop.set()

    def run(self) -> None:
        try:
            runs.move(self.state, self.job, runs.RUNNING)
            self._say("[pipeline] started")
            self._run_steps()
            self._finalize()
        except Exception as error:
            runs.fail(self.state, self.job, f"the local workspace failed: {error!r}", code="InternalError")
            raise

    def _run_steps(self) -> None:
        waiting = list(self.graph.steps)
        running: dict[Future[str], JobStep] = {}
        while waiting or running:
            if self.stop.is_set():
                self._give_up(waiting)
            for step in [step for step in waiting if self._decided(step)]:
                waiting.remove(step)
                if self._possible(step):
                    running[self.pool.submit(self._begin(step).execute)] = step
                else:
                    self._end(step, SKIPPED)
            if running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    self._end(running.pop(future), future.result())

    def _decided(self, step: JobStep) -> bool:
        """Whether everything that it waits for has ended."""
        return step.after <= self.ended.keys()

    def _possible(self, step: JobStep) -> bool:
        """Whether all that it needs was made: only an optional input may come from a step that failed."""
        return all(
            name in step.optional or self.ended[source.step] == runs.COMPLETED
            for name, source in step.inputs.items()
            if isinstance(source, Result)
        )

    def _give_up(self, waiting: list[JobStep]) -> None:
        for step in waiting:
            self._end(step, runs.CANCELED)
        waiting.clear()

    def _begin(self, step: JobStep) -> StepRun:
        """Make the step's record, and say where its inputs and outputs lie."""
        run = self._record(step)
        inputs = {name: place for name, source in step.inputs.items() if (place := self._input(source)) is not None}
        outputs = {name: self._output(run, name, target) for name, target in step.outputs.items()}
        self.places.update({(step.path, name): place for name, place in outputs.items()})
        described = runs.outputs(self.state, run, {name: t.kind for name, t in step.outputs.items()}, outputs)
        runs.move(self.state, run, runs.QUEUED, **described)
        self._say(f"[{step.path or self.job}] submitted as {run}")
        return StepRun(
            state=self.state,
            launcher=self.launcher,
            step=step,
            run=run,
            job=self.job,
            experiment=self.experiment,
            inputs=inputs,
            outputs=outputs,
            stop=self.stop,
        )

    def _record(self, step: JobStep) -> str:
        """A record for the step, below those of the pipelines that it stands in; a lone command is the job itself."""
        if not step.path:
            return self.job
        parent = self.job
        for prefix in above(step.path):
            parent = self._pipeline_record(prefix, parent)
        run = str(uuid.uuid4())
        self.ids[step.path] = run
        properties = {"azureml.isolation": self.launcher.isolation, "azureml.nodename": step.path}
        runs.begin(
            self.state, run, root=self.job, parent=parent, node=step.path, properties=properties, kind="command",
            compute={"target": step.compute}, experimentId=self.experiment,
        )  # fmt: skip
        return run

    def _pipeline_record(self, prefix: str, parent: str) -> str:
        if prefix not in self.ids:
            self.ids[prefix] = str(uuid.uuid4())
            runs.begin(
                self.state, self.ids[prefix], root=self.job, parent=parent, node=prefix, kind="pipeline",
                experimentId=self.experiment,
            )  # fmt: skip
            runs.move(self.state, self.ids[prefix], runs.RUNNING)
        return self.ids[prefix]

    def _input(self, source: object) -> Place | None:
        if isinstance(source, Location):
            return place_of(self.state, source.uri)
        if isinstance(source, Result) and self.ended.get(source.step) == runs.COMPLETED:
            return self.places[source.step, source.output]
        return None

    def _output(self, run: str, name: str, target: Target) -> Place:
        """Where an output goes.

        `${{name}}` is the step's own name, or the job's where an outer level chose the path; whether the service
        does the latter is not known.
        """
        datastore = self.graph.datastore or default_datastore(self.state)
        uri = target.uri or f"azureml://datastores/{datastore}/paths/azureml/${{{{name}}}}/${{{{output_name}}}}"
        owner = self.job if target.lifted and target.uri else run
        return place_of(self.state, uri.replace("${{name}}", owner).replace("${{output_name}}", name))

    def _end(self, step: JobStep, status: str) -> None:
        """Note how a step ended, and end the pipelines that this was the last step of."""
        self.ended[step.path] = status
        self._say(f"[{step.path or self.job}] {status}")
        if status == runs.FAILED and not self.graph.continues:
            self.stop.set()
        for prefix in reversed(above(step.path)):
            self._left[prefix] -= 1
            if self._left[prefix] == 0 and prefix in self.ids:
                inside = [status for path, status in self.ended.items() if path.startswith(f"{prefix}/")]
                runs.move(self.state, self.ids[prefix], worst(inside))

    def _finalize(self) -> None:
        """The job's end: canceled, failed if any step failed, or completed. A lone command has ended by itself."""
        if self._asked == runs.FAILED:
            runs.fail(self.state, self.job, "the workspace was stopped while this ran", code="WorkspaceStopped")
        elif self._asked:
            runs.move(self.state, self.job, runs.CANCELED)
        if runs.status_of(self.state, self.job) in runs.ENDED:
            return
        self.state.documents.update("runs", self.job, **self._own_outputs())
        runs.linger(self.state, self.job)
        failed = [path for path, status in self.ended.items() if status == runs.FAILED]
        if failed:
            runs.fail(self.state, self.job, self._blame(failed))
        else:
            runs.move(self.state, self.job, runs.COMPLETED)

    def _blame(self, failed: list[str]) -> str:
        first = self.state.documents.get("runs", self.ids[failed[0]]) or {}
        reason = ((first.get("error") or {}).get("error") or {}).get("message", "")
        more = f" ({len(failed)} steps failed)" if len(failed) > 1 else ""
        return f"Pipeline step {failed[0]} failed{more}: {reason}"

    def _own_outputs(self) -> Body:
        """The job's own outputs, as far as they were made."""
        targets = {step.path: step.outputs for step in self.graph.steps}
        made = {
            name: result for name, result in self.graph.outputs.items() if self.ended.get(result.step) == runs.COMPLETED
        }
        return runs.outputs(
            self.state,
            self.job,
            {name: targets[result.step][result.output].kind for name, result in made.items()},
            {name: self.places[result.step, result.output] for name, result in made.items()},
        )

    def _say(self, line: str) -> None:
        """A line in the job's own log."""
        log = self.state.job_folder(self.job) / self.job / runs.PIPELINE_LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{runs.now()} {line}\n")


def above(path: str) -> list[str]:
    """The pipelines that a step stands in, from outside in."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def worst(statuses: list[str]) -> str:
    """How a pipeline ended whose steps ended so."""
    return next((status for status in (runs.FAILED, runs.CANCELED) if status in statuses), runs.COMPLETED)
