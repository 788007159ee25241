"""Skew: figures by hand, and a picture that draws."""

import io
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_kit.errors import DataError
from fl_kit.silo import Federation, Silo
from sim import samples
from sim.skew import grouped, jensen_shannon, skew


def federation(folder, **silos: str) -> Federation:
    """Silos whose train.csv is the given text."""
    for name, text in silos.items():
        (folder / name).mkdir()
        (folder / name / "train.csv").write_text(text, encoding="utf-8")
    return Federation(silos=tuple(Silo(name=name, data=str(folder / name)) for name in silos))


@pytest.fixture
def two(tmp_path) -> Federation:
    """Silo a: classes 0 0 1 and one row without; silo b: class 1 four times."""
    return federation(
        tmp_path,
        a="x,z,y\n1,,0\n2,,0\n,5,1\n4,6,\n",
        b="x,z,y\n1,2,1\n1,2,1\n1,2,1\n1,2,1\n",
    )


def test_jensen_shannon_by_hand():
    """p = (1, 0), q = (1/2, 1/2), m = (3/4, 1/4).

    KL(p ‖ m) = log2(4/3); KL(q ‖ m) = log2(2/3) / 2 + log2(2) / 2 = (log2(2/3) + 1) / 2.
    JS = (2 - log2 3 + (2 - log2 3) / 2) / 2 = 3 (2 - log2 3) / 4 = 0.311278…
    """
    expected = 3 * (2 - math.log2(3)) / 4
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(expected, abs=1e-15)
    assert expected == pytest.approx(0.311278, abs=1e-6)


mixes = st.lists(st.integers(0, 50), min_size=3, max_size=3).filter(any).map(lambda c: np.array(c) / sum(c))


@given(p=mixes, q=mixes)
def test_jensen_shannon_is_a_bounded_symmetric_distance(p, q):
    distance = jensen_shannon(p, q)
    assert -1e-15 <= distance <= 1 + 1e-15
    assert distance == pytest.approx(jensen_shannon(q, p), abs=1e-15)
    assert jensen_shannon(p, p) == 0
    assert (distance > 1e-9) == (not np.allclose(p, q, atol=1e-6))


def test_counts_shares_and_missing_by_hand(two):
    found = skew(two, "y")
    assert found.silos == ("a", "b")
    assert found.classes == ("0", "1")
    assert found.counts.tolist() == [[2, 1], [0, 4]]
    assert found.rows.tolist() == [4, 4]
    np.testing.assert_allclose(found.shares, [[2 / 3, 1 / 3], [0, 1]])
    assert found.columns == ("x", "z")
    assert found.missing.tolist() == [[0.25, 0.5], [0, 0]]
    pooled = np.array([2 / 7, 5 / 7])
    np.testing.assert_allclose(
        found.divergence,
        [jensen_shannon(np.array([2 / 3, 1 / 3]), pooled), jensen_shannon(np.array([0.0, 1.0]), pooled)],
    )


def test_table_by_hand(two):
    table = skew(two, "y", names={"0": "healthy", "1": "ill"}).table()
    assert list(table.columns) == ["silo", "rows", "healthy", "ill", "missing cells", "JS divergence"]
    assert list(table.rows[0][:5]) == ["a", 4, "66.7%", "33.3%", "37.5%"]
    assert list(table.rows[1][:5]) == ["b", 4, "0.0%", "100.0%", "0.0%"]
    # b: m = (1/7, 6/7); KL(b ‖ m) = log2(7/6); KL(pool ‖ m) = 2/7 · log2 2 + 5/7 · log2(5/6)
    assert table.rows[1][5] == round((math.log2(7 / 6) + 2 / 7 + 5 / 7 * math.log2(5 / 6)) / 2, 3)
    assert list(table.rows[2]) == ["all", 8, "28.6%", "71.4%", "18.8%", None]


def test_text_labels_and_the_test_split(tmp_path):
    found = federation(tmp_path, a="x,kind\n1,cat\n2,dog\n", b="x,kind\n1,dog\n")
    (tmp_path / "a/test.csv").write_text("x,kind\n1,owl\n", encoding="utf-8")
    (tmp_path / "b/test.csv").write_text("x,kind\n1,cat\n2,cat\n", encoding="utf-8")
    assert skew(found, "kind").classes == ("cat", "dog")
    held = skew(found, "kind", "test")
    assert held.classes == ("cat", "owl")
    assert held.counts.tolist() == [[0, 1], [2, 0]]


def test_classes_are_in_numerical_order(tmp_path):
    assert skew(federation(tmp_path, a="x,y\n1,10\n1,9\n1,\n"), "y").classes == ("9", "10")


