r"""`python -m fl_kit.step`: one step of a plan, from folders to folders.

    python -m fl_kit.step --bundle BUNDLE --step round_003/cleveland/fit \
        --data FOLDER --input state=FOLDER --input memory=FOLDER --output update=FOLDER --output memory=FOLDER

The bundle is verified before the task's code runs, and so is a silo's own policy (`fl_kit.policy`) with the approvals
that `--approvals` names. Where fl-kit itself comes from a bundle that somebody else wrote, check that first, with an
fl-kit of your own (`fl_kit.bundle.verify`): nothing can vouch for itself.

A step of the orchestrator takes its updates as `--input update/cleveland=FOLDER`; where the job has a quorum, a
folder that holds no update stands for a silo that is left out. Figures, and what the step's seconds went into, are
written to the new file named by `--events`, one JSON object a line; `--report` tells the figures to the MLflow run that
AzureML's variables name.

A silo's memory is given by itself (`--input memory=…`), or as the folder of all that it kept (`--memories`), one
folder a round: then the step takes that of the last round in which the silo's update counted. A run that branched
off another one gives that one's folder after its own.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from fl_kit.approvals import read_approvals
from fl_kit.bundle import Bundle, verify
from fl_kit.door import failed
from fl_kit.errors import FlKitError, MessageError, PlanError, StepFailed, StoreError, TrackingError
from fl_kit.events import Event, EventLog, now
from fl_kit.execute import Outputs, run_step
from fl_kit.job import Job
from fl_kit.messages import write
from fl_kit.plan import ORCHESTRATOR, Plan, Step, describe_outputs
from fl_kit.policy import Offer, admit, policy_files
from fl_kit.protocols import Emit
from fl_kit.reporting import Reporter
from fl_kit.secret_scan import masked
from fl_kit.spent import Meter, timed
from fl_kit.step_inputs import StepInputs
from fl_kit.untold import Report, read_untold, write_untold
from fl_kit.workbench import Workbench

PATIENCE, LAST_PATIENCE = 30.0, 300.0
"""Seconds for which a step waits for a tracking server that is down; the second, if nobody can tell its figures after
it."""


def main(arguments: list[str] | None = None) -> int:
    """Run one step; 0 if it succeeded, 1 with one clear line and the user's traceback if it failed."""
    options = parse(arguments)
    try:
        run(options)
    except FlKitError as error:
        if isinstance(error, StepFailed) and error.detail:
            print(masked(error.detail), file=sys.stderr)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def run(options: argparse.Namespace) -> None:
    """Verify the bundle, run the step, write what it gave."""
    import torch

    torch.set_num_threads(options.threads)
    bundle = verify(options.bundle, options.digest, byte_code=True)
    plan = bundle.plan()
    step = plan.by_id.get(options.step)
    if step is None:
        raise PlanError(f"the plan has no step {options.step!r}")
    if step.party != ORCHESTRATOR:
        ask_policy(step.party, options, bundle, plan)
    job = bundle.job()  # the first that imports the task
    inputs, outputs = once(options.input), once(options.output)
    check_names(step, inputs, outputs, options, quorum=job.min_silos is not None)
    first = is_first_process()
    log = EventLog(options.events) if options.events and first else EventLog()
    told: list[Event] = []
    done: Step | None = None
    meter = Meter()
    say = partial(print, flush=True) if options.report else silent
    say(f"{step.id}, bundle {bundle.digest}")
    say(f"reads {', '.join(step.inputs) or 'nothing'}; writes {describe_outputs(step) or 'nothing'}")
    try:
        bench = Workbench(job.task, seed=job.seed, device=job.device, bundle=bundle.digest)
        with meter.working():
            found = attempts(job, step, inputs, options, bench, log.append, meter)
        with meter.transferring():
            keep(found if first else {}, outputs)
        log.append(timed(meter.spent, round=step.round, party=step.party))
        done = step
        say(f"done: {meter.spent.compute:.2f} s of computing, {meter.spent.transfer:.2f} s of reading and writing")
    except StepFailed:
        raise
    except FlKitError as error:
        kind = type(error).__name__
        told.append(failed(StepFailed(str(error), op=step.op, silo=step.party, round=step.round, kind=kind)))
        raise
    finally:
        if options.events and first:
            log.flush()
        if options.report and first:
            tell(job, plan, step, [*log.read(), *told], done, inputs.get("state", ""), outputs.get("state", ""))


def ask_policy(silo: str, options: argparse.Namespace, bundle: Bundle, plan: Plan) -> None:
    """Raise PolicyError unless the silo's own policy, if it has one, admits the bundle; nothing of the task has run."""
    if policy_files(options.data):
        approvals = read_approvals(options.approvals) if options.approvals else ()
        admit(silo, options.data, Offer(digest=bundle.digest, approvals=approvals, job=bundle.settings(), plan=plan))


