"""What a party's steps run in: a container image and packages of exact versions.

The versions are those installed here, where the job was simulated: the same bits need the same packages. Which
ones a silo needs is said in `fl_kit/silo_environment.txt`, and by the task's own imports. The images carry no tag,
so that a silo gets their security patches; name one with a tag in `Silo.environment` to hold it fixed.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any

from fl_kit.azureml.imports import Import, imports_of
from fl_kit.errors import FederationError
from fl_kit.party_forms import REGISTERED, check_environment
from fl_kit.silo import Party
from fl_kit.task import Task

IMAGES = {
    "cpu": "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04",
    "cuda": "mcr.microsoft.com/azureml/openmpi5.0-cuda12.6-ubuntu24.04",
}
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
"""Where torch without CUDA is: on PyPI, torch for Linux brings some gigabytes of CUDA along."""

NAME = "fl-kit"
"""Of the environments that are registered here; each content is a version."""


def is_registered(party: Party) -> bool:
    """Whether a party's steps run in an environment of the workspace, taken as it is."""
    return bool(REGISTERED.fullmatch(party.environment))


def image_of(party: Party) -> str:
    """The container image; raises FederationError for an `environment` that is none."""
    check_environment(party.environment)
    name = party.environment or "cpu"
    return IMAGES.get(name, name)


def environment_of(party: Party, task: Task) -> dict[str, Any]:
    """The environment as AzureML's YAML has it; its version follows from its content.

    It has a name of its own, for the SDK would register a nameless one again for every step.
    """
    content = {"image": image_of(party), "conda_file": conda_of(party, task)}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    schema = "https://azuremlschemas.azureedge.net/latest/environment.schema.json"
    return {"$schema": schema, "name": NAME, "version": digest[:16], **content}


def environment_name(party: Party, task: Task) -> str:
    """`name:version` of the environment of a party's steps, or `name@label` if the party says so."""
    if is_registered(party):
        return party.environment.removeprefix("azureml:")
    return f"{NAME}:{environment_of(party, task)['version']}"


def conda_of(party: Party, task: Task) -> dict[str, Any]:
    """The conda file: Python as here, and every package by pip."""
    python = f"python={sys.version_info.major}.{sys.version_info.minor}"
    index = [f"--extra-index-url {CPU_WHEELS}"] if on_cpu(party) else []
    return {
        "name": "fl-kit",
        "channels": ["conda-forge"],
        "dependencies": [python, "pip", {"pip": [*index, *packages_of(party, task)]}],
    }


def packages_of(party: Party, task: Task) -> list[str]:
    """Every pip requirement of a party's environment, sorted by name.

    Raises FederationError for a package whose version is not known.
    """
    own = {canonical(line): line for line in party.packages}
    found = {name: line for name, line in base(party).items() if name not in own}
    for wanted in imports_of(task.source, task.name):
        choices = distributions(wanted.name)
        if len(choices) == 1 and not {*choices} & {*found, *own}:
            found[choices[0]] = f"{choices[0]}=={installed(choices[0])}"
    found |= own
    return [found[name] for name in sorted(found)]


def lacking(party: Party, task: Task) -> list[Import]:
    """What the task imports and the party's environment cannot have: no package here brings it, or several do.

    A module beside the notebook is such a thing: only the task's own source travels. Nothing can be said of an
    environment of the workspace.
    """
    if is_registered(party):
        return []
    there = {canonical(line) for line in packages_of(party, task)}
    return [
        wanted
        for wanted in imports_of(task.source, task.name)
        if not wanted.optional and not {*distributions(wanted.name), canonical(wanted.name)} & there
    ]


def base(party: Party) -> dict[str, str]:
    """Canonical name → requirement of what every step needs."""
    own = {canonical(line) for line in party.packages}
    names = [canonical(line) for line in silo_environment() if canonical(line) not in own]
    return {name: f"{name}=={installed(name)}{flavour(name, party)}" for name in names}


def flavour(name: str, party: Party) -> str:
    return "+cpu" if name == "torch" and on_cpu(party) else ""


def on_cpu(party: Party) -> bool:
    return party.environment in ("", "cpu")


def silo_environment() -> list[str]:
    """The requirements of `silo_environment.txt`, without its comments."""
    lines = (Path(__file__).parent.parent / "silo_environment.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def installed(name: str) -> str:
    """The version installed here, without a build's own label; raises FederationError if there is none."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError as error:
        raise FederationError(
            f"a silo needs {name}, which is not installed here: install it, or say its version in the silo's "
            f"`packages`, as in {name}==1.2.3"
        ) from error


def distributions(module: str) -> list[str]:
    """The packages installed here that bring a top-level module, by their canonical names."""
    return sorted({canonical(name) for name in known_distributions().get(module, ())})


@cache
def known_distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def canonical(requirement: str) -> str:
    """The name in a pip requirement, as PyPI writes it.

    >>> canonical("Scikit_Learn[extra]==1.5.0 --hash=sha256:00")
    'scikit-learn'
    """
    name = re.match(r"\s*([A-Za-z0-9._-]+)", requirement)
    return re.sub(r"[-_.]+", "-", name[1]).lower() if name else requirement


def unpinned(party: Party) -> list[str]:
    """Of a party's own packages, those without an exact version or a hash."""
    exact = re.compile(r"\s*[A-Za-z0-9._-]+\s*(\[[^\]]*\])?\s*===?\s*[^\s,;*]+\s*(;.*|--hash.*)?|.*--hash=\w+:\w+.*")
    return [line for line in party.packages if not exact.fullmatch(line)]
