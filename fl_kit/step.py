r"""`python -m fl_kit.step`: one step of a plan, from folders to folders.

    python -m fl_kit.step --bundle BUNDLE --step round_003/cleveland/fit \
        --data FOLDER --input state=FOLDER --input memory=FOLDER --output update=FOLDER --output memory=FOLDER

The bundle is verified before the task's code runs. Where fl-kit itself comes from a bundle that somebody else
wrote, check that first, with an fl-kit of your own (`fl_kit.bundle.verify`): nothing can vouch for itself.

A step of the orchestrator takes its updates as `--input update/cleveland=FOLDER`; where the job has a quorum, a
folder that holds no update stands for a silo that is left out. Figures are written to the new file named by
`--events`, one JSON object a line.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from fl_kit.bundle import verify
from fl_kit.errors import FlKitError, MessageError, PlanError, StepFailed
from fl_kit.events import EventLog
from fl_kit.execute import Inputs, failed, left_out, run_step
from fl_kit.job import Job
from fl_kit.messages import Memory, State, Update, complete, read, write
from fl_kit.plan import Step
from fl_kit.protocols import Emit
from fl_kit.workbench import Workbench


def main(arguments: list[str] | None = None) -> int:
    """Run one step; 0 if it succeeded, 1 with one clear line and the user's traceback if it failed."""
    options = parse(arguments)
    try:
        run(options)
    except FlKitError as error:
        if isinstance(error, StepFailed) and error.detail:
            print(error.detail, file=sys.stderr)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Verify the bundle, run the step, write what it gave."""
    import torch

    torch.set_num_threads(options.threads)
    bundle = verify(options.bundle, options.digest, byte_code=True)
    job, plan = bundle.job(), bundle.plan()
    step = plan.by_id.get(options.step)
    if step is None:
        raise PlanError(f"the plan has no step {options.step!r}")
    inputs, outputs = once(options.input), once(options.output)
    check_names(step, inputs, outputs, options.data, quorum=job.min_silos is not None)
    bench = Workbench(job.task, seed=job.seed, device=job.device)
    log = EventLog(options.events) if options.events else EventLog()
    try:
        found = run_step(job, step, messages(job, step, inputs, options.data, log.append), bench, emit=log.append)
    except StepFailed as failure:
        log.append(failed(failure))
        raise
    finally:
        if options.events:
            log.flush()
    for name, message in found.items():
        try:
            write(message, outputs[name])
        except OSError as error:
            raise MessageError(f"output {name} cannot be written to {outputs[name]}: {error.strerror}") from error


def messages(job: Job, step: Step, inputs: Mapping[str, str], data: str, emit: Emit) -> Inputs:
    """The step's inputs, read from their folders; updates one by one, as they are asked for."""
    found: dict[str, object] = {"data": data, "updates": updates(job, step, inputs, emit)}
    if "state" in step.inputs:
        found["state"] = read(State, inputs["state"])
    if "memory" in step.inputs:
        found["memory"] = read(Memory, inputs["memory"])
    return found


def updates(job: Job, step: Step, inputs: Mapping[str, str], emit: Emit) -> Iterator[Update]:
    """The silos' updates, one by one; where the job has a quorum, a silo without a good one is left out."""
    for silo in step.updates:
        folder = inputs.get(f"update/{silo}", "")
        if job.min_silos is not None and not (folder and complete(folder)):
            emit(left_out(silo, step.round, "it delivered no update"))
            continue
        try:
            update = read(Update, folder)
            if update.silo != silo:
                raise MessageError(f"{folder} holds an update of {update.silo!r}")
        except MessageError as error:
            if job.min_silos is None:
                raise MessageError(f"the update of {silo}: {error}") from error
            emit(left_out(silo, step.round, f"malformed update: {error}"))
            continue
        yield update


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name → folder; raises PlanError for a name that is given twice."""
    found: dict[str, str] = {}
    for name, folder in pairs:
        if name in found:
            raise PlanError(f"{name} is given twice: {found[name]} and {folder}")
        found[name] = folder
    return found


def check_names(step: Step, inputs: Mapping[str, str], outputs: Mapping[str, str], data: str, *, quorum: bool) -> None:
    """Raise PlanError unless just the plan's inputs and outputs are given; with a quorum, an update may lack."""
    expected = {name for name in step.inputs if name != "data"}
    optional = {name for name in expected if quorum and name.startswith("update/")}
    if inputs.keys() - expected or (expected - optional) - inputs.keys():
        raise PlanError(f"{step.id} takes the inputs {sorted(expected)}, was given {sorted(inputs)}")
    if outputs.keys() != step.outputs.keys():
        raise PlanError(f"{step.id} has the outputs {sorted(step.outputs)}, was given {sorted(outputs)}")
    if ("data" in step.inputs) != bool(data):
        raise PlanError(f"{step.id} {'needs' if not data else 'takes no'} --data")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fl_kit.step", description="Run one step of a plan.")
    parser.add_argument("--bundle", required=True, help="the bundle's folder")
    parser.add_argument("--digest", default="", help="the bundle's expected digest")
    parser.add_argument("--step", required=True, help="the step's id, such as round_003/cleveland/fit")
    parser.add_argument("--data", default="", help="the silo's own data folder")
    parser.add_argument("--input", action="append", default=[], type=pair, metavar="NAME=FOLDER")
    parser.add_argument("--output", action="append", default=[], type=pair, metavar="NAME=FOLDER")
    parser.add_argument("--events", default="", type=str, help="a new file for the step's figures")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; the bits may depend on it")
    return parser.parse_args(arguments)


def pair(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not separator or not name or not folder:
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, found {text!r}")
    return name, str(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
