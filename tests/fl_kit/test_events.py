"""Events keep their bits through JSON, and a log survives a kill at any byte."""

import dataclasses
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.errors import StoreError
from fl_kit.events import Event, EventLog, is_metric, metric_event, metric_name

numbers = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers() | numbers | st.text()
trees = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
values = st.none() | st.integers() | numbers | st.text() | st.dictionaries(st.text(), trees)
lifecycle = st.builds(
    Event,
    time=numbers,
    round=st.integers(0, 10**6),
    party=st.text(min_size=1),
    name=st.text(min_size=1).filter(lambda name: not name.startswith("metric/")),
    value=values,
)
figures = st.builds(
    metric_event,
    time=numbers,
    round=st.integers(0, 10**6),
    party=st.text(min_size=1),
    metric=st.text(),
    value=st.floats() | st.integers(),
)


def event(i: int = 0, **changes: Any) -> Event:
    fields = {"time": 1.5, "round": i, "party": "küste", "name": "metric/loss", "value": 0.25}
    return Event(**{**fields, **changes})


def same(a: Event, b: Event) -> bool:
    """Equal in every bit and type, NaN being equal to NaN."""
    return repr(dataclasses.astuple(a)) == repr(dataclasses.astuple(b))


@given(lifecycle | figures)
def test_json_gives_back_the_event(event: Event) -> None:
    text = event.to_json()
    assert "\n" not in text
    assert text.isascii()
    assert same(Event.from_json(text), event)


@given(lifecycle | figures)
def test_the_line_is_strict_json(event: Event) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(event.to_json(), parse_constant=refuse)


def test_a_figure_that_is_not_finite_is_a_word_in_json() -> None:
    assert json.loads(event(value=-math.inf).to_json())["value"] == "-inf"
    assert math.isnan(Event.from_json(event(value=math.nan).to_json()).value)  # type: ignore[arg-type]


def test_the_same_words_stay_words_outside_a_figure() -> None:
    said = event(name="note", value="nan")
    assert Event.from_json(said.to_json()).value == "nan"


def test_metric_names() -> None:
    figure = metric_event(round=3, party="global", metric="auc/top", value=0.5)
    assert (figure.name, metric_name(figure), is_metric(figure)) == ("metric/auc/top", "auc/top", True)
    assert figure.time > 1e9
    assert not is_metric(event(name="run/started"))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"time": 1}, "time"),
        ({"time": math.nan}, "time"),
        ({"round": -1}, "round"),
        ({"round": 1.0}, "round"),
        ({"round": True}, "round"),
        ({"party": ""}, "party"),
        ({"party": None}, "party"),
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"value": "high"}, "metric/loss must be a number"),
        ({"value": True}, "metric/loss must be a number"),
        ({"value": None}, "metric/loss must be a number"),
        ({"name": "note", "value": [1]}, "list"),
        ({"name": "note", "value": math.inf}, "inf"),
        ({"name": "note", "value": {"a": {1, 2}}}, "set"),
        ({"name": "note", "value": {"a": [math.nan]}}, "nan"),
        ({"name": "note", "value": {"a": {0: 1}}}, "key"),
    ],
)
def test_a_log_refuses_what_the_file_could_not_hold(change: dict[str, Any], word: str) -> None:
    log = EventLog()
    with pytest.raises(StoreError, match=word):
        log.append(event(**change))
    assert len(log) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"time":1.0,"round":0,"party":"a","name":"note","value":NaN}',
        '{"time":1.0,"round":0,"party":"a","name":"note"}',
        '{"time":1.0,"round":0,"party":"a","name":"note","value":1,"more":2}',
        '{"time":1.0,"round":0.0,"party":"a","name":"note","value":1}',
        '{"time":"1","round":0,"party":"a","name":"note","value":1}',
        '{"time":1.0,"round":0,"party":"a","name":"metric/loss","value":"NaN"}',
        '{"time":1.0,"round":0,"party":"a","name":null,"value":1}',
        b"\xff\xfe",
    ],
)
def test_json_of_another_kind_is_refused(text: str | bytes) -> None:
    with pytest.raises(StoreError, match="not an event"):
        Event.from_json(text)


