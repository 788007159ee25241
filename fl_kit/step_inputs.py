"""A step's inputs, read from their folders: bounded by what plan and model expect, updates one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fl_kit.door import left_out, refused
from fl_kit.errors import MessageError
from fl_kit.execute import Inputs
from fl_kit.job import Job
from fl_kit.messages import META_FILE, TENSORS_LIMIT, Memory, State, Update, read
from fl_kit.plan import Step, round_name
from fl_kit.protocols import Emit
from fl_kit.spent import Meter
from fl_kit.update_form import UpdateForm, size_limit
from fl_kit.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Where a step's inputs lie, and what reading them takes.

    folders   input → its folder: `state`, `memory`, `update/cleveland`
    data      the silo's own data folder; empty for the orchestrator
    memories  folders of all that the silo kept, one folder a round; the first that has a round counts
    copied    whether others may still be writing to the folders, as in a real run
    emit      hears which silos are left out
    meter     counts the seconds of reading
    """

    job: Job
    step: Step
    bench: Workbench
    folders: Mapping[str, str]
    data: str
    memories: Sequence[Path]
    copied: bool
    emit: Emit
    meter: Meter

    def read(self) -> Inputs:
        """The inputs by name, as `run_step` takes them; raises MessageError for a state or memory that is not whole."""
        found: dict[str, object] = {"data": self.data, "updates": self.updates()}
        limit = largest(self.bench)
        with self.meter.transferring():
            if "state" in self.step.inputs:
                found["state"] = state = read(State, self.folders["state"], copied=self.copied, limit=limit)
            if "memory" in self.folders:
                found["memory"] = read(Memory, self.folders["memory"], limit=limit)
            elif "memory" in self.step.inputs and self.step.party in state.counted:
                kept = newest(self.memories, state.counted[self.step.party])
                found["memory"] = read(Memory, kept, limit=limit)
        return found

    def updates(self) -> Iterator[Update]:
        """The silos' updates, one by one; where the job has a quorum, a silo without a good one is left out.

        Raises MessageError for one that is not whole where there is no quorum.
        """
        step = self.step
        form, limit = UpdateForm.of(self.job, step, self.bench.model), size_limit(self.bench.model)
        for silo in step.updates:
            folder = self.folders.get(f"update/{silo}", "")
            if self.job.min_silos is not None and not (folder and (Path(folder) / META_FILE).exists()):
                if folder:  # its step ended well, or it would have no folder: nobody else will tell
                    self.emit(refused(step, silo, "it delivered no update"))
                self.emit(left_out(silo, step.round, "it delivered no update"))
                continue
            try:
                with self.meter.transferring():
                    update = read(Update, folder, copied=self.copied, limit=limit, check=form.check)
                check_sender(update, silo, folder, step)
            except MessageError as error:
                self.emit(refused(step, silo, f"malformed update: {error}"))
                if self.job.min_silos is None:
                    raise MessageError(f"the update of {silo}: {error}") from error
                self.emit(left_out(silo, step.round, f"malformed update: {error}"))
                continue
            yield update
            del update  # or it would live on while the next one is read


def check_sender(update: Update, silo: str, folder: str, step: Step) -> None:
    """Raise MessageError for an update of another silo, or one that does not say where it comes from."""
    if update.silo != silo:
        raise MessageError(f"{folder} holds an update of {update.silo!r:.80}: swapped between silos")
    if update.origin is None:
        raise MessageError(
            f"{folder} does not say which step made it, from which state: an fl-kit before manifests wrote it. "
            f"Let {silo} run {step.updates[silo].partition(':')[0]} again"
        )


def largest(bench: Workbench) -> int:
    """The largest message that is read, in bytes."""
    try:
        return size_limit(bench.model)
    except Exception:  # noqa: BLE001 - the task cannot make its model: the step will say so, and whose fault it is
        return TENSORS_LIMIT


def newest(memories: Sequence[Path], round: int) -> Path:
    """What a silo kept in a round, in the first folder that has it.

    Of a round that was run again (`round_003-2`) it is that of the last time.
    """
    for place in memories:
        tries = ((path.name.rpartition("-")[2], path) for path in place.glob(f"{round_name(round)}-*"))
        again = {int(number): path for number, path in tries if number.isdecimal()}
        if again or (place / round_name(round)).exists():
            return again[max(again)] if again else place / round_name(round)
    return memories[0] / round_name(round)
