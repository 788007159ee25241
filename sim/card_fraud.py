"""SYNTHETIC card payments with fraud, by region: made here, from a seed; nobody's data.

The regions differ in the *kind* of fraud that has reached them. That is designed in (MIX): it is what makes a
federation worth it, so whatever shows these data must say so. DATA_CARD.md in data_samples/card_fraud tells all.

Everything is drawn in whole columns from one generator per purpose, so that 48,000 rows take a second or so.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fl_kit.errors import DataError
from sim.card_world import CATEGORIES, CITIES, FRAUD, MIX, REGIONS, SPEND
from sim.partition.columns import is_whole_number
from sim.partition.randomness import generator

if TYPE_CHECKING:
    import pandas as pd

Values = NDArray[Any]
DAYS = 180
ROWS_OF_ONE = 110
"""Payments of a customer, on average."""
RATE = 0.006
"""Share of payments that are fraud: that of well-known simulators, and of the order of what banks tell."""
ODD = 0.15
"""Share of fraud outside its type's category, so that no type is given away by where it happens."""
LEAST = 2_000
"""Rows below which a region would have no fraud of some type at all."""


@dataclass(frozen=True, kw_only=True)
class Customers:
    """Who owns the cards, a value for each: row of CITIES, age in years, spend factor, payments' weight."""

    city: Values
    age: Values
    factor: Values
    activity: Values


