"""Every partitioner deals every row once, the same on every machine, and keeps what its docstring promises."""

import hashlib
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit.errors import DataError
from sim.partition import (
    IID,
    ByColumn,
    ConceptShift,
    Continuous,
    Dirichlet,
    DirichletQuantity,
    FeatureShift,
    Grouped,
    InnerDirichlet,
    LabelFlip,
    Pathological,
    QuantitySkew,
    Shards,
    Temporal,
)
from sim.partition.columns import in_proportion

PLAIN = settings(max_examples=30, deadline=None)


def table(rows: int, classes: int = 4) -> pd.DataFrame:
    """Labels, a number without order, a time that goes back and forth, and six places."""
    row = np.arange(rows)
    return pd.DataFrame(
        {"row": row, "y": row % classes, "x": row * 37 % 101 / 10, "time": row * 7 % rows, "place": row % 6}
    )


ANY = [
    IID(),
    Dirichlet(1.0, minimum=1),
    InnerDirichlet(0.3),
    InnerDirichlet(1.0, sizes="linear"),
    Pathological(2),
    Shards(2),
    DirichletQuantity(0.5, minimum=2),
    QuantitySkew("linear"),
    QuantitySkew("square"),
    QuantitySkew("exponential"),
    Continuous("x"),
    Continuous("x", strictness=0.4),
    Grouped("place"),
    Temporal("time"),
    Temporal("time", base=Shards(2)),
    FeatureShift(Dirichlet(1.0, minimum=1), kind="noise"),
    LabelFlip(Shards(2)),
    ConceptShift(IID()),
]


@PLAIN
@given(by=st.sampled_from(ANY), rows=st.integers(60, 200), n=st.integers(2, 6), seed=st.integers(0, 2**70))
def test_every_row_goes_to_exactly_one_silo(by, rows, n, seed):
    found = by.assign(table(rows), n, label="y", seed=seed)
    assert len(found) == n
    assert sorted(row for part in found.values() for row in part) == list(range(rows))
    for part in found.values():
        assert len(part) >= 1
        assert (np.diff(part) > 0).all()
    assert list(found) == sorted(found)
    assert {name: part.tolist() for name, part in found.items()} == {
        name: part.tolist() for name, part in by.assign(table(rows), n, label="y", seed=seed).items()
    }


@pytest.mark.parametrize("by", [by for by in ANY if by != Pathological(2)], ids=str)
def test_one_silo_gets_all(by):
    (part,) = by.assign(table(40), 1, label="y", seed=0).values()
    assert part.tolist() == list(range(40))


@pytest.mark.parametrize(
    "by", [IID(), InnerDirichlet(), Shards(1), DirichletQuantity(minimum=1), QuantitySkew(), Continuous("x")], ids=str
)
def test_as_many_silos_as_rows(by):
    found = by.assign(table(24), 24, label="y", seed=3)
    assert [len(part) for part in found.values()] == [1] * 24


EVERY = [
    *ANY,
    Continuous("x", edges=[2, 5.5]),
    Grouped("place", {"low": np.arange(2), "middle": [2, 3], "high": np.arange(4, 6)}),
    QuantitySkew([1, 2, 3]),
    InnerDirichlet(sizes=(1, 1, 2)),
    LabelFlip(silos=["silo-02"]),
    FeatureShift(kind="scale", columns=["x"]),
]


@pytest.mark.parametrize("by", EVERY, ids=str)
def test_every_row_is_in_exactly_one_file_and_the_folder_is_reused(by, tmp_path):
    frame = table(90)
    # a transform of every number would lose the rows' own
    by = FeatureShift(by.base, kind=by.kind, columns=["x"]) if isinstance(by, FeatureShift) else by
    found = by.split(frame, 3, label="y", folder=tmp_path)
    files = [Path(silo.data) / f"{split}.csv" for silo in found.silos for split in ("train", "test")]
    assert sorted(row for file in files for row in pd.read_csv(file)["row"]) == list(range(90))
    before = files[0].stat()
    assert by.split(frame, 3, label="y", folder=tmp_path) == found
    assert (files[0].stat().st_ino, files[0].stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


PINNED = {
    "InnerDirichlet(alpha=0.3, sizes=None)": "5e0c2a03e54be2f4",
    "Pathological(classes=2)": "aa370639165410e7",
    "Shards(per_silo=2)": "64fe2c493cbbb037",
    "DirichletQuantity(alpha=0.5, minimum=2)": "a25e39be149064ea",
    "QuantitySkew(sizes='square', minimum=1)": "0692b34c2718e32e",
    "Continuous(column='x', strictness=0.4, edges=None)": "3cd6ed68dbe7c7a9",
    "Grouped(column='place', groups=None)": "49aed95bb7a93085",
    "Temporal(column='time', base=None)": "37cb2544bc285c8a",
}


@pytest.mark.parametrize("by", [by for by in ANY if str(by) in PINNED], ids=str)
def test_the_same_split_on_every_machine(by):
    """Which rows go where, pinned: a change here changes every published figure."""
    found = {name: part.tolist() for name, part in by.assign(table(120), 4, label="y", seed=7).items()}
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16] == PINNED[str(by)]


