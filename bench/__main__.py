"""fl-kit's exact simulator against the plain torch loop: time, memory, start; and a submission to AzureML.

python -m bench                 everything, about a quarter of an hour; wants a machine that does nothing else
python -m bench --quick         a few rounds of each, to see that it works
python -m bench --engines       only the engines: exact, and what "auto" chooses; ten minutes
python -m bench --azureml       only the submission: a large plan, to a local workspace; a quarter of a minute
python -m bench --strategies    only the strategies, each beside FedAvg on W1 and W2; some minutes
python -m bench --aggregators   only the aggregators: twenty updates of 25 million parameters; some minutes, 3 GB
python -m bench --partitions    only the partitioners: a million labels to a thousand silos; half a minute
python -m bench --watch         only the live view: what it takes of the time, how far it lags; half a minute
python -m bench --soak          only a long run: 100 silos, 200 rounds, one silo in twenty fails; twice; some minutes
python -m bench --durability    only what fsync and manifests cost a round of W1, W2 and W3; some minutes
python -m bench --readme        also put the table, or the one line, into README.md
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from bench import aggregators, durability, engines, live_view, partitions, report, soak, strategy_report
from bench.child import ROOT, figures
from bench.start import import_time, to_end_of_round_1
from bench.systems import FOLDER, LOOP, SYSTEMS

MORE_SILOS = ("W2x1000:2", "W3x16:2")
"""Ten times and four times the silos: the memory must stay what it is."""
SMALL_JOB = "W2x10"
LARGE_UPDATES, QUICK_UPDATES = (20, "W3"), (20, "W2")
"""How many updates an aggregator is given, and of whose model."""
LARGE_PLAN, QUICK_PLAN = ("10", "50"), ("2", "3")
"""Silos and rounds of what is submitted to AzureML."""

MANY_LABELS, MANY_SILOS = 1_000_000, 1_000
"""What the partitioners deal."""

BUSY_VIEW, QUICK_VIEW = ("100", "50", "12"), ("100", "50", "2")
"""Silos, rounds a second and seconds of what is watched."""

LONG_RUN, QUICK_RUN = ("100", "200"), ("20", "12")
"""Silos and rounds of a run in which nothing may grow."""


def measure(workloads: list[str], repeats: int, *, quick: bool, command: str) -> report.Figures:
    """Every part in fresh interpreters, one after the other."""
    rounds = ":3" if quick else ""
    starts = 1 if quick else 3
    say("time")
    timings = {name: figures("timing", f"{name}{rounds}", str(repeats)) for name in workloads}
    say("memory")
    grown = [] if quick else [name for name in MORE_SILOS if name.partition("x")[0] in workloads]
    memory = {(name, system): figures("memory", f"{name}:2", system) for name in workloads for system in SYSTEMS}
    memory |= {
        (name.partition(":")[0], system): figures("memory", name, system) for name in grown for system in SYSTEMS
    }
    say("start")
    starting = [*workloads, *([] if quick else [SMALL_JOB])]
    begun = {
        (name, system): to_end_of_round_1(f"{name}:1", system, starts) for name in starting for system in (LOOP, FOLDER)
    }
    return report.Figures(
        timings=timings,
        memory=memory,
        starts=begun,
        imported=import_time(3 if quick else 9),
        azureml=submission(quick=quick),
        repeats=repeats,
        command=command,
    )


def submission(*, quick: bool) -> dict[str, Any]:
    say("azureml")
    return figures("azureml", *(QUICK_PLAN if quick else LARGE_PLAN))


def say(part: str) -> None:
    print(f"bench: {part}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=form)
    parser.add_argument("--workloads", default=None, help="see bench/workloads.py; default: W1,W2,W3, or W1,W2")
    parser.add_argument("--repeats", type=int, default=None, help="runs of each system; default: 5")
    parser.add_argument("--quick", action="store_true", help="three rounds, one run of each")
    parser.add_argument("--engines", action="store_true", help="only the engines beside the plain loop")
    parser.add_argument("--azureml", action="store_true", help="only the submission to AzureML")
    parser.add_argument("--strategies", action="store_true", help="only the strategies, each beside FedAvg")
    parser.add_argument("--aggregators", action="store_true", help="only the aggregators, on 20 large updates")
    parser.add_argument("--partitions", action="store_true", help="only the partitioners, on a million labels")
    parser.add_argument("--watch", action="store_true", help="only the live view, 100 silos at 50 rounds a second")
    parser.add_argument("--soak", action="store_true", help="only a long run of many silos, of which some fail")
    parser.add_argument("--durability", action="store_true", help="only what fsync and manifests cost a round")
    parser.add_argument("--readme", action="store_true", help="put the table, or the one line, into README.md")
    asked = parser.parse_args(arguments)
    if asked.azureml:
        return only_azureml(quick=asked.quick, readme=asked.readme)
    repeats = asked.repeats or (1 if asked.quick else 5)
    words = sys.argv[1:] if arguments is None else arguments
    command = " ".join(["python -m bench", *(word for word in words if word != "--readme")])
    workloads = (asked.workloads or ("W1,W2" if asked.strategies else "W1,W2,W3")).split(",")
    if asked.engines:
        chosen = asked.workloads.split(",") if asked.workloads else engines.QUICK if asked.quick else engines.TIMED
        return only_engines(chosen, asked.repeats or (1 if asked.quick else 3), readme=asked.readme, command=command)
    if asked.watch:
        return only_watch(quick=asked.quick, command=command)
    if asked.soak:
        return only_soak(quick=asked.quick, readme=asked.readme, command=command)
    if asked.durability:
        return only_durability(workloads, repeats, quick=asked.quick, readme=asked.readme, command=command)
    if asked.aggregators:
        return only_aggregators(quick=asked.quick, command=command)
    if asked.partitions:
        return only_partitions(repeats, command=command)
    if asked.strategies:
        return only_strategies(workloads, repeats, readme=asked.readme, command=command)
    found = measure(workloads, repeats, quick=asked.quick, command=command)
    table = report.text(found)
    print(table)
    if asked.readme:
        report.put_into(ROOT / "README.md", table)
    return 0 if found.same else 1


def only_azureml(*, quick: bool, readme: bool) -> int:
    found = submission(quick=quick)
    line = report.submitted(found)
    print(line)
    print(report.requests_of(found))
    if readme:
        report.put_line_into(ROOT / "README.md", line)
    return 0


def only_engines(workloads: Sequence[str], repeats: int, *, readme: bool, command: str) -> int:
    found = {}
    for name in workloads:
        say(f"engines on {name}")
        found[name.partition(":")[0]] = figures("engines", name, str(repeats), "exact", "auto", "stacked")
    table = engines.text(found, repeats=repeats, command=command)
    print(table)
    if readme:
        report.put_into(ROOT / "README.md", table, engines.MARKS)
    return 0


def only_strategies(workloads: list[str], repeats: int, *, readme: bool, command: str) -> int:
    found = {}
    for name in workloads:
        say(f"strategies on {name}")
        found[name] = figures("strategies", f"{name}:3", str(repeats))
    table = strategy_report.text(found, repeats=repeats, command=command)
    print(table)
    if readme:
        report.put_into(ROOT / "README.md", table, strategy_report.MARKS)
    return 0


def only_aggregators(*, quick: bool, command: str) -> int:
    found = {}
    count, workload = QUICK_UPDATES if quick else LARGE_UPDATES
    for name in aggregators.MEASURED:
        say(name)
        found[name] = figures("aggregators", name, str(count), workload)
    print(aggregators.text(found, count=count, command=command))
    return 0


def only_partitions(repeats: int, *, command: str) -> int:
    say("partitions")
    found = figures("partitions", str(MANY_LABELS), str(MANY_SILOS), str(repeats))
    print(partitions.text(found, rows=MANY_LABELS, silos=MANY_SILOS, command=command))
    return 0


def only_durability(workloads: list[str], repeats: int, *, quick: bool, readme: bool, command: str) -> int:
    """Fails if a round takes more than its share longer, or the bits are others."""
    found = {}
    for name in workloads:
        say(f"durability on {name}")
        found[name] = figures("durability", f"{name}{':3' if quick else ''}", str(repeats))
    table = durability.text(found, repeats=repeats, command=command)
    print(table)
    if readme:
        report.put_into(ROOT / "README.md", table, durability.MARKS)
    return 0 if durability.is_within(found) else 1


def only_soak(*, quick: bool, readme: bool, command: str) -> int:
    """Fails if the two runs differ, or an event is missing."""
    runs = []
    for attempt in (1, 2):
        say(f"soak, run {attempt} of 2")
        runs.append(figures("soak", *(QUICK_RUN if quick else LONG_RUN)))
    table = soak.text(runs, command=command)
    print(table)
    if readme:
        report.put_into(ROOT / "README.md", table, soak.MARKS)
    return 0 if soak.is_sound(runs) else 1


def only_watch(*, quick: bool, command: str) -> int:
    say("live view")
    found = figures("live_view", *(QUICK_VIEW if quick else BUSY_VIEW))
    print(live_view.text(found, command=command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
