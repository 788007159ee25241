"""What a party's steps run in: exact versions, images, and what a task imports."""

import sys
from importlib.metadata import version
from textwrap import indent
from typing import Any

import pytest
from azure.ai.ml.entities import Environment

from fl_kit.azureml import environment
from fl_kit.azureml.environment import conda_of, image_of, is_registered, lacking, packages_of, unpinned
from fl_kit.azureml.imports import Import, imports_of
from fl_kit.errors import FederationError, TaskError
from fl_kit.party_forms import check_identity
from fl_kit.silo import Orchestrator, Silo
from fl_kit.task import Task

TASK = """
import json
from pathlib import Path
import torch
from torch import nn

def model():
    return nn.Linear(1, 1)

def data(folder, split):
    return torch.zeros(2, 1), torch.zeros(2, 1)

loss = nn.MSELoss()
"""


def task(imports: str = "pass") -> Task:
    """A task with imports inside a function, the first on line 2: what is not installed here can stand there."""
    return Task(name="made", source=f"def late():\n{indent(imports, '    ')}\n{TASK}")


def silo(**place: Any) -> Silo:
    return Silo(name="a", data="d", **place)


def public(name: str) -> str:
    return version(name).partition("+")[0]


BASE = [f"{name}=={public(name)}" for name in ("cryptography", "mlflow-skinny", "numpy", "safetensors")]


# packages


def test_the_silos_requirements_at_the_versions_installed_here() -> None:
    assert packages_of(silo(), task()) == [*BASE, f"torch=={public('torch')}+cpu"]
    assert packages_of(silo(environment="cuda"), task()) == [*BASE, f"torch=={public('torch')}"]


def test_what_the_task_imports_is_added() -> None:
    found = packages_of(silo(), task("import pandas as pd\nfrom sklearn.metrics import auc"))
    assert {f"pandas=={version('pandas')}", f"scikit-learn=={version('scikit-learn')}"} <= set(found)
    assert len(found) == 7
    assert found == sorted(found)


def test_a_packages_own_line_replaces_fl_kits() -> None:
    own = ("Torch==2.6.0 --hash=sha256:00", "PANDAS==2.2.0")
    found = packages_of(silo(packages=own), task("import pandas"))
    assert found == [*BASE[:3], "PANDAS==2.2.0", BASE[3], "Torch==2.6.0 --hash=sha256:00"]


def test_mlflow_comes_as_its_client() -> None:
    """Several packages here bring the module mlflow; the silo has one of them already."""
    assert packages_of(silo(), task("import mlflow")) == packages_of(silo(), task())
    assert lacking(silo(), task("import mlflow")) == []


def test_a_package_that_is_not_installed_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "silo_environment", lambda: ["no-such-package>=1"])
    with pytest.raises(FederationError, match=r"needs no-such-package, which is not installed here: .*`packages`"):
        packages_of(silo(), task())
    assert packages_of(silo(packages=("No_Such.Package==1.0",)), task())[0] == "No_Such.Package==1.0"


@pytest.mark.parametrize(
    ("line", "exact"),
    [
        ("torch==2.6.0", True),
        ("torch == 2.6.0+cu118", True),
        ("scikit-learn[x, y]==1.5; python_version > '3.10'", True),
        ("torch==2.6.0 --hash=sha256:0a1b", True),
        ("https://example.org/x.whl --hash=sha256:0a1b", True),
        ("torch", False),
        ("torch>=2", False),
        ("torch==2.*", False),
        ("torch==2.6.0,<3", False),
        ("git+https://example.org/x", False),
    ],
)
def test_exact_versions_are_told_from_others(line: str, exact: bool) -> None:
    assert unpinned(silo(packages=(line,))) == ([] if exact else [line])


# what is lacking


def test_a_module_beside_the_notebook_is_lacking() -> None:
    found = lacking(silo(), task("import pandas\nimport my_helper.deep\nfrom . import other"))
    assert found == [Import(name="my_helper", line=3), Import(name=".", line=4)]


