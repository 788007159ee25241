"""What one MLflow server has been given of a run; kept in the run folder as `tracking.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from fl_kit.bounded import parse_json, read_text
from fl_kit.errors import TrackingError
from fl_kit.files import write_text

FILE = "tracking.json"
FORMAT = 1
ROOT = ""
"""The key of the run itself among `runs`; the others are silos."""


@dataclass(kw_only=True)
class Ledger:
    """What has arrived at one server.

    uri         where, without a password
    experiment  its name there
    runs        "" → the id of the MLflow run; silo → the id of its child run, where there are child runs
    sent        "<party>/<metric>" → the last round whose figure has arrived
    described   whether job.json, plan.json and the task's source have arrived
    model       the round of the model that has arrived, or −1
    end         FINISHED, KILLED or FAILED, once the server knows how the run ended
    """

    uri: str
    experiment: str
    runs: dict[str, str] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    described: bool = False
    model: int = -1
    end: str = ""

    def save(self, folder: Path | None) -> None:
        """Write it to the run folder, whole or not at all, as the one that was used last."""
        if folder is None:
            return
        others = [ledger for ledger in load(folder) if not self.is_for(ledger.uri, ledger.experiment)]
        ledgers = [asdict(ledger) for ledger in [*others, self]]
        try:
            write_text(folder / FILE, json.dumps({"format": FORMAT, "mirrors": ledgers}, indent=1) + "\n")
        except OSError as error:
            raise TrackingError(f"{folder / FILE} cannot be written: {error.strerror}") from error

    def is_for(self, uri: str, experiment: str) -> bool:
        return (self.uri, self.experiment) == (without_password(uri), experiment)


def load(folder: Path | None) -> list[Ledger]:
    """Every server that has been given something; the one that was used last stands last.

    Raises TrackingError for a damaged file.
    """
    if folder is None or not (folder / FILE).exists():
        return []
    try:
        found: dict[str, Any] = parse_json(read_text(folder / FILE))
        if found["format"] != FORMAT:
            raise ValueError(f"it is of format {found['format']!r}")
        return [Ledger(**entry) for entry in found["mirrors"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            f"{folder / FILE} is damaged: {error}. Remove it and push again: what has arrived is recognised"
        ) from error


def ledger_for(folder: Path | None, uri: str, experiment: str) -> Ledger:
    """The ledger of a server, a new one if it has been given nothing."""
    known = (ledger for ledger in load(folder) if ledger.is_for(uri, experiment))
    return next(known, Ledger(uri=without_password(uri), experiment=experiment))


def without_password(uri: str) -> str:
    """The URI without what stands before an `@` in its host.

    >>> without_password("https://ada:secret@mlflow.example.org/team")  # no secret
    'https://mlflow.example.org/team'
    """
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri
