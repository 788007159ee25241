"""Who may read and write where: paths taken apart, and the rules that keep a silo's data in its silo.

    party         reads                                              writes
    silo          its own data and datastore; what the plan calls    its own datastore what the plan calls private,
                  shared, in the orchestrator's datastore            the orchestrator's what it calls shared
    orchestrator  what the plan calls shared, in its own datastore   its own datastore

Nothing else is allowed, and no form of a path goes around it: the long form of a URI, a data asset, an address of
the storage itself and an escaped name all lead to the datastore that they mean. A silo's data in a datastore of
nobody is the one thing that is only doubtful: who else reads there cannot be told.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from fl_kit.azureml.layout import Layout
from fl_kit.plan import ORCHESTRATOR, Plan, Step
from fl_kit.silo import Federation

Kind = Literal["datastore", "asset", "storage", "mounted", "local", "unknown"]

PATH = r"(?:/+paths(?:/+(?P<path>.*))?)?/*"
SCOPE = (
    r"subscriptions/+(?P<subscription>[^/]+)/+resourcegroups/+(?P<group>[^/]+)/+"
    r"(?:providers/+microsoft\.machinelearningservices/+)?workspaces/+(?P<workspace>[^/]+)/+"
)
VERSION = r"(?P<name>[\w.-]+)/+versions/+(?P<version>[\w.-]+)/*"
FORMS: dict[str, Kind] = {
    rf"azureml://+datastores/+(?P<datastore>[^/]+){PATH}": "datastore",
    rf"azureml://+{SCOPE}datastores/+(?P<datastore>[^/]+){PATH}": "datastore",
    r"(?:azureml:)?(?P<name>[\w.-]+)(?::(?P<version>[\w.-]+)|@(?P<label>[\w.-]+))": "asset",
    rf"(?:azureml:)?/*{SCOPE}data/+{VERSION}": "asset",
    rf"azureml://+locations/+[^/]+/+workspaces/+[^/]+/+data/+{VERSION}": "asset",
    r"(?:wasbs?|abfss?)://(?P<container>[^@/]+)@(?P<account>[^./]+)\.(?:blob|dfs)\.[^/]+(?:/+(?P<path>.*))?": "storage",
    r"https?://(?P<account>[^./]+)\.(?:blob|dfs)\.[^/]+/+(?P<container>[^/?]+)(?:/+(?P<path>.*))?": "storage",
    r"/(?P<path>[^/].*)?": "mounted",
}


@dataclass(frozen=True, kw_only=True)
class Location:
    """A path taken apart; what a kind has not is empty.

    kind  "datastore", "asset" (a registered data asset), "storage" (an address outside of the workspace's
          datastores), "mounted" (a plain path on the silo's own cluster), "local" (on this machine), "unknown"
    """

    text: str
    kind: Kind
    datastore: str = ""
    path: str = ""
    name: str = ""
    version: str = ""
    label: str = ""
    account: str = ""
    container: str = ""
    subscription: str = ""
    group: str = ""
    workspace: str = ""


def locate(text: str) -> Location:
    """Where a path leads, whatever its form.

    A path that climbs (`..`) is unknown: it may lead out of what it names.

    >>> locate("azureml://datastores/cleveland_store/paths/heart/").datastore
    'cleveland_store'
    """
    plain = unquote(text.strip())
    if ".." in re.split(r"[/\\]", plain):
        return Location(text=text, kind="unknown")
    for form, kind in FORMS.items():
        if found := re.fullmatch(form, plain, re.IGNORECASE):
            parts = {name: value or "" for name, value in found.groupdict().items()}
            return Location(text=text, kind=kind, **parts)
    return Location(text=text, kind="unknown" if ":" in plain[2:] or not plain else "local")


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A party that would read or write where it must not.

    doubtful  whether it only cannot be told
    """

    party: str
    what: str
    cure: str
    doubtful: bool = False


def breaches(plan: Plan, federation: Federation, where: Callable[[str], Location] = locate) -> list[Breach]:
    """Every breach of the rules in a plan, each once; the paths are those that are submitted.

    where  takes a path apart; a workspace knows more than `locate`: what its data assets and datastores stand for
    """
    layout = Layout("check", plan, federation)
    found = [breach for step in plan.steps for breach in step_breaches(step, plan, federation, layout, where)]
    return list(dict.fromkeys(found))


def step_breaches(
    step: Step, plan: Plan, federation: Federation, layout: Layout, where: Callable[[str], Location]
) -> Iterator[Breach]:
    for name, source in step.inputs.items():
        producer, _, output = source.partition(":")
        if producer == "data":
            yield from data_breaches(step.party, where(federation[output].data), federation)
        elif producer in plan.by_id:
            place = where(layout.output(plan.by_id[producer], output))
            yield from read_breaches(step.party, name, place, plan.by_id[producer].outputs[output], federation)
    for name in step.outputs:
        yield from write_breaches(step.party, name, where(layout.output(step, name)), step.outputs[name], federation)


def data_breaches(party: str, place: Location, federation: Federation) -> Iterator[Breach]:
    """A step's own data."""
    if party == ORCHESTRATOR:
        yield Breach(
            party=party, what=f"it would read {place.text}, a silo's data", cure="the orchestrator reads no data"
        )
    elif place.kind == "mounted":
        return
    elif place.kind == "datastore":
        owner = owner_of(place.datastore, federation)
        if owner == ORCHESTRATOR:
            yield Breach(
                party=party,
                what=f"its data lie in {place.datastore}, the orchestrator's datastore, which the orchestrator reads",
                cure="move the data to a datastore of the silo's own",
            )
        elif owner and owner != party:
            yield Breach(
                party=party,
                what=f"its data lie in {place.datastore}, the datastore of {owner}",
                cure=f"name a folder of its own in the silo's `data`; only {owner} reads there",
            )
        elif not owner:
            yield doubt(party, f"its data lie in {place.datastore}, the datastore of no party")
    elif place.kind == "storage":
        yield doubt(party, f"its data lie at {place.text}, in no datastore of the workspace")
    elif place.kind == "local":
        yield Breach(
            party=party,
            what=f"its data are {place.text!r}, a folder of this machine" if place.text else "it has no data",
            cure="name a path in its datastore, azureml://datastores/<datastore>/paths/<folder>/, or a data asset",
        )
    else:
        yield Breach(
            party=party,
            what=f"its data are {place.text!r}, of which cannot be told where it leads",
            cure="name a path in its datastore, azureml://datastores/<datastore>/paths/<folder>/",
        )


def doubt(party: str, what: str) -> Breach:
    cure = "make sure that only this silo reads there, or move the data to the silo's own datastore"
    return Breach(party=party, what=f"{what}: who else reads there cannot be told", cure=cure, doubtful=True)


def read_breaches(party: str, name: str, place: Location, privacy: str, federation: Federation) -> Iterator[Breach]:
    """What another step made."""
    allowed = {ORCHESTRATOR} if privacy == "shared" else {party} - {ORCHESTRATOR}
    if place.kind != "datastore" or owner_of(place.datastore, federation) not in allowed:
        yield Breach(
            party=party,
            what=f"it would read {kind_of(name)} ({privacy}) from {named(place, federation)}",
            cure="give each party a datastore of its own; only what the plan calls shared leaves a silo",
        )


def write_breaches(party: str, name: str, place: Location, privacy: str, federation: Federation) -> Iterator[Breach]:
    allowed = ORCHESTRATOR if privacy == "shared" else party
    if place.kind != "datastore" or owner_of(place.datastore, federation) != allowed:
        yield Breach(
            party=party,
            what=f"it would write {name} ({privacy}) to {named(place, federation)}",
            cure=f"{name} belongs into the datastore of {allowed}: give each party one of its own",
        )


def owner_of(datastore: str, federation: Federation) -> str:
    """Whose datastore it is; empty for nobody's, and for one that two parties name."""
    owners = [party for party, name in datastores_of(federation) if name.lower() == datastore.lower()]
    return owners[0] if len(owners) == 1 else ""


def datastores_of(federation: Federation) -> Iterable[tuple[str, str]]:
    yield ORCHESTRATOR, federation.orchestrator.datastore
    yield from ((silo.name, silo.datastore) for silo in federation.silos)


def named(place: Location, federation: Federation) -> str:
    """A place by its datastore, which all rounds have in common."""
    owner = owner_of(place.datastore, federation) if place.datastore else ""
    return f"{place.datastore or place.text}, the datastore of {owner or 'no single party'}"


def kind_of(name: str) -> str:
    return "an update" if name.startswith("update/") else name


def same_storage(known: Mapping[str, tuple[str, str]], place: Location) -> Location:
    """An address of the storage itself as the datastore that stands for it, if there is one.

    known  datastore → (account, container)
    """
    if place.kind != "storage":
        return place
    backing = (place.account.lower(), place.container.lower())
    datastore = next((name for name, found in known.items() if found == backing), "")
    return Location(text=place.text, kind="datastore", datastore=datastore, path=place.path) if datastore else place
