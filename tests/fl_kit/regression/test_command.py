"""`fl-kit notebooks`: exit codes, one clear line for everything that can go wrong, and what it leaves behind.

The notebooks of one folder run once, two at a time; every test reads of that.
"""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_kit.regression.bands import Way, load_bands
from fl_kit.regression.command import for_update, main
from fl_kit.regression.execution import read_cells

from .small_notebooks import write_bands, write_notebook

RECORD = "from fl_kit import record\n"
PICTURE = "import matplotlib\nfrom matplotlib.figure import Figure\nf = Figure(figsize=(1, 1))\nf.savefig('x.png')\n"
SHOW = "from IPython.display import Image, display\ndisplay(Image('x.png'))"
BANDS = """
# reviewed by hand
[good.quick]
parameters = { level = 2 }
bands.double = { value = 4, absolute = 0.5 }

[seeds.quick]
seeds = [1, 2, 6]
bands.seed = { value = 3, absolute = 0 }

[broken.quick]
bands.auc = { value = 0.9, absolute = 0.02 }

[silent.quick]
bands.acu = { value = 0.9, relative = 0.1 }

[slow.quick]
budget = 30

[unset.quick]
parameters = { level = 2 }

[unknown.quick]
parameters = { levle = 2 }
"""


def make(folder: Path) -> None:
    write_notebook(folder, "good", RECORD + "record(double=2 * level)")
    write_notebook(folder, "seeds", RECORD + "record(seed=seed)")
    write_notebook(folder, "broken", PICTURE, SHOW, RECORD + "record(auc=0.5)")
    write_notebook(folder, "silent", RECORD + "record(auc=0.9)")
    write_notebook(folder, "failing", "x = 1", "1 / 0", RECORD + "record(auc=1)")
    write_notebook(folder, "slow", "x = 1", "import time\ntime.sleep(600)")
    write_notebook(folder, "unset", "x = 1", parameters=None)
    write_notebook(folder, "unknown", "x = 1")
    write_bands(folder, BANDS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """Exit code, what was said, and the artifacts of one run over all of them."""
    folder = tmp_path_factory.mktemp("command")
    make(folder / "notebooks")
    command = [sys.executable, "-c", "import sys; from fl_kit.regression.command import main; sys.exit(main())"]
    ran = subprocess.run(
        [*command, "notebooks", "run", "notebooks", "--quick", "--jobs", "2", "--artifacts", "out",
         "--track", "sqlite:///figures.db"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr, folder / "out"


def said_of(done: tuple[int, str, Path], name: str) -> str:
    """The lines of one notebook."""
    lines = done[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line[2:].split("  ")[0] == name)
    end = next(i for i in [*range(start + 1, len(lines)), len(lines)] if i == len(lines) or lines[i][:1] != " ")
    return "\n".join(lines[start:end])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("good", "✓ good"),
        ("seeds", "seed 3 (3 ± 0)"),
        ("broken", "auc is 0.5, outside its band 0.9 ± 0.02 by 0.38"),
        ("silent", "acu has a band and was never recorded; did you mean 'auc'"),
        ("failing", "cell 'cell-2' (1 / 0) failed: ZeroDivisionError: division by zero"),
        ("slow", "it took more than its budget of 30 s, in cell 'cell-2' (import time)"),
        (
            "unset",
            "unset.ipynb has no cell tagged 'parameters', so level cannot be set; tag the cell that assigns them",
        ),
        ("unknown", "unknown.ipynb has no parameter 'levle'; did you mean 'level'"),
    ],
)
def test_each_notebook_is_told_in_a_line(done: tuple[int, str, Path], name: str, said: str) -> None:
    assert said in said_of(done, name)


@pytest.mark.slow
def test_the_exit_code_and_the_last_line(done: tuple[int, str, Path]) -> None:
    assert done[0] == 1
    assert "2 of 8 notebooks passed; see out/summary.md" in done[1]


@pytest.mark.slow
def test_what_is_left_behind(done: tuple[int, str, Path]) -> None:
    out = done[2]
    suite = ET.parse(out / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("8", "6")
    failures = {case.get("name"): case.find("failure") for case in suite}
    assert failures["good"] is None
    assert "ZeroDivisionError" in (failures["failing"].get("message") or "")  # type: ignore[union-attr]
    assert {path.name for path in out.glob("seeds*.ipynb")} == {f"seeds-seed-{seed}.ipynb" for seed in (1, 2, 6)}
    assert "recorded: double 4" in (out / "good.html").read_text(encoding="utf-8")
    assert (out / "broken.png").read_bytes()[:4] == b"\x89PNG"
    summary = (out / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("### Notebooks: 6 of 8 notebooks failed")
    assert "| good | ✓ |" in summary
    assert "![the last picture](broken.png)" in summary
    assert not [*out.glob("*.log"), *out.glob("*.json")]


@pytest.mark.slow
def test_the_papers_of_the_notebook_itself_stay_clean(done: tuple[int, str, Path]) -> None:
    notebooks = done[2].parent / "notebooks"
    assert not any(cell.get("outputs") for path in notebooks.glob("*.ipynb") for cell in read_cells(path))


@pytest.mark.slow
def test_a_figure_over_commits(
    done: tuple[int, str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path, in_tmp: Path
) -> None:
    store = f"sqlite:///{done[2].parent / 'figures.db'}"
    picture = tmp_path / "trend.png"
    assert main(["notebooks", "history", "good", "double", "--quick", "--track", store, "--picture", str(picture)]) == 0
    assert "unknown" in (said := capsys.readouterr().out)  # that folder is in no repository
    assert "4.000" in said
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert main(["notebooks", "history", "goood", "double", "--quick", "--track", store]) == 2
    assert "did you mean 'good'" in capsys.readouterr().err
    assert main(["notebooks", "history", "good", "dubble", "--quick", "--track", store]) == 2
    assert "did you mean 'double'" in capsys.readouterr().err


@pytest.fixture
def one(tmp_path: Path) -> Callable[[str, str], Path]:
    """A folder with one notebook and its bands."""

    def make_one(source: str, bands: str) -> Path:
        folder = tmp_path / "notebooks"
        write_notebook(folder, "story", source)
        write_bands(folder, bands)
        return folder

    return make_one


@pytest.mark.slow
def test_new_bands_are_proposed_as_a_diff_and_nothing_is_changed(
    one: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds 0 and 1 record 0 and 2: mean 1, s = √2, and 4·√2 = 5.657 is rounded up to 5.7."""
    before = "# by hand\n[story.quick]\nbudget = 60\nbands.two = { value = 5, absolute = 0.1 }\n"
    folder = one(RECORD + "record(two=2 * seed, same=7)", before)
    asked = [
        "notebooks",
        "run",
        str(folder),
        "--quick",
        "--update",
        "--seeds",
        "2",
        "--artifacts",
        str(tmp_path / "out"),
    ]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "-bands.two = { value = 5, absolute = 0.1 }" in said
    assert "value = 1.0, absolute = 5.7" in said
    assert "value = 7.0, relative = 1e-06" in said
    assert " # by hand" in said
    assert (folder / "bands.toml").read_text(encoding="utf-8") == before


@pytest.mark.slow
def test_a_passing_folder_exits_with_0_and_a_proposal_holds_what_it_was_made_from(
    one: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = one(RECORD + "record(same=7)", "")
    out = ["--artifacts", str(tmp_path / "out")]
    assert main(["notebooks", "run", str(folder), "--quick", "--update", "--seeds", "1", *out]) == 0
    patch = capsys.readouterr().out
    (folder / "bands.toml").write_text(
        "".join(f"{line[1:]}\n" for line in patch.splitlines() if line[:1] == "+" and line[:3] != "+++"),
        encoding="utf-8",
    )
    assert load_bands(folder, "quick")["story"].bands["same"].value == 7
    assert main(["notebooks", "run", str(folder), "--quick", *out]) == 0
    assert "all 1 notebooks passed" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8")


def test_new_bands_come_from_so_many_seeds_and_a_single_one_is_the_notebooks_own(tmp_path: Path) -> None:
    seeded = write_notebook(tmp_path, "seeded", "x = 1")
    fixed = write_notebook(tmp_path, "fixed", "x = 1", parameters="level = 1")
    asked = [for_update(path, Way(seeds=(7,)), count).seeds for path in (seeded, fixed) for count in (3, 1)]
    assert asked == [(0, 1, 2), (), (), ()]


def test_misuse_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], one: Callable[[str, str], Path]
) -> None:
    assert main(["notebooks", "run", str(tmp_path / "nowhere")]) == 2
    assert "nowhere is no notebook and no folder with notebooks" in capsys.readouterr().err
    assert main(["notebooks", "run", "--quick", str(one("x = 1", "[story.quick]\nbudget = 'long'"))]) == 2
    assert "budget must be a number of seconds" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["notebooks", "run", str(tmp_path), "--jobs", "0"])
    assert stopped.value.code == 2


def test_two_notebooks_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [write_notebook(tmp_path / folder, "story", "x = 1").parent for folder in ("a", "b")]
    assert main(["notebooks", "run", *map(str, places)]) == 2
    assert "two notebooks are called 'story'" in capsys.readouterr().err
