"""The usual plan: silos train, the orchestrator combines, round after round."""

from collections.abc import Iterable, Iterator, Sequence

from fl_kit.participation import Participants
from fl_kit.plan import ORCHESTRATOR, Plan, Step, step_id
from fl_kit.silo import Federation


def rounds_plan(
    federation: Federation, rounds: int, *, measure: bool, remember: bool, participants: Participants | None = None
) -> Plan:
    """The plan of `rounds` rounds.

    measure       silos first send the sums that Standardize needs
    remember      silos keep a private memory from round to round; each goes on with that of its last round
    participants  round → the silos that train in it; None means all of them. All measure and evaluate
    """
    silos = federation.names
    of_round = participants or (lambda round: silos)
    return Plan(steps=tuple(steps(silos, rounds, of_round, measure=measure, remember=remember)))


def steps(
    silos: Sequence[str], rounds: int, participants: Participants, *, measure: bool, remember: bool
) -> Iterator[Step]:
    if measure:
        yield from (silo_step("measure", silo, 0, {}, private=()) for silo in silos)
    yield orchestrator_step("init", 0, updates(silos, 0, "measure") if measure else {}, output="state")
    state = f"{step_id(0, ORCHESTRATOR, 'init')}:state"
    kept: dict[str, dict[str, str]] = {silo: {} for silo in silos}
    for round in range(1, rounds + 1):
        present = participants(round)
        for silo in present:
            yield silo_step("fit", silo, round, {"state": state, **kept[silo]}, private=("memory",) if remember else ())
            if remember:
                kept[silo] = {"memory": f"{step_id(round, silo, 'fit')}:memory"}
        yield orchestrator_step("aggregate", round, {"state": state, **updates(present, round, "fit")}, output="state")
        state = f"{step_id(round, ORCHESTRATOR, 'aggregate')}:state"
    for silo in silos:
        yield silo_step("evaluate", silo, rounds, {"state": state, **kept[silo]}, private=())
    measured = {"state": state, **updates(silos, rounds, "evaluate")}
    yield orchestrator_step("report", rounds, measured, output=None)


def silo_step(op: str, silo: str, round: int, inputs: dict[str, str], *, private: tuple[str, ...]) -> Step:
    return Step(
        op=op,
        party=silo,
        round=round,
        inputs={"data": f"data:{silo}", **inputs},
        outputs={"update": "shared", **dict.fromkeys(private, "private")},
    )


def orchestrator_step(op: str, round: int, inputs: dict[str, str], *, output: str | None) -> Step:
    return Step(op=op, party=ORCHESTRATOR, round=round, inputs=inputs, outputs={output: "shared"} if output else {})


def updates(silos: Iterable[str], round: int, op: str) -> dict[str, str]:
    return {f"update/{silo}": f"{step_id(round, silo, op)}:update" for silo in silos}
