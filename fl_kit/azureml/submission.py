"""One pipeline job of a run, and the tags by which it is found again."""

from dataclasses import dataclass
from typing import Any

from fl_kit.errors import StoreError

RUN, PHASES, ATTEMPT, RESUMED, TIME, LEG = (
    f"fl_kit.{name}" for name in ("run", "phases", "attempt", "resumed", "time", "leg")
)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One pipeline job of a run.

    number   1 for the first
    job      the pipeline job's name
    first    the first of its phases
    last     the phase after its last one
    attempt  0, or its number if its phases were submitted before; part of the paths of what it makes
    resumed  whether the one before it did not come to its end
    time     when it was submitted, in seconds since the epoch
    leg      which of the run's legs it is of: 0, unless the run was changed before
    """

    number: int
    job: str
    first: int
    last: int
    attempt: int = 0
    resumed: bool = False
    time: float = 0.0
    leg: int = 0

    def tags(self, run_id: str) -> dict[str, str]:
        """What is written on the job, so that the run can be found again by its id alone."""
        return {
            RUN: run_id,
            PHASES: f"{self.first}-{self.last}",
            ATTEMPT: str(self.attempt),
            RESUMED: str(int(self.resumed)),
            TIME: f"{self.time:.3f}",
            LEG: str(self.leg),
        }

    @classmethod
    def of_job(cls, number: int, job: Any) -> "Submission":
        """The submission that a job's tags describe; raises StoreError for a job that fl-kit did not make."""
        tags = job.tags or {}
        try:
            first, last = (int(text) for text in tags[PHASES].split("-"))
            return cls(
                number=number,
                job=str(job.name),
                first=first,
                last=last,
                attempt=int(tags[ATTEMPT]),
                resumed=tags[RESUMED] == "1",
                time=float(tags[TIME]),
                leg=int(tags.get(LEG, 0)),
            )
        except (KeyError, ValueError) as error:
            raise StoreError(f"job {job.name} is no run of fl-kit: its tags are {tags}") from error


def job_name(run_id: str, number: int) -> str:
    """The first job of a run has the run's own id as its name."""
    return run_id if number == 1 else f"{run_id}-{number}"
