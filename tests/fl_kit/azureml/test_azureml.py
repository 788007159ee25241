"""The package from outside: its names, in whatever order its modules were loaded, and what importing it costs."""

import inspect
import subprocess
import sys

import pytest

import fl_kit.azureml

PUBLIC = ["AzureML", "check", "federation_in", "register", "silo_facts"]


def test_the_public_names_are_these_and_explained() -> None:
    assert sorted(fl_kit.azureml.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(fl_kit.azureml))
    for name in PUBLIC:
        thing = getattr(fl_kit.azureml, name)
        assert callable(thing), name  # not a module that happens to be called so
        assert inspect.getdoc(thing)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        fl_kit.azureml.no_such_name  # noqa: B018 - looking it up is the test


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, fl_kit.azureml; print(*[n for n in ('torch', 'azure', 'mlflow', 'yaml') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_its_modules_load_no_azure() -> None:
    """The SDK takes seconds; it is for the functions that need it."""
    modules = "preflight discover registration locality environment backend"
    imports = "; ".join(f"import fl_kit.azureml.{name}" for name in modules.split())
    code = f"import sys; {imports}; print(*[n for n in ('azure', 'mlflow', 'yaml', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
