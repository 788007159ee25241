"""Weights that a job starts from: a file, a module, or the outcome of an earlier run."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fl_kit.errors import IncompatibleError, TaskError
from fl_kit.messages import TENSORS_LIMIT, State
from fl_kit.tensor_file import read_tensors
from fl_kit.tensors import Tensors, digest, norm

INIT_FILE = "init.safetensors"
"""Its name in a run folder and in a bundle."""
OF_STATE = "params/"
"""How a run's own state file calls the parameters."""
SHOWN = 3
SHA256 = 64
"""Hexadecimal digits of a sha256."""


class GivenWeights:
    """Named tensors, known by the sha256 of their names, dtypes, shapes and bytes; read when they are first needed.

    sha256  what `digest` gives for the tensors
    source  where they come from, for errors
    """

    def __init__(self, *, sha256: str, source: str, tensors: Tensors | None = None, file: Path | None = None) -> None:
        self.sha256 = sha256
        self.source = source
        self._tensors = tensors
        self._file = file

    @classmethod
    def of(cls, given: Any) -> "GivenWeights":
        """From a path to safetensors, a module, a State, a run that has ended, or named tensors.

        The values are copied: what happens to the source later changes nothing. A run's own state file
        (`round_010/state/tensors.safetensors`) is taken too. Raises IncompatibleError for anything else.
        """
        if isinstance(given, cls):
            return given
        source, tensors = read_source(given)
        copied = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
        if odd := [name for name, value in copied.items() if not math.isfinite(norm([value]))]:
            raise IncompatibleError(f"Job(init=…): {source} has values that are not finite in {odd[0]!r}")
        return cls(sha256=digest(copied), source=source, tensors=copied)

    @classmethod
    def in_file(cls, file: Path, sha256: str) -> "GivenWeights":
        """Those that were written to a file under that sha256; it is read when they are needed."""
        return cls(sha256=sha256, source=str(file), file=file)

    @cached_property
    def tensors(self) -> Tensors:
        """Name → tensor; raises IncompatibleError if the file cannot be read, or holds others."""
        if self._tensors is not None:
            return self._tensors
        assert self._file is not None
        tensors = read_file(self._file)
        if digest(tensors) != self.sha256:
            raise IncompatibleError(f"{self._file} was changed: its weights are not those that the job starts from")
        return tensors

    def to_bytes(self) -> bytes:
        """As safetensors; the same bytes wherever they are made."""
        from safetensors.torch import save

        return save(self.tensors)

    def load_into(self, model: nn.Module) -> None:
        """Set every parameter and persistent buffer of the model.

        Tied parameters may go by any of their names. Raises IncompatibleError that says which names, shapes or
        dtypes differ.
        """
        own = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
        given = {id(own[name]) for name in self.tensors if name in own}
        unknown = [name for name in self.tensors if name not in own]
        missing = [name for name, value in own.items() if id(value) not in given]
        if unknown or missing:
            raise IncompatibleError(
                f"Job(init=…): {self.source} does not fit the task's model: missing {brief(missing)}, "
                f"unknown {brief(unknown)}"
            )
        for name, value in self.tensors.items():
            if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
                raise IncompatibleError(
                    f"Job(init=…): {self.source} has {name!r} as {value.dtype} {tuple(value.shape)}, and the task's "
                    f"model as {own[name].dtype} {tuple(own[name].shape)}"
                )
        with torch.no_grad():
            for name, value in self.tensors.items():
                own[name].copy_(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GivenWeights) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"GivenWeights(sha256={self.sha256!r}, from {self.source})"


def read_source(given: Any) -> tuple[str, Mapping[str, Tensor]]:
    """How the source is called, and its named tensors."""
    if isinstance(given, str | Path):
        return str(given), read_file(Path(given))
    if isinstance(given, nn.Module):
        state = given.state_dict()
        return type(given).__name__, {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if isinstance(given, State):
        return f"the state of round {given.round}", given.params
    if isinstance(given, Mapping) and all(isinstance(value, Tensor) for value in given.values()):
        return "the given tensors", given
    if callable(getattr(given, "state", None)) and hasattr(given, "status"):
        if given.status == "running":
            raise IncompatibleError(f"Job(init=…): run {given.id} is still running: wait for it, or give its state(r)")
        return f"run {given.id}", given.state().params
    raise IncompatibleError(
        f"Job(init={given!r}): give a safetensors file, a torch module, a run that has ended, or its state"
    )


def read_file(file: Path) -> Tensors:
    try:
        found = read_tensors(file, limit=TENSORS_LIMIT, links=True)  # caches of models are full of links
    except OSError as error:
        raise IncompatibleError(f"Job(init=…): {file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise IncompatibleError(
            f"Job(init=…): {file} is not safetensors ({error}). fl-kit reads no pickle: write the file with "
            "safetensors.torch.save_file(model.state_dict(), …), or give the module itself"
        ) from error
    ours = {name.removeprefix(OF_STATE): value for name, value in found.items() if name.startswith(OF_STATE)}
    return ours or found


def brief(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(map(repr, names[:SHOWN]))}{more}" if names else "nothing"


def given_for(sha256: Any, given: Any) -> GivenWeights | None:
    """The weights of that sha256; raises TaskError if they are not given."""
    if sha256 is None:
        return None
    if not (isinstance(sha256, str) and len(sha256) == SHA256):
        raise TaskError(f"this is not a job: its weights have the sha256 {sha256!r}")
    if isinstance(given, str | Path):
        return GivenWeights.in_file(Path(given), sha256)
    weights = None if given is None else GivenWeights.of(given)
    if weights is None or weights.sha256 != sha256:
        raise TaskError(f"this job starts from the weights of sha256 {sha256}; give just those as init=…")
    return weights
