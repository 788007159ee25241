"""The audit log: a chain of lines, and every way of tampering with it found, with the line's number."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fl_kit import FedAvg, verify_audit
from fl_kit.audit import ANCHOR, APPROVED, CONTINUED, RESUMED, SUBMITTED, add, record_run_event
from fl_kit.bundle import bundle_digest
from fl_kit.errors import AuditError
from fl_kit.regression.command import main
from sim.in_process import InProcess
from tests.tasks import QUADRATIC, job, silos

DIGEST = "3f" * 32


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four lines about two runs."""
    monkeypatch.setenv("FL_KIT_WHO", "ada")
    for run in ("one", "two"):
        (tmp_path / "runs" / run).mkdir(parents=True)
    for run, event in [("one", SUBMITTED), ("two", SUBMITTED), ("one", RESUMED), ("one", CONTINUED)]:
        record_run_event(tmp_path / "runs" / run, event, digest=DIGEST, silos=["ash", "birch"])
    return tmp_path / "runs" / "audit.jsonl"


def test_it_says_who_had_which_digest_run_where_and_when(log: Path) -> None:
    found = verify_audit(log.parent)
    assert [(entry.line, entry.run, entry.event) for entry in found.entries] == [
        (1, "one", "submitted"),
        (2, "two", "submitted"),
        (3, "one", "resumed"),
        (4, "one", "continued"),
    ]
    assert {(entry.who, entry.digest, entry.silos) for entry in found.entries} == {("ada", DIGEST, ("ash", "birch"))}
    assert found.head == verify_audit(log, head=found.entries[1].sha256).entries[-1].sha256
    assert "ash, birch" in repr(found)
    assert found.head in repr(found)


Tamper = Callable[[list[str]], list[str]]


def rewritten(lines: list[str], number: int) -> list[str]:
    """A line with another digest, and it and all that follow with sums that fit."""
    from fl_kit.audit import sum_of

    found = [json.loads(line) for line in lines]
    found[number - 1]["digest"] = "0" * 64
    for before, entry in zip([None, *found], found, strict=False):
        entry["previous"] = entry["previous"] if before is None else before["sha256"]
        entry["sha256"] = sum_of(entry)
    return [json.dumps(entry, sort_keys=True) for entry in found]


@pytest.mark.parametrize(
    ("tamper", "why"),
    [
        (lambda lines: [lines[0], lines[1].replace("3f3f", "4f4f", 1), *lines[2:]], "line 2 was changed"),
        (lambda lines: [*lines[:3], lines[3].replace('"ada"', '"bob"')], "line 4 was changed"),
        (lambda lines: lines[1:], "line 1 does not follow the line before it (it says that it is line 2)"),
        (lambda lines: [lines[0], *lines[2:]], "line 2 does not follow the line before it (it says that it is line 3)"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "line 2 does not follow the line before it"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "line 2 does not follow the line before it"),
        (lambda lines: lines[:3], "run one remembers its line 4: line 4 and what follows was cut off"),
        (lambda lines: lines[:1], "run one remembers its line 4: line 2 and what follows was cut off"),
        (lambda lines: [], "run one remembers its line 4: line 1 and what follows was cut off"),
        (lambda lines: rewritten(lines, 1), "line 4 was written anew: run one remembers another one"),
        (lambda lines: rewritten(lines, 4), "line 4 was written anew: run one remembers another one"),
        (lambda lines: [*lines[:2], "{}", *lines[3:]], "line 3 is no line of an audit log"),
        (lambda lines: [*lines[:2], "", *lines[2:]], "line 3 is no line of an audit log"),
        (lambda lines: [*lines[:2], "[" * 5000, *lines[3:]], "line 3 is no line of an audit log"),
    ],
    ids=[
        "changed", "the last changed", "the first removed", "removed", "swapped", "repeated", "the last cut off",
        "cut off", "emptied", "rewritten", "the last rewritten", "replaced", "blank", "nested",
    ],
)  # fmt: skip
def test_each_kind_of_tampering_is_found_with_the_line(log: Path, tamper: Tamper, why: str) -> None:
    lines = log.read_text().splitlines()
    log.write_text("".join(f"{line}\n" for line in tamper(lines)))
    with pytest.raises(AuditError) as raised:
        verify_audit(log)
    assert why in str(raised.value)


def test_every_single_byte_that_is_changed_is_found(log: Path) -> None:
    """But for the case of a digit in an escape, of which there is none here."""
    whole = log.read_bytes()
    for place in range(0, len(whole), 7):
        log.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(AuditError):
            verify_audit(log)


