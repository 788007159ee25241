"""What a tested set of notebooks leaves behind: JUnit XML, a Markdown summary, pages and last pictures."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fl_kit.regression.execution import read_cells
from fl_kit.regression.outcome import Outcome

SUMMARY, JUNIT = "summary.md", "junit.xml"


def write_artifacts(outcomes: Sequence[Outcome], folder: Path) -> None:
    """Write everything into a folder, beside the executed notebooks."""
    for outcome in outcomes:
        for execution in outcome.executions:
            if execution.notebook.is_file():
                write_page(execution.notebook)
        if not outcome.passed:
            write_last_picture(outcome)
    (folder / SUMMARY).write_text(summary(outcomes), encoding="utf-8")
    ET.ElementTree(junit(outcomes)).write(folder / JUNIT, encoding="utf-8", xml_declaration=True)


def write_page(notebook: Path) -> None:
    """The executed notebook as HTML, where nbconvert is installed."""
    try:
        from nbconvert import HTMLExporter
    except ImportError:
        return
    page, _ = HTMLExporter().from_filename(str(notebook))  # type: ignore[no-untyped-call]  # nbconvert leaves it untyped
    notebook.with_suffix(".html").write_text(page, encoding="utf-8")


def write_last_picture(outcome: Outcome) -> Path | None:
    """The last picture that a failed notebook drew, as `<name>.png`."""
    for execution in reversed(outcome.executions):
        if execution.notebook.is_file() and (picture := last_picture(execution.notebook)):
            place = execution.notebook.with_suffix(".png")
            place.write_bytes(picture)
            return place
    return None


def last_picture(notebook: Path) -> bytes | None:
    """The last PNG among a notebook's outputs."""
    outputs = [output for cell in read_cells(notebook) for output in cell.get("outputs", [])]
    found = [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    return base64.b64decode("".join(found[-1])) if found else None


def summary(outcomes: Sequence[Outcome]) -> str:
    """A short text for a pull request: one line for each notebook, then what broke."""
    failed = [outcome for outcome in outcomes if not outcome.passed]
    title = f"{len(failed)} of {len(outcomes)} notebooks failed" if failed else f"all {len(outcomes)} notebooks passed"
    lines = [f"### Notebooks: {title}", "", "| notebook | | seconds | figures |", "|---|---|--:|---|"]
    lines += [f"| {o.notebook} | {'✓' if o.passed else '✗'} | {o.seconds:.0f} | {figures(o)} |" for o in outcomes]
    for outcome in failed:
        lines += ["", f"**{outcome.notebook}**", *(f"* {fault}" for fault in outcome.faults)]
        last = next((e.notebook for e in reversed(outcome.executions)), None)
        if last is not None and last.with_suffix(".png").is_file():
            lines.append(f"\n![the last picture]({last.with_suffix('.png').name})")
    return "\n".join(lines) + "\n"


def figures(outcome: Outcome) -> str:
    """Each figure with its band, if it has one."""
    return ", ".join(
        f"{name} {value:.4g}" + (f" ({outcome.bands[name]})" if name in outcome.bands else "")
        for name, value in outcome.figures.items()
    )


def junit(outcomes: Sequence[Outcome]) -> Any:
    """One test case for each notebook, as CI systems read it."""
    failed = sum(not outcome.passed for outcome in outcomes)
    suite = ET.Element("testsuite", name="notebooks", tests=str(len(outcomes)), failures=str(failed), errors="0")
    for outcome in outcomes:
        case = ET.SubElement(
            suite, "testcase", classname="notebooks", name=outcome.notebook, time=f"{outcome.seconds:.3f}"
        )
        if not outcome.passed:
            failure = ET.SubElement(case, "failure", message=outcome.faults[0])
            failure.text = "\n".join(outcome.faults)
    return suite
