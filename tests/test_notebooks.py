"""Every notebook: clean when committed, and run by papermill with small parameters."""

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL: dict[str, list[dict[str, Any]]] = {
    "00_first_federation": [{"rounds": 3, "comparisons": 2}],
    "01_same_code_on_azureml": [
        {"WHERE": "simulation", "rounds": 2},
        {"WHERE": "local-workspace", "rounds": 2},
    ],
    "02_skew_and_partitions": [{"digits": 2000, "rounds": 2, "epochs": 1}],
    "03_which_strategy": [{"digits": 1000, "rounds": 2, "epochs": 1}],
    "04_banks_and_fraud": [{"rows": 6000, "rounds": 2, "comparisons": 2}],
    "05_loans_by_state": [{"states": 3, "rounds": 2, "comparisons": 2}],
    "06_a_lying_silo": [{"digits": 600, "rounds": 1, "most_bad": 1}],
    "07_your_own_strategy": [{"rounds": 2, "places": ["in process", "azureml"]}],
    "08_hospital_images": [{"pictures": 160, "rounds": 2, "epochs": 1, "comparisons": 1}],
}
"""Parameters that make a notebook quick, once for each way to run it; each notebook needs an entry."""
CASES = [
    pytest.param(path, small, id=f"{path.stem}-{i}") for path in NOTEBOOKS for i, small in enumerate(SMALL[path.stem])
]

ENCRYPTED = Config(KernelManager={"transport_encryption": "auto"})


def by_name(path: Path) -> str:
    return path.stem


@pytest.fixture(params=NOTEBOOKS, ids=by_name)
def notebook(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_it_is_committed_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    assert [c["id"] for c in cells if c.get("outputs") or c.get("execution_count")] == []


def test_it_has_one_cell_of_parameters_that_papermill_understands(notebook: Path) -> None:
    cells = nbformat.read(notebook, as_version=4).cells
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    known = papermill.inspect_notebook(str(notebook)).keys()
    assert [name for small in SMALL[notebook.stem] for name in small if name not in known] == []


@pytest.mark.slow
@pytest.mark.sample
@pytest.mark.parametrize(("notebook", "small"), CASES)
def test_it_runs_and_says_the_same_twice(notebook: Path, small: dict[str, Any], tmp_path: Path) -> None:
    first, second = (run(notebook, small, tmp_path / name) for name in ("first", "second"))
    assert pictures(first) >= 1
    assert verdict(first) == verdict(second) != ""
    assert digests(first) == digests(second) != []
    # what the notebook writes beside itself is what is committed beside it
    for written in (tmp_path / "first").glob("*.py"):
        assert written.read_text(encoding="utf-8") == (notebook.parent / written.name).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.sample
def test_one_picture_and_one_line_stay_of_what_was_watched(tmp_path: Path) -> None:
    name = "00_first_federation"
    cells = run(ROOT / "notebooks" / f"{name}.ipynb", SMALL[name][0], tmp_path)
    watched = next(cell for cell in cells if cell.id == "run")
    kinds = [output.output_type for output in watched.outputs]
    assert sorted(kinds) == ["display_data", "stream"]
    picture = next(output for output in watched.outputs if output.output_type == "display_data")
    assert {"image/png", "image/svg+xml"} <= picture.data.keys()
    line = next(output for output in watched.outputs if output.output_type == "stream").text
    assert line.strip().count("\n") == 0
    assert "completed after 3 rounds" in line


def run(notebook: Path, small: dict[str, Any], folder: Path) -> list[Any]:
    """The executed cells, run in a folder of their own, with the modules that lie beside the notebook."""
    folder.mkdir(exist_ok=True)
    for module in notebook.parent.glob("*.py"):
        shutil.copy(module, folder)
    done = papermill.execute_notebook(
        notebook,
        folder / notebook.name,
        parameters=small,
        cwd=folder,
        kernel_name="python3",
        progress_bar=False,
        config=ENCRYPTED,
    )
    return list(done.cells)


def outputs(cells: list[Any]) -> list[Any]:
    return [output for cell in cells for output in cell.get("outputs", [])]


def pictures(cells: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(cells))


def verdict(cells: list[Any]) -> str:
    tagged = [cell for cell in cells if "verdict" in cell.metadata.get("tags", [])]
    return "".join(str(output.get("text", "")) for output in outputs(tagged))


def digests(cells: list[Any]) -> list[str]:
    """Every result that is a sha256."""
    texts = [str(output.get("data", {}).get("text/plain", "")).strip("'") for output in outputs(cells)]
    return [text for text in texts if len(text) == 64 and set(text) <= set("0123456789abcdef")]
