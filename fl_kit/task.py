"""The user's task: a module with a model, its data and its loss."""

import ast
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from fl_kit.bounded import inside, parse_json
from fl_kit.errors import TaskError
from fl_kit.readable import DIGITS, readable_path
from fl_kit.source import digest
from fl_kit.table import Shown, Table

if TYPE_CHECKING:
    from torch import nn

    from fl_kit.metrics import Metric

CURE = "Put the task into a file: start its cell with `%%silo_module name.py`, then pass the module `name`."
PARTS = ("model", "data", "loss", "fit", "example")
"""What a task may define, beside its metrics."""
OWN_METRICS = frozenset({"loss", "train_loss", "update_norm"})


@dataclass(frozen=True, kw_only=True, repr=False)
class Task(Shown):
    """A module's source, and what fl-kit takes from it.

    A task module defines

    model()              → an nn.Module; called with a seeded generator, so every silo starts alike
    data(folder, split)  → (inputs, targets) tensors or arrays, or a map-style Dataset; split is "train" or "test"
    loss                 → loss(outputs, targets): the mean over a batch, a scalar
    metrics              optional: a list of fl_kit.metrics, such as [Accuracy(), AUC()]
    fit(model, data, context)  optional: one's own local training instead of fl-kit's loop

    The module that runs is always made from `source`, so what was reviewed is what runs.

    Raises TaskError for a module that breaks this contract.

    >>> Task.load(heart).metrics["auc"]
    AUC(...)
    """

    name: str
    source: str
    path: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        self.check()

    @classmethod
    def of(cls, thing: Any) -> "Task":
        """The task in a module, a path or a task; raises TaskError for anything else."""
        if isinstance(thing, Task):
            return thing
        if isinstance(thing, str | Path):
            return cls.load(thing)
        if isinstance(thing, ModuleType) and thing.__name__ != "__main__" and getattr(thing, "__file__", None):
            return cls.load(str(thing.__file__))
        kind = "the notebook itself" if isinstance(thing, ModuleType) else f"{type(thing).__name__} {thing!r:.60}"
        raise TaskError(f"a task is a module in a file, not {kind}. {CURE}")

    @classmethod
    def load(cls, path: str | Path) -> "Task":
        """The task in a source file."""
        path = Path(path)
        try:
            source = path.read_text(encoding="utf-8-sig")  # a byte order mark is for editors; Python skips it too
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"the task {path} cannot be read: {error}") from error
        return cls(name=path.stem, source=source, path=str(path.resolve()))

    @property
    def sha256(self) -> str:
        """The digest of the source: what a silo owner approves."""
        return digest(self.source)

    @property
    def file(self) -> str:
        """What tracebacks call the source's file; it need not exist, on a silo for instance."""
        return self.path or f"<{self.name}.py>"

    @cached_property
    def module(self) -> ModuleType:
        """The module made from the source; raises TaskError, from the user's own error, if it cannot be made."""
        try:
            return module_from(self.source, self.name, self.file)
        except Exception as error:
            raise self.refused("cannot be imported", error) from error

    @property
    def loss(self) -> Any:
        """The loss: called with (outputs, targets), it gives the mean over the batch."""
        return self.module.loss

    @property
    def fit(self) -> Callable[..., Any] | None:
        """The user's own local training, or None."""
        return getattr(self.module, "fit", None)

    @cached_property
    def metrics(self) -> "Mapping[str, Metric]":
        """Name → metric, beside the loss."""
        found: Any = getattr(self.module, "metrics", ())
        return {metric.name: metric for metric in (found.values() if isinstance(found, Mapping) else found)}

    def sign(self, metric: str) -> float:
        """1 where a higher value of the metric is better, −1 where a lower one is, as for the loss."""
        return 1.0 if metric in self.metrics and self.metrics[metric].better == "higher" else -1.0

    def model(self) -> "nn.Module":
        """A new model; raises TaskError if it is not an nn.Module, and lets the user's own error through."""
        from torch import nn

        model = self.module.model()
        if not isinstance(model, nn.Module):
            raise TaskError(f"{self.name}.model() gave {type(model).__name__}, expected an nn.Module: return the model")
        return model

    def table(self) -> Table:
        """What the task defines, and the source that it is made from."""
        defined = {name: getattr(self.module, name, None) for name in PARTS}
        rows = [[name, in_short(part)] for name, part in defined.items() if part is not None]
        rows.insert(3, ["metrics", ", ".join(self.metrics) or "the loss alone"])
        about = (ast.get_docstring(ast.parse(self.source)) or "").partition("\n")[0]
        source = [["file", readable_path(self.file)], ["sha256", self.sha256[:DIGITS]]]
        return Table(columns=["", ""], rows=[*rows, *source], title=f"Task {self.name}{f': {about}' if about else ''}")

    def refused(self, what: str, error: Exception) -> TaskError:
        """A TaskError about the user's own error, with its traceback; `what` follows the task's name."""
        refused = TaskError(f"the task {self.name!r} {what}: {type(error).__name__}: {error}")
        refused.detail = traceback_from(error, self.file)
        return refused

    def check(self) -> None:
        """Raise TaskError, all faults at once, if the module lacks a part of the contract."""
        faults = [
            f"it has no {name}; define {example}"
            for name, example in (("model", "def model(): …"), ("data", "def data(folder, split): …"))
            if not callable(getattr(self.module, name, None))
        ]
        if not callable(getattr(self.module, "loss", None)):
            faults.append("it has no loss; define loss = nn.CrossEntropyLoss(), or a function loss(outputs, targets)")
        if not callable(getattr(self.module, "fit", len)):
            faults.append("its fit is not a function; define def fit(model, data, context): …")
        faults += metric_faults(getattr(self.module, "metrics", ()))
        if faults:
            raise TaskError(f"the task {self.name!r} is not complete: " + "; ".join(faults))


