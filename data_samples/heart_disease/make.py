"""Make data.csv from the original file: `python make.py`, standard library only.

Changes made to the original (the licence asks to name them):
  1. Row id 304 is given back to Hungary; the file at hand calls it Cleveland.
  2. `num` (0 to 4) becomes `disease` (1 where num > 0); `id` and `num` are left out.
  3. A cholesterol or resting blood pressure of 0 means "not measured" and becomes an empty field.
  4. Male/Female and TRUE/FALSE become 1/0; cp, restecg, slope and thal become one column per category.
  5. `dataset` becomes `hospital`, with names that can be silo names.
"""

import csv
import hashlib
import io
import json
from pathlib import Path

HERE = Path(__file__).resolve().parent

HOSPITALS = {
    "Cleveland": "cleveland",
    "Hungary": "hungary",
    "Switzerland": "switzerland",
    "VA Long Beach": "long-beach",
}
MISLABELLED = "304"
BINARY = {"Male": "1", "Female": "0", "TRUE": "1", "FALSE": "0", "": ""}
CATEGORIES = {
    "cp": {
        "typical angina": "typical_angina",
        "atypical angina": "atypical_angina",
        "non-anginal": "non_anginal",
        "asymptomatic": "asymptomatic",
    },
    "restecg": {
        "normal": "normal",
        "st-t abnormality": "st_t_abnormality",
        "lv hypertrophy": "lv_hypertrophy",
    },
    "slope": {"upsloping": "upsloping", "flat": "flat", "downsloping": "downsloping"},
    "thal": {
        "normal": "normal",
        "fixed defect": "fixed_defect",
        "reversable defect": "reversible_defect",
    },
}


def hospital(row: dict[str, str]) -> str:
    """The silo that a row belongs to."""
    return "hungary" if row["id"] == MISLABELLED else HOSPITALS[row["dataset"]]


def measured(value: str) -> str:
    """The value, or an empty field for the 0 that stands for "not measured"."""
    return "" if value in ("", "0") else value


def one_hot(column: str, value: str) -> dict[str, str]:
    """A category as one 0/1 column each; a missing one leaves all of them empty."""
    names = CATEGORIES[column]
    if value and value not in names:
        raise SystemExit(f"unknown category {value!r} in column {column!r}")
    return {f"{column}_{name}": str(int(value == key)) if value else "" for key, name in names.items()}


def convert(row: dict[str, str]) -> dict[str, str]:
    """One patient of the original file as one row of data.csv, in the order of its columns."""
    return {
        "hospital": hospital(row),
        "age": row["age"],
        "sex": BINARY[row["sex"]],
        **one_hot("cp", row["cp"]),
        "trestbps": measured(row["trestbps"]),
        "chol": measured(row["chol"]),
        "fbs": BINARY[row["fbs"]],
        **one_hot("restecg", row["restecg"]),
        "thalch": row["thalch"],
        "exang": BINARY[row["exang"]],
        "oldpeak": row["oldpeak"],
        **one_hot("slope", row["slope"]),
        "ca": row["ca"],
        **one_hot("thal", row["thal"]),
        "disease": str(int(int(row["num"]) > 0)),
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
