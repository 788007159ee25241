"""`%%silo_module` in a real IPython shell, and in a notebook run by nbclient."""

import atexit
import hashlib
import importlib
import inspect
import linecache
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fl_kit import magics
from fl_kit.errors import TaskError

Run = Callable[..., Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    before = set(sys.modules)
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}, InteractiveShell={"colors": "nocolor"}))
    magics.register(shell)
    yield shell
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)  # a second time fails


@pytest.fixture
def run(shell: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a cell; gives what it printed, or raises with what it showed in `shown`."""

    def run_cell(cell: str, fails: bool = False) -> str:
        result = shell.run_cell(cell)
        shown = capsys.readouterr().out
        assert result.success != fails, shown
        return shown

    return run_cell


def test_a_cell_becomes_a_file_and_a_module(run: Run, shell: Any) -> None:
    shown = run("%%silo_module heart.py\nimport math\n\ndef model():\n    return math.pi\n\n\n")
    text = "import math\n\ndef model():\n    return math.pi\n"
    assert Path("heart.py").read_bytes() == text.encode()
    sha = hashlib.sha256(text.encode()).hexdigest()
    assert shown == f"heart.py written, sha256 {sha[:12]}…, bound as heart\n"
    heart = shell.user_ns["heart"]
    assert heart is sys.modules["heart"]
    assert (heart.__name__, heart.__file__) == ("heart", str(Path.cwd() / "heart.py"))
    assert inspect.getsource(heart.model) == "def model():\n    return math.pi\n"
    assert run("print(heart.model())") == "3.141592653589793\n"
    assert [p.name for p in Path.cwd().iterdir()] == ["heart.py"]  # no temporary file, no bytecode


def test_a_comment_and_quotes_around_the_name(run: Run) -> None:
    run("%%silo_module heart.py   # a comment\nx = 1\n")
    run('%%silo_module "fraud.py"\nx = 1\n')
    assert Path("heart.py").exists()
    assert Path("fraud.py").exists()


def test_an_unchanged_cell_keeps_the_file(run: Run, shell: Any) -> None:
    run("%%silo_module heart.py\nseen = []\n")
    os.utime("heart.py", (1, 1))
    first = shell.user_ns["heart"]
    assert run("%%silo_module heart.py\nseen = []\n").startswith("heart.py unchanged, sha256 ")
    assert Path("heart.py").stat().st_mtime == 1
    assert shell.user_ns["heart"] is not first  # the module is fresh all the same
    assert run("%%silo_module heart.py\nseen = {}\n").startswith("heart.py written, ")


def test_a_file_from_elsewhere_is_replaced_and_that_is_said(run: Run) -> None:
    Path("heart.py").write_text("x = 'somebody else'\n")
    assert run("%%silo_module heart.py\nx = 1\n").startswith("heart.py replaced (was different), sha256 ")
    assert Path("heart.py").read_text() == "x = 1\n"
    Path("heart.py").write_text("x = 'edited'\n")
    assert run("%%silo_module heart.py\nx = 1\n").startswith("heart.py replaced (was different), ")


def test_a_rerun_in_the_same_second_and_of_the_same_size_takes_effect(run: Run, shell: Any) -> None:
    for value in range(10):
        run(f"%%silo_module heart.py\nx = {value}\n")
        assert shell.user_ns["heart"].x == value
        assert importlib.import_module("heart").x == value
        assert linecache.getline(str(Path("heart.py").resolve()), 1) == f"x = {value}\n"


def test_another_process_never_sees_old_bytecode(run: Run, shell: Any) -> None:
    """Bytecode made from the first file would match the second by time (whole seconds) and size."""
    command = [sys.executable, "-c", "import heart; print(heart.x)"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for value in (1, 2):
        run(f"%%silo_module heart.py\nx = {value}\n")
        os.utime("heart.py", (1e9, 1e9))
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed == f"{value}\n"
    assert list(Path("__pycache__").iterdir())  # it did write bytecode


def test_names_borrowed_from_the_notebook_are_refused(run: Run, shell: Any) -> None:
    run("import numpy as np, math\nfrom os import path as p\nwidth = 8\ndef scale(x): return x")
    cell = (
        "%%silo_module heart.py\n"
        "import torch\n"
        "\n"
        "def model():\n"
        "    return torch.zeros(width), np.ones(hight)\n"
        "y = scale(math.pi) + width\n"
        "display(In)\n"
    )
    assert run(cell, fails=True).rstrip("\n").split("\n") == [
        "TaskError: heart.py was not written: a silo has no notebook, and the cell borrows",
        "  line 5: hight is defined nowhere; define or import it in the cell",
        "  line 5: np is imported in your notebook, not in this cell: add `import numpy as np` to the cell",
        "  line 5: width is defined in your notebook, not in this cell: move it into the cell",
        "  line 6: math is imported in your notebook, not in this cell: add `import math` to the cell",
        "  line 6: scale is defined in your notebook, not in this cell: move it into the cell",
        "  line 7: In is IPython's; leave it out",
        "  line 7: display is IPython's; leave it out",
    ]
    assert not Path("heart.py").exists()
    assert "heart" not in shell.user_ns


def test_a_refused_cell_leaves_the_earlier_file_and_module(run: Run, shell: Any) -> None:
    run("%%silo_module heart.py\nx = 1\n")
    run("%%silo_module heart.py\nx = y\n", fails=True)
    assert Path("heart.py").read_text() == "x = 1\n"
    assert shell.user_ns["heart"].x == 1


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("heart.py\nx = 1\n%matplotlib inline\n", "the cell of heart.py, line 3: `%matplotlib inline` is IPython"),
        ("heart.py\nx = 1\n\n!ls\n", "the cell of heart.py, line 4: `!ls` is IPython"),
        ("heart.py\n\ndef f(:\n", "the cell of heart.py, line 3: invalid syntax: `def f(:`"),
        ("heart.py\nfrom math import *\n", "the cell of heart.py, line 2: `from math import *` hides"),
        ("heart.py\n\n \n", "%%silo_module: the cell is empty"),
        ("\nx = 1\n", "%%silo_module needs a file name: %%silo_module heart.py"),
        ("heart\nx = 1\n", "a task's file must end in .py, found 'heart'"),
        ("random.py\nx = 1\n", "choose another name than random.py, as it would hide the standard library's random"),
        ("../heart.py\nx = 1\n", "%%silo_module writes beside the notebook; give a plain file name instead of"),
        ("sub/heart.py\nx = 1\n", "%%silo_module writes beside the notebook"),
        ("sub\\heart.py\nx = 1\n", "%%silo_module writes beside the notebook"),
        ("/heart.py\nx = 1\n", "%%silo_module writes beside the notebook"),
        ("two names.py\nx = 1\n", "'two names.py' cannot be imported as a module; call it two_names.py"),
    ],
)
def test_what_will_not_do_is_one_line_and_writes_nothing(run: Run, shell: Any, cell: str, message: str) -> None:
    shown = run(f"%%silo_module {cell}", fails=True)
    assert shown.startswith(f"TaskError: {message}")
    assert shown.count("\n") == 1
    assert list(Path.cwd().iterdir()) == []


def test_the_error_is_a_task_error(shell: Any) -> None:
    with pytest.raises(TaskError, match="line 2: y is defined nowhere"):
        shell.run_cell_magic("silo_module", "heart.py", "x = y\n")


def test_a_folder_where_the_file_should_be(run: Run) -> None:
    Path("heart.py").mkdir()
    shown = run("%%silo_module heart.py\nx = 1\n", fails=True)
    assert shown.startswith("TaskError: heart.py cannot be written in ")
    assert shown.count("\n") == 1
    assert [p.name for p in Path.cwd().iterdir()] == ["heart.py"]


def test_an_error_on_import_is_the_users_own_traceback(run: Run, shell: Any) -> None:
    run("%%silo_module heart.py\nx = 1\n")
    shown = run("%%silo_module heart.py\nimport math\n\ndef depth(x):\n    return 1 / x\n\ny = depth(0)\n", fails=True)
    assert "ZeroDivisionError" in shown
    assert "return 1 / x" in shown
    assert re.search(r"heart\.py:6", shown)  # the file's line, as an editor shows it
    assert re.search(r"heart\.py:4", shown)
    assert "magics.py" not in shown
    assert "interactiveshell" not in shown
    assert "importlib" not in shown


def test_after_a_failed_import_no_module_passes_for_the_file(run: Run, shell: Any) -> None:
    run("%%silo_module heart.py\nx = 1\n")
    run("%%silo_module heart.py\nx = 1 / 0\n", fails=True)
    assert "heart" not in shell.user_ns
    assert "heart" not in sys.modules
    run("%%silo_module heart.py\nx = 2\n")
    assert run("print(heart.x)") == "2\n"


def test_a_traceback_after_an_edit_shows_the_new_lines(run: Run) -> None:
    for text in ("old", "new"):
        run(f"%%silo_module heart.py\ndef f():\n    raise ValueError('{text}')\n")
        shown = run("heart.f()", fails=True)
        assert f"raise ValueError('{text}')" in shown


def test_a_variable_of_the_same_name_survives_a_failed_import(run: Run, shell: Any) -> None:
    run("heart = [1, 2]")
    run("%%silo_module heart.py\nx = 1 / 0\n", fails=True)
    assert shell.user_ns["heart"] == [1, 2]


def test_the_folder_of_a_notebook_in_vs_code(run: Run, shell: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    shell.user_ns["__vsc_ipynb_file__"] = str(tmp_path / "elsewhere" / "first.ipynb")
    run("%%silo_module heart.py\nx = 1\n")
    assert (tmp_path / "elsewhere" / "heart.py").exists()
    assert list(Path.cwd().iterdir()) == []


def test_a_symbolic_link_stays_one(run: Run, tmp_path: Path) -> None:
    (tmp_path / "real.py").write_text("x = 0\n")
    Path("heart.py").symlink_to(tmp_path / "real.py")
    run("%%silo_module heart.py\nx = 1\n")
    assert Path("heart.py").is_symlink()
    assert (tmp_path / "real.py").read_text() == "x = 1\n"


def test_windows_line_ends_become_lf(run: Run, shell: Any) -> None:
    shell.run_cell_magic("silo_module", "heart.py", "x = 1\r\ny = 2\r\n")
    assert Path("heart.py").read_bytes() == b"x = 1\ny = 2\n"


def test_dataclasses_with_postponed_annotations_find_their_module(run: Run) -> None:
    run(
        "%%silo_module heart.py\n"
        "from __future__ import annotations\n"
        "from dataclasses import dataclass, KW_ONLY\n"
        "@dataclass\n"
        "class Settings:\n"
        "    _: KW_ONLY\n"
        "    width: int = 8\n"
    )
    assert run("print(heart.Settings(width=3))") == "Settings(width=3)\n"


def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh kernel: what IPython put among the builtins before pyflakes looked is still refused."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [
        "%load_ext fl_kit",
        "%%silo_module heart.py\ndisplay(get_ipython())",
        "%%silo_module heart.py\ndef model():\n    return 42\n",
        "heart.model()",
        "%%silo_module heart.py\nx = 1 / 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    client = NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(folder)}}, timeout=120)
    client.execute()
    _, refused, written, value, failed = [cell.outputs for cell in notebook.cells]
    assert [(o.output_type, o.ename) for o in refused] == [("error", "TaskError")]
    assert refused[0].traceback == [
        "TaskError: heart.py was not written: a silo has no notebook, and the cell borrows\n"
        "  line 2: display is IPython's; leave it out\n"
        "  line 2: get_ipython is IPython's; leave it out"
    ]
    assert written[0].text.startswith("heart.py written, sha256 ")
    assert value[0].data["text/plain"] == "42"
    assert failed[0].ename == "ZeroDivisionError"
    assert "magics.py" not in "".join(failed[0].traceback)
    assert (folder / "heart.py").read_text() == "x = 1 / 0\n"
