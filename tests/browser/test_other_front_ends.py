"""The same small notebook in Notebook 7 and in voila: live where somebody watches, and the picture at the end."""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import free_port, own_environment
from .panel_page import PICTURE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WATCHED = "from scripted_run import ScriptedRun, story\nfrom fl_kit import watch\n"
LIVE = f"{WATCHED}run = watch(ScriptedRun(story(silos=3, rounds=40), delay=0.02))"
PICKED = """
from fl_kit import Federation, Silo, SiloPicker
picker = SiloPicker(Federation(silos=tuple(Silo(name=name, data="") for name in ("ash", "birch", "cedar"))))
picker
"""


@contextmanager
def served(module: str, home: Path, *arguments: str) -> Iterator[str]:
    """A server of the tests' own on a free port of the loopback interface: its address, while it runs."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install {module}")
    port, log = free_port(), home / "server.log"
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"] if module == "notebook" else [f"--port={port}"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", module, "--no-browser", *options, *arguments],
            cwd=home, env=own_environment(home / "own"), stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        answered(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def answered(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/static/favicons/favicon.ico", timeout=30).close()
        except urllib.error.HTTPError:
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"the server did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def write(folder: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "small.ipynb")
    return folder / "small.ipynb"


def shoot(page: Any, name: str) -> None:
    if folder := os.environ.get("FL_KIT_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_notebook_7_shows_the_curve_grow_and_keeps_its_picture(page: Any, chromium: str, tmp_path: Path) -> None:
    path, token = write(tmp_path, LIVE), secrets.token_hex(16)
    options = [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp_path}"]
    seen = "--JupyterNotebookApp.expose_app_in_browser=True"
    with served("notebook", tmp_path, "--allow-root", *options, seen) as url:
        page.goto(f"{url}/notebooks/small.ipynb?token={token}")
        page.wait_for_function(
            """() => {
              const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
              return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
            }"""
        )
        page.evaluate("() => { void window.jupyterapp.commands.execute('notebook:run-all-cells'); }")
        page.locator(PICTURE).wait_for()
        frames = set()
        while len(frames) < 3 and page.locator(PICTURE).count():
            frames |= set(page.eval_on_selector_all(PICTURE, "nodes => nodes.map(node => node.outerHTML)"))
        assert len(frames) >= 3
        page.locator(".jp-OutputArea-output img").wait_for()
        shoot(page, "notebook_7")
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save(); }")
    (output,) = nbformat.read(path, as_version=4).cells[0].outputs
    assert set(output.data) == {"image/svg+xml", "image/png", "text/plain"}


def test_voila_shows_the_picture_and_a_picker_that_can_be_clicked(page: Any, chromium: str, tmp_path: Path) -> None:
    path = write(tmp_path, LIVE, PICKED)
    with served("voila", tmp_path, str(path)) as url:
        page.goto(url)
        page.locator("img[src^='data:image']").first.wait_for()
        page.locator(".widget-checkbox", has_text="birch").locator("input").click()
        page.get_by_text("2 of 3 silos").wait_for()
        shoot(page, "voila")
