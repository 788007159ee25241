"""The benchmark of aggregators: each one is measured, on the model that it says, and the table has its figures."""

import inspect

import pytest

from bench import __main__ as command
from bench import aggregators
from bench.child import figures
from fl_kit import aggregators as known


def test_every_aggregator_is_measured() -> None:
    assert {type(rule).__name__ for rule in aggregators.MEASURED.values()} == set(known.__all__)
    assert len(inspect.getmembers(known, inspect.isclass)) == len(known.__all__)


def test_updates_are_of_the_models_size_and_no_two_alike() -> None:
    first, second = aggregators.updates(2, "W2")
    assert sum(value.numel() for value in first.delta.values()) == 6_274
    assert any(not bool((value == second.delta[name]).all()) for name, value in first.delta.items())


def test_the_peak_sees_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an interpreter of its own, the mean of 20 small updates holds one model, not twenty."""
    found = figures("aggregators", "Mean", "20", "W1")
    assert found["parameters"] == 114_314
    assert 0 <= found["above"] < 20 * found["model"]
    assert found["seconds"] > 0


def test_the_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"seconds": 1.234, "above": 150_000_000, "model": 100_000_000, "parameters": 25_000_000}
    monkeypatch.setattr(command, "figures", lambda module, name, count, workload: one)
    assert command.main(["--aggregators"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("`python -m bench --aggregators`")
    assert "20 updates of 25,000,000 parameters in float32" in lines[0]
    assert lines[-1] == "| FLTrust | 1.23 | 150 MB (1.5 models) |"
    assert len(lines) == 4 + len(aggregators.MEASURED)
