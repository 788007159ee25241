"""The demo as a command: run a notebook, keep it, its pictures and a web page, and say the verdict.

python -m sim.demo notebooks/00_first_federation.ipynb build/demo
"""

import argparse
import base64
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_kit.errors import FlKitError

VERDICT = "verdict"
"""The tag of the cell whose last line of text is the demo's result."""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What a demo leaves: the executed notebook, its pictures, the page, and the verdict's sentence."""

    notebook: Path
    pictures: tuple[Path, ...]
    page: Path
    verdict: str


def run(source: Path, folder: Path) -> Demo:
    """Execute `source` in its own folder and write the results into `folder`, which is made.

    Raises FlKitError if a cell fails, or if there is no picture or no verdict to show; the notebook
    as far as it came is in `folder` all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / source.name
    cells = execute(source, executed)
    demo = Demo(
        notebook=executed,
        pictures=save_pictures(cells, executed),
        page=executed.with_suffix(".html"),
        verdict=verdict(cells, executed),
    )
    demo.page.write_text(as_page(executed), encoding="utf-8")
    return demo


def execute(source: Path, executed: Path) -> list[Any]:
    """Run a notebook with the interpreter's own kernel; its cells, outputs included."""
    import papermill
    from traitlets.config import Config

    encrypted = Config(KernelManager={"transport_encryption": "auto"})  # a kernel warns where it is not
    try:
        done = papermill.execute_notebook(source, executed, cwd=source.parent, kernel_name="python3", config=encrypted)
    except papermill.PapermillExecutionError as error:
        raise FlKitError(f"a cell of {source} failed; see {executed}\n{error}") from error
    return list(done.cells)


def save_pictures(cells: list[Any], executed: Path) -> tuple[Path, ...]:
    """Each cell's PNG as a file named by the cell's id, beside the notebook; raises FlKitError if there is none."""
    saved: dict[Path, None] = {}
    for cell in cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                path = executed.with_name(f"{cell['id']}.png")
                path.write_bytes(base64.b64decode(output["data"]["image/png"]))
                saved[path] = None
    if not saved:
        raise FlKitError(f"{executed} shows no picture (image/png)")
    return tuple(saved)


def verdict(cells: list[Any], executed: Path) -> str:
    """The last line of text under the cell tagged `verdict`; raises FlKitError if there is none."""
    outputs = [
        output
        for cell in cells
        if VERDICT in cell.get("metadata", {}).get("tags", [])
        for output in cell.get("outputs", [])
    ]
    for output in reversed(outputs):
        text: str = output.get("text") or output.get("data", {}).get("text/plain", "")
        if text.strip():
            return text.strip().splitlines()[-1].strip()
    raise FlKitError(f"{executed} has no cell tagged {VERDICT!r} that says something")


def as_page(executed: Path) -> str:
    """The executed notebook as one HTML page."""
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_filename(str(executed))  # type: ignore[no-untyped-call] # nbconvert has none
    return str(page)


def main(arguments: list[str] | None = None) -> None:
    """Run the demo that the command line names and print where its results are."""
    parser = argparse.ArgumentParser(prog="python -m sim.demo", description="Run a notebook and show its result.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args(arguments)
    if not chosen.notebook.is_file():
        sys.exit(f"there is no notebook {chosen.notebook}")
    try:
        demo = run(chosen.notebook, chosen.folder)
    except FlKitError as error:
        sys.exit(str(error))
    pictures = ", ".join(map(str, demo.pictures))
    print(f"notebook  {demo.notebook}\nweb page  {demo.page}\npictures  {pictures}\n\n{demo.verdict}")


if __name__ == "__main__":
    main()