def written(path: Path, count: int = 4) -> list[Event]:
    log = EventLog(path)
    for i in range(count):
        log.append(event(i, value=[0.5, math.nan, 3, -math.inf][i % 4]))
    log.flush()
    return log.read()


def test_read_after(tmp_path: Path) -> None:
    events = written(tmp_path / "events.jsonl")
    log = EventLog.load(tmp_path / "events.jsonl")
    assert [e.round for e in log.read(2)] == [2, 3]
    assert log.read(4) == []
    assert all(map(same, log.read(), events))


def test_a_file_cut_at_any_byte_keeps_every_whole_line_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = written(path)
    data = path.read_bytes()
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        log = EventLog.load(path)
        whole = data[:size].count(b"\n")
        assert len(log) == whole
        assert all(map(same, log.read(), events))
        log.append(event(9))
        log.flush()
        assert [e.round for e in EventLog.load(path).read()] == [*range(whole), 9]


@pytest.mark.parametrize("line", [1, 2, 4])
def test_damage_elsewhere_names_the_line(tmp_path: Path, line: int) -> None:
    path = tmp_path / "events.jsonl"
    written(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1][:10] + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(StoreError, match=rf"events\.jsonl, line {line}: not an event"):
        EventLog.load(path)


def test_a_missing_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        EventLog.load(tmp_path / "none.jsonl")


def test_a_new_log_does_not_write_over_an_old_one(tmp_path: Path) -> None:
    written(tmp_path / "events.jsonl")
    with pytest.raises(StoreError, match="already holds events"):
        EventLog(tmp_path / "events.jsonl")


def test_a_failed_write_loses_nothing(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "later" / "events.jsonl")
    log.append(event(0))
    with pytest.raises(StoreError, match="cannot be written"):
        log.flush()
    (tmp_path / "later").mkdir()
    log.append(event(1))
    log.flush()
    assert EventLog.load(log.path or "").read() == [event(0), event(1)]


def test_a_full_disk_leaves_no_half_line_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(event(0))
    log.flush()
    log.append(event(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreError, match="No space left"):
            log.flush()
    log.flush()
    assert EventLog.load(tmp_path / "events.jsonl").read() == [event(0), event(1)]


def full_disk(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_someone_cut_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(event(0))
    log.flush()
    path.write_bytes(b"")
    log.append(event(1))
    with pytest.raises(StoreError, match="something else changed it"):
        log.flush()


def test_a_flush_is_one_sync_and_an_empty_one_is_none_and_a_new_files_name_is_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs: list[int] = []
    monkeypatch.setattr(os, "fsync", syncs.append)
    log = EventLog(tmp_path / "events.jsonl")
    for i in range(100):
        log.append(event(i))
    log.flush()
    log.flush()
    assert len(syncs) == 2
    log.append(event(100))
    log.flush()
    assert len(syncs) == 3


def test_readers_see_a_growing_prefix_while_one_thread_writes(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    seen: list[list[int]] = [[] for _ in range(3)]

    def follow(mine: list[int]) -> None:
        while len(mine) < 2000:
            mine.extend(e.round for e in log.read(len(mine)))

    readers = [threading.Thread(target=follow, args=(mine,)) for mine in seen]
    for reader in readers:
        reader.start()
    for i in range(2000):
        log.append(event(i))
        if i % 500 == 0:
            log.flush()
    log.flush()
    for reader in readers:
        reader.join(timeout=30)
    assert all(mine == list(range(2000)) for mine in seen)
    assert [e.round for e in EventLog.load(tmp_path / "events.jsonl").read()] == list(range(2000))


def test_events_of_a_long_run_share_their_texts():
    """A hundred silos times two hundred rounds: 80,000 events are held."""
    first, second = (metric_event(round=round, party="ash", metric="loss", value=0.5) for round in (1, 2))
    assert first.name is second.name
    again = [Event.from_json(event.to_json()) for event in (first, second)]
    assert again[0].name is again[1].name is first.name
    assert again[0].party is again[1].party
