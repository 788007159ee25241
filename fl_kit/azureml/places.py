"""What a workspace must have for every party: a compute and a datastore of its own, ready, and fit for each other."""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from fl_kit.azureml.environment import is_registered
from fl_kit.azureml.facts import AML, KUBERNETES, Facts
from fl_kit.azureml.findings import Finding, doubt, fault
from fl_kit.azureml.locality import locate
from fl_kit.entries import nearest
from fl_kit.plan import ORCHESTRATOR
from fl_kit.silo import Federation, Party, Silo

DATASTORE = re.compile(r"[A-Za-z0-9_]{1,255}")
"""A datastore's name."""


def parties(federation: Federation) -> dict[str, Party]:
    """Name → party, the orchestrator first."""
    return {ORCHESTRATOR: federation.orchestrator, **{silo.name: silo for silo in federation.silos}}


def missing_places(federation: Federation) -> Iterator[Finding]:
    """What can be said without a workspace."""
    for name, party in parties(federation).items():
        for what in ("compute", "datastore"):
            if not getattr(party, what):
                yield fault(name, f"it has no {what}", f"name one in its `{what}`")
        if party.datastore and not DATASTORE.fullmatch(party.datastore):
            what = f"{party.datastore!r} is no name of a datastore: that has letters, digits and '_' only"
            yield fault(name, what, "name one of the workspace in its `datastore`, not a path or an address")
        if party.compute.lower() == "serverless":
            cure = "attach a compute that this party alone uses"
            yield fault(name, "its compute is serverless: machines of no party", cure)
    users = [name for name, party in parties(federation).items() if party.identity == "user"]
    managed = [name for name, party in parties(federation).items() if party.identity.startswith("managed")]
    if users and managed:
        what = f"{', '.join(users)} read as the user, {', '.join(managed)} as a managed identity"
        yield fault("federation", what, "one job takes one kind of identity: use `managed` for all")


def shared_places(federation: Federation) -> Iterator[Finding]:
    """Two parties that name the same compute or datastore."""
    for (one, a), (other, b) in combinations(parties(federation).items(), 2):
        for what in ("compute", "datastore"):
            mine, theirs = getattr(a, what), getattr(b, what)
            if mine and mine.lower() == theirs.lower():
                cure = f"give {other} a {what} of its own"
                yield fault(
                    f"{one}, {other}", f"both use the {what} {mine!r}: one could read what is the other's", cure
                )


def same_things(federation: Federation, facts: Facts) -> Iterator[Finding]:
    """Two parties whose places have different names and are the same thing."""
    for (one, a), (other, b) in combinations(parties(federation).items(), 2):
        both = f"{one}, {other}"
        mine, theirs = (facts.storage.get(party.datastore.lower()) for party in (a, b))
        if mine and mine == theirs and a.datastore.lower() != b.datastore.lower():
            what = f"their datastores are one container, {mine[1]!r} of the account {mine[0]!r}"
            yield fault(both, what, f"give {other} a container of its own")
        yield from same_cluster(both, *(facts.computes.get(party.compute.lower()) for party in (a, b)))


def same_cluster(both: str, a: Any, b: Any) -> Iterator[Finding]:
    if a is None or b is None or a.name == b.name or not (a.type == b.type == KUBERNETES):
        return
    if not a.resource_id or str(a.resource_id).lower() != str(b.resource_id).lower():
        return
    if a.namespace == b.namespace:
        what = f"their computes are one cluster and one namespace, {a.namespace!r}"
        yield fault(both, what, "attach the cluster in a namespace for each, or use two clusters")
    else:
        what = f"their computes are one cluster, in the namespaces {a.namespace!r} and {b.namespace!r}"
        yield doubt(both, what, "make sure that the cluster keeps its namespaces apart, or use two clusters")


def compute_findings(federation: Federation, facts: Facts) -> Iterator[Finding]:
    """Every party's compute: there, ready, of a kind and size that does."""
    for name, party in parties(federation).items():
        if not party.compute or party.compute.lower() == "serverless":
            continue
        compute = facts.computes.get(party.compute.lower())
        if compute is None:
            known = sorted(each.name for each in facts.computes.values())
            what = f"there is no compute {party.compute!r}{known_names(party.compute, known)}"
            yield fault(name, what, "attach it to the workspace, or mend the name")
            continue
        yield from state_findings(name, compute)
        yield from instance_findings(name, party, compute)
        yield from identity_findings(name, party, compute)


def known_names(name: str, known: Iterable[str]) -> str:
    return nearest(name, known) if known else "; the workspace has none"


