"""Make data.csv from the original file: `python make.py`, standard library only.

Changes made to the original:
  1. Column names become lower case; `Status` becomes `bad` (bad 1, good 0) and comes last.
  2. `Home`, `Marital` and `Job` become one 0/1 column per category; where the category is missing, all columns of
     its group are empty. `Records` becomes yes 1, no 0.
"""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent

CATEGORIES = {
    "Home": ("owner", "rent", "parents", "priv", "other", "ignore"),
    "Marital": ("married", "single", "separated", "divorced", "widow"),
    "Job": ("fixed", "freelance", "partime", "others"),
}
RECORDS = {"yes": "1", "no": "0"}
BAD = {"good": "0", "bad": "1"}


def one_hot(group: str, value: str) -> dict[str, str]:
    """A category as 0/1 columns; all of them empty where it is missing."""
    if value and value not in CATEGORIES[group]:
        raise SystemExit(f"unknown category {value!r} in column {group!r}")
    return {f"{group.lower()}_{name}": str(int(value == name)) if value else "" for name in CATEGORIES[group]}


def convert(row: dict[str, str]) -> dict[str, str]:
    """One customer of the original file as one row of data.csv, in the order of its columns."""
    return {
        "seniority": row["Seniority"],
        **one_hot("Home", row["Home"]),
        "age": row["Age"],
        **one_hot("Marital", row["Marital"]),
        **one_hot("Job", row["Job"]),
        "income": row["Income"],
        "assets": row["Assets"],
        "time": row["Time"],
        "amount": row["Amount"],
        "price": row["Price"],
        "records": RECORDS[row["Records"]],
        "debt": row["Debt"],
        "expenses": row["Expenses"],
        "bad": BAD[row["Status"]],
    }


def make(original: bytes) -> bytes:
    """The bytes of data.csv, given those of the original file."""
    text = gzip.decompress(original).decode("utf-8")
    rows = [convert(row) for row in csv.DictReader(io.StringIO(text))]
    made = io.StringIO()
    writer = csv.DictWriter(made, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue().encode("utf-8")


def main() -> None:
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    original = (HERE / manifest["original"]["file"]).read_bytes()
    if hashlib.sha256(original).hexdigest() != manifest["original"]["sha256"]:
        raise SystemExit(f"{manifest['original']['file']} is not the file that manifest.json names")
    (HERE / manifest["data"]["file"]).write_bytes(make(original))


if __name__ == "__main__":
    main()