@PLAIN
@given(
    weights=st.lists(st.floats(0.001, 1000), min_size=1, max_size=30),
    minimum=st.integers(0, 3),
    spare=st.integers(0, 500),
)
def test_sizes_in_proportion(weights, minimum, spare):
    """They sum to the total, none is too small, and a larger weight never gets fewer rows, but for one of rounding."""
    total = len(weights) * minimum + spare
    sizes = in_proportion(np.array(weights), total, minimum)
    assert sizes.sum() == total
    assert sizes.min() >= minimum
    ordered = sizes[np.argsort(weights, kind="stable")]
    assert (np.diff(ordered) >= -1).all()


def test_sizes_by_hand():
    """1 : 2 : 3 of 12; then e^-9-like smallness lifted to 2, the other 8 shared as 1 : 3; then remainders of 10 / 3."""
    assert in_proportion(np.array([1.0, 2.0, 3.0]), 12, 1).tolist() == [2, 4, 6]
    assert in_proportion(np.array([1e-4, 1.0, 3.0]), 10, 2).tolist() == [2, 2, 6]
    assert in_proportion(np.ones(3), 10, 1).tolist() == [4, 3, 3]


def test_equal_remainders_that_floats_tell_apart_are_equal():
    """0.1 : 0.1 : 0.7 of 12: 4/3, 4/3, 28/3. Each remainder is a third, so the first gets the odd row."""
    assert in_proportion(np.array([0.1, 0.1, 0.7]), 12, 1).tolist() == [2, 1, 9]
    assert in_proportion(np.array([0.1, 0.1, 0.7]) / 0.7, 12, 1).tolist() == [2, 1, 9]


def sizes(by, rows: int, n: int | None, seed: int = 0) -> list[int]:
    return [len(part) for part in by.assign(table(rows), n, label="y", seed=seed).values()]


def test_quantity_skew_by_hand():
    """Linear 1 : 2 : 3 : 4 of 100; square 1 : 4 : 9 : 16 of 60; exponential 1 : e : e² of 100 = 9.0, 24.5, 66.5."""
    assert sizes(QuantitySkew("linear"), 100, 4) == [10, 20, 30, 40]
    assert sizes(QuantitySkew("square"), 60, 4) == [2, 8, 18, 32]
    assert sizes(QuantitySkew("exponential"), 100, 3) == [9, 24, 67]
    assert sizes(QuantitySkew([5, 25, 70]), 100, None) == [5, 25, 70]
    assert sizes(QuantitySkew("exponential", minimum=3), 100, 10)[:6] == [3] * 6


def test_dirichlet_quantity_alpha_is_the_dial():
    """The largest silo's share of four: near one for 0.05, near a quarter for 1000."""
    largest = {a: np.mean([max(sizes(DirichletQuantity(a), 400, 4, seed)) for seed in range(10)]) for a in (0.05, 1000)}
    assert largest[0.05] > 250
    assert largest[1000] < 115
    assert min(min(sizes(DirichletQuantity(0.05), 400, 4, seed)) for seed in range(10)) == 10


def classes_held(by, rows: int, n: int, classes: int, seed: int) -> list[set[int]]:
    frame = table(rows, classes)
    return [set(frame["y"][part]) for part in by.assign(frame, n, label="y", seed=seed).values()]


@PLAIN
@given(k=st.integers(1, 6), n=st.integers(1, 12), seed=st.integers(0, 1000))
def test_pathological_gives_exactly_k_classes_and_each_class_as_often(k, n, seed):
    if n * k < 6:
        return
    held = classes_held(Pathological(k), 240, n, 6, seed)
    assert {len(found) for found in held} == {k}
    often = [sum(kind in found for found in held) for kind in range(6)]
    assert max(often) - min(often) <= 1
    assert sum(often) == n * k


def test_pathological_chooses_at_random():
    pairs = {frozenset(found) for seed in range(20) for found in classes_held(Pathological(2), 60, 5, 10, seed)}
    assert len(pairs) > 30


