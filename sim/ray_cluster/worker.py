"""What runs on a node of the cluster: one step, with what this process has kept from the steps before it."""

import json
import platform
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from fl_kit.approvals import Approval
from fl_kit.bundle import bytes_digest, manifest_of
from fl_kit.errors import DeadlineExceeded, FlKitError, IncompatibleError, StepFailed, Stopped
from fl_kit.events import Event
from fl_kit.execute import Inputs, Outputs, run_step
from fl_kit.given_weights import INIT_FILE
from fl_kit.job import Job
from fl_kit.messages import Memory, State
from fl_kit.own_source import own_source
from fl_kit.plan import Plan, Step, from_dict
from fl_kit.policy import Offer, admit, policy_files
from fl_kit.protocols import Emit
from fl_kit.silo import Silo, folder_fault
from fl_kit.workbench import Workbench
from sim.engines.engine import Runner
from sim.faults.striking import in_this_process
from sim.ray_cluster.connection import is_there
from sim.ray_cluster.sealed import from_message, sealed, to_message, unsealed

KEPT = 2
"""Runs of which a process keeps model and rows: two that are computed by turns do not read theirs anew each time."""
LOOK = 0.5
"""Seconds between two looks at whether the run was stopped."""


class KeptRun:
    """What a process keeps of one run: its job, and the bench with its model and rows.

    bundle  as `OnRay` seals it: job, plan and the task's source, and of what fl-kit they are
    """

    def __init__(self, bundle: bytes) -> None:
        about, texts = unsealed(bundle)
        if about["source"] != source_digest():
            raise IncompatibleError(other_source(platform.node()))
        self._job, plan, self._task = (text.decode() for text in texts)
        self.settings = json.loads(self._job)
        self.plan = Plan.from_json(plan)
        self.digest: str = about["digest"]
        self.approvals = [Approval(**approval) for approval in about["approvals"]]
        self._label: str = about["label"]
        self._state: State | None = None
        self._sealed_state = ""

    @cached_property
    def job(self) -> Job:
        """The job, with the task made from its source; the first that imports it."""
        return Job.from_json(self._job, self._task, Path(INIT_FILE))  # which only the orchestrator reads

    @cached_property
    def bench(self) -> Workbench:
        """The model and the rows of silos that were here before."""
        return Workbench(self.job.task, seed=self.job.seed, device=self.job.device, bundle=self._label)

    def state(self, name: str, data: bytes) -> State | None:
        """The state of that name, which several silos' steps of a round begin with; no name is no state."""
        if not name:
            return None
        if name != self._sealed_state:
            self._state, self._sealed_state = to_message(State, data), name
        return self._state


_kept: "OrderedDict[str, KeptRun]" = OrderedDict()


def kept_run(key: str, bundle: Callable[[], bytes]) -> KeptRun:
    """What is kept of a run; its bundle is asked for once."""
    if key not in _kept:
        _kept[key] = KeptRun(bundle())
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    _kept.move_to_end(key)
    return _kept[key]


def run(request: bytes, state: bytes, places: list[Any]) -> bytes:
    """Run one silo's step; gives its outputs and events, or what made it fail.

    places  the reference of the bundle, in a list, so that Ray fetches it only where it is not here yet
    """
    import ray

    about, parts = unsealed(request)
    step = from_dict(about["step"])
    told: list[Event] = []
    torch.set_num_threads(about["threads"])
    try:
        with blaming(step), ended_after(about["limit"]), until_asked(about["stop"]) as check:
            check()
            kept = kept_run(about["key"], lambda: bytes(ray.get(places[0])))
            ask_policy(kept, step, about["data"])
            memory = to_message(Memory, parts[0]) if parts else None
            inputs = {"data": about["data"], "state": kept.state(about["state"], state), "memory": memory}
            runner: Runner = partial(on_bench, kept)
            if about["struck"]:
                runner = in_this_process(runner, kept.bench, kept.job)(about["struck"])
            outputs = runner(step, inputs, told.append, check)
    except StepFailed as failure:
        found = {name: getattr(failure, name) for name in ("message", "kind", "detail")}
        return sealed({"events": lines(told), "failure": found})
    except Stopped:  # nobody waits for it any more
        _kept.clear()
        return b""
    return answer(outputs, told)


def on_bench(kept: KeptRun, step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
    return run_step(kept.job, step, inputs, kept.bench, emit=emit, check=check)


def answer(outputs: Outputs, told: list[Event]) -> bytes:
    return sealed({"events": lines(told), "outputs": list(outputs)}, *map(from_message, outputs.values()))


def lines(events: list[Event]) -> list[str]:
    return [event.to_json() for event in events]


@contextmanager
def blaming(step: Step) -> Iterator[None]:
    """What fl-kit refuses before the step itself begins is a failure of the step too."""
    try:
        yield
    except StepFailed:
        raise
    except FlKitError as error:
        kind = type(error).__name__
        raise StepFailed(
            str(error), op=step.op, silo=step.party, round=step.round, kind=kind, detail=error.detail
        ) from error


def ask_policy(kept: KeptRun, step: Step, folder: str) -> None:
    """Raise PolicyError unless the silo's own policy, if it has one here, admits the bundle."""
    if policy_files(folder):
        offer = Offer(digest=kept.digest, approvals=kept.approvals, job=kept.settings, plan=kept.plan)
        admit(step.party, folder, offer)


@contextmanager
def until_asked(word: str) -> Iterator[Callable[[], None]]:
    """A check that raises Stopped once the word was put into the cluster, which is looked for now and then."""
    asked, done = threading.Event(), threading.Event()

    def look_for_it() -> None:
        while not done.wait(LOOK) and not asked.is_set():
            if is_there(word):
                asked.set()

    def check() -> None:
        if asked.is_set():
            raise Stopped("the run was stopped")

    if is_there(word):
        asked.set()
    watch = threading.Thread(target=look_for_it, name="fl-kit stop", daemon=True)
    watch.start()
    try:
        yield check
    finally:
        done.set()
        watch.join()


class Overdue(BaseException):
    """The time of a step is over; no Exception, which a task's own code might catch."""


@contextmanager
def ended_after(seconds: float | None) -> Iterator[None]:
    """Interrupt what runs within after so many seconds, if it has not ended: a step that hangs asks for no deadline.

    By an alarm, which wakes a sleep too. Windows has none: there such a step is waited for.
    """
    if seconds is None or not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: object) -> None:
        raise Overdue

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except Overdue:
        _kept.clear()  # what is kept may be half made
        raise DeadlineExceeded(f"it did not end within {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def look(request: bytes) -> bytes:
    """What is wrong on this node with silos' folders, and the fl-kit that is here."""
    about, _ = unsealed(request)
    faults = [fault for name, data in about["silos"] if (fault := folder_fault(Silo(name=name, data=data)))]
    return sealed({"faults": faults, "source": source_digest(), "node": platform.node()})


def other_source(node: str) -> str:
    """That a node would run other code than this process."""
    return (
        f"the node {node} has another release of fl-kit than this process: install there what is installed here, or "
        "let sim.Ray connect to the cluster by itself, so that it brings its own along"
    )


@cache
def source_digest() -> str:
    """The sha256 of fl-kit's own source here, and of what runs its steps: the same bits need the same fl-kit."""
    here = {f"sim/{path.name}": path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))}
    return bytes_digest(
        manifest_of({name: bytes_digest(data) for name, data in {**dict(own_source()), **here}.items()})
    )


def key_of(bundle: bytes) -> str:
    """What the run of a bundle is known by."""
    return sha256(bundle).hexdigest()
