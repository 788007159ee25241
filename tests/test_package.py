"""The package from outside: its public names, what importing it costs, and what gets installed."""

import inspect
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fl_kit
import sim
from fl_kit import protocols
from tests.public import ONE_LINE, documented, own_docstring, public_results

RICH = ("_repr_html_", "_repr_mimebundle_", "_ipython_display_")

# A change here is a change for everybody who uses fl-kit.
PUBLIC = [
    "Bulyan",
    "Cyclic",
    "Ditto",
    "FLTrust",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedBN",
    "FedDyn",
    "FedNova",
    "FedPer",
    "FedProx",
    "FedSGD",
    "FedYogi",
    "Federation",
    "FlKitError",
    "GeometricMedian",
    "Job",
    "Krum",
    "Mean",
    "Median",
    "Moon",
    "NormBounded",
    "Orchestrator",
    "Plateau",
    "Policy",
    "QFedAvg",
    "RunPanel",
    "Scaffold",
    "Silo",
    "SiloFacts",
    "SiloPicker",
    "Standardize",
    "Target",
    "Task",
    "TrimmedMean",
    "approve",
    "constant",
    "cosine",
    "exponential",
    "record",
    "record_run",
    "step_decay",
    "verify_audit",
    "warmup",
    "watch",
    "write_bundle",
]

HEAVY = ["torch", "numpy", "pandas", "yaml", "azure", "mlflow", "matplotlib", "papermill", "ipywidgets", "IPython"]


def python(*arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def requirements(lines: list[str]) -> dict[str, Requirement]:
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name.lower(): requirement for requirement in found}


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Requirement]:
    return requirements(tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"])


@pytest.fixture(scope="module")
def silo(root: Path) -> dict[str, Requirement]:
    return requirements((root / "fl_kit" / "silo_environment.txt").read_text().splitlines())


def test_the_public_names_are_these() -> None:
    assert sorted(fl_kit.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(fl_kit))


def is_interface(thing: object) -> bool:
    return inspect.isclass(thing) and thing.__module__ == protocols.__name__


def undocumented(kind: type) -> list[str]:
    """The public methods and properties of a class that neither it nor an interface explains."""
    interfaces = [vars(interface) for interface in vars(protocols).values() if is_interface(interface)]
    explained = {name for members in interfaces for name, member in members.items() if inspect.getdoc(member)}
    return [
        name
        for name, member in vars(kind).items()
        if not name.startswith("_")
        and (inspect.isroutine(member) or isinstance(member, property))
        and not inspect.getdoc(member)
        and name not in explained
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_explained(name: str) -> None:
    thing = getattr(fl_kit, name)
    assert inspect.getdoc(thing), f"{name} has no docstring"
    if inspect.isclass(thing):
        assert undocumented(thing) == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        fl_kit.no_such_name  # noqa: B018 - looking it up is the test


def test_import_loads_nothing_heavy() -> None:
    loaded = python("-c", f"import sys, fl_kit; print(*[name for name in {HEAVY} if name in sys.modules])")
    assert loaded == ""


def test_import_is_quick() -> None:
    """0.3 s is the promise; the best of three, because other processes share the machine."""
    code = "import time; start = time.perf_counter(); import fl_kit; print(time.perf_counter() - start)"
    assert min(float(python("-c", code)) for _ in range(3)) <= 0.3


def test_a_silo_needs_less_than_the_notebook_and_nothing_else(
    project: dict[str, Requirement], silo: dict[str, Requirement]
) -> None:
    assert set(silo) == {"cryptography", "mlflow-skinny", "numpy", "safetensors", "torch"}
    for name, requirement in silo.items():
        # mlflow-skinny is the client that mlflow itself depends on, in the same version.
        assert project[name.removesuffix("-skinny")].specifier == requirement.specifier, name


def test_install_brings_the_six_packages(project: dict[str, Requirement]) -> None:
    assert {"azure-ai-ml", "ipywidgets", "torch", "mlflow", "papermill", "matplotlib"} <= set(project)


def test_every_dependency_is_pinned_once_within_its_range(root: Path, project: dict[str, Requirement]) -> None:
    lines = [line for line in (root / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = requirements(lines)
    assert len(pins) == len(lines)
    for name, requirement in project.items():
        (pin,) = pins[name].specifier
        assert pin.operator == "=="
        assert pin.version in requirement.specifier, f"{name} {pin.version} is outside {requirement}"


@pytest.mark.slow
def test_the_wheel_has_the_data_and_the_text_files(root: Path, tmp_path: Path) -> None:
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    python(*build, "--wheel-dir", str(tmp_path), str(root))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"fl_kit/py.typed", "fl_kit/silo_environment.txt", "sim/py.typed", "sim/demo.py"} <= names
    for sample in (path.parent.name for path in root.glob("data_samples/*/manifest.json")):
        kept = {f"data_samples/{sample}/{path.name}" for path in (root / "data_samples" / sample).glob("[!_.]*.*")}
        assert kept <= names
        assert any(name.startswith(f"data_samples/{sample}/LICENSE") for name in names)
    assert not [name for name in names if name.split("/")[0] in ("tests", "notebooks", "bench")]


def test_no_public_name_is_a_module_too() -> None:
    """`from fl_kit import watch` would give the module to whoever had imported that before."""
    for package in (fl_kit, sim):
        modules = {path.stem for path in Path(str(package.__file__)).parent.iterdir()}
        assert modules & set(package.__all__) == set()


def test_the_walk_finds_what_people_work_with() -> None:
    names = {kind.__name__ for kind in public_results()}
    assert names >= {
        *("Silo", "Federation", "Task", "Job", "Plan", "SimulatedRun", "AzureMLRun", "Review", "Check", "Skew"),
        *("Comparison", "Race", "Contribution", "SiloGains", "Resilience", "SiloPicker", "State", "Tracker"),
    }


def test_every_public_result_has_a_text_of_its_own_and_a_rich_one() -> None:
    plain = [
        f"{kind.__module__}.{kind.__name__}, which {why} gives: let it be a fl_kit.table.Shown with a table(), "
        "@dataclass(…, repr=False) if it is one; or, if one line says it all, name it in ONE_LINE of tests/public.py"
        for kind, why in public_results().items()
        if kind.__name__ not in ONE_LINE
        and (kind.__repr__ is object.__repr__ or not any(hasattr(kind, name) for name in RICH))
    ]
    assert not plain, "\n".join(plain)


def test_every_public_name_has_an_example() -> None:
    bare = [name for name, thing in documented().items() if ">>>" not in own_docstring(thing)]
    assert not bare, (
        "give each a docstring that ends in an example, such as\n\n    >>> run = job.run(federation, on=Thing(…))\n\n"
        "with the names that `given` in tests/test_docstrings.py has ready; `# doctest: +SKIP` behind what needs a "
        f"workspace or minutes:\n{chr(10).join(bare)}"
    )
