"""A run in words: the progress line, the line about failures, the summary and the description."""

import math

from fl_kit.chart.curves import Curves, best, latest

WORTH_TELLING = 0.05
"""The share of a round that goes into something else than compute, from which on its seconds are told apart."""


def figure(value: float) -> str:
    """A value with three significant digits.

    >>> figure(0.7144), figure(12.0), figure(123456.0), figure(0.00001234)
    ('0.714', '12.0', '123,456', '1.23e-05')
    """
    if not math.isfinite(value):
        return str(value)
    if 999.5 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if 1e-4 <= abs(value) < 999.5 or value == 0 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time span as people say it.

    >>> duration(0.2), duration(75), duration(7300)
    ('0.20 s', '1 min 15 s', '2 h 2 min')
    """
    if seconds < 10:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, noun: str) -> str:
    """A number and its noun: "1 silo", "2 silos"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def one_line(text: str) -> str:
    """The text without line breaks and without signs that do not print."""
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))


def remaining(curves: Curves, now: float) -> float:
    """Seconds until the last round is done, from the pace of the last rounds; NaN while unknown."""
    rounds = curves.total - curves.done
    if rounds <= 0 or math.isnan(curves.pace):
        return math.nan
    spent = min(max(now - curves.since, 0.0), curves.pace)
    return rounds * curves.pace - spent


def position(curves: Curves) -> str:
    """Where the run is: "round 11 of 25", "20 rounds", "waiting for round 1"."""
    if curves.ended:
        asked = f" of {curves.total}" if curves.done < curves.total else ""
        return f"{curves.status} after {curves.done}{asked} round{'' if (asked or curves.done) in ('', 1) else 's'}"
    if curves.status == "paused":
        return f"paused after {curves.done}{f' of {curves.total}' if curves.total else ''} rounds"
    if not curves.done:
        return "waiting for round 1"
    return f"round {curves.done} of {curves.total}" if curves.total else f"round {curves.done}"


def figures(curves: Curves, metrics: tuple[str, ...]) -> list[str]:
    """The federation's latest value of each metric."""
    found = [(metric, latest(curves.of(metric))[1]) for metric in metrics]
    return [f"{metric} {figure(value)}" for metric, value in found if math.isfinite(value)]


def time_line(curves: Curves, now: float) -> list[str]:
    if curves.ended or curves.status == "paused":
        return [duration(sum(curves.seconds))] if curves.seconds else []
    pace = [f"{duration(curves.pace)}/round{split_words(curves)}"] if curves.seconds else []
    left = remaining(curves, now)
    return pace if math.isnan(left) else [*pace, f"about {duration(max(left, 1))} left"]


def split_words(curves: Curves) -> str:
    """What a round's seconds go into, unless nearly all of them are compute."""
    other = sum(spent for name, spent in curves.split.items() if name != "compute")
    if not curves.split or other < WORTH_TELLING * curves.pace:
        return ""
    return " (" + ", ".join(f"{name} {duration(spent)}" for name, spent in curves.split.items()) + ")"


def progress_line(curves: Curves, metrics: tuple[str, ...], now: float) -> str:
    """One line for people who wait: round, figures, silos, pace and what is left."""
    silos = [count(len(curves.silos), "silo")] if curves.silos else []
    parts = [position(curves), *figures(curves, metrics), *silos, *time_line(curves, now)]
    return " · ".join([*([curves.strategy] if curves.strategy else []), *parts])


def trouble_line(curves: Curves) -> str:
    """The latest failure in words and how many there were; without any, the latest note."""
    if curves.status == "failed":
        return one_line(f"failed: {curves.message}")
    if not curves.failures:
        return one_line(curves.message)
    last = curves.failures[-1]
    more = f" (and {len(curves.failures) - 1} more)" if len(curves.failures) > 1 else ""
    return one_line(f"round {last.round}, {last.silo}: {last.words}") + more


def summary_line(run_id: str, curves: Curves, metrics: tuple[str, ...], now: float) -> str:
    """One line for the record, when the run has ended."""
    line = f"run {run_id}: {progress_line(curves, metrics, now)}"
    failed = [count(len(curves.failures), "failure")] if curves.failures else []
    reason = [trouble_line(curves)] if curves.status == "failed" else []
    return " · ".join([line, *failed, *reason])


def description(curves: Curves, metrics: tuple[str, ...]) -> str:
    """What the picture shows, for those who cannot see it."""
    what = f"Convergence of {curves.strategy or 'a federated run'}: {position(curves)}"
    silos = f", {count(len(curves.silos), 'silo')}" if curves.silos else ""
    told = [course(curves, metric) for metric in metrics]
    trouble = trouble_line(curves) if curves.failures or curves.status == "failed" else ""
    return " ".join(f"{sentence}." for sentence in [what + silos, *told, trouble] if sentence)


def course(curves: Curves, metric: str) -> str:
    """The course of one metric: from, to, best, and the silos' range."""
    values = curves.of(metric)
    at, last = latest(values)
    if at < 0:
        return f"No value of {metric} yet"
    start = next(value for value in values if math.isfinite(value))
    when, top = best(metric, values)
    verb = "stayed at" if start == last else ("fell" if last < start else "rose")
    told = f"{verb} {figure(last)}" if start == last else f"{verb} from {figure(start)} to {figure(last)}"
    lines = [f"The federation's {metric} {told}, best {figure(top)} in round {when}"]
    silos = standing(curves, metric)
    if silos:
        (high, highest), (low, lowest) = silos[0], silos[-1]
        lines.append(f"highest silo {high} {figure(highest)}, lowest silo {low} {figure(lowest)}")
    return "; ".join(lines)


def standing(curves: Curves, metric: str) -> list[tuple[str, float]]:
    """The silos that still take part and have a value, and their latest one; highest first."""
    present = [silo for silo in curves.silos if not curves.has_left(metric, silo)]
    found = [(silo, latest(curves.of(metric, silo))[1]) for silo in present]
    return sorted((pair for pair in found if math.isfinite(pair[1])), key=lambda pair: -pair[1])
