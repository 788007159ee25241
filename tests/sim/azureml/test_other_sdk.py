"""The workspace holds for another release of the SDK too, where one is at hand.

pip install --no-deps --target sdk azure-ai-ml==1.33.0
FL_KIT_OTHER_SDK=sdk pytest -m slow tests/sim/azureml/test_other_sdk.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OTHER = os.environ.get("FL_KIT_OTHER_SDK", "")
SHOW = "import azure.ai.ml; print(azure.ai.ml.__file__)"


@pytest.mark.slow
@pytest.mark.skipif(not OTHER, reason="needs another azure-ai-ml: set FL_KIT_OTHER_SDK to the folder that holds it")
def test_submission_streams_and_bits_are_the_same_with_the_other_release(root: Path) -> None:
    other = Path(OTHER).resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(other), str(root)]), "FL_KIT_OTHER_SDK": ""}
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    assert Path(shown.stdout.strip()).is_relative_to(other)
    names = (
        "computes_of or compute_is_made or pipeline_runs_and_is_seen or bits_are_those_of_in_process and LocalAzureML"
    )
    files = ["tests/sim/azureml/test_arm.py", "tests/sim/azureml/test_jobs.py", "tests/contracts/test_backends.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", names, *files]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
