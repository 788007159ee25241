"""RunPanel in a real JupyterLab: live while other cells run, stopped by its button, found again when saved."""

import re
import subprocess
import sys
from typing import Any

import pytest

from .panel_page import PICTURE, frames, overlaps, press, stop

pytestmark = pytest.mark.browser

SETUP = "from scripted_run import ScriptedRun, story\nfrom fl_kit import RunPanel\n"


def open_panel(lab_page: Any, name: str, run: str, *cells: str, panel: str = "RunPanel(run)", **theme: str) -> Any:
    lab_page.lab.write(name, f"{SETUP}run = {run}", f"panel = {panel}\npanel", *cells)
    lab_page.open(name, **theme)
    lab_page.run_all()
    lab_page.page.locator(PICTURE).wait_for()
    return lab_page.page


def run_cell(lab_page: Any, index: int) -> None:
    lab_page.page.evaluate("i => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = i; }", index)
    lab_page.command("notebook:run-cell")


LONG = "ScriptedRun(story(silos=4, rounds=400, fails=(1, 9)), delay=0.01)"
REAL = """
from pathlib import Path
from fl_kit import FedAvg, Job, RunPanel
from sim.in_process import InProcess
from tests.tasks import LINEAR, random_rows, silos
here = Path("real")
"""
START = """
rows = {name: random_rows(count, 4, count) for name, count in (("ash", 400), ("birch", 900), ("cedar", 300))}
federation = silos(here / "silos", **rows)
job = Job(task=LINEAR, strategy=FedAvg(lr=0.001, batch_size=8), rounds=2000, device="cpu")
run = job.run(federation, on=InProcess(folder=here / "runs"))
panel = RunPanel(run, log=True)
panel
"""
AGAIN = """
(folder,) = (path.parent for path in (here / "runs").glob("*/job.json"))
again = InProcess(folder=here / "runs").resume(folder.name)
RunPanel(again, target={"loss": 0.5})
"""


def test_a_real_run_is_stopped_by_the_button_and_found_again(lab_page: Any) -> None:
    lab_page.lab.write("real.ipynb", REAL, START, "print('meanwhile', run.status)")
    lab_page.open("real.ipynb")
    lab_page.run_all()
    page = lab_page.page
    page.get_by_text("meanwhile running").wait_for()
    assert len(frames(page, 3)) >= 3
    run_cell(lab_page, 2)
    page.get_by_text("meanwhile running").wait_for()

    stop(page)
    page.locator(".jp-OutputArea-output img").wait_for()
    run_cell(lab_page, 2)
    page.get_by_text("meanwhile stopped").wait_for()
    assert page.locator(PICTURE).count() == 0
    lab_page.wait_until_idle()
    lab_page.save()
    (output,) = lab_page.lab.read("real.ipynb").cells[1].outputs
    assert set(output.data) == {"image/svg+xml", "image/png", "text/plain"}
    done = int(re.search(r"stopped after (\d+) of 2000 rounds", output.data["image/svg+xml"])[1])  # type: ignore[index]
    assert 1 <= done < 2000
    lab_page.lab.end_kernels()

    lab_page.lab.write("again.ipynb", REAL, AGAIN, "again.stop(); _ = again.wait()")
    lab_page.open("again.ipynb")
    lab_page.run_all()
    page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.save()
    (output,) = lab_page.lab.read("again.ipynb").cells[1].outputs
    assert set(output.data) == {"image/svg+xml", "image/png", "text/plain"}
    more = int(re.search(r"stopped after (\d+) of 2000 rounds", output.data["image/svg+xml"])[1])  # type: ignore[index]
    assert more >= done
    assert "target 0.500" in output.data["image/svg+xml"]


def test_choosing_what_is_drawn_while_it_goes_on(lab_page: Any) -> None:
    page = open_panel(lab_page, "panel.ipynb", LONG, "print('meanwhile', run.status)")
    page.get_by_text("meanwhile running").wait_for()
    frames(page, 3)
    assert overlaps(page) == []
    lab_page.shoot("panel_light")
    press(page, "log scale")
    page.wait_for_function("s => document.querySelector(s).textContent.includes('0.2')", arg=PICTURE)
    told = [text.replace("\u00a0", " ") for text in page.locator(".widget-dropdown option").all_inner_texts()]
    assert told == ["loss and auc", "loss", "auc"]
    page.locator(".widget-dropdown select").select_option("auc")
    page.wait_for_function("s => !document.querySelector(s).textContent.includes('loss')", arg=PICTURE)
    frames(page, 3)
    assert page.locator(".widget-dropdown select").input_value() == "auc"
    assert overlaps(page) == []
    lab_page.shoot("panel_auc_log")
    bar = page.locator(".jp-OutputArea-output [role=progressbar]")
    assert int(bar.get_attribute("aria-valuenow")) > 0
    assert "% done" in page.locator(".jp-OutputArea-output [role=status]").inner_text()

    stop(page)
    page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.shoot("panel_stopped")


