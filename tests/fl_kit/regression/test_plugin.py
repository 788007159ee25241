"""`pytest --fl-notebooks`: a test for each notebook, in a pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from .small_notebooks import write_bands, write_notebook

RECORD = "from fl_kit import record\nrecord(auc=0.5)"


def run_pytest(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-p", "fl_kit.regression.plugin", "-p", "no:cacheprovider", "-q"]
    installed = ["-p", "no:fl_kit_notebooks"]  # the same plugin by its entry point, where fl-kit is installed
    return subprocess.run(
        [*command, *installed, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.slow
def test_notebooks_are_tests_with_one_clear_line(tmp_path: Path) -> None:
    write_notebook(tmp_path, "good", RECORD)
    write_notebook(tmp_path, "broken", RECORD)
    write_bands(
        tmp_path,
        "[good.quick.bands.auc]\nvalue = 0.5\nabsolute = 0.1\n[broken.quick.bands.auc]\nvalue = 0.9\nrelative = 0.1\n",
    )
    ran = run_pytest(tmp_path, "--fl-notebooks", "--fl-quick", ".")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed, 1 passed" in ran.stdout
    assert "auc is 0.5, outside its band 0.9 ± 0.09 by 0.31" in ran.stdout
    assert "executed notebook: " in ran.stdout
    assert "Traceback" not in ran.stdout


def test_without_the_option_no_notebook_is_collected(tmp_path: Path) -> None:
    write_notebook(tmp_path, "good", RECORD)
    assert run_pytest(tmp_path, ".").returncode == 5  # nothing collected


def test_bands_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    write_notebook(tmp_path, "good", RECORD)
    write_bands(tmp_path, "[goood.quick]")
    ran = run_pytest(tmp_path, "--fl-notebooks", ".")
    assert ran.returncode == 2
    assert "there is no notebook goood.ipynb; did you mean 'good'" in ran.stdout
    assert "Traceback" not in ran.stdout


def test_it_is_installed_as_a_plugin(root: Path) -> None:
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"fl_kit_notebooks": "fl_kit.regression.plugin"}
    assert project["scripts"] == {"fl-kit": "fl_kit.regression.command:main"}


def test_a_project_that_only_has_fl_kit_installed_pays_nothing_for_the_plugin() -> None:
    heavy = ("torch", "numpy", "pandas", "mlflow", "IPython", "papermill")
    code = f"import sys, fl_kit.regression.plugin; print([m for m in {heavy} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
