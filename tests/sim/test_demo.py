import base64
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from fl_kit.errors import FlKitError
from sim import demo

FIRST, LAST = b"\x89PNG first", b"\x89PNG last"


def show(data: bytes) -> str:
    return f"from IPython.display import Image, display; display(Image({data!r}, format='png'))"


def notebook(path: Path, *sources: str, verdict: str = "print('a table')\nprint('federated beats silo-only')") -> Path:
    cells = [v4.new_code_cell(source) for source in sources]
    cells.append(v4.new_code_cell(verdict, metadata={"tags": ["verdict"]}))
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path


def shown(name: str, *pictures: bytes) -> dict[str, object]:
    return {"id": name, "outputs": [{"data": {"image/png": base64.b64encode(data).decode()}} for data in pictures]}


def test_each_cells_last_picture_is_kept_under_the_cells_name(tmp_path: Path) -> None:
    cells = [shown("skew", FIRST), shown("run", FIRST, LAST), {"id": "x", "outputs": [{"text": "words"}]}, {"id": "y"}]
    assert demo.save_pictures(cells, tmp_path / "n.ipynb") == (tmp_path / "skew.png", tmp_path / "run.png")
    assert (tmp_path / "skew.png").read_bytes() == FIRST
    assert (tmp_path / "run.png").read_bytes() == LAST


def test_no_picture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FlKitError, match=r"n\.ipynb shows no picture"):
        demo.save_pictures([{"id": "x", "outputs": [{"text": "words"}]}], tmp_path / "n.ipynb")


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "stream", "text": "rows\n  it wins by .04  \n\n"},
        {"output_type": "execute_result", "data": {"text/plain": "rows\nit wins by .04"}},
    ],
)
def test_the_verdict_is_the_tagged_cells_last_line(output: dict[str, object]) -> None:
    tagged = {"metadata": {"tags": ["verdict"]}, "outputs": [output, {"data": {"image/png": ""}}]}
    other = {"metadata": {}, "outputs": [{"text": "something else"}]}
    assert demo.verdict([other, tagged, other], Path("n.ipynb")) == "it wins by .04"


def test_no_tagged_cell_is_an_error() -> None:
    with pytest.raises(FlKitError, match="no cell tagged 'verdict'"):
        demo.verdict([{"metadata": {}, "outputs": [{"text": "it wins"}]}], Path("n.ipynb"))


def test_a_notebook_runs_in_its_own_folder_and_leaves_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = "import pathlib; pathlib.Path('here.txt').write_text('x')"
    source = notebook(tmp_path / "small.ipynb", where, show(FIRST), show(LAST))
    before = source.read_bytes()

    demo.main([str(source), str(tmp_path / "out")])

    assert (tmp_path / "here.txt").is_file()
    assert source.read_bytes() == before
    pictures = [nbformat.read(source, as_version=4).cells[i].id for i in (1, 2)]
    assert [(tmp_path / "out" / f"{name}.png").read_bytes() for name in pictures] == [FIRST, LAST]
    assert "federated beats silo-only" in (tmp_path / "out" / "small.html").read_text(encoding="utf-8")
    executed = nbformat.read(tmp_path / "out" / "small.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.startswith("a table")
    assert capsys.readouterr().out.endswith("\n\nfederated beats silo-only\n")


def test_a_failing_cell_says_which_and_keeps_the_notebook(tmp_path: Path) -> None:
    source = notebook(tmp_path / "small.ipynb", "1 / 0")
    with pytest.raises(SystemExit, match=r"(?s)a cell of .*small\.ipynb failed.*ZeroDivisionError"):
        demo.main([str(source), str(tmp_path / "out")])
    assert "ZeroDivisionError" in (tmp_path / "out" / "small.ipynb").read_text(encoding="utf-8")


def test_a_missing_notebook_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is no notebook"):
        demo.main([str(tmp_path / "none.ipynb"), str(tmp_path / "out")])
