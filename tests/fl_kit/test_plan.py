"""Plans: JSON there and back, and every kind of fault named before anything runs."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import strategies as algorithms
from fl_kit.errors import LocalityError, PlanError
from fl_kit.plan import ORCHESTRATOR, Plan, Step, round_name, step_id
from fl_kit.silo import Federation, Silo
from fl_kit.strategies import FedAvg, Scaffold

silo_name = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,10}", fullmatch=True).filter(
    lambda name: name.lower() not in ("global", "orchestrator", "state")
)
federations = st.lists(silo_name, min_size=1, max_size=5, unique_by=str.lower).map(
    lambda names: Federation(silos=tuple(Silo(name=name, data=f"data/{name}") for name in names))
)
strategy = st.sampled_from([getattr(algorithms, name)() for name in algorithms.__all__])
plans = st.builds(
    lambda chosen, federation, rounds, measure: chosen.plan(federation, rounds, measure=measure),
    strategy, federations, st.integers(1, 12), st.booleans(),
)  # fmt: skip

TWO = Federation(silos=(Silo(name="a", data="data/a"), Silo(name="b", data="data/b")))


@given(plans)
def test_json_there_and_back(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.to_json() == plan.to_json()


@given(federations, st.integers(1, 6), st.booleans())
def test_the_number_of_steps(federation: Federation, rounds: int, measure: bool) -> None:
    """K silos: [measure ×K], init, R × (fit ×K, aggregate), evaluate ×K, report."""
    k = len(federation)
    plan = FedAvg().plan(federation, rounds, measure=measure).check()
    assert len(plan) == k * measure + 1 + rounds * (k + 1) + k + 1
    assert (plan.rounds, plan.silos) == (rounds, federation.names)


def test_the_whole_plan_of_one_round_with_memory() -> None:
    """Written out by hand, as a silo's owner would read it."""
    only_a = TWO.select(["a"])
    assert [
        (step.id, dict(step.inputs), dict(step.outputs)) for step in Scaffold().plan(only_a, 2, measure=True).steps
    ] == [
        ("round_000/a/measure", {"data": "data:a"}, {"update": "shared"}),
        ("round_000/orchestrator/init", {"update/a": "round_000/a/measure:update"}, {"state": "shared"}),
        (
            "round_001/a/fit",
            {"data": "data:a", "state": "round_000/orchestrator/init:state"},
            {"update": "shared", "memory": "private"},
        ),
        (
            "round_001/orchestrator/aggregate",
            {"state": "round_000/orchestrator/init:state", "update/a": "round_001/a/fit:update"},
            {"state": "shared"},
        ),
        (
            "round_002/a/fit",
            {
                "data": "data:a",
                "state": "round_001/orchestrator/aggregate:state",
                "memory": "round_001/a/fit:memory",
            },
            {"update": "shared", "memory": "private"},
        ),
        (
            "round_002/orchestrator/aggregate",
            {"state": "round_001/orchestrator/aggregate:state", "update/a": "round_002/a/fit:update"},
            {"state": "shared"},
        ),
        (
            "round_002/a/evaluate",
            {
                "data": "data:a",
                "state": "round_002/orchestrator/aggregate:state",
                "memory": "round_002/a/fit:memory",
            },
            {"update": "shared"},
        ),
        (
            "round_002/orchestrator/report",
            {"state": "round_002/orchestrator/aggregate:state", "update/a": "round_002/a/evaluate:update"},
            {},
        ),
    ]


def test_one_step_a_line() -> None:
    plan = FedAvg().plan(TWO, 2, measure=False)
    assert len(plan.to_json().splitlines()) == len(plan) + 2


def test_ids_sort_as_rounds_run() -> None:
    assert step_id(3, "cleveland", "fit") == "round_003/cleveland/fit"
    assert sorted(round_name(round) for round in (10, 2, 100, 1)) == [
        "round_001",
        "round_002",
        "round_010",
        "round_100",
    ]


def test_updates_are_in_silo_order() -> None:
    (aggregate,) = [step for step in FedAvg().plan(TWO, 1, measure=False).steps if step.op == "aggregate"]
    assert aggregate.updates == {"a": "round_001/a/fit:update", "b": "round_001/b/fit:update"}


# check


def step(op: str, party: str, inputs: Mapping[str, str], **outputs: Any) -> Step:
    return Step(op=op, party=party, round=1, inputs=inputs, outputs=outputs)


START = step("init", ORCHESTRATOR, {}, state="shared")
A = step(
    "fit", "a", {"data": "data:a", "state": "round_001/orchestrator/init:state"}, update="shared", memory="private"
)
FITS = (START, A)


def check(*steps: Step) -> Plan:
    return Plan(steps=steps).check()


def test_a_consistent_plan_passes() -> None:
    last = step("aggregate", ORCHESTRATOR, {"update/a": "round_001/a/fit:update"}, state="shared")
    assert len(check(*FITS, last, step("evaluate", "a", {"memory": "round_001/a/fit:memory"}))) == 4


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (
            step("x", "a", {"in": "round_001/a/nothing:update"}),
            "'round_001/a/nothing', which no earlier step is called",
        ),
        (step("x", "a", {"in": "round_001/a/fit:nothing"}), "round_001/a/fit has no output 'nothing'"),
        (step("x", "a", {"in": "round_001/a/x:update"}, update="shared"), "no earlier step"),
        (step("x", "a", {"in": "somewhere"}), "comes from 'somewhere'; expected data:<silo> or <step>:<output>"),
        (step("x", "a", {"in": ""}), "comes from ''"),
        (step("x", "a", {}, update="public"), "output 'update' is 'public'; it must be shared or private"),
        (A, "round_001/a/fit stands twice"),
    ],
)
def test_a_fault_is_named(last: Step, words: str) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        check(*FITS, last)
    assert not isinstance(caught.value, LocalityError)
    assert "round_001/a/" in str(caught.value)


