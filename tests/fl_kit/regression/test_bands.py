"""Bands: what they hold, and one clear error for a file that is wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.errors import RegressionError
from fl_kit.regression.bands import Band, load_bands

from .small_notebooks import write_bands, write_notebook


@pytest.mark.parametrize(
    ("band", "figure", "holds"),
    [
        (Band(value=0.87, absolute=0.02), 0.89, True),  # the edge, which is no binary number
        (Band(value=0.87, absolute=0.02), 0.8901, False),
        (Band(value=0.87, absolute=0.02), 0.85, True),
        (Band(value=-2.0, relative=0.1), -2.2, True),
        (Band(value=-2.0, relative=0.1), -2.21, False),
        (Band(value=3.0, absolute=0.0), 3.0, True),
        (Band(value=0.0, relative=0.5), 1e-9, False),
    ],
)
def test_what_a_band_holds(band: Band, figure: float, holds: bool) -> None:
    assert band.holds(figure) == holds


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(-2, 2))
def test_a_band_is_an_interval_around_its_value(value: float, width: float, share: float) -> None:
    figure = value + share * width
    inside = abs(figure - value) <= width
    if abs(abs(figure - value) - width) > 1e-9 * max(abs(value), 1.0):  # not at the very edge
        assert Band(value=value, absolute=width).holds(figure) == inside


def test_a_file_in_full(tmp_path: Path) -> None:
    write_notebook(tmp_path, "story")
    write_bands(
        tmp_path,
        """
        [story.quick]
        parameters = { level = 3, name = "x" }
        seeds = [7, 8]
        budget = 60
        bands.auc = { value = 0.87, absolute = 0.02 }
        [story.full.bands]
        loss = { value = 0.4, relative = 0.05 }
        """,
    )
    quick, full = load_bands(tmp_path, "quick")["story"], load_bands(tmp_path, "full")["story"]
    assert (quick.parameters, quick.seeds, quick.budget) == ({"level": 3, "name": "x"}, (7, 8), 60.0)
    assert quick.bands == {"auc": Band(value=0.87, absolute=0.02)}
    assert (full.parameters, full.seeds, full.budget) == ({}, (), 600.0)
    assert full.bands["loss"].tolerance == pytest.approx(0.02)


def test_no_file_is_no_bands(tmp_path: Path) -> None:
    assert load_bands(tmp_path, "quick") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("story\nx = 1", "is not TOML.*line 1"),
        ("[stroy.quick]", "no notebook stroy.ipynb; did you mean 'story'"),
        ("story = 3", "story: expected a table with quick, full"),
        ("[story.qiuck]", "story: unknown 'qiuck'; did you mean 'quick'"),
        ("[story.quick]\nseed = 3", "story.quick: unknown 'seed'; did you mean 'seeds'"),
        ("[story.quick]\nseeds = [1, 1]", "seeds must be a list of whole numbers, each once"),
        ("[story.quick]\nseeds = 3", "seeds must be a list"),
        ("[story.quick]\nbudget = 0", "budget must be a number of seconds above 0"),
        ("[story.quick]\nparameters = [1]", "parameters must be a table"),
        ("[story.quick]\nbands = 1", "bands must be a table"),
        ("[story.quick.bands]\nauc = 0.8", "story.quick.bands.auc: expected a table with value, absolute, relative"),
        ("[story.quick.bands.auc]\nabsolute = 0.1", "value must be a number"),
        ("[story.quick.bands.auc]\nvalue = 'x'\nabsolute = 0.1", "value must be a number"),
        ("[story.quick.bands.auc]\nvalue = 1", "one tolerance, absolute or relative"),
        ("[story.quick.bands.auc]\nvalue = 1\nabsolute = 1\nrelative = 1", "one tolerance"),
        ("[story.quick.bands.auc]\nvalue = 1\nabsolute = -1", "at least 0"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    write_notebook(tmp_path, "story")
    write_bands(tmp_path, text)
    with pytest.raises(RegressionError, match=said):
        load_bands(tmp_path, "quick")
