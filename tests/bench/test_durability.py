"""What durability costs: the ways differ in nothing but what they wait for and look at."""

import os

import pytest

from bench import __main__ as command
from bench import durability
from bench.durability import AS_IT_IS, IN_MEMORY, UNGUARDED, is_within, measure, text, unguarded
from bench.workloads import named
from fl_kit import door

FOUND = {
    "silos": 2,
    "wall": {IN_MEMORY: [1.0, 1.0], UNGUARDED: [1.0, 2.0], AS_IT_IS: [1.01, 2.02]},
    "cpu": {IN_MEMORY: [1.0, 1.0], UNGUARDED: [1.0, 1.0], AS_IT_IS: [1.0, 1.0]},
    "same": True,
    "sha256": 0.0125,
}


def test_every_way_runs_the_same_job_to_the_same_bits(tmp_path) -> None:
    found = measure(named("V:2"), 1, tmp_path)
    assert found["same"]
    assert {len(found[clock][way]) for clock in ("wall", "cpu") for way in durability.WAYS} == {1}
    assert found["sha256"] > 0


def test_what_is_left_out_is_there_again_afterwards() -> None:
    before = os.fsync, door.unexpected
    with unguarded():
        assert os.fsync is not before[0]
        assert door.unexpected is not before[1]
    assert (os.fsync, door.unexpected) == before


def test_unguarded_nobody_waits_and_nobody_looks(tmp_path, monkeypatch) -> None:
    waits, looks = [], []
    sync, look = os.fsync, door.unexpected
    monkeypatch.setattr(os, "fsync", lambda handle: waits.append(sync(handle)))
    monkeypatch.setattr(door, "unexpected", lambda *given: looks.append(given) or look(*given))
    run = durability.prepared(durability.FOLDER, named("V:1"), tmp_path)
    run()
    counts = len(waits), len(looks)
    assert min(counts) > 0
    with unguarded():
        run()
    assert (len(waits), len(looks)) == counts


@pytest.mark.parametrize(("worse", "verdict"), [(1.0, "yes"), (1.02, "**no**")])
def test_the_table_says_whether_it_is_within_the_limit(worse, verdict) -> None:
    found = {"W2": {**FOUND, "wall": {**FOUND["wall"], AS_IT_IS: [1.01 * worse, 2.02 * worse]}}}
    table = text(found, repeats=2, command="python -m bench --durability")
    assert f"| W2 | {1.515 * worse:.3f} | **{1.01 * worse:.3f}** (" in table
    assert "| 12.50 ms | yes |" in table
    assert table.endswith(f"at most 2% of a round: {verdict}")
    assert is_within(found) == (verdict == "yes")


def test_the_command(monkeypatch, capsys) -> None:
    asked = []
    monkeypatch.setattr(command, "figures", lambda *given: asked.append(given) or FOUND)
    assert command.main(["--durability", "--quick", "--workloads", "W1,W2"]) == 0
    assert asked == [("durability", "W1:3", "1"), ("durability", "W2:3", "1")]
    assert "| W1 | 1.515 |" in capsys.readouterr().out
