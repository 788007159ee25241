"""Choosing silos without a widget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import Federation, Silo, SiloFacts
from fl_kit.errors import FederationError
from fl_kit.silo_facts import from_tags
from fl_kit.widgets.selection import Selection

FOUR = Federation(
    silos=(
        Silo(name="boston", data="", region="us-east", tags={"rows": "400", "price": "0.5", "seen": "today"}),
        Silo(name="dallas", data="", region="us-south", tags={"rows": "many", "status": "idle"}),
        Silo(name="lyon", data="", region="europe"),
        Silo(name="oslo", data="", region="europe"),
    )
)
FACTS = {
    "boston": SiloFacts(rows=400, labels={"ill": 100, "well": 300}, price=0.5),
    "dallas": SiloFacts(rows=1600, labels={"ill": 1600}, price=1.25),
    "lyon": SiloFacts(labels={"well": 0}),
    "oslo": SiloFacts(reason="compute stopped"),
}


def test_everybody_who_can_take_part_is_chosen_at_first() -> None:
    choice = Selection(FOUR, FACTS)
    assert choice.chosen == ("boston", "dallas", "lyon")
    assert choice.federation.names == choice.chosen


def test_what_is_known_of_the_choice_in_one_line() -> None:
    choice = Selection(FOUR, FACTS, ["boston", "dallas"])
    assert choice.summary() == "2 of 4 silos · 2,000 rows · 2 regions · all 2 classes · 1.75 a round"
    choice.only(["dallas", "lyon"])
    assert choice.summary() == (
        "2 of 4 silos · 1,600 rows where known · 2 regions · no rows of class well · 1.25 a round where known"
    )
    choice.only(["lyon"])
    assert choice.summary() == "1 of 4 silos · 1 region · no rows of class ill, well"


def test_who_cannot_take_part_is_never_chosen() -> None:
    choice = Selection(FOUR, FACTS)
    with pytest.raises(FederationError, match="silo 'oslo' cannot take part: compute stopped"):
        choice.only(["oslo"])
    choice.only(["*o*"])  # a pattern means those of them that can
    assert choice.chosen == ("boston", "lyon")
    choice.set("oslo", True)
    choice.invert()
    assert choice.chosen == ("dallas",)


def test_by_region_and_size() -> None:
    choice = Selection(FOUR, FACTS)
    assert choice.where(region="europe") == ("lyon",)
    assert choice.where(min_rows=500) == ("dallas",)
    assert choice.where(region="us-*", min_rows=1) == ("boston", "dallas")
    with pytest.raises(FederationError, match="no region 'asia'"):
        choice.where(region="asia")


def test_nobody_is_no_federation() -> None:
    with pytest.raises(FederationError, match="no silo is chosen"):
        _ = Selection(FOUR, FACTS, []).federation


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(FederationError, match="no silo 'bostn'; did you mean 'boston'"):
        Selection(FOUR, FACTS, ["bostn"])


def test_what_tags_say() -> None:
    facts = from_tags(FOUR)
    assert facts["boston"] == SiloFacts(rows=400, price=0.5, seen="today")
    assert facts["dallas"] == SiloFacts(status="idle")


@given(st.lists(st.tuples(st.sampled_from(FOUR.names), st.booleans())))
def test_ticks_add_up(ticks: list[tuple[str, bool]]) -> None:
    choice = Selection(FOUR, FACTS, [])
    expected: set[str] = set()
    for name, on in ticks:
        choice.set(name, on)
        expected = expected | {name} if on and name != "oslo" else expected - {name}
    assert set(choice.chosen) == expected
    choice.invert()
    assert set(choice.chosen) == {"boston", "dallas", "lyon"} - expected