def in_short(part: Any) -> str:
    """A function as one calls it, a ready-made loss as torch shows it, in one line."""
    if isinstance(part, FunctionType):
        return f"{part.__name__}({', '.join(signature(part).parameters)})"
    return str(part).partition("\n")[0]


def metric_faults(metrics: Any) -> list[str]:
    """What is wrong with a task's `metrics`."""
    found = metrics.values() if isinstance(metrics, Mapping) else metrics
    if not isinstance(found, Iterable) or isinstance(found, str):
        return [f"its metrics are {metrics!r}; define a list, for instance metrics = [Accuracy()]"]
    faults, names = [], set(OWN_METRICS)
    for metric in found:
        if isinstance(metric, str | type) or not all(hasattr(metric, part) for part in ("name", "sums", "value")):
            faults.append(f"its metric {metric!r} is none; use fl_kit.metrics, for instance metrics = [Accuracy()]")
        elif metric.name in names:
            owner = "fl-kit's own" if metric.name in OWN_METRICS else "there twice"
            faults.append(f"its metric {metric!r} has the name {metric.name!r}, which is {owner}; choose another")
        else:
            names.add(metric.name)
    return faults


def traceback_from(error: BaseException, file: str) -> str:
    """The traceback from the first frame in that file on; an empty string if the error never was there."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != file:
        trace = trace.tb_next
    if trace is None and not (isinstance(error, SyntaxError) and error.filename == file):
        return ""
    return "".join(traceback.format_exception(type(error), error, trace))


def module_from(source: str, name: str, file: str) -> ModuleType:
    """A fresh module from source text; its name carries the digest, so two versions can live side by side."""
    full_name = f"{name}__{digest(source)[:12]}"
    module = ModuleType(full_name)
    module.__file__ = file
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    # dataclasses look their own module up by name while the class body runs
    sys.modules[full_name] = module
    try:
        exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102 - the task is code, and runs in its own silo
    except BaseException:
        del sys.modules[full_name]
        raise
    return module


def task_file(folder: Path, job: str) -> Path:
    """Where a folder has the source of a job's task, from the text of its job.json.

    Raises ValueError, KeyError or TypeError for a text that names none, or a name that leads out of the folder.
    """
    name = parse_json(job)["task"]["name"]
    if not isinstance(name, str):
        raise TypeError(f"the task has the name {name!r:.80}")
    return inside(folder, f"task/{name}.py")
