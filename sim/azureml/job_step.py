"""One step of a submitted job: the command it runs, what it reads, and where it writes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sim.azureml.errors import WorkspaceError


@dataclass(frozen=True, kw_only=True)
class Value:
    """An input that is a number, text or truth value, as text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Location:
    """An input that lies in a datastore: its uri or asset id, and its kind, such as `uri_folder`."""

    uri: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """An input that is an output of another step, by that step's path."""

    step: str
    output: str


Source: TypeAlias = Value | Location | Result


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where an output goes: a uri ("" for the workspace's choice), its kind, and whether an outer level chose it."""

    uri: str
    kind: str
    lifted: bool = False


@dataclass(frozen=True, kw_only=True)
class JobStep:
    """One command to run.

    path        names of its nodes from outside in, `round_003/fit_cleveland`; empty for a job that is one command
    inputs      what is given; an optional input that is not given is absent
    optional    inputs whose absence is allowed
    timeout     seconds, or None
    instances   machines, each with so many `processes`
    """

    path: str
    command: str
    code: str
    environment: str
    compute: str
    inputs: Mapping[str, Source] = field(default_factory=dict)
    optional: frozenset[str] = frozenset()
    outputs: Mapping[str, Target] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = None
    instances: int = 1
    processes: int = 1

    @property
    def name(self) -> str:
        """Its node's name."""
        return self.path.rpartition("/")[2]

    @property
    def after(self) -> frozenset[str]:
        """Paths of the steps whose outputs it reads."""
        return frozenset(source.step for source in self.inputs.values() if isinstance(source, Result))


BLOCK = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
"""A part of a command that stands only if every input in it is given."""


INPUT = re.compile(r"\$\{\{\s*inputs\.([^\s}]+?)\s*\}\}")


def in_blocks(command: str) -> frozenset[str]:
    """Inputs that a command uses only where they are given."""
    return frozenset(INPUT.findall(" ".join(BLOCK.findall(command))))


def command_line(step: JobStep, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """The command with its inputs and outputs in place, and without the blocks whose inputs are absent."""

    def block(match: re.Match[str]) -> str:
        return match[1] if all(name in inputs for name in INPUT.findall(match[1])) else ""

    def place(match: re.Match[str]) -> str:
        values = inputs if match[1] == "inputs" else outputs
        if match[2] not in values:
            raise refused(f"{step.path or 'the job'}: its command uses {match[0]}, which is not given")
        return values[match[2]]

    return re.sub(r"\$\{\{\s*(inputs|outputs)\.([^\s}]+?)\s*\}\}", place, BLOCK.sub(block, step.command))


DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")


def seconds(timeout: Any) -> float | None:
    """A timeout in seconds, from a number or an ISO duration such as `PT1H`."""
    if timeout is None:
        return None
    match = DURATION.fullmatch(str(timeout))
    if match:
        days, hours, minutes, rest = (float(part or 0) for part in match.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + rest
    try:
        return float(timeout)
    except (TypeError, ValueError) as error:
        raise refused(f"{timeout!r} is no time limit") from error


def refused(message: str, *, code: str = "UserError") -> WorkspaceError:
    return WorkspaceError(message, status=400, code=code)
