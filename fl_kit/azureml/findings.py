"""What a check found: everything at once, each with its cure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fl_kit.errors import FederationError
from fl_kit.table import Shown, Table


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or doubtful.

    level  "error": the job would fail, or a rule would be broken; "warning": a person should look
    party  whose it is; or "federation", "job", "workspace"
    cure   what to do
    """

    level: Literal["error", "warning"]
    party: str
    what: str
    cure: str


def fault(party: str, what: str, cure: str) -> Finding:
    """What must be mended."""
    return Finding(level="error", party=party, what=what, cure=cure)


def doubt(party: str, what: str, cure: str) -> Finding:
    """What a person should look at."""
    return Finding(level="warning", party=party, what=what, cure=cure)


SHOWN = 4
"""As many parties are named in one row; of more, their number and the first."""


def together(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The same finding of several parties as one, and each only once."""
    parties: dict[Finding, list[str]] = {}
    for each in dict.fromkeys(findings):
        parties.setdefault(replace(each, party=""), []).append(each.party)
    return tuple(replace(finding, party=listing(names)) for finding, names in parties.items())


def listing(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= SHOWN else f"{len(names)} parties, {names[0]} first"


@dataclass(frozen=True, kw_only=True, repr=False)
class Check(Shown):
    """All findings, errors first; true if there is no error.

    looked_at  what was checked, in a few words

    >>> found = check(job, federation, client)  # doctest: +SKIP
    >>> found.require()  # raises if there is an error  # doctest: +SKIP
    >>> bool(Check(findings=()))
    True
    """

    findings: tuple[Finding, ...]
    looked_at: str = ""

    def __bool__(self) -> bool:
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What must be mended before the job is submitted."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What a person should look at."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def require(self) -> "Check":
        """Itself if there is no error; raises FederationError that lists every one with its cure."""
        if self.errors:
            lines = [f"  {each.party}: {each.what}. {each.cure}" for each in self.errors]
            raise FederationError("the job is not ready for AzureML:\n" + "\n".join(lines))
        return self

    def table(self) -> Table:
        """One row per finding."""
        rows = [[each.level, each.party, each.what, each.cure] for each in self.findings]
        counts = f"{plural(len(self.errors), 'error')}, {plural(len(self.warnings), 'warning')}"
        title = "Ready to submit" if self else "Not ready to submit"
        return Table(
            columns=["level", "party", "finding", "cure"], rows=rows, title=f"{title}: {counts}", note=self.looked_at
        )


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