def test_the_saved_picture_needs_no_kernel(lab_page: Any) -> None:
    page = open_panel(lab_page, "saved.ipynb", "ScriptedRun(story(silos=4, rounds=40), delay=0.005)")
    page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.save()
    saved = lab_page.lab.read("saved.ipynb")
    (output,) = saved.cells[1].outputs
    assert set(output.data) == {"image/svg+xml", "image/png", "text/plain"}
    assert (lab_page.lab.folder / "saved.ipynb").stat().st_size < 250_000
    lab_page.lab.end_kernels()

    html = lab_page.lab.folder / "saved.html"
    command = [sys.executable, "-m", "nbconvert", "--to", "html", "--output", html.name, "saved.ipynb"]
    subprocess.run(command, cwd=lab_page.lab.folder, check=True, capture_output=True, timeout=120)
    page.route("http*://**", lambda route: route.abort())  # a page that reaches nothing
    page.goto(html.as_uri())
    shown = page.locator(".jp-OutputArea-output svg[role=img], .jp-OutputArea-output img").first
    shown.wait_for()
    box = shown.bounding_box()
    assert box["width"] > 500
    assert "model not found" not in page.content()
    lab_page.shoot("panel_without_a_kernel")


def test_a_hundred_silos_in_the_dark(lab_page: Any) -> None:
    run = "ScriptedRun(story(silos=100, rounds=60), delay=0.0005)"
    page = open_panel(lab_page, "hundred.ipynb", run, theme="JupyterLab Dark")
    assert len(frames(page, 5)) >= 5
    assert overlaps(page) == []
    lab_page.shoot("panel_100_dark")
    page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.shoot("panel_100_dark_end")


def test_what_the_run_raises_is_told_and_surfaces_where_somebody_waits(lab_page: Any) -> None:
    setup = f"{SETUP}from fl_kit.errors import QuorumLost\nfrom fl_kit.events import RUN_FAILED\n"
    start = (
        "run = ScriptedRun(story(rounds=9, ending=RUN_FAILED, reason='1 of 3 silos'), delay=0.01,"
        " status='failed', error=QuorumLost('1 of 3 silos'))\npanel = RunPanel(run)\npanel"
    )
    lab_page.lab.write("failed.ipynb", setup + start, "panel.wait()", "print('not' + ' reached')")
    lab_page.open("failed.ipynb")
    lab_page.run_all()
    lab_page.page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.wait_until_idle()
    lab_page.shoot("panel_failed")
    lab_page.save()
    first, second, third = lab_page.lab.read("failed.ipynb").cells
    (picture,) = first.outputs
    assert "failed: 1 of 3 silos" in picture.data["image/svg+xml"]
    assert [(output.output_type, output.get("ename")) for output in second.outputs] == [("error", "QuorumLost")]
    assert third.outputs == []


def test_a_cell_that_awaits_the_panel_leaves_its_buttons_alive(lab_page: Any) -> None:
    page = open_panel(lab_page, "await.ipynb", LONG, "(await panel).status")
    frames(page, 3)
    press(page, "Stop")
    page.get_by_text("'stopped'").wait_for(timeout=3_000)


def test_an_interrupted_wait_leaves_a_picture_and_halts_run_all(lab_page: Any) -> None:
    page = open_panel(lab_page, "interrupt_panel.ipynb", LONG, "panel.wait()", "print('not' + ' reached')")
    frames(page, 3)
    lab_page.command("notebook:interrupt-kernel")
    page.get_by_text("Stopped: run scripted was stopped on request").wait_for()
    page.locator(".jp-OutputArea-output img").wait_for()
    lab_page.wait_until_idle()
    lab_page.save()
    cells = lab_page.lab.read("interrupt_panel.ipynb").cells
    assert [output.output_type for output in cells[1].outputs] == ["display_data"]
    assert "stopped after" in cells[1].outputs[0].data["image/svg+xml"]
    assert cells[3].outputs == []


def test_a_page_loaded_again_keeps_the_panel_and_its_button(lab_page: Any) -> None:
    page = open_panel(lab_page, "reload_panel.ipynb", LONG, "print('meanwhile', run.status)")
    page.get_by_text("meanwhile running").wait_for()
    lab_page.save()
    page.reload()
    lab_page.open("reload_panel.ipynb")
    page.locator(PICTURE).wait_for()
    frames(page, 3)
    press(page, "Stop")
    page.wait_for_function("s => document.querySelector(s).textContent.includes('stopped after')", arg=PICTURE)
