"""How an input of `bench.fuzz` is changed: in ways that know its form, and in ways that know nothing."""

import json
import random
import struct
from typing import Any

Input = dict[str, bytes]
"""File name → content."""
LONGEST = 20_000
"""Bytes of an input."""


def mutated(rng: random.Random, seeds: tuple[Input, ...]) -> Input:
    """A seed with one to four changes; one file in ten is another seed's."""
    files = dict(rng.choice(seeds))
    if rng.random() < 0.1:
        other = rng.choice(seeds)
        files |= {name: other[name] for name in files if name in other and rng.random() < 0.5}
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        name = rng.choice(sorted(files))
        files[name] = changed(rng, name, files[name])[:LONGEST]
    if "meta.json" in files and rng.random() < 0.7:
        files["meta.json"] = resized(files)
    return files


def changed(rng: random.Random, name: str, content: bytes) -> bytes:
    if rng.random() < 0.6:
        if name.endswith(".safetensors"):
            return in_header(rng, content)
        if name.endswith((".json", ".jsonl", ".yaml")):
            return in_json(rng, content)
    return rng.choice((flipped, cut, doubled, inserted, replaced))(rng, content)


def in_json(rng: random.Random, content: bytes) -> bytes:
    """A change of what JSON says; of YAML, which here is written as JSON; of one line of several."""
    lines = content.split(b"\n")
    number = rng.randrange(len(lines)) if len(lines) > 1 and content[:1] == b"{" and lines[0][-1:] == b"}" else None
    try:
        text = written(rng, in_value(rng, json.loads(content if number is None else lines[number])))
    except (ValueError, OverflowError, RecursionError):
        return flipped(rng, content)
    if number is None:
        return text
    return b"\n".join([*lines[:number], text, *lines[number + 1 :]])


def written(rng: random.Random, value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.9)
    if rng.random() < 0.1:
        text = rng.choice(RAW).join(text.split(rng.choice(("1", "0", '"', "[", "{", "null")), 1))
    if rng.random() < 0.05 and ":" in text:
        key, _, rest = text.lstrip("{").partition(":")
        text = f"{{{key}: 1, {key}:{rest}"
    return text.encode("utf-8", "surrogatepass")


def in_value(rng: random.Random, value: Any) -> Any:
    """The value with one part changed, somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        kind = rng.random()
        if kind < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.2:
            return {**value, rng.choice(TEXTS): rng.choice((value[key], odd(rng)))}
        if kind < 0.25:
            return {(rng.choice(TEXTS) if k == key else k): v for k, v in value.items()}
        return {**value, key: in_value(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.85:
        place = rng.randrange(len(value))
        kind = rng.random()
        if kind < 0.1:
            return value[:place] + value[place + 1 :]
        if kind < 0.25:
            return [*value, rng.choice((value[place], odd(rng)))]
        return [*value[:place], in_value(rng, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and value and rng.random() < 0.4:
        place = rng.randrange(len(value) + 1)
        return value[:place] + rng.choice(TEXTS) + value[place + rng.randrange(2) :]
    if type(value) in (int, float) and rng.random() < 0.4:
        return value + rng.choice((1, -1, 8, 2**31, 2**62, 0.5, -(2**40)))
    return odd(rng)


def odd(rng: random.Random) -> Any:
    return rng.choice((rng.choice(NUMBERS), rng.choice(TEXTS), rng.choice(OTHERS)))


def in_header(rng: random.Random, content: bytes) -> bytes:
    """A change of a safetensors header, or of the length that is told of it."""
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.2:
        told = rng.choice((0, 1, length - 1, length + 1, len(content), 2**31, 2**63, 2**64 - 1))
        return struct.pack("<Q", min(max(told, 0), 2**64 - 1)) + header + data
    header = in_json(rng, header.rstrip())
    if rng.random() < 0.2:
        data = rng.choice((flipped, cut, doubled))(rng, data)
    return struct.pack("<Q", len(header)) + header + data


def resized(files: Input) -> bytes:
    """The message's meta.json with the size that its tensors have: most other faults are met only then."""
    try:
        meta = json.loads(files["meta.json"])
        return json.dumps({**meta, "bytes": len(files["tensors.safetensors"])}).encode()
    except (ValueError, TypeError, KeyError, RecursionError):
        return files["meta.json"]


def flipped(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] if rng.random() < 0.5 else content[:start] + content[start + rng.randrange(1, 40) :]


def doubled(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    part = content[start : start + rng.randrange(1, 60)]
    return content[:start] + part * rng.choice((2, 2, 3, 200)) + content[start:]


def inserted(rng: random.Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.choice(PIECES) + content[start:]


def replaced(rng: random.Random, content: bytes) -> bytes:
    word = rng.choice((b":", b",", b"[", b"]", b"{", b"}", b'"', b"-", b"0", b"1", b"\n", b" "))
    return content.replace(word, rng.choice(PIECES), rng.choice((1, 1, 2, -1)))


NUMBERS = (
    0, -1, 1, 2, 3.5, -0.0, 1e308, 1e-320, 2**31, 2**53, 2**63, 2**64, 10**19, 10**25, -(2**63), 0.1, 4096, 10**6,
)  # fmt: skip
TEXTS = (
    "", ".", "..", "../../x", "/", "/etc/passwd", "C:\\x", "a/b", "con", "NUL", "\0", "\n", "x" * 300, "größe",
    "重み", "😀", "\ud800", "ash", "orchestrator", "global", "fit", "state", "task", "data:ash", "data:", ":",
    "update/ash", "metric/loss", "nan", "inf", "-inf", "1e999", "fl_kit.strategies.fedavg.FedAvg",
    "fl_kit.strategies..x", "task.LinearModel", "os.system", "fl_kit.strategies.fedavg.dataclass", "__class__",
    "__metadata__", "+control/w", "delta/w", "params/w", "F64", "BOOL", "U64",
)  # fmt: skip
OTHERS: tuple[Any, ...] = (
    None, True, False, [], {}, [[]], {"": {}}, [None], ["x"] * 50, {"class": "task.x", "settings": {}}, [0, 8],
    [8, 0], [2**40, 0], [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
)  # fmt: skip
RAW = (
    "NaN", "Infinity", "-Infinity", "1e999", "9" * 30, "9" * 5000, "[" * 50, "[" * 3000, '{"a":' * 3000, "\\ud800",
    "0x1", "01",
)  # fmt: skip
PIECES = (
    b"", b"\0", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\t", b"{", b"[", b"}", b"]", b'"',
    b"'", b"\\", b"\\u", b"&a ", b"*a ", b"<<: *a\n", b"!!binary ", b"!!python/object:x ", b"!!int ", b"? ", b"- ",
    b": ", b"---\n", b"...\n", b"%YAML 9.9\n", b"#", b"1:" * 60, b"9" * 400, b"[" * 400, b"{a: " * 200, b"NaN",
    b"Infinity", b"1e999", b"2026-99-99", b"0o9", b"!", b"|\n", b">\n", b"@",
)  # fmt: skip
