"""Source text: borrowed names, digests and module names, without running anything."""

import hashlib
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.errors import TaskError
from fl_kit.source import Borrowed, borrowed_names, digest, module_name


def names(source: str) -> list[tuple[str, int]]:
    return [(b.name, b.line) for b in borrowed_names(textwrap.dedent(source), "heart.py")]


def test_a_module_that_defines_what_it_uses_borrows_nothing() -> None:
    source = '''
        """A task."""
        from __future__ import annotations
        import torch
        from torch import nn
        WIDTH = 8
        class Net(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layers = nn.Linear(WIDTH, 1)
            def twin(self) -> Later: ...
        class Later: ...
        def model(): return Net()
        def data(folder, split):
            rows = [float(x) for x in open(folder / f"{split}.csv")]
            try:
                import pandas as pd
            except ImportError:
                pd = None
            return torch.tensor(rows), pd, __file__, __name__
        loss = nn.BCEWithLogitsLoss()
        if (n := len("abc")) > 2:
            print(n)
        def scale(x):
            global FACTOR
            FACTOR = 2
            return x * FACTOR
    '''
    assert names(source) == []


def test_borrowed_names_with_the_line_of_their_first_use() -> None:
    source = """\
        from torch import nn
        WIDTH = len(columns)
        def model():
            return nn.Linear(WIDTH, hidden) if np.ones(1) else columns
        class Net(Base):
            size = np.pi
        """
    assert names(source) == [("columns", 2), ("hidden", 4), ("np", 4), ("Base", 5)]
    assert borrowed_names("x = y", "a.py") == [Borrowed(name="y", line=1)]


def test_a_decorator_a_default_an_annotation_and_a_deleted_name() -> None:
    assert names("@jit\ndef f(a=START) -> Array: ...\nx = 1\ndel x\nprint(x)\n") == [
        ("jit", 1), ("Array", 2), ("START", 2), ("x", 5),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["display", "get_ipython"])
def test_what_ipython_puts_among_the_builtins_is_borrowed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyflakes import checker

    monkeypatch.setattr(checker, "builtin_vars", checker.builtin_vars | {name})  # as if imported in a notebook
    assert names(f"{name}(1)\n") == [(name, 1)]
    assert names(f"def {name}(x): ...\n{name}(1)\n") == []
    assert names("from IPython.display import display\ndisplay(1)\n") == []


@pytest.mark.parametrize("line", ["from math import *", "from .near import *", "    from math import *"])
def test_star_imports_are_refused(line: str) -> None:
    source = f"import os\nif os:\n{line}\n" if line[0] == " " else f"import os\n\n{line}\n"
    with pytest.raises(TaskError, match=r"heart\.py, line 3: `from \S+ import \*` hides"):
        borrowed_names(source, "heart.py")


@pytest.mark.parametrize(
    "line",
    ["%matplotlib inline", "%%time", "!pip install torch", "?print", "torch.nn?", "files = !ls", "t = %timeit -o 1"],
)
def test_lines_of_ipython_are_refused(line: str) -> None:
    with pytest.raises(TaskError) as caught:
        borrowed_names(f"import torch\n\n{line}\nx = 1\n", "heart.py")
    assert str(caught.value).startswith(f"heart.py, line 3: `{line}` is IPython, not Python")


def test_a_modulo_at_the_start_of_a_line_is_python() -> None:
    assert names("x = (7\n%2)\n") == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\ndef f(:\n", "heart.py, line 2: invalid syntax: `def f(:`"),
        ("x = 1\nreturn x\n", "heart.py, line 2: 'return' outside function: `return x`"),
        ("def f():\n    x = 1\n   y = 2\n", "heart.py, line 3: unindent does not match"),
        ("a = 1\nawait a\n", "heart.py, line 2: 'await' outside function"),
        ("x = (1,\n", "heart.py, line 1: '(' was never closed"),
        ("x = '\0'\n", "heart.py"),
    ],
)
def test_syntax_errors_name_the_line(source: str, message: str) -> None:
    with pytest.raises(TaskError) as caught:
        borrowed_names(source, "heart.py")
    assert str(caught.value).startswith(message)


def test_a_doubtful_escape_is_left_to_the_import() -> None:
    assert names(r"x = '\d'") == []


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\ufeff")))
def test_the_digest_ignores_line_ends_and_byte_order_marks(text: str) -> None:
    expected = hashlib.sha256(text.encode()).hexdigest()
    windows = text.replace("\n", "\r\n")
    for same in (text, windows, text.replace("\n", "\r"), "\ufeff" + windows):
        assert digest(same) == digest(same.encode()) == expected


def test_the_digest_sees_every_other_change() -> None:
    assert len({digest(t) for t in ("x = 1\n", "x = 1", "x = 1 \n", "x = 2\n", "\nx = 1\n", "é", "e")}) == 7


@pytest.mark.parametrize("source", [b"\xff\xfe", "\ud800"])
def test_a_source_that_is_not_utf8_is_refused(source: bytes | str) -> None:
    with pytest.raises(TaskError, match="must be UTF-8"):
        digest(source)


@pytest.mark.parametrize("path", ["heart.py", "some/folder/fraud_2.py", "_private.py", "café.py", "match.py"])
def test_good_module_names(path: str) -> None:
    assert module_name(path) == Path(path).stem


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("heart", r"must end in \.py, found 'heart'"),
        ("heart.ipynb", r"must end in \.py"),
        (".py", r"must end in \.py"),
        ("heart-disease.py", r"call it heart_disease\.py"),
        ("2024 fraud.py", r"call it task_2024_fraud\.py"),
        ("class.py", r"call it task_class\.py"),
        ("__init__.py", r"call it init\.py"),
        ("__main__.py", r"call it main\.py"),
        ("random.py", r"would hide the standard library's random: say random_task\.py"),
        ("sum.py", "would hide Python's own sum"),
        ("torch.py", "would hide the installed package torch"),
        ("numpy.py", "would hide the installed package numpy"),
        ("pandas.py", "would hide the installed package pandas"),
        ("azure.py", "would hide the installed package azure"),  # a namespace package: no file of its own
        ("fl_kit.py", "would hide fl-kit itself"),
    ],
)
def test_bad_module_names(path: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        module_name(path)


def test_a_module_does_not_hide_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The notebook's folder is on the path, and the file is already there."""
    (tmp_path / "heart.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert module_name(tmp_path / "heart.py") == "heart"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert module_name("heart.py") == "heart"


def test_a_module_elsewhere_on_the_path_would_be_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "heart.py").write_text("x = 1\n")
    (tmp_path / "site" / "folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(TaskError, match="would hide the installed package heart"):
        module_name(tmp_path / "heart.py")
    assert module_name(tmp_path / "folder.py") == "folder"
