"""A silo's own policy in a simulation: asked before each of its steps, of the bundle that the job would make."""

from collections.abc import Callable, Sequence
from functools import cache

from fl_kit.approvals import Approval
from fl_kit.errors import PolicyError, StepFailed
from fl_kit.execute import Inputs, Outputs
from fl_kit.legs import Leg
from fl_kit.plan import ORCHESTRATOR, Step
from fl_kit.policy import Offer, admit, policy_files
from fl_kit.protocols import Emit
from sim.engines.engine import Runner


def guarded(runner: Runner, leg: Leg, approvals: Sequence[Approval]) -> Runner:
    """The same runner, which runs no step of a silo whose policy refuses the bundle.

    Without any policy the bundle's digest is never computed.
    """

    @cache
    def offer() -> Offer:
        return Offer(digest=leg.digest, approvals=approvals, job=leg.job.to_dict(), plan=leg.plan)

    def run(step: Step, inputs: Inputs, emit: Emit, check: Callable[[], None]) -> Outputs:
        if step.party != ORCHESTRATOR and policy_files(folder := str(inputs.get("data", ""))):
            try:
                admit(step.party, folder, offer())
            except PolicyError as error:
                kind = type(error).__name__
                raise StepFailed(str(error), op=step.op, silo=step.party, round=step.round, kind=kind) from error
        return runner(step, inputs, emit, check)

    return run
