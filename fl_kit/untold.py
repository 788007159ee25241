"""What a step could not tell, since the tracking server was down: it travels with the state, and a later step tells it.

Beside a state's own files there may be `untold.json`: reports of the step that made the state, and of those before it
that could not tell either. It holds what the tracking server would have been told, and nothing else.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fl_kit.bounded import parse_json, read_text
from fl_kit.errors import FlKitError, StoreError
from fl_kit.events import Event

FILE = "untold.json"
LIMIT = 64 * 1024 * 1024
"""Bytes that are read at most."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What happened in one step of the orchestrator.

    step  its id
    time  when it was done, in seconds since the epoch
    """

    step: str
    time: float
    events: tuple[Event, ...]


def write_untold(folder: str | Path, reports: Iterable[Report]) -> None:
    """Put reports beside a state; raises StoreError if that cannot be done."""
    text = json.dumps(
        [{"step": r.step, "time": r.time, "events": [event.to_json() for event in r.events]} for r in reports], indent=1
    )
    try:
        (Path(folder) / FILE).write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{Path(folder) / FILE} cannot be written: {error.strerror}") from error


def read_untold(folder: str | Path) -> list[Report]:
    """The reports beside a state, mostly none; raises StoreError for a file that is not in this form."""
    file = Path(folder) / FILE
    if not file.exists() and not file.is_symlink():
        return []
    try:
        return [
            Report(
                step=str(each["step"]),
                time=float(each["time"]),
                events=tuple(Event.from_json(text) for text in each["events"]),
            )
            for each in parse_json(read_text(file, limit=LIMIT))
        ]
    except (OSError, ValueError, KeyError, TypeError, FlKitError) as error:
        raise StoreError(f"{file} holds no reports: {error}") from error
