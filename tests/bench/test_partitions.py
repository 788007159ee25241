"""The benchmark of the partitioners: every one that deals rows is in it, and its table says what was measured."""

import inspect

from bench import __main__ as command
from bench import partitions
from sim import partition
from sim.partition import Partitioner
from sim.partition.onto import Onto


def test_every_partitioner_that_deals_rows_is_measured() -> None:
    dealing = {
        name
        for name, found in inspect.getmembers(partition, inspect.isclass)
        if issubclass(found, Partitioner) and not issubclass(found, Onto) and not inspect.isabstract(found)
    }
    assert {type(by).__name__ for by in partitions.MEASURED} == dealing


def test_the_command_prints_a_row_for_each(monkeypatch, capsys) -> None:
    asked = []

    def measured(module: str, *arguments: str) -> dict[str, list[float]]:
        asked.append((module, arguments))
        return partitions.seconds(400, 10, 2)

    monkeypatch.setattr(command, "figures", measured)
    assert command.main(["--partitions", "--repeats", "2"]) == 0
    printed = capsys.readouterr().out
    assert asked == [("partitions", ("1000000", "1000", "2"))]
    assert "`python -m bench --partitions --repeats 2`" in printed
    assert "1,000,000 labels of 10 classes to 1,000 silos" in printed
    assert printed.count(" s (") == len(partitions.MEASURED)


def test_the_median_stands_before_least_and_largest() -> None:
    table = partitions.text({"IID()": [3.0, 1.0, 2.0]}, rows=10, silos=2, command="c")
    assert table.splitlines()[-1] == "| `IID()` | 2.00 s (1.00 … 3.00) |"
