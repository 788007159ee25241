"""What passes between parties and rounds, and its form on disk: safetensors beside `meta.json`.

`meta.json` is written last and names the size of the tensors' file, so a folder without it, or with a
file of another size, is an unfinished message and is refused. That of an update is its manifest: the sha256 of its
tensors, and where it comes from.
"""

import errno
import json
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from fl_kit.bounded import parse_json, read_bytes
from fl_kit.errors import MessageError
from fl_kit.files import make_folder, sync, write_text
from fl_kit.table import Shown, Table
from fl_kit.tensor_file import read_tensors
from fl_kit.tensor_table import tensor_table
from fl_kit.tensors import Tensors, digest

Groups: TypeAlias = dict[str, Tensors]
"""Tensors in named groups, such as `{"control": {"0.weight": …}}`."""

FORMAT = 1
TENSORS_FILE = "tensors.safetensors"
META_FILE = "meta.json"
META_LIMIT = 1 << 20
"""Bytes of a meta.json: room for the last rounds of some ten thousand silos."""
TENSORS_LIMIT = 64 << 30
"""Bytes of a tensors' file where no model says less: sixteen billion numbers of four bytes."""
BUFFERS = "buffers"
"""The group of an update's running statistics and counters."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Update(Shown):
    """What a silo sends to the orchestrator.

    delta    trained value − start, for every trainable parameter
    weight   how much it counts: the number of training rows
    extra    further tensors in groups, combined like `delta` (buffers, control variates …)
    metrics  sums of each metric, float64; their formula is applied after adding them up
    silo     who sent it; set at the silo's door
    origin   which step made it, from which state, under which bundle; set at the silo's door. None for one made by hand
    norm     of its delta, where the silo's door has just looked at these very tensors, so that the orchestrator's need
             not read them all again; None for one that was read from a file or made from another update

    >>> [update.silo for update in run.updates(3)]
    ['alpha', 'bravo', 'charlie', 'delta']
    """

    delta: Tensors
    weight: float
    extra: Groups = field(default_factory=dict)
    metrics: Tensors = field(default_factory=dict)
    silo: str = ""
    origin: "Origin | None" = None
    norm: float | None = field(default=None, init=False, compare=False, repr=False)

    def table(self) -> Table:
        """What is sent, tensor by tensor."""
        return tensor_table(
            f"Update of {self.silo or 'a silo'}, weight {self.weight:g}", {"": self.delta, **self.extra}
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class State(Shown):
    """What goes from round to round: the global parameters and the strategy's memory.

    round    0 is the shared start, r the state after round r
    params   every parameter and persistent buffer of the model, by name
    memory   what the strategy keeps at the orchestrator
    counted  silo → the last round in which its update counted: what it then kept is the memory that it goes on with
    watched  what the job's stop rule looks at: the federation's value of its metric, one a measured round
    done     whether the rule said that this is the last state; steps after it pass it on

    >>> weights = run.state().params["weight"]
    """

    round: int
    params: Tensors
    memory: Groups = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    watched: tuple[float, ...] = ()
    done: bool = False

    def table(self) -> Table:
        """What it holds, tensor by tensor."""
        return tensor_table(f"State after round {self.round}", {"": self.params, **self.memory})

    @cached_property
    def sha256(self) -> str:
        """The sha256 of all that it says: equal exactly when the bits are. Computed when it is first asked for."""
        meta, tensors = take_apart(self)
        return sha256(f"{json.dumps(meta, sort_keys=True)}\0{digest(tensors)}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an update comes from; the orchestrator's door compares it with what the round expects.

    step    the id of the step that made it, which names round and silo: `round_003/cleveland/fit`
    start   the State that the step began with, or its sha256 where the update was read from a file; None for a step
            that reads no state. Within a process nothing is hashed: it is the same state, or it is not
    bundle  the digest of the bundle that the step ran under; empty where there was none
    """

    step: str
    start: State | str | None = field(default=None, repr=False)
    bundle: str = ""

    @property
    def state(self) -> str:
        """The sha256 of the state that the step began with; empty for none."""
        return self.start.sha256 if isinstance(self.start, State) else self.start or ""

    def began_with(self, state: State | None) -> bool:
        """Whether that is the state from which the update was made."""
        return self.start is state or self.state == (state.sha256 if state else "")

    def to_dict(self) -> dict[str, str]:
        """Plain data: what an update's meta.json holds."""
        return {"step": self.step, "state": self.state, "bundle": self.bundle}

    @classmethod
    def from_dict(cls, found: Any) -> "Origin":
        """What `to_dict` gave; raises TypeError or KeyError for anything else."""
        step, state, bundle = found["step"], found["state"], found["bundle"]
        if not all(isinstance(text, str) for text in (step, state, bundle)):
            raise TypeError(f"origin {found!r}")
        return cls(step=step, start=state, bundle=bundle)