@PLAIN
@given(per=st.integers(1, 3), n=st.integers(1, 8), seed=st.integers(0, 1000))
def test_shards_hold_few_classes_and_equal_sizes(per, n, seed):
    """A shard spans one border at most while it is no longer than a class."""
    if 120 / (n * per) > 20:
        return
    held = classes_held(Shards(per), 120, n, 6, seed)
    assert max(len(found) for found in held) <= 2 * per
    found = sizes(Shards(per), 120, n, seed)
    assert max(found) - min(found) <= per


def test_inner_dirichlet_keeps_sizes_and_alpha_is_the_dial():
    assert sizes(InnerDirichlet(0.1, sizes=[1, 2, 3, 4]), 100, None) == [10, 20, 30, 40]
    frame = table(4000, 4)

    def top(alpha: float) -> float:
        found = InnerDirichlet(alpha).assign(frame, 10, label="y", seed=1).values()
        return float(np.mean([np.bincount(frame["y"][part], minlength=4).max() / len(part) for part in found]))

    assert top(0.05) > 0.75
    assert top(1000.0) < 0.32


def test_inner_dirichlet_where_every_mix_is_one_class():
    """alpha tiny: the last silos wish for classes that are used up, and take what is left."""
    frame = pd.DataFrame({"y": [0] * 97 + [1] * 3})
    found = InnerDirichlet(0.001).assign(frame, 10, label="y", seed=0)
    assert [len(part) for part in found.values()] == [10] * 10


@PLAIN
@given(n=st.integers(1, 9), seed=st.integers(0, 100))
def test_continuous_sorts(n, seed):
    frame = table(101)
    parts = list(Continuous("x").assign(frame, n, label=None, seed=seed).values())
    for low, high in pairwise(parts):
        assert frame["x"][low].max() <= frame["x"][high].min()


def test_continuous_strictness_is_the_dial():
    """Correlation of the value with the silo's number: about 0 for 0, 1 for 1, between for between."""
    frame = table(1000).assign(x=np.random.default_rng(0).standard_normal(1000))

    def correlation(strictness: float) -> float:
        place = np.empty(1000)
        for i, part in enumerate(Continuous("x", strictness=strictness).assign(frame, 8, label=None, seed=0).values()):
            place[part] = i
        return float(np.corrcoef(place, frame["x"])[0, 1])

    assert abs(correlation(0)) < 0.1
    assert 0.5 < correlation(0.5) < 0.85
    assert correlation(1) > 0.95


def test_continuous_edges_by_hand():
    frame = pd.DataFrame({"age": [5, 18, 30, 64, 65, 80]})
    found = Continuous("age", edges=[18, 65]).assign(frame, None, label=None, seed=0)
    assert [part.tolist() for part in found.values()] == [[0], [1, 2, 3], [4, 5]]


def test_grouped_by_hand():
    """Sizes A 1, B 2, C 3, D 4 to two silos, largest first to the smallest: D | C, then B to C, A to D."""
    frame = pd.DataFrame({"state": list("ABBCCCDDDD")})
    found = Grouped("state").assign(frame, 2, label=None, seed=0)
    assert [set(frame["state"][part]) for part in found.values()] == [{"A", "D"}, {"B", "C"}]
    regions = Grouped("state", {"south": ["D", "A"], "north": ["B", "C"]})
    found = regions.assign(frame, None, label=None, seed=0)
    assert {name: set(frame["state"][part]) for name, part in found.items()} == {
        "south": {"A", "D"},
        "north": {"B", "C"},
    }
    assert regions.left_out == ("state",)


def test_temporal_periods_and_future_tests(tmp_path):
    frame = table(60)
    found = Temporal("time").split(frame, 3, label="y", folder=tmp_path)
    last = -1
    for silo in found.silos:
        train, test = (pd.read_csv(f"{silo.data}/{split}.csv")["time"] for split in ("train", "test"))
        assert last < train.min()
        assert train.max() < test.min()
        assert (len(train), len(test)) == (14, 6)
        last = test.max()
    own = Temporal("time", base=ByColumn("place")).split(frame, folder=tmp_path)
    assert len(own) == 6
    for silo in own.silos:
        train, test = (pd.read_csv(f"{silo.data}/{split}.csv")["time"] for split in ("train", "test"))
        assert train.max() < test.min()


def test_dates_sort_as_dates():
    frame = pd.DataFrame({"day": pd.to_datetime(["2024-03-01", "2023-01-01", "2024-01-01", "2023-06-01"])})
    found = Temporal("day").assign(frame, 2, label=None, seed=0)
    assert [part.tolist() for part in found.values()] == [[1, 3], [0, 2]]


