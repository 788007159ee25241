"""The first notebook, opened and run by a reader in a real JupyterLab."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .panel_page import PICTURE, frames, overlaps, stop

pytestmark = [pytest.mark.browser, pytest.mark.sample]

NOTEBOOK = "00_first_federation.ipynb"


def shoot(lab_page: Any, theme: str) -> None:
    """Screenshots of the whole notebook for people, where FL_KIT_SCREENSHOTS names a folder."""
    folder = os.environ.get("FL_KIT_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    panel = lab_page.page.locator(".jp-WindowedPanel-outer").first
    height = panel.evaluate("node => node.scrollHeight")
    for number, top in enumerate(range(0, height, 900)):
        panel.evaluate("(node, top) => { node.scrollTop = top; }", top)
        lab_page.page.wait_for_timeout(400)
        lab_page.page.screenshot(path=Path(folder) / f"first_{theme}_{number}.png")


def opened(lab_page: Any, root: Path, name: str, **parameters: int) -> Any:
    """The first notebook as a file of that name, with some parameters set as a reader would: in their cell."""
    shutil.copy(root / "notebooks" / "heart.py", lab_page.lab.folder)
    notebook = nbformat.read(root / "notebooks" / NOTEBOOK, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.id == "parameters")
    for parameter, value in parameters.items():
        cell.source, found = re.subn(rf"^{parameter} = \d+", f"{parameter} = {value}", cell.source, flags=re.MULTILINE)
        assert found == 1
    nbformat.write(notebook, lab_page.lab.folder / name)
    lab_page.open(name)
    return lab_page.page


def cells_of(lab_page: Any, name: str) -> dict[str, Any]:
    """Cell id → cell of the saved notebook; none of them shows an error."""
    lab_page.save()
    cells = {cell.id: cell for cell in lab_page.lab.read(name).cells}
    errors = [cell.id for cell in cells.values() for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    return cells


def go_to(lab_page: Any, name: str, cell: str) -> None:
    """Make a cell the active one, and show it."""
    ids = [each.id for each in lab_page.lab.read(name).cells]
    lab_page.page.evaluate(
        "i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", ids.index(cell)
    )
    lab_page.command("notebook:scroll-cell-center")


def bring(page: Any, source: str) -> None:
    """Scroll to the cell with that source, in one call: what is live is replaced at every frame."""
    page.wait_for_function(
        """source => {
          const cell = [...document.querySelectorAll('.jp-CodeCell')].find(e => e.textContent.includes(source));
          cell?.scrollIntoView();
          return Boolean(cell);
        }""",
        arg=source,
    )


def test_run_all_cells_and_read_the_verdict(lab_page: Any, root: Path) -> None:
    opened(lab_page, root, NOTEBOOK, comparisons=2)
    lab_page.run_all()
    lab_page.page.set_default_timeout(180_000)  # a notebook as a whole, maybe on a busy machine
    lab_page.wait_until_idle()
    shoot(lab_page, "light")
    lab_page.use_theme("JupyterLab Dark")
    shoot(lab_page, "dark")

    cells = cells_of(lab_page, NOTEBOOK)
    assert [cell.id for cell in cells.values() if cell.cell_type == "code" and cell.execution_count is None] == []
    # one picture of the run stays, with nothing in it that needs a kernel
    assert [sorted(output.data) for output in cells["run"].outputs] == [["image/png", "image/svg+xml", "text/plain"]]
    printed = "".join(output.get("text", "") for output in cells["verdict"].outputs)
    assert re.match(r"Federated auc 0\.\d+ .* silo-only 0\.", printed)
    assert (lab_page.lab.folder / "heart.py").read_text() == (root / "notebooks" / "heart.py").read_text()


def test_untick_a_silo_start_stop_save_and_find_the_picture_again(lab_page: Any, root: Path) -> None:
    name = "choose_and_stop.ipynb"
    page = opened(lab_page, root, name, rounds=5000)
    go_to(lab_page, name, "review")
    lab_page.command("notebook:run-all-above")
    page.locator(".widget-checkbox", has_text="switzerland").wait_for()
    lab_page.wait_until_idle()
    go_to(lab_page, name, "picker")
    page.locator(".widget-checkbox", has_text="switzerland").locator("input").click()
    page.get_by_text(re.compile("^3 of 4 silos")).wait_for()
    lab_page.shoot("first_picker")

    go_to(lab_page, name, "run")
    lab_page.command("notebook:run-cell")
    page.locator(PICTURE).wait_for()
    assert len(frames(page, 3)) >= 3
    assert overlaps(page) == []
    bring(page, "RunPanel(")
    lab_page.shoot("first_running")
    stop(page)
    page.locator(PICTURE).wait_for(state="detached")
    lab_page.shoot("first_stopped")

    go_to(lab_page, name, "result")  # the part of a run that is done is as good as a whole one
    lab_page.command("notebook:run-cell")
    page.locator(".jp-OutputArea-output table", has_text="accuracy").wait_for()
    cells = cells_of(lab_page, name)
    (picture,) = cells["run"].outputs
    done = int(re.search(r"stopped after (\d+) of 5000 rounds", picture.data["image/svg+xml"])[1])  # type: ignore[index]
    assert 1 <= done < 5000
    assert "3 silos" in picture.data["image/svg+xml"]
    assert "switzerland" not in picture.data["image/svg+xml"]

    lab_page.lab.end_kernels()
    page = lab_page.open_without_kernel(name)
    bring(page, "RunPanel(")
    page.wait_for_function(
        """() => [...document.querySelectorAll('.jp-OutputArea-output img')].some(
             e => e.complete && e.naturalWidth > 500 && decodeURIComponent(e.src).includes('stopped after'))"""
    )
    lab_page.shoot("first_without_a_kernel")
    assert "model not found" not in page.content()
    assert lab_page.lab.request("GET", "api/sessions") == []
    bring(page, "SiloPicker(")
    lab_page.shoot("first_picker_without_a_kernel")