def test_what_is_optional_does_not_lack() -> None:
    source = "try:\n    import cudf\nexcept ImportError:\n    import my_frames"
    assert lacking(silo(), task(source)) == [Import(name="my_frames", line=5)]


def test_a_silos_own_packages_count() -> None:
    assert lacking(silo(packages=("cudf==1.0",)), task("import cudf")) == []


def test_nothing_is_said_of_the_workspaces_own_environment() -> None:
    assert lacking(silo(environment="azureml:hospital:3"), task("import my_helper")) == []


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter in which two packages share one namespace."""
    monkeypatch.setattr(environment, "known_distributions", lambda: {"google": ["Google_Auth", "google-cloud"]})


@pytest.mark.usefixtures("installed")
def test_a_namespace_of_several_packages_is_not_guessed() -> None:
    wanted = task("from google import auth")
    assert [i.name for i in lacking(silo(), wanted)] == ["google"]
    assert lacking(silo(packages=("google-auth==2.0",)), wanted) == []


def test_imports_are_those_of_the_source() -> None:
    source = (
        "import a.b, json\ntry:\n    import c\nfinally:\n    pass\ntry:\n    import d\nexcept ImportError:\n    d = 0\n"
    )
    found = imports_of(source + "def f():\n    import e, a\nimport d\nfrom fl_kit import Standardize\n", "x")
    assert [(i.name, i.line, i.optional) for i in found] == [
        ("a", 1, False),
        ("c", 3, False),
        ("e", 11, False),
        ("d", 12, False),
    ]
    with pytest.raises(TaskError, match=r"x\.py, line 1"):
        imports_of("import", "x")


# the image and the conda file


def test_python_and_packages_are_as_here() -> None:
    assert image_of(silo()) == "mcr.microsoft.com/azureml/openmpi5.0-ubuntu24.04"
    python, pip, packages = conda_of(silo(), task())["dependencies"]
    assert python == f"python={sys.version_info.major}.{sys.version_info.minor}"
    assert pip == "pip"
    assert packages["pip"][0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert packages["pip"][1:] == packages_of(silo(), task())


def test_cuda_is_what_pypi_has() -> None:
    orchestrator = Orchestrator(environment="cuda")
    assert "cuda" in image_of(orchestrator)
    assert conda_of(orchestrator, task())["dependencies"][2]["pip"] == packages_of(orchestrator, task())


def test_an_image_of_ones_own_gets_the_packages() -> None:
    own = silo(environment="ghcr.io/clinic/torch:2.6")
    assert image_of(own) == "ghcr.io/clinic/torch:2.6"
    assert conda_of(own, task())["dependencies"][2]["pip"] == [*BASE, f"torch=={public('torch')}"]


def test_the_sdk_takes_it() -> None:
    made = Environment(image=image_of(silo()), conda_file=conda_of(silo(), task()))
    assert made._to_rest_object().properties.conda_file == made._translated_conda_file
    assert f"torch=={public('torch')}+cpu" in str(made._translated_conda_file)


@pytest.mark.parametrize("name", ["azureml:hospital:3", "azureml:hospital@latest"])
def test_the_workspaces_own_is_taken_as_it_is(name: str) -> None:
    assert is_registered(silo(environment=name))


@pytest.mark.parametrize("name", ["gpu", "azureml:hospital", "ubuntu", "a b/c"])
def test_any_other_environment_is_refused(name: str) -> None:
    with pytest.raises(FederationError, match=f"environment '{name}' is not known"):
        image_of(silo(environment=name))


@pytest.mark.parametrize("text", ["", "managed", "user", "managed:0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_identities(text: str) -> None:
    check_identity(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("manged", "did you mean 'managed'"),
        ("Managed", "is not known"),
        ("user:x", "is not known"),
        ("managed:", "is no client id"),
        ("managed:cleveland-identity", "'cleveland-identity' is no client id"),
    ],
)
def test_any_other_identity_is_refused(text: str, words: str) -> None:
    with pytest.raises(FederationError, match=words):
        check_identity(text)
