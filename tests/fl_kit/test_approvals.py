"""Approvals beside a bundle: made, read, packed, and refused where they are something else."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg, approve, verify_audit, write_bundle
from fl_kit.approvals import PACKED, Approval, brought, packed, read_approvals
from fl_kit.bundle import Bundle, verify
from fl_kit.errors import ApprovalError, BundleError
from fl_kit.regression.command import main
from fl_kit.signing import is_signed, make_key
from tests.tasks import QUADRATIC, job, silos


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = tmp_path_factory.mktemp("written")
    asked = job(QUADRATIC, FedAvg(lr=0.1), 1)
    return write_bundle(asked, asked.plan(silos(place / "silos", ash=[[1.0, 2.0]])), place / "bundle")


@pytest.fixture
def bundle(written: Bundle, tmp_path: Path) -> Bundle:
    shutil.copytree(written.folder, tmp_path / "out" / "bundle")
    return replace(written, folder=tmp_path / "out" / "bundle")


def test_an_approval_lies_beside_the_bundle_and_changes_nothing_in_it(bundle: Bundle, tmp_path: Path) -> None:
    public = make_key(tmp_path / "alice.pem")
    made = approve(bundle.folder, key=tmp_path / "alice.pem", name="alice")
    assert (made.digest, made.approver) == (bundle.digest, "alice")
    assert is_signed(made.statement, made.signature, public)
    assert verify(bundle.folder, bundle.digest)
    assert read_approvals(tmp_path / "out" / "approvals") == (made,)
    assert read_approvals(tmp_path / "out" / "approvals" / "alice.json") == (made,)
    again = approve(bundle, key=tmp_path / "alice.pem", name="alice")
    assert read_approvals(tmp_path / "out" / "approvals") == (again,)


def test_an_approval_is_recorded_where_it_is_asked_for(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "alice.pem")
    monkeypatch.setenv("FL_KIT_AUDIT", str(tmp_path / "one.jsonl"))
    approve(bundle, key=tmp_path / "alice.pem", name="alice", audit=tmp_path / "two.jsonl")
    for log in ("one.jsonl", "two.jsonl"):
        (entry,) = verify_audit(tmp_path / log).entries
        assert (entry.event, entry.who, entry.digest, entry.run) == ("approved", "alice", bundle.digest, "")


def test_each_field_is_signed(bundle: Bundle, tmp_path: Path) -> None:
    public = make_key(tmp_path / "alice.pem")
    made = approve(bundle, key=tmp_path / "alice.pem", name="alice")
    for changes in ({"digest": "0" * 64}, {"approver": "bob"}, {"time": "2031-01-01T00:00:00Z"}):
        assert not is_signed(replace(made, **changes).statement, made.signature, public)


def test_a_bundle_that_was_changed_is_not_signed(bundle: Bundle, tmp_path: Path) -> None:
    make_key(tmp_path / "alice.pem")
    (bundle.folder / "task" / "quadratic.py").write_text("loss = None\n")
    with pytest.raises(BundleError, match=r"quadratic\.py was changed"):
        approve(bundle, key=tmp_path / "alice.pem", name="alice")
    assert not (tmp_path / "out" / "approvals").exists()


def test_an_approval_of_another_bundle_is_not_written_over(bundle: Bundle, tmp_path: Path) -> None:
    make_key(tmp_path / "alice.pem")
    made = approve(bundle, key=tmp_path / "alice.pem", name="alice")
    file = tmp_path / "out" / "approvals" / "alice.json"
    file.write_text(file.read_text().replace(made.digest, "0" * 64))
    with pytest.raises(ApprovalError, match=r"approves the bundle 000.*give each bundle a folder of its own"):
        approve(bundle, key=tmp_path / "alice.pem", name="alice")


@pytest.mark.parametrize("name", ["", "con", "../alice", "a b", "alice\n", "a" * 64, ".alice"])
def test_a_name_that_cannot_be_a_file_is_refused(bundle: Bundle, tmp_path: Path, name: str) -> None:
    make_key(tmp_path / "alice.pem")
    with pytest.raises(ApprovalError, match="an approver's name cannot be"):
        approve(bundle, key=tmp_path / "alice.pem", name=name)


GOOD = {"digest": "3f" * 32, "approver": "alice", "time": "2026-11-24T14:05:00Z", "signature": "AAAA"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no approval"),
        ("[" * 100_000, "holds no approval"),
        ("3", "expected the fields"),
        (json.dumps({**GOOD, "more": 1}), "expected the fields"),
        (json.dumps({**GOOD, "digest": "3F" * 32}), "digest cannot be"),
        (json.dumps({**GOOD, "digest": None}), "digest cannot be"),
        (json.dumps({**GOOD, "approver": "alice\ntime x"}), "approver cannot be"),
        (json.dumps({**GOOD, "time": "today"}), "time cannot be"),
        (json.dumps({**GOOD, "signature": 3}), "is none"),
        (json.dumps([GOOD] * 257), "at most 256"),
        (" " * 300_000, "larger than the 262,144 expected"),
    ],
)
def test_what_is_no_approval_is_refused_with_its_file(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "alice.json").write_text(text)
    with pytest.raises(ApprovalError, match=rf"alice\.json .*{why}"):
        read_approvals(tmp_path)


def test_the_approvals_of_a_run_are_kept_in_its_folder_whatever_their_order(tmp_path: Path) -> None:
    two = [Approval(**GOOD), Approval(**{**GOOD, "approver": "bob"})]
    (tmp_path / "given.json").write_text(packed(two[::-1]))
    assert packed(two[::-1]) == packed(two)
    run = tmp_path / "run"
    run.mkdir()
    assert brought(None, run) == ()
    assert brought(tmp_path / "given.json", run) == tuple(two)
    assert brought(None, run) == tuple(two) == read_approvals(run / PACKED)
    assert brought(tmp_path / "given.json", None) == tuple(two)
    with pytest.raises(ApprovalError, match=r"gone\.json cannot be read"):
        brought(tmp_path / "gone.json", run)


def command(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def test_the_command_makes_a_key_and_signs(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FL_KIT_KEY_PASSPHRASE", "correct horse")
    key = tmp_path / "alice.pem"
    assert command("keygen", key) == 0
    public, said = capsys.readouterr()
    assert public.startswith("ed25519:")
    assert "is encrypted" in said
    assert command("approve", bundle.folder, "--key", key, "--name", "alice", "--digest", bundle.digest) == 0
    assert capsys.readouterr().out.startswith(f"alice approved {bundle.digest} at 20")
    (made,) = read_approvals(tmp_path / "out" / "approvals")
    assert is_signed(made.statement, made.signature, public.strip())
    assert command("approve", bundle.folder, "--key", key, "--name", "alice", "--digest", "0" * 64) != 0
    assert "it is another one" in capsys.readouterr().err
    monkeypatch.delenv("FL_KIT_KEY_PASSPHRASE")
    assert command("approve", bundle.folder, "--key", key, "--name", "alice") != 0
    assert "nobody can be asked for the passphrase here: put it into FL_KIT_KEY_PASSPHRASE" in capsys.readouterr().err
    assert command("keygen", tmp_path / "open.pem") == 0
    assert "is NOT encrypted" in capsys.readouterr().err