def payments(rows: int = 48_000, *, seed: int = 0) -> "pd.DataFrame":
    """SYNTHETIC payments by card, in the order of time; the same rows for the same seed.

    rows  how many, at least 2000; about 0.6 % of them are fraud

    Columns: region, time (seconds from the first midnight), cc_num (always fails the Luhn check: no real card has it),
    category, amount (USD), unusual (how far the amount's logarithm is from its category's usual one, in spreads),
    age, city, city_population, distance (km from home to the merchant), gap (hours since the card's last payment;
    empty for its first), night (1 from 22 to 5 o'clock), fraud_type ("" for none), fraud.
    Raises DataError for rows or a seed that is no whole number.
    """
    if not is_whole_number(rows) or rows < LEAST:
        raise DataError(f"rows must be a whole number from {LEAST}, not {rows!r}")
    if not is_whole_number(seed):
        raise DataError(f"seed must be a whole number, not {seed!r}")
    customers = people(max(rows // ROWS_OF_ONE, 8 * len(CITIES)), generator(seed, "customers"))
    bad = round(rows * RATE)
    columns = [genuine(rows - bad, customers, generator(seed, "genuine"))]
    columns.append(frauds(bad, customers, generator(seed, "fraud")))
    return table({name: np.concatenate([part[name] for part in columns]) for name in columns[0]}, customers, seed)


def people(count: int, random: np.random.Generator) -> Customers:
    """So many customers; every city has one at least, and a region's share does not hang on the draw."""
    weight = np.sqrt([city.population for city in CITIES])
    home = np.concatenate(
        [np.arange(len(CITIES)), random.choice(len(CITIES), count - len(CITIES), p=weight / weight.sum())]
    )
    return Customers(
        city=home,
        age=np.rint(18 + 72 * random.beta(2.0, 3.0, count)),
        factor=np.exp(0.25 * random.standard_normal(count)),
        activity=random.gamma(2.0, 1.0, count),
    )


def regions_of(customers: Customers) -> Values:
    """The row of REGIONS of each customer."""
    return np.array([REGIONS.index(city.region) for city in CITIES])[customers.city]


def genuine(count: int, customers: Customers, random: np.random.Generator) -> dict[str, Values]:
    """Payments by the cards' owners: categories by region, amounts by category, merchants near home."""
    who = random.choice(len(customers.city), count, p=customers.activity / customers.activity.sum())
    category = drawn(SPEND[regions_of(customers)[who]], random)
    return {
        "who": who,
        "category": category,
        "amount": amounts(category, random) * customers.factor[who],
        "time": 86_400.0 * random.integers(0, DAYS, count) + seconds(category, random),
        "distance": np.where(of_categories("online")[category], 0.0, 12 * random.gamma(1.3, 1.0, count)),
        "kind": np.full(count, -1),
    }


def frauds(count: int, customers: Customers, random: np.random.Generator) -> dict[str, Values]:
    """Bursts of one to five payments within minutes; which types a region sees is MIX."""
    burst = np.repeat(np.arange(count), random.integers(1, 6, count))[:count]
    region = regions_of(customers)
    share = np.array([(region == i).sum() for i in range(len(REGIONS))]) / len(region)
    where = random.choice(len(REGIONS), count, p=share)
    owner = np.array([random.choice(np.flatnonzero(region == place)) for place in where])[burst]
    kind = drawn(MIX[where], random)[burst]
    types = [FRAUD[i] for i in kind]
    own = np.array([CATEGORY_OF[name] for name in (each.category for each in types)])
    category = np.where(random.random(count) < ODD, random.integers(0, len(CATEGORIES), count), own)
    center, spread = (np.array([getattr(each, name) for each in types]) for name in ("center", "spread"))
    hour = np.where(random.random(count) < [each.night for each in types], random.uniform(22, 29, count), -1.0)
    hour = np.where(hour < 0, random.uniform(7, 22, count), hour)
    first = np.unique(burst, return_index=True)[1][burst]
    start = 86_400.0 * random.integers(0, DAYS, count)[first] + 3_600 * hour[first]
    away = np.array([each.away for each in types])
    return {
        "who": owner,
        "category": category,
        "amount": np.exp(np.log(center) + spread * random.standard_normal(count)),
        "time": start + 240 * places(burst) + random.uniform(0, 200, count),
        "distance": np.where(of_categories("online")[category], 0.0, away * random.gamma(1.5, 1.0, count)),
        "kind": kind,
    }


def table(columns: dict[str, Values], customers: Customers, seed: int) -> "pd.DataFrame":
    """The payments as people read them, in the order of time."""
    import pandas as pd

    who = columns["who"]
    city = customers.city[who]
    kinds = np.array([*(each.name for each in FRAUD), ""], dtype=object)
    frame = pd.DataFrame(
        {
            "region": np.array(REGIONS, dtype=object)[regions_of(customers)[who]],
            "time": np.rint(columns["time"]).astype(np.int64),
            "cc_num": card_numbers(len(customers.city), generator(seed, "cards"))[who],
            "category": np.array([each.name for each in CATEGORIES], dtype=object)[columns["category"]],
            "amount": np.maximum(np.round(columns["amount"], 2), 1.0),
            "unusual": 0.0,
            "age": customers.age[who].astype(np.int64),
            "city": np.array([each.name for each in CITIES], dtype=object)[city],
            "city_population": np.array([each.population for each in CITIES])[city],
            "distance": np.round(columns["distance"], 1),
            "fraud_type": kinds[columns["kind"]],
            "fraud": (columns["kind"] >= 0).astype(np.int64),
        }
    ).sort_values(["time", "cc_num", "amount"], kind="stable", ignore_index=True)
    places_of = frame["category"].map(CATEGORY_OF).to_numpy()
    usual, spread = np.log(of_categories("center"))[places_of], of_categories("spread")[places_of]
    frame["unusual"] = np.round((np.log(frame["amount"]) - usual) / spread, 3)
    gap = frame.groupby("cc_num")["time"].diff() / 3_600
    hour = frame["time"] // 3_600 % 24
    night = ((hour >= 22) | (hour < 5)).astype(np.int64)
    frame.insert(10, "gap", gap.round(3))
    frame.insert(11, "night", night)
    return frame


def drawn(shares: Values, random: np.random.Generator) -> Values:
    """For each row of shares (n, k) one of k, by their cumulative sums."""
    edges = shares.cumsum(1) / shares.sum(1, keepdims=True)
    passed = (random.random(len(shares))[:, None] > edges).sum(1)
    found: Values = np.minimum(passed, shares.shape[1] - 1)
    return found


def of_categories(field: str) -> Values:
    """A field of each category."""
    return np.array([getattr(category, field) for category in CATEGORIES])


def amounts(category: Values, random: np.random.Generator) -> Values:
    """Log-normal amounts of these categories."""
    noise = random.standard_normal(len(category))
    found: Values = np.exp(np.log(of_categories("center"))[category] + of_categories("spread")[category] * noise)
    return found


def seconds(category: Values, random: np.random.Generator) -> Values:
    """Seconds after midnight: at night for the category's share, else in the day."""
    late = random.random(len(category)) < of_categories("night")[category]
    hours = np.where(late, random.uniform(22, 29, len(category)) % 24, random.normal(14, 3.5, len(category)))
    found: Values = 3_600 * np.where(late, hours, np.clip(hours, 5, 21.99))
    return found


def places(burst: Values) -> Values:
    """Each row's place within its burst, from 0."""
    first = np.flatnonzero(np.r_[True, burst[1:] != burst[:-1]])
    return np.arange(len(burst)) - np.repeat(first, np.diff(np.r_[first, len(burst)]))


def card_numbers(count: int, random: np.random.Generator) -> Values:
    """Sixteen digits each, all different, none of which passes the Luhn check: no card can have them."""
    bodies = 400_000_000_000_000 + np.sort(random.choice(10**9, count, replace=False)) * 97
    return np.array([10 * body + (luhn(int(body)) + 1 + body % 9) % 10 for body in bodies.tolist()])


def luhn(body: int) -> int:
    """The check digit that would make `body` and it pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    digits = [int(digit) for digit in str(body)][::-1]
    doubled = [digit if i % 2 else (2 * digit - 9 if digit > 4 else 2 * digit) for i, digit in enumerate(digits)]
    return -sum(doubled) % 10


CATEGORY_OF = {category.name: i for i, category in enumerate(CATEGORIES)}
