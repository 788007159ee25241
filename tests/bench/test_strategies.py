"""What the benchmark tells of strategies: it finds each by itself, counts what it does, and shows every figure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import __main__ as command
from bench import strategy_report
from bench.strategies import counted, every_strategy, prepared
from bench.workloads import named
from fl_kit import FedAvg, strategies
from fl_kit.errors import IncompatibleError


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True, kw_only=True)
class Unwilling(FedAvg):
    """A strategy that no model suits."""

    def __post_init__(self) -> None:
        raise IncompatibleError("no layer matches 'bn*'")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Three strategies and one that refuses, on V; as JSON, which is how they come out of their interpreter."""
    monkeypatch.setattr(strategies, "Unwilling", Unwilling, raising=False)
    monkeypatch.setattr(strategies, "__all__", ["QFedAvg", "Unwilling", "FedAvg", "Scaffold"])
    return json.loads(json.dumps(every_strategy(named("V:2"), 2, tmp_path)))  # type: ignore[no-any-return]


def test_what_a_strategy_does_in_a_round_is_counted(tmp_path: Path) -> None:
    """V has two epochs in batches of 16 over 17, 40, 64, 5, 90 and 33 rows: 2·(2 + 3 + 4 + 1 + 6 + 3) = 38 steps."""
    plain = {"taught": 2, "measured": 0, "steps": 38 / 6, "changed": 0, "sent": 1, "kept": 0, "held": 0}
    workload = named("V")
    assert counted("FedAvg", workload, tmp_path) == pytest.approx(plain)
    assert counted("FedProx", workload, tmp_path) == pytest.approx({**plain, "changed": 1})
    assert counted("QFedAvg", workload, tmp_path) == pytest.approx({**plain, "measured": 1}, abs=0.001)
    assert counted("FedAdam", workload, tmp_path) == pytest.approx({**plain, "held": 2})
    scaffold = {**plain, "changed": 1, "sent": 2, "kept": 1, "held": 1}
    assert counted("Scaffold", workload, tmp_path) == pytest.approx(scaffold, abs=0.003)  # it holds six weights too


def test_a_workload_gives_a_strategy_its_settings(tmp_path: Path) -> None:
    strategy = prepared("FedProx", named("V"), tmp_path).job.strategy
    assert strategy == strategies.FedProx(lr=0.05, epochs=2, batch_size=16, shuffle=False)


def test_every_strategy_has_its_times_or_says_why_not(found: dict[str, Any]) -> None:
    assert list(found) == ["FedAvg", "QFedAvg", "Scaffold", "Unwilling"]  # the yardstick runs first
    assert found.pop("Unwilling") == {"refused": "no layer matches 'bn*'"}
    for told in found.values():
        times = [told[whose][kind] for whose in ("own", "yardstick") for kind in ("wall", "cpu")]
        assert all(len(each) == 2 and min(each) > 0 for each in times)


def test_the_table_has_ratios_and_reasons(found: dict[str, Any]) -> None:
    for name, seconds in {"FedAvg": [1.0, 2.0], "QFedAvg": [1.5, 2.5], "Scaffold": [2.0, 4.0]}.items():
        found[name]["own"] = {"wall": seconds, "cpu": seconds}
        found[name]["yardstick"] = {"wall": [1.0, 2.0], "cpu": [1.0, 2.0]}
    text = strategy_report.text({"W1": found, "W2": found}, repeats=2, command="python -m bench --strategies")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert text.startswith("`python -m bench --strategies`, 20")
    assert len({line.count("|") for line in table}) == 1
    cells = {row.split(" | ")[0].strip("| "): row.strip("| ").split(" | ")[1:] for row in table}
    assert cells["FedAvg"] == ["**1.00** (1.00–1.00)"] * 4 + ["the same passes and bytes"]
    assert cells["QFedAvg"] == ["**1.38** (1.25–1.50)"] * 4 + ["+1.0 passes without gradients"]
    assert cells["Scaffold"][4] == (
        "changes each gradient; a silo sends 2.0 models; a silo keeps 1.0 models; the orchestrator keeps 1.0 models"
    )
    assert cells["Unwilling"] == ["–"] * 4 + ["cannot run: no layer matches 'bn*'"]


def test_reasons_that_differ_name_their_workload(found: dict[str, Any]) -> None:
    ran = {**found, "Unwilling": found["Scaffold"]}
    row = strategy_report.row({"W1": found, "W2": ran}, "Unwilling")
    assert row[:2] == ["–", "–"]
    assert row[4].startswith("W1: cannot run: no layer matches 'bn*'; W2: changes each gradient")


def test_fewer_steps_and_more_passes_are_told() -> None:
    base = {"taught": 2.0, "measured": 0.0, "steps": 8.0, "changed": 0.0, "sent": 1.0, "kept": 0.0, "held": 0.0}
    one_step = {**base, "taught": 1.0, "steps": 1.0}
    assert strategy_report.reasons(one_step, base) == "1 local steps instead of 8; -1.0 passes with gradients"
    assert strategy_report.reasons({**base, "changed": 0.5}, base) == "changes some gradients"


def test_the_command_measures_both_workloads_and_fills_the_readme(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, ...]] = []

    def told(*arguments: str) -> dict[str, Any]:
        asked.append(arguments)
        return found

    monkeypatch.setattr(command, "figures", told)
    monkeypatch.setattr(command, "ROOT", tmp_path)
    begin, end = strategy_report.MARKS
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    assert command.main(["--strategies", "--readme", "--repeats", "2"]) == 0
    assert asked == [("strategies", "W1:3", "2"), ("strategies", "W2:3", "2")]
    printed = capsys.readouterr().out
    assert readme.read_text() == f"before\n{begin}\n{printed}{end}\nafter\n"
    assert "W1, × FedAvg" in printed


def test_every_strategy_that_there_is_can_be_timed_as_a_command() -> None:
    from bench.child import figures

    told = figures("strategies", "V:2", "1")
    assert set(told) == set(strategies.__all__)
    ran = [each for each in told.values() if "refused" not in each]
    assert len(ran) >= 9
    assert all(each["own"]["wall"][0] > 0 for each in ran)
