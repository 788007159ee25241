"""Run folders that earlier fl-kits made are read, and gone on with to the bits that they would have given.

tests/sim/golden/make.py made them: `format_1` with the first fl-kit that numbered its folders, `format_1_early` before
jobs had a fraction, per_round or grace, and folders a number.
"""

import json
import shutil
from pathlib import Path

import pytest

from fl_kit import Federation, Scaffold
from fl_kit.errors import StoreError
from fl_kit.store import FolderStore
from sim.in_process import InProcess
from tests.sim.golden.make import KEPT, ROUNDS, ROWS, RUN_ID
from tests.tasks import QUADRATIC, job, silos

GOLDEN = Path(__file__).parent / "golden"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if (path / RUN_ID).is_dir())
DIGESTS = [
    "d10bf9b0414dd3614fa28a5ffb0d9089a9e814a0043e576bc91c0baaab44f46e",
    "8d8ec9e2b7dfc4ee40bd81ec3ff5fd557bb4b407ac889d68b80c0e32f0e3d486",
    "6ac58eb173f274b3add9e00e0fffaaa74807c9e7aa86f2f035b2f81d1a1e48ec",
    "e79ab09126568d1763b2287102164c2365b2c4c53cc52367b9fc88f31265fc2b",
    "184cbcc268b9efee748dc600343b4d4751c45c82942ca21e75028f35eccbd062",
]
WEIGHTS = [0.0, 0.5, 0.75, 0.875, 0.9375]
"""By hand: the mean of two steps of ½ towards 0 and 2 is half the way to 1, and the control variates' mean is 0."""


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    return silos(tmp_path_factory.mktemp("golden") / "silos", **ROWS)


@pytest.fixture(params=FOLDERS)
def runs(request: pytest.FixtureRequest, federation: Federation, tmp_path: Path) -> Path:
    """A copy of a golden folder, with this machine's paths."""
    shutil.copytree(GOLDEN / request.param / RUN_ID, tmp_path / RUN_ID)
    file = tmp_path / RUN_ID / "federation.yaml"
    here = str(Path(federation["ash"].data).parent)
    file.write_text(file.read_text(encoding="utf-8").replace("{data}", here), encoding="utf-8")
    return tmp_path


def test_it_goes_on_to_the_bits_that_it_would_have_given(runs, federation):
    store = FolderStore.open(runs, RUN_ID)
    assert store.last_round() == KEPT
    run = InProcess(folder=runs).resume(RUN_ID).wait()
    assert [run.digest(round) for round in range(ROUNDS + 1)] == DIGESTS
    assert [float(run.state(round).params["w"]) for round in range(ROUNDS + 1)] == WEIGHTS
    asked = job(QUADRATIC, Scaffold(lr=0.5, batch_size=1), ROUNDS, min_silos=1)
    assert run.job == asked
    whole = InProcess(folder=None, keep="all").start(asked, federation).wait()
    assert [whole.digest(round) for round in range(ROUNDS + 1)] == DIGESTS
    assert sorted(run.history().itertuples(index=False)) == sorted(whole.history().itertuples(index=False))


def test_one_of_each_age_is_there_and_they_are_small():
    assert FOLDERS == ["format_1", "format_1_early"]
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < 50_000
    early, numbered = (json.loads((GOLDEN / name / RUN_ID / "job.json").read_text()) for name in FOLDERS[::-1])
    assert numbered.keys() - early.keys() >= {"fraction", "per_round", "grace"}
    assert "format" not in json.loads((GOLDEN / "format_1_early" / RUN_ID / "environment.json").read_text())


def test_a_part_of_a_newer_format_is_refused_and_both_are_named(runs):
    store = FolderStore.open(runs, RUN_ID)
    for file in ("job.json", "round_002/state/meta.json"):
        path = runs / RUN_ID / file
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(StoreError, match=r"job.json .*format 2; this fl-kit reads format 1"):
        store.job()
    with pytest.raises(StoreError, match=r"meta.json is of format 2; this fl-kit reads format 1"):
        store.state(KEPT)
