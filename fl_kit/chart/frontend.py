"""Which front end shows the output: one that can be updated in place, one that keeps it, or a terminal."""

import os
import sys
from typing import Any, Literal, get_args

from fl_kit.errors import FlKitError

FrontEnd = Literal["live", "static", "text"]
"""live: an output updated in place; static: one picture at the end; text: a line in a terminal."""

VARIABLE = "FL_KIT_DISPLAY"
"""The environment variable that overrules detection; outside a notebook there is only text."""


def front_end() -> FrontEnd:
    """The front end of this process; raises FlKitError if `FL_KIT_DISPLAY` names none.

    JupyterLab, Notebook 7 and VS Code say which cell they run, nbclient and papermill do not: nobody
    watches there. Colab updates outputs in place; voila shows a blocking cell's output at its end.
    """
    asked = os.environ.get(VARIABLE)
    shell = notebook_shell()
    chosen = named(asked) if asked else None
    if shell is None:
        return "text"
    if chosen:
        return chosen
    if is_voila():
        return "static"
    watched = cell_id(shell.kernel) or "__vsc_ipynb_file__" in shell.user_ns or "google.colab" in sys.modules
    return "live" if watched else "static"


def has_widgets() -> bool:
    """Whether somebody can click a widget: in a live front end, and in voila, whose widgets live once all cells ran."""
    return front_end() == "live" or (notebook_shell() is not None and is_voila() and not os.environ.get(VARIABLE))


def is_voila() -> bool:
    return os.environ.get("SERVER_SOFTWARE", "").startswith("voila")


def named(asked: str) -> FrontEnd:
    for known in get_args(FrontEnd):
        if asked == known:
            return known  # type: ignore[no-any-return]  # one of the literals
    raise FlKitError(f"{VARIABLE} is {asked!r}; it may be {', '.join(get_args(FrontEnd))}, or unset to find out")


def notebook_shell() -> Any:
    """IPython's shell in a kernel, or None; IPython is never imported for this."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell if getattr(shell, "kernel", None) is not None else None


def cell_id(kernel: Any) -> str:
    """The cell that the front end says it runs, or an empty string."""
    parent = kernel.get_parent() or {}
    return str((parent.get("metadata") or {}).get("cellId") or "")
