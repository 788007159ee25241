"""Every notebook: clean when committed, and run by the project's own gate in the quick way of `notebooks/bands.toml`.

Each is executed once, and everything that is asked of it is asked of that. A few are executed again, to see whether
they say the same to the last bit; that any job does is held by the contract tests.
"""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import papermill
import pytest
import torch

from fl_kit.messages import State, Update
from fl_kit.regression.bands import Band, load_bands
from fl_kit.regression.execution import Execution
from fl_kit.regression.outcome import Outcome, outcome, try_notebook
from fl_kit.secret_scan import secrets_in
from fl_kit.task import Task

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK, FULL = (load_bands(FOLDER, mode) for mode in ("quick", "full"))
FIRST, AZUREML = "00_first_federation", "01_same_code_on_azureml"
AGAIN: dict[str, dict[str, Any]] = {FIRST: {}, AZUREML: {"WHERE": "simulation"}}
"""Executed a second time, with these parameters besides: a run in this process has the bits of one on AzureML."""
LARGEST = 1_000_000
"""Bytes of an executed notebook; a picture has some tens of thousands."""

Try = Callable[..., Outcome]


def by_name(path: Path) -> str:
    return path.stem


@pytest.fixture(params=NOTEBOOKS, ids=by_name)
def notebook(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def execute(tmp_path_factory: pytest.TempPathFactory) -> Try:
    """The gate's outcome of a notebook, executed in a copy of its folder; asked for again, it is the same one."""
    found: dict[tuple[str, int], Outcome] = {}

    def of(name: str, time: int = 1, **more: Any) -> Outcome:
        key = (name, time)
        if key not in found:
            folder = tmp_path_factory.mktemp(name)
            shutil.copytree(FOLDER, folder / "notebooks", ignore=shutil.ignore_patterns("runs", "pictures", ".*"))
            way = dataclasses.replace(QUICK[name], parameters={**QUICK[name].parameters, **more})
            found[key] = try_notebook(folder / "notebooks" / f"{name}.ipynb", way, folder / "executed")
        return found[key]

    return of


def test_it_is_committed_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")] == []


def test_it_has_one_cell_of_parameters_that_papermill_understands(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    known = papermill.inspect_notebook(str(notebook)).keys()
    ways = (QUICK[notebook.stem], FULL[notebook.stem])
    assert [name for way in ways for name in way.parameters if name not in known] == []


def test_the_same_figures_have_bands_in_a_quick_run_and_in_a_full_one(notebook: Path) -> None:
    quick, full = (mode[notebook.stem].bands for mode in (QUICK, FULL))
    assert quick.keys() == full.keys() != set()


BANDS = [
    pytest.param(name, mode, figure, id=f"{name}-{word}-{figure}")
    for word, mode in (("quick", QUICK), ("full", FULL))
    for name, way in mode.items()
    for figure in way.bands
]


@pytest.mark.parametrize(("name", "mode", "figure"), BANDS)
def test_each_band_can_be_broken(name: str, mode: Any, figure: str) -> None:
    way = mode[name]
    band: Band = way.bands[figure]
    assert band.tolerance <= 0.1 * abs(band.value), "a band as wide as that would hold nearly anything"
    for shift, broken in ((0.0, False), (0.99, False), (1.01, True), (-1.01, True)):
        away = shift * band.tolerance if band.tolerance else round(shift)
        figures = {each: held.value for each, held in way.bands.items()} | {figure: band.value + away}
        execution = Execution(seed=None, notebook=Path("n.ipynb"), seconds=1.0, figures=figures, fault="")
        faults = outcome(name, way, [execution], []).faults
        expected = [figure] if broken or (not band.tolerance and away) else []
        assert [fault.split(" is ")[0] for fault in faults] == expected


@pytest.mark.slow
@pytest.mark.sample
def test_it_passes_the_gate_and_shows_what_it_should(notebook: Path, execute: Try) -> None:
    done = execute(notebook.stem)
    assert done.faults == ()
    assert done.figures.keys() == done.bands.keys(), "each recorded figure has a band"
    executed = done.executions[0].notebook
    saved = json.loads(executed.read_text(encoding="utf-8"))
    assert pictures(saved["cells"]) >= 1
    assert verdict(saved["cells"]) != ""
    assert digests(saved["cells"]) != []
    assert widgets(saved) == []
    assert executed.stat().st_size < LARGEST
    assert secrets_in(executed.read_text(encoding="utf-8")) == []
    # what the notebook writes beside itself is what is committed beside it
    for written in (executed.parents[1] / "notebooks").glob("*.py"):
        assert written.read_text(encoding="utf-8") == (FOLDER / written.name).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize("name", AGAIN)
def test_executed_twice_it_says_the_same(name: str, execute: Try) -> None:
    first, second = execute(name), execute(name, time=2, **AGAIN[name])
    assert first.figures == second.figures != {}
    before, after = (json.loads(done.executions[0].notebook.read_text(encoding="utf-8")) for done in (first, second))
    assert verdict(before["cells"]) == verdict(after["cells"])
    assert digests(before["cells"]) == digests(after["cells"])


@pytest.mark.slow
@pytest.mark.sample
def test_one_picture_and_one_line_stay_of_what_was_watched(execute: Try) -> None:
    cells = nbformat.read(execute(FIRST).executions[0].notebook, as_version=4).cells
    watched = next(cell for cell in cells if cell.id == "run")
    kinds = [output.output_type for output in watched.outputs]
    assert sorted(kinds) == ["display_data", "stream"]
    picture = next(output for output in watched.outputs if output.output_type == "display_data")
    assert {"image/png", "image/svg+xml"} <= picture.data.keys()
    line = next(output for output in watched.outputs if output.output_type == "stream").text
    assert line.strip().count("\n") == 0
    assert "completed after 3 rounds" in line
    svg = [cell.id for cell in cells for output in cell.get("outputs", []) if "image/svg+xml" in output.get("data", {})]
    assert svg == ["run"], "whoever waits for the panel draws it no second time"


@pytest.mark.slow
@pytest.mark.sample
def test_the_first_notebook_as_a_page_has_all_that_a_reader_needs(execute: Try) -> None:
    from nbconvert import HTMLExporter

    executed = execute(FIRST).executions[0].notebook
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    page, _ = HTMLExporter(template_name="basic").from_filename(str(executed))
    assert escape(verdict(cells).strip(), quote=False) in page
    assert page.count("<svg") + page.count("<img") >= 3, "skew, run, comparison"
    for silo in ("cleveland", "hungary", "long-beach", "switzerland"):
        assert re.search(rf"<td[^>]*>(<[^>]+>)*{silo}", page), f"{silo} stands in a table"
    assert not re.search(r"<script|<iframe|<link|@import|(src|href)=[\"']?https?://(?!doi\.org)", page)


@pytest.mark.sample
def test_a_parameter_chooses_the_silos_of_the_first_notebook() -> None:
    """Its cells up to the picker, as papermill would run them with `silos` given."""
    cells = {cell.id: cell.source for cell in nbformat.read(FOLDER / f"{FIRST}.ipynb", as_version=4).cells}
    names: dict[str, Any] = {"heart": FOLDER / "heart.py"}
    for source in (cells["parameters"], "silos = ['hungary', 'cleveland']", *(cells[c] for c in ("hospitals", "job"))):
        exec(source, names)
    exec(cells["picker"], names)
    assert names["picker"].names == ("cleveland", "hungary")
    assert len(names["picker"].federation) == 2
    assert "picker.federation" in cells["run"]
    assert "picker.names" in cells["compare"]


def test_all_of_one_sign_agree_though_the_mean_of_ones_is_rounded() -> None:
    """Ten silos of one row: in float32 ten tenths are 1.0000001 or 0.99999994, by the order; both are agreement 1."""
    agreeing = Task.load(FOLDER / "agreeing.py").module
    tenths = torch.full((10,), 0.1).cumsum(0)[-1].item()
    for whole in (tenths, 1 - 2**-24):
        signs = torch.tensor([whole, -whole, 0.9, 0.0])
        mean = Update(delta={"w": torch.ones(4)}, weight=10.0, extra={"signs": {"w": signs}})
        ctx = SimpleNamespace(combine=lambda _, mean=mean: mean)
        before = State(round=0, params={"w": torch.zeros(4)})
        after = agreeing.AgreeingAvg(agreement=1.0).aggregate(before, [], ctx)
        assert after.params["w"].tolist() == [1.0, 1.0, 0.0, 0.0]


def outputs(cells: list[Any]) -> list[Any]:
    return [output for cell in cells for output in cell.get("outputs", [])]


def pictures(cells: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(cells))


def widgets(saved: dict[str, Any]) -> list[str]:
    """What would need a kernel or a widget manager to be shown again."""
    kinds = [kind for output in outputs(saved["cells"]) for kind in output.get("data", {}) if "jupyter.widget" in kind]
    return [*kinds, *(key for key in saved["metadata"] if key == "widgets")]


def verdict(cells: list[Any]) -> str:
    tagged = [cell for cell in cells if "verdict" in cell["metadata"].get("tags", [])]
    return "".join("".join(output.get("text", "")) for output in outputs(tagged))


def digests(cells: list[Any]) -> list[str]:
    """Every result that is a sha256."""
    texts = ["".join(output.get("data", {}).get("text/plain", "")).strip("'") for output in outputs(cells)]
    return [text for text in texts if len(text) == 64 and set(text) <= set("0123456789abcdef")]
