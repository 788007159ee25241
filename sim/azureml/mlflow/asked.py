"""Reading what a client asks for: fields of a call, and pages."""

from collections.abc import Sequence
from typing import Any, TypeVar

from sim.azureml.mlflow.figures import invalid
from sim.azureml.state import Body

SEARCH_PAGE = 1_000
SEARCH_PAGE_MOST = 50_000
"""Entries of a page of what was searched, as MLflow's own server has them."""

T = TypeVar("T")


def text(asked: Body, name: str) -> str:
    """A field that must be there; raises WorkspaceError (400)."""
    value = asked.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"the call lacks {name!r}")
    return value


def run_id(asked: Body) -> str:
    """The run that a call names; older clients say `run_uuid`."""
    return asked.get("run_uuid") or text(asked, "run_id")


def whole(asked: Body, name: str) -> int | None:
    """A whole number, which MLflow's JSON may give as a text; raises WorkspaceError (400)."""
    value = asked.get(name)
    if value in (None, ""):
        return None
    try:
        return int(str(value))
    except ValueError as error:
        raise invalid(f"{name} is {value!r}, not a whole number") from error


def listed(asked: Body, name: str) -> list[str]:
    """A field that may be given several times."""
    value: Any = asked.get(name) or []
    values = [value] if isinstance(value, str) else list(value)
    if not values:
        raise invalid(f"the call lacks {name!r}")
    return values


def stages(view: str | None) -> tuple[str, ...]:
    return {"ALL": ("active", "deleted"), "DELETED_ONLY": ("deleted",)}.get(view or "", ("active",))


def page(things: Sequence[T], asked: Body, default: int, most: int) -> tuple[Sequence[T], Body]:
    """The page that a call asks for, and the token of the next one if there is one."""
    size = whole(asked, "max_results")
    size = default if size is None else size
    start = whole(asked, "page_token") or 0
    if not 1 <= size <= most:
        raise invalid(f"max_results is {size}, not 1 to {most}")
    if start < 0:
        raise invalid(f"page_token is {start}, which no call has given")
    end = start + size
    return things[start:end], {"next_page_token": str(end)} if end < len(things) else {}
