"""Silos' own policies before a job is sent: seen where the data is a path on this machine, and never the sender's."""

from dataclasses import replace
from pathlib import Path

import pytest

from fl_kit import FedAvg, approve, write_bundle
from fl_kit.azureml import check
from fl_kit.azureml.backend import refuse_faults
from fl_kit.bundle import bundle_digest
from fl_kit.errors import FederationError
from fl_kit.signing import make_key
from tests.fl_kit.azureml.fake_workspace import client, federation, kubernetes, place
from tests.tasks import LINEAR, job

MADE = job(LINEAR, FedAvg(lr=0.1), 1)


def test_a_policy_that_can_be_seen_is_asked_before_anything_is_sent(tmp_path: Path) -> None:
    silos = federation(place("a"), place("b", data=str(tmp_path / "data"), instance_type="gpu-small", compute="arc"))
    there = client(computes=[*client().computes, kubernetes("arc")])
    (tmp_path / "data").mkdir()
    plain = check(MADE, silos, there)
    assert "; the own policies of 2 silos show only there" in plain.looked_at
    public = make_key(tmp_path / "alice.pem")
    (tmp_path / "data" / "policy.toml").write_text(f'[approvers]\nalice = "{public}"\n')
    found = check(MADE, silos, there)
    (refusal,) = [each for each in found.errors if each not in plain.errors]
    digest = bundle_digest(MADE, MADE.plan(silos))
    assert refusal.party == "b"
    assert refusal.what == (f"its policy refuses bundle {digest}: 0 of 1 needed approvals are valid. missing: alice")
    assert "; the own policies of 1 silo show only there" in found.looked_at
    bundle = write_bundle(MADE, MADE.plan(silos), tmp_path / "out" / "bundle")
    approve(bundle, key=tmp_path / "alice.pem", name="alice")
    assert check(MADE, silos, there, approvals=tmp_path / "out" / "approvals").errors == plain.errors
    (tmp_path / "data" / "policy.toml").write_text("treshold = 2")
    (broken,) = [each for each in check(MADE, silos, there).errors if each not in plain.errors]
    assert "has 'treshold', which is none of approvers" in broken.what


def test_where_a_silos_policy_is_cannot_be_said_by_the_federation() -> None:
    silos = federation(place("a"), replace(place("b"), variables={"FL_KIT_POLICY": "lax.toml"}))
    (finding,) = check(MADE, silos, client()).errors
    assert (finding.party, finding.what.partition(":")[0]) == ("b", "its variables set FL_KIT_POLICY")
    with pytest.raises(FederationError, match=r"b: its variables set FL_KIT_POLICY: a silo's policy is its owner's"):
        refuse_faults(MADE.plan(silos), silos)