@dataclass(frozen=True, kw_only=True, repr=False)
class Memory(Shown):
    """What a silo keeps for itself between rounds; it never leaves the silo.

    >>> memories = run.memories()  # empty where the strategy has silos keep nothing
    """

    tensors: Groups = field(default_factory=dict)

    def table(self) -> Table:
        """What is kept, tensor by tensor."""
        return tensor_table("A silo's memory", self.tensors)


Message: TypeAlias = Update | State | Memory
KINDS: dict[str, type[Update] | type[State] | type[Memory]] = {"update": Update, "state": State, "memory": Memory}
M = TypeVar("M", Update, State, Memory)


def write(
    message: Message, folder: str | Path, *, durable: bool = False, note: Mapping[str, int] | None = None
) -> None:
    """Write a message into a folder; `durable` waits until it is on the disk.

    note  more for its meta.json, which `read` passes over

    A message already there is replaced. Raises OSError, for instance when the disk is full; what was there
    before is then refused by `read`, never half believed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    make_folder(folder, durable=durable)
    meta, tensors = take_apart(message)
    file = folder / TENSORS_FILE
    clear(folder, durable=durable)
    partial = folder / f".{TENSORS_FILE}.partial"
    try:
        save_file(apart(tensors), partial)
    except SafetensorError as error:  # its own error also where the system said no
        raise OSError(errno.EIO, str(error), str(partial)) from error
    if durable:
        sync(partial)
    partial.replace(file)
    meta = {**(note or {}), **meta, "bytes": file.stat().st_size}
    write_text(folder / META_FILE, json.dumps(meta, indent=1, sort_keys=True), durable=durable)


def clear(folder: Path, *, durable: bool) -> None:
    """Take away the message that a folder holds, its meta.json first; `durable` waits until it is gone.

    Else a power cut could leave the old meta.json beside the new tensors, and both of the same size.
    """
    old = [file for file in (folder / META_FILE, folder / TENSORS_FILE) if file.exists()]
    for file in old:
        file.unlink()
    if old and durable:
        sync(folder)


def read(
    kind: type[M],
    folder: str | Path,
    *,
    limit: int = TENSORS_LIMIT,
    copied: bool = False,
    check: Callable[[M], object] | None = None,
) -> M:
    """Read the message of that kind from a folder.

    limit   the largest tensors file that is opened, in bytes
    copied  as for `tensor_file.read_tensors`: for a folder that somebody else writes to
    check   hears the message while its tensors have names, shapes and dtypes, but no values and no memory; what it
            raises ends the reading

    Raises MessageError for a message that is missing, unfinished, damaged, too large or of another kind.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    expected = next(name for name, known in KINDS.items() if known is kind)
    if meta.get("kind") != expected:
        raise MessageError(f"{folder} holds {meta.get('kind')!r:.40}, expected {expected!r}")
    file, size = folder / TENSORS_FILE, meta.get("bytes")
    if type(size) is not int:
        raise MessageError(f"{file} is not whole: its meta.json does not say how many bytes it has")

    def outlined(outlines: Tensors) -> None:
        if check:
            check(put_together(kind, meta, outlines))

    try:
        tensors = read_tensors(file, limit=limit, size=size, copied=copied, check=outlined)
        if "sha256" in meta and digest(tensors) != meta["sha256"]:
            raise MessageError(f"{file} was changed or damaged: its tensors' sha256 is not the one in its meta.json")
        return put_together(kind, meta, tensors)
    except OSError as error:
        raise MessageError(f"{file} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"{folder} is not a {expected}: {error}") from error


def complete(folder: str | Path) -> bool:
    """Whether a folder holds a whole message."""
    try:
        meta = read_meta(Path(folder))
        found = (Path(folder) / TENSORS_FILE).lstat()
        return stat.S_ISREG(found.st_mode) and found.st_size == meta.get("bytes")
    except (MessageError, OSError):
        return False


def take_apart(message: Message) -> tuple[dict[str, Any], Tensors]:
    if isinstance(message, Update):
        tensors = {**join("delta", message.delta), **join("metrics", message.metrics), **join_groups(message.extra)}
        meta = {"format": FORMAT, "kind": "update", "weight": message.weight, "silo": message.silo}
        manifest = {"origin": message.origin.to_dict(), "sha256": digest(tensors)} if message.origin else {}
        return {**meta, **manifest}, tensors
    if isinstance(message, State):
        tensors = {**join("params", message.params), **join_groups(message.memory)}
        meta = {"format": FORMAT, "kind": "state", "round": message.round, "counted": dict(message.counted)}
        early = {"watched": list(message.watched), "done": message.done} if message.watched or message.done else {}
        return {**meta, **early}, tensors
    return {"format": FORMAT, "kind": "memory"}, join_groups(message.tensors)


def put_together(kind: type[M], meta: dict[str, Any], tensors: Tensors) -> M:
    groups = split_groups(tensors)
    if kind is Update:
        weight, silo = meta["weight"], meta["silo"]
        if type(weight) not in (int, float) or not isinstance(silo, str):
            raise TypeError(f"weight {weight!r:.40}, silo {silo!r:.80}")
        delta, metrics = groups.pop("delta", {}), groups.pop("metrics", {})
        if ("origin" in meta) != ("sha256" in meta):
            raise ValueError("a manifest has both `origin` and `sha256`")
        origin = Origin.from_dict(meta["origin"]) if "origin" in meta else None
        return kind(delta=delta, weight=float(weight), extra=named(groups), metrics=metrics, silo=silo, origin=origin)
    if kind is State:
        if type(meta["round"]) is not int or meta["round"] < 0:
            raise TypeError(f"round {meta['round']!r:.40}")
        params, counted = groups.pop("params", {}), meta.get("counted", {})
        if not isinstance(counted, dict) or not all(type(round) is int for round in counted.values()):
            raise TypeError(f"counted {counted!r:.80}")
        watched, done = meta.get("watched", []), meta.get("done", False)
        if (
            type(done) is not bool
            or not isinstance(watched, list)
            or not all(type(value) in (int, float) for value in watched)
        ):
            raise TypeError(f"watched {watched!r:.80}, done {done!r:.40}")
        return kind(
            round=meta["round"],
            params=params,
            memory=named(groups),
            counted=counted,
            watched=tuple(map(float, watched)),
            done=done,
        )
    return Memory(tensors=named(groups))  # type: ignore[return-value]  # mypy does not narrow type[M]


def join(group: str, tensors: Mapping[str, Tensor]) -> Tensors:
    return {f"{group}/{name}": value for name, value in tensors.items()}


def apart(tensors: Tensors) -> Tensors:
    """The tensors on the CPU, each in memory of its own: safetensors keeps no views."""
    seen: set[int] = set()
    found: Tensors = {}
    for name, value in tensors.items():
        own = value.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        found[name] = own.clone() if place in seen else own
        seen.add(place)
    return found


def join_groups(groups: Mapping[str, Tensors]) -> Tensors:
    for group in groups:
        if "/" in group:
            raise MessageError(f"group {group!r}: a group's name has no '/', which parts it from the tensor's name")
    return {key: value for group, tensors in groups.items() for key, value in join(f"+{group}", tensors).items()}


def split_groups(tensors: Tensors) -> Groups:
    groups: Groups = {}
    for key, value in tensors.items():
        group, separator, name = key.partition("/")
        if not separator:
            raise ValueError(f"tensor {key!r:.80} belongs to no group")
        groups.setdefault(group, {})[name] = value
    return groups


def named(groups: Groups) -> Groups:
    """The groups that a strategy named; anything else in the file is unknown."""
    unknown = [group for group in groups if not group.startswith("+")]
    if unknown:
        raise ValueError(f"unknown group {unknown[0]!r:.80}")
    return {group[1:]: tensors for group, tensors in groups.items()}


def read_meta(folder: Path) -> dict[str, Any]:
    file = folder / META_FILE
    try:
        meta = parse_json(read_bytes(file, limit=META_LIMIT), infinite=True)  # what a stop rule watches may be infinite
    except OSError as error:
        raise MessageError(f"{folder} holds no whole message: {META_FILE}: {error.strerror}") from error
    except ValueError as error:
        raise MessageError(f"{file} is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise MessageError(f"{file} is not the meta.json of a message")
    if meta.get("format") != FORMAT:
        raise MessageError(f"{file} is of format {meta.get('format')!r}; this fl-kit reads format {FORMAT}")
    return meta
