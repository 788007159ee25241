"""The silo picker in a real JupyterLab: the mouse, the keyboard, the filter, 500 silos, and the saved notebook."""

from typing import Any

import pytest

pytestmark = pytest.mark.browser

SETUP = """
from fl_kit import Federation, Silo, SiloFacts, SiloPicker
regions = ("westeurope", "northeurope", "eastus", "southeastasia")
def make(count):
    silos = tuple(
        Silo(
            name=f"hospital-{i:03d}", data="", region=regions[i % 4], compute=f"cpu-{i:03d}", datastore=f"store_{i:03d}"
        )
        for i in range(count)
    )
    facts = {
        silo.name: SiloFacts(
            rows=400 + 37 * i, labels={"ill": 100 + 30 * (i % 5), "well": 300, "unsure": 10 * (i % 3)}, status="ready",
            seen="2 min ago", price=0.25,
        )
        for i, silo in enumerate(silos)
    }
    facts["hospital-005"] = SiloFacts(rows=612, reason="compute cpu-005 is stopped")
    return Federation(silos=silos), facts
"""
DEFINE = """
federation, facts = make({count})
picker = SiloPicker(federation, facts=facts)
picker
"""


def open_picker(lab_page: Any, name: str, count: int) -> Any:
    lab_page.lab.write(name, SETUP, DEFINE.format(count=count), "print(len(picker.federation), picker.names[:3])")
    lab_page.open(name)
    lab_page.run_all()
    lab_page.page.locator("[role=status]").wait_for()
    lab_page.wait_until_idle()
    return lab_page.page


def boxes(page: Any) -> Any:
    return page.locator(".jp-OutputArea-output input[type=checkbox]")


def status(page: Any) -> str:
    return str(page.locator("[role=status]").inner_text())


def press(page: Any, name: str) -> None:
    page.locator(".jp-OutputArea-output button.widget-button", has_text=name).click()


def told(page: Any, start: str) -> None:
    page.wait_for_function(
        "start => document.querySelector('[role=status]').innerText.startsWith(start)", arg=start, timeout=10_000
    )


def test_choosing_with_mouse_and_keyboard(lab_page: Any) -> None:
    page = open_picker(lab_page, "picker.ipynb", 12)
    assert status(page).startswith("11 of 12 silos · ")
    assert boxes(page).count() == 12
    assert boxes(page).nth(5).is_disabled()
    lab_page.shoot("picker_light")

    boxes(page).nth(0).click()
    told(page, "10 of 12 silos")
    boxes(page).nth(1).focus()
    page.keyboard.press("Space")
    told(page, "9 of 12 silos")
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement === document.querySelectorAll('input[type=checkbox]')[2]")

    press(page, "none")
    told(page, "0 of 12 silos")
    page.get_by_placeholder("filter by name, region").fill("northeurope")
    told(page, "0 of 12 silos")
    press(page, "all")
    told(page, "2 of 12 silos")  # of three in that region one cannot take part
    page.get_by_placeholder("filter by name, region").fill("")
    page.locator(".jp-OutputArea-output select").select_option("eastus")
    told(page, "3 of 12 silos")
    lab_page.use_theme("JupyterLab Dark")
    lab_page.shoot("picker_dark")

    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 2; }")
    lab_page.command("notebook:run-cell")
    page.get_by_text("3 ('hospital-002', 'hospital-006', 'hospital-010')").wait_for()


def test_a_row_is_in_step_with_its_heading_and_read_as_one(lab_page: Any) -> None:
    page = open_picker(lab_page, "picker_layout.ipynb", 12)
    lefts = page.evaluate(
        """() => {
          const fixed = [...document.querySelectorAll('.jp-OutputArea-output span')]
            .filter(s => s.style.width && s.style.paddingRight)
            .map(s => Math.round(s.getBoundingClientRect().left));
          return [fixed.slice(0, 9), fixed.slice(9, 18)];
        }"""
    )
    assert len(lefts[0]) == len(lefts[1]) == 9
    assert all(abs(a - b) <= 4 for a, b in zip(*lefts, strict=True)), lefts
    name = page.locator(".widget-checkbox").first.inner_text()
    assert "hospital-000" in name
    assert "westeurope" in name


def test_500_silos_are_filtered_at_once(lab_page: Any) -> None:
    page = open_picker(lab_page, "picker_500.ipynb", 500)
    assert boxes(page).count() == 500
    page.get_by_placeholder("filter by name, region").fill("hospital-49")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.widget-checkbox')].filter(b => b.offsetParent).length === 10",
        timeout=10_000,
    )
    assert "490 hidden by the filter" in status(page)
    lab_page.shoot("picker_500")


def test_the_saved_notebook_has_the_choice_as_a_table(lab_page: Any) -> None:
    open_picker(lab_page, "picker_saved.ipynb", 12)
    lab_page.save()
    (output,) = lab_page.lab.read("picker_saved.ipynb").cells[1].outputs
    assert "hospital-011" in output.data["text/html"]
    assert "11 of 12 silos" in output.data["text/plain"]