def state_findings(name: str, compute: Any) -> Iterator[Finding]:
    state = compute.provisioning_state
    if state and state != "Succeeded":
        shown = getattr(state, "value", state)
        errors = f": {compute.provisioning_errors}" if getattr(compute, "provisioning_errors", None) else ""
        what = f"its compute {compute.name!r} is not ready, its state is {shown}{errors}"
        yield fault(name, what, "wait until it is provisioned, or attach it again")
    if kind(compute) not in (AML, KUBERNETES):
        what = f"its compute {compute.name!r} is a {compute.type}, which runs no steps of a federation"
        yield fault(name, what, "use an AmlCompute cluster or a Kubernetes cluster")


def kind(compute: Any) -> str:
    return str(compute.type).lower()


def instance_findings(name: str, party: Party, compute: Any) -> Iterator[Finding]:
    """The instance type, which Kubernetes needs and AmlCompute must not be given, and the number of machines."""
    count = party.instance_count if isinstance(party, Silo) else 1
    most = getattr(compute, "max_instances", None)
    if kind(compute) == AML:
        if party.instance_type:
            what = f"instance_type {party.instance_type!r} with {compute.name!r}, an AmlCompute cluster"
            yield fault(name, what, "leave instance_type out: the cluster has one size of machine")
        if most is not None and count > most:
            what = f"instance_count {count}, and {compute.name!r} has {most} machines at most"
            yield fault(name, what, "ask for fewer, or raise the cluster's maximum")
    elif kind(compute) == KUBERNETES:
        yield from kubernetes_findings(name, party, compute)


def kubernetes_findings(name: str, party: Party, compute: Any) -> Iterator[Finding]:
    known = sorted(instance_types(compute))
    if not party.instance_type:
        what = f"no instance_type with {compute.name!r}, a Kubernetes cluster; its default has 2 CPUs and 2 GiB"
        yield fault(name, what, f"name one in the party's `instance_type`{f': {known}' if known else ''}")
    elif known and party.instance_type not in known:
        what = f"there is no instance type {party.instance_type!r} in {compute.name!r}"
        yield fault(name, what + nearest(party.instance_type, known), "mend the name, or ask the cluster's owner")


def instance_types(compute: Any) -> dict[str, Any]:
    """The instance types that a Kubernetes compute lists; releases of the SDK spell the field in two ways."""
    properties = getattr(compute, "properties", None) or {}
    return dict(properties.get("instanceTypes") or properties.get("instance_types") or {})


def identity_findings(name: str, party: Party, compute: Any) -> Iterator[Finding]:
    """A managed identity that the compute cannot act as."""
    if not party.identity.startswith("managed"):
        return
    client_id = party.identity.partition(":")[2]
    if client_id and kind(compute) == KUBERNETES:
        what = f"identity {party.identity!r} with {compute.name!r}: a Kubernetes cluster has only one"
        yield fault(name, what, "write `managed`")
    if getattr(compute, "identity", None) is None:
        what = f"identity {party.identity!r}, and {compute.name!r} has none"
        update = f"az ml compute update --name {compute.name} --identity-type SystemAssigned"
        role = "give the identity the role Storage Blob Data Contributor on the party's container"
        yield fault(name, what, f"{update}, then {role}")


def datastore_findings(federation: Federation, facts: Facts) -> Iterator[Finding]:
    """Every party's datastore, and the datastore and asset of every silo's data."""
    known = sorted(each.name for each in facts.datastores.values())
    for name, party in parties(federation).items():
        wanted = {party.datastore}
        if isinstance(party, Silo):
            wanted |= {locate(party.data).datastore}
            if why := facts.asset_fault(party.data):
                yield fault(name, why, "register the folder as an asset, or mend the name and version")
        for datastore in sorted(filter(DATASTORE.fullmatch, wanted)):
            if datastore.lower() not in facts.datastores:
                what = f"there is no datastore {datastore!r}{known_names(datastore, known)}"
                yield fault(name, what, "create it in the workspace, or mend the name")


def mount_findings(federation: Federation, facts: Facts) -> Iterator[Finding]:
    """A plain path as data, which only a Kubernetes cluster can mount."""
    for silo in federation.silos:
        compute = facts.computes.get(silo.compute.lower())
        if locate(silo.data).kind == "mounted" and compute is not None and kind(compute) != KUBERNETES:
            what = f"its data are {silo.data!r}, a mounted path, and {compute.name!r} is no Kubernetes cluster"
            yield fault(silo.name, what, "name a path in its datastore, azureml://datastores/…/paths/…/")


def environment_findings(federation: Federation, facts: Facts) -> Iterator[Finding]:
    """Environments of the workspace that are not there."""
    from azure.ai.ml.exceptions import MlException
    from azure.core.exceptions import HttpResponseError

    for name, party in parties(federation).items():
        if not is_registered(party):
            continue
        asset = locate(party.environment)
        which = {"label": asset.label} if asset.label else {"version": asset.version}
        try:
            facts.client.environments.get(asset.name, **which)
        except (MlException, HttpResponseError):
            what = f"there is no environment {party.environment.removeprefix('azureml:')!r} in the workspace"
            yield fault(name, what, "register it, or mend its name and version")
