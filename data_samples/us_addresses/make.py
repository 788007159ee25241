"""Make data.csv from the original files: `python make.py`, standard library only.

Changes made to the originals:
  1. Four files become one, and an address that stands there twice with the same tags is kept once.
  2. Every word becomes a token, with the comma or other mark that follows it; its 29 kinds of tag become nine.
  3. `region` is the Census region of the address's state or, where it names none, of its ZIP code; else `no-state`.
"""

import csv
import gzip
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).resolve().parent

KINDS = {
    "NUM": "AddressNumber AddressNumberPrefix AddressNumberSuffix",
    "STREET": "StreetName StreetNamePreDirectional StreetNamePreModifier StreetNamePreType StreetNamePostDirectional "
    "StreetNamePostModifier StreetNamePostType suffix CornerOf IntersectionSeparator",
    "PLACE": "PlaceName",
    "STATE": "StateName CountryName",
    "ZIP": "ZipCode ZipPlus4",
    "UNIT": "OccupancyType OccupancyIdentifier SubaddressType SubaddressIdentifier",
    "POBOX": "USPSBoxType USPSBoxID USPSBoxGroupType USPSBoxGroupID",
    "RECIPIENT": "Recipient NotAddress",
    "BUILDING": "BuildingName LandmarkName",
}
TAGS = {tag: kind for kind, tags in KINDS.items() for tag in tags.split()}
STATES = {
    "northeast": "connecticut ct maine me massachusetts ma newhampshire nh newjersey nj newyork ny pennsylvania pa "
    "rhodeisland ri vermont vt",
    "midwest": "illinois il indiana in iowa ia kansas ks michigan mi minnesota mn missouri mo nebraska ne "
    "northdakota nd ohio oh southdakota sd wisconsin wi",
    "south": "alabama al arkansas ar delaware de districtofcolumbia dc florida fl georgia ga kentucky ky louisiana la "
    "maryland md mississippi ms northcarolina nc oklahoma ok southcarolina sc tennessee tn texas tx virginia va "
    "westvirginia wv",
    "west": "alaska ak arizona az california ca colorado co hawaii hi idaho id montana mt nevada nv newmexico nm "
    "oregon or utah ut washington wa wyoming wy",
}
REGION = {state: region for region, states in STATES.items() for state in states.split()}
ZIPS = (
    (0, 196, "northeast"),
    (197, 427, "south"),
    (430, 588, "midwest"),
    (590, 599, "west"),
    (600, 699, "midwest"),
    (700, 799, "south"),
    (800, 999, "west"),
)
"""The first three digits of ZIP codes, from and to, and their region."""


def address(entry: ET.Element) -> tuple[tuple[str, str], ...]:
    """(token, tag) of each word of a tagged address."""
    words = []
    for element in entry:
        token = "".join(((element.text or "") + (element.tail or "")).split())
        words.append((token, element.tag))
    return tuple(words)


def region_of(words: tuple[tuple[str, str], ...]) -> str:
    """Where the address is, as far as it says."""
    state = re.sub("[^a-z]", "", "".join(token for token, tag in words if tag == "StateName").lower())
    if state in REGION:
        return REGION[state]
    code = next((re.sub("[^0-9]", "", token)[:3] for token, tag in words if tag == "ZipCode"), "")
    return next((r for low, high, r in ZIPS if len(code) == 3 and low <= int(code) <= high), "no-state")


def make(originals: list[bytes]) -> bytes:
    """The bytes of data.csv, given those of the original files."""
    rows: dict[tuple[str, str, str], None] = {}
    for content in originals:
        for entry in ET.fromstring(gzip.decompress(content)):
            words = address(entry)
            text, tags = (" ".join(part) for part in zip(*((token, TAGS[tag]) for token, tag in words), strict=True))
            rows.setdefault((region_of(words), text, tags))
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(["region", "text", "tags"])
    writer.writerows(rows)
    return made.getvalue().encode("utf-8")


def main() -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    originals = []
    for entry in (manifest["original"], *manifest["more_originals"]):
        originals.append((HERE / entry["file"]).read_bytes())
        if hashlib.sha256(originals[-1]).hexdigest() != entry["sha256"]:
            raise SystemExit(f"{entry['file']} is not the file that manifest.json names")
    (HERE / manifest["data"]["file"]).write_bytes(make(originals))


if __name__ == "__main__":
    main()
