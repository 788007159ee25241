"""The world of the SYNTHETIC card payments: cities, categories of merchants, types of fraud, and who meets which.

City populations are rounded public figures; everything else is our own invention, in plausible sizes. Names of columns
and categories follow the well-known sparkov simulator, for those who have code for it; no row comes from it.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class City:
    """A home town: its region and its people, rounded."""

    name: str
    region: str
    population: int


@dataclass(frozen=True)
class Category:
    """A kind of merchant.

    share   of all payments, before a region's own taste
    center  median amount, USD; spread of its logarithm
    online  whether there is no place to go to
    night   share of payments from 22 to 5 o'clock
    """

    name: str
    share: float
    center: float
    spread: float
    online: bool
    night: float


@dataclass(frozen=True)
class Fraud:
    """A type of fraud.

    category  where most of it happens
    center    median amount, USD; spread of its logarithm
    night     share of bursts from 22 to 5 o'clock
    away      scale of the distance from home, km
    """

    name: str
    category: str
    center: float
    spread: float
    night: float
    away: float


REGIONS = ("midwest", "northeast", "south", "west")

CITIES = (
    City("New York", "northeast", 8_300_000),
    City("Philadelphia", "northeast", 1_600_000),
    City("Boston", "northeast", 650_000),
    City("Pittsburgh", "northeast", 300_000),
    City("Newark", "northeast", 305_000),
    City("Buffalo", "northeast", 275_000),
    City("Hartford", "northeast", 120_000),
    City("Portland ME", "northeast", 68_000),
    City("Chicago", "midwest", 2_700_000),
    City("Columbus", "midwest", 905_000),
    City("Indianapolis", "midwest", 880_000),
    City("Detroit", "midwest", 640_000),
    City("Milwaukee", "midwest", 575_000),
    City("Kansas City", "midwest", 510_000),
    City("Omaha", "midwest", 485_000),
    City("Duluth", "midwest", 86_000),
    City("Houston", "south", 2_300_000),
    City("San Antonio", "south", 1_450_000),
    City("Jacksonville", "south", 950_000),
    City("Charlotte", "south", 875_000),
    City("Nashville", "south", 690_000),
    City("Atlanta", "south", 500_000),
    City("New Orleans", "south", 385_000),
    City("Savannah", "south", 148_000),
    City("Los Angeles", "west", 3_900_000),
    City("Phoenix", "west", 1_600_000),
    City("San Diego", "west", 1_390_000),
    City("Seattle", "west", 735_000),
    City("Denver", "west", 715_000),
    City("Las Vegas", "west", 640_000),
    City("Boise", "west", 235_000),
    City("Missoula", "west", 74_000),
)

CATEGORIES = (
    Category("gas_transport", 0.13, 45, 0.45, False, 0.15),
    Category("grocery_pos", 0.12, 75, 0.60, False, 0.05),
    Category("home", 0.09, 48, 0.80, False, 0.03),
    Category("shopping_pos", 0.09, 50, 1.00, False, 0.03),
    Category("kids_pets", 0.08, 40, 0.75, False, 0.03),
    Category("shopping_net", 0.08, 55, 1.00, True, 0.25),
    Category("entertainment", 0.07, 42, 0.80, False, 0.30),
    Category("food_dining", 0.07, 35, 0.70, False, 0.20),
    Category("personal_care", 0.07, 30, 0.80, False, 0.05),
    Category("health_fitness", 0.06, 38, 0.75, False, 0.05),
    Category("misc_pos", 0.05, 40, 1.00, False, 0.10),
    Category("misc_net", 0.04, 45, 1.10, True, 0.30),
    Category("grocery_net", 0.03, 50, 0.60, True, 0.15),
    Category("travel", 0.02, 110, 1.20, False, 0.10),
)

TASTE = {
    "midwest": {},
    "northeast": {"shopping_net": 1.6, "misc_net": 1.6, "grocery_net": 1.6},
    "south": {"gas_transport": 1.6},
    "west": {"travel": 2.0},
}
"""By how much a region pays more often in a category."""

SPEND = np.array([[each.share * TASTE[region].get(each.name, 1.0) for each in CATEGORIES] for region in REGIONS])
"""(regions, categories): how often each region pays where, up to a factor."""

FRAUD = (
    Fraud("card_testing", "misc_net", 3.0, 0.6, 0.45, 60),
    Fraud("account_takeover", "shopping_net", 480.0, 0.55, 0.55, 60),
    Fraud("pump_skimming", "gas_transport", 95.0, 0.25, 0.50, 90),
    Fraud("cloned_card", "grocery_pos", 260.0, 0.35, 0.20, 110),
    Fraud("high_value_pos", "shopping_pos", 750.0, 0.45, 0.15, 100),
    Fraud("travel_bust_out", "travel", 900.0, 0.60, 0.25, 400),
)

MIX = np.array(
    [
        # testing, takeover, skimming, cloned, high value, travel
        [0.05, 0.05, 0.05, 0.25, 0.55, 0.05],  # midwest
        [0.45, 0.20, 0.03, 0.12, 0.15, 0.05],  # northeast
        [0.05, 0.10, 0.50, 0.25, 0.05, 0.05],  # south
        [0.15, 0.50, 0.05, 0.02, 0.03, 0.25],  # west
    ]
)
"""(regions, types of fraud): the share of each type in a region's bursts. DESIGNED so that regions differ."""
