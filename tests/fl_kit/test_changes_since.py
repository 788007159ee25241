"""What a review says of a bundle that was approved before: source, settings, steps and fl-kit's own files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fl_kit import Federation, FedProx, Scaffold, approve, write_bundle
from fl_kit.bundle import bytes_digest, manifest_of
from fl_kit.changes_since import Changes
from fl_kit.errors import BundleError
from fl_kit.signing import make_key
from sim.in_process import InProcess
from tests.sim.small import LOGISTIC, federation, job, variant

PROX = FedProx(mu=0.1, lr=0.2)


@pytest.fixture
def silos(tmp_path: Path) -> Federation:
    return federation(tmp_path / "silos", {"north": 9, "south": 12})


@pytest.fixture
def approved(silos: Federation, tmp_path: Path) -> Path:
    """The folder of a bundle, with an approval of Alice beside it."""
    earlier = job(strategy=PROX)
    write_bundle(earlier, earlier.plan(silos), tmp_path / "approved" / "bundle")
    make_key(tmp_path / "alice.pem")
    approve(tmp_path / "approved" / "bundle", key=tmp_path / "alice.pem", name="alice")
    return tmp_path / "approved" / "bundle"


def changes(approved: Any, silos: Federation, **settings: Any) -> Changes:
    found = job(**{"strategy": PROX, **settings}).review(silos, since=approved).changes
    assert found is not None
    return found


def test_of_the_same_job_nothing_has_changed(silos: Federation, approved: Path) -> None:
    found = changes(approved, silos)
    assert not found
    assert found.since == bytes_digest((approved / "manifest.json").read_bytes())
    assert repr(found).startswith(f"Nothing has changed since the bundle {found.since[:12]}…")
    assert job(strategy=PROX).review(silos).changes is None


def test_settings_are_told_before_and_now(silos: Federation, approved: Path) -> None:
    found = changes(approved, silos, strategy=FedProx(mu=0.5, lr=(0.2, 0.1, 0.1)), seed=7)
    assert found.settings == {
        "strategy.settings.lr": ("0.2", "[0.2, 0.1, 0.1]"),
        "strategy.settings.mu": ("0.1", "0.5"),
        "seed": ("0", "7"),
    }
    assert (found.source, found.added, found.removed, found.package) == ("", (), (), {})
    other = changes(approved, silos, strategy=Scaffold())
    assert other.settings["strategy.class"] == (
        "fl_kit.strategies.fedprox.FedProx",
        "fl_kit.strategies.scaffold.Scaffold",
    )
    assert other.settings["strategy.settings.mu"] == ("0.1", "–")
    # every fit now writes a memory, so it is another step
    assert {step.op for step in other.added} >= {"fit"}


def test_the_source_is_told_as_a_unified_diff(silos: Federation, approved: Path, tmp_path: Path) -> None:
    changed = variant(tmp_path, "LIMIT = 3  # <b>", name=LOGISTIC.stem)
    review = job(changed, strategy=PROX).review(silos, since=approved)
    assert review.changes is not None
    lines = review.changes.source.splitlines()
    assert lines[:2] == ["--- approved/logistic.py", "+++ now/logistic.py"]
    assert [line for line in lines[2:] if line.startswith(("+", "-"))][-1] == "+LIMIT = 3  # <b>"
    assert not review.changes.settings  # its sha256 is no setting of its own
    assert "+LIMIT = 3  # <b>" in repr(review)
    html = review._repr_html_()
    assert "+LIMIT = 3  # &lt;b&gt;</span>" in html
    assert "<b>" not in html.partition("<pre>")[2]


def test_steps_are_told_that_came_and_went(silos: Federation, approved: Path) -> None:
    more = changes(approved, silos, rounds=4)
    assert more.settings == {"rounds": ("3", "4")}
    assert {step.id for step in more.added if step.party == "north"} == {
        "round_004/north/fit",
        "round_004/north/evaluate",
    }
    assert {step.id for step in more.removed if step.party == "north"} == {"round_003/north/evaluate"}
    rows = [list(row) for row in more.table().rows]
    assert ["steps", "fit in north", None, "round 4"] in rows
    assert ["steps", "evaluate in north", "round 3", None] in rows
    fewer = changes(approved, silos.select(["north"]))
    assert {step.party for step in fewer.removed} >= {"south"}
    assert not [step for step in fewer.added if step.party == "north"]


def test_files_of_fl_kit_are_told(silos: Federation, approved: Path) -> None:
    """A bundle that an fl-kit with another door, one file more and one less has written."""
    files = json.loads((approved / "manifest.json").read_text())["files"]
    files["fl_kit/door.py"] = "0" * 64
    files["fl_kit/gone.py"] = "0" * 64
    del files["fl_kit/plan.py"]
    (approved / "manifest.json").write_bytes(manifest_of(files))
    assert changes(approved, silos).package == {
        "fl_kit/door.py": "changed",
        "fl_kit/gone.py": "removed",
        "fl_kit/plan.py": "added",
    }


def test_the_bundle_is_found_from_an_approval_a_run_and_an_archive(
    silos: Federation, approved: Path, tmp_path: Path
) -> None:
    (approved.parent / "another").mkdir()
    (approved.parent / "another" / "manifest.json").write_text("{}")
    since = changes(approved.parent / "approvals" / "alice.json", silos).since
    assert since == changes(approved, silos).since
    earlier = job(strategy=PROX)
    packed = write_bundle(earlier, earlier.plan(silos), tmp_path / "run" / "code" / "bundle", packed=True)
    assert not changes(tmp_path / "run", silos)
    assert not changes(packed, silos)
    shutil.rmtree(approved)
    with pytest.raises(BundleError, match=rf"the bundle {since} that .*alice\.json approves is not in "):
        changes(approved.parent / "approvals" / "alice.json", silos)


def test_what_is_no_whole_bundle_is_refused(silos: Federation, approved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no bundle: give its folder"):
        changes(tmp_path, silos)
    with pytest.raises(BundleError, match="is no approval"):
        changes(approved / "manifest.json", silos)
    (approved / "job.json").write_text((approved / "job.json").read_text().replace("0.1", "0.2"))
    with pytest.raises(BundleError, match=r"job\.json was changed"):
        changes(approved, silos)
    (approved / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="holds no whole bundle"):
        changes(approved, silos)


def test_a_run_keeps_what_it_was_asked_for_and_no_bundle(silos: Federation, tmp_path: Path) -> None:
    run = job(rounds=1).run(silos, on=InProcess(folder=tmp_path / "runs")).wait()
    with pytest.raises(BundleError, match="holds no bundle"):
        changes(run.folder, silos)
