"""Every reader of what strangers write takes an input, or refuses it by its own error: never another, never for long.

The short fuzz is the same each time. What longer ones (`python -m bench.fuzz`) and people found stands below it.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import fuzz as fuzzing
from bench.fuzz import Reader, fuzz, try_one
from bench.fuzz_changes import Input, mutated
from bench.fuzz_readers import readers
from fl_kit.errors import MessageError

SEED, INPUTS = 2026, 150
READERS = {reader.name: reader for reader in readers()}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_takes_or_refuses(name: str) -> None:
    tally = fuzz(READERS[name], INPUTS, SEED)
    assert tally.findings == []
    assert tally.tried == INPUTS
    assert tally.accepted < INPUTS or name in ("json", "origin", "note")


@pytest.mark.parametrize("name", READERS)
def test_each_valid_input_is_taken(name: str, tmp_path: Path) -> None:
    """Otherwise the fuzz would only see how everything is refused at the door."""
    for number, seed in enumerate(READERS[name].seeds):
        assert try_one(READERS[name], seed, tmp_path / str(number)) == ("", True)


def test_the_inputs_follow_from_the_seed() -> None:
    for reader in READERS.values():
        first, again, other = ([mutated(rng, reader.seeds) for _ in range(20)] for rng in map(random.Random, (1, 1, 2)))
        assert first == again
        assert first != other


def planted(fault: Callable[[bytes], object]) -> Reader:
    return Reader(
        name="x", seeds=({"x.json": b'{"a": [1, 2]}'},), read=lambda inp, _: fault(inp["x.json"]), files=False
    )


def test_another_error_is_found_and_kept(tmp_path: Path) -> None:
    def breaks(content: bytes) -> None:
        if b"1" not in content:
            raise MessageError("refused")
        if b"2" not in content:
            raise KeyError("2")

    tally = fuzz(planted(breaks), 200, SEED, keep=tmp_path)
    assert [wrong.partition(":")[0] for wrong, _ in tally.findings] == ["KeyError"]
    (file,) = tmp_path.rglob("x.json")
    assert b"2" not in file.read_bytes()


def test_an_input_that_takes_long_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzing, "SLOW", 0.01)

    def lingers(_: bytes) -> None:
        start = time.process_time()
        while time.process_time() - start < 0.02:
            pass

    assert len(fuzz(planted(lingers), 2, SEED).findings) >= 1


FOUND: list[tuple[str, Input]] = [
    # a base-60 whole number that no float can hold was an OverflowError, and took time as the square of its length
    ("yaml", {"x.yaml": b"silos: [{name: a, data: d, processes: " + b"1:" * 300 + b"1.5}]"}),
    # lists in lists took PyYAML a second and a half; the faults of two hundred silos were an error of 47,787 characters
    ("yaml", {"x.yaml": b"{" + b"[" * 3000}),
    ("yaml", {"x.yaml": b"silos: [" + b"{name: a, dast: d, tags: {ward: x}}, " * 200 + b"]"}),
    # tags that promise what the text is not were a KeyError and an AttributeError
    ("yaml", {"x.yaml": b"silos: [{name: !!bool x, data: d}]"}),
    ("yaml", {"x.yaml": b"silos: [{name: !!timestamp x, data: d}]"}),
    # a value nested as deep as JSON allows ended in Python's own recursion when it was looked through
    ("event", {"x.json": b'{"time":1.0,"round":0,"party":"a","name":"note","value":' + b"[" * 400 + b"]" * 400 + b"}"}),
    ("event", {"x.json": b'{"time":1.0,"round":0,"party":"a","name":"note","value":"\\ud800"}'}),
    ("event", {"x.json": b'{"time":1e999,"round":0,"party":"a","name":"note","value":null}'}),
    # names that leave the folder of a run, a step or a bundle
    ("plan", {"x.json": b'{"format":1,"steps":[{"op":"fit","party":"../../x","round":1,"inputs":{},"outputs":{}}]}'}),
    ("plan", {"x.json": b'{"format":1,"steps":[{"op":"fit","party":"a","round":1,"inputs":{},"outputs":{"..":"x"}}]}'}),
    ("plan", {"x.json": b'{"format":1,"steps":[{"op":"fit","party":"a","round":1,"inputs":["x"],"outputs":{}}]}'}),
    ("run folder", {"job.json": b'{"format":1,"task":{"name":"../../../etc/x"}}'}),
    ("bundle", {"job.json": b'{"format":1,"task":{"name":["x"]}}', "manifest.json": b'{"files":{}}'}),
    # TOML nested beyond Python's recursion, and numbers that are none
    ("bands", {"bands.toml": b"a = " + b"[" * 3000, "00.ipynb": b""}),
    # a notebook's name that no system takes was an OSError, and one that leads elsewhere was followed
    ("bands", {"bands.toml": b"[" + b"9" * 500 + b".quick]\nseeds = [1]\n", "00.ipynb": b""}),
    ("bands", {"bands.toml": b'["../input/00".quick]\nseeds = [1]\n', "00.ipynb": b""}),
    ("bands", {"bands.toml": b"[00.quick.bands]\nauc = {value = nan, absolute = 0.1}\n", "00.ipynb": b""}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "files"), FOUND, ids=[f"{i}-{name}" for i, (name, _) in enumerate(FOUND)])
def test_what_was_found_is_refused(name: str, files: Input, tmp_path: Path) -> None:
    assert try_one(READERS[name], files, tmp_path / "input") == ("", False)
