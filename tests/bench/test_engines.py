"""The engines are timed beside the plain loop, do the same mathematics, and say what they are."""

from pathlib import Path

import pytest

from bench.engines import steady, text, time_engines
from bench.workloads import named


def test_a_round_is_the_median_of_a_runs_second_half():
    marks = [(at, 0.0) for at in (0.0, 9.0, 18.0, 20.0, 23.0, 27.0)]  # rounds of 9, 9, 2, 3 and 4 seconds
    assert steady(marks) == 3.0


def test_each_engine_is_beside_the_loop_and_ends_where_it_ends(tmp_path: Path):
    found = time_engines(named("W2x4:3"), 2, ["exact", "auto"], tmp_path)
    assert list(found) == ["loop", "exact", "auto"]
    assert all(len(timed["wall"]) == 2 and min(timed["wall"]) > 0 for timed in found.values())
    assert [found[name]["difference"] for name in ("exact", "auto")] == [pytest.approx(0, abs=1e-5)] * 2
    table = text({"W2x4": found}, repeats=2, command="python -m bench --engines")
    assert table.splitlines()[2] == "| workload | loop, s a round | exact, × loop | auto, × loop | what auto chose |"
    assert found["auto"]["said"] in table.splitlines()[-1]