def test_neighbours_of_one_category_are_one_column():
    names = ("age", "cp_a", "cp_b", "cp_c", "full", "thal_x", "thal_y", "cp_d", "chol")
    gaps = np.array([0.1, 0.2, 0.2, 0.2, 0.0, 0.3, 0.4, 0.2, 0.2])
    columns, missing = grouped(names, np.array([gaps, gaps / 2]))
    assert columns == ("age", "cp_*", "thal_x", "thal_y", "cp_d", "chol")
    np.testing.assert_allclose(missing, [[0.1, 0.2, 0.3, 0.4, 0.2, 0.2], [0.05, 0.1, 0.15, 0.2, 0.1, 0.1]])


def test_no_gaps_no_columns():
    columns, missing = grouped(("a", "b"), np.zeros((3, 2)))
    assert columns == ()
    assert missing.shape == (3, 0)


def test_heart_disease(tmp_path):
    """The story of the four hospitals: Switzerland is ill and without cholesterol, Cleveland is complete."""
    sample = samples.load("heart_disease")
    found = skew(sample.federation(folder=tmp_path), sample.target, names=sample.classes)
    cleveland, _, _, switzerland = range(4)
    assert found.classes == ("no disease", "disease")
    assert found.shares[switzerland, 1] > 0.9
    assert found.divergence.argmax() == switzerland
    assert found.missing[switzerland, found.columns.index("chol")] == 1
    assert found.missing[cleveland].max() < 0.05


def drawn(figure) -> np.ndarray:
    from matplotlib.image import imread

    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)


def test_picture_shows_both_panels_on_a_transparent_ground(tmp_path):
    sample = samples.load("heart_disease")
    figure = skew(sample.federation(folder=tmp_path), sample.target, names=sample.classes).plot()
    bars, gaps = figure.axes
    assert [tick.get_text() for tick in bars.get_yticklabels()] == [
        "cleveland  212",
        "hungary  206",
        "long-beach  140",
        "switzerland  86",
    ]
    assert [text.get_text() for text in bars.get_legend().get_texts()] == ["no disease", "disease"]
    widths = np.array([[bar.get_width() for bar in container] for container in bars.containers])
    np.testing.assert_allclose(widths.sum(axis=0), 1)
    names = [tick.get_text() for tick in gaps.get_xticklabels()]
    assert "chol" in names
    assert "slope_*" in names
    assert "age" not in names
    cells = {(round(x), round(y)): text.get_text() for text in gaps.texts for x, y in [text.get_position()]}
    assert cells[names.index("chol"), 3] == "100"
    assert cells[names.index("chol"), 0] == "·"
    picture = drawn(figure)
    assert picture[0, 0, 3] == 0
    assert (picture[..., 3] > 0).mean() > 0.2
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert edge[:, 3].max() == 0, "something is cut off at the edge"


def test_picture_without_gaps_has_the_bars_only(tmp_path):
    text = "x,y\n" + "".join(f"1,{i}\n" for i in range(12))
    figure = skew(federation(tmp_path, a=text, b=text), "y").plot()
    assert len(figure.axes) == 1
    assert drawn(figure).shape[2] == 4


def test_picture_keeps_the_emptiest_columns(tmp_path):
    """25 columns with gaps, column i empty in i + 1 of 25 rows: the last 20 are drawn, in their order."""
    frame = pd.DataFrame({f"c{i}": [np.nan] * (i + 1) + [1.0] * (24 - i) for i in range(25)} | {"y": [0] * 25})
    figure = skew(federation(tmp_path, a=frame.to_csv(index=False)), "y").plot()
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == [f"c{i}" for i in range(5, 25)]


def test_pyplot_is_not_needed(two):
    import sys

    before = "matplotlib.pyplot" in sys.modules
    skew(two, "y").plot()
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    ("text", "label", "message"),
    [
        ("x,y\n1,0\n", "yy", "silo 'b': train.csv has no column 'yy'; did you mean 'y'"),
        ("x,y\n1,\n", "y", "silo 'b': no row of train.csv has a 'y'"),
        ("", "y", "silo 'b': .* is not a csv file"),
        ("w,y\n1,0\n", "y", "silo 'b': train.csv has other columns than the first silo's: w, x"),
        ("x,y\n" + "".join(f"1,{i}.5\n" for i in range(60)), "y", "'y' has 61 values: skew compares classes"),
    ],
)
def test_what_cannot_be_compared_is_refused(text, label, message, tmp_path):
    other = "x,y\n1,0\n".replace("y", label)
    with pytest.raises(DataError, match=message):
        skew(federation(tmp_path, a=other, b=text), label)


def test_a_missing_file_names_the_silo(two):
    with pytest.raises(DataError, match=r"silo 'a': .*test\.csv cannot be read: No such file"):
        skew(two, "y", "test")
