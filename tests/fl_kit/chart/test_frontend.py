"""Which front end is found, with IPython's shell as the front ends set it up."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fl_kit.chart.frontend import VARIABLE, front_end, has_widgets
from fl_kit.errors import FlKitError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, "SERVER_SOFTWARE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)


def use_shell(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    module = ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)


def kernel(parent: dict[str, Any], **user_ns: Any) -> SimpleNamespace:
    return SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: parent), user_ns=user_ns)


def test_a_script_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert front_end() == "text"
    assert "IPython" not in sys.modules


@pytest.mark.parametrize("shell", [None, SimpleNamespace(user_ns={}), SimpleNamespace(kernel=None, user_ns={})])
def test_ipython_without_a_kernel_is_a_terminal(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    use_shell(monkeypatch, shell)
    assert front_end() == "text"


def test_jupyterlab_names_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    use_shell(monkeypatch, kernel({"metadata": {"cellId": "4f2a"}}))
    assert front_end() == "live"


@pytest.mark.parametrize("parent", [{}, {"metadata": {}}, {"metadata": None}])
def test_papermill_names_none(monkeypatch: pytest.MonkeyPatch, parent: dict[str, Any]) -> None:
    use_shell(monkeypatch, kernel(parent))
    assert front_end() == "static"


def test_vs_code_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    use_shell(monkeypatch, kernel({}, __vsc_ipynb_file__="a.ipynb"))
    assert front_end() == "live"


def test_colab_updates_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    use_shell(monkeypatch, kernel({}))
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    assert front_end() == "live"


def test_voila_shows_a_blocking_cell_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    use_shell(monkeypatch, kernel({"metadata": {"cellId": "4f2a"}}))
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.8")
    assert front_end() == "static"
    assert has_widgets()  # the cell with a picker has ended, and its kernel lives on
    monkeypatch.setenv(VARIABLE, "static")
    assert not has_widgets()


@pytest.mark.parametrize("asked", ["live", "static", "text"])
def test_the_variable_overrules(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    use_shell(monkeypatch, kernel({"metadata": {"cellId": "4f2a"}}))
    monkeypatch.setenv(VARIABLE, asked)
    assert front_end() == asked


def test_a_wrong_variable_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "lively")
    with pytest.raises(FlKitError, match=r"FL_KIT_DISPLAY is 'lively'; it may be live, static, text"):
        front_end()


@pytest.mark.parametrize("asked", ["live", "static", "text"])
def test_outside_a_notebook_there_is_only_text(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    use_shell(monkeypatch, None)
    monkeypatch.setenv(VARIABLE, asked)
    assert front_end() == "text"
