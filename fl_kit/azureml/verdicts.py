"""What AzureML itself says of steps that failed and could not say so: they never began, were killed, or lost."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fl_kit.azureml.phases import Phase
from fl_kit.azureml.workspace import Workspace
from fl_kit.door import failed
from fl_kit.errors import DeadlineExceeded, FlKitError, StepFailed
from fl_kit.events import Event, now
from fl_kit.plan import Step

NO_WORD = "AzureML ended it, and says no more: look at the step in the studio"
EXITED, KILLED = re.compile(r"status code (-?\d+)"), re.compile(r"ended by signal (\d+)")
SEE_LOG = re.compile(r"\s*Please check log file.*", re.DOTALL)
"""How AzureML says that a command ended by itself, and what it adds to that, which a notebook need not repeat."""
SIGNALS = 128
"""Exit codes above it are those of a process that was killed."""
LINES = 20
TIMEOUT = "JobTimeout"
"""What the service calls a step that it ended at its time limit."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Why a step failed, as run history has it.

    kind     the service's innermost code: "ComputeNotReachable". Of what may happen to a step anywhere it is the name
             that every backend has: "StepFailed" where a signal ended its process, "DeadlineExceeded" out of time
    message  the service's own words, and the last line of the log where it points to that; before them, those that
             every backend has
    detail   the end of the log; empty if there is none
    time     when the step ended, in seconds since the epoch
    lost     whether the step had no part in it: it never began, or its process or machine was taken from it
    """

    step: Step
    kind: str
    message: str
    detail: str
    time: float
    lost: bool

    def event(self, time: float | None = None) -> Event:
        """The failure as an event, like those that steps tell themselves."""
        step = self.step
        failure = StepFailed(
            self.message, op=step.op, silo=step.party, round=step.round, kind=self.kind, detail=self.detail
        )
        return failed(failure, self.time if time is None else time)


def verdicts(workspace: Workspace, job: str, phases: Sequence[Phase]) -> list[Verdict]:
    """A verdict on every step of some phases of a pipeline job that failed, in the plan's order."""
    wanted = {phase.name: phase for phase in phases}
    groups = [group for group in workspace.children(job) if group.display_name in wanted]
    found: dict[str, Verdict] = {}
    for group in groups:
        phase = wanted[group.display_name]
        steps = {phase.nodes[step.id]: step for step in phase.steps}
        for child in workspace.children(group.name):
            if child.status == "Failed" and child.display_name in steps:
                step = steps[child.display_name]
                found[step.id] = verdict(workspace, child.name, step)
    return [found[step.id] for phase in phases for step in phase.steps if step.id in found]


def verdict(workspace: Workspace, run: str, step: Step) -> Verdict:
    """What run history says of one step that failed."""
    details = workspace.details(run)
    root = getattr(details.error, "error", None)
    said = str(getattr(root, "message", None) or NO_WORD).strip()
    log = last_lines(workspace, run, details)
    points_to_log = SEE_LOG.search(said) is not None
    message = SEE_LOG.sub("", said)
    if points_to_log and log:
        message = f"{message} Its log ends with: {log[-1]}"
    kind, everywhere = in_every_backend(code_of(root), said)
    return Verdict(
        step=step,
        kind=kind,
        message=f"{everywhere}{message}",
        detail="\n".join(log),
        time=details.end_time_utc.timestamp() if details.end_time_utc else now(),
        lost=not ended_by_itself(said),
    )


def last_lines(workspace: Workspace, run: str, details: Any) -> list[str]:
    """The end of a step's log; one that cannot be read is no reason to say nothing."""
    try:
        return workspace.log_of(run, details).strip().splitlines()[-LINES:]
    except FlKitError as error:
        return [str(error)]


def code_of(error: Any) -> str:
    """The innermost code of an error of the service; the outer ones say only whose fault it is."""
    codes = [str(each.code) for each in chain(error) if getattr(each, "code", None)]
    return codes[-1] if codes else StepFailed.__name__


def in_every_backend(code: str, said: str) -> tuple[str, str]:
    """The kind of a failure as simulations call it too, and the words that they have for it, if they know it."""
    if code == TIMEOUT:
        return DeadlineExceeded.__name__, "it did not end within its time limit: "
    if number := signal_of(said):
        return StepFailed.__name__, f"its process was ended by signal {number}: "
    return code, ""


def signal_of(said: str) -> int:
    """The signal that ended a step's process, by its name or its exit code; 0 for none."""
    if named := KILLED.search(said):
        return int(named[1])
    match = EXITED.search(said)
    code = int(match[1]) if match else 0
    return code - SIGNALS if code > SIGNALS else -min(code, 0)


def chain(error: Any) -> Iterator[Any]:
    while error is not None:
        yield error
        error = getattr(error, "inner_error", None)


def ended_by_itself(said: str) -> bool:
    """Whether the step's own process gave an exit code that no signal gives."""
    match = EXITED.search(said)
    return match is not None and 0 <= int(match[1]) <= SIGNALS
