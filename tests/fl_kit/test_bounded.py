"""Bounded reading: what a stranger may put in place of a file, a name or JSON is refused in one line, and soon."""

import json
import math
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit import bounded
from fl_kit.bounded import inside, parse_json, read_bytes, read_text, sha256_of

plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=12,
)


@given(value=plain)
def test_what_json_wrote_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NaN", "NaN is not JSON"),
        ('{"a": -Infinity}', "-Infinity is not JSON"),
        ("1e999", "too large"),
        ("-1e999", "too large"),
        ("1" * 102, "more than 100 digits"),
        ("[" + "9" * 5000 + "]", "more than 100 digits"),
        ('{"a": 1, "a": 2}', "'a' stands in it twice"),
        ('{"b": {"a": 1, "c": 0, "a": 1}}', "'a' stands in it twice"),
        ('"\\ud800"', "half of a surrogate pair"),
        ('{"\\uDC00": 1}', "half of a surrogate pair"),
        ("[" * 33 + "]" * 33, "nested deeper than 32"),
        ('{"a":' * 33 + "1" + "}" * 33, "nested deeper than 32"),
        ("[" * 200_000, "nested deeper than 32"),
        ("{", "line 1"),
        ("", "line 1"),
        ("1 2", "Extra data"),
        (b"\xff", "utf-8"),
        (b'"\xed\xa0\x80"', "utf-8"),
    ],
    ids=lambda text: str(text)[:12],
)
def test_json_that_others_would_read_otherwise_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text)


def test_what_is_just_within_the_limits_is_read() -> None:
    assert parse_json("[" * 32 + "]" * 32)
    assert parse_json("[" + "[]," * 100 + '"[[[[", {}]')
    assert parse_json(str(2**64)) == 2**64
    assert parse_json('"\\ud83d\\ude00"') == "😀"
    assert math.isnan(parse_json("NaN", infinite=True))
    assert parse_json("-Infinity", infinite=True) == -math.inf


def test_a_plain_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bytes(tmp_path / "f", limit=5) == b"12345"
    assert sha256_of(tmp_path / "f", limit=5) == "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    with pytest.raises(OSError, match="5 bytes, larger than the 4 expected"):
        read_bytes(tmp_path / "f", limit=4)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "g", limit=4)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            bound.bind("socket")
        finally:
            os.chdir(here)
        for name, kind in {"pipe": "a pipe", "folder": "a folder", "device": "a device", "socket": "a socket"}.items():
            with pytest.raises(OSError, match=f"it is {kind}, expected a plain file"):
                read_bytes(tmp_path / name, limit=100, links=True)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_link_is_followed_only_where_the_user_chose_the_path(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="it is a link"):
        read_text(tmp_path / "link")
    assert read_text(tmp_path / "link", links=True) == "s"


@pytest.mark.parametrize("after", [b"", b"12", b"123456"], ids=["emptied", "cut", "longer"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bytes
) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"12345")
    looks = iter(["at the path", "at the opened file"])

    def meanwhile(*found: object) -> None:
        if next(looks) == "at the opened file":
            file.write_bytes(after)

    monkeypatch.setattr(bounded, "check_plain", meanwhile)
    with pytest.raises(OSError, match="changed while it was read"):
        read_bytes(file, limit=100)


def test_a_file_that_is_replaced_while_it_is_opened_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"mine")
    opening = os.open

    def swapped(path: Path, flags: int) -> int:
        (tmp_path / "other").write_bytes(b"theirs")
        (tmp_path / "other").replace(file)
        return opening(path, flags)

    monkeypatch.setattr(bounded.os, "open", swapped)
    with pytest.raises(OSError, match="replaced while it was opened"):
        read_bytes(file, limit=100)


def test_a_name_inside_a_folder(tmp_path: Path) -> None:
    assert inside(tmp_path, "task/heart.py") == tmp_path / "task" / "heart.py"


@pytest.mark.parametrize(
    "name",
    [
        "..", "task/../../x", "/etc/passwd", "task//x", "", ".", "C:/x", "C:x", "task\\x", "a\0b", "a\nb", "con",
        "task/NUL.py", "com1.txt", "Lpt9", "x.", "x ", "a" * 256, "task/", "~/x?", "AUX.tar.gz",
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_on_some_system_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["console.py", "task/nullable.py", "com10", "größe.py", "..x", ".hidden"])
def test_a_name_that_only_looks_like_one_passes(tmp_path: Path, name: str) -> None:
    inside(tmp_path, name)


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_folder_that_is_a_link_is_not_passed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "task").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is a link"):
        inside(tmp_path, "task/heart.py")
