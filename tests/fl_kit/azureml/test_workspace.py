"""What is read of a workspace is bounded: a log may be as long as a silo's step likes."""

import io
from typing import Any

import pytest

from fl_kit.azureml import workspace
from fl_kit.azureml.workspace import end_of


class Counted(io.RawIOBase):
    """A log that never ends; counts what is read of it."""

    given = 0

    def read(self, size: int = -1) -> Any:
        self.given += size
        return b"x" * (size - 1) + b"\n"


def test_a_log_is_read_whole_where_it_is_short() -> None:
    assert end_of(io.BytesIO(b"one\ntwo\n")) == b"one\ntwo\n"
    assert end_of(io.BytesIO(b"")) == b""


def test_of_a_long_one_the_end_is_kept_from_the_beginning_of_a_line_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "LOG_PART", 7)
    monkeypatch.setattr(workspace, "LOG_KEPT", 10)
    assert end_of(io.BytesIO(b"".join(b"%03d\n" % number for number in range(100)))) == b"098\n099\n"


def test_of_one_without_an_end_so_much_is_read_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "LOG_LIMIT", 100 << 10)
    monkeypatch.setattr(workspace, "LOG_KEPT", 4 << 10)
    monkeypatch.setattr(workspace, "LOG_PART", 1 << 10)
    log = Counted()
    assert len(end_of(log)) < 4 << 10
    assert log.given == 100 << 10
