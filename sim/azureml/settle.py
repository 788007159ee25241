"""Gives every party of a federation its compute and datastore in a workspace, and puts the silos' data there."""

import os
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from fl_kit.errors import FederationError
from fl_kit.silo import Federation, Party, Silo
from sim.azureml.arm import put_compute, put_datastore
from sim.azureml.state import WorkspaceState

DATA = "data"
"""The folder of a silo's datastore in which its data are."""


def settle(state: WorkspaceState, federation: Federation) -> Federation:
    """The same federation, each party with a compute and a datastore that are now there, and data in the datastore.

    Raises FederationError if two parties would share a compute or a datastore, or if a silo's folder is missing
    or empty.
    """
    silos = [
        replace(
            silo,
            compute=silo.compute or silo.name,
            datastore=silo.datastore or f"{silo.name.replace('-', '_')}_store",
        )
        for silo in federation.silos
    ]
    orchestrator = replace(
        federation.orchestrator,
        compute=federation.orchestrator.compute or "orchestrator",
        datastore=federation.orchestrator.datastore or "orchestrator_store",
    )
    local = [silo for silo in silos if is_local(silo.data)]
    if local:
        Federation(silos=tuple(local)).check()
    refuse_shared("compute", [orchestrator.compute, *(silo.compute for silo in silos)])
    refuse_shared("datastore", [orchestrator.datastore, *(silo.datastore for silo in silos)])
    install(state, "orchestrator", orchestrator)
    for silo in silos:
        install(state, silo.name, silo)
    return Federation(silos=tuple(with_data(state, silo) for silo in silos), orchestrator=orchestrator)


def is_local(data: str) -> bool:
    """Whether a silo's data are a folder of this machine: no address, and no `name:version` of a data asset."""
    return "://" not in data and not re.fullmatch(r"[^/\\\\]+:[^/\\\\]+", data)


def refuse_shared(what: str, names: list[str]) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise FederationError(f"{times} parties share the {what} {name!r}: each needs its own")


def install(state: WorkspaceState, name: str, party: Party) -> None:
    """Make a party's compute and datastore; the tag `silo` says whose they are."""
    tags = {"silo": name, **({"region": party.region} if party.region else {})}
    properties: dict[str, Any] = {"computeType": "AmlCompute", "properties": {"vmSize": "LOCAL"}}
    if party.instance_type:
        resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
        kinds = {party.instance_type: {"nodeSelector": None, "resources": resources}}
        properties = {"computeType": "Kubernetes", "properties": {"namespace": "default", "instanceTypes": kinds}}
    body = {"location": state.settings.location, "tags": tags, "properties": properties}
    if party.identity.startswith("managed"):
        body["identity"] = {"type": "SystemAssigned"}  # as the compute of such a party has
    put_compute(state, party.compute, body)
    put_datastore(state, party.datastore, {"datastoreType": "AzureBlob", "tags": tags})


def with_data(state: WorkspaceState, silo: Silo) -> Silo:
    """The silo, its local folder copied into its datastore; data that are elsewhere already stay there."""
    if not is_local(silo.data):
        return silo
    mirror(Path(silo.data), state.storage(silo.datastore) / DATA)
    return replace(silo, data=f"azureml://datastores/{silo.datastore}/paths/{DATA}/")


def mirror(source: Path, target: Path) -> None:
    """Make `target` hold the files of `source` and no others; files of the same size and time are not copied again.

    A copy, because a step may write where it reads: the user's own files are out of reach. Links in `source` are
    followed. A step may have left links in `target`: they are removed, so that nothing is written through them.
    """
    wanted = files_of(source)
    clear(target, wanted)
    for name in sorted(wanted):
        if changed(source / name, target / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)


def files_of(source: Path) -> set[Path]:
    """Every file below a folder, through links too; raises FederationError for a link that leads back up."""
    found = set()
    for where, folders, files in os.walk(source, followlinks=True):
        for folder in folders:
            if Path(where).resolve().is_relative_to(Path(where, folder).resolve()):
                raise FederationError(f"{Path(where, folder)} is a link to a folder that it lies in")
        found |= {Path(where, file).relative_to(source) for file in files}
    return found


def clear(target: Path, wanted: set[Path]) -> None:
    """Remove links, files that are not wanted, and folders that are empty then."""
    if target.is_symlink():
        target.unlink()
    for where, folders, files in os.walk(target, topdown=False):
        for path in (Path(where, name) for name in [*files, *folders]):
            if path.is_symlink() or (path.is_file() and path.relative_to(target) not in wanted):
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def changed(source: Path, target: Path) -> bool:
    if not target.is_file():
        return True
    mine, theirs = source.stat(), target.stat()
    return (mine.st_size, mine.st_mtime_ns) != (theirs.st_size, theirs.st_mtime_ns)
