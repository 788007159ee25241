"""What a simulation knows of its silos, for the picker."""

from pathlib import Path

import numpy as np

from fl_kit import FedAvg, Federation, Silo
from sim.known_silos import silo_facts
from tests.tasks import LINEAR, QUADRATIC, job, silos


def test_rows_and_label_mix(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=[[1, 0], [1, 1], [1, 0]], birch=[[1, 1], [1, 1.5]])
    facts = silo_facts(federation, job(QUADRATIC, FedAvg(), 1), names={"0": "well", "1": "ill"})
    assert (facts["ash"].rows, facts["ash"].labels) == (3, {"well": 2, "ill": 1})
    assert (facts["birch"].rows, facts["birch"].labels) == (2, {"ill": 1, "1.5": 1})
    assert facts["ash"].status == "ready"


def test_a_quantity_has_no_mix(tmp_path: Path) -> None:
    rows = np.column_stack([np.ones((30, 3)), np.arange(30)])
    assert silo_facts(silos(tmp_path / "silos", ash=rows), job(LINEAR, FedAvg(), 1))["ash"].labels == {}


def test_what_is_wrong_with_a_silo_is_its_reason(tmp_path: Path) -> None:
    federation = silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2, 3]])
    gone = Silo(name="cedar", data=str(tmp_path / "nowhere"), tags={"rows": "7"})
    facts = silo_facts(Federation(silos=(*federation.silos, gone)), job(QUADRATIC, FedAvg(), 1))
    assert not facts["ash"].reason
    assert facts["birch"].reason.startswith("data() failed: ValueError")
    assert facts["cedar"].reason.startswith("there is no folder")
    assert facts["cedar"].rows == 7
