"""The silos' updates of every round, kept for whoever asks later what each was worth."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fl_kit.errors import MessageError, StoreError
from fl_kit.execute import Inputs, Outputs
from fl_kit.messages import Update, read, write
from fl_kit.plan import Step, step_folder
from fl_kit.protocols import Emit
from fl_kit.store import STEPS
from sim.engines.engine import Runner


class KeptUpdates(Protocol):
    """Where updates are kept."""

    def put(self, step: Step, update: Update) -> None:
        """Keep the update of a fit step, in place of an earlier one of the same step."""

    def get(self, step: Step) -> Update:
        """The update of a fit step; raises StoreError if it was not kept."""


class KeptInFolder:
    """In a run's folder, as messages."""

    def __init__(self, run_folder: Path) -> None:
        self._root = run_folder / STEPS

    def put(self, step: Step, update: Update) -> None:
        try:
            write(update, self._place(step))
        except OSError as error:
            raise StoreError(f"the update of {step.id} cannot be kept: {error}") from error

    def get(self, step: Step) -> Update:
        try:
            return read(Update, self._place(step))
        except MessageError as error:
            raise not_kept(step) from error

    def _place(self, step: Step) -> Path:
        return step_folder(self._root, f"{step.id}:update")


class KeptInMemory:
    """In this process: a model for each silo and round."""

    def __init__(self) -> None:
        self._found: dict[str, Update] = {}

    def put(self, step: Step, update: Update) -> None:
        self._found[step.id] = update

    def get(self, step: Step) -> Update:
        if step.id not in self._found:
            raise not_kept(step)
        return self._found[step.id]


def not_kept(step: Step) -> StoreError:
    return StoreError(f"the update of {step.id} was not kept; run with InProcess(keep_updates=True)")


def keeping(runner: Runner, kept: KeptUpdates) -> Runner:
    """The same runner, whose fit steps' updates are kept."""

    def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        outputs = runner(step, inputs, emit, check)
        if step.op == "fit":
            update = outputs["update"]
            assert isinstance(update, Update)
            kept.put(step, update)
        return outputs

    return run
