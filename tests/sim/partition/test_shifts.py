"""What silos hold beyond whose rows they are: transforms, wrong labels, other meanings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit.errors import DataError
from fl_kit.silo import Federation
from sim.partition import IID, ByColumn, ConceptShift, Dirichlet, FeatureShift, LabelFlip, Temporal

PLAIN = settings(max_examples=20, deadline=None)
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
CLASSES = np.arange(40) % 4


def table() -> pd.DataFrame:
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {"row": np.arange(300.0), "a": random.normal(5, 2, 300), "b": random.normal(0, 1, 300), "y": np.arange(300) % 3}
    )


def tables(federation: Federation, split: str) -> dict[str, pd.DataFrame]:
    return {silo.name: pd.read_csv(Path(silo.data) / f"{split}.csv") for silo in federation.silos}


def arrays(federation: Federation, split: str = "train") -> dict[str, dict[str, np.ndarray]]:
    return {silo.name: dict(np.load(Path(silo.data) / f"{split}.npz")) for silo in federation.silos}


def both(by, plain, data, n, folder, read, **settings):
    """The rows with the shift and without, silo by silo."""
    shifted, same = (read(b.split(data, n, folder=folder, **settings), split="train") for b in (by, plain))
    return list(zip(shifted.values(), same.values(), strict=True))


def test_gamma_by_hand(tmp_path):
    """strength 1: g = 1/2, 1, 2 for three silos; the middle one sees what is there."""
    by = FeatureShift(kind="gamma", strength=1.0)
    for g, (seen, there) in zip((0.5, 1, 2), both(by, IID(), (IMAGES, CLASSES), 3, tmp_path, arrays), strict=True):
        assert seen["x"].dtype == np.uint8
        np.testing.assert_array_equal(seen["x"], np.rint((there["x"] / 255) ** g * 255))
        np.testing.assert_array_equal(seen["y"], there["y"])


def test_blur_keeps_the_mean_of_an_even_image_and_dims_a_point(tmp_path):
    """sigma 0 at the first silo; at the last a point of light keeps its sum and loses its height."""
    point = np.zeros((20, 1, 15, 15))
    point[:, 0, 7, 7] = 1.0
    by = FeatureShift(kind="blur", strength=1.5)
    first, last = (seen["x"] for seen, _ in both(by, IID(), (point, np.zeros(20)), 2, tmp_path, arrays))
    np.testing.assert_array_equal(first, point[: len(first)])
    np.testing.assert_allclose(last.sum(axis=(1, 2, 3)), 1, atol=1e-3)
    assert last.max() < 0.1


def test_noise_grows_with_the_silo_and_differs_between_splits(tmp_path):
    """Standard deviation strength · t · s of the change: 0 at the first, s / 2 and s at the others (± 15 %)."""
    frame = table()
    by = FeatureShift(kind="noise", strength=1.0, columns=["a"])
    found = both(by, IID(), frame, 3, tmp_path, tables, label="y")
    spread = frame["a"].std(ddof=0)
    deltas = [(seen["a"] - there["a"]).to_numpy() for seen, there in found]
    np.testing.assert_allclose([delta.std() / spread for delta in deltas], [0, 0.5, 1], rtol=0.2, atol=1e-12)
    for seen, there in found:
        pd.testing.assert_frame_equal(seen.drop(columns="a"), there.drop(columns="a"))
    shifted, plain = (b.split(frame, 3, label="y", folder=tmp_path) for b in (by, IID()))
    held = (tables(shifted, "test")["silo-03"]["a"] - tables(plain, "test")["silo-03"]["a"]).to_numpy()
    assert abs(np.corrcoef(held, deltas[2][: len(held)])[0, 1]) < 0.6


def test_scale_is_one_line_per_silo_and_column_in_both_splits(tmp_path):
    by = FeatureShift(kind="scale", strength=0.5)
    whole = FeatureShift(kind="scale", strength=0.5).split(table(), 3, label="y", folder=tmp_path)
    plain = IID().split(table(), 3, label="y", folder=tmp_path)
    lines = set()
    for name in whole.names:
        fits = []
        for split in ("train", "test"):
            seen, there = tables(whole, split)[name], tables(plain, split)[name]
            fit = np.polyfit(there["a"], seen["a"], 1)
            np.testing.assert_allclose(np.polyval(fit, there["a"]), seen["a"], atol=1e-9)
            fits.append(fit)
        np.testing.assert_allclose(fits[0], fits[1])
        lines.add(round(float(fits[0][0]), 6))
    assert len(lines) == 3
    assert by == FeatureShift(kind="scale", strength=0.5)


def test_no_strength_no_change_and_gaps_stay(tmp_path):
    frame = table()
    frame.loc[3, "a"] = np.nan
    for seen, there in both(FeatureShift(strength=0), IID(), frame, 2, tmp_path, tables, label="y"):
        pd.testing.assert_frame_equal(seen, there)
    for seen, there in both(FeatureShift(strength=1), IID(), frame, 2, tmp_path, tables, label="y"):
        assert seen["a"].isna().tolist() == there["a"].isna().tolist()


@PLAIN
@given(share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_label_flip_flips_the_share_and_only_in_training(share, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flip")
    by, plain = LabelFlip(share=share).split, IID().split
    shifted, same = (split(table(), 3, label="y", seed=seed, folder=folder) for split in (by, plain))
    for name in same.names:
        seen, there = tables(shifted, "train")[name], tables(same, "train")[name]
        assert (seen["y"] != there["y"]).sum() == int(share * len(there) + 0.5)
        assert set(seen["y"]) <= {0, 1, 2}
        pd.testing.assert_frame_equal(tables(shifted, "test")[name], tables(same, "test")[name])


def test_label_flip_at_one_silo_and_in_its_test(tmp_path):
    by = LabelFlip(share=1.0, silos=["silo-02"], test=True)
    (one, there_one), (two, there_two) = both(by, IID(), table(), 2, tmp_path, tables, label="y")
    assert (one["y"] == there_one["y"]).all()
    assert (two["y"] != there_two["y"]).all()
    flipped = tables(by.split(table(), 2, label="y", folder=tmp_path), "test")["silo-02"]
    assert (flipped["y"] != tables(IID().split(table(), 2, label="y", folder=tmp_path), "test")["silo-02"]["y"]).all()


def test_flips_reach_every_other_class(tmp_path):
    """Of 4 classes each becomes each other one about a third of the time."""
    frame = pd.DataFrame({"row": range(6000), "y": ["a"] * 3000 + ["b"] * 1000 + ["c"] * 1000 + ["d"] * 1000})
    ((seen, there),) = both(LabelFlip(share=1.0), IID(), frame, 1, tmp_path, tables, label="y")
    became = seen["y"][there["y"] == "a"].value_counts(normalize=True)
    assert set(became.index) == {"b", "c", "d"}
    np.testing.assert_allclose(became, 1 / 3, atol=0.04)


def test_concepts_rotate_by_hand(tmp_path):
    """Three concepts over four silos: + 0, + 1, + 2, + 0 modulo 4; in both splits."""
    by = ConceptShift(concepts=3)
    for split in ("train", "test"):
        seen = arrays(by.split((IMAGES, CLASSES), 4, folder=tmp_path), split)
        there = arrays(IID().split((IMAGES, CLASSES), 4, folder=tmp_path), split)
        for shift, name in zip((0, 1, 2, 0), there, strict=True):
            np.testing.assert_array_equal(seen[name]["y"], (there[name]["y"] + shift) % 4)
            np.testing.assert_array_equal(seen[name]["x"], there[name]["x"])


@PLAIN
@given(concepts=st.integers(2, 6), seed=st.integers(0, 500))
def test_permuted_concepts_are_permutations_and_all_different(concepts, seed):
    found = [tuple(meaning) for meaning in ConceptShift(concepts=concepts, kind="permute").meanings(3, seed)]
    assert len(set(found)) == concepts
    assert found[0] == (0, 1, 2)
    assert all(sorted(meaning) == [0, 1, 2] for meaning in found)


def test_shifts_stack_on_any_base(tmp_path):
    """Labels rotate after the flip, images blur beside, the future is held out, and the site is left out."""
    site, time = np.array(["a", "b"])[np.arange(40) % 2], np.arange(40)
    data = {"x": IMAGES, "y": CLASSES, "site": site, "time": time}
    by = ConceptShift(LabelFlip(FeatureShift(Temporal("time", base=ByColumn("site")), kind="blur"), share=0.5))
    seen = arrays(by.split(data, folder=tmp_path))["b"]
    assert sorted(seen) == ["time", "x", "y"]
    assert seen["time"].tolist() == list(range(1, 28, 2))
    odd = CLASSES[1:28:2]
    assert (seen["y"] == (odd + 1) % 4).sum() == 7
    assert not np.array_equal(seen["x"], IMAGES[1:28:2])


def test_other_settings_of_the_base_get_another_folder(tmp_path):
    found = {
        by.split(table(), 2, label="y", folder=tmp_path).silos[0].data
        for by in (LabelFlip(), LabelFlip(Dirichlet(5.0)), LabelFlip(Dirichlet(6.0)), LabelFlip(share=0.3))
    }
    assert len(found) == 4


def test_text_classes_rotate_too(tmp_path):
    frame = pd.DataFrame({"y": ["cat", "dog", None, "owl"] * 5, "x": range(20)})
    _, (seen, there) = both(ConceptShift(), IID(), frame, 2, tmp_path, tables, label="y")
    called = {"cat": "dog", "dog": "owl", "owl": "cat"}
    assert seen["y"].isna().tolist() == there["y"].isna().tolist()
    assert seen["y"].dropna().tolist() == [called[name] for name in there["y"].dropna()]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LabelFlip("IID"), "base must be a partitioner"),
        (lambda: LabelFlip(share=1.2), "share must be between 0 and 1"),
        (lambda: LabelFlip(silos="a"), "must list silo names"),
        (lambda: LabelFlip(silos=["silo-3"]).split(table(), 2, label="y"), "no silo 'silo-3'"),
        (lambda: LabelFlip().split(table(), 2), "LabelFlip deals by a label|LabelFlip .*say which column"),
        (lambda: LabelFlip().split(table().assign(y=1), 2, label="y"), "needs two classes, and 'y' has 1"),
        (lambda: ConceptShift(concepts=1), "at least 2"),
        (lambda: ConceptShift(kind="swap"), "kind must be rotate or permute"),
        (lambda: ConceptShift(concepts=4).split(table(), 2, label="y"), "3 classes rotate to 3 concepts at most"),
        (lambda: ConceptShift(concepts=7, kind="permute").split(table(), 2, label="y"), "fewer than 7 permutations"),
        (lambda: FeatureShift(kind="fog"), "kind must be gamma, noise, blur, scale"),
        (lambda: FeatureShift(strength=-1), "at least 0, not -1"),
        (lambda: FeatureShift(columns="a"), "columns must list names"),
        (lambda: FeatureShift(columns=["z"]).split(table(), 2, label="y"), "no column 'z'"),
        (lambda: FeatureShift(columns=["y"]).split(table(), 2, label="y"), "'y' is no numeric feature"),
        (lambda: FeatureShift(kind="blur").split(table(), 2, label="y"), "is no image: blur needs"),
        (lambda: FeatureShift(kind="gamma").split(table(), 2, label="y"), r"gamma needs values in \[0, 1\]"),
        (lambda: FeatureShift().split(pd.DataFrame({"y": [1, 2]}), 1, label="y"), "no numeric feature to shift"),
    ],
)
def test_what_cannot_be_shifted_is_refused(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []
