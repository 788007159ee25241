"""record: figures into a cell's output, and out of an executed notebook."""

import math
from pathlib import Path
from typing import Any

import pytest

from fl_kit import FedAvg
from fl_kit.errors import RegressionError
from fl_kit.regression.recording import MIME, record, record_run, recorded
from tests.tasks import QUADRATIC, run, silos


def cell(name: str, **figures: float) -> dict[str, Any]:
    return {"id": name, "outputs": [{"output_type": "display_data", "data": {MIME: figures, "text/plain": ""}}]}


def test_outside_of_a_notebook_it_says_what_it_would_record(capsys: pytest.CaptureFixture[str]) -> None:
    record(auc=0.87, rounds=12)
    assert capsys.readouterr().out == "recorded: auc 0.87, rounds 12\n"


@pytest.mark.parametrize("value", ["x", None, math.nan, math.inf, [1, 2]])
def test_a_figure_is_a_finite_number(value: Any) -> None:
    with pytest.raises(RegressionError, match=r"record\(auc=.*(a number|finite)"):
        record(auc=value)


def test_the_usual_figures_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """w ← w + ½(1 − w): ½, then ¾, on rows y = 0 and y = 2: the loss (w² + (w − 2)²)/4 is .53125."""
    federation = silos(tmp_path / "silos", ash=[[1, 0]], birch=[[1, 2]])
    record_run(run(QUADRATIC, FedAvg(lr=0.5), federation, 2), "fedavg_")
    said = capsys.readouterr().out
    assert "fedavg_loss 0.53125" in said
    assert "fedavg_rounds 2" in said


def test_figures_are_read_from_executed_cells() -> None:
    others = [{"id": "text"}, {"id": "x", "outputs": [{"output_type": "stream", "text": "auc"}]}]
    assert recorded([*others, cell("a", auc=0.8), cell("b", loss=0.4)]) == {"auc": 0.8, "loss": 0.4}


def test_a_name_recorded_twice_is_refused() -> None:
    with pytest.raises(RegressionError, match="'auc' is recorded twice, in cells 'a' and 'b'"):
        recorded([cell("a", auc=0.8), cell("b", auc=0.9)])
