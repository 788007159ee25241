"""The first notebook, opened and run by a reader in a real JupyterLab."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.sample]

NOTEBOOK = "00_first_federation.ipynb"


def shoot(lab_page: Any, theme: str) -> None:
    """Screenshots of the whole notebook for people, where FL_KIT_SCREENSHOTS names a folder."""
    folder = os.environ.get("FL_KIT_SCREENSHOTS")
    if not folder:
        return
    panel = lab_page.page.locator(".jp-WindowedPanel-outer").first
    height = panel.evaluate("node => node.scrollHeight")
    for number, top in enumerate(range(0, height, 900)):
        panel.evaluate("(node, top) => { node.scrollTop = top; }", top)
        lab_page.page.wait_for_timeout(400)
        lab_page.page.screenshot(path=Path(folder) / f"first_{theme}_{number}.png")


def test_run_all_cells_and_read_the_verdict(lab_page: Any, root: Path) -> None:
    shutil.copy(root / "notebooks" / NOTEBOOK, lab_page.lab.folder / NOTEBOOK)
    lab_page.open(NOTEBOOK)
    lab_page.run_all()
    lab_page.wait_until_idle()
    shoot(lab_page, "light")
    lab_page.use_theme("JupyterLab Dark")
    shoot(lab_page, "dark")
    lab_page.save()

    cells = {cell.id: cell for cell in lab_page.lab.read(NOTEBOOK).cells}
    errors = [cell.id for cell in cells.values() for o in cell.get("outputs", []) if o.output_type == "error"]
    assert errors == []
    assert [cell.id for cell in cells.values() if cell.cell_type == "code" and cell.execution_count is None] == []
    # one picture of the run stays, with nothing in it that needs a kernel
    assert [sorted(output.data) for output in cells["run"].outputs] == [["image/png", "image/svg+xml", "text/plain"]]
    printed = "".join(output.get("text", "") for output in cells["verdict"].outputs)
    assert "beats silo-only" in printed
    assert (lab_page.lab.folder / "heart.py").read_text() == (root / "notebooks" / "heart.py").read_text()
