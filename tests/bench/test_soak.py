"""A short soak: twice the same, nothing missing, nothing that grows."""

import sys

import pytest

from bench import __main__ as command
from bench.soak import LIKELY, missing, soak, text
from fl_kit import FedAvg
from fl_kit.events import Event
from tests.tasks import LINEAR, random_rows, silos
from tests.tasks import run as finished


@pytest.mark.skipif(sys.platform != "linux", reason="memory and open files are told by Linux's /proc")
def test_a_short_run_of_many_silos_is_complete_and_leaves_no_file_open(tmp_path) -> None:
    run = soak(20, 12, tmp_path)
    assert run["missing"] == []
    assert 0 < run["dropped"] < 20 * 12 * 4 * LIKELY
    first, last = run["looks"][1], run["looks"][12]
    assert last["handles"] <= first["handles"] + 2  # the saver may have one open
    kept = sorted(path.name for path in (tmp_path / "runs").glob("*/round_*"))
    assert kept == ["round_011", "round_012"]


def test_what_is_missing_is_found(tmp_path) -> None:
    federation = silos(tmp_path, ash=random_rows(3, 4, 1), birch=random_rows(3, 4, 2))
    run = finished(LINEAR, FedAvg(), federation, 2)
    assert missing(run.events(), run.plan, set()) == []
    assert missing(run.events(), run.plan, {(1, "ash")}) == ["silos left out", "figures"]
    for name in ("round/completed", "metric/loss", "round/started"):
        fewer: list[Event] = [event for event in run.events() if (event.name, event.round) != (name, 1)]
        assert len(missing(fewer, run.plan, set())) == 1


def test_the_command_runs_it_twice_and_says_what_it_found(monkeypatch, capsys) -> None:
    look = {"rss": 3e8, "own": 2.5e8, "handles": 8}
    found = {
        "silos": 20, "rounds": 12, "looks": {"1": look, "12": {**look, "own": 2.6e8}}, "seconds": 9.4, "events": 2048,
        "dropped": 13, "missing": [], "sha256": "ab" * 32,
    }  # fmt: skip
    runs = iter([found, found, found, {**found, "sha256": "cd" * 32}])
    monkeypatch.setattr(command, "figures", lambda *asked: next(runs) if asked == ("soak", "20", "12") else None)
    assert command.main(["--soak", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == text([found, found], command="python -m bench --soak --quick")
    assert "- after round 1: 250.0 MB (RSS 300.0 MB), 8 open files\n- after round 12: 260.0 MB" in printed
    assert "2,048 events, 13 silos left out; missing: nothing" in printed
    assert "abababababababab…; a second run gives the same" in printed
    assert command.main(["--soak", "--quick"]) == 1
    assert "a second run gives ANOTHER: cdcdcdcdcdcdcdcd…" in capsys.readouterr().out


def test_the_figures_can_be_put_into_the_readme(tmp_path, monkeypatch, capsys) -> None:
    look = {"rss": 3e8, "own": 2.5e8, "handles": 8}
    found = {
        "silos": 20, "rounds": 12, "looks": {"1": look, "12": look}, "seconds": 9.4, "events": 2048, "dropped": 13,
        "missing": [], "sha256": "ab" * 32,
    }  # fmt: skip
    monkeypatch.setattr(command, "figures", lambda *asked: found)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("before\n<!-- soak -->\nold\n<!-- /soak -->\nafter\n")
    assert command.main(["--soak", "--quick", "--readme"]) == 0
    printed = capsys.readouterr().out
    page = (tmp_path / "README.md").read_text()
    assert page == f"before\n<!-- soak -->\n{printed}<!-- /soak -->\nafter\n"
