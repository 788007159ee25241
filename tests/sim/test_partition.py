"""Partitioners: every row in exactly one file, the same on every machine, and whole folders only."""

import hashlib
import json
import math
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fl_kit.errors import DataError, FederationError
from fl_kit.silo import Federation
from sim import samples
from sim.partition import IID, ByColumn, Dirichlet, folders
from sim.partition.holdout import holdout
from sim.partition.randomness import generator

PLAIN = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def table(rows: int, classes: int = 2) -> pd.DataFrame:
    """`row` numbers the rows, so that a test can follow each through the files."""
    return pd.DataFrame(
        {
            "row": range(rows),
            "y": [i * i % classes for i in range(rows)],
            "site": [f"site {'abc'[i % 3]}" for i in range(rows)],
        }
    )


def read(federation: Federation, split: str) -> dict[str, pd.DataFrame]:
    return {silo.name: pd.read_csv(Path(silo.data) / f"{split}.csv") for silo in federation.silos}


def assert_each_row_once(federation: Federation, frame: pd.DataFrame) -> None:
    found = [row for split in ("train", "test") for part in read(federation, split).values() for row in part["row"]]
    assert sorted(found) == frame["row"].tolist()


partitioners = st.one_of(
    st.just(IID()),
    st.builds(Dirichlet, alpha=st.floats(0.3, 100.0), minimum=st.integers(1, 3)),
    st.just(ByColumn("site")),
)


@PLAIN
@given(
    by=partitioners,
    rows=st.integers(40, 90),
    classes=st.integers(1, 4),
    n=st.integers(1, 4),
    test=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**70),
)
def test_every_row_is_in_exactly_one_silo_and_split(by, rows, classes, n, test, seed):
    frame = table(rows, classes)
    with tempfile.TemporaryDirectory() as folder:
        n = None if isinstance(by, ByColumn) else n
        federation = by.split(frame, n, label="y", test=test, seed=seed, folder=folder)
        assert_each_row_once(federation, frame)
        for silo, train, held in zip(
            federation.silos, read(federation, "train").values(), read(federation, "test").values(), strict=True
        ):
            total = len(train) + len(held)
            assert silo.tags == {"rows": str(total)}
            assert len(train) >= 1
            assert len(held) >= 1 or total == 1
            if total > 1:
                assert len(held) == min(max(math.floor(test * total + 0.5), 1), total - 1)
            for part in (train, held):
                assert part["row"].is_monotonic_increasing


@PLAIN
@given(labels=st.lists(st.integers(-1, 4), min_size=2, max_size=200), share=st.floats(0.01, 0.99))
def test_holdout_takes_the_share_of_every_class(labels, share):
    strata = np.array(labels)
    held = holdout(strata, share, generator(0, "test"))
    total = int(held.sum())
    assert total == min(max(math.floor(share * len(labels) + 0.5), 1), len(labels) - 1)
    for value in set(labels):
        size, taken = labels.count(value), int(held[strata == value].sum())
        assert math.floor(share * size) <= taken <= math.ceil(share * size)


def test_holdout_by_hand():
    """8 and 115 rows at 0.3: quotas 2.4 and 34.5, in all 37 (36.9), so the odd one goes to the larger rest."""
    strata = np.array([0] * 8 + [1] * 115)
    held = holdout(strata, 0.3, generator(0, "test"))
    assert (int(held[:8].sum()), int(held[8:].sum())) == (2, 35)


def test_holdout_of_one_row_is_for_training():
    assert holdout(np.array([0]), 0.9, generator(0, "test")).tolist() == [False]


def test_holdout_of_a_continuous_label_takes_no_fixed_rows():
    """Each row its own class: a draw of 3 of 10, and over many seeds every row is held out sometimes."""
    draws = [holdout(np.arange(10), 0.3, generator(seed, "test")) for seed in range(200)]
    assert {int(held.sum()) for held in draws} == {3}
    share = np.mean(draws, axis=0)
    assert share.min() > 0.15
    assert share.max() < 0.45


@PLAIN
@given(rows=st.integers(1, 300), n=st.integers(1, 40), seed=st.integers(0, 100))
def test_iid_sizes_differ_by_at_most_one(rows, n, seed):
    if n > rows:
        return
    sizes = [len(part) for part in IID().assign(table(rows), n, label=None, seed=seed).values()]
    assert len(sizes) == n
    assert max(sizes) - min(sizes) <= 1


def test_iid_mixes():
    """A silo of 500 rows of a half-and-half table has 250 ± 4 standard deviations (11.2) of each class."""
    frame = pd.DataFrame({"row": range(1000), "y": [0] * 500 + [1] * 500})
    for part in IID().assign(frame, 2, label=None, seed=1).values():
        assert abs(frame["y"][part].sum() - 250) < 45


