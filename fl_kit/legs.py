"""Leg: the part of a run that one job and one plan hold for. A run that was changed on its way has several.

A run folder holds the first one at its top, and the later ones in the order in which they came:

    changes/001/   job.json  plan.json  leg.json      leg.json: after which round, among which silos, in which words
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fl_kit.bundle import bundle_digest
from fl_kit.errors import StoreError
from fl_kit.files import make_folder, write_text
from fl_kit.plan import Plan
from fl_kit.silo import Federation

if TYPE_CHECKING:
    from fl_kit.job import Job

CHANGES = "changes"


@dataclass(frozen=True, kw_only=True, eq=False)
class Leg:
    """What holds for the rounds after one.

    after  the last round that it does not hold for; −1 for the first leg of a run
    silos  who may take part
    words  what was changed, for people; empty for the first leg
    """

    job: "Job"
    plan: Plan
    silos: tuple[str, ...]
    after: int = -1
    words: str = ""

    @cached_property
    def digest(self) -> str:
        """That of the bundle that its steps run under."""
        return bundle_digest(self.job, self.plan)

    def announcement(self, federation: Federation) -> dict[str, Any]:
        """What the event of a change says."""
        told = self.job.announcement(federation)
        return {**told, "silos": list(self.silos), "after": self.after, "words": self.words}


def first_leg(job: "Job", plan: Plan, federation: Federation) -> Leg:
    """The leg with which a run begins."""
    return Leg(job=job, plan=plan, silos=federation.names)


def keep(folder: Path, number: int, leg: Leg) -> None:
    """Write a run's leg into its folder; it is there once its job.json is.

    Raises StoreError if there is one: another kernel has changed the run since this one looked.
    """
    place = folder / part_of(number)
    if (place / "job.json").exists():
        raise StoreError(f"run {folder.name} was changed by another kernel: resume it, or attach to it, anew")
    make_folder(place, durable=True)
    write_text(place / "plan.json", leg.plan.to_json(), durable=True)
    about = {"after": leg.after, "silos": list(leg.silos), "words": leg.words}
    write_text(place / "leg.json", json.dumps(about, indent=1) + "\n", durable=True)
    write_text(place / "job.json", leg.job.to_json(), durable=True)


def part_of(number: int) -> str:
    """Where a leg lies in a run's folder: at its top, or in `changes/001/`."""
    return f"{CHANGES}/{number:03d}/" if number else ""
