"""A silo's own policy: which bundles may run on its data. Its owner writes it; a job only meets it.

`policy.toml` lies in the silo's data folder, or where the environment variable FL_KIT_POLICY of the silo's own machine
says; where both are found, both must agree.

    threshold = 2                                   # so many of the approvers must have signed; all of them if left out
    allow = ["3f9a1c…"]                             # digests that need no signature: the owner has read them
    max_epsilon = 3.0                               # differential privacy that the job must declare
    outputs = ["update", "metrics", "memory"]       # what a step here may give; everything if left out

    [approvers]                                     # whose signatures count
    alice = "ed25519:Zk0f…"
    bob = "ed25519:9aQx…"

A silo's step reads it before the task's code is imported, and refuses what it does not admit. No policy: no check.

What it cannot do: whoever sends a job also sends the fl-kit that reads the policy. It keeps honest senders from
running what was never approved, or was changed since. Against a sender who lies the silo's owner must verify the
bundle with an fl-kit of their own before any of it runs (`fl_kit.bundle.verify`, then `fl_kit.policy.admit`).
"""

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fl_kit.approvals import DIGEST, NAME, Approval
from fl_kit.bounded import read_text
from fl_kit.errors import ApprovalError, PolicyError
from fl_kit.plan import Plan
from fl_kit.signing import is_signed, key_bytes

FILE = "policy.toml"
VARIABLE = "FL_KIT_POLICY"
METRICS = "metrics"
LARGEST_FILE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a silo is asked to run.

    digest     of the bundle
    approvals  that came with it, of whatever worth
    job        what its job.json says
    """

    digest: str
    approvals: Sequence[Approval]
    job: Mapping[str, Any]
    plan: Plan

    @property
    def epsilon(self) -> float | None:
        """What the job's transforms declare to spend in the whole run, added up; None if none declares any.

        A transform declares it as its setting `epsilon`. fl-kit has no such transform of its own yet.
        """
        declared = [
            transform["settings"]["epsilon"]
            for transform in self.job["transforms"]
            if transform["settings"].get("epsilon") is not None
        ]
        if any(type(value) not in (int, float) or not value >= 0 for value in declared):
            return math.nan
        return float(sum(declared)) if declared else None

    def outputs(self, silo: str) -> set[str]:
        """What the silo's steps give: the plan's outputs, and the figures that every update carries."""
        names = {name for step in self.plan.steps if step.party == silo for name in step.outputs}
        return names | ({METRICS} if "update" in names else set())


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What one silo admits.

    approvers    name → public key, as `fl-kit keygen` prints it
    threshold    so many of them must have signed, 1 ≤ threshold ≤ their number; by default all
    allow        digests that need no signature
    max_epsilon  the most that the job may declare; a job that declares none is refused then. None asks for nothing
    outputs      names that the silo's steps may give: `update`, `metrics` (the figures that every update carries),
                 `memory` (which stays in the silo). None means all
    source       where it stands, for errors

    Without approvers and without `allow` any bundle is admitted that keeps to the rest.

    Raises PolicyError for a value of another form.

    >>> Policy(allow=("3f" * 32,)).threshold
    0
    """

    approvers: Mapping[str, str] = field(default_factory=dict)
    threshold: int | None = None
    allow: Sequence[str] = ()
    max_epsilon: float | None = None
    outputs: Sequence[str] | None = None
    source: str = "the policy"

    def __post_init__(self) -> None:
        self._check_approvers()
        if self.threshold is None:
            object.__setattr__(self, "threshold", len(self.approvers))
        least = 1 if self.approvers else 0
        if type(self.threshold) is not int or not least <= self.threshold <= len(self.approvers):
            raise self._fault(f"threshold is {self.threshold!r}, of {len(self.approvers)} approvers")
        for name, form in (("allow", DIGEST), ("outputs", NAME)):
            values = getattr(self, name)
            if name == "outputs" and values is None:
                continue
            if isinstance(values, str) or not isinstance(values, Sequence):
                raise self._fault(f"{name} must be a list, not {values!r}")
            for value in values:
                if not isinstance(value, str) or not form.fullmatch(value):
                    what = "digests of 64 hexadecimal digits" if name == "allow" else "names of outputs"
                    raise self._fault(f"{name} holds {str(value)[:80]!r}; it must be {what}")
        most = self.max_epsilon
        if most is not None and (type(most) not in (int, float) or not (math.isfinite(most) and most >= 0)):
            raise self._fault(f"max_epsilon is {most!r}; it must be a number from 0 on")

    def _check_approvers(self) -> None:
        approvers: object = self.approvers
        if not isinstance(approvers, Mapping):
            raise self._fault(f"approvers must be a table of name = key, not {approvers!r}")
        whose: dict[bytes, str] = {}
        for name, key in self.approvers.items():
            try:
                found = key_bytes(str(key))
            except ApprovalError as error:
                raise self._fault(f"the key of {name}: {error}") from error
            if not NAME.fullmatch(name):
                raise self._fault(f"no approver can be called {name[:80]!r}")
            if found in whose:
                raise self._fault(f"{whose[found]} and {name} have the same key: one person would count twice")
            whose[found] = name

    def _fault(self, what: str) -> PolicyError:
        return PolicyError(f"{self.source}: {what}. Its owner must mend it; until then nothing runs here")

    @classmethod
    def load(cls, path: str | Path) -> "Policy":
        """The policy in a TOML file; raises PolicyError for one that cannot be read or has a key that is unknown."""
        path = Path(path)
        try:
            found = tomllib.loads(read_text(path, limit=LARGEST_FILE, links=True))
        except OSError as error:
            raise PolicyError(f"the policy {path} cannot be read: {error.strerror}; so nothing runs here") from error
        except (ValueError, RecursionError) as error:
            raise PolicyError(f"the policy {path} is not TOML: {error}; so nothing runs here") from error
        known = ("approvers", "threshold", "allow", "max_epsilon", "outputs")
        if unknown := sorted(found.keys() - set(known)):
            raise PolicyError(f"the policy {path} has {unknown[0]!r}, which is none of {', '.join(known)}")
        return cls(**found, source=str(path))

    def objections(self, silo: str, offer: Offer) -> list[str]:
        """Everything that speaks against running a bundle in a silo; empty if it is admitted."""
        return [found for found in (self._unsigned(offer), self._epsilon(offer), self._outputs(silo, offer)) if found]

    def _unsigned(self, offer: Offer) -> str:
        """What approvals are missing, or an empty string."""
        if offer.digest in self.allow or not (self.approvers or self.allow):
            return ""
        if not self.approvers:
            return f"it is none of the {len(self.allow)} bundles that `allow` lists, and nobody's signature would do"
        worthless = {approval: why for approval in offer.approvals if (why := self._worthless(approval, offer.digest))}
        valid = {approval.approver for approval in offer.approvals if approval not in worthless}
        assert self.threshold is not None
        if len(valid) >= self.threshold:
            return ""
        missing = [name for name in self.approvers if name not in valid]
        parts = [
            f"{len(valid)} of {self.threshold} needed approvals are valid{listed(sorted(valid), ': ')}",
            f"missing: {', '.join(missing)}",
            *([f"not counted: {'; '.join(dict.fromkeys(worthless.values()))}"] if worthless else []),
        ]
        return ". ".join(parts)

    def _worthless(self, approval: Approval, digest: str) -> str:
        """Why an approval does not count, or an empty string."""
        name = approval.approver
        if name not in self.approvers:
            return f"{name} is no approver here"
        if approval.digest != digest:
            return f"{name} signed another bundle, {approval.digest[:12]}…"
        if not is_signed(approval.statement, approval.signature, self.approvers[name]):
            return f"the signature of {name} was not made with {name}'s key, or for something else"
        return ""

    def _epsilon(self, offer: Offer) -> str:
        if self.max_epsilon is None:
            return ""
        found = offer.epsilon
        if found is None:
            return (
                f"it declares no epsilon, and at most {self.max_epsilon:g} is asked for: add a transform that has one"
            )
        if not found <= self.max_epsilon:
            return f"it declares an epsilon of {found:g}; at most {self.max_epsilon:g} is allowed"
        return ""

    def _outputs(self, silo: str, offer: Offer) -> str:
        if self.outputs is None:
            return ""
        odd = sorted(offer.outputs(silo) - set(self.outputs))
        allowed = ", ".join(self.outputs) or "nothing"
        return f"its steps here would give {', '.join(odd)}; allowed is {allowed}" if odd else ""


