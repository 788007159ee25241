"""`?` and the tab key give real help: every public name has a docstring with an example, and the examples are run."""

import doctest
import inspect
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import fl_kit
import fl_kit.azureml
import fl_kit.metrics
import sim
import sim.faults
import sim.samples
import sim.skew
from fl_kit import FedAvg, Job
from sim import InProcess
from tests.public import ONE_LINE, documented, members, own_docstring, public_results
from tests.sim import small

MOST_SKIPPED = 32
"""Lines of examples that cannot run here: they need a workspace, a server, or minutes."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What stands ready in every example: all public names, and what a notebook has by then.

    heart, scans  paths of two tasks, the second with BatchNorm       federation  silos alpha to delta: age … ill
    job, run      three rounds of FedAvg on it, and their finished run, updates kept
    comparison    of that job, two seeds
    frame         200 rows: age, state, year, ill
    """
    folder = tmp_path_factory.mktemp("examples")
    source = small.LOGISTIC.read_text(encoding="utf-8")
    (folder / "heart.py").write_text(source.replace("F1()", "AUC()").replace("F1,", "AUC,"), encoding="utf-8")
    layers = 'nn.Sequential(); net.add_module("norm", nn.BatchNorm1d(3)); net.add_module("head", nn.Linear(3, 1))'
    scans = f"{source}\n\ndef model():\n    net = {layers}\n    return net.double()\n"
    (folder / "scans.py").write_text(scans, encoding="utf-8")
    federation = small.federation(folder / "silos")
    job = Job(task=folder / "heart.py", strategy=FedAvg(lr=0.2, epochs=2, batch_size=8), rounds=3)
    people = np.arange(200)
    names = {
        **{name: getattr(sim.faults, name) for name in sim.faults.__all__},
        **{name: getattr(fl_kit.metrics, name) for name in fl_kit.metrics.__all__},
        **{name: getattr(home, name) for home in (fl_kit.azureml, sim, fl_kit) for name in home.__all__},
        **{name: getattr(sim.samples, name) for name in ("available", "card_fraud", "images", "load", "synthetic_cxr")},
    }
    return {
        **names,
        "np": np,
        "pd": pd,
        "torch": torch,
        "replace": replace,
        "skew": sim.skew.skew,
        "heart": folder / "heart.py",
        "scans": folder / "scans.py",
        "federation": federation,
        "job": job,
        "run": job.run(federation, on=InProcess(folder=None, keep="all", keep_updates=True)).wait(),
        "comparison": sim.compare(job, federation, seeds=(0, 1)),
        "frame": pd.DataFrame(
            {
                "age": 20 + people % 60,
                "state": np.array(["ME", "VT", "GA"])[people % 3],
                "year": 1990 + people % 30,
                "ill": people % 2,
            }
        ),
    }


@pytest.mark.parametrize("name", sorted(documented()))
def test_the_example_runs(name: str, given: dict[str, Any], in_tmp: Path) -> None:
    thing = documented()[name]
    ready = {**given, thing.__name__: thing}
    test = doctest.DocTestParser().get_doctest(own_docstring(thing), ready, name, inspect.getsourcefile(thing), 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=said.append)
    assert not said, "".join(said)


def test_few_examples_are_skipped() -> None:
    parser = doctest.DocTestParser()
    lines = [
        f"{name}: {example.source.strip()}"
        for name, thing in documented().items()
        for example in parser.get_examples(own_docstring(thing))
        if doctest.SKIP in example.options
    ]
    assert len(lines) <= MOST_SKIPPED, "\n".join(lines)


def test_every_public_method_says_what_it_does() -> None:
    silent = sorted(
        {
            f"{kind.__name__}.{name}"
            for kind in public_results()
            if kind.__name__ not in ONE_LINE
            for name, member in members(kind)
            if not inspect.getdoc(getattr(kind, name) if inspect.isfunction(member) else member)
        }
    )
    assert not silent, "give each a docstring of a line: " + ", ".join(silent)


@pytest.mark.parametrize("package", [fl_kit, sim, fl_kit.azureml])
def test_the_tab_key_shows_the_public_names_and_nothing_else(package: ModuleType) -> None:
    assert {name for name in dir(package) if not name.startswith("_")} == set(package.__all__)


def test_what_an_object_keeps_for_itself_begins_with_a_dash(given: dict[str, Any]) -> None:
    for thing in (given["run"], given["job"], given["federation"], given["federation"]["alpha"]):
        public = {name for name in vars(thing) if not name.startswith("_")}
        told = type(thing).__doc__ or ""
        bases = " ".join(base.__doc__ or "" for base in type(thing).__mro__[:-1])
        unsaid = {name for name in public if name not in told + bases}
        assert unsaid <= {"id", "job", "plan", "measures"}, f"{type(thing).__name__}: {unsaid}"
