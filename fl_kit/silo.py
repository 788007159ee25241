"""Who takes part: silos, the orchestrator, and the federation of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fl_kit.bounded import DEVICE
from fl_kit.entries import Entries, plain
from fl_kit.entries import nearest as nearest
from fl_kit.errors import FederationError
from fl_kit.party_forms import NAME, check_environment, check_identity, check_no_secret
from fl_kit.readable import brief, call, changed, listed, readable_path
from fl_kit.table import Shown, Table
from fl_kit.yaml_lines import Lines, read_yaml

FORMS = {"identity": check_identity, "environment": check_environment}
RESERVED = frozenset({"global", "orchestrator", "state"})
MOST_FAULTS = 50
"""Faults of a file that are listed."""
DIFFER = "names must differ in more than case; rename one"


@dataclass(frozen=True, kw_only=True, repr=False)
class Party(Shown):
    """Where a party's steps run, and as whom. Simulation uses none of it; AzureML needs compute and datastore.

    compute        an attached compute: an AmlCompute cluster, or a Kubernetes cluster (AKS, Arc)
    datastore      where the party's outputs are kept; no other party's
    region         for people, and for choosing silos
    instance_type  Kubernetes only: the InstanceType to run on, as the cluster's owner named it
    identity       who reads the data there: `managed` (the compute's own), `managed:<client id>` (one of several of
                   an AmlCompute), `user` (whoever submits), or empty for what the datastore's credentials allow
    environment    what steps run in: `cpu` (the default) or `cuda`, fl-kit's own with exact versions; a container
                   image, such as `ghcr.io/clinic/torch:2.6`, which the packages are installed on; or an environment
                   of the workspace, `azureml:name:version`, taken as it is
    packages       pip requirements of its own, with exact versions; one replaces fl-kit's of the same name
    variables      environment variables of its steps
    """

    compute: str = ""
    datastore: str = ""
    region: str = ""
    instance_type: str = ""
    identity: str = ""
    environment: str = ""
    packages: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", tuple(self.packages))
        for field_name, value in vars(self).items():
            check_no_secret(field_name, value)

    def table(self) -> Table:
        """What is set; of environment variables the names alone."""
        settings = [[name, told] for name, told in self._settings(plain=True).items() if name != "name"]
        title = " ".join([type(self).__name__, *([self.name] if isinstance(self, Silo) else [])])
        return Table(columns=["", ""], rows=settings, title=title)

    def __repr__(self) -> str:
        return call(type(self).__name__, self._settings(plain=False))

    def _settings(self, *, plain: bool) -> dict[str, str]:
        """Name → value of what is set, for people (`plain`) or as code."""
        found: dict[str, str] = {}
        for name, value in sorted(changed(self).items(), key=lambda item: item[0] not in ("name", "data")):
            if name == "data":
                found[name] = readable_path(value) if plain else repr(readable_path(value))
            elif name == "variables":  # a repr stays in saved notebooks, where no value of theirs should stand
                found[name] = listed(value)
            elif not plain:
                found[name] = brief(value)
            elif isinstance(value, Mapping):
                found[name] = listed(f"{key}: {text}" for key, text in value.items())
            else:
                found[name] = listed(value) if isinstance(value, tuple) else str(value)
        return found


@dataclass(frozen=True, kw_only=True, repr=False)
class Silo(Party):
    """One trust boundary: a name, its data, and where its steps run (see Party for the rest).

    name            letters, digits, `-` and `_`, at most 63; unique in its federation
    data            what only this silo reads: a folder, for simulation; on AzureML a path in a datastore,
                    `azureml://datastores/<datastore>/paths/<folder>/`, a registered data asset, `name:version`, or
                    the plain path of a volume that the Kubernetes cluster mounts, `/mnt/data`
    instance_count  machines that one training step uses; at least 1
    processes       training processes on each machine; at least 1
    tags            anything else worth showing

    Raises FederationError for a name that cannot be a folder on every system, or a count below 1.

    >>> Silo(name="cleveland", data="data/cleveland").name
    'cleveland'
    """

    name: str
    data: str
    instance_count: int = 1
    processes: int = 1
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        name: object = self.name  # from a file it may be a number
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise FederationError(
                f"silo name {self.name!r} will not do: use letters, digits, '-' and '_', at most 63, "
                "and start with a letter or digit, because it names folders and metrics"
            )
        if DEVICE.fullmatch(self.name):
            raise FederationError(f"silo name {self.name!r} is a device on Windows, where no folder can have it")
        if self.name.lower() in RESERVED:
            raise FederationError(f"silo name {self.name!r} is fl-kit's own; choose another")
        for count in ("instance_count", "processes"):
            value = getattr(self, count)
            if type(value) is not int or value < 1:
                raise FederationError(f"silo {self.name!r}: {count} is {value!r}; it must be a whole number from 1 on")
        object.__setattr__(self, "data", str(self.data))


@dataclass(frozen=True, kw_only=True, repr=False)
class Orchestrator(Party):
    """The party that aggregates: a compute and a datastore; it never reads a silo's data. See Party.

    >>> Orchestrator(compute="hub", datastore="hub_store")
    Orchestrator(compute='hub', datastore='hub_store')
    """


@dataclass(frozen=True, kw_only=True, repr=False)
class Federation(Shown):
    """An orchestrator and its silos, sorted by name.

    Sorted, because updates are summed in silo order: the order of listing must not change the bits.

    Raises FederationError for no silos, or two of one name (case is ignored, as some file systems do).

    >>> Federation(silos=(Silo(name="ash", data="data/ash"), Silo(name="birch", data="data/birch")))
    Federation of 2 silos
    silo   data
    ─────  ──────────
    ash    data/ash
    birch  data/birch
    """

    silos: tuple[Silo, ...]
    orchestrator: Orchestrator = field(default_factory=Orchestrator)

    def __post_init__(self) -> None:
        silos = tuple(sorted(self.silos, key=lambda silo: silo.name))
        if not silos:
            raise FederationError("a federation needs at least one silo")
        seen: dict[str, str] = {}
        for silo in silos:
            if silo.name.lower() in seen:
                raise FederationError(f"two silos are called {seen[silo.name.lower()]!r} and {silo.name!r}: {DIFFER}")
            seen[silo.name.lower()] = silo.name
        object.__setattr__(self, "silos", silos)

    @property
    def names(self) -> tuple[str, ...]:
        """The silos' names, in silo order."""
        return tuple(silo.name for silo in self.silos)

    def __len__(self) -> int:
        return len(self.silos)

    def __getitem__(self, name: str) -> Silo:
        """The silo of that name; raises FederationError with the nearest name."""
        for silo in self.silos:
            if silo.name == name:
                return silo
        raise FederationError(f"there is no silo {name!r}{nearest(name, self.names)}")

    def select(self, names: Iterable[str] | None = None, *, region: str | None = None) -> "Federation":
        """The same federation with only some silos.

        names   names, or patterns such as "hospital-*"; None means any
        region  only silos of that region, or of a pattern such as "west*"

        Raises FederationError for a name or region that no silo has, with the nearest one, or if none is left.

        >>> both = Federation(silos=tuple(Silo(name=n, data="", region=r) for n, r in (("a", "east"), ("b", "west"))))
        >>> both.select(region="we*").names
        ('b',)
        """
        if isinstance(names, str):
            raise FederationError(f"select takes a list of names; write [{names!r}]")
        kept = self.silos
        if names is not None:
            asked = {found for name in names for found in matching(name, self.names, "silo")}
            kept = tuple(silo for silo in kept if silo.name in asked)
        if region is not None:
            regions = set(matching(region, sorted({silo.region for silo in self.silos}), "region"))
            kept = tuple(silo for silo in kept if silo.region in regions)
        if not kept:
            raise FederationError(
                f"select(names={names!r}, region={region!r}) leaves no silo; a federation needs at least one silo"
            )
        return replace(self, silos=kept)

    def check(self) -> "Federation":
        """Itself, if every silo's local folder is there and not empty.

        Raises FederationError that lists every silo at fault, not only the first.
        """
        faults = [fault for silo in self.silos if (fault := folder_fault(silo))]
        if faults:
            raise FederationError("the federation is not ready:\n" + "\n".join(f"  {fault}" for fault in faults))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `federation.yaml` holds; empty fields are left out."""
        return {"orchestrator": plain(self.orchestrator), "silos": [plain(silo) for silo in self.silos]}

    @classmethod
    def from_dict(cls, found: Any, source: str = "federation", lines: Lines | None = None) -> "Federation":
        """The federation that `to_dict` described.

        source  how a FederationError calls where it stands; the error lists every fault, not only the first
        lines   the line of each part, where it comes from a file
        """
        if not isinstance(found, dict) or not isinstance(found.get("silos"), list):
            raise FederationError(f"{source} holds no list called `silos`")
        entries = Entries(source=source, lines=lines or {})
        entries.check_names(found, ("orchestrator", "silos"))
        built = [entries.build(Silo, entry, "silos", i) for i, entry in enumerate(found["silos"])]
        silos = [silo for silo in built if silo]
        orchestrator = entries.build(Orchestrator, found.get("orchestrator") or {}, "orchestrator")
        for i, silo in enumerate(built):
            if silo and any(other and other.name.lower() == silo.name.lower() for other in built[:i]):
                entries.fault(f"there is a silo {silo.name!r} before: {DIFFER}", "silos", i, "name")
        for party, place in [(orchestrator, ("orchestrator",)), *((s, ("silos", i)) for i, s in enumerate(built))]:
            for name, check in FORMS.items() if party else ():
                entries.checked(check, getattr(party, name), *place, name)
        if entries.faults or orchestrator is None:
            more = (
                [f"and {len(entries.faults) - MOST_FAULTS:,} faults more"] if len(entries.faults) > MOST_FAULTS else []
            )
            raise FederationError("\n".join([*entries.faults[:MOST_FAULTS], *more]))
        return cls(silos=tuple(silos), orchestrator=orchestrator)

    def save(self, path: str | Path) -> Path:
        """Write `federation.yaml`; gives its path.

            orchestrator: {compute: hub, datastore: hub_store}
            silos:
            - name: cleveland
              data: azureml://datastores/cleveland_store/paths/heart/
              compute: cleveland
              datastore: cleveland_store
              identity: managed
            - name: zurich                  # a hospital's own Kubernetes cluster
              data: /mnt/heart
              compute: zurich-arc
              datastore: zurich_store
              instance_type: gpu-small
              environment: cuda

        A field that has its default value is left out; Silo and Party say what each means.
        """
        import yaml

        path = Path(path)
        path.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Federation":
        """Read `federation.yaml`; raises FederationError with the line of everything that is wrong in it."""
        found, lines = read_yaml(path)
        return cls.from_dict(found, str(path), lines)

    def table(self) -> Table:
        """One row per silo; columns that are empty everywhere are left out."""
        columns = [name for name in SHOWN if name == "name" or any(getattr(silo, name) for silo in self.silos)]
        rows = [
            [readable_path(silo.data) if name == "data" else getattr(silo, name) for name in columns]
            for silo in self.silos
        ]
        return Table(columns=["silo", *columns[1:]], rows=rows, title=f"Federation of {len(self)} silos")


def matching(asked: str, known: Iterable[str], what: str) -> list[str]:
    """Those of the known names that a name or pattern means; raises FederationError for one that means none."""
    known = list(known)
    found = [asked] if asked in known else [name for name in known if fnmatchcase(name, asked)]
    if not found:
        raise FederationError(f"there is no {what} {asked!r}{nearest(asked, known)}")
    return found


SHOWN = ("name", "region", "compute", "datastore", "instance_type", "identity", "environment", "data")


def folder_fault(silo: Silo) -> str:
    """What is wrong with a silo's local folder, or an empty string."""
    if "://" in silo.data:
        return f"{silo.name}: {silo.data} is not a local folder; run it on the backend that can read it"
    if not silo.data:
        return f"{silo.name}: no data folder is given"
    folder = Path(silo.data)
    if not folder.is_dir():
        return f"{silo.name}: there is no folder {folder}"
    if not any(folder.iterdir()):
        return f"{silo.name}: the folder {folder} is empty"
    return ""
