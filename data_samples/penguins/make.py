"""Make data.csv from the original file: `python make.py`, standard library only.

Changes made to the original:
  1. `species` becomes a number (Adelie 0, Chinstrap 1, Gentoo 2) and comes last.
  2. `island` becomes lower case and comes first; `sex` becomes male 1, female 0.
  3. NA becomes an empty field; `year` is left out.
"""

import csv
import hashlib
import io
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent

SPECIES = {"Adelie": "0", "Chinstrap": "1", "Gentoo": "2"}
SEX = {"male": "1", "female": "0", "NA": ""}
MEASUREMENTS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")


def convert(row: dict[str, str]) -> dict[str, str]:
    """One penguin of the original file as one row of data.csv, in the order of its columns."""
    return {
        "island": row["island"].lower(),
        **{name: "" if row[name] == "NA" else row[name] for name in MEASUREMENTS},
        "sex": SEX[row["sex"]],
        "species": SPECIES[row["species"]],
    }


def make(original: bytes) -> bytes:
    """The bytes of data.csv, given those of the original file."""
    rows = [convert(row) for row in csv.DictReader(io.StringIO(original.decode("utf-8")))]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def main() -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    original = (HERE / manifest["original"]["file"]).read_bytes()
    if hashlib.sha256(original).hexdigest() != manifest["original"]["sha256"]:
        raise SystemExit(f"{manifest['original']['file']} is not the file that manifest.json names")
    (HERE / manifest["data"]["file"]).write_bytes(make(original))


if __name__ == "__main__":
    main()