def test_dirichlet_alpha_is_the_dial():
    """Mean distance of a silo's share of class 1 from the pooled one half: large for 0.1, small for 1000."""
    frame = pd.DataFrame({"row": range(2000), "y": [0, 1] * 1000})

    def distance(alpha: float) -> float:
        found = []
        for seed in range(10):
            parts = Dirichlet(alpha, minimum=1).assign(frame, 4, label="y", seed=seed).values()
            found += [abs(frame["y"][part].mean() - 0.5) for part in parts]
        return float(np.mean(found))

    assert distance(0.1) > 0.3
    assert 0.05 < distance(3.0) < 0.3
    assert distance(1000.0) < 0.03


@pytest.mark.parametrize("seed", range(20))
def test_dirichlet_keeps_the_minimum(seed):
    frame = table(200, 3)
    sizes = [len(part) for part in Dirichlet(alpha=0.3).assign(frame, 5, label="y", seed=seed).values()]
    assert min(sizes) >= 10
    assert sum(sizes) == 200


def test_dirichlet_deals_rows_without_a_label_too(tmp_path):
    frame = table(60).astype({"y": float})
    frame.loc[::7, "y"] = np.nan
    federation = Dirichlet(alpha=5.0).split(frame, 3, label="y", folder=tmp_path)
    assert_each_row_once(federation, frame)


def test_by_column_names_silos_and_leaves_the_column_out(tmp_path):
    frame = table(30)
    federation = ByColumn("site").split(frame, folder=tmp_path)
    assert federation.names == ("site-a", "site-b", "site-c")
    for name, letter in zip(federation.names, range(3), strict=True):
        for split in ("train", "test"):
            part = pd.read_csv(Path(federation[name].data) / f"{split}.csv")
            assert list(part.columns) == ["row", "y"]
            assert set(part["row"] % 3) == {letter}


def test_by_column_of_numbers(tmp_path):
    frame = pd.DataFrame({"row": range(9), "ward": [1.0, 2.0, 10.0] * 3})
    assert ByColumn("ward").split(frame, folder=tmp_path).names == ("1", "10", "2")


def test_names_are_padded_so_that_they_sort():
    names = tuple(IID().assign(table(120), 100, label=None, seed=0))
    assert names[0] == "silo-001"
    assert names == tuple(sorted(names))
    assert tuple(IID().assign(table(9), 2, label=None, seed=0)) == ("silo-01", "silo-02")


def test_own_names(tmp_path):
    federation = IID().split(table(9), 3, names=["x", "y", "z"], folder=tmp_path)
    assert federation.names == ("x", "y", "z")
    assert_each_row_once(federation, table(9))


def files(federation: Federation) -> dict[str, str]:
    return {
        f"{silo.name}/{split}": hashlib.sha256((Path(silo.data) / f"{split}.csv").read_bytes()).hexdigest()
        for silo in federation.silos
        for split in ("train", "test")
    }


@pytest.mark.parametrize("by", [IID(), Dirichlet(0.3)])
def test_same_seed_same_files_and_another_seed_others(by, tmp_path):
    frame = table(100)
    one = by.split(frame, 3, label="y", seed=1, folder=tmp_path / "a")
    again = by.split(frame, 3, label="y", seed=1, folder=tmp_path / "b")
    other = by.split(frame, 3, label="y", seed=2, folder=tmp_path / "a")
    assert files(one) == files(again)
    assert files(one) != files(other)
    assert one.silos[0].data != other.silos[0].data


def test_the_global_generator_has_no_say(tmp_path):
    np.random.seed(1)  # noqa: NPY002 (the generator that must not matter)
    one = IID().split(table(50), 2, folder=tmp_path / "a")
    np.random.seed(2)  # noqa: NPY002 (the generator that must not matter)
    assert files(one) == files(IID().split(table(50), 2, folder=tmp_path / "b"))


@pytest.mark.parametrize(
    ("by", "n", "digest"),
    [
        (ByColumn("hospital"), None, "4bd2afd922c0939b"),
        (IID(), 4, "daef8525d9d6d0e3"),
        (Dirichlet(0.3), 4, "44ba7974b0a57755"),
    ],
)
def test_the_split_is_the_same_on_every_machine(by, n, digest, tmp_path):
    """Which rows of the heart data go where, pinned: a change here changes every published figure."""
    frame = samples.load("heart_disease").frame
    numbered = pd.DataFrame({"row": range(len(frame)), "hospital": frame["hospital"], "disease": frame["disease"]})
    federation = by.split(numbered, n, label="disease", seed=7, folder=tmp_path)
    rows = {
        f"{split} {name}": part["row"].tolist()
        for split in ("train", "test")
        for name, part in read(federation, split).items()
    }
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == digest


