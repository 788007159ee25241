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
from sim.distances import gini, jensen_shannon, wasserstein
from sim.partition import IID, Dirichlet, FeatureShift, QuantitySkew
from sim.skew import grouped, skew
from sim.skew_grid import draw_grid


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
    assert list(table.columns) == ["silo", "rows", "healthy", "ill", "missing cells", "JS divergence", "feature shift"]
    assert list(table.rows[0][:5]) == ["a", 4, "66.7%", "33.3%", "37.5%"]
    assert list(table.rows[1][:5]) == ["b", 4, "0.0%", "100.0%", "0.0%"]
    # b: m = (1/7, 6/7); KL(b ‖ m) = log2(7/6); KL(pool ‖ m) = 2/7 · log2 2 + 5/7 · log2(5/6)
    assert table.rows[1][5] == round((math.log2(7 / 6) + 2 / 7 + 5 / 7 * math.log2(5 / 6)) / 2, 6)
    assert list(table.rows[2]) == ["all", 8, "28.6%", "71.4%", "18.8%", None, None]


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


def test_gini_by_hand():
    """1, 2, 3: pairs differ by 1, 1, 2, twice each: 8 / (2 · 9 · 2) = 2 / 9; all in one of four silos: 1 - 1/4."""
    assert gini(np.array([3, 1, 2])) == pytest.approx(2 / 9, abs=1e-15)
    assert gini(np.array([5, 5])) == 0
    assert gini(np.array([0, 0, 7, 0])) == 0.75


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=20))
def test_gini_is_the_double_sum(sizes):
    found = np.array(sizes, dtype=float)
    direct = np.abs(found[:, None] - found).sum() / (2 * len(found) ** 2 * found.mean())
    assert gini(found) == pytest.approx(direct, abs=1e-12)


def test_wasserstein_by_hand():
    """Silos (0, 0) and (0, 4): pool 0 0 0 4, mean 1, variance 3.

    Below 4 lie all of the first, half of the second and 3/4 of the pool: distances 4 · 1/4, both, over √3.
    """
    found = wasserstein([np.array([0.0, 0.0]), np.array([0.0, 4.0])])
    np.testing.assert_allclose(found, [1 / math.sqrt(3)] * 2)
    assert wasserstein([np.array([2.0, np.nan]), np.array([2.0])]).tolist() == [0, 0]
    assert np.isnan(wasserstein([np.array([1.0, 2.0]), np.array([np.nan])])[1])


@given(st.lists(st.lists(st.floats(-100, 100), min_size=1, max_size=8), min_size=2, max_size=4))
def test_wasserstein_agrees_with_scipy(silos):
    from scipy.stats import wasserstein_distance

    found = [np.array(values) for values in silos]
    pool = np.concatenate(found)
    if pool.std() < 1e-6:
        return
    expected = [wasserstein_distance(values, pool) / pool.std() for values in found]
    np.testing.assert_allclose(wasserstein(found), expected, atol=1e-9)


def test_feature_shift_of_a_table_by_hand(two):
    """z is missing in two rows of a; text columns have no shift, and a silo's shift is the mean over its features."""
    found = skew(two, "y")
    assert found.features == ("x", "z")
    np.testing.assert_allclose(found.feature_shift, found.shift.mean(axis=1))
    np.testing.assert_allclose(found.shift[:, 1], wasserstein([np.array([5.0, 6.0]), np.array([2.0, 2.0, 2.0, 2.0])]))
    assert found.table().rows[1][6] == round(float(found.feature_shift[1]), 6)


def test_text_columns_are_no_features(tmp_path):
    found = skew(federation(tmp_path, a="x,t,y\n1,u,0\n", b="x,t,y\n2,v,1\n"), "y")
    assert found.columns == ("x", "t")
    assert found.features == ("x",)


def test_without_a_label(two):
    found = skew(two)
    assert found.classes == ()
    assert list(found.table().columns) == ["silo", "rows", "missing cells", "feature shift"]
    assert "Gini of the sizes 0.000" in found._repr_html_()
    assert len(found.plot().axes) == 1


IMAGES = np.random.default_rng(0).integers(60, 180, (300, 8, 8), dtype=np.uint8)
KINDS = np.arange(300) % 10


def test_images_have_brightness_and_contrast(tmp_path):
    """Darker and brighter silos are apart in the mean, a blurred one in the spread; without a shift, near neither."""

    def seen(by):
        return skew(by.split((IMAGES, KINDS), 3, folder=tmp_path))

    plain, gamma, blur = seen(IID()), seen(FeatureShift(kind="gamma")), seen(FeatureShift(kind="blur"))
    assert plain.features == ("x mean", "x std")
    assert plain.classes == tuple("0123456789")
    assert plain.shift.max() < 0.3
    assert (gamma.shift[[0, 2], 0] > 0.8).all()
    assert blur.shift[2, 1] > 0.8 > 0.5 > blur.shift[:, 0].max()


def test_targets_that_are_a_quantity_are_a_feature(tmp_path):
    found = skew(IID().split((IMAGES, np.arange(300) / 7), 2, folder=tmp_path))
    assert found.classes == ()
    assert found.features == ("x mean", "x std", "y")


def test_arrays_of_columns(tmp_path):
    rows = np.array([[1.0, np.nan], [3.0, 4.0]])
    for name, x in (("a", rows), ("b", rows + 1)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "train.npy", x)
    found = skew(Federation(silos=tuple(Silo(name=n, data=str(tmp_path / n)) for n in "ab")))
    assert found.features == ("x[0]", "x[1]")
    assert found.missing.tolist() == [[0, 0.5], [0, 0.5]]
    np.testing.assert_allclose(found.shift[:, 0], wasserstein([rows[:, 0], rows[:, 0] + 1]))


def test_arrays_that_cannot_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/train.npz").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"silo 'a': .*train\.npz holds no arrays that can be read"):
        skew(Federation(silos=(Silo(name="a", data=str(tmp_path / "a")),)))


def test_a_hundred_silos_are_one_picture_of_bounded_size(tmp_path):
    frame = pd.DataFrame({"x": np.arange(4000) % 17, "y": np.arange(4000) % 10})
    found = skew(Dirichlet(0.5, minimum=2).split(frame, 100, label="y", folder=tmp_path), "y")
    figure = found.plot()
    bars, dots = figure.axes
    assert [bar.get_height() for bar in bars.patches] == found.rows.tolist()
    (points,) = dots.collections
    assert len(points.get_offsets()) == (found.counts > 0).sum()
    areas = points.get_sizes()
    np.testing.assert_allclose(areas / areas.max(), found.counts[found.counts > 0] / found.counts.max())
    assert max(figure.get_size_inches()) <= 15
    picture = drawn(figure)
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    assert edge[:, 3].max() == 0, "something is cut off at the edge"


def test_a_grid_of_pictures(tmp_path, two):
    data = (IMAGES, KINDS)
    found = {str(by): skew(by.split(data, 5, folder=tmp_path)) for by in (IID(), Dirichlet(1.0), QuantitySkew())}
    figure = draw_grid(found, columns=2)
    assert [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes[:3]] == list(found)
    assert "Gini 0.27" in figure.axes[2].get_title(loc="left")
    assert drawn(figure).shape[2] == 4
    with pytest.raises(DataError, match="at least one Skew"):
        draw_grid({})
    with pytest.raises(DataError, match="same classes in all"):
        draw_grid({**found, "two": skew(two, "y")})
