"""Vertical splits: columns apart, rows overlapping as stated, matched by the id alone."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_kit.errors import DataError
from fl_kit.silo import Federation
from sim.partition import Vertical

PARTIES = {"bank": ["income", "default"], "telecom": ["age", "bill"]}


def table(rows: int = 100) -> pd.DataFrame:
    row = np.arange(rows)
    return pd.DataFrame({"income": row, "age": row + 1000, "bill": row + 2000, "default": row % 4 == 0})


def read(federation: Federation) -> dict[tuple[str, str], pd.DataFrame]:
    return {
        (silo.name, split): pd.read_csv(Path(silo.data) / f"{split}.csv")
        for silo in federation.silos
        for split in ("train", "test")
    }


@settings(max_examples=25, deadline=None)
@given(overlap=st.floats(0, 1), rows=st.integers(10, 60), parties=st.integers(2, 4), seed=st.integers(0, 100))
def test_the_overlap_is_as_stated_and_the_rest_has_one_owner(overlap, rows, parties, seed, tmp_path_factory):
    found = Vertical(parties, overlap=overlap).split(
        table(rows), label="default", seed=seed, folder=tmp_path_factory.mktemp("v")
    )
    files = read(found)
    known = {name: {*files[name, "train"]["id"], *files[name, "test"]["id"]} for name in found.names}
    everyone = set.intersection(*known.values())
    assert len(everyone) == int(overlap * rows + 0.5)
    assert set.union(*known.values()) == set(range(rows))
    assert sum(map(len, known.values())) == rows + (parties - 1) * len(everyone)
    train = set.union(*(set(files[name, "train"]["id"]) for name in found.names))
    test = set.union(*(set(files[name, "test"]["id"]) for name in found.names))
    assert not train & test


def test_parties_hold_their_columns_in_an_order_of_their_own(tmp_path):
    files = read(Vertical(PARTIES, overlap=0.8).split(table(), label="default", folder=tmp_path))
    bank, telecom = files["bank", "train"], files["telecom", "train"]
    assert list(bank.columns) == ["id", "income", "default"]
    assert list(telecom.columns) == ["id", "age", "bill"]
    matched = bank.merge(telecom, on="id")
    assert (matched["age"] == matched["income"] + 1000).all()
    assert not bank["id"].is_monotonic_increasing
    ordered = read(Vertical(PARTIES, shuffle=False).split(table(), folder=tmp_path))
    assert ordered["bank", "train"]["id"].is_monotonic_increasing
    assert ordered["bank", "train"]["id"].tolist() == ordered["telecom", "train"]["id"].tolist()


def test_a_number_of_parties_may_be_numpys(tmp_path):
    assert Vertical(np.int64(2)).split(table(), folder=tmp_path).names == ("silo-01", "silo-02")


def test_an_id_of_ones_own(tmp_path):
    frame = table(20).assign(person=[f"p{i}" for i in range(20)])
    files = read(Vertical(PARTIES, id="person").split(frame, folder=tmp_path))
    assert list(files["bank", "test"].columns) == ["person", "income", "default"]


def test_the_same_on_every_machine(tmp_path):
    found = Vertical(PARTIES, overlap=0.6).split(table(), label="default", seed=7, folder=tmp_path)
    content = b"".join(
        (Path(silo.data) / f"{split}.csv").read_bytes() for silo in found.silos for split in ("train", "test")
    )
    assert hashlib.sha256(content).hexdigest()[:16] == "b9a8f20ddd862ec2"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vertical(1), "two parties"),
        (lambda: Vertical("ab"), "must be a number or party"),
        (lambda: Vertical({"a": ["x"], "b": "y"}), "party 'b' must list its columns"),
        (lambda: Vertical(2, overlap=1.5), "overlap must be between 0 and 1"),
        (lambda: Vertical(5).split(table()), "5 parties cannot share 4 columns"),
        (lambda: Vertical({"a": ["income"], "b": ["age"]}).split(table()), "no party has the column 'bill', 'default'"),
        (lambda: Vertical({**PARTIES, "c": ["agee"]}).split(table()), "no column 'agee'; did you mean 'age'"),
        (lambda: Vertical(PARTIES).split(table().assign(id=1)), "the id 1 stands in two rows"),
        (lambda: Vertical(PARTIES).split(table().assign(id=None)), "'id' is missing in 100 of 100 rows"),
        (lambda: Vertical(PARTIES, overlap=0).split(table(1)), "would know none of the 1 rows"),
    ],
)
def test_what_cannot_be_split_is_refused(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        call()
    assert list(tmp_path.iterdir()) == []
