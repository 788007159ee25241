"""The SYNTHETIC card payments: what the data card says of them is so, and the same seed gives the same rows."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_kit.errors import DataError
from sim import samples
from sim.card_fraud import luhn, payments
from sim.card_world import CATEGORIES, CITIES, FRAUD, MIX, REGIONS

HOME = Path(__file__).parents[2] / "data_samples" / "card_fraud"


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return payments()


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """Enough fraud for shares to be told from chance: 1800 rows of it in some 600 bursts."""
    return payments(300_000, seed=4)


def test_the_same_seed_gives_the_same_rows_and_another_does_not(frame):
    pd.testing.assert_frame_equal(frame, payments(48_000, seed=0))
    assert not frame["amount"].equals(payments(seed=1)["amount"])


def test_rows_rate_and_columns(frame):
    manifest = json.loads((HOME / "manifest.json").read_text(encoding="utf-8"))
    assert list(frame.columns) == [column["name"] for column in manifest["columns"]]
    assert (len(frame), int(frame["fraud"].sum())) == (48_000, 288)  # 0.6 % to the row
    assert frame["fraud"].eq(1).equals(frame["fraud_type"].ne(""))
    assert frame["time"].is_monotonic_increasing
    assert frame["time"].max() < 181 * 86_400
    assert len(frame) / frame["cc_num"].nunique() == pytest.approx(110, rel=0.1)
    with_gap = frame["gap"].notna()
    assert (~with_gap).sum() == frame["cc_num"].nunique()  # empty for each card's first
    assert (frame["gap"][with_gap] >= 0).all()
    assert not frame.drop(columns="gap").isna().any().any()


def test_every_card_number_fails_the_luhn_check(frame):
    def passes(number: int) -> bool:
        digits = [int(digit) for digit in str(number)][::-1]
        doubled = [2 * digit for digit in digits[1::2]]
        return (sum(digits[::2]) + sum(digit // 10 + digit % 10 for digit in doubled)) % 10 == 0

    assert passes(4539578763621486)  # a well-known example of a number that passes
    assert passes(int(f"453957876362148{luhn(453957876362148)}"))
    numbers = frame["cc_num"].unique()
    assert {len(str(number)) for number in numbers} == {16}
    assert not any(passes(int(number)) for number in numbers)


def test_regions_are_large_enough_and_cities_are_their_own(frame):
    shares = frame["region"].value_counts(normalize=True)
    assert set(shares.index) == set(REGIONS)
    assert shares.min() > 0.15
    homes = frame.groupby("city")["region"].unique().map(list).to_dict()
    assert homes == {city.name: [city.region] for city in CITIES}
    assert frame.groupby("cc_num")[["city", "age"]].nunique().max().tolist() == [1, 1]
    assert frame["age"].between(18, 90).all()


def test_genuine_payments_have_the_shares_and_amounts_of_their_category(many):
    genuine = many[many["fraud"] == 0]
    midwest = genuine[genuine["region"] == "midwest"]["category"].value_counts(normalize=True)  # of no taste of its own
    for category in CATEGORIES:
        assert midwest[category.name] == pytest.approx(category.share, abs=0.01)
        amounts = genuine["amount"][genuine["category"] == category.name]
        spread = np.hypot(category.spread, 0.25)  # the category's, and the customers' own
        for share, z in ((0.1, -1.2816), (0.5, 0.0), (0.9, 1.2816)):
            assert amounts.quantile(share) == pytest.approx(category.center * np.exp(spread * z), rel=0.12)
        online = genuine["distance"][genuine["category"] == category.name] == 0
        assert online.mean() == pytest.approx(float(category.online), abs=0.02)
    hour = many["time"] // 3600 % 24
    assert many["night"].equals(((hour >= 22) | (hour < 5)).astype(int))
    # by hand: 0.13 · 1.6 of 1 + 0.13 · 0.6; (0.08 + 0.04 + 0.03) · 1.6 of 1 + 0.15 · 0.6; 0.02 · 2 of 1 + 0.02
    for region, categories, expected in (
        ("south", ["gas_transport"], 0.208 / 1.078),
        ("northeast", ["shopping_net", "misc_net", "grocery_net"], 0.24 / 1.09),
        ("west", ["travel"], 0.04 / 1.02),
    ):
        shares = genuine["category"].isin(categories).groupby(genuine["region"]).mean()
        assert shares[region] == pytest.approx(expected, abs=0.008)


def test_each_region_meets_the_fraud_that_the_mix_deals_to_it(many):
    fraud = many[many["fraud"] == 1]
    shares = pd.crosstab(fraud["region"], fraud["fraud_type"], normalize="index")
    for i, region in enumerate(REGIONS):
        for j, kind in enumerate(FRAUD):
            # some 110 bursts of unequal length in the smallest region: two standard deviations are about 0.12
            assert shares.loc[region].get(kind.name, 0.0) == pytest.approx(MIX[i, j], abs=0.15)
        assert shares.loc[region].idxmax() == FRAUD[int(MIX[i].argmax())].name
    assert MIX.sum(1) == pytest.approx(1)


def test_fraud_comes_in_bursts_and_overlaps_genuine_payments(many):
    fraud = many[many["fraud"] == 1]
    own = fraud["fraud_type"].map({kind.name: kind.category for kind in FRAUD})
    assert (fraud["category"] != own).mean() == pytest.approx(0.15 * 13 / 14, abs=0.03)
    bursts = fraud.groupby("cc_num")["time"].agg(["min", "max", "size"])
    once = bursts[bursts["size"] <= 5]
    short = once["max"] - once["min"] < 5 * 240 + 200
    assert short.mean() > 0.8  # the rest are cards that were hit twice
    at_night = fraud.groupby("fraud_type")["night"].mean()
    for kind in FRAUD:
        assert at_night[kind.name] == pytest.approx(kind.night, abs=0.2)
    assert at_night["account_takeover"] - at_night["high_value_pos"] > 0.2
    genuine = many[many["fraud"] == 0]["amount"]
    assert fraud["amount"].quantile(0.25) < genuine.quantile(0.99)
    assert fraud["amount"].quantile(0.05) < genuine.quantile(0.05)  # card testing is by small sums


def test_synthetic_stands_wherever_they_show():
    sample = samples.load("card_fraud")
    assert sample.manifest["title"].startswith("SYNTHETIC")
    assert repr(sample).count("SYNTHETIC") >= 2
    assert "SYNTHETIC" in sample._repr_html_()
    for file in ("DATA_CARD.md", "LICENSE"):
        assert "SYNTHETIC" in (HOME / file).read_text(encoding="utf-8").splitlines()[0]
    assert "by design" in repr(sample)


def test_as_a_federation(tmp_path):
    sample = samples.card_fraud(4_000, seed=3)
    federation = sample.federation(folder=tmp_path)
    assert federation.names == tuple(sorted(REGIONS))
    parts = [pd.read_csv(Path(silo.data) / f"{split}.csv") for silo in federation.silos for split in ("train", "test")]
    assert sum(map(len, parts)) == 4_000
    assert sum(int(part["fraud"].sum()) for part in parts) == 24
    assert "region" not in parts[0]


@pytest.mark.parametrize("rows", [1_999, 2_500.5, "many"])
def test_rows_that_make_no_sense(rows):
    with pytest.raises(DataError, match="rows must be a whole number from 2000"):
        samples.card_fraud(rows)


def test_a_seed_that_is_none():
    with pytest.raises(DataError, match="seed must be a whole number"):
        samples.card_fraud(seed=0.5)
    with pytest.raises(DataError, match=r"has no file: write samples.load\('card_fraud'\)"):
        samples.images("card_fraud")