def gaps(column: str) -> pd.DataFrame:
    frame = table(30).astype({column: float})
    frame.loc[[4, 9], column] = math.nan
    return frame


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: by_gaps(Continuous("x"), "x"), "column 'x' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: by_gaps(Temporal("time"), "time"), "column 'time' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: by_gaps(Grouped("place"), "place"), "column 'place' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: by_gaps(Pathological(), "y"), "column 'y' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: by_gaps(Shards(), "y"), "column 'y' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: by_gaps(InnerDirichlet(), "y"), "column 'y' is missing in 2 of 30 rows .the first is row 4"),
        (lambda: assign(Pathological(5)), "'y' has 4 classes, so no silo can have 5; use 4 at most"),
        (lambda: assign(Pathological(1)), r"3 silos of 1 classes hold 3 of the 4 classes .* use classes=2, or 4 silos"),
        (lambda: assign(Pathological(4), 9, 30), "has 8 rows for 9 silos .* ask for 8 silos at most"),
        (lambda: assign(Shards(20)), "need 60 rows, and there are 30; use per_silo=10, or 1 silos"),
        (lambda: assign(DirichletQuantity(minimum=11)), "use 10 as minimum, or 2 silos"),
        (lambda: assign(QuantitySkew(minimum=11)), "use 10 as minimum, or 2 silos"),
        (lambda: assign(QuantitySkew([1, 2])), "sizes lists 2 silos, not 3"),
        (lambda: assign(InnerDirichlet(sizes=[1, 2])), "sizes lists 2 silos, not 3"),
        (lambda: assign(Continuous("x", edges=[-2, -1])), "no row has a 'x' from -inf to below -2"),
        (lambda: assign(Continuous("x", edges=[5])), "1 edges make 2 silos, not 3"),
        (lambda: assign(Continuous("z")), "no column 'z'"),
        (lambda: Continuous("s").assign(pd.DataFrame({"s": ["a"]}), 1, label=None, seed=0), "holds no numbers"),
        (lambda: assign(Continuous("x"), 31), "31 silos cannot share 30 rows"),
        (lambda: assign(Grouped("place"), 7), "has 6 values: ask for 6 silos at most"),
        (lambda: assign(Grouped("place", {"a": [0, 1, 2], "b": [3, 4]}), None), "no group has 'place' = 5"),
        (lambda: assign(Grouped("place", {"a": [0, 1, 2, 9], "b": [3, 4, 5]}), None), "has no value 9"),
        (lambda: assign(Grouped("y"), 2), "cannot be both"),
        (lambda: Grouped("place", {"a": [1], "b": [1]}), "value 1 stands in the groups 'a' and 'b'"),
        (lambda: Grouped("place", {"a": "ME"}), "must list its values"),
        (lambda: QuantitySkew("cubic"), "sizes must be linear, square, exponential or"),
        (lambda: QuantitySkew([1, 0]), "numbers above 0, one per silo, not 0"),
        (lambda: QuantitySkew([]), "numbers above 0"),
        (lambda: Pathological(0), "at least 1, not 0"),
        (lambda: Shards(1.5), "at least 1, not 1.5"),
        (lambda: Continuous("x", strictness=2), "strictness must be between 0 and 1, not 2"),
        (lambda: Continuous("x", edges=[2, 1]), "ascending"),
        (lambda: Continuous("x", strictness=0.5, edges=[1]), "leave strictness out"),
        (lambda: DirichletQuantity(alpha=-1), "alpha must be a finite number above 0"),
        (lambda: InnerDirichlet(alpha=math.inf), "alpha must be a finite number above 0"),
        (lambda: Temporal("time", base=ByColumn("time")), "keeps 'time' in the files"),
        (lambda: Temporal("time", base="IID"), "base must be a partitioner"),
    ],
)
def test_what_cannot_be_met_says_what_could(call, message):
    with pytest.raises(DataError, match=message):
        call()


def assign(by, n: int | None = 3, rows: int = 30):
    return by.assign(table(rows), n, label="y", seed=0)


def by_gaps(by, column: str):
    return by.assign(gaps(column), 3, label="y", seed=0)


@pytest.mark.parametrize("by", [Dirichlet(), InnerDirichlet(), Pathological(), Shards()], ids=str)
def test_a_label_partitioner_without_labels_is_one_clear_error(by):
    with pytest.raises(DataError, match=r"deals by a label, and these data have none: .*say which column"):
        by.split(np.zeros((60, 2)), 2)
