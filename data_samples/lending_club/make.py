"""Make data.csv from the original file: `python make.py`, standard library only.

Changes made to the original:
  1. `addr_state` becomes `state`, in lower case and first; `Class` becomes `bad` (bad 1, good 0) and comes last.
  2. `term` becomes `term_60`: 1 for 60 months, 0 for 36.
  3. `sub_grade` becomes a number: A1 is 1, A2 is 2 … G5 is 35.
  4. `verification_status` becomes one 0/1 column per status.
  5. `emp_length` becomes years, with 0 for less than one and 10 for ten or more; unknown becomes an empty field.
"""

import csv
import gzip
import hashlib
import io
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent

TERM = {"term_36": "0", "term_60": "1"}
STATUS = ("Not_Verified", "Source_Verified", "Verified")
YEARS = {"emp_lt_1": "0", "emp_ge_10": "10", "emp_unk": "", **{f"emp_{years}": str(years) for years in range(1, 10)}}
GRADES = {f"{grade}{part}": str(5 * i + part) for i, grade in enumerate("ABCDEFG") for part in range(1, 6)}
BAD = {"good": "0", "bad": "1"}
KEPT = (
    "delinq_2yrs",
    "inq_last_6mths",
    "revol_util",
    "acc_now_delinq",
    "open_il_6m",
    "open_il_12m",
    "open_il_24m",
    "total_bal_il",
    "all_util",
    "inq_fi",
    "inq_last_12m",
    "delinq_amnt",
    "num_il_tl",
    "total_il_high_credit_limit",
)


def convert(row: dict[str, str]) -> dict[str, str]:
    """One loan of the original file as one row of data.csv, in the order of its columns."""
    if row["verification_status"] not in STATUS:
        raise SystemExit(f"unknown verification_status {row['verification_status']!r}")
    return {
        "state": row["addr_state"].lower(),
        "funded_amnt": row["funded_amnt"],
        "term_60": TERM[row["term"]],
        "int_rate": row["int_rate"],
        "sub_grade": GRADES[row["sub_grade"]],
        **{f"status_{status.lower()}": str(int(row["verification_status"] == status)) for status in STATUS},
        "annual_inc": row["annual_inc"],
        "emp_length": YEARS[row["emp_length"]],
        **{name: row[name] for name in KEPT},
        "bad": BAD[row["Class"]],
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
