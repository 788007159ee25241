"""Notebook 01 in a real JupyterLab, against a local AzureML workspace: a new user without an Azure account."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.sample, pytest.mark.slow]

NOTEBOOK = "01_same_code_on_azureml.ipynb"


def grown(lab_page: Any, least: int) -> list[str]:
    """Distinct frames of the live view, until there are `least` of them."""
    seen: list[str] = []
    end = time.monotonic() + 90
    while len(seen) < least and time.monotonic() < end:
        seen += [html for html in lab_page.outputs("svg[role=img]") if html not in seen]
        time.sleep(0.05)
    return seen


def test_the_curve_grows_and_the_bits_are_those_of_the_simulation(lab_page: Any, root: Path) -> None:
    for name in (NOTEBOOK, "heart.py"):
        shutil.copy(root / "notebooks" / name, lab_page.lab.folder / name)
    lab_page.open(NOTEBOOK)
    lab_page.run_all()
    lab_page.page.wait_for_selector(".jp-OutputArea-output svg[role=img]")
    lab_page.page.locator(".jp-OutputArea-output svg[role=img]").first.scroll_into_view_if_needed()
    assert len(grown(lab_page, least=4)) >= 4
    lab_page.shoot("azureml_running")
    lab_page.page.set_default_timeout(180_000)
    lab_page.wait_until_idle()
    lab_page.shoot("azureml_finished")
    lab_page.save()

    cells = {cell.id: cell for cell in lab_page.lab.read(NOTEBOOK).cells}
    errors = [cell.id for cell in cells.values() for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    assert [sorted(o.data) for o in cells["run"].outputs if o.output_type == "display_data"] == [
        ["image/png", "image/svg+xml", "text/plain"]
    ]
    printed = "".join(o.get("text", "") for o in cells["bits"].outputs)
    assert "6 of 6 states are equal to the last bit" in printed
    assert "heart-disease, version 1" in "".join(o.get("text", "") for o in cells["register"].outputs)
