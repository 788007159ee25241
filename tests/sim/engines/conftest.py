"""A federation of ragged silos, and a count of what is trained together."""

from pathlib import Path
from typing import Any

import pytest

from fl_kit.silo import Federation
from sim.engines.stacked import chunk
from tests.sim.engines.beside_exact import RAGGED, of_sizes


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return of_sizes(tmp_path / "silos", *RAGGED)


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many silos each tensor program trained, in order."""
    counts: list[int] = []

    class Counted(chunk.Training):
        def run(self) -> Any:
            results = super().run()
            counts.append(len(results))
            return results

    monkeypatch.setattr(chunk, "Training", Counted)
    return counts
