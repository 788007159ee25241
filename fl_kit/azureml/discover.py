"""`federation_in`: a proposal of who takes part, from what a workspace has; a person corrects it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fl_kit.azureml.facts import AML, KUBERNETES, unreachable
from fl_kit.azureml.places import instance_types, kind
from fl_kit.errors import FederationError
from fl_kit.party_forms import NAME
from fl_kit.plan import ORCHESTRATOR
from fl_kit.silo import RESERVED, Federation, Orchestrator, Silo

TAG = "silo"
"""The tag of a compute or datastore that names its silo, or says `orchestrator`."""

WORKSPACES_OWN = re.compile(r"workspace(blobstore|filestore|artifactstore|workingdirectory)|azureml_globaldatasets")

COMPUTE_WORDS = frozenset(["compute", "cluster", "cpu", "gpu", "aks", "arc", "k8s", "kubernetes", "aml"])
DATASTORE_WORDS = frozenset(["datastore", "store", "storage", "ds", "blob", "data", "container"])
ORCHESTRATOR_WORDS = frozenset(["orchestrator", "orch", "hub", "aggregator", "server", "central"])


def federation_in(client: Any) -> Federation:
    """The federation that the workspace's computes and datastores suggest; read it, correct it, `save` it.

    A compute and a datastore belong together if both have the tag `silo` with the same name (`orchestrator` for the
    orchestrator's). Those without it go by their names, less what says that they are a compute or a datastore:
    `cleveland-cpu` and `cleveland_store`, `silo0-01` and `datastore_silo0`, `orchestrator-01` and
    `datastore_orchestrator`. What is left alone is left out; of several computes of one silo the first is taken.

    A silo's data are a guess as well: what its datastore's tag `data` says, or else the folder `data/` there. On
    Kubernetes, the instance type is the cluster's only one, if it has one.

    client  an `azure.ai.ml.MLClient`

    Raises FederationError, saying what there is, if the workspace does not answer or no silo can be made out.

    >>> federation = federation_in(client)  # doctest: +SKIP
    >>> path = federation.save("federation.yaml")  # to be corrected  # doctest: +SKIP
    """
    from azure.core.exceptions import AzureError

    try:
        computes = [each for each in client.compute.list() if each and kind(each) in (AML, KUBERNETES)]
        stores = [each for each in client.datastores.list() if each and not WORKSPACES_OWN.fullmatch(each.name)]
    except AzureError as error:
        raise FederationError(unreachable(client, error)) from error
    pairs = list(paired(claims(computes, COMPUTE_WORDS), claims(stores, DATASTORE_WORDS)))
    silos = [(name, compute, store) for name, compute, store in pairs if name != ORCHESTRATOR]
    if not silos:
        raise FederationError(nobody(computes, stores))
    hub = next((Orchestrator(**place(compute, store)) for name, compute, store in pairs if name == ORCHESTRATOR), None)
    return Federation(
        silos=tuple(Silo(name=name, data=data_in(store), **place(compute, store)) for name, compute, store in silos),
        orchestrator=hub or Orchestrator(),
    )


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A party that a compute or datastore seems to belong to.

    tagged  whether its tag says so
    """

    party: str
    thing: Any
    tagged: bool


def claims(things: Iterable[Any], words: Collection[str]) -> Mapping[str, Claim]:
    """Party, in one form of spelling → its compute or datastore: a tag goes before a name, then the first by name."""
    found: dict[str, Claim] = {}
    for thing in sorted(things, key=lambda each: (TAG not in (each.tags or {}), each.name)):
        tag = str((thing.tags or {}).get(TAG, ""))
        party = tag or core(thing.name, words)
        party = ORCHESTRATOR if party.lower() in ORCHESTRATOR_WORDS else party
        if party == ORCHESTRATOR or (NAME.fullmatch(party) and party.lower() not in RESERVED):
            spelling = party.lower().replace("-", "_")
            found.setdefault(spelling, Claim(party=party, thing=thing, tagged=bool(tag)))
    return found


def paired(computes: Mapping[str, Claim], stores: Mapping[str, Claim]) -> Iterator[tuple[str, Any, Any]]:
    """Name, compute and datastore of each party that has both; a tag's spelling goes before a name's."""
    for spelling in sorted(computes.keys() & stores.keys()):
        compute, store = computes[spelling], stores[spelling]
        yield (compute if compute.tagged else store).party, compute.thing, store.thing


def core(name: str, words: Collection[str]) -> str:
    """A name without the words for what it is, and without a number of its own at the end.

    >>> core("silo0-01", COMPUTE_WORDS), core("datastore_silo0", DATASTORE_WORDS), core("long-beach-gpu", COMPUTE_WORDS)
    ('silo0', 'silo0', 'long_beach')
    """
    parts = [part for part in re.split(r"[-_]+", name.lower()) if part]
    if len(parts) > 1 and re.fullmatch(r"0\d", parts[-1]):
        parts.pop()
    kept = [part for part in parts if part not in words]
    return "_".join(kept)


def place(compute: Any, store: Any) -> dict[str, Any]:
    """The fields of a party that its compute and datastore tell."""
    types = sorted(instance_types(compute)) if kind(compute) == KUBERNETES else []
    region = (compute.tags or {}).get("region") or compute.location or ""
    return {
        "compute": compute.name,
        "datastore": store.name,
        "region": str(region),
        "instance_type": types[0] if len(types) == 1 else "",
        "identity": "managed" if getattr(compute, "identity", None) else "",
    }


def data_in(store: Any) -> str:
    """A guess at where a silo's data are."""
    root = f"azureml://datastores/{store.name}/paths/"
    tag = str((store.tags or {}).get("data", "data"))
    return tag if ":" in tag else f"{root}{tag.strip('/')}/"


def nobody(computes: Iterable[Any], stores: Iterable[Any]) -> str:
    there = f"computes: {names(computes)}; datastores: {names(stores)}"
    return (
        "no silo can be made out in the workspace: none has both a compute and a datastore. Give both the tag "
        f"{TAG}=<name>, or call them <name>-cpu and <name>_store; or write the federation yourself. There are {there}"
    )


def names(things: Iterable[Any]) -> str:
    found = sorted(each.name for each in things)
    return ", ".join(found[:12]) + (" …" if len(found) > 12 else "") or "none"