def silent(text: str) -> None:
    """Say nothing: a step that somebody runs by hand is as quiet as other commands."""


def is_first_process() -> bool:
    """Whether this process speaks for the step: of several that share the work of one, only the first does.

    AzureML's launcher numbers them in RANK, as torch's own does; who shares the work is the task's own `fit`.
    """
    return os.environ.get("RANK", "0") == "0"


def tell(job: Job, plan: Plan, step: Step, events: Iterable[Event], done: Step | None, before: str, after: str) -> None:
    """Report what happened; a step whose figures cannot be told says so in its log, and has not failed for that.

    before, after  the folders of the states that the orchestrator's step reads and makes: what could not be told
                   travels with the state, until a step finds the tracking server there again
    """
    combines = step.party == ORCHESTRATOR
    travels = done is not None and any(
        other.party == ORCHESTRATOR and other.inputs.get("state") == f"{step.id}:state" for other in plan.steps
    )
    reports = [Report(step=step.id, time=now(), events=tuple(events))]
    try:
        reports[:0] = read_untold(before) if before and combines else []
    except StoreError as error:
        print(f"What an earlier step could not tell is lost: {error}", file=sys.stderr)
    try:
        last = combines and done is not None and not travels
        reporter = Reporter.of_environment(job, plan, patience=LAST_PATIENCE if last else PATIENCE)
        for report in reports:
            made_by = done if report.step == step.id else plan.by_id.get(report.step)
            reporter.tell(report.events, done=made_by, at=report.time)
    except TrackingError as error:
        print(f"What happened in this step could not be told to MLflow: {error}", file=sys.stderr)
        if travels:
            leave_to_the_next(after, reports)


def leave_to_the_next(state: str, reports: Iterable[Report]) -> None:
    """Put what could not be told beside the state."""
    try:
        write_untold(state, reports)
    except StoreError as error:
        print(f"Nor can a later step: {error}", file=sys.stderr)
    else:
        print("The orchestrator's next step will try to.", file=sys.stderr)


def attempts(
    job: Job,
    step: Step,
    inputs: Mapping[str, str],
    options: argparse.Namespace,
    bench: Workbench,
    emit: Emit,
    meter: Meter,
) -> Outputs:
    """The step's outputs; a silo's step that fails is tried again as often as the job says, if it is asked for."""
    given = StepInputs(
        job=job,
        step=step,
        bench=bench,
        folders=inputs,
        data=options.data,
        memories=[Path(folder) for folder in options.memories],
        copied=options.report,
        emit=emit,
        meter=meter,
    )
    for left in range(job.retries if options.retry and step.party != ORCHESTRATOR else 0, -1, -1):
        try:
            return run_step(job, step, given.read(), bench, emit=emit)
        except StepFailed as failure:
            emit(failed(failure))
            if not left:
                raise
    raise AssertionError("unreachable")


def keep(found: Outputs, outputs: Mapping[str, str]) -> None:
    """Write what a step gave; raises MessageError if that cannot be done."""
    for name, message in found.items():
        try:
            write(message, outputs[name])
        except OSError as error:
            raise MessageError(f"output {name} cannot be written to {outputs[name]}: {error.strerror}") from error


def once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name → folder; raises PlanError for a name that is given twice."""
    found: dict[str, str] = {}
    for name, folder in pairs:
        if name in found:
            raise PlanError(f"{name} is given twice: {found[name]} and {folder}")
        found[name] = folder
    return found


def check_names(
    step: Step, inputs: Mapping[str, str], outputs: Mapping[str, str], options: argparse.Namespace, *, quorum: bool
) -> None:
    """Raise PlanError unless just the plan's inputs and outputs are given; with a quorum, an update may lack."""
    data, apart = options.data, {"data", "memory"} if options.memories else {"data"}
    expected = {name for name in step.inputs if name not in apart}
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
    parser.add_argument("--approvals", default="", help="the approvals that came with it: a file, or a folder of them")
    parser.add_argument("--step", required=True, help="the step's id, such as round_003/cleveland/fit")
    parser.add_argument("--data", default="", help="the silo's own data folder")
    parser.add_argument("--input", action="append", default=[], type=pair, metavar="NAME=FOLDER")
    parser.add_argument("--output", action="append", default=[], type=pair, metavar="NAME=FOLDER")
    parser.add_argument("--events", default="", type=str, help="a new file for the step's figures")
    parser.add_argument(
        "--memories", action="append", default=[], help="the folder of all that the silo kept, one folder a round"
    )
    parser.add_argument("--retry", action="store_true", help="try a silo's step again as often as the job says")
    parser.add_argument("--report", action="store_true", help="tell the pipeline's MLflow run what happened")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; the bits may depend on it")
    return parser.parse_args(arguments)


def pair(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not separator or not name or not folder:
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, found {text!r}")
    return name, str(Path(folder))


if __name__ == "__main__":
    sys.exit(main())
