"""A JupyterLab of the tests' own, and a headless Chromium that opens notebooks in it.

The lab listens on a free port of the loopback interface and keeps its settings, workspaces, runtime
files and notebooks in a temporary folder: nothing of the user's own Jupyter is read or written.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "tests" / "fl_kit" / "chart"
"""Where notebooks find the scripted run."""

CHROMIUM = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# No news, no question about updates, no saving but the test's own.
QUIET = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A running JupyterLab: where it listens, its token, and the folder of its notebooks."""

    url: str
    token: str = field(repr=False)
    folder: Path

    def request(self, method: str, path: str) -> Any:
        """The JSON answer of the server's REST interface, or None for an empty one."""
        request = urllib.request.Request(f"{self.url}/{path}", method=method)
        request.add_header("Authorization", f"token {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def write(self, name: str, *sources: str) -> Path:
        """A new notebook with these code cells; gives its path."""
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def read(self, name: str) -> nbformat.NotebookNode:
        return nbformat.read(self.folder / name, as_version=4)

    def end_kernels(self) -> None:
        """End every session, so that no kernel outlives its test."""
        for session in self.request("GET", "api/sessions"):
            self.request("DELETE", f"api/sessions/{session['id']}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def own_environment(home: Path) -> dict[str, str]:
    """The environment of a Jupyter that sees nothing of the user's; kernels import fl_kit from this tree."""
    settings = home / "lab" / "settings"
    settings.mkdir(parents=True)
    (settings / "overrides.json").write_text(json.dumps(QUIET), encoding="utf-8")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "FL_KIT"))}
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
    }
    lab = {f"JUPYTERLAB_{name.upper()}_DIR": str(home / "lab" / name) for name in ("settings", "workspaces")}
    paths = os.pathsep.join([str(ROOT), str(SCRIPTS)])
    return {**kept, **folders, **lab, "PYTHONPATH": paths, "JUPYTER_PREFER_ENV_PATH": "1"}


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium; the test is skipped where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A JupyterLab for the whole session; it and its kernels end with it."""
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    port, token = free_port(), secrets.token_hex(16)
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}"),
        *("--LabApp.expose_app_in_browser=True", f"--LabApp.app_settings_dir={home / 'lab' / 'settings'}"),
        *(f"--LabApp.user_settings_dir={home / 'user'}", f"--LabApp.workspaces_dir={home / 'lab' / 'workspaces'}"),
    ]
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=own_environment(home), stdout=log, stderr=log, start_new_session=True
        )
    running = Lab(url=f"http://127.0.0.1:{port}", token=token, folder=folder)
    try:
        wait_for(running, server, home / "lab.log")
        yield running
        running.end_kernels()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)


def wait_for(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end and server.poll() is None:
        try:
            lab.request("GET", "api/status")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


@pytest.fixture(scope="session")
def browser(chromium: str) -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
        yield browser
        browser.close()


@dataclass(frozen=True, kw_only=True)
class LabPage:
    """A page of the browser with one notebook of the lab open; `page` is playwright's."""

    lab: Lab
    page: "Page"

    def open(self, name: str, theme: str = LIGHT) -> None:
        """Open a notebook alone on the page, and wait until its kernel is there and idle.

        "Run all" before that is dropped without a word.
        """
        workspace = f"auto-{secrets.token_hex(4)}"
        self.page.goto(f"{self.lab.url}/lab/workspaces/{workspace}/tree/{name}?token={self.lab.token}")
        self.page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext")
        self.page.wait_for_function(
            """() => {
              const context = window.jupyterapp.shell.currentWidget.sessionContext;
              const kernel = context.session?.kernel;
              return context.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
            }"""
        )
        self.use_theme(theme)
        self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")

    def open_without_kernel(self, name: str) -> "Page":
        """Open a notebook alone on the page, as a reader who starts nothing; gives the page."""
        self.page.goto(f"{self.lab.url}/lab/workspaces/auto-{secrets.token_hex(4)}?token={self.lab.token}")
        self.page.wait_for_function("() => window.jupyterapp?.commands.hasCommand('docmanager:open')")
        self.page.evaluate("async () => { await window.jupyterapp.restored; }")
        nobody = {"shouldStart": False, "canStart": False, "autoStartDefault": False}
        self.command("docmanager:open", {"path": name, "factory": "Notebook", "kernelPreference": nobody})
        self.page.locator(".jp-Notebook").wait_for()
        return self.page

    def use_theme(self, theme: str) -> None:
        self.command("apputils:change-theme", {"theme": theme})
        light = "true" if theme == LIGHT else "false"
        self.page.wait_for_function("light => document.body.dataset.jpThemeLight === light", arg=light)
        self.page.wait_for_selector("#jupyterlab-splash", state="detached")

    def command(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Call one of JupyterLab's commands; not awaited, since some end only when a dialog does."""
        call = "([name, args]) => { void window.jupyterapp.commands.execute(name, args); }"
        self.page.evaluate(call, [name, arguments or {}])

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def wait_until_idle(self) -> None:
        """Wait until nothing runs any more and no cell waits."""
        self.page.wait_for_function(
            """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'
                 && ![...document.querySelectorAll('.jp-InputPrompt')].some(e => e.textContent.includes('[*]'))"""
        )

    def outputs(self, kind: str = "") -> list[str]:
        """The HTML of every output on the page, or of what in it matches a selector."""
        selector = f".jp-OutputArea-output {kind}".strip()
        return list(self.page.eval_on_selector_all(selector, "nodes => nodes.map(node => node.outerHTML)"))

    def shoot(self, name: str) -> None:
        """A screenshot for people, where FL_KIT_SCREENSHOTS names a folder."""
        if folder := os.environ.get("FL_KIT_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def save(self) -> None:
        """Save the notebook and wait until the file is written."""
        self.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save(); }")


@pytest.fixture
def lab_page(lab: Lab, browser: "Browser") -> Iterator[LabPage]:
    """A fresh page of 1200 × 1000 pixels; the test's kernels end with it."""
    context = browser.new_context(viewport={"width": 1200, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield LabPage(lab=lab, page=page)
    context.close()
    lab.end_kernels()