def test_a_silos_test_rows_do_not_depend_on_the_other_silos(tmp_path):
    frame = table(90)
    whole = ByColumn("site").split(frame, label="y", folder=tmp_path)
    fewer = ByColumn("site").split(frame[frame["site"] != "site b"], label="y", folder=tmp_path)
    assert files(whole)["site-c/test"] == files(fewer)["site-c/test"]


def test_folder_is_reused_untouched(tmp_path):
    frame = table(30)
    one = IID().split(frame, 2, folder=tmp_path)
    path = Path(one.silos[0].data) / "train.csv"
    before = path.stat()
    two = IID().split(frame.copy(), 2, folder=tmp_path)
    assert one == two
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.parents[1].name]


@pytest.mark.parametrize("change", [{"seed": 1}, {"test": 0.2}, {"label": "y"}, {"n": 3}, {"names": ["a", "b"]}])
def test_other_arguments_get_another_folder(change, tmp_path):
    frame = table(30)
    arguments = {"n": 2, "folder": tmp_path}
    one = IID().split(frame, **arguments)
    two = IID().split(frame, **{**arguments, **change})
    assert Path(one.silos[0].data).parent != Path(two.silos[0].data).parent


def test_other_data_and_settings_get_another_folder(tmp_path):
    frame = table(60)
    changed = frame.assign(y=frame["y"].where(frame["row"] != 5, 9))
    found = {
        Path(by.split(data, 2, label="y", folder=tmp_path).silos[0].data).parent
        for by in (Dirichlet(1.0), Dirichlet(2.0), Dirichlet(1.0, minimum=5), IID())
        for data in (frame, changed)
    }
    assert len(found) == 8


def spoil_file(folder: Path) -> None:
    (folder / "silo-01/train.csv").write_text("row\n", encoding="utf-8")


def lose_file(folder: Path) -> None:
    (folder / "silo-02/test.csv").unlink()


def lose_silo(folder: Path) -> None:
    shutil.rmtree(folder / "silo-02")


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def cut_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"recipe": {', encoding="utf-8")


def change_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]", encoding="utf-8")


@pytest.mark.parametrize("damage", [spoil_file, lose_file, lose_silo, lose_manifest, cut_manifest, change_manifest])
def test_a_damaged_folder_is_rebuilt(damage, tmp_path):
    one = IID().split(table(30), 2, folder=tmp_path)
    before = files(one)
    damage(Path(one.silos[0].data).parent)
    assert files(IID().split(table(30), 2, folder=tmp_path)) == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_write_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def full(frame):
        raise OSError(28, "No space left on device")

    frame = table(30)
    monkeypatch.setattr(folders, "write", lambda folder, recipe, files: full(files))
    with pytest.raises(DataError, match=r"cannot be written to .*: No space left on device"):
        IID().split(frame, 2, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert_each_row_once(IID().split(frame, 2, folder=tmp_path), frame)


def test_a_file_in_the_way_is_told(tmp_path):
    (tmp_path / "here").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        IID().split(table(9), 2, folder=tmp_path / "here")


def test_many_at_once_agree(tmp_path):
    frame = table(200)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: IID().split(frame, 4, folder=tmp_path), range(16)))
    assert all(federation == found[0] for federation in found)
    assert_each_row_once(found[0], frame)
    assert len(list(tmp_path.iterdir())) == 1


def test_where_the_files_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FL_KIT_CACHE", raising=False)
    data = Path(IID().split(table(9), 1).silos[0].data)
    assert data.parents[1] == tmp_path / ".fl_kit/partitions"
    assert data.is_absolute()
    assert (data.parent / ".gitignore").read_text(encoding="utf-8") == "*\n"
    monkeypatch.setenv("FL_KIT_CACHE", str(tmp_path / "cache"))
    assert Path(IID().split(table(9), 1).silos[0].data).parents[1] == tmp_path / "cache/partitions"
    assert Path(IID().split(table(9), 1, folder="mine").silos[0].data).parents[1] == tmp_path / "mine"


def missing_site() -> pd.DataFrame:
    frame = table(9)
    frame.loc[4, "site"] = None
    return frame


