"""SiloPicker: its text, its static table, and what its widgets do (in a real browser: tests/browser)."""

from typing import Any

import pytest

from fl_kit import Federation, Silo, SiloFacts, SiloPicker
from fl_kit.errors import FederationError
from fl_kit.widgets.picker import PickerView
from fl_kit.widgets.selection import Selection

THREE = Federation(
    silos=tuple(
        Silo(name=name, data="", region=region, compute=f"cpu-{name}")
        for name, region in (("ash", "east"), ("birch", "west"), ("cedar", "west"))
    )
)
FACTS = {
    "ash": SiloFacts(rows=1200, labels={"ill": 300, "well": 900}, status="ready"),
    "birch": SiloFacts(rows=80, labels={"ill": 80}, status="ready"),
    "cedar": SiloFacts(reason="its compute <cpu-cedar> is stopped"),
}


def picker(silos: list[str] | None = None) -> SiloPicker:
    return SiloPicker(THREE, facts=FACTS, silos=silos)


def test_the_choice_in_a_line_of_code() -> None:
    found = picker()
    assert found.names == ("ash", "birch")
    assert found.select(["*"]).names == ("ash", "birch")
    assert found.select(region="west").names == ("birch",)
    assert found.select(min_rows=100).names == ("ash",)
    assert found.select(["b*"], min_rows=100).names == ()
    assert found.invert().names == ("ash", "birch")
    assert found.none().names == ()
    assert found.all().federation.names == ("ash", "birch")


def test_a_papermill_parameter_presets_it() -> None:
    assert picker(["birch"]).federation == THREE.select(["birch"])
    with pytest.raises(FederationError, match="did you mean 'birch'"):
        picker(["brich"])


def test_as_text() -> None:
    lines = repr(picker(["birch"])).splitlines()
    assert lines[0].split() == ["silo", "region", "compute", "rows", "status"]
    assert lines[2].split()[:4] == ["·", "ash", "east", "cpu-ash"]
    assert lines[3].startswith("✓")
    assert "its compute <cpu-cedar> is stopped" in lines[4]
    assert lines[-1] == "1 of 3 silos · 80 rows · 1 region · no rows of class well"


def test_without_a_live_front_end_it_is_a_static_table() -> None:
    bundle = picker()._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "&lt;cpu-cedar&gt;" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]
    assert "<style" not in bundle["text/html"]


@pytest.fixture
def view() -> PickerView:
    return PickerView(Selection(THREE, FACTS))


def box(view: PickerView, name: str) -> Any:
    return view._boxes[name]


def press(view: PickerView, name: str) -> None:
    (button,) = [b for b in view.widget.children[0].children if getattr(b, "description", "") == name]
    button.click()


def status(view: PickerView) -> str:
    return str(view._status.value)


def test_a_tick_chooses_and_the_summary_follows(view: PickerView) -> None:
    assert box(view, "ash").value
    box(view, "ash").value = False
    assert view._selection.chosen == ("birch",)
    assert "1 of 3 silos · 80 rows" in status(view)
    assert 'role="status"' in status(view)


def test_who_cannot_take_part_has_a_disabled_box_that_says_why(view: PickerView) -> None:
    cedar = box(view, "cedar")
    assert cedar.disabled
    assert not cedar.value
    assert "⚠ its compute &lt;cpu-cedar&gt; is stopped" in cedar.description


def test_buttons(view: PickerView) -> None:
    press(view, "none")
    assert view._selection.chosen == ()
    press(view, "invert")
    assert view._selection.chosen == ("ash", "birch")
    press(view, "none")
    press(view, "all")
    assert [box(view, name).value for name in THREE.names] == [True, True, False]


def test_by_region(view: PickerView) -> None:
    region = view.widget.children[0].children[-1]
    region.value = "west"
    assert view._selection.chosen == ("birch",)
    assert not box(view, "ash").value


def test_the_filter_hides_rows_and_the_buttons_mean_what_is_seen(view: PickerView) -> None:
    view._filter.value = "west ready"
    assert [box(view, name).layout.display for name in THREE.names] == ["none", None, "none"]
    assert "2 hidden by the filter" in status(view)
    press(view, "none")
    assert view._selection.chosen == ("ash",)
    view._filter.value = ""
    assert all(box(view, name).layout.display is None for name in THREE.names)


def test_the_label_mix_is_a_bar_and_words(view: PickerView) -> None:
    row = box(view, "ash").description
    assert 'aria-label="labels: ill 25%, well 75%"' in row
    assert row.index("width:21.0px") < row.index("width:63.0px")  # of 84
    assert box(view, "birch").description.count("background:") == 1


def test_code_moves_the_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fl_kit.widgets.picker.has_widgets", lambda: True)
    found = picker()
    bundle = found._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert (
        found._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]
        == (bundle["application/vnd.jupyter.widget-view+json"])
    )
    assert found._view is not None
    found.select(["birch"])
    assert [box(found._view, name).value for name in THREE.names] == [False, True, False]


def test_500_silos_have_one_widget_each() -> None:
    many = Federation(silos=tuple(Silo(name=f"hospital-{i:03d}", data="") for i in range(500)))
    view = PickerView(Selection(many, {}))
    assert len(view._boxes) == 500
    view._filter.value = "hospital-49"
    assert sum(box.layout.display is None for box in view._boxes.values()) == 10
