"""The bench of the live view: what it counts, and that the figures hold on a small run."""

import pytest

from bench import __main__ as command
from bench.live_view import Sent, lags, text, watch
from fl_kit.chart.look import Look


def test_the_lag_is_from_a_round_s_end_to_the_first_picture_of_it() -> None:
    told = {1: 10.0, 2: 10.5, 3: 11.0, 4: 20.0}
    # the first picture shows round 1, the second rounds up to 3, the third nothing new
    assert lags(told, [(10.25, 1), (11.5, 3), (12.0, 3)]) == (0.5, 1.0)


def test_a_small_run_is_drawn_within_its_share() -> None:
    found = watch(10, 20.0, 1.0, lambda: Sent("steady", Look()))
    assert 0 < found["share"] < 0.3
    assert found["frames"] > 2
    assert 0 < found["lag"][0] <= found["lag"][1] < 1.0
    assert found["kilobytes"] > 5


def test_the_command_says_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = {"share": 0.12, "cpu": 0.1, "frames": 8.04, "frame": 0.0153, "lag": (0.071, 0.24), "kilobytes": 25.6}
    found = {"silos": 100, "pace": 50.0, "seconds": 2.0, "views": {"watch": view, "RunPanel": {**view, "kilobytes": 0}}}
    monkeypatch.setattr(command, "figures", lambda *asked: found if asked[0] == "live_view" else None)
    assert command.main(["--watch", "--quick"]) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == text(found, command="python -m bench --watch --quick")
    assert (
        "- watch: drawing takes 12% of the time (10% CPU); 8.0 pictures a second, 15 ms, 26 kB each; "
        "lag 0.07 s, longest 0.24 s" in printed
    )
    assert "15 ms each" in printed