def test_a_sum_that_was_kept_elsewhere_finds_what_no_run_remembers(log: Path) -> None:
    head = verify_audit(log).head
    for run in ("one", "two"):
        (log.parent / run / ANCHOR).unlink()
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True)[:2]))
    assert len(verify_audit(log).entries) == 2
    with pytest.raises(AuditError, match=f"has no line with the sha256 {head}"):
        verify_audit(log, head=head)


@pytest.mark.parametrize("memory", ["", "{}", '{"log": "../audit.jsonl", "line": 0, "sha256": ""}', "[" * 5000])
def test_a_damaged_memory_of_a_run_is_told(log: Path, memory: str) -> None:
    (log.parent / "two" / ANCHOR).write_text(memory)
    with pytest.raises(AuditError, match=r"two.audit\.json, which remembers a line of .*, is damaged"):
        verify_audit(log)


def test_a_line_whose_writing_was_interrupted_is_told_and_then_written_over(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b'{"audit": 1, "line": 5')
    with pytest.raises(AuditError, match="line 5 is not whole"):
        verify_audit(log)
    assert record_run_event(log.parent / "two", RESUMED, digest=DIGEST, silos=[]).line == 5
    assert len(verify_audit(log).entries) == 5


def test_a_block_that_a_power_cut_kept_from_the_disk_is_written_over(log: Path) -> None:
    """The end of the line came to the disk, and the page before it did not: its place is full of NULs."""
    whole = log.read_bytes()
    log.write_bytes(whole + b"\0" * 300 + b'"silos": []}\n')
    assert record_run_event(log.parent / "two", RESUMED, digest=DIGEST, silos=[]).line == 5
    assert log.read_bytes().startswith(whole)
    assert len(verify_audit(log).entries) == 5


def test_nothing_is_added_behind_a_line_that_is_none(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"a note of mine\n")
    with pytest.raises(AuditError, match=r"the last line of .* is no line of an audit log"):
        add(log, APPROVED, digest=DIGEST)


def test_a_log_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match="cannot be written"):
        add(tmp_path / "file" / "audit.jsonl", APPROVED, digest=DIGEST)
    with pytest.raises(AuditError, match="cannot be read"):
        verify_audit(tmp_path / "gone.jsonl")


MANY = """
import sys
from pathlib import Path
from fl_kit.audit import add

for _ in range(20):
    add(Path(sys.argv[1]), "approved", digest="3f" * 32)
"""


def test_processes_that_write_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    log = tmp_path / "audit.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", MANY, str(log)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert [entry.line for entry in verify_audit(log).entries] == list(range(1, 61))


def test_a_run_is_recorded_when_it_starts_and_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = silos(tmp_path / "silos", ash=[[1.0, 2.0]], birch=[[1.0, 4.0]])
    made, place = job(QUADRATIC, FedAvg(lr=0.1), 1), InProcess(folder=tmp_path / "runs")
    run = place.start(made, federation).wait()
    (entry,) = verify_audit(tmp_path / "runs").entries
    assert (entry.event, entry.run, entry.silos) == ("submitted", run.id, ("ash", "birch"))
    assert entry.digest == bundle_digest(made, made.plan(federation))
    place.resume(run.id).wait()  # it is completed: nothing goes on
    assert len(verify_audit(tmp_path / "runs").entries) == 1
    monkeypatch.setenv("FL_KIT_AUDIT", str(tmp_path / "elsewhere" / "log.jsonl"))
    place.start(made, federation).wait()
    assert len(verify_audit(tmp_path / "runs").entries) == 1
    assert len(verify_audit(tmp_path / "elsewhere" / "log.jsonl", runs=tmp_path / "runs").entries) == 1
    (tmp_path / "elsewhere" / "log.jsonl").write_text("")
    with pytest.raises(AuditError, match="cut off"):
        verify_audit(tmp_path / "elsewhere" / "log.jsonl", runs=tmp_path / "runs")


def test_a_run_in_memory_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    federation = silos(tmp_path / "silos", ash=[[1.0, 2.0]])
    InProcess(folder=None).start(job(QUADRATIC, FedAvg(lr=0.1), 1), federation).wait()
    assert [path.name for path in tmp_path.iterdir()] == ["silos"]


def test_the_command_tells_a_whole_log_from_one_that_is_not(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify-audit", str(log)]) == 0
    assert "chain whole" in capsys.readouterr().out
    assert main(["verify-audit", str(log), "--head", "0" * 64]) != 0
    assert "has no line with the sha256 000" in capsys.readouterr().err
