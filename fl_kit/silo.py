"""Who takes part: silos, the orchestrator, and the federation of them."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fl_kit.errors import FederationError
from fl_kit.table import Shown, Table

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""A party's name becomes a folder, a metric's prefix and a step's name on every backend."""

RESERVED = frozenset({"global", "orchestrator", "state"})


@dataclass(frozen=True, kw_only=True)
class Silo:
    """One trust boundary: a name, its data, and where its steps run.

    name           letters, digits, `-` and `_`, at most 63; unique in its federation
    data           the folder (or `azureml://` path) that only this silo reads
    compute        where its steps run; not used in simulation
    datastore      where its outputs are kept; not used in simulation
    region         for people, and for choosing silos
    instance_type  Kubernetes only
    identity       who reads the data there
    tags           anything else worth showing

    Raises FederationError for a name that cannot be a folder on every system.

    >>> Silo(name="cleveland", data="data/cleveland").name
    'cleveland'
    """

    name: str
    data: str
    compute: str = ""
    datastore: str = ""
    region: str = ""
    instance_type: str = ""
    identity: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name: object = self.name  # from a file it may be a number
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise FederationError(
                f"silo name {self.name!r} will not do: use letters, digits, '-' and '_', at most 63, "
                "and start with a letter or digit, because it names folders and metrics"
            )
        if self.name.lower() in RESERVED:
            raise FederationError(f"silo name {self.name!r} is fl-kit's own; choose another")
        object.__setattr__(self, "data", str(self.data))


@dataclass(frozen=True, kw_only=True)
class Orchestrator:
    """The party that aggregates: a compute and a datastore; it never reads a silo's data."""

    compute: str = ""
    datastore: str = ""
    region: str = ""
    instance_type: str = ""
    identity: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Federation(Shown):
    """An orchestrator and its silos, sorted by name.

    Sorted, because updates are summed in silo order: the order of listing must not change the bits.

    Raises FederationError for no silos, or two of one name (case is ignored, as some file systems do).
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
                raise FederationError(
                    f"two silos are called {seen[silo.name.lower()]!r} and {silo.name!r}: "
                    "names must differ in more than case; rename one"
                )
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

    def select(self, names: Iterable[str]) -> "Federation":
        """The same federation with only these silos; raises FederationError for an unknown name."""
        if isinstance(names, str):
            raise FederationError(f"select takes a list of names; write [{names!r}]")
        return replace(self, silos=tuple(self[name] for name in dict.fromkeys(names)))

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
    def from_dict(cls, found: Any, source: str = "federation") -> "Federation":
        """The federation that `to_dict` described; `source` is named in a FederationError."""
        if not isinstance(found, dict) or not isinstance(found.get("silos"), list):
            raise FederationError(f"{source} holds no list called `silos`")
        silos = tuple(build(Silo, entry, f"{source}, silo {i + 1}") for i, entry in enumerate(found["silos"]))
        orchestrator = build(Orchestrator, found.get("orchestrator") or {}, f"{source}, orchestrator")
        return cls(silos=silos, orchestrator=orchestrator)

    def save(self, path: str | Path) -> Path:
        """Write `federation.yaml`; gives its path."""
        import yaml

        path = Path(path)
        path.write_text(yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Federation":
        """Read `federation.yaml`; raises FederationError for a file that is missing or wrong."""
        import yaml

        try:
            found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise FederationError(f"{path} cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise FederationError(f"{path} is not YAML: {error}") from error
        return cls.from_dict(found, str(path))

    def table(self) -> Table:
        """One row per silo; columns that are empty everywhere are left out."""
        columns = [name for name in SHOWN if name == "name" or any(getattr(silo, name) for silo in self.silos)]
        rows = [
            [readable_path(silo.data) if name == "data" else getattr(silo, name) for name in columns]
            for silo in self.silos
        ]
        return Table(columns=["silo", *columns[1:]], rows=rows, title=f"Federation of {len(self)} silos")


SHOWN = ("name", "region", "compute", "datastore", "instance_type", "identity", "data")


def readable_path(data: str) -> str:
    """A local folder as seen from the working directory; anything else as it is."""
    path = Path(data)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else data


def nearest(name: str, known: Iterable[str]) -> str:
    """An ending for an error about an unknown name: the nearest one, and what there is."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(known[:12]) + (" …" if len(known) > 12 else "")
    return f"{hint} Known: {shown}" if hint else f"; known: {shown}"


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


def plain(party: Silo | Orchestrator) -> dict[str, Any]:
    return {key: value for key, value in asdict(party).items() if value or key in ("name", "data")}


def build(kind: type[Any], entry: Any, source: str) -> Any:
    known = {f.name for f in fields(kind)}
    if not isinstance(entry, dict):
        raise FederationError(f"{source}: expected fields such as {sorted(known)}, found {entry!r}")
    unknown = sorted(str(key) for key in set(entry) - known)
    if unknown:
        raise FederationError(f"{source}: unknown field {unknown[0]!r}{nearest(unknown[0], sorted(known))}")
    for key, value in entry.items():
        if not isinstance(value, dict if key == "tags" else str):
            raise FederationError(f"{source}: {key} is {value!r}, expected text: put it into quotes")
    try:
        return kind(**entry)
    except TypeError as error:
        raise FederationError(f"{source}: {error}") from error