def unlabelled_site() -> pd.DataFrame:
    return table(9).assign(y=lambda frame: frame["y"].where(frame["site"] != "site b").astype(float))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: ByColumn("sit").split(table(9), folder=f), "no column 'sit'; did you mean 'site'"),
        (lambda f: ByColumn("site").split(missing_site(), folder=f), "missing in 1 of 9 rows .the first is row 4"),
        (lambda f: ByColumn("site").split(table(9), 4, folder=f), "makes 3 silos, not 4"),
        (lambda f: ByColumn("site").split(table(9), label="site", folder=f), "cannot be both"),
        (lambda f: ByColumn("site").split(table(9), label="yy", folder=f), "no column 'yy'"),
        (
            lambda f: ByColumn("site").split(unlabelled_site(), label="y", folder=f),
            "silo 'site-b' has no rows of the target: 'y' is missing in all of its 3 rows",
        ),
        (
            lambda f: ByColumn("s").split(pd.DataFrame({"s": ["a b", "a-b"], "x": [1, 2]}), folder=f),
            "values 'a b' and 'a-b' of 's' both give silo 'a-b'",
        ),
        (lambda f: IID().split(table(9), folder=f), "IID needs the number of silos"),
        (lambda f: IID().split(table(9), 0, folder=f), "at least 1, not 0"),
        (lambda f: IID().split(table(9), -1, folder=f), "at least 1, not -1"),
        (lambda f: IID().split(table(9), 2.0, folder=f), "whole number of at least 1, not 2.0"),
        (lambda f: IID().split(table(9), True, folder=f), "whole number of at least 1, not True"),
        (lambda f: IID().split(table(9), 10, folder=f), "10 silos cannot share 9 rows"),
        (lambda f: IID().split(table(9), 2, test=0, folder=f), "between 0 and 1"),
        (lambda f: IID().split(table(9), 2, test=1.0, folder=f), "between 0 and 1"),
        (lambda f: IID().split(table(9), 2, test=math.nan, folder=f), "between 0 and 1"),
        (lambda f: IID().split(table(9), 2, seed=1.5, folder=f), "seed must be a whole number"),
        (lambda f: IID().split(table(9), 2, names=["a"], folder=f), "must list 2 silo names"),
        (lambda f: IID().split(table(9), 2, names="ab", folder=f), "must list 2 silo names"),
        (lambda f: IID().split(table(9), 2, names=["a", "a"], folder=f), "names must differ"),
        (lambda f: IID().split(table(0), 1, folder=f), "no rows"),
        (lambda f: IID().split([1, 2], 1, folder=f), "takes a pandas DataFrame, arrays .* not list"),
        (lambda f: IID().split(pd.DataFrame(np.zeros((3, 2))), 1, folder=f), "column 0 has no text name"),
        (lambda f: IID().split(pd.DataFrame([[1, 2]], columns=["a", "a"]), 1, folder=f), "two columns are called 'a'"),
        (lambda f: Dirichlet().split(table(90), 2, folder=f), "say which column"),
        (lambda f: Dirichlet().split(table(90), 2, label="x", folder=f), "no column 'x'"),
        (lambda f: Dirichlet().split(table(90), label="y", folder=f), "Dirichlet needs the number of silos"),
        (
            lambda f: Dirichlet().split(table(90), 10, label="y", folder=f),
            "10 silos of at least 10 rows need 100 rows, and there are 90; use 9 as minimum, or 9 silos",
        ),
        (
            lambda f: Dirichlet(alpha=0.001).split(table(400), 20, label="y", folder=f),
            "fewer than 10 rows in each of 1000 draws for 20 silos .at best 0",
        ),
        (lambda f: Dirichlet(alpha=0), "alpha must be a finite number above 0, not 0"),
        (lambda f: Dirichlet(alpha=math.inf), "alpha must be a finite number"),
        (lambda f: Dirichlet(alpha=math.nan), "alpha must be a finite number"),
        (lambda f: Dirichlet(minimum=0), "minimum must be a whole number of at least 1"),
    ],
)
def test_what_cannot_be_split_is_refused(call, message, tmp_path):
    with pytest.raises(DataError, match=message):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_that_cannot_name_a_silo_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(FederationError, match="'global' is fl-kit's own"):
        IID().split(table(9), 2, names=["a", "global"], folder=tmp_path)
    with pytest.raises(FederationError, match="will not do"):
        IID().split(table(9), 2, names=["a", "../b"], folder=tmp_path)
    with pytest.raises(FederationError, match="differ in more than case"):
        IID().split(table(9), 2, names=["A", "a"], folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_partitioners_are_values():
    assert Dirichlet(0.3) == Dirichlet(alpha=0.3, minimum=10)
    assert repr(ByColumn("hospital")) == "ByColumn(column='hospital')"
    with pytest.raises(AttributeError):
        Dirichlet(0.3).alpha = 1.0
