"""What seconds go into: the parts add up, and nothing counts twice."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.spent import Meter, Spent

SECONDS = st.floats(0, 1e4)


@given(SECONDS, SECONDS, SECONDS)
def test_compute_transfer_and_wait_are_a_rounds_seconds(compute: float, transfer: float, more: float) -> None:
    seconds = compute + transfer + more
    parts = Spent(compute=compute, transfer=transfer).of(seconds)
    assert parts["compute"] + parts["wait"] + parts["transfer"] == pytest.approx(seconds)
    assert (parts["compute"], parts["transfer"]) == (compute, transfer)


def test_a_clock_that_was_set_back_is_no_negative_wait() -> None:
    assert Spent(compute=3.0, transfer=1.0).of(2.0)["wait"] == 0.0


def test_transfer_within_work_is_no_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock says 0 at the start of work, 1 and 4 around the transfer, 10 at the end: 3 transfer, 7 compute."""
    clock = iter([0.0, 1.0, 4.0, 10.0, 20.0, 22.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    meter = Meter()
    with meter.working(), meter.transferring():
        pass
    with meter.transferring():
        pass
    assert meter.spent == Spent(compute=7.0, transfer=5.0)
