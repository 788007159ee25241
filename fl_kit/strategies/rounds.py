"""The usual plan: every silo trains, the orchestrator combines, round after round."""

from collections.abc import Iterable, Iterator

from fl_kit.plan import ORCHESTRATOR, Plan, Step, step_id
from fl_kit.silo import Federation


def rounds_plan(federation: Federation, rounds: int, *, measure: bool, remember: bool) -> Plan:
    """The plan of `rounds` rounds.

    measure   silos first send the sums that Standardize needs
    remember  silos keep a private memory from round to round
    """
    silos = federation.names
    return Plan(steps=tuple(steps(silos, rounds, measure=measure, remember=remember)))


def steps(silos: Iterable[str], rounds: int, *, measure: bool, remember: bool) -> Iterator[Step]:
    if measure:
        yield from (silo_step("measure", silo, 0, {}, private=()) for silo in silos)
    yield orchestrator_step("init", 0, updates(silos, 0, "measure") if measure else {}, output="state")
    state = f"{step_id(0, ORCHESTRATOR, 'init')}:state"
    for round in range(1, rounds + 1):
        for silo in silos:
            kept = {"memory": f"{step_id(round - 1, silo, 'fit')}:memory"} if remember and round > 1 else {}
            yield silo_step("fit", silo, round, {"state": state, **kept}, private=("memory",) if remember else ())
        yield orchestrator_step("aggregate", round, {"state": state, **updates(silos, round, "fit")}, output="state")
        state = f"{step_id(round, ORCHESTRATOR, 'aggregate')}:state"
    for silo in silos:
        kept = {"memory": f"{step_id(rounds, silo, 'fit')}:memory"} if remember else {}
        yield silo_step("evaluate", silo, rounds, {"state": state, **kept}, private=())
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