def test_a_step_before_what_it_reads_is_refused() -> None:
    with pytest.raises(PlanError, match="no earlier step"):
        check(A, START)


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (step("x", "b", {"data": "data:a"}), "round_001/b/x would read the data of a; only a may"),
        (step("x", "b", {"state": "data:a"}), "would read the data of a"),
        (step("x", "b", {"memory": "round_001/a/fit:memory"}), "'memory' of round_001/a/fit, which is private to a"),
        (step("x", ORCHESTRATOR, {"data": "data:a"}), "orchestrator/x would read the data of a"),
        (step("x", ORCHESTRATOR, {"update/a": "data:a"}), "would read the data of a"),
        (step("x", ORCHESTRATOR, {"update/a": "round_001/a/fit:memory"}), "private to a"),
    ],
)
def test_nobody_reads_what_is_not_theirs(last: Step, words: str) -> None:
    with pytest.raises(LocalityError, match=words):
        check(*FITS, last)


@given(plans, st.data())
def test_any_input_turned_to_another_silos_data_is_found(plan: Plan, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(plan) - 1))
    chosen = plan.steps[place]
    other = data.draw(st.sampled_from([*plan.silos, "stranger"]).filter(lambda silo: silo != chosen.party))
    name = data.draw(st.sampled_from([*chosen.inputs, "more"]))
    steps = list(plan.steps)
    steps[place] = replace(chosen, inputs={**chosen.inputs, name: f"data:{other}"})
    with pytest.raises(LocalityError):
        Plan(steps=tuple(steps)).check()
    with pytest.raises(LocalityError):
        Plan.from_json(Plan(steps=tuple(steps)).to_json())


@given(plans, st.data())
def test_a_plan_with_any_needed_step_left_out_is_refused(plan: Plan, data: st.DataObject) -> None:
    read = {source.partition(":")[0] for s in plan.steps for source in s.inputs.values()} & set(plan.by_id)
    missing = data.draw(st.sampled_from(sorted(read)))
    with pytest.raises(PlanError):
        Plan(steps=tuple(s for s in plan.steps if s.id != missing)).check()


# from_json

GOOD = json.loads(Plan(steps=FITS).to_json())


def changed(**fields: Any) -> str:
    """The plan, its last step with these fields (… means: left out)."""
    last = {key: value for key, value in {**GOOD["steps"][1], **fields}.items() if value is not ...}
    return json.dumps({**GOOD, "steps": [GOOD["steps"][0], last]})


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "3", '"plan"', "{", "{}", "NaN", "[" * 100_000, '{"a":' * 100_000,
        '{"format": 1}', '{"format": 1, "steps": null}', '{"format": 1, "steps": 3}',
        '{"format": 1, "steps": {"a": 1}}',
        '{"format": 1, "steps": [null]}', '{"format": 1, "steps": ["abc"]}', '{"format": 1, "steps": [[]]}',
        '{"steps": []}', '{"format": 2, "steps": []}', '{"format": null, "steps": []}',
        changed(op=3), changed(op=None), changed(op=...), changed(party=["a"]), changed(party=...),
        changed(round="1"), changed(round=1.0), changed(round=-1), changed(round=True), changed(round=...),
        changed(inputs=[]), changed(inputs=None), changed(inputs={"data": 3}), changed(inputs="data:a"),
        changed(outputs={"update": None}), changed(outputs=["update"]), changed(outputs={"update": "public"}),
        changed(more="field"), changed(inputs={"data": "data:b"}), changed(inputs={"data": "nowhere"}),
    ],
    ids=lambda text: text[:40] + text[-40:] if len(text) > 80 else text,
)  # fmt: skip
def test_anything_else_than_a_plan_is_a_plan_error(text: str) -> None:
    with pytest.raises(PlanError):
        Plan.from_json(text)


json_value = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["a", "fit", "data:a", "shared"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD["steps"][0], "x"]), inner),
)


@given(st.dictionaries(st.sampled_from(["op", "party", "round", "inputs", "outputs"]), json_value, min_size=1))
def test_no_step_of_json_gives_another_error(fields: dict[str, Any]) -> None:
    text = changed(**fields)
    with suppress(PlanError):
        assert Plan.from_json(text).to_json()


@given(st.text(max_size=60), st.integers(0, 200))
def test_no_text_gives_another_error(text: str, place: int) -> None:
    whole = Plan(steps=FITS).to_json()
    for broken in (text, whole[:place], whole[:place] + text + whole[place + 1 :]):
        with suppress(PlanError):
            Plan.from_json(broken)


# table


def test_the_table_has_one_row_per_kind_of_step() -> None:
    table = Scaffold().plan(TWO, 3, measure=True).table()
    assert table.title == "Plan: 3 rounds, 2 silos, 15 steps"
    assert [tuple(row) for row in table.rows] == [
        ("measure", "each silo", "0", "own data", "update (shared)", 2),
        ("init", "orchestrator", "0", "updates", "state (shared)", 1),
        ("fit", "each silo", "1", "own data, state", "update (shared), memory (private)", 2),
        ("aggregate", "orchestrator", "1–3", "state, updates", "state (shared)", 3),
        ("fit", "each silo", "2–3", "own data, state, own memory", "update (shared), memory (private)", 4),
        ("evaluate", "each silo", "3", "own data, state, own memory", "update (shared)", 2),
        ("report", "orchestrator", "3", "state, updates", "", 1),
    ]
