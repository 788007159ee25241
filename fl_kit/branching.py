"""A run that goes on from an earlier round of another one: its folder, made from that one's."""

from collections.abc import Iterable
from pathlib import Path

from fl_kit.errors import StoreError
from fl_kit.events import ROUND_COMPLETED, Event
from fl_kit.legs import keep
from fl_kit.messages import read_meta
from fl_kit.plan import round_name
from fl_kit.store import FolderStore

ORIGIN = "origin"
"""Where environment.json says which run, and after which round, a run branched off."""


def branch(store: FolderStore, folder: Path, to_round: int) -> str:
    """A new run folder that holds a run as it was after a round; gives the id that it has.

    Raises StoreError for a round that was not kept.
    """
    kept = store.rounds()
    if to_round not in kept:
        raise StoreError(f"run {store.folder.name} has no round {to_round} to go back to; it has kept {kept}")
    told = read_meta(store.folder / round_name(to_round) / "state").get("events", 0)
    events = store.events.read()
    done = [e for e in events[told:] if (e.name, e.round) == (ROUND_COMPLETED, to_round)]
    new = begun_anew(store, folder, to_round, (*events[:told], *done[:1]))
    for round in kept[: kept.index(to_round) + 1]:
        new.save(store.state(round), store.memories(round))
    return folder.name


def begun_anew(store: FolderStore, folder: Path, to_round: int, events: Iterable[Event]) -> FolderStore:
    """A new run folder with what a run asked for up to a round, and those events; no state yet.

    Its environment.json says where it comes from.
    """
    first, *later = [leg for leg in store.legs() if leg.after < to_round]
    made = {**store.environment(), ORIGIN: {"run": store.folder.name, "round": to_round}}
    new = FolderStore.create(folder, first.job, first.plan, store.federation(), made)
    for number, leg in enumerate(later, start=1):
        keep(folder, number, leg)
    for event in events:
        new.events.append(event)
    new.events.flush()
    return new
