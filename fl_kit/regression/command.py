"""`fl-kit`, and its `notebooks`: run notebooks as regression tests, and show how a figure went over commits."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fl_kit.approval_commands import add_approval_commands
from fl_kit.errors import FlKitError, RegressionError
from fl_kit.regression.artifacts import SUMMARY, figures, write_artifacts
from fl_kit.regression.bands import Way
from fl_kit.regression.outcome import Outcome
from fl_kit.regression.proposal import diff, propose
from fl_kit.regression.running import find_notebooks, try_all, ways
from fl_kit.regression.trend import commit_of, keep, trend

PASSED, FAILED, MISUSED = 0, 1, 2
"""Exit codes: every notebook passed; one failed or broke a band; the call or the bands file is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; gives its exit code."""
    asked = parser().parse_args(arguments)
    try:
        return int(asked.work(asked))
    except FlKitError as error:
        print(f"fl-kit: {error}", file=sys.stderr)
        return MISUSED


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="fl-kit", description="Cross-silo federated learning from a notebook.")
    parts = top.add_subparsers(required=True)
    add_approval_commands(parts)
    notebooks = parts.add_parser("notebooks", help="notebooks as regression tests")
    commands = notebooks.add_subparsers(required=True)

    run = commands.add_parser("run", help="execute notebooks and hold what they record against bands.toml")
    run.add_argument("places", nargs="+", type=Path, metavar="FOLDER", help="folders with notebooks, or notebooks")
    run.add_argument("--quick", action="store_true", help="with the parameters and bands of the quick run")
    run.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="so many at a time (default 1)")
    run.add_argument("--artifacts", type=Path, default=Path("notebook-artifacts"), metavar="FOLDER",
                     help="where executed notebooks, pages, junit.xml and summary.md go")  # fmt: skip
    run.add_argument("--track", metavar="URI", help="keep the recorded figures in this MLflow store")
    run.add_argument("--update", action="store_true", help="propose new bands as a diff, and change nothing")
    run.add_argument(
        "--seeds",
        type=at_least_one,
        default=5,
        metavar="N",
        help="seeds for --update (default 5); 1: the notebook's own",
    )
    run.set_defaults(work=run_notebooks)

    history = commands.add_parser("history", help="a recorded figure over commits")
    history.add_argument("notebook")
    history.add_argument("figure")
    history.add_argument("--track", required=True, metavar="URI", help="the MLflow store of earlier runs")
    history.add_argument("--quick", action="store_true", help="of quick runs")
    history.add_argument("--picture", type=Path, metavar="FILE", help="draw it, as .png, .svg or .pdf")
    history.set_defaults(work=show_history)
    return top


def run_notebooks(asked: argparse.Namespace) -> int:
    from tqdm import tqdm

    mode = "quick" if asked.quick else "full"
    found = ways(find_notebooks(asked.places), mode)
    if asked.update:
        found = {path: for_update(path, way, asked.seeds) for path, way in found.items()}
    outcomes = []
    total = sum(max(len(way.seeds), 1) for way in found.values())
    with tqdm(total=total, unit="notebook", disable=not sys.stderr.isatty()) as progress:
        for outcome in try_all(found, asked.artifacts, jobs=asked.jobs, tell=lambda _: progress.update()):
            outcomes.append(outcome)
            progress.write(line(outcome, judged=not asked.update))
    outcomes.sort(key=lambda outcome: outcome.notebook)
    if asked.update:
        return show_proposal(found, outcomes, mode)
    write_artifacts(outcomes, asked.artifacts)
    if asked.track:
        keep(outcomes, mode, asked.track, commit_of(next(iter(found)).parent))
    print(f"{sum(o.passed for o in outcomes)} of {len(outcomes)} notebooks passed; see {asked.artifacts / SUMMARY}")
    return PASSED if all(outcome.passed for outcome in outcomes) else FAILED


def for_update(notebook: Path, way: Way, count: int) -> Way:
    """The same way without judgement, over so many seeds where the notebook has a parameter `seed`.

    A single seed shows no spread: the notebook's own is taken then, and an old band keeps its tolerance.
    """
    from papermill import inspect_notebook

    seeded = count > 1 and "seed" in inspect_notebook(str(notebook))
    return replace(way, seeds=tuple(range(count)) if seeded else ())


def line(outcome: Outcome, *, judged: bool) -> str:
    """An outcome for the terminal."""
    ran = [fault for execution in outcome.executions if (fault := execution.fault)]
    faults = outcome.faults if judged else tuple(ran)
    head = f"{'✗' if faults else '✓'} {outcome.notebook}  {outcome.seconds:.0f} s  {figures(outcome)}".rstrip()
    return "\n".join([head, *(f"    {fault}" for fault in faults)])


def show_proposal(found: dict[Path, Way], outcomes: Sequence[Outcome], mode: str) -> int:
    ran = [outcome for outcome in outcomes if outcome.figures]
    for folder in sorted({path.parent for path in found}):
        names = {path.stem for path in found if path.parent == folder}
        changed = diff(folder, mode, {o.notebook: propose(o) for o in ran if o.notebook in names})
        print(changed or f"{folder}: the bands are as they would be proposed")
    return PASSED if len(ran) == len(outcomes) else FAILED


def show_history(asked: argparse.Namespace) -> int:
    found = trend(asked.notebook, asked.figure, "quick" if asked.quick else "full", asked.track)
    print(found)
    if asked.picture is not None:
        try:
            found.plot().savefig(asked.picture, dpi=200)
        except (OSError, ValueError) as error:
            raise RegressionError(f"the picture {asked.picture} cannot be written: {error}") from error
    return PASSED


def at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value