def listed(names: Sequence[str], before: str) -> str:
    return f"{before}{', '.join(names)}" if names else ""


def policies_of(folder: str) -> list[Policy]:
    """The policies that a silo with that data folder has: none, one or two. Raises PolicyError for one in disorder."""
    return [Policy.load(path) for path in policy_files(folder)]


def policy_files(folder: str) -> list[str]:
    """Where a silo's policies are: in its data folder, if one is there, and where the environment names one."""
    places = []
    if folder and os.path.lexists(own := os.path.join(folder, FILE)):  # noqa: PTH118 - a thousand silos, every round
        places.append(own)
    if elsewhere := os.environ.get(VARIABLE, ""):
        places.append(elsewhere)
    return places


def admit(silo: str, folder: str, offer: Offer) -> None:
    """Raise PolicyError, with everything that speaks against it, unless each policy of the silo admits a bundle.

    folder  the silo's data folder
    """
    for policy in policies_of(folder):
        try:
            against = policy.objections(silo, offer)
        except ApprovalError as error:
            raise PolicyError(f"silo {silo} refuses bundle {offer.digest}: {error}") from error
        if against:
            raise PolicyError(
                f"silo {silo} refuses bundle {offer.digest}: {'. And '.join(against)}. "
                f"So says {policy.source}; approvers sign with `fl-kit approve`, and a backend is given `approvals`"
            )
