import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fl_kit import Federation, FedProx, Orchestrator, Scaffold
from fl_kit.review import Review
from tests.sim.small import LOGISTIC, federation, job, variant


@pytest.fixture
def silos(tmp_path: Path) -> Federation:
    return federation(tmp_path, {"north": 9, "south": 12})


def rows(review: Review) -> list[dict[str, object]]:
    table = review.table()
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_it_shows_which_party_runs_which_step_reading_and_writing_what(silos):
    found = rows(job(strategy=Scaffold(), rounds=4).review(silos))
    north = [row for row in found if row["party"] == "north"]
    assert [row["step"] for row in north] == ["fit", "evaluate"]
    assert north[0]["rounds"] == "1–4"
    assert north[0]["reads"] == "own data, state, own memory"
    assert north[0]["writes"] == "update (shared), memory (private)"
    assert north[1]["writes"] == "update (shared)"
    orchestrator = [row for row in found if row["party"] == "orchestrator"]
    assert [row["step"] for row in orchestrator] == ["init", "aggregate", "report"]
    assert not any("data" in str(row["reads"]) for row in orchestrator)
    assert {row["party"] for row in found} == {"north", "south", "orchestrator"}


def test_it_says_where_each_party_runs(silos):
    placed = Federation(
        silos=(replace(silos["north"], compute="north-gpu", datastore="north_store"), silos["south"]),
        orchestrator=Orchestrator(compute="hub-cpu"),
    )
    review = job().review(placed)
    assert review.where("north") == "north-gpu · north_store"
    assert review.where("south") == silos["south"].data
    assert review.where("orchestrator") == "hub-cpu"
    assert job().review(silos).where("orchestrator") == "here"


def test_it_names_the_digest_of_the_very_source_that_will_run(silos):
    review = job().review(silos)
    assert review.source == LOGISTIC.read_text()
    sha256 = hashlib.sha256(LOGISTIC.read_bytes()).hexdigest()
    assert sha256 in str(review)
    assert "logistic.py" in str(review)
    assert sha256 in review._repr_html_()


def test_a_change_of_the_source_changes_the_digest(silos, tmp_path):
    first = job(variant(tmp_path, "x = 1", name="same")).review(silos).table().note
    second = job(variant(tmp_path, "x = 2", name="same")).review(silos).table().note
    assert first != second


def test_its_title_says_the_algorithm_and_its_settings(silos):
    title = job(strategy=FedProx(mu=0.25, lr=0.5), rounds=9).review(silos).table().title
    assert title.startswith("FedProx(")
    assert "mu=0.25" in title
    assert "lr=0.5" in title
    assert title.endswith("9 rounds")


def test_nothing_runs_and_no_data_is_read(silos, tmp_path):
    task = variant(tmp_path, "def data(folder, split):\n    raise RuntimeError('data was read')")
    gone = Federation(silos=tuple(replace(silo, data=str(tmp_path / "gone")) for silo in silos.silos))
    review = job(task).review(gone)
    assert [step.op for step in review.steps("south")] == ["fit", "fit", "fit", "evaluate"]
